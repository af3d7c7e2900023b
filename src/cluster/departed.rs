//! Brokers that left, and what clients are told of who is there.
//!
//! Invariant: a broker is listed or departed, never both. Deliberately absent: when a departed broker may be forgotten (its port's life).

use std::sync::Arc;
use std::time::Instant;

use super::{Broker, Endpoint, NodeId, Partition, TopicRef, View};

/// A broker that the cluster does not list, though clients know it: clients are told of it as before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departed {
    /// Its last one; `None`: a client asked for it, and the cluster never named it to us.
    pub endpoint: Option<Endpoint>,
    pub rack: Option<Arc<str>>,
    pub since: Instant,
}

/// A broker as clients are told of it; its address is another's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldBroker<'v> {
    pub id: NodeId,
    pub rack: Option<&'v Arc<str>>,
}

/// The last leader of a partition that clients may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastLeader {
    /// Listed or departed.
    pub node: NodeId,
    /// The newest that the cluster has said, be it with another leader or with none; −1: it has said none.
    pub epoch: i32,
    /// Since when no listed broker leads, as far as we were told.
    pub unled_since: Option<Instant>,
}

impl View {
    pub fn is_departed(&self, node: NodeId) -> bool {
        self.departed.contains_key(&node)
    }

    /// Whether clients are told of this broker.
    pub fn is_told(&self, node: NodeId) -> bool {
        self.brokers.contains_key(&node) || self.is_departed(node)
    }

    /// The rack of a listed or departed broker, where it has one.
    pub fn known_rack(&self, node: NodeId) -> Option<&Arc<str>> {
        match self.brokers.get(&node) {
            Some(broker) => broker.rack.as_ref(),
            None => self.departed.get(&node)?.rack.as_ref(),
        }
    }

    /// Whom clients are told of: listed and departed brokers, ids ascending.
    pub fn told_brokers(&self) -> impl Iterator<Item = ToldBroker<'_>> {
        let mut listed = self.brokers.values().map(|Broker { id, rack, .. }| ToldBroker { id: *id, rack: rack.as_ref() }).peekable();
        let mut departed = self.departed.iter().map(|(id, departed)| ToldBroker { id: *id, rack: departed.rack.as_ref() }).peekable();
        std::iter::from_fn(move || match (listed.peek(), departed.peek()) {
            (Some(one), Some(other)) if other.id < one.id => departed.next(),
            (Some(_), _) => listed.next(),
            (None, _) => departed.next(),
        })
    }

    /// The last good leader, listed or departed.
    pub fn last_leader(&self, topic: TopicRef<'_>, partition: i32) -> Option<LastLeader> {
        self.last_leader_of(self.partition(topic, partition)?)
    }

    /// As `last_leader`, for a partition of this view.
    pub fn last_leader_of(&self, partition: &Partition) -> Option<LastLeader> {
        let node = [partition.leader, partition.last_good].into_iter().flatten().find(|node| self.is_told(*node))?;
        Some(LastLeader { node, epoch: partition.epoch, unled_since: self.unled_since(partition) })
    }

    /// Since when no listed broker leads; `None`: one does, or nobody ever did.
    pub(super) fn unled_since(&self, partition: &Partition) -> Option<Instant> {
        let unlisted_since = match partition.leader {
            Some(leader) if !self.brokers.contains_key(&leader) => match self.departed.get(&leader) {
                Some(departed) => Some(partition.unlisted_since.map_or(departed.since, |named| named.max(departed.since))),
                None => partition.unlisted_since,
            },
            _ => None,
        };
        [partition.leaderless_since, unlisted_since].into_iter().flatten().min()
    }
}
