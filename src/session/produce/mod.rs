//! One produce request on the slow path: what it is made of and what became of each part. The core moves them; nothing here sends.
//!
//! ```text
//!                 ┌────────────────────── refused, or its leg was lost ─────────────────────┐
//!                 ▼                                                                         │
//!  Asking (for a fresh view) ──fresh──▶ Ready ──its turn at the gate, leader known──▶ Sent ─┴─final──▶ Done
//!                 ▲                       │  (not before its back-off is over)
//!                 └──no leader is known───┘
//! ```
//!
//! Invariant: a batch's bytes are never rebuilt; what is sent again is what came. Deliberately absent: legs, the gate, time's passing.

mod classify;
mod deadline;
mod kept;
mod parts;

pub use classify::{Verdict, classify};
pub use deadline::patience;
pub use kept::Kept;
pub use parts::{Fate, Opened, Part, PartState, Refused};
