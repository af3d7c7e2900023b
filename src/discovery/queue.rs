//! Who waits for a refresh, and for which topics.
//!
//! Every call has a number. A request takes the numbers up to the one that is the last when it is written, and answers those alone.
//!
//! Invariant: a topic leaves the queue only with an answer to a request that was written after it was last asked for.
//! Deliberately absent: when a request goes out (`pace`), and where to (`flight`).

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Topics that one request asks for. What is beyond waits for another call.
const TOPICS_MAX: usize = 2_000;
/// Kafka allows no longer name (`Topic.MAX_NAME_LENGTH`).
const TOPIC_NAME_BYTES_MAX: usize = 249;

/// The last request that was to answer a call could not be made or was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster could not be asked: {0}")]
pub struct RefreshFailed(pub Arc<str>);

#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Notify,
    done: watch::Sender<Done>,
}

#[derive(Debug, Default)]
struct Waiting {
    last_call: u64,
    /// With the number of the call that asked for it last.
    topics: BTreeMap<Arc<str>, u64>,
    /// When the next request is wanted at the earliest; `None`: nobody wants one.
    due: Option<Instant>,
    /// The same, of the calls since the request under way was begun: what is left of `due` once that is answered.
    late_due: Option<Instant>,
}

/// Which calls have been answered, and which have been told that they will not be for now: those with a number up to these.
#[derive(Clone, Debug, Default)]
struct Done {
    answered: u64,
    failed: u64,
    failure: Option<RefreshFailed>,
}

/// What a request asks for, fixed when it is written.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    covers: u64,
    pub(super) topics: Vec<Arc<str>>,
}

impl Default for Queue {
    fn default() -> Self {
        Queue { waiting: Mutex::default(), changed: Notify::new(), done: watch::Sender::new(Done::default()) }
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a request at `due` or later; returns the call's number.
    pub(super) fn call(&self, topics: &[Arc<str>], due: Instant) -> u64 {
        let number = {
            let mut waiting = self.waiting();
            waiting.last_call += 1;
            let number = waiting.last_call;
            for topic in topics.iter().filter(|topic| topic.len() <= TOPIC_NAME_BYTES_MAX) {
                if waiting.topics.len() < TOPICS_MAX || waiting.topics.contains_key(topic) {
                    waiting.topics.insert(topic.clone(), number);
                }
            }
            waiting.due = Some(waiting.due.map_or(due, |before| before.min(due)));
            waiting.late_due = Some(waiting.late_due.map_or(due, |before| before.min(due)));
            number
        };
        self.changed.notify_one();
        number
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting().due
    }

    /// Ends when there was a call since it ended last.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// To be called when the first broker is about to be asked.
    pub(super) fn begin(&self) -> Asked {
        self.waiting().late_due = None;
        self.ask()
    }

    /// To be called right before a request is written.
    pub(super) fn ask(&self) -> Asked {
        let waiting = self.waiting();
        Asked { covers: waiting.last_call, topics: waiting.topics.keys().cloned().collect() }
    }

    pub(super) fn answered(&self, asked: &Asked) {
        {
            let mut waiting = self.waiting();
            waiting.topics.retain(|_, call| *call > asked.covers);
            waiting.due = if waiting.last_call == asked.covers { None } else { waiting.late_due };
        }
        self.done.send_modify(|done| done.answered = done.answered.max(asked.covers));
    }

    /// Nobody answered; `begun` is what was asked for when the first was asked. It stays in the queue; only who waits is told.
    pub(super) fn failed(&self, begun: &Asked, failure: Arc<str>) {
        self.done.send_modify(|done| {
            done.failed = done.failed.max(begun.covers);
            done.failure = Some(RefreshFailed(failure));
        });
    }

    async fn wait(&self, number: u64) -> Result<(), RefreshFailed> {
        let mut done = self.done.subscribe();
        match done.wait_for(|done| done.answered.max(done.failed) >= number).await {
            Ok(done) if done.answered >= number => Ok(()),
            Ok(done) => done.failure.clone().map_or(Ok(()), Err),
            // The sender lives as long as `self`.
            Err(_) => Err(RefreshFailed("discovery has ended".into())),
        }
    }
}

/// Asks for the view to be refreshed. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Refresher {
    pub(super) queue: Arc<Queue>,
}

impl Refresher {
    /// Asks for a fresh broker list and the leaders of `topics`, at once (the request goes even if the future is dropped); the future
    /// ends when a request has been answered, or has failed, that was written after this call.
    ///
    /// # Errors
    /// Of the future: no broker answered. Discovery tries on all the same.
    pub fn refresh(&self, topics: &[Arc<str>]) -> impl Future<Output = Result<(), RefreshFailed>> + Send + use<> {
        let number = self.queue.call(topics, Instant::now());
        let queue = self.queue.clone();
        async move { queue.wait(number).await }
    }
}
