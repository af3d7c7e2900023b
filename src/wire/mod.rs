//! Bounded reading of untrusted bytes: heads of frames, and where in a frame things lie.
//!
//! Invariant: nothing here allocates, loops or indexes by a number that the peer sent before that number was held against the bytes
//! that are there. Deliberately absent: anything else of ours; IO; decisions.

mod api;
mod head;

pub use api::{ApiKey, ApiSpec};
pub use head::{Head, HeadError, HeadLimits, ProduceHead, ResponseHead, Span, Stranger, parse_head, parse_response_head};
