//! Metadata: virtual addresses, and a departure as clients see it: who left stays listed, and its partitions stay led (`masks`).
//!
//! Invariant: every leader and the controller that leave are in `brokers[]`, with host, port and rack that never change.
//! Deliberately absent: holding an answer back; what the cluster really said is what the view learns.

use bytes::Bytes;

use super::masks::{Leadership, Masked, Masking};
use super::nodes::{AddedBroker, VirtualAddresses, learned_brokers, text};
use super::{Context, Failure, Rewritten};
use crate::cluster::{
    MetadataObservation, NodeId, Observation, PartitionObservation, Source, Topic, TopicId, TopicObservation, TopicRef, View,
};
use crate::wire::metadata::{MetadataPartition, MetadataResponse, MetadataTopic};
use crate::wire::node::NodeEntry;
use crate::wire::{ApiKey, Edits};

pub(super) fn rewrite(version: i16, frame: &Bytes, context: &Context<'_>) -> Result<Rewritten, Failure> {
    let response = MetadataResponse::parse(frame, version)?;
    let flexible = ApiKey::METADATA.is_flexible(version);
    let view = context.view;
    let mut masked = Masked::default();
    let mut edits = Edits::new();
    let is_ours = is_of_the_views_cluster(&response, view);

    let addresses = VirtualAddresses::of(&response.brokers, |node| context.addresses.advertised(node));
    let mut listed = addresses.listed();
    let added = if is_ours { missing_brokers(&listed, version, context) } else { Vec::new() };
    masked.brokers_added = added.len() as u32;
    let rack = |entry: &NodeEntry<'_>| if is_ours && version >= 1 { told_rack(view, entry) } else { None };
    addresses.replace(&mut edits, flexible, response.broker_count, &response.brokers, rack, &added);
    listed.extend(added.iter().map(|broker| broker.node));
    listed.sort_unstable();

    if let Some(controller) = response.controller
        && controller.node != -1
        && listed.binary_search(&controller.node).is_err()
    {
        edits.replace(controller.span, flexible, |writer| writer.i32(-1));
    }
    let masking = Masking { view, now: context.now, masks: context.masks, listed: &listed };
    for topic in &response.topics {
        let known = if is_ours { known_topic(view, topic) } else { None };
        for partition in response.partitions_of(topic) {
            let epoch = (version >= FIRST_VERSION_WITH_EPOCHS).then_some(partition.leader_epoch);
            let seen = Leadership { error: partition.error, leader: partition.leader, epoch };
            let known = known.and_then(|known| known.partitions.get(&partition.index));
            let told = masking.told(seen, known, &mut masked);
            if told != seen {
                retell(&mut edits, partition, seen, told);
            }
        }
    }
    Ok(Rewritten { frame: edits.apply(frame)?, observation: observation(version, &response), masked })
}

const FIRST_VERSION_WITH_EPOCHS: i16 = 7;

/// Another cluster's answer must not be mixed with what we know of ours.
fn is_of_the_views_cluster(response: &MetadataResponse<'_>, view: &View) -> bool {
    match (response.cluster_id, &view.cluster_id) {
        (Some(seen), Some(known)) => seen.is_empty() || seen == known.as_bytes(),
        _ => true,
    }
}

/// Brokers that left, or that the broker which answered has not heard of yet.
fn missing_brokers<'v>(listed: &[i32], version: i16, context: &Context<'v>) -> Vec<AddedBroker<'v>> {
    let missing = context.view.told_brokers().filter(|broker| listed.binary_search(&broker.id.0).is_err());
    missing
        .filter_map(|broker| {
            let rack = (version >= 1).then_some(broker.rack.map(|rack| &**rack));
            Some(AddedBroker { node: broker.id.0, address: context.addresses.advertised(broker.id)?, rack })
        })
        .collect()
}

/// The rack that clients have been told, where the answer has another one: they would drop their connections to this broker.
fn told_rack<'v>(view: &'v View, seen: &NodeEntry<'_>) -> Option<Option<&'v str>> {
    let node = NodeId(seen.node);
    let is_settled = view.departed.get(&node).is_some_and(|departed| departed.endpoint.is_some());
    let known = view.known_rack(node).map(|rack| &**rack);
    ((known.is_some() || is_settled) && known.map(str::as_bytes) != seen.rack).then_some(known)
}

fn known_topic<'v>(view: &'v View, topic: &MetadataTopic<'_>) -> Option<&'v Topic> {
    let id = TopicId(topic.id);
    let topic = match topic.name.map(std::str::from_utf8) {
        _ if id != TopicId::default() => TopicRef::Id(id),
        Some(Ok(name)) => TopicRef::Name(name),
        _ => return None,
    };
    view.topic(topic).map(|topic| &**topic)
}

fn retell(edits: &mut Edits, partition: &MetadataPartition, seen: Leadership, told: Leadership) {
    if told.error != seen.error {
        edits.replace(partition.error_span, false, |writer| writer.i16(told.error));
    }
    if told.leader != seen.leader {
        edits.replace(partition.leader_span, false, |writer| writer.i32(told.leader));
    }
    if let Some(epoch) = told.epoch.filter(|_| told.epoch != seen.epoch) {
        edits.replace(partition.leader_epoch_span, false, |writer| writer.i32(epoch));
    }
}

/// What the cluster itself said, before the rewrite.
fn observation(version: i16, response: &MetadataResponse<'_>) -> Option<Observation> {
    let topics = response
        .topics
        .iter()
        .map(|topic| TopicObservation {
            id: TopicId(topic.id),
            name: topic.name.and_then(text),
            error: topic.error,
            partitions: response.partitions_of(topic).iter().map(learned_partition).collect(),
        })
        .collect();
    Some(Observation::Metadata(MetadataObservation {
        source: Source::Passing,
        version,
        cluster_id: response.cluster_id.and_then(text),
        controller: response.controller.and_then(|controller| node(controller.node)),
        brokers: learned_brokers(&response.brokers)?,
        topics,
    }))
}

fn learned_partition(partition: &MetadataPartition) -> PartitionObservation {
    PartitionObservation {
        index: partition.index,
        error: partition.error,
        leader: node(partition.leader),
        leader_epoch: partition.leader_epoch,
    }
}

fn node(id: i32) -> Option<NodeId> {
    (id >= 0).then_some(NodeId(id))
}
