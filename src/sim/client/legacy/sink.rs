//! What belongs to one broker (kgo: `sink`): requests in flight, answers in their order, and the back-off after a lost connection.
//!
//! Invariant: answers are handled in the order of their requests, whichever came first. Deliberately not here: partitions.

use std::collections::VecDeque;
use std::time::Duration;

use super::Rules;
use super::exchange::Exchanged;

/// A batch within a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) partition: i32,
    pub(super) batch_id: u64,
}

/// A request on its way, or one whose broker is being looked for.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) token: u64,
    pub(super) sent: Vec<Sent>,
    pub(super) backoff_round: u32,
    pub(super) result: Option<Exchanged>,
}

#[derive(Debug)]
pub(super) struct Sink {
    pub(super) in_flight: VecDeque<InFlight>,
    in_flight_max: usize,
    seen_answer: bool,
    failures: u32,
    needs_backoff: bool,
    backoff_round: u32,
    pub(super) backoff_until: Option<Duration>,
    /// Its broker is not listed and is being looked for; nothing else is sent meanwhile.
    pub(super) looking: bool,
    /// Which partition a request starts with, so that each has its turn.
    pub(super) turn: usize,
}

/// Whether a sink may go on sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    Send,
    /// Something else goes on first: an answer, a look-up, a back-off that runs.
    Later,
    /// A back-off begins here.
    BackOff,
}

impl Sink {
    pub(super) fn new() -> Sink {
        Sink {
            in_flight: VecDeque::new(),
            in_flight_max: 1,
            seen_answer: false,
            failures: 0,
            needs_backoff: false,
            backoff_round: 0,
            backoff_until: None,
            looking: false,
            turn: 0,
        }
    }

    pub(super) fn leave(&self) -> Leave {
        if self.looking || self.backoff_until.is_some() {
            return Leave::Later;
        }
        if self.needs_backoff {
            return Leave::BackOff;
        }
        if self.in_flight.len() >= self.in_flight_max { Leave::Later } else { Leave::Send }
    }

    pub(super) fn begin_backoff(&mut self, now: Duration, rules: &Rules, rng: &mut fastrand::Rng) {
        self.failures += 1;
        self.backoff_until = Some(now + rules.backoff(self.failures, rng));
    }

    /// Whether a back-off ended just now.
    pub(super) fn ends_backoff(&mut self, now: Duration) -> bool {
        if self.backoff_until.is_none_or(|until| now < until) {
            return false;
        }
        self.backoff_until = None;
        self.needs_backoff = false;
        self.backoff_round += 1;
        true
    }

    pub(super) fn push(&mut self, token: u64, sent: Vec<Sent>) {
        self.in_flight.push_back(InFlight { token, sent, backoff_round: self.backoff_round, result: None });
    }

    /// A failure asks for a back-off, unless one was made since its request left.
    pub(super) fn want_backoff(&mut self, round: u32) {
        self.needs_backoff |= round == self.backoff_round;
    }

    pub(super) fn answered(&mut self, version: i16, rules: &Rules) {
        self.failures = 0;
        if !self.seen_answer && version >= 4 {
            self.in_flight_max = rules.in_flight_max;
        }
        self.seen_answer = true;
    }

    pub(super) fn note(&mut self, token: u64, result: Exchanged) {
        if let Some(known) = self.in_flight.iter_mut().find(|known| known.token == token) {
            known.result = Some(result);
        }
    }

    /// The oldest request, if it is over.
    pub(super) fn next_over(&mut self) -> Option<InFlight> {
        self.in_flight.front()?.result.as_ref()?;
        self.in_flight.pop_front()
    }
}
