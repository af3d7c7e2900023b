//! One departure, as it is told.
//!
//! Invariant: its timeline has each kind of event once, the first time that it was met. Deliberately absent: how it comes about.

use std::time::{Duration, Instant};

use super::Toll;
use crate::cluster::NodeId;
use crate::session::DepartureSign;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub node: NodeId,
    /// The first sign.
    pub reason: DepartureSign,
    /// The operator had it rehearsed: the broker itself was well.
    pub is_rehearsal: bool,
    pub began: Instant,
    pub state: State,
    /// In order.
    pub timeline: Vec<(Instant, Event)>,
    pub toll: Toll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It may have been one lost connection.
    Suspected,
    Departed,
    Ended(End, Instant),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Returned,
    /// Clients are no longer told of it.
    Retired,
    /// The rehearsal is over.
    Rehearsed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Sign(DepartureSign),
    /// A connection to it was made after it had refused one.
    Reached,
    ListedAgain,
    Ended(End),
}

impl State {
    /// As `/status.json` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Suspected => "suspected",
            State::Departed => "departed",
            State::Ended(end, _) => end.as_str(),
        }
    }
}

impl End {
    pub fn as_str(self) -> &'static str {
        match self {
            End::Returned => "returned",
            End::Retired => "retired",
            End::Rehearsed => "rehearsed",
        }
    }
}

impl Event {
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Sign(sign) => sign.as_str(),
            Event::Reached => "reached",
            Event::ListedAgain => "listed_again",
            Event::Ended(end) => end.as_str(),
        }
    }
}

impl Record {
    pub fn ended(&self) -> Option<(End, Duration)> {
        match self.state {
            State::Ended(end, at) => Some((end, at.saturating_duration_since(self.began))),
            _ => None,
        }
    }
}
