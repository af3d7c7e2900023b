//! The snapshot and the questions that it answers.
//!
//! Invariant: what is said to lead, to coordinate or to serve a version is a broker that the cluster lists now.
//! Deliberately absent: any way to change it (`learn` makes the next one).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::{
    Broker, Coordinator, CoordinatorKind, Coordinators, Departed, Endpoint, NodeId, Partition, Topic, TopicRef, Topics, VersionRange,
};
use crate::wire::ApiKey;

/// A snapshot of what we know of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Counts up with every change; 0: nothing is known yet.
    pub generation: u64,
    pub cluster_id: Option<Arc<str>>,
    /// The brokers that the cluster lists now.
    pub brokers: BTreeMap<NodeId, Broker>,
    /// Brokers that it does not list, though clients know them.
    pub departed: BTreeMap<NodeId, Departed>,
    /// The address that a broker had before our own request was told its present one: a lagging broker may still name it.
    pub(super) moved_from: BTreeMap<NodeId, Endpoint>,
    /// As our own last request was told. Under KRaft brokers name any one of themselves.
    pub controller: Option<NodeId>,
    pub(super) topics: Arc<Topics>,
    pub(super) coordinators: Arc<Coordinators>,
    pub(super) versions: BTreeMap<NodeId, Arc<NodeVersions>>,
}

/// What one broker, at one address, can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeVersions {
    pub endpoint: Endpoint,
    /// Ascending by key.
    pub ranges: Vec<(ApiKey, VersionRange)>,
}

impl NodeVersions {
    pub fn range(&self, api: ApiKey) -> Option<VersionRange> {
        let at = self.ranges.binary_search_by_key(&api, |(key, _)| *key).ok()?;
        self.ranges.get(at).map(|(_, range)| *range)
    }
}

/// What the listed brokers have in common for one API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommonMax {
    /// No listed broker has told its versions yet: the view has nothing to say.
    Unknown,
    /// A listed broker that has told its versions lacks the API: it must not be advertised.
    Lacking,
    /// The smallest maximum over the listed brokers that have told their versions.
    UpTo(i16),
}

/// Who leads a partition now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    pub node: NodeId,
    /// −1: the cluster has not said it.
    pub epoch: i32,
    /// Since when the cluster says that there is no leader; `node` is then the last good one.
    pub leaderless_since: Option<Instant>,
}

impl View {
    /// Nothing known any more; the next view follows the forgotten one.
    pub fn forgotten(&self) -> View {
        View { generation: self.generation, ..View::default() }
    }

    pub fn broker(&self, node: NodeId) -> Option<&Broker> {
        self.brokers.get(&node)
    }

    /// The partition's leader, if it is a broker that the cluster lists.
    pub fn leader(&self, topic: TopicRef<'_>, partition: i32) -> Option<Leader> {
        let Partition { leader, epoch, leaderless_since, .. } = self.partition(topic, partition)?;
        let node = (*leader)?;
        self.brokers.contains_key(&node).then_some(Leader { node, epoch: *epoch, leaderless_since: *leaderless_since })
    }

    /// What is known of the partition; its leader may be a broker that is not listed.
    pub fn partition(&self, topic: TopicRef<'_>, partition: i32) -> Option<&Partition> {
        self.topic(topic)?.partitions.get(&partition)
    }

    pub fn topic(&self, topic: TopicRef<'_>) -> Option<&Arc<Topic>> {
        self.topics.get(topic)
    }

    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The coordinator that was last named for `key`, if it is a broker that the cluster lists.
    pub fn coordinator(&self, kind: CoordinatorKind, key: &str) -> Option<Coordinator> {
        self.coordinators.get(kind, key).filter(|known| self.brokers.contains_key(&known.node)).copied()
    }

    /// Also those whose broker is not listed.
    pub fn coordinators(&self) -> &Coordinators {
        &self.coordinators
    }

    pub fn coordinators_count(&self) -> usize {
        self.coordinators.len()
    }

    /// What `node` told of itself at the address that it has now.
    pub fn versions_of(&self, node: NodeId) -> Option<&NodeVersions> {
        self.versions.get(&node).map(Arc::as_ref)
    }

    /// Listed brokers that have not been asked for their versions at the address that they have now.
    pub fn without_versions(&self) -> impl Iterator<Item = &Broker> {
        self.brokers.values().filter(|broker| !self.versions.contains_key(&broker.id))
    }

    /// The highest version of `api` that every broker serves, as far as they have told.
    pub fn common_max(&self, api: ApiKey) -> CommonMax {
        let mut common = CommonMax::Unknown;
        for versions in self.versions.values() {
            common = match (versions.range(api), common) {
                (None, _) | (_, CommonMax::Lacking) => return CommonMax::Lacking,
                (Some(range), CommonMax::UpTo(max)) => CommonMax::UpTo(max.min(range.max)),
                (Some(range), CommonMax::Unknown) => CommonMax::UpTo(range.max),
            };
        }
        common
    }

    /// Whether some listed broker answers Metadata with topic ids (version 10, KIP-516), so that our own requests see a re-created
    /// topic as a new one.
    pub(super) fn may_have_topic_ids(&self) -> bool {
        let with_ids = |versions: &Arc<NodeVersions>| versions.range(ApiKey::METADATA).is_some_and(|range| range.max >= 10);
        self.versions.is_empty() || self.versions.values().any(with_ids)
    }
}
