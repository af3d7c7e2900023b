//! When metadata is asked for (kgo: `updateMetadataLoop`).
//!
//! Invariant: between two answers lies at least the minimum age, whoever is in a hurry. Deliberately not here: "now" triggers, which
//! kgo has for a topic's first record and for consumers, beyond the very first request.

use std::time::Duration;

use super::Rules;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Wanted, and too early.
    Waiting(Duration),
    /// A request is under way.
    Asking,
    /// It failed for good: a pause.
    Paused(Duration),
}

#[derive(Debug)]
pub(super) struct Schedule {
    phase: Phase,
    wanted: bool,
    last_at: Option<Duration>,
    by_itself_at: Duration,
    failures: u32,
}

impl Schedule {
    /// The first request is due at once.
    pub(super) fn new(rules: &Rules) -> Schedule {
        Schedule { phase: Phase::Idle, wanted: true, last_at: None, by_itself_at: rules.metadata_max_age, failures: 0 }
    }

    /// Somebody needs newer metadata. Without `must` it is no more than a hint.
    pub(super) fn trigger(&mut self, now: Duration, must: bool, rules: &Rules) {
        let is_fresh = self.last_at.is_some_and(|at| now.saturating_sub(at) < rules.metadata_min_age);
        self.wanted |= must || !is_fresh;
    }

    pub(super) fn is_asking(&self) -> bool {
        self.phase == Phase::Asking
    }

    /// Whether a request has to go now.
    pub(super) fn is_due(&mut self, now: Duration, rules: &Rules) -> bool {
        if now >= self.by_itself_at {
            self.by_itself_at = now + rules.metadata_max_age;
            self.wanted = true;
        }
        if matches!(self.phase, Phase::Paused(until) if now >= until) {
            self.phase = Phase::Idle;
        }
        if self.phase == Phase::Idle && self.wanted {
            self.phase = Phase::Waiting(self.last_at.map_or(now, |at| at + rules.metadata_min_age));
        }
        if matches!(self.phase, Phase::Waiting(until) if now >= until) {
            // What was wanted while it waited is served by this one.
            self.wanted = false;
            self.phase = Phase::Asking;
            return true;
        }
        false
    }

    pub(super) fn answered(&mut self, now: Duration) {
        self.phase = Phase::Idle;
        self.last_at = Some(now);
        self.failures = 0;
    }

    /// No broker answered.
    pub(super) fn failed(&mut self, now: Duration, rules: &Rules, rng: &mut fastrand::Rng) {
        self.failures += 1;
        self.wanted = true;
        self.phase = Phase::Paused(now + rules.backoff(self.failures, rng));
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        match self.phase {
            Phase::Asking => None,
            Phase::Waiting(until) | Phase::Paused(until) => Some(until),
            Phase::Idle => Some(self.by_itself_at),
        }
    }
}
