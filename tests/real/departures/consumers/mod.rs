//! The members of a consumer group in a departure: what they are delivered, and when.
//!
//! Invariant: what they read is written and acknowledged past them, by the limit probe, so that no producer's stall is taken for theirs.
//! Not here: the event itself, which is as for producers.

pub mod commits;
pub mod judge;
pub mod members;
pub mod report;
pub mod run;
