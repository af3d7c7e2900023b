//! The state machine itself: its state, the client's end, draining, and time. What happens on requests, responses and legs has a file
//! of its own each.

mod legs;
mod requests;
mod responses;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::leg::{Leg, LegState};
use super::{Action, CloseReason, Limits, ResponseOrder, SlotId, Target};
use crate::cluster::{Endpoint, NodeId, View};
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
    /// The view has changed, and since then the home leg was not found to be where its broker is.
    may_have_moved: bool,
    /// The first view has been waited for long enough: the bootstrap addresses have to do.
    without_view: bool,
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
            may_have_moved: false,
            without_view: false,
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

    // The client's end, draining, time.

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
            if reason == CloseReason::NoView && !self.without_view {
                self.without_view = true;
                self.waiting = None;
                self.actions.push_back(Action::Resume);
            } else {
                self.close(reason);
            }
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
            return Some((since + self.timeouts.handshake / 2, CloseReason::NoView));
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
