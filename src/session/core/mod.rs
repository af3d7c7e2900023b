//! The state machine itself: its state, the client's end, draining, and time. What happens on requests, responses and legs has a file
//! of its own each; so has each step of the slow path (`opening`, `routing`, `failures`, `results`, `answering`).

mod answering;
mod clock;
mod failures;
mod home;
mod joining;
mod legs;
mod metadata;
mod opening;
mod requests;
mod responses;
mod results;
mod routing;
mod slow;
mod transactions;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gate::TopicKey;
use super::leg::{Leg, LegState};
use super::request::Request;
use super::{Action, CloseReason, Detours, Gate, LegId, Limits, Member, Note, ResponseOrder, SlotId, Target};
use crate::cluster::{Endpoint, NodeId, View, Want};
use crate::rewrite::{Addresses, Masks, UnknownApis};
use crate::wire::Head;

/// Which of our ports a client connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Bootstrap,
    Node(NodeId),
}

/// How long a session waits for what.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From the start to the first request's head; half of it for a first view, where none is there yet.
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
    pub masks: Masks,
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
    detours: Arc<Detours>,
    gate: Arc<Gate>,
    member: Member,
    port: Port,
    random: u64,
    order: ResponseOrder,
    home: Leg,
    /// The slow path's legs, one per broker. Never the home leg, and never another session's.
    legs: Vec<Leg>,
    next_leg: u32,
    actions: VecDeque<Action>,
    /// Requests that may have to be sent again, by arrival.
    requests: VecDeque<Request>,
    kept_bytes: usize,
    /// A request whose head was taken is not moved whole yet.
    request_under_way: bool,
    /// It is being relayed, so that nothing else may go to that leg before its end.
    relaying_to: Option<LegId>,
    /// The arrival number of the request that is being relayed and kept.
    keeping: Option<u64>,
    /// The request that is being read whole.
    reading: Option<Reading>,
    /// The client is unread until something is there.
    waiting: Option<Waiting>,
    last_activity: Instant,
    seen_request: bool,
    /// The client has logged in on its leg: another broker would not know it.
    logged_in: bool,
    /// The view has changed, and since then the home leg was not found to be where its broker is.
    may_have_moved: bool,
    /// The first view has been waited for long enough: the bootstrap addresses have to do.
    without_view: bool,
    /// The home broker closed, refused or fell silent, and has not shown since that it is well.
    distrust: bool,
    /// A rehearsal has it treated as departed, however well it is.
    shunned: bool,
    /// Where the view had the home broker last, to tell when it returns.
    home_endpoint: Option<Endpoint>,
    /// The slow path is taken until then, and as long as something on it is open.
    slow_until: Option<Instant>,
    /// When a step of the slow path is due.
    slow_due: Option<Instant>,
    /// Brokers that could not be connected to.
    unreachable: HashMap<NodeId, Unreachable>,
    /// Brokers that closed a leg with `acks=0` bytes on it, which may be all that they say to a batch that is not for them.
    /// The number of the refresh that will tell: the first that asks for a partition of theirs.
    doubted: HashMap<NodeId, Option<u64>>,
    /// How often legs were lost with such bytes on them.
    doubts: u32,
    /// When requests that any broker may answer are tried again, after nobody could be reached.
    stranded_until: Option<Instant>,
    home_failures: u32,
    /// Partitions whose detour ended unsettled, and the leader and epoch of that time: until the view changes their errors pass.
    given_up: HashMap<(TopicKey, i32), Option<(NodeId, i32)>>,
    /// What is to be asked for next: one refresh per topic, so that none waits for another's, with its number.
    wants: Vec<(Option<TopicKey>, u64, Vec<Want>)>,
    next_token: u64,
    /// Metadata answers that name a leader under suspicion.
    held_metadata: VecDeque<metadata::Held>,
    /// EndTxn or InitProducerId that waits for the producer's batches, and its bytes.
    held_ending: Option<transactions::HeldEnding>,
    leaving_since: Option<Instant>,
    fin: bool,
    draining: bool,
    closed: bool,
    software: Option<ClientSoftware>,
}

/// What is being read whole, and what for.
#[derive(Debug)]
enum Reading {
    ApiVersions(SlotId, Head),
    Produce { number: u64, slot: Option<SlotId>, head: Head, arrived_at: Instant, reserved_bytes: usize },
    EndsTransaction(SlotId, Head),
}

