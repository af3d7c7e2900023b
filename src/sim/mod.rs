//! A simulated Kafka cluster: the real wire format, a broker's rules, faults on command, and a client to load it with.
//!
//! [`cluster::Cluster`] is a state machine without sockets or a clock; [`tcp::SimCluster`] runs one on 127.0.0.1; [`load`] measures
//! whatever stands at a bootstrap address. One file per API lies under `api`; commands are in [`control`], [`coordinator`] and
//! [`departure`], rules and hooks in [`fault`], what a test may ask in [`inspect`].
//!
//! Invariant: nothing here uses our own `wire`, `rewrite` or `session`, so that a mistake of theirs cannot cancel itself out.
//!
//! What the simulation leaves out:
//! - replication as such: replicas share one log; followers that lag are a held high watermark (`Cluster::hold_replication`), and a lost
//!   tail is `Cluster::move_leader_losing_uncommitted` or `Cluster::move_leader_uncleanly`. A follower's high watermark is the leader's.
//!   `min.insync.replicas`, ISR shrinking and ELR are not there;
//! - controllers: brokers act on a change at once, and tell it at once except for `Windows::old_news` and `Cluster::freeze_metadata`;
//!   nothing is elected back to a preferred leader by itself; a broker that thaws knows what happened meanwhile;
//! - the logs of coordinators as logs: each group and transactional id has a seat of its own that moves with its broker
//!   (`Cluster::coordinator_of`), where Kafka moves whole partitions of `__consumer_offsets` and `__transaction_state`. A commit or an end
//!   that is in the log and answered with 16 because the coordinator left is `Fault::ErrorAfterApplying(16)`; 15 for want of replicas is
//!   `Fault::Error(15)`;
//! - API versions that the kafka-protocol crate cannot read (Produce 0–2, Fetch 0–3 and the like): listed where a release lists them,
//!   closed when used; OffsetCommit and OffsetFetch 10;
//! - compression (stored and served, never opened), record formats 0 and 1, log-append time, compaction, time retention, tiered storage;
//! - a fetch holds whole batches, where a broker may cut the last one; fetch sessions are not evicted; fetches by followers;
//! - KIP-848 groups, share groups, streams groups; static members that keep their assignment over a restart; expiry of offsets and of
//!   producer ids; group size limits;
//! - WriteTxnMarkers as a request, DescribeTransactions, ListTransactions, finalized features, two-phase commit; where markers take no
//!   time (`Windows::markers`), InitProducerId folds Kafka's 51 and the retry into one answer, one epoch on instead of two;
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
#[cfg(test)]
mod departure_tests;
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
