//! Rehearsals: one broker is treated as departed for a while, and what came of it is told.
//!
//! ```text
//!  start ──▶ home legs to the broker are cut and refused ──time, stop, or a departure in earnest──▶ they may be used again
//! ```
//! Invariant: at most one at a time, and each ends by itself; the cluster, and the view of it, stay as they are.
//! Deliberately absent: how sessions carry it out (`driver`).

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::departures::{Departures, masked};
use crate::admin::{NoRehearsal, RehearsalReport, Rehearse};
use crate::cluster::NodeId;
use crate::discovery::Views;
use crate::driver::Met;

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// How often to look whether it should end early.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const NOBODY: i64 = i64::MIN;
const SHOWS: &str = "What this copy of Evenkeel and its clients do when their connections to this broker break and none is made: who \
    holds such connections, what is sent again and how long it is held, which clients are closed (those with a fetch, a group's request \
    or a login under way), and that everything finds its way back.";
const DOES_NOT_SHOW: &str = "The departure itself. The broker was well and went on to lead its partitions, so that records took another \
    connection to the same broker: leaders did not move, replicas did not shrink, no partition was without a leader for a time, and \
    groups kept their coordinator. How long the cluster takes for that decides what a real departure costs. What only the leader or the coordinator can answer had \
    nobody to take over: consumers of its partitions waited until the end, and members of its groups could not be heard. Other copies of Evenkeel, \
    and clients that connect directly, did not take part.";

/// What sessions look at.
#[derive(Debug)]
pub struct Stage {
    node: AtomicI64,
    cut: AtomicU64,
    refused: AtomicU64,
    clients_closed: AtomicU64,
}

impl Default for Stage {
    fn default() -> Stage {
        Stage { node: AtomicI64::new(NOBODY), cut: AtomicU64::new(0), refused: AtomicU64::new(0), clients_closed: AtomicU64::new(0) }
    }
}

impl Stage {
    pub fn rehearsed(&self) -> Option<NodeId> {
        i32::try_from(self.node.load(Ordering::Acquire)).ok().map(NodeId)
    }

