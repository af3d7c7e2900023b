//! From the client to its leg.

use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;

use super::{Session, WATCH_AFTER};
use crate::driver::inbound::Moving;
use crate::driver::leg::Leg;
use crate::session::{ClientEvent, LegId, RequestVerdict};
use crate::transport;
use crate::wire::{self, Head, HeadLimits};

/// A leg that the client's bytes do not go to just now may have so many times `max_queued_bytes` in its queue.
const OTHER_LEGS_SHARE: usize = 64;
/// Kept pieces up to this size are copied.
const KEPT_BY_COPY_BELOW: usize = 32 * 1024;
/// Of a client id, so much is remembered for the log.
const MAX_CLIENT_ID_BYTES: usize = 128;

impl Session {
    fn may_read_client(&self) -> bool {
        // What is read whole does not go to a leg yet.
        !self.fin && !self.waiting && (self.leg_has_room() || matches!(self.from_client.moving, Moving::Read { .. }))
    }

    pub(super) fn leg_has_room(&self) -> bool {
        let max_bytes = self.environment.settings.max_queued_bytes;
        // Others' queues are bounded by what is kept, save batches that nobody answers.
        let max_bytes_of = |leg: &Leg| if leg.id == self.relaying_to { max_bytes } else { max_bytes.saturating_mul(OTHER_LEGS_SHARE) };
        self.legs.iter().all(|leg| leg.outbound.queued_bytes() < max_bytes_of(leg))
    }

