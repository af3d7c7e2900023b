//! What the admin port asks of the process, and the shape of `/status.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The state of the process, as the admin port reports it. Called on its tasks: answers at once and does not block.
pub trait Status: Send + Sync {
    /// `Err`: why not, in one line for an operator.
    fn ready(&self) -> Result<(), String>;

    fn status(&self) -> StatusReport;

    /// Called before each scrape, to set what is measured only then (such as the view's age).
    fn before_scrape(&self);
}

/// `/status.json`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StatusReport {
    pub version: String,
    pub uptime_seconds: f64,
    pub ready: bool,
    /// Why not, where `ready` is false.
    pub not_ready_because: Option<String>,
    pub cluster: ClusterStatus,
    pub virtual_brokers: Vec<VirtualBrokerStatus>,
    pub sessions: SessionsStatus,
    /// The newest first: open ones, and the last that ended.
    pub departures: Vec<DepartureStatus>,
    /// The limits in force, by their name in the configuration (`limits.connections`).
    pub limits: BTreeMap<String, u64>,
}

/// The cluster as it was last seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClusterStatus {
    pub id: Option<String>,
    pub controller: Option<i32>,
    pub brokers: Vec<BrokerStatus>,
    /// Those that were named last, the newest first; at most 100.
    pub coordinators: Vec<CoordinatorStatus>,
    /// How many are known.
    pub coordinators_known: u64,
    /// Counts the changes of the view; 0: nothing is known yet.
    pub generation: u64,
    /// Since a broker last confirmed the list of brokers; `None`: none did yet.
    pub view_age_seconds: Option<f64>,
}

/// A broker as the cluster lists it, with its real address.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BrokerStatus {
    pub id: i32,
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

/// Who coordinates a group, a transactional id or a share partition, as the cluster named it last.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CoordinatorStatus {
    /// `group`, `transaction` or `share`.
    pub kind: String,
    pub key: String,
    pub node_id: i32,
    /// Whether the cluster lists that broker now.
    pub listed: bool,
}

/// A port that listens for a node id.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VirtualBrokerStatus {
    pub node_id: i32,
    /// As clients are told: `host:port`.
    pub address: String,
    /// `live` (the cluster lists the broker), `departed` (it does not, and clients go on to be told of it), or `unlisted`.
    pub state: String,
    pub sessions: u64,
}

/// One departure of a broker.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DepartureStatus {
    pub node_id: i32,
    /// The first sign: `refused`, `closed`, `silent`, `not_listed`.
    pub reason: String,
    /// Only rehearsed: the broker was well.
    pub rehearsal: bool,
    /// `suspected` (it may have been one lost connection), `departed`, `returned`, `retired` (clients are no longer told of it),
    /// `rehearsed`.
    pub state: String,
    /// RFC 3339.
    pub began_at: String,
    pub ended_after_seconds: Option<f64>,
    pub timeline: Vec<DepartureEvent>,
    pub masked: MaskedStatus,
}

/// What happened first, and when.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DepartureEvent {
    pub after_seconds: f64,
    pub event: String,
}

/// What was hidden from clients meanwhile, whichever broker it came from, and what was not.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MaskedStatus {
    /// Produce requests that took more than their way to their broker and back, and how they ended.
    pub detours: u64,
    pub acknowledged: u64,
    /// Their client met a broker's own final error.
    pub errors: u64,
    /// Their client was answered with an error, since it would not have waited longer.
    pub deadline_misses: u64,
    /// Their transaction ended first.
    pub cancelled: u64,
    pub held_ms_max: u64,
    pub held_ms_p99: u64,
    pub attempts: u64,
    pub resent_bytes: u64,
    pub resent_batches_idempotent: u64,
    /// They may be in the log twice.
    pub resent_batches_plain: u64,
    /// By Kafka's code; `other` for those beyond the first few.
    pub masked_errors: BTreeMap<String, u64>,
    /// Times that a partition without a leader was told its last one.
    pub leaders_kept: u64,
    pub metadata_held: u64,
    pub budget_refusals: u64,
}

/// Client connections.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SessionsStatus {
    pub open: u64,
    pub total: u64,
}
