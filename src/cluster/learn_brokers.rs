//! The rules by which brokers join, move, depart and return.
//!
//! Brokers lag each other, and a client's answer may come from the one that lags. So a client's answer adds a broker that we never heard
//! of, or gives one an address that is new to us, at once; only an answer to our own request makes a broker depart, and only another one
//! brings it back, or back to an address that it had left.
//!
//! Invariant: a broker's rack, once heard, stays until the broker is retired. Deliberately absent: leaders (`learn_topics`).

use super::learn::Draft;
use super::{Broker, Departed, MetadataObservation, NodeId, Source, SuspicionReason};

impl Draft<'_> {
    pub(super) fn broker_listed(&mut self, seen: &Broker, metadata: &MetadataObservation) {
        if seen.id.0 < 0 {
            return;
        }
        let view = self.view();
        let (known, departed) = (view.brokers.get(&seen.id), view.departed.get(&seen.id));
        if known == Some(seen) {
            return;
        }
        let taken_away = departed.is_some_and(|departed| departed.endpoint.is_some());
        let moved_from = view.moved_from.get(&seen.id) == Some(&seen.endpoint);
        if metadata.source == Source::Passing && (taken_away || (known.is_some() && moved_from)) {
            self.suspect(SuspicionReason::BrokerAppeared(seen.id), None);
            return;
        }
        if known.is_none() && view.brokers.len() >= self.limits.max_brokers {
            self.learned.dropped.brokers += 1;
            return;
        }
        let rack = known.and_then(|known| known.rack.clone()).or_else(|| departed.and_then(|departed| departed.rack.clone()));
        let broker = Broker { rack: rack.or_else(|| seen.rack.clone()), ..seen.clone() };
        if known == Some(&broker) {
            return;
        }
        let known_endpoint = known.map(|known| &known.endpoint);
        let has_moved = known_endpoint != Some(&broker.endpoint);
        let before = known_endpoint.or_else(|| departed?.endpoint.as_ref()).filter(|before| **before != broker.endpoint).cloned();
        if has_moved && metadata.source == Source::Passing {
            self.suspect(SuspicionReason::BrokerAppeared(seen.id), None);
        }
        let view = self.edit();
        if has_moved {
            view.versions.remove(&seen.id);
        }
        if let (Some(before), Source::Own) = (before, metadata.source) {
            view.moved_from.insert(seen.id, before);
        }
        view.departed.remove(&seen.id);
        view.brokers.insert(seen.id, broker);
    }

    pub(super) fn brokers_not_listed(&mut self, metadata: &MetadataObservation) {
        let mut seen: Vec<NodeId> = metadata.brokers.iter().map(|broker| broker.id).collect();
        seen.sort_unstable();
        let missing: Vec<NodeId> = self.view().brokers.keys().filter(|id| seen.binary_search(id).is_err()).copied().collect();
        for node in missing {
            match metadata.source {
                Source::Passing => self.suspect(SuspicionReason::BrokerMissing(node), None),
                Source::Own => self.depart(node),
            }
        }
    }

    fn depart(&mut self, node: NodeId) {
        let since = self.now;
        let view = self.edit();
        view.versions.remove(&node);
        view.moved_from.remove(&node);
        if let Some(Broker { endpoint, rack, .. }) = view.brokers.remove(&node) {
            view.departed.insert(node, Departed { endpoint: Some(endpoint), rack, since });
        }
    }

    /// After those have returned that return.
    pub(super) fn forget_oldest_departed(&mut self) {
        while self.view().departed.len() > self.limits.max_departed {
            let oldest = self.view().departed.iter().min_by_key(|(_, departed)| departed.since).map(|(id, _)| *id);
            let Some(oldest) = oldest else { return };
            self.edit().departed.remove(&oldest);
        }
    }

    /// Before the first view nobody can say whether the broker is there.
    pub(super) fn asked_for(&mut self, node: NodeId) {
        let view = self.view();
        if node.0 < 0 || view.generation == 0 || view.is_told(node) || view.departed.len() >= self.limits.max_departed {
            return;
        }
        let since = self.now;
        self.edit().departed.insert(node, Departed { endpoint: None, rack: None, since });
        self.suspect(SuspicionReason::UnknownBroker(node), None);
    }

    pub(super) fn retire(&mut self, node: NodeId) {
        if self.view().is_departed(node) {
            self.edit().departed.remove(&node);
        }
    }
}