    pub fn met(&self, met: Met) {
        let count = match met {
            Met::Cut => &self.cut,
            Met::Refused => &self.refused,
            Met::ClientClosed => &self.clients_closed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn set(&self, node: NodeId) {
        for count in [&self.cut, &self.refused, &self.clients_closed] {
            count.store(0, Ordering::Relaxed);
        }
        self.node.store(node.0.into(), Ordering::Release);
    }

    fn clear(&self) {
        self.node.store(NOBODY, Ordering::Release);
    }
}

#[derive(Clone)]
pub struct Rehearsals {
    inner: Arc<Inner>,
}

struct Inner {
    is_allowed: bool,
    stage: Arc<Stage>,
    views: Views,
    departures: Departures,
    state: Mutex<Scene>,
    /// The process ends.
    stop: CancellationToken,
}

#[derive(Default)]
struct Scene {
    number: u64,
    running: Option<Running>,
    last: Option<RehearsalReport>,
}

struct Running {
    node: NodeId,
    began: Instant,
    lasting: Duration,
}

impl Rehearsals {
    pub fn new(is_allowed: bool, stage: Arc<Stage>, views: Views, departures: Departures, stop: CancellationToken) -> Rehearsals {
        Rehearsals { inner: Arc::new(Inner { is_allowed, stage, views, departures, state: Mutex::default(), stop }) }
    }

    fn scene(&self) -> MutexGuard<'_, Scene> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn may_start(&self, node: NodeId, lasting: Duration) -> Result<(), NoRehearsal> {
        if !self.inner.is_allowed {
            return Err(NoRehearsal::Off);
        }
        if !(SHORTEST..=LONGEST).contains(&lasting) {
            return Err(NoRehearsal::Invalid("a rehearsal takes 1s to 5m".to_owned()));
        }
        let view = self.inner.views.current();
        if !view.brokers.contains_key(&node) {
            let listed: Vec<String> = view.brokers.keys().map(ToString::to_string).collect();
            return Err(NoRehearsal::Unknown(format!("the cluster lists no broker {node}, but {}", listed.join(", "))));
        }
        if view.brokers.len() == 1 {
            return Err(NoRehearsal::NotNow("the cluster lists no other broker".to_owned()));
        }
        if let Some(departed) = self.inner.departures.departed().first() {
            return Err(NoRehearsal::NotNow(format!("broker {departed} has departed in earnest")));
        }
        Ok(())
    }

    /// Until it is over, and says so.
    async fn play(self, number: u64, node: NodeId, until: Instant) {
        loop {
            let now = Instant::now();
            if now >= until {
                return self.finish(number, "over", None);
            }
            let departed = self.inner.departures.departed();
            let is_listed = self.inner.views.current().brokers.contains_key(&node);
            if let Some(departed) = departed.first().copied().or((!is_listed).then_some(node)) {
                return self.finish(number, "cut_short", Some(format!("broker {departed} departs in earnest")));
            }
            tokio::select! {
                () = self.inner.stop.cancelled() => return self.finish(number, "cut_short", Some("this Evenkeel shuts down".to_owned())),
                () = tokio::time::sleep_until(until.min(now + LOOK_INTERVAL)) => {}
            }
            if self.scene().number != number || self.scene().running.is_none() {
                return;
            }
        }
    }

    /// Ends the rehearsal of this number, if that has not happened.
    fn finish(&self, number: u64, state: &str, because: Option<String>) {
        let mut scene = self.scene();
        if scene.number != number {
            return;
        }
        let Some(running) = scene.running.take() else { return };
        self.inner.stage.clear();
        self.inner.views.tell_again();
        let toll = self.inner.departures.rehearsed(running.node);
        scene.last = Some(RehearsalReport { state: state.to_owned(), because, ..self.told(&running, toll) });
    }

    fn told(&self, running: &Running, toll: Option<crate::departures::Toll>) -> RehearsalReport {
        RehearsalReport {
            broker: running.node.0,
            state: "running".to_owned(),
            because: None,
            asked_seconds: running.lasting.as_secs_f64(),
            lasted_seconds: running.began.elapsed().as_secs_f64(),
            connections_cut: self.inner.stage.cut.load(Ordering::Relaxed),
            connections_refused: self.inner.stage.refused.load(Ordering::Relaxed),
            clients_closed: self.inner.stage.clients_closed.load(Ordering::Relaxed),
            masked: toll.as_ref().map(masked).unwrap_or_default(),
            shows: SHOWS.to_owned(),
            does_not_show: DOES_NOT_SHOW.to_owned(),
        }
    }
}

impl Rehearse for Rehearsals {
    fn start(&self, broker: i32, lasting: Duration) -> Result<RehearsalReport, NoRehearsal> {
        let node = NodeId(broker);
        self.may_start(node, lasting)?;
        let mut scene = self.scene();
        if let Some(running) = &scene.running {
            return Err(NoRehearsal::NotNow(format!("a rehearsal of broker {} is under way", running.node)));
        }
        scene.number += 1;
        let running = Running { node, began: Instant::now(), lasting };
        self.inner.departures.rehearse(node);
        self.inner.stage.set(node);
        self.inner.views.tell_again();
        let report = self.told(&running, None);
        let until = running.began + lasting;
        scene.running = Some(running);
        tokio::spawn(self.clone().play(scene.number, node, until));
        Ok(report)
    }

    fn report(&self) -> Result<RehearsalReport, NoRehearsal> {
        if !self.inner.is_allowed {
            return Err(NoRehearsal::Off);
        }
        let scene = self.scene();
        match &scene.running {
            Some(running) => Ok(self.told(running, self.inner.departures.toll_of(running.node))),
            None => scene.last.clone().ok_or_else(|| NoRehearsal::Unknown("there has been no rehearsal yet".to_owned())),
        }
    }

    fn stop(&self) -> Result<RehearsalReport, NoRehearsal> {
        if !self.inner.is_allowed {
            return Err(NoRehearsal::Off);
        }
        let number = self.scene().number;
        self.finish(number, "stopped", None);
        self.report()
    }
}
