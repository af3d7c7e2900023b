//! What a client is told of a partition's leader while a departure settles.
//!
//! Invariants: a leader that is told is one that the client is told of as a broker; −1 is told only beside an error; an epoch that is
//! told is never below the view's. Deliberately absent: layouts, and what data requests get.

use std::time::{Duration, Instant};

use crate::cluster::{Partition, View};

const NONE: i16 = 0;
const LEADER_NOT_AVAILABLE: i16 = 5;
/// Clients go on to use a partition with this error (Kafka's own take it for NONE).
const REPLICA_NOT_AVAILABLE: i16 = 9;
/// The leader has no address for this listener, as one that is starting again may not have yet.
const LISTENER_NOT_FOUND: i16 = 72;

/// By now every broker has heard of a change; one that still says otherwise, in a version that tells no epochs, knows of a later one.
const LAG_MAX: Duration = Duration::from_secs(60);

/// For how long what is masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masks {
    /// A partition without a leader: its last good one is told instead.
    pub leaderless: Duration,
}

impl Default for Masks {
    fn default() -> Self {
        Masks { leaderless: Duration::from_secs(5) }
    }
}

/// What a rewrite has masked: for counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Masked {
    /// Brokers that the answer lacked.
    pub brokers_added: u32,
    /// Partitions without a leader that were told their last good one.
    pub leaders_kept: u32,
    /// Partitions for which the view knew better than the answer: a newer epoch or, in a version without epochs, a newer leader.
    pub epochs_raised: u32,
    pub errors: MaskedErrors,
}

impl Masked {
    pub fn is_empty(&self) -> bool {
        *self == Masked::default()
    }
}

/// Kafka's error codes that clients did not get to see, and how many of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaskedErrors([(i16, u32); 4]);

impl MaskedErrors {
    /// There are no more than four codes that are masked; a fifth would be counted as the fourth.
    pub fn add(&mut self, code: i16) {
        let last = self.0.len() - 1;
        let at = self.0.iter().position(|(known, count)| *count == 0 || *known == code).unwrap_or(last);
        if self.0[at].1 == 0 {
            self.0[at].0 = code;
        }
        self.0[at].1 += 1;
    }

    pub fn iter(&self) -> impl Iterator<Item = (i16, u32)> + '_ {
        self.0.iter().copied().filter(|(_, count)| *count > 0)
    }
}

/// A partition's leader as a Metadata response tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leadership {
    pub(super) error: i16,
    /// −1: none.
    pub(super) leader: i32,
    /// −1: not said; `None`: the version has no epochs.
    pub(super) epoch: Option<i32>,
}

/// By what one response is masked.
pub(super) struct Masking<'a> {
    pub(super) view: &'a View,
    pub(super) now: Instant,
    pub(super) masks: Masks,
    /// The brokers that the client is told of, ascending.
    pub(super) listed: &'a [i32],
}

impl Masking<'_> {
    /// What the client is told in the place of `seen`. `known`: what the view has of the partition.
    pub(super) fn told(&self, seen: Leadership, known: Option<&Partition>, masked: &mut Masked) -> Leadership {
        let Some(known) = known else { return self.plain(seen) };
        let epoch = seen.epoch.map(|epoch| epoch.max(known.epoch));
        if epoch != seen.epoch {
            masked.epochs_raised += 1;
            return self.led_by(self.last_good(known), Leadership { epoch, ..seen }, masked);
        }
        if seen.epoch.is_none()
            && let Some(newer) = self.newer_leader(known).filter(|newer| *newer != seen.leader)
        {
            masked.epochs_raised += 1;
            return self.led_by(Some(newer), seen, masked);
        }
        let is_leaderless = !self.is_listed(seen.leader) && matches!(seen.error, NONE | LEADER_NOT_AVAILABLE | REPLICA_NOT_AVAILABLE);
        match self.last_good(known).filter(|_| is_leaderless) {
            Some(kept) => {
                masked.leaders_kept += 1;
                self.led_by(Some(kept), seen, masked)
            }
            None => self.plain(seen),
        }
    }

    /// Nothing is known better: only the clients' rules are kept.
    fn plain(&self, seen: Leadership) -> Leadership {
        if self.is_listed(seen.leader) {
            return seen;
        }
        let error = if matches!(seen.error, NONE | REPLICA_NOT_AVAILABLE) { LEADER_NOT_AVAILABLE } else { seen.error };
        Leadership { error, leader: -1, ..seen }
    }

    fn led_by(&self, leader: Option<i32>, seen: Leadership, masked: &mut Masked) -> Leadership {
        let Some(leader) = leader else { return self.plain(Leadership { leader: -1, ..seen }) };
        let mut error = seen.error;
        if matches!(error, LEADER_NOT_AVAILABLE | LISTENER_NOT_FOUND) {
            masked.errors.add(error);
            error = NONE;
        }
        Leadership { error, leader, ..seen }
    }

    /// The view's leader: a listed one, or for a bounded time the last good one.
    fn last_good(&self, known: &Partition) -> Option<i32> {
        let last = self.view.last_leader_of(known)?;
        let is_bounded = |since| self.now.saturating_duration_since(since) < self.masks.leaderless;
        (last.unled_since.is_none_or(is_bounded) && self.is_listed(last.node.0)).then_some(last.node.0)
    }

    /// The view's leader, where it may be newer than what an answer without epochs says.
    fn newer_leader(&self, known: &Partition) -> Option<i32> {
        let is_recent = self.now.saturating_duration_since(known.changed_at) < LAG_MAX;
        let last = self.view.last_leader_of(known).filter(|last| last.unled_since.is_none() && last.epoch >= 0 && is_recent)?;
        self.is_listed(last.node.0).then_some(last.node.0)
    }

    fn is_listed(&self, node: i32) -> bool {
        self.listed.binary_search(&node).is_ok()
    }
}
