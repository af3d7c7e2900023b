//! What the core remembers of a request that may have to be sent again.

use std::time::Instant;

use super::SlotId;
use super::produce::{Kept, Opened};
use crate::wire::Head;

#[derive(Debug)]
pub struct Request {
    /// Its arrival number, which no other request of the process has.
    pub number: u64,
    /// `None`: produce with `acks=0`, which nobody answers.
    pub slot: Option<SlotId>,
    pub arrived_at: Instant,
    /// Of the budget for kept frames.
    pub reserved_bytes: usize,
    pub body: Body,
}

#[derive(Debug)]
pub enum Body {
    /// As it came. `None`: its last byte is not there yet. `stranded`: on no leg, since nobody could be reached.
    Whole { head: Head, frame: Option<Kept>, resent: u32, stranded: bool },
    /// A produce request on the slow path.
    Opened(Box<Opened>),
    /// Taken out for the moment, by whoever works on it.
    Lent,
}
