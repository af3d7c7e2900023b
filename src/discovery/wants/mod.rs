//! What sessions want a fresh view for: the open evidence that the view is behind, and who waits for it.
//!
//! Evidence is kept once, whoever and however many repeat it; how often the cluster is asked follows from the evidence alone
//! (`pacing`), never from the number of calls. A waiter is woken once: when the view meets everything that it wants, or when requests
//! that were written after its call have been answered for all its subjects and for the list of brokers.
//!
//! Coordinators have no epochs, so that the one which does not serve may be named again, by a broker that lags, or because it is back. It
//! counts if nobody says that it is down; who finds it as before says so again, and meets the pace that its evidence had
//! (`Case::is_idle`).
//!
//! Invariant: evidence is unmet, and wanted by somebody or `LINGERS` old at most (longer only while no request can be made).
//! Deliberately absent: tasks, sleeping, and the connection that asks.

#[cfg(test)]
mod coordinators_tests;
mod pacing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

pub(super) use pacing::{Asked, Keys, Takes, Topics};

use crate::cluster::{self, COORDINATOR_KEY_BYTES_MAX, CoordinatorKind, Endpoint, NodeId, TopicId, TopicRef, View, Want, WantedTopic};
use pacing::Series;

/// What nobody has waited for during so long is forgotten: longer than any session pauses between two calls.
const LINGERS: Duration = Duration::from_secs(2);
/// Pieces of evidence. What is beyond is not followed up by itself: its caller is answered by the next list of brokers.
const EVIDENCE_MAX: usize = 50_000;
/// Pieces of evidence times their waiters; the same beyond.
const LINKS_MAX: usize = 500_000;
/// Kafka allows no longer name (`Topic.MAX_NAME_LENGTH`).
pub(super) const TOPIC_NAME_BYTES_MAX: usize = 249;

#[derive(Debug)]
pub(super) struct Wants {
    rng: fastrand::Rng,
    min_interval: Duration,
    last_call: u64,
    waiters: BTreeMap<u64, Waiter>,
    cases: HashMap<Subject, Case>,
    listings: HashMap<Listing, (Series, Evidence)>,
    /// Who waits for the list of brokers, and for how many of its broker wants.
    listing_waiters: BTreeMap<u64, u32>,
    evidence_count: usize,
    links_count: usize,
    /// No request that repeats another goes out before.
    repeats_from: Instant,
    /// Nobody will be asked before; callers are not kept waiting for it.
    refused_until: Option<Instant>,
}

#[derive(Debug)]
struct Waiter {
    wants: Vec<Want>,
    /// Subjects, and the list of brokers, that it still waits for.
    open: usize,
    done: oneshot::Sender<bool>,
}

/// Who calls for one piece of evidence.
#[derive(Debug)]
struct Evidence {
    waiters: HashSet<u64>,
    wanted_at: Instant,
    /// The view's generation when it was last called for.
    since: u64,
}

/// What a request can ask about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Subject {
    /// By the name, where the view knew it.
    Topic(WantedTopic),
    Coordinator(CoordinatorKind, Arc<str>),
}

/// All evidence about one subject.
#[derive(Debug, Default)]
struct Case {
    /// By the broker that does not serve: one departure is one series, however many partitions show it.
    series: HashMap<Option<NodeId>, Series>,
    evidence: HashMap<Want, Evidence>,
    /// Who waits for an answer about the subject, and for how many of its wants.
    waiters: BTreeMap<u64, u32>,
    /// The topic as the evidence was last held against.
    seen: Option<Arc<cluster::Topic>>,
}

impl Case {
    /// Nothing is wanted, and what will be is asked for at the pace that it had.
    fn is_idle(&self) -> bool {
        self.evidence.is_empty() && self.waiters.is_empty()
    }

    /// Its evidence against this broker has been met, or forgotten, one piece of it. With the last, the series ends; `lingers_from`: it is
    /// kept for a while.
    fn close(&mut self, want: &Want, lingers_from: Option<Instant>) {
        let against = against(want);
        if let Some(series) = self.series.get_mut(&against)
            && series.close(lingers_from)
        {
            self.series.remove(&against);
        }
    }
}

