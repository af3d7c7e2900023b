//! What becomes of a request.

use std::time::Instant;

use bytes::Bytes;

use super::home::Home;
use super::{ClientSoftware, Core, Port, Reading, Surroundings, Waiting};
use crate::rewrite;
use crate::session::request::{Body, Request};
use crate::session::treatment::{Reach, Treatment, is_work, reach, treatment};
use crate::session::{Action, CloseReason, Kept, Note, Refusal, RequestVerdict, Slot, SlotId};
use crate::wire::{self, ApiKey, Head, HeadError};

/// ApiVersions is read whole; real ones have less than 200 bytes.
const API_VERSIONS_REQUEST_MAX_BYTES: u32 = 64 * 1024;
/// EndTxn and InitProducerId, where they are read: two ids and some numbers.
const TRANSACTION_REQUEST_MAX_BYTES: u32 = 128 * 1024;

impl Core {
    /// A request's head is there. After `Relay` and `Discard` the driver moves the frame and says `on_request_end`; after `RelayKeep`
    /// it says `on_request_kept`, after `Read` `on_request_frame`.
    pub fn on_request_head(&mut self, now: Instant, head: &Head, around: &Surroundings<'_>) -> RequestVerdict {
        if self.closed || self.draining {
            return RequestVerdict::Wait;
        }
        self.last_activity = now;
        self.seen_request = true;
        let treatment = treatment(head, around.unknown_apis);
        if let Treatment::Refuse(refusal) = treatment {
            return self.refuse_client(refusal);
        }
        if self.order.len() >= self.limits.max_slots {
            self.waiting = Some(Waiting::Slot);
            return RequestVerdict::Wait;
        }
        if self.held_ending.is_some() {
            self.waiting = Some(Waiting::Ending);
            return RequestVerdict::Wait;
        }
        if treatment == Treatment::ApiVersions && head.frame_bytes > API_VERSIONS_REQUEST_MAX_BYTES {
            return self.refuse_client(Refusal::Malformed("an ApiVersions request of this size"));
        }
        if treatment == Treatment::ApiVersionsTooNew {
            let id = self.push_slot(now, head);
            self.order.park(id, rewrite::unsupported_api_versions(head.correlation_id));
            self.release_parked();
            self.request_under_way = true;
            return RequestVerdict::Discard;
        }
        self.tell_of_use(head.api, around);
        // What was unresolved when the view changed may be resolved by now.
        if self.may_have_moved {
            self.follow_broker(now, around);
            if self.closed {
                return RequestVerdict::Wait;
            }
        }
        if matches!(treatment, Treatment::Produce | Treatment::Unanswered) && self.must_look_into_produce(now, around) {
            return self.read_produce(now, head, around);
        }
        match self.home_for(now, reach(head.api), around) {
            Home::Ready => {}
            Home::Wait | Home::Closed => return RequestVerdict::Wait,
        }
        self.request_under_way = true;
        match treatment {
            Treatment::Unanswered => {
                self.home.given_bytes += u64::from(head.frame_bytes);
                self.home.has_unanswered = true;
                self.relay()
            }
            Treatment::ApiVersions => {
                let id = self.push_slot(now, head);
                self.reading = Some(Reading::ApiVersions(id, *head));
                RequestVerdict::Read
            }
            Treatment::EndsTransaction if self.gate.is_moving() && head.frame_bytes <= TRANSACTION_REQUEST_MAX_BYTES => {
                let id = self.push_slot(now, head);
                self.reading = Some(Reading::EndsTransaction(id, *head));
                RequestVerdict::Read
            }
            Treatment::Produce | Treatment::Anywhere => self.relay_and_keep(now, head),
            _ => {
                self.logged_in |= matches!(head.api, ApiKey::SASL_HANDSHAKE | ApiKey::SASL_AUTHENTICATE);
                let id = self.push_slot(now, head);
                self.put_on_leg(now, self.home.id, (0, id, head), head.frame_bytes as usize, None);
                self.relay()
            }
        }
    }

    /// A departed broker that clients send their work to must not be unlisted.
    #[inline]
    fn tell_of_use(&mut self, api: ApiKey, around: &Surroundings<'_>) {
        if let Port::Node(node) = self.port
            && !around.view.departed.is_empty()
            && around.view.is_departed(node)
            && is_work(api)
        {
            self.actions.push_back(Action::DepartedUsed(node));
        }
    }

    fn refuse_client(&mut self, refusal: Refusal) -> RequestVerdict {
        self.close(CloseReason::Refused(refusal));
        RequestVerdict::Refuse
    }

    fn relay(&mut self) -> RequestVerdict {
        self.relaying_to = Some(self.home.id);
        RequestVerdict::Relay(self.home.id)
    }

    fn relay_and_keep(&mut self, now: Instant, head: &Head) -> RequestVerdict {
        let slot = self.push_slot(now, head);
        let bytes = head.frame_bytes as usize;
        if self.kept_bytes + bytes > self.limits.max_kept_bytes || !self.gate.reserve(bytes) {
            // It passes all the same; only, if its leg is lost, so is its client.
            self.note(Note::BudgetRefused);
            self.put_on_leg(now, self.home.id, (0, slot, head), bytes, None);
            return self.relay();
        }
        self.keeping = Some(self.keep_on_home(now, slot, head, bytes, None));
        self.relay();
        RequestVerdict::RelayKeep(self.home.id)
    }

    /// A request goes to the home leg whole, and is kept in the room that has been reserved for it. Returns its arrival number.
    fn keep_on_home(&mut self, now: Instant, slot: SlotId, head: &Head, bytes: usize, frame: Option<Kept>) -> u64 {
        self.kept_bytes += bytes;
        let number = self.gate.number();
        let body = Body::Whole { head: *head, frame, resent: 0, stranded: false };
        self.requests.push_back(Request { number, slot: Some(slot), arrived_at: now, reserved_bytes: bytes, body });
        self.put_on_leg(now, self.home.id, (number, slot, head), bytes, None);
        number
    }

