//! A simulated Kafka cluster with the real wire format and faults on command.

pub mod api;
pub mod batch;
#[cfg(test)]
pub(crate) mod bench;
pub mod broker;
pub mod cluster;
pub mod code;
pub mod control;
pub mod fault;
pub mod fetch_session;
pub mod frame;
pub mod group;
pub mod image;
pub mod inspect;
pub mod log;
pub mod producer_state;
pub mod profile;
pub mod tcp;
pub mod topic;
pub mod transaction;
pub mod waiting;

/// The cluster id that every simulated broker gives.
pub const CLUSTER_ID: &str = "evenkeel-sim-cluster-0";
