//! The view's home: who reads it, who is told of a change, who may teach it.
//!
//! Invariant: views follow each other one at a time, and whoever is told of a generation finds it, or a later one.
//! Deliberately absent: the rules of learning (`cluster`).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::queue::{Queue, Refresher};
use crate::cluster::{Broker, Endpoint, LearnLimits, MetadataObservation, NodeId, Observation, Refused, View, learn};
use crate::metrics::Metrics;

/// Between two refreshes that only suspicions ask for: they come with every answer of a broker that lags.
const SUSPICION_INTERVAL: Duration = Duration::from_secs(1);
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The shared handle. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Views {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    current: ArcSwap<View>,
    generations: watch::Sender<u64>,
    /// Held while one observation is judged.
    learning: Mutex<Learning>,
    status: Mutex<Status>,
    queue: Arc<Queue>,
    limits: LearnLimits,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Learning {
    suspected_at: Option<Instant>,
    refusal_logged_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Status {
    last_confirmed: Option<Instant>,
    last_failure: Option<Arc<str>>,
}

impl Views {
    pub fn new(limits: LearnLimits, metrics: Metrics) -> Views {
        let inner = Inner {
            current: ArcSwap::default(),
            generations: watch::Sender::new(0),
            learning: Mutex::default(),
            status: Mutex::default(),
            queue: Arc::default(),
            limits,
            metrics,
        };
        Views { inner: Arc::new(inner) }
    }

    pub fn current(&self) -> Arc<View> {
        self.inner.current.load_full()
    }

    /// The generation, and every change of it.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.generations.subscribe()
    }

    pub fn refresher(&self) -> Refresher {
        Refresher { queue: self.inner.queue.clone() }
    }

    /// Judges what an answer says. What looks as if the view were behind asks for a refresh.
    pub fn observe(&self, observation: Observation) {
        // A refusal is logged; whoever passes an answer on cannot do more about it.
        drop(self.learn(&observation, |_| None));
    }

    /// When a broker last answered a request of our own with the list of brokers.
    pub fn last_confirmed(&self) -> Option<std::time::Instant> {
        lock(&self.inner.status).last_confirmed.map(Instant::into_std)
    }

    /// Why the last request failed; `None` while requests are answered.
    pub fn last_failure(&self) -> Option<Arc<str>> {
        lock(&self.inner.status).last_failure.clone()
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.inner.queue
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// An answer to a request of our own, and the versions of the broker at `endpoint`, which gave it.
    pub(super) fn confirm(
        &self,
        metadata: MetadataObservation,
        versions: impl FnOnce(NodeId) -> Observation,
        endpoint: &Endpoint,
    ) -> Result<(), Refused> {
        let answered_by = |view: &View| view.brokers.values().find(|broker| broker.endpoint == *endpoint).map(|broker| broker.id);
        self.learn(&Observation::Metadata(metadata), |view| answered_by(view).map(versions))?;
        let mut status = lock(&self.inner.status);
        status.last_confirmed = Some(Instant::now());
        status.last_failure = None;
        Ok(())
    }

    pub(super) fn failed(&self, failure: Arc<str>) {
        lock(&self.inner.status).last_failure = Some(failure);
    }

    /// `and_then`: what else is known, seeing what the first observation made of the view; both are published as one.
    fn learn(&self, observation: &Observation, and_then: impl FnOnce(&View) -> Option<Observation>) -> Result<(), Refused> {
        let inner = &*self.inner;
        let now = Instant::now();
        let mut learning = lock(&inner.learning);
        let before = inner.current.load_full();
        let learned = learn(&before, now.into_std(), observation, &inner.limits);
        let first = learned.view.as_ref().unwrap_or(&before);
        let then = match and_then(first) {
            Some(more) if learned.refused.is_none() => learn(first, now.into_std(), &more, &inner.limits).view,
            _ => None,
        };
        if let Some(next) = then.or(learned.view) {
            log_brokers(&before, &next);
            inner.metrics.view_brokers.set(i64::try_from(next.brokers.len()).unwrap_or(i64::MAX));
            let generation = next.generation;
            inner.current.store(Arc::new(next));
            inner.generations.send_replace(generation);
        }
        for (limit, dropped) in [
            ("view_brokers", learned.dropped.brokers),
            ("view_topics", learned.dropped.topics),
            ("view_partitions", learned.dropped.partitions),
            ("view_coordinators", learned.dropped.coordinators),
        ] {
            if dropped > 0 {
                inner.metrics.limit_hits.with_label_values(&[limit]).inc_by(dropped as u64);
            }
        }
        if let Some(suspicion) = learned.suspicion {
            tracing::debug!(reason = ?suspicion.reason, "the view may be behind the cluster");
            let due = learning.suspected_at.map_or(now, |before| now.max(before + SUSPICION_INTERVAL));
            learning.suspected_at = Some(due.min(now + SUSPICION_INTERVAL));
            inner.queue.call(&suspicion.topics, due);
        }
        match learned.refused {
            None => Ok(()),
            Some(refused) => {
                if learning.refusal_logged_at.is_none_or(|before| now.duration_since(before) >= LOG_INTERVAL) {
                    learning.refusal_logged_at = Some(now);
                    tracing::error!("{refused}");
                }
                Err(refused)
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn log_brokers(before: &View, next: &View) {
    if before.brokers == next.brokers {
        return;
    }
    if before.generation == 0 {
        let brokers: Vec<String> = next.brokers.values().map(|broker| format!("{} at {}", broker.id, broker.endpoint)).collect();
        tracing::info!(cluster_id = next.cluster_id.as_deref(), brokers = brokers.join(", "), "the cluster answers");
        return;
    }
    for Broker { id, endpoint, .. } in next.brokers.values() {
        match before.brokers.get(id) {
            None => tracing::info!(broker = id.0, %endpoint, "a broker joined the cluster"),
            Some(known) if known.endpoint != *endpoint => {
                tracing::info!(broker = id.0, %endpoint, before = %known.endpoint, "a broker has another address");
            }
            Some(_) => {}
        }
    }
    for NodeId(broker) in before.brokers.keys().filter(|id| !next.brokers.contains_key(id)) {
        tracing::info!(broker, "a broker left the cluster");
    }
}
