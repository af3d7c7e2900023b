//! The cluster view: an immutable snapshot of brokers, leaders with their epochs, coordinators and API versions, and the rules by
//! which an observation makes the next snapshot.
//!
//! Invariant: per topic id, a leader epoch never goes backwards (except by the rule for clusters without topic ids, see `learn`).
//! Deliberately absent: IO, clocks (the caller says what time it is), clients' bytes.

mod coordinators;
mod departed;
mod learn;
mod learn_brokers;
mod learn_coordinators;
mod learn_topics;
mod observation;
mod topics;
mod view;
mod want;

#[cfg(test)]
mod coordinators_tests;
#[cfg(test)]
mod departed_tests;
#[cfg(test)]
mod learn_properties;
#[cfg(test)]
mod learn_tests;

use std::sync::Arc;

pub use coordinators::{COORDINATOR_KEY_BYTES_MAX, Coordinator, Coordinators};
pub use departed::{Departed, LastLeader, ToldBroker};
pub use learn::{Dropped, LearnLimits, Learned, Refused, Suspicion, SuspicionReason, learn};
pub use observation::{
    ApiVersionsObservation, CoordinatorKind, CoordinatorObservation, MetadataObservation, Observation, PartitionObservation, Source,
    TopicId, TopicObservation,
};
pub use topics::{Partition, Topic, TopicRef, Topics};
pub use view::{CommonMax, Leader, NodeVersions, View};
pub use want::{Want, WantedTopic};

/// A broker's id (`node.id`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub i32);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a broker really is: as the cluster advertises it, not resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    pub host: Arc<str>,
    pub port: u16,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]:{}", self.host, self.port) } else { write!(f, "{}:{}", self.host, self.port) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub id: NodeId,
    pub endpoint: Endpoint,
    /// As first heard: clients drop their connections to a broker whose rack changes.
    pub rack: Option<Arc<str>>,
}

/// An inclusive range of versions of one API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    pub min: i16,
    pub max: i16,
}
