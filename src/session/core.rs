//! The state machine itself: what happens on a head, a frame, a leg's event, a timeout.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::leg::{Leg, LegState};
use super::treatment::{Treatment, treatment};
use super::{
    Action, Answer, CloseReason, LegEvent, LegId, Limits, Refusal, RequestVerdict, ResponseOrder, ResponseVerdict, Slot, SlotId, Target,
};
use crate::cluster::{Endpoint, NodeId, View};
use crate::rewrite::{self, Addresses, Context, UnknownApis};
use crate::wire::{self, ApiKey, Head, HeadError, ResponseHead};

/// Which of our ports a client connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Bootstrap,
    Node(NodeId),
}

/// How long a session waits for what.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From the start to the first request's head; and for a first view, where none is there yet.
    pub handshake: Duration,
    pub idle: Duration,
    /// From a client's FIN to the last response that is owed to it.
    pub half_close: Duration,
}

/// What the core sees of the world at a call.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    pub view: &'a View,
    pub addresses: &'a dyn Addresses,
    /// Where the cluster may be found while the view lists no broker.
    pub bootstrap: &'a [Endpoint],
    pub unknown_apis: UnknownApis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// It sends no more, and all that it has sent has been looked at.
    Fin,
    /// Its FIN was noticed, with bytes before it that have not been read.
    Leaving,
    /// Its connection broke.
    Gone,
}

/// What a client says of itself in ApiVersions 3 and above (KIP-511).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSoftware {
    pub name: String,
    pub version: String,
}

#[derive(Debug)]
pub struct Core {
    limits: Arc<Limits>,
    timeouts: Timeouts,
    port: Port,
    random: u64,
    order: ResponseOrder,
    home: Leg,
    actions: VecDeque<Action>,
    /// A request whose head was taken is not moved whole yet.
    request_under_way: bool,
    /// The request that is being read whole, and its slot.
    reading: Option<(SlotId, Head)>,
    /// The client is unread until the view is there, or a slot is free.
    waiting: Option<Waiting>,
    last_activity: Instant,
    seen_request: bool,
    /// The client has logged in on its leg: another broker would not know it.
    logged_in: bool,
    leaving_since: Option<Instant>,
    fin: bool,
    draining: bool,
    closed: bool,
    software: Option<ClientSoftware>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    View { since: Instant },
    Slot,
}

impl Core {
    /// `random` decides in which order bootstrap candidates are tried.
    pub fn new(now: Instant, port: Port, limits: Arc<Limits>, timeouts: Timeouts, random: u64) -> Core {
        Core {
            limits,
            timeouts,
            port,
            random,
            order: ResponseOrder::default(),
            home: Leg::default(),
            actions: VecDeque::new(),
            request_under_way: false,
            reading: None,
            waiting: None,
            last_activity: now,
            seen_request: false,
            logged_in: false,
            leaving_since: None,
            fin: false,
            draining: false,
            closed: false,
            software: None,
        }
    }

    /// Requests that wait for their response.
    pub fn in_flight(&self) -> usize {
        self.order.len()
    }

    /// The client is unread because its slots are all taken.
    pub fn is_full(&self) -> bool {
        self.waiting == Some(Waiting::Slot)
    }

    pub fn software(&self) -> Option<&ClientSoftware> {
        self.software.as_ref()
    }

