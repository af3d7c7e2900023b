//! One metadata question that goes from broker to broker until one answers (kgo: `retryable.Request` with three tries), and the order in
//! which brokers are asked (kgo: `broker()`).
//!
//! Invariant: after each round of the known brokers comes a bootstrap address. Deliberately not here: what the answer means.

use std::time::Duration;

use super::Rules;
use super::exchange::Target;

#[derive(Debug, Default)]
pub(super) struct Order {
    left: Vec<i32>,
    bootstrap: usize,
}

impl Order {
    pub(super) fn restart(&mut self, brokers: impl Iterator<Item = i32>, rng: &mut fastrand::Rng) {
        self.left = brokers.collect();
        rng.shuffle(&mut self.left);
    }

    pub(super) fn next(&mut self, brokers: impl Iterator<Item = i32>, rng: &mut fastrand::Rng) -> Target {
        if let Some(broker) = self.left.pop() {
            return Target::Broker(broker);
        }
        self.restart(brokers, rng);
        self.bootstrap += 1;
        Target::Bootstrap(self.bootstrap - 1)
    }
}

/// What follows a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Again,
    GiveUp,
}

#[derive(Debug, Default)]
pub(super) struct Flight {
    tries: u32,
    again_at: Option<Duration>,
}

impl Flight {
    const TRIES: u32 = 3;

    pub(super) fn start(&mut self) {
        *self = Flight { tries: 1, again_at: None };
    }

    pub(super) fn failed(&mut self, now: Duration, rules: &Rules, rng: &mut fastrand::Rng) -> Next {
        if self.tries >= Self::TRIES {
            return Next::GiveUp;
        }
        self.again_at = Some(now + rules.backoff(self.tries, rng));
        Next::Again
    }

    /// Whether the next try is due.
    pub(super) fn is_due(&mut self, now: Duration) -> bool {
        if self.again_at.is_some_and(|at| now >= at) {
            self.again_at = None;
            self.tries += 1;
            return true;
        }
        false
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.again_at
    }
}
