//! The session core: a state machine without IO, clock or tasks that decides on heads what becomes of each frame of one client's
//! connection.
//!
//! ```text
//!            first head                     Opened
//!  Idle ───────────────▶ Opening (home leg) ──────▶ Open ──▶ Closing
//!    ▲  no view yet: requests wait   │ Failed               ▲
//!    └── the broker moved, idle ◀────┴──────────────────────┘ client gone, leg closed, drained, refused, timed out
//! ```
//!
//! The driver feeds heads, whole frames where it was asked for them, and what became of legs; the core answers with a verdict for
//! that frame, and queues everything else as an [`Action`]. Bodies never enter it.
//!
//! Invariant: every request that was given a slot gets exactly one response, in request order, or the client is closed.
//! Deliberately absent: sockets, time of its own, counters, and bytes of bodies that nobody has to look into.

mod action;
mod core;
mod leg;
mod order;
#[cfg(test)]
mod tests;
mod treatment;

pub use action::{Action, Answer, CloseReason, LegEvent, LegId, Refusal, RequestVerdict, ResponseVerdict, Target};
pub use core::{ClientEvent, ClientSoftware, Core, Port, Surroundings, Timeouts};
pub use order::{ResponseOrder, Slot, SlotId};

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
}
