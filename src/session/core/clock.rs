//! What is due when.

use std::time::Instant;

use super::{Core, ROOM_INTERVAL, Surroundings, Waiting};
use crate::session::{Action, CloseReason};

impl Core {
    pub fn on_timeout(&mut self, now: Instant, around: &Surroundings<'_>) {
        if let Some((deadline, reason)) = self.deadline()
            && now >= deadline
        {
            if reason == CloseReason::NoView && !self.without_view {
                self.without_view = true;
                self.resume();
            } else {
                self.close(reason);
            }
        }
        if let Some(Waiting::Room { until }) = self.waiting
            && now >= until
        {
            self.resume();
        }
        if !self.closed && self.suspect_due().is_some_and(|due| now >= due) {
            self.suspect_silent_legs(now, around);
        }
        if !self.closed && self.slow_due.is_some_and(|due| now >= due) {
            self.go_on(now, around);
        }
        self.settle();
    }

    /// When `on_timeout` is due. May move with every call, earlier as well as later.
    pub fn next_timeout(&self) -> Option<Instant> {
        let deadline = self.deadline().map(|(deadline, _)| deadline);
        let room = match self.waiting {
            Some(Waiting::Room { until }) => Some(until),
            _ => None,
        };
        [deadline, room, self.slow_due, self.suspect_due()].into_iter().flatten().min()
    }

    fn deadline(&self) -> Option<(Instant, CloseReason)> {
        if self.closed {
            return None;
        }
        if let Some(since) = self.leaving_since {
            return Some((since + self.timeouts.half_close, CloseReason::HalfCloseTimeout));
        }
        if let Some(Waiting::View { since }) = self.waiting {
            return Some((since + self.timeouts.handshake / 2, CloseReason::NoView));
        }
        if !self.seen_request || self.reading.is_some() {
            return Some((self.last_activity + self.timeouts.handshake, CloseReason::HandshakeTimeout));
        }
        (self.order.is_empty() && !self.has_opened()).then(|| (self.last_activity + self.timeouts.idle, CloseReason::Idle))
    }

    /// The client is read again, and what it waited with is asked again.
    pub(super) fn resume(&mut self) {
        if self.waiting.take().is_some() {
            self.actions.push_back(Action::Resume);
        }
    }

    pub(super) fn wait_for_room(&mut self, now: Instant) {
        self.waiting = Some(Waiting::Room { until: now + ROOM_INTERVAL });
    }
}
