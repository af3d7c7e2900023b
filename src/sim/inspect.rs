//! What a test may ask of the cluster: the records of a partition, how often which broker was asked what, and what it found strange.
//!
//! Invariant: looking changes nothing. Deliberately not here: judging (`load` and the tests do).

use std::collections::BTreeMap;

use bytes::Bytes;

use super::batch;
use super::cluster::Cluster;

/// How many strange things are kept.
const UNEXPECTED_KEPT: usize = 1_000;

/// A record in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRecord {
    /// Its offset.
    pub offset: i64,
    /// −1: none.
    pub producer_id: i64,
    /// −1: none.
    pub producer_epoch: i16,
    /// −1: none.
    pub sequence: i32,
    /// Epoch of the leader that appended it.
    pub leader_epoch: i32,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Whether it belongs to a transaction.
    pub is_transactional: bool,
    /// Whether it is a marker.
    pub is_control: bool,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
}

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    requests: BTreeMap<(i32, i16, i16), u64>,
    connections: BTreeMap<i32, u64>,
    unexpected: Vec<String>,
}

impl Observed {
    pub(crate) fn connected(&mut self, broker: i32) {
        *self.connections.entry(broker).or_default() += 1;
    }

    pub(crate) fn requested(&mut self, broker: i32, api_key: i16, version: i16) {
        *self.requests.entry((broker, api_key, version)).or_default() += 1;
    }

    pub(crate) fn strange(&mut self, what: String) {
        if self.unexpected.len() < UNEXPECTED_KEPT {
            self.unexpected.push(what);
        }
    }
}

impl Cluster {
    /// The records of a partition in order; those of compressed batches are left out.
    pub fn records(&self, topic: &str, partition: i32) -> Vec<SeenRecord> {
        let Some(partition) = self.topics.partition(topic, partition) else { return Vec::new() };
        let mut seen = Vec::new();
        for stored in partition.log.batches() {
            for record in batch::records_of(&stored.bytes) {
                seen.push(SeenRecord {
                    offset: record.offset,
                    producer_id: record.producer_id,
                    producer_epoch: record.producer_epoch,
                    sequence: if record.producer_id < 0 { -1 } else { record.sequence },
                    leader_epoch: record.partition_leader_epoch,
                    timestamp_ms: record.timestamp,
                    is_transactional: record.transactional,
                    is_control: record.control,
                    key: record.key,
                    value: record.value,
                });
            }
        }
        seen
    }

    /// How many requests came, by (broker, API key, version).
    pub fn requests(&self) -> &BTreeMap<(i32, i16, i16), u64> {
        &self.observed.requests
    }

    /// How many requests of an API a broker got, in any version.
    pub fn requests_of(&self, broker: i32, api_key: i16) -> u64 {
        self.observed.requests.iter().filter(|((id, key, _), _)| *id == broker && *key == api_key).map(|(_, count)| count).sum()
    }

    /// How many connections a broker accepted.
    pub fn connections_accepted(&self, broker: i32) -> u64 {
        self.observed.connections.get(&broker).copied().unwrap_or(0)
    }

    /// What a broker could make nothing of: unknown keys, versions that it does not serve, frames that do not parse. The first thousand.
    pub fn unexpected(&self) -> &[String] {
        &self.observed.unexpected
    }
}
