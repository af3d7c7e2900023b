//! When to ask for what is wanted.
//!
//! One departure is, per topic or coordinator's key, one *series*: all evidence against one broker. It asks at once; a second time `min_interval` (and up to
//! as much again, by chance) after the first, since brokers lag behind the controller by a few milliseconds; then once per second.
//! Evidence that comes later for other partitions joins the series and does not hurry it, or a topic of a hundred partitions would cost
//! a hundred requests while the cluster has nothing to tell. What does hurry it is progress: when some of its evidence has been met, the
//! cluster is at work, and what is left may ask once more. So a departure costs two requests per topic in its first second and
//! one per second after, and one more for each step in which leaders really move.
//!
//! A killed broker stays listed until its session times out (9 s), and only then do leaders move. To notice that moment early, the list
//! of brokers alone is asked for half-way between two requests for topics: it costs the cluster next to nothing, whatever the
//! number of topics, and the interval per topic stays what it is. When that list lacks the broker, the topics that it led are due at
//! once.
//!
//! Repeated requests keep a distance of `TOGETHER` and then ask for all that is due, so that a hundred topics do not ask at a hundred
//! moments of every second.
//!
//! Coordinators are asked for over the same connection, behind the list of brokers or the topics that are due, all keys of a kind in one
//! request (FindCoordinator 4, KIP-699), or each in its own. A series of theirs ends a while after what was wanted, so that a broker that
//! is named again and again, though it does not coordinate, is asked for at its pace.
//!
//! Invariant: a request by names has no ids and the other way round: a broker that sees one id ignores all names
//! (`KafkaApis.handleTopicMetadataRequest`). Deliberately absent: the interval between any two requests, and back-off (`pace`).

use std::collections::{BTreeMap, HashSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{LINGERS, Listing, Subject, Wants, name_of};
use crate::cluster::{CoordinatorKind, NodeId, TopicId, View, WantedTopic};

/// Between requests for one topic, from the third on: so much, and up to a tenth more by chance.
const AGAIN: Duration = Duration::from_secs(1);
/// How much longer what repeats may wait to be asked for together.
const TOGETHER: Duration = Duration::from_millis(250);
/// Topics that one request asks for; the rest follows in the next.
const TOPICS_MAX: usize = 2_000;
/// The same of coordinators' keys.
const KEYS_MAX: usize = 1_000;
/// The same where each key has a request to itself.
const KEYS_ONE_BY_ONE_MAX: usize = 50;
/// From this version of FindCoordinator on, a request has any number of keys.
const KEYS_TOGETHER: i16 = 4;

/// Evidence that is followed up together.
#[derive(Debug)]
pub(super) struct Series {
    /// The call that began it.
    since: u64,
    /// Requests about it that were answered, of the first two.
    asked: u32,
    due: Instant,
    /// Pieces of evidence in it.
    pub(super) open: usize,
    /// Since when it has none.
    closed_at: Option<Instant>,
    /// Its evidence was met by the very broker that it is against.
    pub(super) is_doubtful: bool,
}

impl Series {
    pub(super) fn new(since: u64, now: Instant) -> Series {
        Series { since, asked: 0, due: now, open: 0, closed_at: None, is_doubtful: false }
    }

    /// One more piece of evidence. Only while it is to be asked for soon anyway does it count as new.
    pub(super) fn another(&mut self, now: Instant) {
        self.closed_at = None;
        if self.asked < 2 {
            self.due = self.due.min(now);
        }
    }

    /// One piece of evidence less; `true`: it has ended. `lingers_from`: not at once.
    pub(super) fn close(&mut self, lingers_from: Option<Instant>) -> bool {
        self.open -= 1;
        if self.open == 0 {
            self.closed_at = lingers_from;
        }
        self.open == 0 && lingers_from.is_none()
    }

    /// `None`: there is evidence in it.
    pub(super) fn lingers_until(&self) -> Option<Instant> {
        self.closed_at.map(|at| at + LINGERS)
    }

    /// Some of its evidence has been met.
    pub(super) fn progress(&mut self, now: Instant, min_interval: Duration) {
        self.asked = self.asked.min(1);
        self.due = self.due.min(now + min_interval);
    }

    /// Its leader has left the list of brokers.
    pub(super) fn restart(&mut self, now: Instant) {
        self.asked = 0;
        self.due = self.due.min(now);
    }

    /// `repeats_from`: what was asked for twice already waits until then.
    fn due(&self, repeats_from: Instant) -> Instant {
        if self.asked < 2 { self.due } else { self.due.max(repeats_from) }
    }

    fn answered(&mut self, asked: &Asked, soon: Instant, later: Instant) {
        if self.since > asked.covers || self.closed_at.is_some_and(|at| at < asked.written) {
            return;
        }
        self.asked = (self.asked + 1).min(2);
        self.due = if self.asked < 2 { soon } else { later };
    }
}

/// What a request for metadata is about, besides the list of brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Topics {
    /// Empty: the list of brokers alone.
    Names(Vec<Arc<str>>),
    Ids(Vec<TopicId>),
}

