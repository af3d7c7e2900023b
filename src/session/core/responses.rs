//! What becomes of a response, and what its leaving sets free.

use std::time::Instant;

use bytes::Bytes;

use super::{Core, Surroundings, Waiting};
use crate::rewrite::{self, Context};
use crate::session::{Action, Answer, CloseReason, LegId, ResponseVerdict};
use crate::wire::{self, HeadError, ResponseHead};

impl Core {
    /// A response's head is there. After `Relay` the driver moves the frame and says `on_response_end`; after `Read` it says
    /// `on_response_frame`.
    pub fn on_response_head(&mut self, leg: LegId, head: &ResponseHead) -> ResponseVerdict {
        if self.closed {
            return ResponseVerdict::HoldLeg;
        }
        let expected = self.home.outstanding.front().and_then(|id| self.order.get(*id).map(|slot| (*id, *slot)));
        let Some((id, slot)) = expected.filter(|(_, slot)| leg == LegId::HOME && slot.correlation_id == head.correlation_id) else {
            return self.violation();
        };
        if head.frame_bytes > self.limits.max_response_bytes {
            return self.too_large("response_bytes");
        }
        let answer = Answer { api: slot.api, version: slot.version, sent_at: slot.sent_at };
        if rewrite::concerns(slot.api, slot.version) {
            // A small one keeps its hints, rewritten; for a large one, memory is worth more than hints.
            let is_large = head.frame_bytes > self.limits.max_parked_bytes;
            if is_large && wire::EndpointSkimmer::knows(slot.api, slot.version) && self.order.begin(id) {
                return ResponseVerdict::Skim(answer);
            }
            if head.frame_bytes > self.limits.max_rewrite_bytes {
                return self.too_large("rewrite_bytes");
            }
            return ResponseVerdict::Read(answer);
        }
        if self.order.begin(id) {
            return ResponseVerdict::Relay(answer);
        }
        let room = (self.limits.max_parked_bytes as usize).saturating_sub(self.order.parked_bytes());
        if head.frame_bytes as usize <= room {
            return ResponseVerdict::Read(answer);
        }
        self.home.held = true;
        ResponseVerdict::HoldLeg
    }

    /// The last byte of a relayed response has been moved.
    pub fn on_response_end(&mut self, now: Instant) {
        self.home.outstanding.pop_front();
        self.order.finish();
        self.after_response(now);
    }

    /// The response that was to be read whole.
    pub fn on_response_frame(&mut self, now: Instant, frame: Bytes, around: &Surroundings<'_>) -> Result<(), rewrite::RewriteError> {
        let Some(id) = self.home.outstanding.pop_front() else { return Ok(()) };
        let Some(slot) = self.order.get(id).copied() else { return Ok(()) };
        let mut frame = frame;
        if rewrite::concerns(slot.api, slot.version) {
            let target = self.home.target();
            let context = Context {
                addresses: around.addresses,
                view: around.view,
                from_node: target.and_then(|target| target.node),
                from_endpoint: target.map(|target| &target.endpoint),
                unknown_apis: around.unknown_apis,
                now,
                masks: around.masks,
            };
            match rewrite::response(slot.api, slot.version, &frame, &context) {
                Ok(rewritten) => {
                    if rewritten.frame.as_ptr() != frame.as_ptr() {
                        self.actions.push_back(Action::Rewrote(slot.api));
                    }
                    self.actions.extend(rewritten.observation.map(Action::Learn));
                    frame = rewritten.frame;
                }
                // What we cannot read we cannot vouch for: it may name a broker's real address.
                Err(error) => {
                    self.close(CloseReason::UpstreamViolation);
                    return Err(error);
                }
            }
        }
        self.order.park(id, frame);
        self.after_response(now);
        Ok(())
    }

    /// The broker's bytes are no response, or none that is let in.
    pub fn on_bad_response(&mut self, error: Option<HeadError>) {
        self.close(match error {
            Some(HeadError::FrameTooLarge { .. }) => CloseReason::ResponseTooLarge("response_bytes"),
            _ => CloseReason::UpstreamViolation,
        });
    }

    fn too_large(&mut self, limit: &'static str) -> ResponseVerdict {
        self.close(CloseReason::ResponseTooLarge(limit));
        ResponseVerdict::Violation
    }

    fn violation(&mut self) -> ResponseVerdict {
        self.close(CloseReason::UpstreamViolation);
        ResponseVerdict::Violation
    }

    fn after_response(&mut self, now: Instant) {
        self.last_activity = now;
        self.release_parked();
        if self.home.held && self.home.outstanding.front().is_some_and(|id| self.order.is_next(*id)) {
            self.home.held = false;
            self.actions.push_back(Action::ResumeLeg(LegId::HOME));
        }
        if self.waiting == Some(Waiting::Slot) && self.order.len() < self.limits.max_slots {
            self.waiting = None;
            self.actions.push_back(Action::Resume);
        }
        self.settle();
    }

    pub(super) fn release_parked(&mut self) {
        while let Some(frame) = self.order.pop_parked() {
            self.actions.push_back(Action::Respond(frame));
        }
    }
}
