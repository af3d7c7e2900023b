//! Evidence that the view is behind the cluster, by which a session asks for a fresh one.
//!
//! Invariant: a want that is met says nothing about the view any more; who still has its trouble has seen something newer, and says so
//! with another want. Deliberately absent: who asks the cluster, and how often (`discovery`).

use std::sync::Arc;

use super::{CoordinatorKind, Endpoint, NodeId, TopicId, TopicRef, View};

/// A topic as the request named it that came to grief.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WantedTopic {
    Name(Arc<str>),
    Id(TopicId),
}

impl WantedTopic {
    pub fn as_ref(&self) -> TopicRef<'_> {
        match self {
            WantedTopic::Name(name) => TopicRef::Name(name),
            WantedTopic::Id(id) => TopicRef::Id(*id),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// This leader, at this epoch, does not serve the partition: both as the view had them.
    Partition {
        topic: WantedTopic,
        partition: i32,
        /// `None`: the view knew none.
        leader: Option<NodeId>,
        /// −1: the view knew none. Then only another leader meets it.
        epoch: i32,
    },
    /// This listed broker closed, refused or is silent, at this address.
    Broker { node: NodeId, endpoint: Endpoint },
    /// This broker does not coordinate the key, or does not serve.
    Coordinator { kind: CoordinatorKind, key: Arc<str>, but_not: NodeId },
}

impl Want {
    /// Whether `view` has gone beyond what this is evidence against. A coordinator that may be back where it was: see `is_confirmed`.
    pub fn is_met(&self, view: &View) -> bool {
        match self {
            Want::Partition { topic, partition, leader, epoch } => view.leader(topic.as_ref(), *partition).is_some_and(|known| {
                // A leaderless window raises the epoch, too, and helps nobody.
                let is_later = *epoch >= 0 && known.epoch > *epoch;
                known.leaderless_since.is_none() && (Some(known.node) != *leader || is_later)
            }),
            Want::Broker { node, endpoint } => view.broker(*node).is_none_or(|broker| broker.endpoint != *endpoint),
            Want::Coordinator { kind, key, but_not } => view.coordinator(*kind, key).is_some_and(|known| known.node != *but_not),
        }
    }

    /// Whether the cluster has named the very coordinator again that this is evidence against, after the view's generation `since`. If
    /// nobody says that its broker is down, it is worth another try.
    pub fn is_confirmed(&self, view: &View, since: u64) -> bool {
        match self {
            Want::Coordinator { kind, key, but_not } => {
                view.coordinator(*kind, key).is_some_and(|known| known.node == *but_not && known.learnt > since)
            }
            Want::Partition { .. } | Want::Broker { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::cluster::{Broker, LearnLimits, MetadataObservation, Observation, PartitionObservation, Source, TopicObservation, learn};

    fn endpoint(port: u16) -> Endpoint {
        Endpoint { host: "broker.example".into(), port }
    }

    /// Brokers by id and port, and the leader (−1: none) and epoch of partition 0 of `t`.
    fn after(view: &View, brokers: &[(i32, u16)], leader: i32, epoch: i32) -> View {
        let brokers = brokers.iter().map(|(id, port)| Broker { id: NodeId(*id), endpoint: endpoint(*port), rack: None });
        let leader = (leader >= 0).then_some(NodeId(leader));
        let partition = PartitionObservation { index: 0, error: 0, leader, leader_epoch: epoch };
        let topic = TopicObservation { id: TopicId([1; 16]), name: Some("t".into()), error: 0, partitions: vec![partition] };
        let metadata = MetadataObservation {
            source: Source::Own,
            version: 12,
            cluster_id: None,
            controller: None,
            brokers: brokers.collect(),
            topics: vec![topic],
        };
        learn(view, Instant::now(), &Observation::Metadata(metadata), &LearnLimits::default()).view.unwrap_or_else(|| view.clone())
    }

    fn partition(leader: Option<i32>, epoch: i32) -> [Want; 2] {
        [WantedTopic::Name("t".into()), WantedTopic::Id(TopicId([1; 16]))].map(|topic| Want::Partition {
            topic,
            partition: 0,
            leader: leader.map(NodeId),
            epoch,
        })
    }

    #[test]
    fn a_partition_is_met_by_another_leader_or_a_later_epoch() {
        let both = [(1, 9092), (2, 9092)];
        let first = after(&View::default(), &both, 1, 5);
        let moved = after(&first, &both, 2, 6);
        let back = after(&first, &both, 1, 7);
        for want in partition(Some(1), 5) {
            assert!(!want.is_met(&View::default()) && !want.is_met(&first), "{want:?}");
            assert!(want.is_met(&moved) && want.is_met(&back), "{want:?}");
        }
        for want in partition(Some(1), -1) {
            assert!(want.is_met(&moved), "{want:?}");
            assert!(!want.is_met(&back), "an unknown epoch is not surpassed: {want:?}");
        }
        for want in partition(None, -1) {
            assert!(!want.is_met(&View::default()) && want.is_met(&first), "{want:?}");
        }
    }

    #[test]
    fn neither_a_leaderless_window_nor_an_unlisted_leader_meets_it() {
        let both = [(1, 9092), (2, 9092)];
        let first = after(&View::default(), &both, 1, 5);
        let leaderless = after(&first, &both, -1, 6);
        let unlisted = after(&first, &both, 3, 6);
        let listed = after(&unlisted, &[(2, 9092), (3, 9092)], 3, 6);
        for want in partition(Some(1), 5) {
            assert!(!want.is_met(&leaderless) && !want.is_met(&unlisted), "{want:?}");
            assert!(want.is_met(&listed), "{want:?}");
        }
    }

    #[test]
    fn a_broker_is_met_once_it_is_unlisted_or_elsewhere() {
        let first = after(&View::default(), &[(1, 9092), (2, 9092)], 1, 5);
        let want = Want::Broker { node: NodeId(2), endpoint: endpoint(9092) };
        assert!(!want.is_met(&first));
        assert!(want.is_met(&after(&first, &[(1, 9092)], 1, 5)));
        assert!(want.is_met(&after(&first, &[(1, 9092), (2, 9093)], 1, 5)));
    }
}