/// What a broker can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Takes {
    /// Topics by their ids.
    pub(crate) ids: bool,
    /// The version of FindCoordinator; `None`: it has none that we know.
    pub(crate) coordinators: Option<i16>,
}

impl Takes {
    fn has(self, kind: CoordinatorKind) -> bool {
        let since = match kind {
            CoordinatorKind::Group => 0,
            CoordinatorKind::Transaction => 1,
            // KIP-932.
            CoordinatorKind::Share => 6,
        };
        self.coordinators.is_some_and(|version| version >= since)
    }

    /// Whether one request takes all keys of a kind.
    pub(crate) fn keys_together(self) -> bool {
        self.coordinators.is_some_and(|version| version >= KEYS_TOGETHER)
    }
}

/// Keys whose coordinators are asked for.
pub(crate) type Keys = Vec<(CoordinatorKind, Arc<str>)>;

/// What a request asks for, fixed when it is written.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(super) covers: u64,
    written: Instant,
    /// The wants' own names for the topics, and the keys.
    subjects: Vec<Subject>,
    /// Those of the keys that this broker can be asked for.
    pub(crate) keys: Keys,
}

impl Asked {
    /// The coordinators were not told.
    pub(crate) fn forgo_coordinators(&mut self) {
        self.subjects.retain(|subject| matches!(subject, Subject::Topic(_)));
        self.keys.clear();
    }
}

impl Wants {
    /// When the next request is wanted; `None`: nothing is.
    pub(crate) fn next_due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.earliest()?;
        if due > now {
            return Some(due);
        }
        self.expire(now);
        self.earliest()
    }

    fn earliest(&self) -> Option<Instant> {
        let series = || self.cases.values().flat_map(|case| case.series.values());
        let ends = series().filter_map(Series::lingers_until);
        let listings = self.listings.values().map(|(series, _)| series);
        series().filter(|series| series.open > 0).chain(listings).map(|series| series.due(self.repeats_from)).chain(ends).min()
    }

    /// Right before a request is written: what it is to ask for of a broker that `takes` this.
    pub(crate) fn ask(&self, now: Instant, view: &View, takes: Takes) -> (Asked, Topics) {
        let mut due: Vec<(Instant, &Subject)> = Vec::new();
        let mut is_time = false;
        for (subject, case) in &self.cases {
            let open = || case.series.values().filter(|series| series.open > 0);
            is_time |= open().any(|series| series.due(self.repeats_from) <= now);
            let first = open().map(|series| series.due).min();
            due.extend(first.filter(|at| *at <= now).map(|at| (at, subject)));
        }
        if !is_time {
            due.clear();
        }
        due.sort_unstable();
        let mut asked = Asked { covers: self.last_call, written: now, subjects: Vec::new(), keys: Vec::new() };
        let topics = ask_topics(&mut asked, &due, view, takes);
        ask_coordinators(&mut asked, &due, takes);
        (asked, topics)
    }

    /// The request asks for this topic, too.
    pub(crate) fn also(&self, asked: &mut Asked, name: &Arc<str>) {
        let subject = Subject::Topic(WantedTopic::Name(name.clone()));
        if self.cases.contains_key(&subject) && !asked.subjects.contains(&subject) {
            asked.subjects.push(subject);
        }
    }

    /// The request was answered, and the view has taken what the answer said.
    pub(crate) fn answered(&mut self, asked: &Asked, now: Instant) {
        self.refused_until = None;
        let soon = asked.written + self.min_interval.mul_f64(1.0 + self.rng.f64());
        let again = AGAIN.mul_f64(1.0 + 0.1 * self.rng.f64());
        let later = asked.written + again;
        let mut closed = Vec::new();
        for subject in &asked.subjects {
            let Some(case) = self.cases.get_mut(subject) else { continue };
            for series in case.series.values_mut() {
                if series.asked >= 2 {
                    self.repeats_from = asked.written + TOGETHER;
                }
                series.answered(asked, soon, later);
            }
            closed.extend(covered(&mut case.waiters, asked.covers));
        }
        closed.extend(covered(&mut self.listing_waiters, asked.covers));
        let open = self.cases.values().flat_map(|case| case.series.values()).filter(|series| series.open > 0);
        let dues = open.map(|series| series.due);
        let half_way = together(asked.written + again / 2, dues.clone());
        let later = together(later, dues);
        let led: HashSet<NodeId> = self.cases.values().flat_map(|case| case.series.keys().flatten().copied()).collect();
        for (listing, (series, _)) in &mut self.listings {
            let stands_in_the_way = matches!(listing, Listing::Broker(node, _) if led.contains(node));
            series.answered(asked, soon, if stands_in_the_way { half_way } else { later });
        }
        self.close(closed, now);
    }

    /// Nobody answered: those are told whose calls came before `asked`. What they want stays due.
    pub(crate) fn failed(&mut self, asked: &Asked, now: Instant) {
        let told = self.waiters.range(..=asked.covers).map(|(number, _)| *number).collect();
        self.finish(told, now, false);
    }

    /// Nobody will be asked before `until`.
    pub(crate) fn refuse_until(&mut self, until: Instant) {
        self.refused_until = Some(until);
    }
}

