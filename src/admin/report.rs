//! What the admin port asks of the process, and the shape of `/status.json`.

use std::collections::BTreeMap;

use serde::Serialize;

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
    /// The limits in force, by their name in the configuration (`limits.connections`).
    pub limits: BTreeMap<String, u64>,
}

/// The cluster as it was last seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ClusterStatus {
    pub id: Option<String>,
    pub controller: Option<i32>,
    pub brokers: Vec<BrokerStatus>,
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

/// A port that listens for a node id.
#[derive(Clone, Debug, Default, Serialize)]
pub struct VirtualBrokerStatus {
    pub node_id: i32,
    /// As clients are told: `host:port`.
    pub address: String,
    /// `live` (the cluster lists the broker) or `unlisted`.
    pub state: String,
    pub sessions: u64,
}

/// Client connections.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SessionsStatus {
    pub open: u64,
    pub total: u64,
}