    pub(super) fn poll_client_read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.closing.is_some() {
            return false;
        }
        if !self.may_read_client() {
            return self.poll_leaving(cx);
        }
        self.paused_since = None;
        self.leaving = None;
        // Asked first, so that no buffer is allocated for a read that brings nothing.
        let filled = match self.client.poll_read_ready(cx) {
            Poll::Ready(_) => self.from_client.poll_fill(cx, &mut self.client),
            Poll::Pending => Poll::Pending,
        };
        match filled {
            Poll::Pending => {
                if self.from_client.moving == Moving::Head {
                    self.from_client.release();
                }
                false
            }
            Poll::Ready(Ok(0)) => {
                self.fin = true;
                if self.from_client.moving == Moving::Head {
                    self.pump_requests();
                } else {
                    self.core.on_client(self.now, ClientEvent::Gone);
                    self.carry_out();
                }
                true
            }
            Poll::Ready(Ok(_)) => {
                self.now = Instant::now();
                self.core.on_client_bytes(self.now);
                self.pump_requests();
                true
            }
            Poll::Ready(Err(_)) => {
                self.core.on_client(self.now, ClientEvent::Gone);
                self.carry_out();
                true
            }
        }
    }

    /// Moves on what has been read from the client, as far as verdicts and room go.
    pub(super) fn pump_requests(&mut self) {
        while self.closing.is_none() && self.pump_request() {}
        self.move_decided_requests();
        let at_rest = !self.waiting && self.leg_has_room();
        let partial = self.from_client.moving == Moving::Head && !self.from_client.undecided().is_empty();
        if at_rest && self.fin {
            self.core.on_client(self.now, ClientEvent::Fin);
            self.carry_out();
        }
        self.partial_head_since = if at_rest && partial { Some(self.partial_head_since.unwrap_or(self.now)) } else { None };
    }

    /// One step. False: nothing more can be done with what is there.
    fn pump_request(&mut self) -> bool {
        match self.from_client.moving {
            Moving::Head => self.leg_has_room() && self.pump_request_head(),
            Moving::Relay { left } => {
                let left = left - self.from_client.decide(left);
                self.from_client.moving = if left == 0 { Moving::Head } else { Moving::Relay { left } };
                if left == 0 {
                    self.core.on_request_end();
                    self.carry_out();
                }
                left == 0
            }
            Moving::RelayKeep { left } => {
                let decided = self.from_client.decide(left);
                self.keep_decided += decided;
                let left = left - decided;
                self.from_client.moving = if left == 0 { Moving::Head } else { Moving::RelayKeep { left } };
                if left == 0 {
                    self.keep_the_rest();
                    let kept = std::mem::take(&mut self.kept);
                    self.core.on_request_kept(self.now, kept, &Self::surroundings(&self.environment, &self.view));
                    self.carry_out();
                }
                left == 0
            }
            Moving::Discard { left } => {
                let left = left - self.from_client.discard(left);
                self.from_client.moving = if left == 0 { Moving::Head } else { Moving::Discard { left } };
                if left == 0 {
                    self.core.on_request_end();
                    self.carry_out();
                }
                left == 0
            }
            Moving::Read { total } => {
                let Some(frame) = self.from_client.take(total) else { return false };
                self.from_client.moving = Moving::Head;
                if self.core.is_detouring() {
                    self.view = self.environment.cluster.view();
                }
                self.core.on_request_frame(self.now, frame, &Self::surroundings(&self.environment, &self.view));
                self.carry_out();
                true
            }
        }
    }

    fn pump_request_head(&mut self) -> bool {
        let limits = HeadLimits {
            max_frame_bytes: self.environment.limits.max_request_bytes,
            max_head_bytes: self.environment.limits.max_head_bytes,
        };
        let head = match wire::parse_head(self.from_client.undecided(), &limits) {
            Ok(Some(head)) => head,
            Ok(None) => return false,
            Err(error) => {
                self.core.on_bad_request(error);
                self.carry_out();
                return false;
            }
        };
        self.note_client_id(&head);
        if self.core.is_detouring() {
            self.view = self.environment.cluster.view();
        }
        let verdict = self.core.on_request_head(self.now, &head, &Self::surroundings(&self.environment, &self.view));
        if !matches!(verdict, RequestVerdict::Wait | RequestVerdict::Refuse) {
            self.environment.counting.api(head.api).requests.inc();
        }
        self.partial_head_since = None;
        let whole = head.frame_bytes as usize;
        match verdict {
            RequestVerdict::Relay(leg) => {
                self.relay_to(leg);
                self.from_client.moving = Moving::Relay { left: whole };
            }
            RequestVerdict::RelayKeep(leg) => {
                self.relay_to(leg);
                self.from_client.moving = Moving::RelayKeep { left: whole };
            }
            RequestVerdict::Read => {
                self.move_decided_requests();
                self.from_client.moving = Moving::Read { total: whole };
            }
            RequestVerdict::Discard => {
                self.move_decided_requests();
                self.from_client.moving = Moving::Discard { left: whole };
            }
            RequestVerdict::Wait => {
                self.waiting = true;
                if let Some(limit) = self.core.limit_reached() {
                    self.environment.counting.metrics.limit_hits.with_label_values(&[limit]).inc();
                }
            }
            RequestVerdict::Refuse => {}
        }
        self.carry_out();
        !matches!(verdict, RequestVerdict::Wait | RequestVerdict::Refuse)
    }

    fn note_client_id(&mut self, head: &Head) {
        let Some(span) = head.client_id.filter(|_| self.client_id.is_empty()) else { return };
        let bytes = self.from_client.undecided().get(span.start as usize..span.end as usize).unwrap_or_default();
        let shown = bytes.get(..MAX_CLIENT_ID_BYTES).unwrap_or(bytes);
        self.client_id = String::from_utf8_lossy(shown).into_owned();
    }

    fn relay_to(&mut self, leg: LegId) {
        if self.relaying_to != leg {
            self.move_decided_requests();
            self.relaying_to = leg;
        }
    }

    /// The last byte of a kept request has been decided on. A small rest is copied: split off, it would pin its read buffer, and the
    /// frames around it could not leave in one write.
    fn keep_the_rest(&mut self) {
        if self.keep_decided >= KEPT_BY_COPY_BELOW {
            self.move_decided_requests();
        } else {
            self.kept.push(Bytes::copy_from_slice(self.from_client.decided_tail(self.keep_decided)));
            self.keep_decided = 0;
        }
    }

    pub(super) fn move_decided_requests(&mut self) {
        if let Some(bytes) = self.from_client.take_decided() {
            let keep = std::mem::take(&mut self.keep_decided).min(bytes.len());
            if keep >= KEPT_BY_COPY_BELOW {
                self.kept.push(bytes.slice(bytes.len() - keep..));
            } else if let Some(tail) = bytes.get(bytes.len() - keep..) {
                self.kept.push(Bytes::copy_from_slice(tail));
            }
            self.send(self.relaying_to, bytes);
        }
    }

    pub(super) fn send(&mut self, leg: LegId, bytes: Bytes) {
        let now = self.now;
        // A leg that is gone takes with it what was on its way there; what matters of it is kept.
        if let Some(leg) = self.legs.iter_mut().find(|known| known.id == leg) {
            self.environment.counting.request_bytes.inc_by(bytes.len() as u64);
            leg.outbound.push(bytes, now);
        }
    }

    /// The client is unread; still notice that it leaves.
    fn poll_leaving(&mut self, cx: &mut Context<'_>) -> bool {
        if self.fin {
            return false;
        }
        let paused_since = *self.paused_since.get_or_insert_with(|| {
            if !self.waiting {
                self.environment.counting.metrics.limit_hits.with_label_values(&["queued_bytes"]).inc();
            }
            self.now
        });
        if self.leaving.is_none() && self.now >= paused_since + WATCH_AFTER {
            // Without a file descriptor to spare it goes unnoticed until reading resumes.
            self.leaving = Some(match transport::watch_peer_gone(&self.client) {
                Some(gone) => Box::pin(gone),
                None => Box::pin(std::future::pending()),
            });
        }
        if let Some(leaving) = &mut self.leaving
            && leaving.as_mut().poll(cx).is_ready()
        {
            self.leaving = Some(Box::pin(std::future::pending()));
            self.core.on_client(self.now, ClientEvent::Leaving);
            return true;
        }
        false
    }
}
