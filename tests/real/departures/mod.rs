//! Departures of brokers of a real Kafka under load: what happens to the cluster, what a client feels of it, and what the
//! cluster itself allows.
//!
//! Invariant: a client is measured beside a limit probe in the same run; only their difference is the client's, or the proxy's.
//! Not here: expectations of any one test; those who run it have them.

#![allow(dead_code, reason = "the test and the benchmark that include it use a part of it each")]

pub mod acks;
pub mod bed;
pub mod consumers;
pub mod events;
pub mod judge;
pub mod load;
pub mod probe;
pub mod program;
pub mod readback;
pub mod report;
pub mod tried;

/// The load: as many records a second, over so many keys, over so many partitions.
pub const RATE: u32 = 200;
pub const KEYS: u32 = 240;
pub const PARTITIONS: u16 = 24;
