//! When to ask for what is wanted.
//!
//! One departure is, per topic, one *series*: all evidence against one leader. It asks at once; a second time `min_interval` (and up to
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
//! Invariant: a request by names has no ids and the other way round: a broker that sees one id ignores all names
//! (`KafkaApis.handleTopicMetadataRequest`). Deliberately absent: the interval between any two requests, and back-off (`pace`).

use std::collections::{BTreeMap, HashSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Listing, Wants, name_of};
use crate::cluster::{NodeId, TopicId, View, WantedTopic};

/// Between requests for one topic, from the third on: so much, and up to a tenth more by chance.
const AGAIN: Duration = Duration::from_secs(1);
/// How much longer what repeats may wait to be asked for together.
const TOGETHER: Duration = Duration::from_millis(250);
/// Topics that one request asks for; the rest follows in the next.
const TOPICS_MAX: usize = 2_000;

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
}

impl Series {
    pub(super) fn new(since: u64, now: Instant) -> Series {
        Series { since, asked: 0, due: now, open: 0 }
    }

    /// One more piece of evidence. Only while it is to be asked for soon anyway does it count as new.
    pub(super) fn another(&mut self, now: Instant) {
        if self.asked < 2 {
            self.due = self.due.min(now);
        }
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
        if self.since > asked.covers {
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

/// What a request asks for, fixed when it is written.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(super) covers: u64,
    written: Instant,
    /// The wants' own names for the topics.
    topics: Vec<WantedTopic>,
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
        let topics = self.topics.values().flat_map(|topic| topic.series.values());
        topics.chain(self.listings.values().map(|(series, _)| series)).map(|series| series.due(self.repeats_from)).min()
    }

    /// Right before a request is written: what it is to ask for. `may_have_ids`: topics that no name is known for may be asked for now.
    pub(crate) fn ask(&self, now: Instant, view: &View, may_have_ids: bool) -> (Asked, Topics) {
        let mut due: Vec<(Instant, &WantedTopic)> = Vec::new();
        let mut is_time = false;
        for (key, topic) in &self.topics {
            is_time |= topic.series.values().any(|series| series.due(self.repeats_from) <= now);
            let first = topic.series.values().map(|series| series.due).min();
            due.extend(first.filter(|at| *at <= now).map(|at| (at, key)));
        }
        if !is_time {
            due.clear();
        }
        due.sort_unstable();
        let named = |key: &WantedTopic| match key {
            WantedTopic::Name(name) => Ok(name.clone()),
            WantedTopic::Id(id) => name_of(*id, view).ok_or(*id),
        };
        // Who has waited longest decides, so that neither kind waits for ever.
        let by_id = may_have_ids && due.first().is_some_and(|(_, key)| named(key).is_err());
        let (mut names, mut ids, mut topics) = (Vec::new(), Vec::new(), Vec::new());
        for (_, key) in due {
            match named(key) {
                Ok(name) if !by_id => names.push(name),
                Err(id) if by_id => ids.push(id),
                // The list of brokers is all that this broker can tell about it.
                Err(_) if !may_have_ids => {}
                _ => continue,
            }
            topics.push(key.clone());
            if topics.len() >= TOPICS_MAX {
                break;
            }
        }
        let asked = Asked { covers: self.last_call, written: now, topics };
        (asked, if ids.is_empty() { Topics::Names(names) } else { Topics::Ids(ids) })
    }

    /// The request asks for this topic, too.
    pub(crate) fn also(&self, asked: &mut Asked, name: &Arc<str>) {
        let key = WantedTopic::Name(name.clone());
        if self.topics.contains_key(&key) && !asked.topics.contains(&key) {
            asked.topics.push(key);
        }
    }

    /// The request was answered, and the view has taken what the answer said.
    pub(crate) fn answered(&mut self, asked: &Asked, now: Instant) {
        self.refused_until = None;
        let soon = asked.written + self.min_interval.mul_f64(1.0 + self.rng.f64());
        let again = AGAIN.mul_f64(1.0 + 0.1 * self.rng.f64());
        let later = asked.written + again;
        let mut closed = Vec::new();
        for key in &asked.topics {
            let Some(topic) = self.topics.get_mut(key) else { continue };
            for series in topic.series.values_mut() {
                if series.asked >= 2 {
                    self.repeats_from = asked.written + TOGETHER;
                }
                series.answered(asked, soon, later);
            }
            closed.extend(covered(&mut topic.waiters, asked.covers));
        }
        closed.extend(covered(&mut self.listing_waiters, asked.covers));
        let dues = self.topics.values().flat_map(|topic| topic.series.values()).map(|series| series.due);
        let half_way = together(asked.written + again / 2, dues.clone());
        let later = together(later, dues);
        let led: HashSet<NodeId> = self.topics.values().flat_map(|topic| topic.series.keys().flatten().copied()).collect();
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

/// Takes out those whose call the request covers.
fn covered(waiters: &mut BTreeMap<u64, u32>, covers: u64) -> impl Iterator<Item = u64> + use<> {
    let later = waiters.split_off(&(covers + 1));
    mem::replace(waiters, later).into_keys()
}

/// `at`, or the first of `dues` that comes little later.
fn together(at: Instant, dues: impl Iterator<Item = Instant>) -> Instant {
    dues.filter(|due| *due >= at && *due <= at + TOGETHER).min().unwrap_or(at)
}
