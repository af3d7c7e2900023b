//! OffsetCommit 2–9.
//!
//! Invariant: a commit is taken whole or not at all. Deliberately not here: expiry, and version 10 with topic ids.

use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::group::Committed;

pub(crate) struct OffsetCommit;

fn commit(cluster: &mut Cluster, call: &Call, request: &OffsetCommitRequest) -> Result<(), i16> {
    let group_id = request.group_id.as_str();
    cluster.coordinates(call, group_id)?;
    let now = cluster.now;
    let generation = request.generation_id_or_member_epoch;
    if generation >= 0 && cluster.groups.get(group_id).is_none() {
        return Err(code::ILLEGAL_GENERATION);
    }
    let group = cluster.groups.get_or_create(group_id);
    group.admit_commit(request.member_id.as_str(), request.group_instance_id.as_deref(), generation)?;
    group.touch(request.member_id.as_str(), now);
    for topic in &request.topics {
        for partition in &topic.partitions {
            let committed = Committed {
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.as_ref().map(|metadata| metadata.to_string()).unwrap_or_default(),
            };
            group.commit([((topic.name.to_string(), partition.partition_index), committed)]);
        }
    }
    Ok(())
}

impl Api for OffsetCommit {
    type Request = OffsetCommitRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: OffsetCommitRequest) -> Reply {
        let error_code = commit(cluster, call, &request).err().unwrap_or(code::NONE);
        Self::refuse(cluster, call, request, error_code)
    }

    fn refuse(_: &mut Cluster, call: &Call, request: OffsetCommitRequest, error_code: i16) -> Reply {
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                OffsetCommitResponsePartition::default().with_partition_index(partition.partition_index).with_error_code(error_code)
            });
            OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
        });
        call.reply(&OffsetCommitResponse::default().with_topics(topics.collect()))
    }
}