    /// The home leg's broker, while it is connected.
    pub fn home_target(&self) -> Option<&Target> {
        self.home.target()
    }

    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    // ── Requests ────────────────────────────────────────────────────────────────────────────────────────────────────────────────

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
        if treatment == Treatment::ApiVersions && head.frame_bytes > self.limits.max_parked_bytes {
            self.close(CloseReason::Refused(Refusal::Malformed("an ApiVersions request of this size")));
            return RequestVerdict::Refuse;
        }
        if treatment == Treatment::ApiVersionsTooNew {
            let id = self.push_slot(now, head, None);
            self.order.park(id, rewrite::unsupported_api_versions(head.correlation_id));
            self.release_parked();
            self.request_under_way = true;
            return RequestVerdict::Discard;
        }
        if self.home.is_down() && !self.open_home(now, around) {
            return RequestVerdict::Wait;
        }
        self.request_under_way = true;
        match treatment {
            Treatment::Unanswered => RequestVerdict::Relay(LegId::HOME),
            Treatment::ApiVersions => {
                let id = self.push_slot(now, head, Some(LegId::HOME));
                self.reading = Some((id, *head));
                RequestVerdict::Read
            }
            _ => {
                self.logged_in |= matches!(head.api, ApiKey::SASL_HANDSHAKE | ApiKey::SASL_AUTHENTICATE);
                let id = self.push_slot(now, head, Some(LegId::HOME));
                self.home.outstanding.push_back(id);
                RequestVerdict::Relay(LegId::HOME)
            }
        }
    }

    /// Bytes of the client have arrived.
    pub fn on_client_bytes(&mut self, now: Instant) {
        self.last_activity = now;
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

    fn push_slot(&mut self, now: Instant, head: &Head, leg: Option<LegId>) -> SlotId {
        self.order.push(Slot { correlation_id: head.correlation_id, api: head.api, version: head.version, leg, sent_at: now })
    }

    // ── Responses ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

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
            return self.violation();
        }
        let answer = Answer { api: slot.api, sent_at: slot.sent_at };
        if rewrite::concerns(slot.api, slot.version) {
            if head.frame_bytes > self.limits.max_rewrite_bytes {
                return self.violation();
            }
            self.home.receiving = true;
            return ResponseVerdict::Read(answer);
        }
        if self.order.begin(id) {
            self.home.receiving = true;
            return ResponseVerdict::Relay(answer);
        }
        let room = (self.limits.max_parked_bytes as usize).saturating_sub(self.order.parked_bytes());
        if head.frame_bytes as usize <= room {
            self.home.receiving = true;
            return ResponseVerdict::Read(answer);
        }
        self.home.held = true;
        ResponseVerdict::HoldLeg
    }

    /// The last byte of a relayed response has been moved.
    pub fn on_response_end(&mut self, now: Instant) {
        self.home.receiving = false;
        self.home.outstanding.pop_front();
        self.order.finish();
        self.after_response(now);
    }

    /// The response that was to be read whole.
    pub fn on_response_frame(&mut self, now: Instant, frame: Bytes, around: &Surroundings<'_>) -> Result<(), rewrite::RewriteError> {
        self.home.receiving = false;
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

    /// The broker's bytes are no response.
    pub fn on_bad_response(&mut self) {
        self.close(CloseReason::UpstreamViolation);
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

    fn release_parked(&mut self) {
        while let Some(frame) = self.order.pop_parked() {
            self.actions.push_back(Action::Respond(frame));
        }
    }

    // ── Legs and the view ───────────────────────────────────────────────────────────────────────────────────────────────────────

    /// True: requests may be queued for the home leg. False: they have to wait, or the session has been closed.
    fn open_home(&mut self, now: Instant, around: &Surroundings<'_>) -> bool {
        let targets = match self.port {
            Port::Bootstrap => self.bootstrap_targets(around),
            Port::Node(node) => match around.view.brokers.get(&node) {
                Some(broker) => vec![Target { node: Some(node), endpoint: broker.endpoint.clone() }],
                None if around.view.generation == 0 => {
                    if !matches!(self.waiting, Some(Waiting::View { .. })) {
                        self.waiting = Some(Waiting::View { since: now });
                        self.actions.push_back(Action::Refresh);
                    }
                    return false;
                }
                None => {
                    self.actions.push_back(Action::Refresh);
                    self.close(CloseReason::BrokerNotListed);
                    return false;
                }
            },
        };
        self.home.state = LegState::Opening(targets.clone());
        self.actions.push_back(Action::Open { leg: LegId::HOME, targets });
        true
    }

    /// Every listed broker in an order of chance, so that many proxies do not all choose the same; without any, the configured
    /// addresses.
    fn bootstrap_targets(&mut self, around: &Surroundings<'_>) -> Vec<Target> {
        let mut targets: Vec<Target> =
            around.view.brokers.values().map(|broker| Target { node: Some(broker.id), endpoint: broker.endpoint.clone() }).collect();
        if targets.is_empty() {
            targets.extend(around.bootstrap.iter().map(|endpoint| Target { node: None, endpoint: endpoint.clone() }));
        }
        for last in (1..targets.len()).rev() {
            self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            targets.swap(last, (self.random >> 33) as usize % (last + 1));
        }
        targets
    }

    pub fn on_leg(&mut self, leg: LegId, event: LegEvent) {
        if self.closed || leg != LegId::HOME {
            return;
        }
        match event {
            LegEvent::Opened(index) => {
                let LegState::Opening(targets) = std::mem::take(&mut self.home.state) else { return };
                match targets.into_iter().nth(index) {
                    Some(target) => self.home.state = LegState::Up(target),
                    None => self.close(CloseReason::UpstreamConnectFailed),
                }
                self.settle();
            }
            LegEvent::Failed => {
                self.actions.push_back(Action::Refresh);
                self.close(CloseReason::UpstreamConnectFailed);
            }
            LegEvent::Closed => {
                self.actions.push_back(Action::Refresh);
                self.close(CloseReason::UpstreamClosed);
            }
        }
    }

    /// There is a newer view.
    pub fn on_view(&mut self, around: &Surroundings<'_>) {
        if matches!(self.waiting, Some(Waiting::View { .. })) && around.view.generation > 0 {
            self.waiting = None;
            self.actions.push_back(Action::Resume);
        }
        self.follow_broker(around);
        self.settle();
    }

    /// The port's broker lives elsewhere now: the next request opens a leg to its new place, unless something is unresolved.
    fn follow_broker(&mut self, around: &Surroundings<'_>) {
        let (Port::Node(node), Some(target)) = (self.port, self.home.target()) else { return };
        let moved = around.view.brokers.get(&node).is_some_and(|broker| broker.endpoint != target.endpoint);
        if !moved || self.closed || self.request_under_way || !self.order.is_empty() {
            return;
        }
        if self.logged_in {
            self.close(CloseReason::BrokerMoved);
        } else {
            self.home = Leg::default();
            self.actions.push_back(Action::CloseLeg(LegId::HOME));
        }
    }

    // ── The client's end, draining, time ────────────────────────────────────────────────────────────────────────────────────────

    pub fn on_client(&mut self, now: Instant, event: ClientEvent) {
        match event {
            ClientEvent::Gone => self.close(CloseReason::ClientGone),
            ClientEvent::Leaving => {
                self.leaving_since.get_or_insert(now);
            }
            ClientEvent::Fin => {
                self.leaving_since.get_or_insert(now);
                self.fin = true;
                self.settle();
            }
        }
    }

    /// No new requests; close once those in flight are answered.
    pub fn on_drain(&mut self) {
        self.draining = true;
        self.settle();
    }

    /// Whether something ends here because nothing is left to do.
    fn settle(&mut self) {
        if self.closed || self.request_under_way || !self.order.is_empty() || matches!(self.home.state, LegState::Opening(_)) {
            return;
        }
        if self.fin {
            self.close(CloseReason::ClientClosed);
        } else if self.draining {
            self.close(CloseReason::Drained);
        }
    }

    pub fn on_timeout(&mut self, now: Instant) {
        if let Some((deadline, reason)) = self.deadline()
            && now >= deadline
        {
            self.close(reason);
        }
    }

    /// When `on_timeout` is due. May move with every call, earlier as well as later.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.deadline().map(|(deadline, _)| deadline)
    }

    fn deadline(&self) -> Option<(Instant, CloseReason)> {
        if self.closed {
            return None;
        }
        if let Some(since) = self.leaving_since {
            return Some((since + self.timeouts.half_close, CloseReason::HalfCloseTimeout));
        }
        if let Some(Waiting::View { since }) = self.waiting {
            return Some((since + self.timeouts.handshake, CloseReason::NoView));
        }
        if !self.seen_request || self.reading.is_some() {
            return Some((self.last_activity + self.timeouts.handshake, CloseReason::HandshakeTimeout));
        }
        self.order.is_empty().then(|| (self.last_activity + self.timeouts.idle, CloseReason::Idle))
    }

    fn close(&mut self, reason: CloseReason) {
        if !self.closed {
            self.closed = true;
            self.actions.push_back(Action::Close(reason));
        }
    }
}
