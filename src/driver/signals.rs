//! What wakes a session besides its sockets and timers: a new view, the start of draining.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    View,
    Drain,
}

type Wait = Pin<Box<dyn Future<Output = (Signal, watch::Receiver<u64>, watch::Receiver<bool>)> + Send>>;

/// A stream of signals. Senders that are gone signal nothing.
pub struct Signals {
    wait: Wait,
    drained: bool,
}

impl Signals {
    pub fn new(generations: watch::Receiver<u64>, draining: watch::Receiver<bool>) -> Signals {
        Signals { wait: Box::pin(wait(generations, draining, false)), drained: false }
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Signal> {
        match self.wait.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready((signal, generations, draining)) => {
                self.drained |= signal == Signal::Drain;
                self.wait = Box::pin(wait(generations, draining, self.drained));
                Poll::Ready(signal)
            }
        }
    }
}

async fn wait(
    mut generations: watch::Receiver<u64>,
    mut draining: watch::Receiver<bool>,
    drained: bool,
) -> (Signal, watch::Receiver<u64>, watch::Receiver<bool>) {
    // A closure of its own, so that the borrow of the value does not live across an await.
    let drain = async { draining.wait_for(|draining| *draining).await.is_ok() };
    let signal = tokio::select! {
        Ok(()) = generations.changed() => Signal::View,
        true = drain, if !drained => Signal::Drain,
        else => std::future::pending().await,
    };
    (signal, generations, draining)
}

/// Every change of the view, topics included.
pub struct Changes {
    wait: Pin<Box<dyn Future<Output = watch::Receiver<u64>> + Send>>,
}

impl Changes {
    pub fn new(changes: watch::Receiver<u64>) -> Changes {
        Changes { wait: Box::pin(changed(changes)) }
    }

    /// Whether there was one since the last look.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let mut has_changed = false;
        while let Poll::Ready(changes) = self.wait.as_mut().poll(cx) {
            has_changed = true;
            self.wait = Box::pin(changed(changes));
        }
        has_changed
    }
}

async fn changed(mut changes: watch::Receiver<u64>) -> watch::Receiver<u64> {
    match changes.changed().await {
        Ok(()) => changes,
        Err(_) => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_change_signals_once_and_a_drain_is_heard_even_if_it_began_before() {
        let (view, generations) = watch::channel(0);
        let (drain, draining) = watch::channel(false);
        drain.send(true).unwrap();
        let mut signals = Signals::new(generations, draining);
        assert_eq!(std::future::poll_fn(|cx| signals.poll(cx)).await, Signal::Drain);
        view.send(1).unwrap();
        assert_eq!(std::future::poll_fn(|cx| signals.poll(cx)).await, Signal::View);
        let nothing = std::future::poll_fn(|cx| Poll::Ready(signals.poll(cx).is_pending())).await;
        assert!(nothing);
    }
}