    /// The slow path: a produce request is read whole.
    fn read_produce(&mut self, now: Instant, head: &Head, around: &Surroundings<'_>) -> RequestVerdict {
        if around.view.generation == 0 && self.home_for(now, Reach::Any, around) != Home::Ready {
            return RequestVerdict::Wait;
        }
        let bytes = head.frame_bytes as usize;
        if self.kept_bytes > 0 && self.kept_bytes + bytes > self.limits.max_kept_bytes || !self.gate.reserve(bytes) {
            if self.kept_bytes > 0 {
                self.note(Note::BudgetRefused);
                self.wait_for_room(now);
                return RequestVerdict::Wait;
            }
            // One is let in whatever its size and whatever others hold: it has nowhere else to go.
            self.gate.reserve_anyway(bytes);
        }
        self.kept_bytes += bytes;
        self.request_under_way = true;
        let is_answered = head.produce.is_none_or(|produce| produce.acks != 0);
        let slot = is_answered.then(|| self.push_slot(now, head));
        let number = self.gate.number();
        self.reading = Some(Reading::Produce { number, slot, head: *head, arrived_at: now, reserved_bytes: bytes });
        RequestVerdict::Read
    }

    /// Bytes of the client have arrived.
    pub fn on_client_bytes(&mut self, now: Instant) {
        self.last_activity = now;
        // What it sent before it left still moves: the time for that begins anew.
        self.leaving_since = None;
    }

    /// The client's bytes are no request.
    pub fn on_bad_request(&mut self, error: HeadError) {
        self.close(CloseReason::Refused(Refusal::Head(error)));
    }

    /// A request's head has begun and does not get whole.
    pub fn on_stuck_request(&mut self) {
        self.close(CloseReason::HandshakeTimeout);
    }

    /// The last byte of a relayed or discarded request has been moved.
    pub fn on_request_end(&mut self) {
        self.request_under_way = false;
        self.relaying_to = None;
        self.settle();
    }

    /// The same, after `RelayKeep`.
    pub fn on_request_kept(&mut self, now: Instant, kept: Kept, around: &Surroundings<'_>) {
        self.request_under_way = false;
        self.relaying_to = None;
        #[cfg(test)]
        let kept = if crate::session::mutation::is_on(crate::session::mutation::Mutation::KeepTooLittle) {
            kept.without_first_piece()
        } else {
            kept
        };
        if let Some(request) = self.keeping.take().and_then(|number| self.request_mut(number)) {
            let number = request.number;
            if let Body::Whole { frame, .. } = &mut request.body {
                *frame = Some(kept);
            }
            // Its leg was lost while it came.
            let is_lost = self.home.outstanding.back().is_none_or(|last| last.number != number);
            if is_lost {
                self.go_elsewhere(now, number, false, around);
                self.go_on(now, around);
            } else if self.slow_due.is_some() {
                // What comes behind it has to know that it is there.
                self.open_all(around);
            }
        }
        self.settle();
    }

    /// The request that was to be read whole. Its first bytes are those that the head was parsed from.
    pub fn on_request_frame(&mut self, now: Instant, frame: Bytes, around: &Surroundings<'_>) {
        self.request_under_way = false;
        match self.reading.take() {
            None => {}
            Some(Reading::ApiVersions(slot, head)) => {
                self.learn_software(&frame, &head);
                self.send_whole(now, slot, &head, frame, around);
            }
            Some(Reading::Produce { number, slot, head, arrived_at, reserved_bytes }) => {
                let body = Body::Whole { head, frame: Some(frame.into()), resent: 0, stranded: false };
                // What went the fast way before it has to be in line before it: the slow path may begin with another session's batch.
                self.open_all(around);
                self.requests.push_back(Request { number, slot, arrived_at, reserved_bytes, body });
                if self.open_request(number, None, around) {
                    self.go_on(now, around);
                } else {
                    // A broker would close on it as well.
                    self.close(CloseReason::Refused(Refusal::Malformed("a Produce request")));
                }
            }
            Some(Reading::EndsTransaction(slot, head)) => self.end_transaction(now, slot, head, frame, around),
        }
        self.settle();
    }

    /// A frame that was read goes to the home leg after all, and is kept.
    pub(super) fn send_whole(&mut self, now: Instant, slot: SlotId, head: &Head, frame: Bytes, around: &Surroundings<'_>) {
        if self.home_for(now, reach(head.api), around) != Home::Ready {
            // It was ready when the head came: what happened since closes the client.
            return self.close(CloseReason::UpstreamClosed);
        }
        let bytes = frame.len();
        self.gate.reserve_anyway(bytes);
        self.keep_on_home(now, slot, head, bytes, Some(frame.clone().into()));
        self.send(self.home.id, frame);
    }

    fn learn_software(&mut self, frame: &Bytes, head: &Head) {
        if head.version < 3 {
            return;
        }
        // A broker answers what does not parse by closing; we leave that judgement to it, and only fail to learn a name.
        if let Ok(Some(said)) = wire::api_versions::ClientSoftware::parse(frame, head) {
            self.software = Some(ClientSoftware {
                name: String::from_utf8_lossy(said.name).into_owned(),
                version: String::from_utf8_lossy(said.version).into_owned(),
            });
        }
    }

    pub(super) fn push_slot(&mut self, now: Instant, head: &Head) -> SlotId {
        self.order.push(Slot { correlation_id: head.correlation_id, api: head.api, version: head.version, sent_at: now })
    }
}
