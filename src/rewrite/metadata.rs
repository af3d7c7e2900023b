//! Metadata: virtual addresses, and no leader that is not among the brokers.
//!
//! Invariant: in what leaves, every leader is in `brokers[]`, and −1 only beside an error. Deliberately absent: masking a departure.

use bytes::Bytes;

use super::nodes::{VirtualAddresses, learned_brokers, text};
use super::{Context, Failure, Rewritten};
use crate::cluster::{MetadataObservation, NodeId, Observation, PartitionObservation, Source, TopicId, TopicObservation};
use crate::wire::metadata::{MetadataPartition, MetadataResponse};
use crate::wire::{ApiKey, Edits};

const NONE: i16 = 0;
const LEADER_NOT_AVAILABLE: i16 = 5;
/// Clients go on to use a partition with this error (Kafka's own take it for NONE).
const REPLICA_NOT_AVAILABLE: i16 = 9;

pub(super) fn rewrite(version: i16, frame: &Bytes, context: &Context<'_>) -> Result<Rewritten, Failure> {
    let response = MetadataResponse::parse(frame, version)?;
    let flexible = ApiKey::METADATA.is_flexible(version);
    let mut edits = Edits::new();
    let addresses = VirtualAddresses::of(&response.brokers, |node| context.addresses.advertised(node));
    let listed = addresses.listed();
    addresses.replace(&mut edits, flexible, response.broker_count, &response.brokers);
    let is_listed = |node: i32| listed.binary_search(&node).is_ok();

    if let Some(controller) = response.controller
        && controller.node != -1
        && !is_listed(controller.node)
    {
        edits.replace(controller.span, flexible, |writer| writer.i32(-1));
    }
    for partition in response.partitions.iter().filter(|partition| !is_listed(partition.leader)) {
        if matches!(partition.error, NONE | REPLICA_NOT_AVAILABLE) {
            edits.replace(partition.error_span, flexible, |writer| writer.i16(LEADER_NOT_AVAILABLE));
        }
        if partition.leader != -1 {
            edits.replace(partition.leader_span, flexible, |writer| writer.i32(-1));
        }
    }
    Ok(Rewritten { frame: edits.apply(frame)?, observation: observation(version, &response) })
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