fn ask_topics(asked: &mut Asked, due: &[(Instant, &Subject)], view: &View, takes: Takes) -> Topics {
    let named = |topic: &WantedTopic| match topic {
        WantedTopic::Name(name) => Ok(name.clone()),
        WantedTopic::Id(id) => name_of(*id, view).ok_or(*id),
    };
    let due = || {
        due.iter().filter_map(|(_, subject)| match subject {
            Subject::Topic(topic) => Some((*subject, named(topic))),
            Subject::Coordinator(..) => None,
        })
    };
    // Who has waited longest decides, so that neither kind waits for ever.
    let by_id = takes.ids && due().next().is_some_and(|(_, topic)| topic.is_err());
    let (mut names, mut ids) = (Vec::new(), Vec::new());
    for (subject, topic) in due() {
        match topic {
            Ok(name) if !by_id => names.push(name),
            Err(id) if by_id => ids.push(id),
            // The list of brokers is all that this broker can tell about it.
            Err(_) if !takes.ids => {}
            _ => continue,
        }
        asked.subjects.push(subject.clone());
        if asked.subjects.len() >= TOPICS_MAX {
            break;
        }
    }
    if ids.is_empty() { Topics::Names(names) } else { Topics::Ids(ids) }
}

fn ask_coordinators(asked: &mut Asked, due: &[(Instant, &Subject)], takes: Takes) {
    let keys_max = if takes.keys_together() { KEYS_MAX } else { KEYS_ONE_BY_ONE_MAX };
    for (_, subject) in due {
        let Subject::Coordinator(kind, key) = subject else { continue };
        if takes.has(*kind) {
            if asked.keys.len() >= keys_max {
                continue;
            }
            asked.keys.push((*kind, key.clone()));
        }
        // Where it has no such coordinators, the list of brokers is all that this broker can tell.
        asked.subjects.push((*subject).clone());
    }
}

/// Takes out those whose call the request covers.
fn covered(waiters: &mut BTreeMap<u64, u32>, covers: u64) -> impl Iterator<Item = u64> + use<> {
    let later = waiters.split_off(&(covers + 1));
    mem::replace(waiters, later).into_keys()
}

/// `at`, or the first of `dues` that comes little later.
fn together(at: Instant, dues: impl Iterator<Item = Instant>) -> Instant {
    dues.filter(|due| *due >= at && *due <= at + TOGETHER).min().unwrap_or(at)
}
