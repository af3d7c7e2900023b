//! What is worth counting: said by the core, counted by the driver.

use std::time::Duration;

use crate::cluster::NodeId;
use crate::rewrite::Masked;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A sign that a broker is leaving, as this session saw it.
    Departure { node: NodeId, sign: DepartureSign },
    /// A produce request needs more than its way to its broker and back.
    DetourStarted(DetourStart),
    /// It has its answer, so long after.
    DetourEnded { end: DetourEnd, held: Duration },
    /// A request, or a part of one, went to a broker on behalf of a detour.
    Attempt,
    /// So many bytes of requests went out again.
    Resent { bytes: usize },
    /// A batch went out again that may have been applied.
    AmbiguousResend { idempotent: bool },
    /// An error of a partition that the client does not see.
    MaskedError(i16),
    /// A batch waited so long for its turn.
    GateWait(Duration),
    /// A request could not be kept for want of room.
    BudgetRefused,
    /// A client was answered at its deadline with parts unsettled.
    DeadlineMissed,
    /// A Metadata answer was held back.
    MetadataHeld(Duration),
    /// What an answer hides of a departure.
    Masked(Masked),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DepartureSign {
    /// It refuses connections, or they come to nothing.
    Refused,
    /// It closed a connection.
    Closed,
    /// It does not answer.
    Silent,
    /// The cluster does not list it.
    NotListed,
}

impl DepartureSign {
    /// A metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            DepartureSign::Refused => "refused",
            DepartureSign::Closed => "closed",
            DepartureSign::Silent => "silent",
            DepartureSign::NotListed => "not_listed",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetourStart {
    /// The home leg was lost, or cannot be opened.
    HomeLost,
    /// An answer says that a partition has moved.
    Moved,
    /// Its batch was on a detour's leg that was lost.
    LegLost,
    /// A batch before it is on the move.
    Gate,
    /// The view knows its leader elsewhere.
    Routed,
}

impl DetourStart {
    /// A metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            DetourStart::HomeLost => "home_lost",
            DetourStart::Moved => "moved",
            DetourStart::LegLost => "leg_lost",
            DetourStart::Gate => "gate",
            DetourStart::Routed => "routed",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DetourEnd {
    /// Every part was acknowledged.
    Acknowledged,
    /// Brokers gave final errors.
    Errors,
    /// The client was answered at its deadline, or because other parts of the request were long settled.
    Deadline,
    /// Its transaction ended before it could be sent.
    Cancelled,
}

impl DetourEnd {
    /// A metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            DetourEnd::Acknowledged => "acknowledged",
            DetourEnd::Errors => "errors",
            DetourEnd::Deadline => "deadline",
            DetourEnd::Cancelled => "cancelled",
        }
    }
}
