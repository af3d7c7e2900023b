//! What can be learned, mostly from one answer of the cluster, before the view has judged it.

use std::sync::Arc;

use super::{Broker, Endpoint, NodeId, VersionRange};
use crate::wire::ApiKey;

/// A topic's id (KIP-516); all zeros where the version of the answer has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(pub [u8; 16]);

/// Who asked. A client's answer may be filtered by what its principal may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Our own request.
    Own,
    /// An answer to a client that passed through.
    Passing,
}

/// One answer's worth of news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observation {
    Metadata(MetadataObservation),
    ApiVersions(ApiVersionsObservation),
    /// A FindCoordinator response, together with its request, which alone says of what kind they are, and up to version 3 whose.
    Coordinators {
        source: Source,
        named: Vec<CoordinatorObservation>,
    },
    /// Leader hints (KIP-951).
    Leaders(Vec<TopicObservation>),
    /// A client asks the virtual broker of a node id that the view knows nothing of: it left before this process started.
    AskedFor(NodeId),
    /// Clients need not hear of this departed broker any more.
    Retire(NodeId),
}

/// A Metadata response. Only from version 7 on do leaders carry epochs; older ones teach nothing about leaders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataObservation {
    pub source: Source,
    pub version: i16,
    pub cluster_id: Option<Arc<str>>,
    pub controller: Option<NodeId>,
    pub brokers: Vec<Broker>,
    pub topics: Vec<TopicObservation>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicObservation {
    pub id: TopicId,
    pub name: Option<Arc<str>>,
    pub error: i16,
    pub partitions: Vec<PartitionObservation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionObservation {
    pub index: i32,
    pub error: i16,
    /// `None`: no leader (−1).
    pub leader: Option<NodeId>,
    /// −1: the answer has none.
    pub leader_epoch: i32,
}

/// What one broker at one address can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiVersionsObservation {
    pub node: NodeId,
    pub endpoint: Endpoint,
    /// Ascending by key.
    pub ranges: Vec<(ApiKey, VersionRange)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CoordinatorKind {
    Group,
    Transaction,
    Share,
}

/// See `CoordinatorObservation::of_response`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorObservation {
    pub kind: CoordinatorKind,
    pub key: Arc<str>,
    pub node: NodeId,
}
