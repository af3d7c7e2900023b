//! What becomes of a request.

use std::time::Instant;

use bytes::Bytes;

use super::{ClientSoftware, Core, Surroundings, Waiting};
use crate::rewrite;
use crate::session::treatment::{Treatment, treatment};
use crate::session::{Action, CloseReason, LegId, Refusal, RequestVerdict, Slot, SlotId};
use crate::wire::{self, ApiKey, Head, HeadError};

/// ApiVersions is read whole; real ones have less than 200 bytes.
const API_VERSIONS_REQUEST_MAX_BYTES: u32 = 64 * 1024;

impl Core {
    /// A request's head is there. After `Relay` and `Discard` the driver moves the frame and says `on_request_end`; after `Read` it
    /// says `on_request_frame`.
    pub fn on_request_head(&mut self, now: Instant, head: &Head, around: &Surroundings<'_>) -> RequestVerdict {
        if self.closed || self.draining {
            return RequestVerdict::Wait;
        }
        self.last_activity = now;
        self.seen_request = true;
        let treatment = treatment(head, around.unknown_apis);
        if let Treatment::Refuse(refusal) = treatment {
            self.close(CloseReason::Refused(refusal));
            return RequestVerdict::Refuse;
        }
        if self.order.len() >= self.limits.max_slots {
            self.waiting = Some(Waiting::Slot);
            return RequestVerdict::Wait;
        }
        if treatment == Treatment::ApiVersions && head.frame_bytes > API_VERSIONS_REQUEST_MAX_BYTES {
            self.close(CloseReason::Refused(Refusal::Malformed("an ApiVersions request of this size")));
            return RequestVerdict::Refuse;
        }
        if treatment == Treatment::ApiVersionsTooNew {
            let id = self.push_slot(now, head);
            self.order.park(id, rewrite::unsupported_api_versions(head.correlation_id));
            self.release_parked();
            self.request_under_way = true;
            return RequestVerdict::Discard;
        }
        // What was unresolved when the view changed may be resolved by now.
        if self.may_have_moved {
            self.follow_broker(around);
            if self.closed {
                return RequestVerdict::Wait;
            }
        }
        if self.home.is_down() && !self.open_home(now, around) {
            return RequestVerdict::Wait;
        }
        self.request_under_way = true;
        match treatment {
            Treatment::Unanswered => RequestVerdict::Relay(LegId::HOME),
            Treatment::ApiVersions => {
                let id = self.push_slot(now, head);
                self.reading = Some((id, *head));
                RequestVerdict::Read
            }
            _ => {
                self.logged_in |= matches!(head.api, ApiKey::SASL_HANDSHAKE | ApiKey::SASL_AUTHENTICATE);
                let id = self.push_slot(now, head);
                self.home.outstanding.push_back(id);
                RequestVerdict::Relay(LegId::HOME)
            }
        }
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
        self.settle();
    }

    /// The request that was to be read whole. Its first bytes are those that the head was parsed from.
    pub fn on_request_frame(&mut self, frame: Bytes) {
        self.request_under_way = false;
        let Some((id, head)) = self.reading.take() else { return };
        if head.version >= 3 {
            // A broker answers what does not parse by closing; we leave that judgement to it, and only fail to learn a name.
            if let Ok(Some(said)) = wire::api_versions::ClientSoftware::parse(&frame, &head) {
                self.software = Some(ClientSoftware {
                    name: String::from_utf8_lossy(said.name).into_owned(),
                    version: String::from_utf8_lossy(said.version).into_owned(),
                });
            }
        }
        self.home.outstanding.push_back(id);
        self.actions.push_back(Action::Send { leg: LegId::HOME, frame });
        self.settle();
    }

    fn push_slot(&mut self, now: Instant, head: &Head) -> SlotId {
        self.order.push(Slot { correlation_id: head.correlation_id, api: head.api, version: head.version, sent_at: now })
    }
}
