//! The record of departures, shared: it hears sessions and the view, has a line logged for each beginning and end, counts, and retires
//! brokers that nobody uses.
//!
//! Invariant: no session waits for more than the record's own lock. Deliberately absent: the rules of a departure (`departures`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::admin::{DepartureEvent, DepartureStatus, MaskedStatus};
use crate::cluster::{NodeId, Observation};
use crate::departures::{End, OTHER_CODE, Record, Registry, Said, State, Toll};
use crate::discovery::Views;
use crate::metrics::Metrics;
use crate::session::Note;

/// While something is open, or a departed broker may be retired: how often to look.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The shared handle. Cloning is cheap.
#[derive(Clone)]
pub struct Departures {
    inner: Arc<Inner>,
}

struct Inner {
    registry: Mutex<Registry>,
    /// As the registry's, so that most connections made need no lock.
    is_open: AtomicBool,
    opened: Notify,
    views: Views,
    metrics: Metrics,
    unlist_after: Duration,
}

impl Departures {
    pub fn new(views: Views, metrics: Metrics, unlist_after: Duration) -> Departures {
        let inner =
            Inner { registry: Mutex::default(), is_open: AtomicBool::new(false), opened: Notify::new(), views, metrics, unlist_after };
        Departures { inner: Arc::new(inner) }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.inner.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the record, and has said what is worth it.
    fn change<S: IntoIterator<Item = Said>>(&self, change: impl FnOnce(Instant, &mut Registry) -> S) {
        let now = tokio::time::Instant::now().into_std();
        let mut registry = self.registry();
        let said: Vec<Said> = change(now, &mut registry).into_iter().collect();
        let (is_open, departed) = (registry.is_open(), registry.departed().count());
        drop(registry);
        if self.inner.is_open.swap(is_open, Ordering::Relaxed) != is_open {
            self.inner.opened.notify_one();
        }
        self.inner.metrics.departures.open.set(i64::try_from(departed).unwrap_or(i64::MAX));
        for said in said {
            self.say(&said);
        }
    }

    pub fn note(&self, note: &Note) {
        if let Note::Departure { node, sign } = note {
            // A leg may have been opened by an older view.
            if self.inner.views.current().is_told(*node) {
                self.change(|now, registry| registry.on_sign(now, *node, *sign));
            }
            return;
        }
        self.registry().on_note(tokio::time::Instant::now().into_std(), note);
    }

    pub fn reached(&self, node: NodeId) {
        if self.inner.is_open.load(Ordering::Relaxed) {
            self.registry().on_reached(tokio::time::Instant::now().into_std(), node);
        }
    }

    pub fn used(&self, node: NodeId) {
        self.registry().on_used(tokio::time::Instant::now().into_std(), node);
    }

    pub fn rehearse(&self, node: NodeId) {
        self.change(|now, registry| registry.on_rehearsal(now, node));
    }

    /// What came of it, as far as there was room to record it.
    pub fn rehearsed(&self, node: NodeId) -> Option<Toll> {
        let toll = self.toll_of(node);
        self.change(|now, registry| registry.on_rehearsal_over(now, node));
        toll
    }

    pub fn toll_of(&self, node: NodeId) -> Option<Toll> {
        self.registry().of(node).map(|record| record.toll)
    }

    /// Brokers that have really departed.
    pub fn departed(&self) -> Vec<NodeId> {
        self.registry().departed().collect()
    }

    /// Until told to stop: follows the view, and time.
    pub async fn run(self, stop: CancellationToken) {
        let mut changes = self.inner.views.changes();
        loop {
            self.look();
            let is_pending = self.inner.is_open.load(Ordering::Relaxed) || !self.inner.views.current().departed.is_empty();
            let pause = async {
                match is_pending {
                    true => tokio::time::sleep(LOOK_INTERVAL).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = changes.changed() => {}
                () = self.inner.opened.notified() => {}
                () = pause => {}
            }
        }
    }

    fn look(&self) {
        let view = self.inner.views.current();
        self.change(|now, registry| registry.look(now, &view));
        let now = tokio::time::Instant::now().into_std();
        let unused = self.registry().unused_for(now, self.inner.unlist_after, &view);
        for node in unused {
            self.inner.views.observe(Observation::Retire(node));
        }
    }

    fn say(&self, said: &Said) {
        let metrics = &self.inner.metrics.departures;
        match said {
            Said::Departed(Record { node, is_rehearsal: true, .. }) => {
                tracing::info!(broker = node.0, "a rehearsal: the broker is treated as departed");
            }
            Said::Departed(Record { node, reason, .. }) => {
                metrics.departures.with_label_values(&[reason.as_str()]).inc();
                tracing::info!(broker = node.0, reason = reason.as_str(), "a broker departs; clients are told of it as before");
            }
            Said::Ended(record) => {
                let (broker, masked) = (record.node.0, record.toll.to_string());
                let after = record.ended().map_or(Duration::ZERO, |(_, after)| Duration::from_millis(after.as_millis() as u64));
                let after = humantime::format_duration(after).to_string();
                match record.state {
                    State::Ended(End::Rehearsed, _) => tracing::info!(broker, after, masked, "the rehearsal is over"),
                    State::Ended(End::Retired, _) => {
                        metrics.retired.inc();
                        tracing::info!(broker, after, masked, "a departed broker is retired: no client has used it for long");
                    }
                    _ if record.toll.was_felt() => tracing::warn!(broker, after, masked, "a broker has returned"),
                    _ => tracing::info!(broker, after, masked, "a broker has returned"),
                }
            }
            Said::Dropped(Record { node, reason, .. }) => {
                tracing::debug!(broker = node.0, reason = reason.as_str(), "no departure: a connection was lost");
            }
        }
    }

    /// For `/status.json`.
    pub fn status(&self) -> Vec<DepartureStatus> {
        let (now, clock) = (tokio::time::Instant::now().into_std(), SystemTime::now());
        let at = |instant: Instant| clock.checked_sub(now.saturating_duration_since(instant)).unwrap_or(clock);
        let records = self.registry().records();
        let told = |record: Record| DepartureStatus {
            node_id: record.node.0,
            reason: record.reason.as_str().to_owned(),
            rehearsal: record.is_rehearsal,
            state: record.state.as_str().to_owned(),
            began_at: humantime::format_rfc3339_millis(at(record.began)).to_string(),
            ended_after_seconds: record.ended().map(|(_, after)| after.as_secs_f64()),
            timeline: record
                .timeline
                .iter()
                .map(|(at, event)| DepartureEvent {
                    after_seconds: at.saturating_duration_since(record.began).as_secs_f64(),
                    event: event.as_str().to_owned(),
                })
                .collect(),
            masked: masked(&record.toll),
        };
        records.into_iter().map(told).collect()
    }
}

pub fn masked(toll: &Toll) -> MaskedStatus {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let code = |code: i16| if code == OTHER_CODE { "other".to_owned() } else { code.to_string() };
    MaskedStatus {
        detours: toll.detours,
        acknowledged: toll.acknowledged,
        errors: toll.errors,
        deadline_misses: toll.deadline_misses,
        cancelled: toll.cancelled,
        held_ms_max: ms(toll.held_max),
        held_ms_p99: ms(toll.held_p99),
        attempts: toll.attempts,
        resent_bytes: toll.resent_bytes,
        resent_batches_idempotent: toll.resent_idempotent,
        resent_batches_plain: toll.resent_plain,
        masked_errors: toll.masked_errors.iter().map(|(known, count)| (code(*known), *count)).collect(),
        leaders_kept: toll.leaders_kept,
        metadata_held: toll.metadata_held,
        budget_refusals: toll.budget_refusals,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Broker, Endpoint, LearnLimits, MetadataObservation, Source};
    use crate::session::DepartureSign;

    const MINUTE: Duration = Duration::from_secs(60);
    const NODE: NodeId = NodeId(2);

    fn list(views: &Views, ids: &[i32]) {
        let endpoint = |id: i32| Endpoint { host: format!("b{id}.example").into(), port: 9092 };
        let brokers = ids.iter().map(|id| Broker { id: NodeId(*id), endpoint: endpoint(*id), rack: None }).collect();
        let (cluster_id, controller, topics) = (Some("c".into()), None, Vec::new());
        views.observe(Observation::Metadata(MetadataObservation {
            source: Source::Own,
            version: 12,
            cluster_id,
            controller,
            brokers,
            topics,
        }));
    }

    fn started() -> (Views, Departures, Metrics, CancellationToken) {
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let views = Views::new(LearnLimits::default(), metrics.clone());
        list(&views, &[1, 2]);
        let departures = Departures::new(views.clone(), metrics.clone(), 15 * MINUTE);
        tokio::spawn(departures.clone().run(stop.clone()));
        (views, departures, metrics, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn a_departed_broker_is_retired_once_no_client_has_used_it_for_long() {
        let (views, departures, metrics, _stop) = started();
        list(&views, &[1]);
        tokio::time::sleep(14 * MINUTE).await;
        assert_eq!(metrics.departures.open.get(), 1);
        assert_eq!(metrics.departures.departures.with_label_values(&["not_listed"]).get(), 1);
        departures.used(NODE);
        tokio::time::sleep(14 * MINUTE).await;
        assert!(views.current().is_told(NODE), "a client has used it");
        tokio::time::sleep(MINUTE + LOOK_INTERVAL).await;
        assert!(!views.current().is_told(NODE));
        tokio::time::sleep(LOOK_INTERVAL).await;
        assert_eq!((metrics.departures.open.get(), metrics.departures.retired.get()), (0, 1));
        let status = departures.status();
        assert_eq!((status[0].state.as_str(), status[0].node_id), ("retired", 2));
        assert!(status[0].ended_after_seconds.is_some_and(|after| (1740.0..1745.0).contains(&after)), "{status:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_a_broker_that_clients_are_not_told_of_open_nothing() {
        let (views, departures, metrics, _stop) = started();
        departures.note(&Note::Departure { node: NodeId(9), sign: DepartureSign::Refused });
        assert!(departures.status().is_empty());
        departures.note(&Note::Departure { node: NODE, sign: DepartureSign::Refused });
        assert_eq!(metrics.departures.open.get(), 1);
        tokio::time::sleep(2 * MINUTE).await;
        assert_eq!(metrics.departures.open.get(), 0, "it is listed, and nobody has anything against it");
        assert!(views.current().is_told(NODE));
    }
}
