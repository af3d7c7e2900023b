//! A simulated Kafka cluster: the real wire format, a broker's rules, faults on command, and a client to load it with.
//!
//! [`cluster::Cluster`] is a state machine without sockets or a clock; [`tcp::SimCluster`] runs one on 127.0.0.1; [`load`] measures
//! whatever stands at a bootstrap address. One file per API lies under `api`; commands are in [`control`], rules and hooks in [`fault`],
//! what a test may ask in [`inspect`].
//!
//! Invariant: nothing here uses our own `wire`, `rewrite` or `session`, so that a mistake of theirs cannot cancel itself out.
//!
//! What the simulation leaves out:
//! - replication as such: replicas share one log; followers that lag are a held high watermark (`Cluster::hold_replication`), and a lost
//!   tail is `Cluster::move_leader_losing_uncommitted`. `min.insync.replicas`, ISR shrinking and ELR are not there;
//! - controllers: a change is known to every broker at once, except where `Cluster::freeze_metadata` says otherwise; nothing is elected
//!   back to a preferred leader by itself;
//! - API versions that the kafka-protocol crate cannot read (Produce 0–2, Fetch 0–3 and the like): listed where a release lists them,
//!   closed when used; OffsetCommit and OffsetFetch 10;
//! - compression (stored and served, never opened), record formats 0 and 1, log-append time, compaction, time retention;
//! - preferred replicas, followers' fetches, diverging epochs; a fetch holds whole batches, where a broker may cut the last one;
//! - KIP-848 groups, share groups, streams groups; static members that keep their assignment over a restart; expiry of offsets and of
//!   producer ids;
//! - the time between a transaction's prepare and complete (51 comes from a rule), finalized features, two-phase commit;
//! - SASL, TLS, ACLs, quotas and throttling, configuration changes, telemetry, log directories;
//! - silent hosts: a dropped SYN cannot be played on the loopback interface; `Hang` is the nearest.

pub mod api;
pub mod batch;
#[cfg(test)]
pub(crate) mod bench;
pub mod broker;
pub mod client;
pub mod cluster;
pub mod code;
pub mod control;
pub mod coordinator;
#[cfg(test)]
mod coordinator_tests;
pub mod departure;
pub mod fault;
#[cfg(test)]
mod fault_tests;
pub mod fetch_session;
pub mod frame;
pub mod group;
pub mod group_log;
#[cfg(test)]
mod group_tests;
pub mod image;
pub mod inspect;
pub mod load;
pub mod log;
#[cfg(test)]
mod marker_tests;
pub mod markers;
pub mod producer_state;
pub mod profile;
pub mod rebalance;
pub mod tally;
pub mod tcp;
pub mod topic;
pub mod transaction;
#[cfg(test)]
mod transaction_tests;
pub mod waiting;

/// The cluster id that every simulated broker gives.
pub const CLUSTER_ID: &str = "evenkeel-sim-cluster-0";
