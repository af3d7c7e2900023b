//! A request opened up: its parts, one per partition, and what became of each.

use std::time::Instant;

use bytes::Bytes;

use crate::cluster::NodeId;
use crate::session::LegId;
use crate::session::gate::Key;
use crate::wire::produce_request::ProduceRequest;
use crate::wire::{Head, Span};

/// A produce request on the slow path.
#[derive(Debug)]
pub struct Opened {
    pub head: Head,
    pub frame: Bytes,
    pub request: ProduceRequest,
    /// By the request's partitions.
    pub parts: Vec<Part>,
    /// When the client is answered, whatever is open then.
    pub deadline: Instant,
    /// When the first part was settled.
    pub first_done: Option<Instant>,
    /// When a part of it came back last.
    pub last_trouble: Option<Instant>,
    /// When it first needed more than its way there and back.
    pub detoured_at: Option<Instant>,
    /// The client was answered before every part was settled.
    pub was_cut: bool,
    /// It was sent in one request with others, whose results are in the answer, too.
    pub was_joined: bool,
}

/// One partition's batch.
#[derive(Debug)]
pub struct Part {
    pub key: Key,
    pub is_idempotent: bool,
    pub state: PartState,
    /// It has been on the wire and its fate is not known.
    pub may_be_applied: bool,
    /// Who refused it last, or could not be reached.
    pub refused: Option<Refused>,
    /// How often in a row nothing had changed after a refusal.
    pub attempts: u32,
    pub not_before: Option<Instant>,
    /// When it was last sent, as the gate counts.
    pub sent_event: u64,
    pub retried_out_of_order: bool,
    pub last_error: i16,
    /// Until when states are absorbed that pass soon.
    pub passing_until: Option<Instant>,
    pub times_sent: u32,
    /// How often its connection was lost after it was written.
    pub losses: u32,
    /// Since when it waits for its turn.
    pub gate_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub node: NodeId,
    pub epoch: i32,
    /// It was not an answer but a connection that was lost or could not be made.
    pub by_silence: bool,
}

impl Refused {
    /// Whether this leader, at this epoch, is news to who was refused. An unknown epoch (−1) is not surpassed.
    pub fn is_surpassed_by(self, node: NodeId, epoch: i32) -> bool {
        self.node != node || self.epoch < epoch && self.epoch >= 0
    }
}

#[derive(Debug)]
pub enum PartState {
    Ready,
    /// For the answer to the refresh of this number.
    Asking(u64),
    Sent {
        leg: LegId,
        node: Option<NodeId>,
        epoch: i32,
        /// Where on the leg the request ends that it was sent with: tells it from other sends on the same leg.
        end: u64,
    },
    Done(Fate),
}

/// What the client is told of a part.
#[derive(Clone, Debug)]
pub enum Fate {
    /// The broker's own words: a partition's element in its response.
    Said { response: Bytes, whole: Span, error: i16 },
    /// Ours.
    Made { error: i16 },
}

impl Part {
    pub fn new(key: Key, is_idempotent: bool) -> Part {
        Part {
            key,
            is_idempotent,
            state: PartState::Ready,
            may_be_applied: false,
            refused: None,
            attempts: 0,
            not_before: None,
            sent_event: 0,
            retried_out_of_order: false,
            last_error: 0,
            passing_until: None,
            times_sent: 0,
            losses: 0,
            gate_since: None,
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self.state, PartState::Done(_))
    }

    /// It is on no leg, be it that it waits for news, for its time or for its turn.
    pub fn is_unsent(&self) -> bool {
        matches!(self.state, PartState::Ready | PartState::Asking(_))
    }

    /// What the client is told if nothing better comes: 7 (REQUEST_TIMED_OUT) for what may have been applied, or else why it was not.
    pub fn unsettled_error(&self) -> i16 {
        const REQUEST_TIMED_OUT: i16 = 7;
        const NOT_LEADER_OR_FOLLOWER: i16 = 6;
        if self.may_be_applied || matches!(self.state, PartState::Sent { .. }) {
            REQUEST_TIMED_OUT
        } else {
            match self.last_error {
                0 | 45 => NOT_LEADER_OR_FOLLOWER,
                error => error,
            }
        }
    }

    /// With that very request, not with one that was given up, or made anew.
    pub fn is_sent_with(&self, leg: LegId, end: u64) -> bool {
        matches!(self.state, PartState::Sent { leg: on, end: with, .. } if on == leg && with == end)
    }
}

impl Opened {
    pub fn is_done(&self) -> bool {
        self.parts.iter().all(Part::is_done)
    }

    pub fn acks(&self) -> i16 {
        self.head.produce.map_or(-1, |produce| produce.acks)
    }
}
