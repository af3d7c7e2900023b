//! TxnOffsetCommit 0–5, at the group's coordinator.
//!
//! Invariant: an offset counts only when its transaction commits. Deliberately not here: a producer's sequences, which offsets have none of.

use kafka_protocol::messages::txn_offset_commit_response::{TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::group::Committed;
use crate::sim::profile::Profile;
use crate::sim::transaction::Identity;

pub(crate) struct TxnOffsetCommit;

/// A group's log takes offsets of a transaction that has the group, as a partition takes batches; what is in the log already need not be
/// asked for again. 3.6 does not ask. From version 5 on the commit adds the group itself (KIP-890; `GroupMetadataManager.storeOffsets`,
/// `maybeConvertOffsetCommitError`).
fn verify(cluster: &mut Cluster, call: &Call, request: &TxnOffsetCommitRequest, identity: Identity) -> Result<(), i16> {
    let (id, group_id) = (request.transactional_id.as_str(), request.group_id.as_str());
    let is_known = cluster.groups.get(group_id).is_some_and(|group| group.pending.contains_key(&identity.producer_id));
    let is_older = cluster.brokers.get(&call.broker).is_some_and(|broker| broker.profile == Profile::V3_6);
    if is_known || is_older {
        return Ok(());
    }
    let as_loading = |error_code| if error_code == code::NETWORK_EXCEPTION { code::COORDINATOR_LOAD_IN_PROGRESS } else { error_code };
    cluster.transaction_coordinator_answers(id).map_err(as_loading)?;
    if call.version >= 5 {
        return cluster.transactions.add_group(cluster.now, id, identity, code::INVALID_PRODUCER_EPOCH, group_id);
    }
    cluster.transactions.holds_group(id, identity, group_id)
}

fn commit(cluster: &mut Cluster, call: &Call, request: &TxnOffsetCommitRequest) -> Result<(), i16> {
    let group_id = request.group_id.as_str();
    cluster.coordinates(call, group_id)?;
    let identity = Identity { producer_id: request.producer_id.0, epoch: request.producer_epoch };
    verify(cluster, call, request, identity)?;
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
