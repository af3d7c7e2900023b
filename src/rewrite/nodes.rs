//! What the files of the APIs share: a broker's virtual address in place of its real one, and what to learn of the real ones.
//!
//! Invariant: leaders' endpoints (KIP-951) that leave name every broker that clients are told of, or none. Deliberately absent: layouts.

use std::sync::Arc;

use bytes::Bytes;

use super::{Advertised, Context, Failure, Rewritten};
use crate::cluster::{Broker, Endpoint, NodeId, Observation, PartitionObservation, ToldBroker, TopicId, TopicObservation, View};
use crate::wire::node::{LeaderHint, NodeEndpoints, NodeEntry, TopicRef};
use crate::wire::{Count, Edits, Span, Writer};

/// The virtual addresses of a list of brokers, in its order. Each one's port listens by now (`Addresses::advertised`).
pub(super) struct VirtualAddresses(Vec<(i32, Option<Advertised>)>);

impl VirtualAddresses {
    pub(super) fn of(brokers: &[NodeEntry<'_>], advertised: impl Fn(NodeId) -> Option<Advertised>) -> VirtualAddresses {
        VirtualAddresses(brokers.iter().map(|broker| (broker.node, advertised(NodeId(broker.node)))).collect())
    }

    /// The ids of the brokers that stay listed, ascending.
    pub(super) fn listed(&self) -> Vec<i32> {
        let mut listed: Vec<i32> = self.0.iter().filter(|(_, address)| address.is_some()).map(|(node, _)| *node).collect();
        listed.sort_unstable();
        listed
    }

    /// Puts virtual addresses in the place of the real ones of the same list; brokers without one are taken out, and `added` come behind
    /// the last. `rack`: another rack than the one that stands there.
    pub(super) fn replace<'r>(
        &self,
        edits: &mut Edits,
        flexible: bool,
        count: Count,
        brokers: &[NodeEntry<'_>],
        rack: impl Fn(&NodeEntry<'_>) -> Option<Option<&'r str>>,
        added: &[AddedBroker<'_>],
    ) {
        let kept = self.0.iter().filter(|(_, address)| address.is_some()).count();
        if kept + added.len() != brokers.len() {
            edits.replace(count.span, flexible, |writer| writer.count(kept + added.len()));
        }
        for (broker, (_, address)) in brokers.iter().zip(&self.0) {
            let Some(address) = address else {
                edits.remove(broker.whole);
                continue;
            };
            edits.replace(broker.host_port(), flexible, |writer| host_port(writer, address));
            if let Some(rack) = rack(broker) {
                edits.replace(broker.rack_span, flexible, |writer| writer.nullable_string(rack));
            }
        }
        let end = brokers.last().map_or(count.span.end, |last| last.whole.end);
        for broker in added {
            edits.replace(Span { start: end, end }, flexible, |writer| {
                writer.i32(broker.node);
                host_port(writer, &broker.address);
                if let Some(rack) = broker.rack {
                    writer.nullable_string(rack);
                }
                writer.no_tagged_fields();
            });
        }
    }
}

/// A broker that a response lacks and a client is told of all the same.
pub(super) struct AddedBroker<'v> {
    pub(super) node: i32,
    pub(super) address: Advertised,
    /// `None`: the version has no racks.
    pub(super) rack: Option<Option<&'v str>>,
}

pub(super) fn host_port(writer: &mut Writer<'_>, address: &Advertised) {
    writer.string(&address.host);
    writer.i32(i32::from(address.port));
}

/// Every broker that clients are told of, with its virtual address and rack, as the value of a NodeEndpoints array; `None` (none may be
/// listed) if the response names another one, or one has no virtual address.
///
/// All or none, because franz-go 1.17 to 1.20 takes this for the full list of brokers and drops its connections to all others.
pub(super) fn all_endpoints<'v>(named: &NodeEndpoints<'_>, context: &Context<'v>) -> Option<Vec<(ToldBroker<'v>, Advertised)>> {
    let view: &'v View = context.view;
    if !named.nodes.iter().all(|entry| view.is_told(NodeId(entry.node))) {
        return None;
    }
    view.told_brokers().map(|broker| Some((broker, context.addresses.advertised(broker.id)?))).collect()
}

/// Whether each hint names a leader that clients are told of; beside one that does not, no endpoints may stand.
pub(super) fn leaders_are_told(hints: &[LeaderHint<'_>], context: &Context<'_>) -> bool {
    hints.iter().all(|hint| hint.leader < 0 || context.view.is_told(NodeId(hint.leader)))
}

/// Writes the array that `all_endpoints` gave; in all versions that have it, it is flexible.
pub(super) fn write_endpoints(writer: &mut Writer<'_>, endpoints: &[(ToldBroker<'_>, Advertised)]) {
    writer.count(endpoints.len());
    for (broker, address) in endpoints {
        writer.i32(broker.id.0);
        host_port(writer, address);
        writer.nullable_string(broker.rack.map(|rack| &**rack));
        writer.no_tagged_fields();
    }
}

/// ShareFetch and ShareAcknowledge (KIP-932): the endpoints beside leader hints, which there are no tagged field: all or none.
pub(super) fn rewrite_untagged(
    frame: &Bytes,
    named: &NodeEndpoints<'_>,
    hints: &[LeaderHint<'_>],
    context: &Context<'_>,
) -> Result<Rewritten, Failure> {
    let mut edits = Edits::new();
    if !named.nodes.is_empty() {
        let endpoints = if leaders_are_told(hints, context) { all_endpoints(named, context) } else { None }.unwrap_or_default();
        edits.replace(named.whole, true, |writer| write_endpoints(writer, &endpoints));
    }
    Ok(Rewritten::new(edits.apply(frame)?, learned_leaders(hints)))
}

/// The brokers that a response lists, with their real addresses. `None` if one of them has an address that cannot be connected to: a
/// list that is not whole would make that broker look departed.
pub(super) fn learned_brokers(brokers: &[NodeEntry<'_>]) -> Option<Vec<Broker>> {
    brokers
        .iter()
        .map(|entry| {
            let endpoint = Endpoint { host: text(entry.host)?, port: u16::try_from(entry.port).ok()? };
            Some(Broker { id: NodeId(entry.node), endpoint, rack: entry.rack.and_then(text) })
        })
        .collect()
}

/// What leader hints say, one entry per topic that has any.
pub(super) fn learned_leaders(hints: &[LeaderHint<'_>]) -> Option<Observation> {
    let mut topics: Vec<TopicObservation> = Vec::new();
    let mut last: Option<TopicRef<'_>> = None;
    for hint in hints.iter().filter(|hint| hint.leader >= 0) {
        if last != Some(hint.topic) {
            let (id, name) = match hint.topic {
                TopicRef::Id(id) => (TopicId(id), None),
                TopicRef::Name(name) => (TopicId::default(), text(name)),
            };
            topics.push(TopicObservation { id, name, error: 0, partitions: Vec::new() });
            last = Some(hint.topic);
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(PartitionObservation {
                index: hint.partition,
                error: hint.error,
                leader: Some(NodeId(hint.leader)),
                leader_epoch: hint.leader_epoch,
            });
        }
    }
    (!topics.is_empty()).then_some(Observation::Leaders(topics))
}

/// `None` if the bytes are not UTF-8.
pub(super) fn text(bytes: &[u8]) -> Option<Arc<str>> {
    std::str::from_utf8(bytes).ok().map(Arc::from)
}