/// What only the list of brokers answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Listing {
    Broker(NodeId, Endpoint),
    /// All that is beyond the limits.
    Beyond,
}

impl Listing {
    fn broker(&self) -> Option<NodeId> {
        match self {
            Listing::Broker(node, _) => Some(*node),
            Listing::Beyond => None,
        }
    }
}

/// What came of a call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Called {
    /// `None`: it has been answered.
    pub(super) number: Option<u64>,
    /// Wants that did not fit into the limits.
    pub(super) beyond: usize,
}

impl Evidence {
    fn new(now: Instant) -> Evidence {
        Evidence { waiters: HashSet::new(), wanted_at: now, since: 0 }
    }

    fn is_over(&self, now: Instant) -> bool {
        self.waiters.is_empty() && now.duration_since(self.wanted_at) >= LINGERS
    }
}

impl Wants {
    pub(super) fn new(min_interval: Duration, rng: fastrand::Rng) -> Wants {
        Wants {
            rng,
            min_interval,
            last_call: 0,
            waiters: BTreeMap::new(),
            cases: HashMap::new(),
            listings: HashMap::new(),
            listing_waiters: BTreeMap::new(),
            evidence_count: 0,
            links_count: 0,
            repeats_from: Instant::now(),
            refused_until: None,
        }
    }

    pub(super) fn set_min_interval(&mut self, min_interval: Duration) {
        self.min_interval = min_interval;
    }

    /// Whether anything is wanted that the view does not meet.
    pub(super) fn is_empty(&self) -> bool {
        self.evidence_count == 0
    }

