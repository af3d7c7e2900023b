//! When the next request may go out.
//!
//! The first goes at once. The second on, in a burst, wait `min_interval` and up to as much again, by chance, so that ten thousand
//! proxies that saw the same departure spread out. After a failure: back-off, doubling, with jitter; while a session waits, up to half a second
//! alone, so that a cluster that returns is noticed as soon as by a client that tries by itself. Without a call: the slow poll.
//!
//! Deliberately absent: clocks and sleeping.

use std::time::Duration;

use tokio::time::Instant;

use super::Settings;

/// The longest back-off while a session waits for an answer. Without one, the setting's: a cluster that is down must not come back into
/// the knocking of ten thousand idle sidecars.
const WANTED_BACKOFF_MAX: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Pace {
    min_interval: Duration,
    poll_interval: Duration,
    backoff_min: Duration,
    backoff_max: Duration,
    next_poll: Instant,
    /// Nothing goes out before.
    not_before: Instant,
    /// The same, while a session waits.
    wanted_not_before: Instant,
    failures: u32,
}

impl Pace {
    pub(super) fn new(settings: &Settings, now: Instant) -> Pace {
        Pace {
            min_interval: settings.min_interval,
            poll_interval: settings.poll_interval,
            backoff_min: settings.backoff_min,
            backoff_max: settings.backoff_max,
            next_poll: now,
            not_before: now,
            wanted_not_before: now,
            failures: 0,
        }
    }

    /// `due`: when the earliest call wants one; `is_wanted`: a session wants something.
    pub(super) fn next_start(&self, due: Option<Instant>, is_wanted: bool) -> Instant {
        let not_before = if is_wanted { self.wanted_not_before } else { self.not_before };
        due.map_or(self.next_poll, |due| due.min(self.next_poll)).max(not_before)
    }

    /// A request that was begun at `begun` was answered.
    pub(super) fn succeeded(&mut self, begun: Instant, now: Instant) {
        self.failures = 0;
        self.not_before = begun + self.min_interval.mul_f64(1.0 + fastrand::f64());
        self.wanted_not_before = self.not_before;
        self.next_poll = now + self.poll_interval.mul_f64(0.8 + 0.4 * fastrand::f64());
    }

    /// Nobody will answer soon either: not before the next slow poll, which is returned.
    pub(super) fn turned_away(&mut self, now: Instant) -> Instant {
        self.not_before = now + self.poll_interval.mul_f64(0.8 + 0.4 * fastrand::f64());
        self.wanted_not_before = self.not_before;
        self.next_poll = self.not_before;
        self.not_before
    }

    pub(super) fn failed(&mut self, now: Instant) {
        let doubled = self.backoff_min.saturating_mul(1u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        let by_chance = 0.5 + 0.5 * fastrand::f64();
        self.not_before = now + doubled.min(self.backoff_max).mul_f64(by_chance);
        self.wanted_not_before = now + doubled.min(self.backoff_max).min(WANTED_BACKOFF_MAX).mul_f64(by_chance);
        self.next_poll = self.not_before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn settings() -> Settings {
        Settings {
            bootstrap: Vec::new(),
            poll_interval: 30_000 * MS,
            min_interval: 50 * MS,
            backoff_min: 10 * MS,
            backoff_max: 500 * MS,
            request_timeout: 1_000 * MS,
            head_start: 200 * MS,
        }
    }

    #[test]
    fn the_first_goes_at_once_and_a_burst_is_spread() {
        let start = Instant::now();
        for _ in 0..100 {
            let mut pace = Pace::new(&settings(), start);
            assert_eq!(pace.next_start(None, false), start, "the first poll waits for nobody");
            pace.succeeded(start, start + MS);
            let next = pace.next_start(Some(start + 2 * MS), false);
            assert!(next >= start + 50 * MS && next <= start + 100 * MS, "{:?}", next - start);
            let later = start + 5_000 * MS;
            assert_eq!(pace.next_start(Some(later), false), later, "a call after a quiet time goes at once");
            let poll = pace.next_start(None, false) - (start + MS);
            assert!(poll >= 24_000 * MS && poll <= 36_000 * MS, "{poll:?}");
        }
    }

    #[test]
    fn failures_back_off_whoever_calls() {
        let start = Instant::now();
        let mut pace = Pace::new(&settings(), start);
        let mut now = start;
        for longest in [10, 20, 40, 80, 160, 320, 500, 500, 500] {
            pace.failed(now);
            let wait = pace.next_start(Some(now), true) - now;
            assert!(wait >= MS * longest / 2 && wait <= MS * longest, "{wait:?}");
            assert_eq!(pace.next_start(None, false) - now, wait, "and it tries again without a call");
            now += wait;
        }
        for _ in 0..100 {
            pace.failed(now);
        }
        pace.succeeded(now, now);
        pace.failed(now);
        assert!(pace.next_start(None, false) - now <= 10 * MS);
    }

    #[test]
    fn while_a_session_waits_a_cluster_that_returns_is_noticed_within_half_a_second() {
        let now = Instant::now();
        let mut pace = Pace::new(&Settings { backoff_max: 5_000 * MS, ..settings() }, now);
        for _ in 0..100 {
            pace.failed(now);
        }
        assert!(pace.next_start(Some(now), true) <= now + 500 * MS && pace.next_start(Some(now), true) >= now + 250 * MS);
        assert!(pace.next_start(Some(now), false) >= now + 2_500 * MS, "nobody waits");
    }

    #[test]
    fn who_is_turned_away_asks_no_more_often_than_the_slow_poll_whoever_calls() {
        let start = Instant::now();
        let mut pace = Pace::new(&settings(), start);
        pace.turned_away(start);
        assert!(pace.next_start(Some(start), true) >= start + 24_000 * MS);
        assert!(pace.next_start(None, false) <= start + 36_000 * MS);
    }
}
