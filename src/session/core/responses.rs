//! What becomes of a response, and what its leaving sets free.

use std::time::Instant;

use bytes::Bytes;

use super::{Core, Surroundings, Waiting};
use crate::rewrite::{self, Context, RewriteError, Rewritten};
use crate::session::leg::Outstanding;
use crate::session::request::Body;
use crate::session::{Action, Answer, CloseReason, LegId, Note, ResponseVerdict, SlotId};
use crate::wire::{self, ApiKey, HeadError, ResponseHead};

impl Core {
    /// A response's head is there. After `Relay` the driver moves the frame and says `on_response_end`; after `Read` it says
    /// `on_response_frame`.
    pub fn on_response_head(&mut self, leg: LegId, head: &ResponseHead) -> ResponseVerdict {
        if self.closed {
            return ResponseVerdict::HoldLeg;
        }
        let is_home = leg == self.home.id;
        let expected = self.leg(leg).and_then(|leg| leg.outstanding.front());
        let Some(Outstanding { number, slot: id, api, version, sent_at, .. }) =
            expected.filter(|expected| expected.correlation_id == head.correlation_id)
        else {
            return self.violation();
        };
        let (number, id, api, version) = (*number, *id, *api, *version);
        let answer = Answer { api, version, sent_at: *sent_at };
        if head.frame_bytes > self.limits.max_response_bytes {
            return self.too_large("response_bytes");
        }
        if let Some(leg) = self.leg_mut(leg) {
            leg.suspected_at = None;
        }
        // What is kept may have to be asked again, which a response that has begun to leave would not allow.
        let is_kept = number != 0;
        if rewrite::concerns(api, version) || is_kept || !is_home {
            // A small one keeps its hints, rewritten; for a large one, memory is worth more than hints.
            let is_large = head.frame_bytes > self.limits.max_parked_bytes;
            let may_skim = is_large && is_home && !is_kept && wire::EndpointSkimmer::knows(api, version);
            if may_skim && self.order.begin(id) {
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
    pub fn on_response_end(&mut self, now: Instant, around: &Surroundings<'_>) {
        if let Some(answered) = self.home.outstanding.pop_front() {
            self.forget(answered.number);
        }
        self.order.finish();
        self.after_response(now, around);
        self.fill_window(now, around);
        self.settle();
    }

    /// The response that was to be read whole.
    pub fn on_response_frame(&mut self, now: Instant, leg: LegId, frame: Bytes, around: &Surroundings<'_>) -> Result<(), RewriteError> {
        let Some(answered) = self.leg_mut(leg).and_then(|leg| leg.outstanding.pop_front()) else { return Ok(()) };
        let result = match answered.api {
            ApiKey::PRODUCE if answered.number != 0 => self.on_produced(now, leg, &answered, frame, around),
            _ => self.on_other_frame(now, &answered, frame, around),
        };
        if result.is_err() {
            // What we cannot read we cannot vouch for: it may name a broker's real address.
            self.close(CloseReason::UpstreamViolation);
        }
        self.after_response(now, around);
        if answered.api != ApiKey::PRODUCE {
            self.fill_window(now, around);
        }
        self.settle();
        result
    }

    /// A response has made room for what waits on the slow path.
    fn fill_window(&mut self, now: Instant, around: &Surroundings<'_>) {
        if self.slow_until.is_some() {
            self.go_on(now, around);
        }
    }

    fn on_other_frame(
        &mut self,
        now: Instant,
        answered: &Outstanding,
        frame: Bytes,
        around: &Surroundings<'_>,
    ) -> Result<(), RewriteError> {
        if answered.api == ApiKey::METADATA && self.hold_metadata(now, answered, &frame, around) {
            return Ok(());
        }
        let frame = if rewrite::concerns(answered.api, answered.version) {
            self.rewritten(now, answered.api, answered.version, frame, around)?
        } else {
            frame
        };
        self.forget(answered.number);
        self.order.park(answered.slot, frame);
        Ok(())
    }

    /// As the client may see it; what it says is learned.
    pub(super) fn rewritten(
        &mut self,
        now: Instant,
        api: ApiKey,
        version: i16,
        frame: Bytes,
        around: &Surroundings<'_>,
    ) -> Result<Bytes, RewriteError> {
        let Rewritten { frame: rewritten, observation, masked } = rewrite::response(api, version, &frame, &self.context(now, around))?;
        if rewritten.as_ptr() != frame.as_ptr() {
            self.actions.push_back(Action::Rewrote(api));
        }
        if !masked.is_empty() {
            self.note(Note::Masked(masked));
        }
        self.actions.extend(observation.map(Action::Learn));
        Ok(rewritten)
    }

    pub(super) fn context<'a>(&'a self, now: Instant, around: &Surroundings<'a>) -> Context<'a> {
        let target = self.home.target();
        Context {
            addresses: around.addresses,
            view: around.view,
            from_node: target.and_then(|target| target.node),
            from_endpoint: target.map(|target| &target.endpoint),
            unknown_apis: around.unknown_apis,
            now,
            masks: around.masks,
        }
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

    pub(super) fn after_response(&mut self, now: Instant, around: &Surroundings<'_>) {
        self.last_activity = now;
        self.release_parked();
        if !self.held_metadata.is_empty() && self.order.has_parked() {
            // Something behind it is ready: it does not hold that up.
            self.release_metadata(now, around, true);
        }
        if self.home.held && self.home.outstanding.front().is_some_and(|next| self.order.is_next(next.slot)) {
            self.home.held = false;
            self.actions.push_back(Action::ResumeLeg(self.home.id));
        }
        let resumes = match self.waiting {
            Some(Waiting::Slot) => self.order.len() < self.limits.max_slots,
            Some(Waiting::Home) => self.home.outstanding.is_empty(),
            Some(Waiting::Room { .. }) => true,
            _ => false,
        };
        if resumes {
            self.resume();
        }
    }

    pub(super) fn release_parked(&mut self) {
        while let Some(frame) = self.order.pop_parked() {
            self.actions.push_back(Action::Respond(frame));
        }
    }

    /// Parks a response of our own making, or of a detour.
    pub(super) fn answer(&mut self, now: Instant, slot: SlotId, frame: Bytes, around: &Surroundings<'_>) {
        self.order.park(slot, frame);
        self.after_response(now, around);
    }

    /// The request is answered, and will not be sent again.
    pub(super) fn forget(&mut self, number: u64) {
        if number == 0 {
            return;
        }
        let Some(at) = self.request_at(number) else { return };
        if let Some(request) = self.requests.remove(at) {
            debug_assert!(!matches!(request.body, Body::Opened(_)), "its tickets are settled first");
            self.kept_bytes -= request.reserved_bytes;
            #[cfg(test)]
            if crate::session::mutation::is_on(crate::session::mutation::Mutation::LeakKeptBytes) {
                return;
            }
            self.gate.give_back(request.reserved_bytes);
        }
    }
}