    /// Whether the last answer may not have been the last word: what was wanted is still, or was named just as it was.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.is_empty() || self.cases.values().flat_map(|case| case.series.values()).any(|series| series.is_doubtful)
    }

    /// Addresses of brokers that do not serve, as sessions say: the last ones to ask.
    pub(super) fn suspects(&self) -> Vec<Endpoint> {
        let of = |listing: &Listing| match listing {
            Listing::Broker(_, endpoint) => Some(endpoint.clone()),
            Listing::Beyond => None,
        };
        self.listings.keys().filter_map(of).collect()
    }

    /// Leaders and coordinators that refuse what they are named for. Who refuses because it is another now has heard who that is.
    pub(super) fn refusing(&self) -> HashSet<NodeId> {
        let series = self.cases.values().flat_map(|case| case.series.iter());
        series.filter(|(_, series)| series.open > 0).filter_map(|(node, _)| *node).collect()
    }

    /// Whether the topic's leaders are asked for already, at the pace that its evidence has.
    pub(super) fn follows(&self, name: &Arc<str>) -> bool {
        self.cases.contains_key(&Subject::Topic(WantedTopic::Name(name.clone())))
    }

    /// `done` hears how it went; at once, if there is nothing to wait for.
    pub(super) fn call(&mut self, now: Instant, mut wants: Vec<Want>, view: &View, done: oneshot::Sender<bool>) -> Called {
        for want in &mut wants {
            name_topic(want, view);
        }
        wants.retain(|want| !want.is_met(view));
        let is_refused = self.refused_until.is_some_and(|until| until > now);
        if wants.is_empty() || is_refused {
            // Who does not listen any more has withdrawn.
            let _ = done.send(wants.is_empty());
            return Called::default();
        }
        self.last_call += 1;
        let number = self.last_call;
        let (mut open, mut beyond) = (HashSet::new(), 0);
        for want in &wants {
            let is_beyond = !self.register(number, now, want, view);
            beyond += usize::from(is_beyond);
            open.insert(subject(want).filter(|_| !is_beyond));
        }
        self.waiters.insert(number, Waiter { wants, open: open.len(), done });
        Called { number: Some(number), beyond }
    }

    /// `false`: it did not fit, and waits for the list of brokers.
    fn register(&mut self, number: u64, now: Instant, want: &Want, view: &View) -> bool {
        let is_full =
            [self.evidence_count, self.cases.len()].into_iter().any(|count| count >= EVIDENCE_MAX) || self.links_count >= LINKS_MAX;
        let subject = subject(want);
        let fits = !is_full && subject.as_ref().is_none_or(can_be_asked);
        let (evidence, waiters) = match subject.filter(|_| fits) {
            Some(subject) => {
                let case = self.cases.entry(subject).or_insert_with_key(|subject| {
                    let seen = if let Subject::Topic(topic) = subject { view.topic(topic.as_ref()).cloned() } else { None };
                    Case { seen, ..Case::default() }
                });
                let series = case.series.entry(against(want)).or_insert_with(|| Series::new(number, now));
                let evidence = case.evidence.entry(want.clone()).or_insert_with(|| {
                    self.evidence_count += 1;
                    series.open += 1;
                    series.another(now);
                    Evidence::new(now)
                });
                (evidence, &mut case.waiters)
            }
            None => {
                let listing = match want {
                    Want::Broker { node, endpoint } if fits => Listing::Broker(*node, endpoint.clone()),
                    _ => Listing::Beyond,
                };
                let (_, evidence) = self.listings.entry(listing).or_insert_with(|| {
                    self.evidence_count += 1;
                    (Series::new(number, now), Evidence::new(now))
                });
                (evidence, &mut self.listing_waiters)
            }
        };
        evidence.since = view.generation;
        if evidence.waiters.insert(number) {
            self.links_count += 1;
            *waiters.entry(number).or_default() += 1;
        }
        fits
    }

    /// Its future has been dropped.
    pub(super) fn withdraw(&mut self, number: u64, now: Instant) {
        drop(self.take(number, now));
    }

    fn finish(&mut self, numbers: Vec<u64>, now: Instant, is_answered: bool) {
        for number in numbers {
            if let Some(waiter) = self.take(number, now) {
                let _ = waiter.done.send(is_answered);
            }
        }
    }

    fn take(&mut self, number: u64, now: Instant) -> Option<Waiter> {
        let waiter = self.waiters.remove(&number)?;
        let mut leave = |evidence: &mut Evidence| {
            if evidence.waiters.remove(&number) {
                self.links_count -= 1;
                evidence.wanted_at = now;
            }
        };
        for want in &waiter.wants {
            if let Some(case) = subject(want).and_then(|subject| self.cases.get_mut(&subject)) {
                case.waiters.remove(&number);
                case.evidence.get_mut(want).map(&mut leave);
            }
            if let Want::Broker { node, endpoint } = want
                && let Some((_, evidence)) = self.listings.get_mut(&Listing::Broker(*node, endpoint.clone()))
            {
                leave(evidence);
            }
        }
        self.listing_waiters.remove(&number);
        if let Some((_, evidence)) = self.listings.get_mut(&Listing::Beyond) {
            leave(evidence);
        }
        Some(waiter)
    }

    /// Holds the evidence against a new view, whoever taught it.
    pub(super) fn observe(&mut self, now: Instant, view: &View, brokers_changed: bool) {
        if self.is_empty() {
            return;
        }
        let mut closed = Vec::new();
        let mut unlisted = Vec::new();
        if brokers_changed {
            let listing_waiters = &mut self.listing_waiters;
            self.listings.retain(|listing, (_, evidence)| {
                let Listing::Broker(node, endpoint) = listing else { return true };
                let is_met = Want::Broker { node: *node, endpoint: endpoint.clone() }.is_met(view);
                if is_met {
                    if view.broker(*node).is_none() {
                        unlisted.push(*node);
                    }
                    self.evidence_count -= 1;
                    self.links_count -= evidence.waiters.len();
                    closed.extend(evidence.waiters.iter().filter(|number| is_last(listing_waiters, **number)));
                }
                !is_met
            });
        }
        let suspects: HashSet<NodeId> = self.listings.keys().filter_map(Listing::broker).collect();
        let is_met = |want: &Want, evidence: &Evidence| {
            let is_suspect = || against(want).is_some_and(|node| suspects.contains(&node));
            want.is_met(view) || (want.is_confirmed(view, evidence.since) && !is_suspect())
        };
        let min_interval = self.min_interval;
        self.cases.retain(|subject, case| {
            let seen = if let Subject::Topic(topic) = subject { view.topic(topic.as_ref()) } else { None };
            let is_coordinator = matches!(subject, Subject::Coordinator(..));
            if brokers_changed || is_coordinator || seen.map(Arc::as_ptr) != case.seen.as_ref().map(Arc::as_ptr) {
                case.seen = seen.cloned();
                let met: Vec<Want> =
                    case.evidence.iter().filter(|(want, evidence)| is_met(want, evidence)).map(|(want, _)| want.clone()).collect();
                for want in met {
                    let Some(evidence) = case.evidence.remove(&want) else { continue };
                    self.evidence_count -= 1;
                    self.links_count -= evidence.waiters.len();
                    closed.extend(evidence.waiters.iter().filter(|number| is_last(&mut case.waiters, **number)));
                    case.close(&want, is_coordinator.then_some(now));
                    match case.series.get_mut(&against(&want)) {
                        Some(series) if is_coordinator => series.is_doubtful = !want.is_met(view),
                        Some(series) => series.progress(now, min_interval),
                        None => {}
                    }
                }
            }
            for node in &unlisted {
                if let Some(series) = case.series.get_mut(&Some(*node)) {
                    series.restart(now);
                }
            }
            !case.is_idle() || !case.series.is_empty()
        });
        self.close(closed, now);
    }

    /// One subject, or the list, of each of these is done with.
    fn close(&mut self, closed: Vec<u64>, now: Instant) {
        let mut finished = Vec::new();
        for number in closed {
            if let Some(waiter) = self.waiters.get_mut(&number) {
                waiter.open = waiter.open.saturating_sub(1);
                if waiter.open == 0 {
                    finished.push(number);
                }
            }
        }
        self.finish(finished, now, true);
    }

    /// Forgets what nobody wants any more.
    fn expire(&mut self, now: Instant) {
        self.cases.retain(|_, case| {
            let over: Vec<Want> =
                case.evidence.iter().filter(|(_, evidence)| evidence.is_over(now)).map(|(want, _)| want.clone()).collect();
            for want in over {
                case.evidence.remove(&want);
                self.evidence_count -= 1;
                case.close(&want, None);
            }
            case.series.retain(|_, series| series.lingers_until().is_none_or(|until| until > now));
            !case.is_idle() || !case.series.is_empty()
        });
        self.listings.retain(|_, (_, evidence)| {
            let is_over = evidence.is_over(now);
            self.evidence_count -= usize::from(is_over);
            !is_over
        });
    }
}

