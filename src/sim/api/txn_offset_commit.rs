//! TxnOffsetCommit 0–5, at the group's coordinator.
//!
//! Invariant: an offset counts only when its transaction commits. Deliberately not here: fencing by the transaction coordinator, which a
//! group coordinator does not ask either.

use kafka_protocol::messages::txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::group::Committed;
use crate::sim::transaction::Identity;

pub(crate) struct TxnOffsetCommit;

fn commit(cluster: &mut Cluster, call: &Call, request: &TxnOffsetCommitRequest) -> Result<(), i16> {
    let group_id = request.group_id.as_str();
    cluster.coordinates(call, group_id)?;
    let identity = Identity { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    if call.version >= 5 {
        // From version 5 on it adds the group to the transaction as well (KIP-890).
        let id = request.transactional_id.as_str();
        cluster.transactions.add_partitions(cluster.now, id, identity, code::INVALID_PRODUCER_EPOCH, Vec::new())?;
    }
    let group = cluster.groups.get_or_create(group_id);
    // A producer that is no consumer says −1 and no member (KIP-447).
    if request.generation_id >= 0 || !request.member_id.is_empty() {
        group.admit_commit(request.member_id.as_str(), request.group_instance_id.as_deref(), request.generation_id)?;
    }
    let pending = group.pending.entry(identity.producer_id).or_default();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let committed = Committed {
                offset: partition.committed_offset,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition.committed_metadata.as_ref().map(|metadata| metadata.to_string()).unwrap_or_default(),
            };
            pending.insert((topic.name.to_string(), partition.partition_index), committed);
        }
    }
    Ok(())
}

impl Api for TxnOffsetCommit {
    type Request = TxnOffsetCommitRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: TxnOffsetCommitRequest) -> Reply {
        let error_code = commit(cluster, call, &request).err().unwrap_or(code::NONE);
        // Producers before 2.0 know no 14 (`KafkaApis.handleTxnOffsetCommitRequest`).
        let is_old = call.version < 2 && error_code == code::COORDINATOR_LOAD_IN_PROGRESS;
        let error_code = if is_old { code::COORDINATOR_NOT_AVAILABLE } else { error_code };
        Self::refuse(cluster, call, request, error_code)
    }

    fn refuse(_: &mut Cluster, call: &Call, request: TxnOffsetCommitRequest, error_code: i16) -> Reply {
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                TxnOffsetCommitResponsePartition::default().with_partition_index(partition.partition_index).with_error_code(error_code)
            });
            TxnOffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
        });
        call.reply(&TxnOffsetCommitResponse::default().with_topics(topics.collect()))
    }
}