#[derive(Debug)]
struct Unreachable {
    failures: u32,
    not_before: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    View {
        since: Instant,
    },
    Slot,
    /// The home leg leads to a stand-in, has something unresolved, and the request can only be answered by the home broker.
    Home,
    /// Kept frames have taken all the room that there is.
    Room {
        until: Instant,
    },
    /// A transaction's end waits for its batches.
    Ending,
}

/// While kept frames take all the room, look again after this time.
const ROOM_INTERVAL: Duration = Duration::from_millis(50);

impl Core {
    /// `random` decides in which order bootstrap candidates are tried, and spreads back-offs.
    pub fn new(
        now: Instant,
        port: Port,
        limits: Arc<Limits>,
        timeouts: Timeouts,
        detours: Arc<Detours>,
        gate: Arc<Gate>,
        random: u64,
    ) -> Core {
        let member = gate.join();
        Core {
            limits,
            timeouts,
            detours,
            member,
            port,
            random,
            order: ResponseOrder::default(),
            home: Leg::down(LegId::HOME, gate.place(), now),
            gate,
            legs: Vec::new(),
            next_leg: 1,
            actions: VecDeque::new(),
            requests: VecDeque::new(),
            kept_bytes: 0,
            request_under_way: false,
            relaying_to: None,
            keeping: None,
            reading: None,
            waiting: None,
            last_activity: now,
            seen_request: false,
            logged_in: false,
            may_have_moved: false,
            without_view: false,
            distrust: false,
            shunned: false,
            home_endpoint: None,
            slow_until: None,
            slow_due: None,
            unreachable: HashMap::new(),
            doubted: HashMap::new(),
            doubts: 0,
            stranded_until: None,
            home_failures: 0,
            given_up: HashMap::new(),
            wants: Vec::new(),
            next_token: 1,
            held_metadata: VecDeque::new(),
            held_ending: None,
            leaving_since: None,
            fin: false,
            draining: false,
            closed: false,
            software: None,
        }
    }

    /// By which the gate wakes it.
    pub fn member(&self) -> Member {
        self.member
    }

    /// Requests that wait for their response.
    pub fn in_flight(&self) -> usize {
        self.order.len()
    }

    /// The limit for whose sake the client is unread, by its name in the configuration.
    pub fn limit_reached(&self) -> Option<&'static str> {
        match self.waiting {
            Some(Waiting::Slot) => Some("slots_per_session"),
            Some(Waiting::Room { .. }) => Some("kept_bytes"),
            _ => None,
        }
    }

    /// Something of the slow path is open, or was a little while ago: every change of the view matters.
    pub fn is_detouring(&self) -> bool {
        self.slow_due.is_some() || self.held_ending.is_some()
    }

    #[cfg(test)]
    pub fn home_leg(&self) -> super::LegId {
        self.home.id
    }

    pub fn software(&self) -> Option<&ClientSoftware> {
        self.software.as_ref()
    }

    /// A leg's broker, while it is connected.
    pub fn target_of(&self, leg: LegId) -> Option<&Target> {
        self.leg(leg).and_then(Leg::target)
    }

    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn has_actions(&self) -> bool {
        !self.actions.is_empty()
    }

    // The client's end, draining.

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
        let is_opening = |leg: &Leg| matches!(leg.state, LegState::Opening(_)) && leg.given_bytes > 0;
        let busy = self.request_under_way || !self.order.is_empty() || self.has_opened();
        if self.closed || busy || is_opening(&self.home) || self.legs.iter().any(is_opening) {
            return;
        }
        if self.fin {
            self.close(CloseReason::ClientClosed);
        } else if self.draining {
            self.close(CloseReason::Drained);
        }
    }

    fn close(&mut self, reason: CloseReason) {
        if !self.closed {
            self.closed = true;
            self.forget_requests();
            self.actions.push_back(Action::Close(reason));
        }
    }

    fn note(&mut self, note: Note) {
        self.actions.push_back(Action::Note(note));
    }

    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.random >> 33
    }
}

impl Drop for Core {
    /// A session that is dropped with its task, at the end of the process's patience, must not leave others waiting for its tickets.
    fn drop(&mut self) {
        self.forget_requests();
    }
}