/// One want less of this waiter; whether it was the last one.
fn is_last(waiters: &mut BTreeMap<u64, u32>, number: u64) -> bool {
    let Some(left) = waiters.get_mut(&number) else { return false };
    *left -= 1;
    let is_last = *left == 0;
    if is_last {
        waiters.remove(&number);
    }
    is_last
}

fn subject(want: &Want) -> Option<Subject> {
    match want {
        Want::Partition { topic, .. } => Some(Subject::Topic(topic.clone())),
        Want::Coordinator { kind, key, .. } => Some(Subject::Coordinator(*kind, key.clone())),
        Want::Broker { .. } => None,
    }
}

/// The broker that does not serve.
fn against(want: &Want) -> Option<NodeId> {
    match want {
        Want::Partition { leader, .. } => *leader,
        Want::Coordinator { but_not: node, .. } | Want::Broker { node, .. } => Some(*node),
    }
}

/// Asking by the name teaches both the name and the id, and works with every broker. An id whose name has moved to a re-created topic
/// stays what it is.
fn name_topic(want: &mut Want, view: &View) {
    if let Want::Partition { topic, .. } = want
        && let WantedTopic::Id(id) = topic
        && let Some(name) = name_of(*id, view)
    {
        *topic = WantedTopic::Name(name);
    }
}

fn name_of(id: TopicId, view: &View) -> Option<Arc<str>> {
    let name = view.topic(TopicRef::Id(id))?.name.clone()?;
    (view.topic(TopicRef::Name(&name))?.id == id).then_some(name)
}

fn can_be_asked(subject: &Subject) -> bool {
    match subject {
        Subject::Topic(WantedTopic::Name(name)) => name.len() <= TOPIC_NAME_BYTES_MAX,
        Subject::Topic(WantedTopic::Id(_)) => true,
        Subject::Coordinator(_, key) => key.len() <= COORDINATOR_KEY_BYTES_MAX,
    }
}
