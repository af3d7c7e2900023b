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
use crate::cluster::{Broker, Endpoint, LearnLimits, MetadataObservation, NodeId, Observation, Refused, View, Want, learn};
use crate::metrics::Metrics;

/// Between two refreshes that only suspicions ask for: they come with every answer of a broker that lags.
const SUSPICION_INTERVAL: Duration = Duration::from_secs(1);
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// A cluster that was rebuilt, or failed over to another, under the same addresses is followed after this time without the old one.
const REPLACED_AFTER: Duration = Duration::from_secs(60);

/// The shared handle. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Views {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    current: ArcSwap<View>,
    generations: watch::Sender<u64>,
    changes: watch::Sender<u64>,
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
    /// Another cluster that answers at our addresses, and since when nobody of ours has answered instead.
    other_cluster: Option<(Arc<str>, Instant)>,
    refusal_logged_at: Option<Instant>,
}

impl Learning {
    /// When the next request may go that only suspicions ask for.
    fn suspect(&mut self, now: Instant) -> Instant {
        let due = self.suspected_at.map_or(now, |before| now.max(before + SUSPICION_INTERVAL));
        self.suspected_at = Some(due.min(now + SUSPICION_INTERVAL));
        due
    }

    /// Whether the cluster `seen` has answered for so long, and ours not once, that it has taken our cluster's place.
    fn is_replaced_by(&mut self, seen: &Arc<str>, now: Instant) -> bool {
        match &self.other_cluster {
            Some((other, since)) if other == seen => now.duration_since(*since) >= REPLACED_AFTER,
            _ => {
                self.other_cluster = Some((seen.clone(), now));
                false
            }
        }
    }
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
            changes: watch::Sender::new(0),
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

    /// The generation of the newest view whose brokers differ from those of the one before.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.generations.subscribe()
    }

    /// Who is subscribed looks again, though the view is as it was.
    pub fn tell_again(&self) {
        self.inner.generations.send_modify(|_| {});
    }

    /// The generation of the newest view, whatever changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Asks for a view that meets `wants`; see `driver::Cluster::refresh`.
    pub fn refresh(&self, wants: Vec<Want>) -> impl Future<Output = bool> + Send + use<> {
        let (beyond, wanted) = self.inner.queue.want(wants, || self.current());
        if beyond > 0 {
            self.inner.metrics.limit_hits.with_label_values(&["wants"]).inc_by(beyond as u64);
        }
        wanted.answer()
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
        if let Some(seen) = metadata.cluster_id.clone() {
            self.follow_replacement(&seen);
        }
        self.learn(&Observation::Metadata(metadata), |view| answered_by(view).map(versions))?;
        lock(&self.inner.learning).other_cluster = None;
        let mut status = lock(&self.inner.status);
        status.last_confirmed = Some(Instant::now());
        status.last_failure = None;
        Ok(())
    }

    /// Forgets a cluster in whose place another has answered our own requests for long enough.
    fn follow_replacement(&self, seen: &Arc<str>) {
        let mut learning = lock(&self.inner.learning);
        let current = self.current();
        let Some(known) = current.cluster_id.as_ref().filter(|known| *known != seen) else { return };
        if learning.is_replaced_by(seen, Instant::now()) {
            tracing::warn!(%known, %seen, "the cluster has been replaced by another one; following it");
            self.inner.current.store(Arc::new(current.forgotten()));
        }
    }

    /// A session found the view wrong: asks for a refresh, at once or a little after the last such one.
    pub fn suspect(&self) {
        let due = lock(&self.inner.learning).suspect(Instant::now());
        self.inner.queue.call(&[], due);
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
            let is_felt = before.generation == 0 || before.brokers != next.brokers;
            let next = Arc::new(next);
            inner.current.store(next.clone());
            inner.queue.observe(&next, before.brokers != next.brokers);
            inner.changes.send_replace(generation);
            // Topics and coordinators change with every client that asks: nobody waits for them.
            if is_felt {
                inner.generations.send_replace(generation);
            }
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
            inner.queue.call_for_doubts(&suspicion.topics, learning.suspect(now));
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
            // Departures and returns have a line of their own, with what was masked.
            None if before.is_departed(*id) => tracing::debug!(broker = id.0, %endpoint, "a broker is listed again"),
            None => tracing::info!(broker = id.0, %endpoint, "a broker joined the cluster"),
            Some(known) if known.endpoint != *endpoint => {
                tracing::info!(broker = id.0, %endpoint, before = %known.endpoint, "a broker has another address");
            }
            Some(_) => {}
        }
    }
    for NodeId(broker) in before.brokers.keys().filter(|id| !next.brokers.contains_key(id)) {
        tracing::debug!(broker, "a broker is listed no more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Source;

    fn answer(cluster: &str, broker: i32) -> MetadataObservation {
        let endpoint = Endpoint { host: "broker.example".into(), port: 9092 };
        MetadataObservation {
            source: Source::Own,
            version: 12,
            cluster_id: Some(cluster.into()),
            controller: None,
            brokers: vec![Broker { id: NodeId(broker), endpoint, rack: None }],
            topics: Vec::new(),
        }
    }

    fn confirm(views: &Views, metadata: MetadataObservation) -> Result<(), Refused> {
        let endpoint = Endpoint { host: "elsewhere.example".into(), port: 9092 };
        views.confirm(metadata, |_| unreachable!("no broker is there"), &endpoint)
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_is_followed_to_its_replacement_only_after_it_has_been_silent_for_long() {
        let views = Views::new(LearnLimits::default(), Metrics::new());
        confirm(&views, answer("first", 1)).unwrap();
        assert!(confirm(&views, answer("second", 2)).is_err());
        tokio::time::advance(REPLACED_AFTER).await;
        // The first answers once more: both are there, and it stays with the one it knows.
        confirm(&views, answer("first", 1)).unwrap();
        assert!(confirm(&views, answer("second", 2)).is_err());
        tokio::time::advance(REPLACED_AFTER - Duration::from_secs(1)).await;
        assert!(confirm(&views, answer("second", 2)).is_err());
        tokio::time::advance(Duration::from_secs(1)).await;
        let before = views.current().generation;
        confirm(&views, answer("second", 2)).unwrap();
        let view = views.current();
        assert_eq!(view.brokers.keys().copied().collect::<Vec<_>>(), [NodeId(2)]);
        assert!(view.generation > before);
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_that_find_the_view_wrong_ask_at_once_and_then_once_a_second_at_most() {
        let views = Views::new(LearnLimits::default(), Metrics::new());
        let start = Instant::now();
        views.suspect();
        assert_eq!(views.queue().due().at, Some(start));
        let asked = views.queue().begin(&views.current());
        for _ in 0..1000 {
            views.suspect();
        }
        // They came while the first was under way: what is left is due later, not at once.
        views.queue().answered(&asked);
        assert_eq!(views.queue().due().at, Some(start + SUSPICION_INTERVAL));
    }
}
