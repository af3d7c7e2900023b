//! Accepting: one loop per listener, a bound on connections over all of them.
//!
//! Invariant: no failure to accept ends a loop; only the shutdown does, and it closes the listening sockets.
//! Deliberately absent: sessions (see `Accept`).

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::ports::Listening;
use super::{Bound, VirtualBroker};
use crate::metrics::Metrics;
use crate::transport;

/// Until the next attempt, when the process or the system has no file descriptor or no memory for another connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Takes accepted connections.
pub trait Accept: Send + Sync + 'static {
    /// Called in a runtime, on the accept loop: must not block. The permit is held for as long as the connection lives.
    fn accept(&self, to: VirtualBroker, stream: TcpStream, peer: SocketAddr, permit: ConnectionPermit);
}

/// One of `max_connections`.
#[derive(Debug)]
pub struct ConnectionPermit {
    _permit: OwnedSemaphorePermit,
}

/// Accepts on every port, those included that are bound later, until `shutdown`; then the listening sockets are closed.
pub async fn serve(bound: Bound, handler: Arc<dyn Accept>, transport: transport::Settings, metrics: Metrics, shutdown: CancellationToken) {
    let Bound { planned, mut late, max_connections, ports, .. } = bound;
    let max_connections = max_connections.min(Semaphore::MAX_PERMITS);
    let gate = Arc::new(Gate {
        handler,
        transport,
        metrics,
        permits: Arc::new(Semaphore::new(max_connections)),
        max_connections,
        log: LogGate::default(),
    });
    let mut loops = JoinSet::new();
    for listening in planned {
        loops.spawn(accept_loop(listening, gate.clone(), shutdown.clone()));
    }
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(listening) = late.recv() => {
                loops.spawn(accept_loop(listening, gate.clone(), shutdown.clone()));
            }
        }
    }
    // From here on `Ports` hands out no new port.
    drop(late);
    drop(ports);
    while loops.join_next().await.is_some() {}
}

struct Gate {
    handler: Arc<dyn Accept>,
    transport: transport::Settings,
    metrics: Metrics,
    permits: Arc<Semaphore>,
    max_connections: usize,
    log: LogGate,
}

async fn accept_loop(listening: Listening, gate: Arc<Gate>, shutdown: CancellationToken) {
    let Listening { virtual_broker, listener } = listening;
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%virtual_broker, %error, "a listening socket cannot be used");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => gate.admit(virtual_broker, stream, peer),
            Err(error) if is_exhausted(&error) => {
                gate.refused("file_descriptors", || {
                    tracing::error!(%error, "no new connection can be accepted; raise the limit of open files");
                });
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = sleep(EXHAUSTED_PAUSE) => {}
                }
            }
            // The connection that would have been accepted is gone; the listener is well.
            Err(error) => gate.refused("other", || tracing::warn!(%error, "a connection could not be accepted")),
        }
    }
}

impl Gate {
    fn admit(&self, to: VirtualBroker, stream: TcpStream, peer: SocketAddr) {
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => {
                if let Err(error) = transport::prepare(&stream, &self.transport) {
                    // A peer that is gone already; reading says so.
                    tracing::debug!(%peer, %error, "an accepted socket does not take its options");
                }
                self.handler.accept(to, stream, peer, ConnectionPermit { _permit: permit });
            }
            Err(_) => {
                drop(stream);
                self.metrics.limit_hits.with_label_values(&["connections"]).inc();
                let max = self.max_connections;
                self.refused(
                    "max_connections",
                    || tracing::warn!(%peer, max, "a connection was closed at once: limits.connections is reached"),
                );
            }
        }
    }

    fn refused(&self, reason: &'static str, say: impl FnOnce()) {
        self.metrics.accepts_refused.with_label_values(&[reason]).inc();
        if self.log.open() {
            say();
        }
    }
}

/// EMFILE, ENFILE, ENOBUFS, ENOMEM (Linux numbers; std has no kinds for the first two).
fn is_exhausted(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory || matches!(error.raw_os_error(), Some(23 | 24 | 105 | 12))
}

/// Lets one line through per interval.
#[derive(Default)]
struct LogGate {
    last: Mutex<Option<Instant>>,
}

impl LogGate {
    fn open(&self) -> bool {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let open = last.is_none_or(|last| now.duration_since(last) >= LOG_INTERVAL);
        if open {
            *last = Some(now);
        }
        open
    }
}
