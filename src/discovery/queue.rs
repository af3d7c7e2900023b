//! Who waits for a refresh, and for which topics: plain calls, and sessions' wants (`wants`), which one request serves together.
//!
//! Every call has a number. A request takes the numbers up to the one that is the last when it is written, and answers those alone.
//!
//! Invariant: a topic leaves the queue only with an answer to a request that was written after it was last asked for.
//! Deliberately absent: when a request goes out (`pace`), and where to (`flight`).

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::wants::{self, TOPIC_NAME_BYTES_MAX, Takes, Topics, Wants};
use crate::cluster::{Endpoint, NodeId, View, Want};

/// Topics that one request asks for. What is beyond waits for another call.
const TOPICS_MAX: usize = 2_000;
/// Until discovery runs with settings of its own.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

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

#[derive(Debug)]
struct Waiting {
    wants: Wants,
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
    /// `None`: no plain call.
    covers: Option<u64>,
    pub(super) wants: wants::Asked,
    pub(super) topics: Topics,
}

/// When the next request is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Option<Instant>,
    /// A session wants something: a failure is not waited out for long.
    pub(super) is_wanted: bool,
}

impl Default for Queue {
    fn default() -> Self {
        let waiting = Waiting {
            wants: Wants::new(MIN_INTERVAL, fastrand::Rng::new()),
            last_call: 0,
            topics: BTreeMap::new(),
            due: None,
            late_due: None,
        };
        Queue { waiting: Mutex::new(waiting), changed: Notify::new(), done: watch::Sender::new(Done::default()) }
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

    /// As `call`, for what an answer to a client made doubtful; topics that wants follow already have a pace of their own.
    pub(super) fn call_for_doubts(&self, topics: &[Arc<str>], due: Instant) {
        let rest: Vec<Arc<str>> = {
            let waiting = self.waiting();
            topics.iter().filter(|topic| !waiting.wants.follows(topic)).cloned().collect()
        };
        if topics.is_empty() || !rest.is_empty() {
            self.call(&rest, due);
        }
    }

    pub(super) fn set_min_interval(&self, min_interval: Duration) {
        self.waiting().wants.set_min_interval(min_interval);
    }

    /// A session's wants, against the newest view. Returns what did not fit into the limits, and the answer to come: none, if the
    /// sender is gone.
    pub(super) fn want(self: &Arc<Queue>, wants: Vec<Want>, newest: impl FnOnce() -> Arc<View>) -> (usize, Wanted) {
        let (done, answer) = oneshot::channel();
        let now = Instant::now();
        let (called, is_sooner) = {
            let mut waiting = self.waiting();
            let before = waiting.wants.next_due(now);
            // Under the lock: a view that comes later is held against these wants.
            let called = waiting.wants.call(now, wants, &newest(), done);
            let after = waiting.wants.next_due(now);
            (called, after.is_some_and(|after| before.is_none_or(|before| after < before)))
        };
        if is_sooner {
            self.changed.notify_one();
        }
        (called.beyond, Wanted { queue: self.clone(), number: called.number, answer })
    }

    /// Holds what is wanted against a new view.
    pub(super) fn observe(&self, view: &View, brokers_changed: bool) {
        let now = Instant::now();
        let mut waiting = self.waiting();
        if waiting.wants.is_empty() {
            return;
        }
        let before = waiting.wants.next_due(now);
        waiting.wants.observe(now, view, brokers_changed);
        let after = waiting.wants.next_due(now);
        drop(waiting);
        if after.is_some_and(|after| before.is_none_or(|before| after < before)) {
            self.changed.notify_one();
        }
    }

    /// Brokers that refuse what they are named as leaders of.
    pub(super) fn refusing(&self) -> HashSet<NodeId> {
        self.waiting().wants.refusing()
    }

    /// Brokers that sessions say do not serve.
    pub(super) fn suspects(&self) -> Vec<Endpoint> {
        self.waiting().wants.suspects()
    }

    pub(super) fn due(&self) -> Due {
        let mut waiting = self.waiting();
        let wanted = waiting.wants.next_due(Instant::now());
        let at = [waiting.due, wanted].into_iter().flatten().min();
        Due { at, is_wanted: !waiting.wants.is_empty() }
    }

    /// See `Wants::is_unsettled`.
    pub(super) fn is_unsettled(&self) -> bool {
        self.waiting().wants.is_unsettled()
    }

    /// Ends when there was a call since it ended last.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// To be called when the first broker is about to be asked.
    pub(super) fn begin(&self, view: &View) -> Asked {
        self.waiting().late_due = None;
        self.ask(view, Takes::default())
    }

    /// To be called right before a request is written; `takes`: what its broker can be asked for.
    pub(super) fn ask(&self, view: &View, takes: Takes) -> Asked {
        let now = Instant::now();
        let waiting = self.waiting();
        let (mut wants, mut topics) = waiting.wants.ask(now, view, takes);
        let is_due = waiting.due.is_some_and(|due| due <= now);
        let mut covers = None;
        match &mut topics {
            // What has a request for topics to itself later need not wait for it; a mere list of brokers stays what it is.
            Topics::Names(names) if is_due || !names.is_empty() || waiting.wants.is_empty() => {
                covers = Some(waiting.last_call);
                for name in waiting.topics.keys() {
                    waiting.wants.also(&mut wants, name);
                    if !names.contains(name) {
                        names.push(name.clone());
                    }
                }
            }
            Topics::Names(_) | Topics::Ids(_) => {}
        }
        Asked { covers, wants, topics }
    }

    pub(super) fn answered(&self, asked: &Asked) {
        {
            let mut waiting = self.waiting();
            waiting.wants.answered(&asked.wants, Instant::now());
            if let Some(covers) = asked.covers {
                waiting.topics.retain(|_, call| *call > covers);
                waiting.due = if waiting.last_call == covers { None } else { waiting.late_due };
            }
        }
        if let Some(covers) = asked.covers {
            self.done.send_modify(|done| done.answered = done.answered.max(covers));
        }
    }

    /// Nobody answered; `begun` is what was asked for when the first was asked. It stays in the queue; only who waits is told.
    pub(super) fn failed(&self, begun: &Asked, failure: Arc<str>) {
        self.waiting().wants.failed(&begun.wants, Instant::now());
        self.done.send_modify(|done| {
            done.failed = done.failed.max(begun.covers.unwrap_or(0));
            done.failure = Some(RefreshFailed(failure));
        });
    }

    /// Nobody will be asked before `until`: who calls until then is told at once.
    pub(super) fn refuse_until(&self, until: Instant) {
        self.waiting().wants.refuse_until(until);
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

/// The answer to a session's wants. Who drops it does not wait any more.
#[derive(Debug)]
pub(super) struct Wanted {
    queue: Arc<Queue>,
    number: Option<u64>,
    answer: oneshot::Receiver<bool>,
}

impl Wanted {
    pub(super) async fn answer(mut self) -> bool {
        let answer = (&mut self.answer).await;
        self.number = None;
        // The sender lives as long as the queue.
        answer.unwrap_or(false)
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.queue.waiting().wants.withdraw(number, Instant::now());
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
