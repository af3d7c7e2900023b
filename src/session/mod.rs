//! The session core: a state machine without IO, clock or tasks that decides on heads what becomes of each frame of one client's
//! connection.
//!
//! ```text
//!            first head                     Opened
//!  Idle ───────────────▶ Opening (home leg) ──────▶ Open ──▶ Closing
//!    ▲  no view yet: requests wait   │ Failed        │ Closed ▲
//!    ├── the broker moved, idle      └──────┬────────┘        │ client gone, drained, refused, timed out,
//!    └── what was kept goes elsewhere ◀─────┴─────────────────┘ or something was lost that cannot be sent again
//! ```
//!
//! The driver feeds heads, whole frames where it was asked for them, and what became of legs; the core answers with a verdict for
//! that frame, and queues everything else as an [`Action`]. Bodies never enter it, save those of produce requests on the slow path.
//!
//! **The fast path**: a request goes to the home leg as it came; produce and what any broker may answer is kept until it is answered.
//! **The slow path** (a *detour*) begins when the home leg is lost, or an answer says that a partition has moved: kept produce requests
//! are opened, each batch gets in line at the [`Gate`], and goes to whoever leads its partition, on a leg of its own (`core::routing`).
//! It ends when nothing has needed it for a while.
//!
//! Invariant: every request that was given a slot gets exactly one response, in request order, or the client is closed.
//! Deliberately absent: sockets, time of its own, counters, and bytes of bodies that nobody has to look into.

mod action;
mod core;
mod gate;
mod leg;
#[cfg(test)]
pub(crate) mod mutation;
mod note;
mod order;
mod produce;
mod request;
#[cfg(test)]
mod tests;
mod treatment;

use std::time::Duration;

pub use action::{Action, Answer, CloseReason, LegEvent, LegId, Refusal, RequestVerdict, ResponseVerdict, Target};
pub use core::{ClientEvent, ClientSoftware, Core, Port, Surroundings, Timeouts};
pub use gate::{Gate, Key, Member, Place, TopicKey, Whose};
pub use note::{DepartureSign, DetourEnd, DetourStart, Note};
pub use order::{ResponseOrder, Slot, SlotId};
pub use produce::Kept;

/// Bounds on one session.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests that wait for their response. At the bound the client is not read from.
    pub max_slots: usize,
    /// A response up to this size may wait out of turn for an earlier one.
    pub max_parked_bytes: u32,
    /// A response that is rewritten is read whole up to this size.
    pub max_rewrite_bytes: u32,
    /// A request frame, its length prefix included (Kafka: `socket.request.max.bytes`).
    pub max_request_bytes: u32,
    /// A response frame, its length prefix included.
    pub max_response_bytes: u32,
    /// How far into a frame a request's head may reach.
    pub max_head_bytes: u32,
    /// Of requests that may have to be sent again.
    pub max_kept_bytes: usize,
}

/// How a detour behaves.
#[derive(Clone, Debug)]
pub struct Detours {
    /// A request without an answer, or a connect without an end, for so long: ask for a fresh view.
    pub suspect_after: Duration,
    /// After a refusal or a failed connect that nothing has changed since: from `backoff_min` doubling to `backoff_max`, with jitter.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// A response of which some partitions are settled waits no longer for the others.
    pub hold_mixed: Duration,
    /// The slow path ends when nothing has needed it for so long.
    pub linger: Duration,
    /// Metadata that names a leader under suspicion waits at most so long.
    pub metadata_hold: Duration,
    /// Errors that pass soon near a departure (3, 19, 100) are kept from the client for so long.
    pub passing: Duration,
    /// A plain batch whose connection was lost after it was written, which may thus have been applied.
    pub ambiguous: Ambiguous,
    /// How long clients wait for a produce response, where that is known better than by `produce::patience`.
    pub patience: Option<Duration>,
}

/// What becomes of plain (not idempotent) batches that may have been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguous {
    /// Sent again, as clients themselves do on a lost connection: it may be in the log twice.
    Resend,
    /// The client is closed, and decides.
    Fail,
}

impl Default for Detours {
    fn default() -> Self {
        Detours {
            suspect_after: Duration::from_secs(1),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(500),
            hold_mixed: Duration::from_secs(1),
            linger: Duration::from_secs(30),
            metadata_hold: Duration::from_millis(500),
            passing: Duration::from_secs(1),
            ambiguous: Ambiguous::Resend,
            patience: None,
        }
    }
}
