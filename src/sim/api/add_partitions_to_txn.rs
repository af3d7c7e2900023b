//! AddPartitionsToTxn 0–5: one transaction up to version 3 (clients), several from 4 on (brokers).
//!
//! Invariant: partitions are added all or none. Deliberately not here: what a transaction is (`transaction`).

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::transaction::Identity;

pub(crate) struct AddPartitionsToTxn;

/// Partitions that could have been added, had another of the request not failed.
const OPERATION_NOT_ATTEMPTED: i16 = 55;

fn results(topics: &[AddPartitionsToTxnTopic], error_of: impl Fn(&str, i32) -> i16) -> Vec<AddPartitionsToTxnTopicResult> {
    let one = |topic: &AddPartitionsToTxnTopic| {
        let partitions = topic.partitions.iter().map(|index| {
            let error_code = error_of(topic.name.as_str(), *index);
            AddPartitionsToTxnPartitionResult::default().with_partition_index(*index).with_partition_error_code(error_code)
        });
        AddPartitionsToTxnTopicResult::default().with_name(topic.name.clone()).with_results_by_partition(partitions.collect())
    };
    topics.iter().map(one).collect()
}

fn add(
    cluster: &mut Cluster,
    call: &Call,
    transactional_id: &str,
    identity: Identity,
    verify_only: bool,
    topics: &[AddPartitionsToTxnTopic],
) -> Vec<AddPartitionsToTxnTopicResult> {
    if let Err(error_code) = cluster.coordinates_transaction(call, transactional_id) {
        return results(topics, |_, _| error_code);
    }
    let keys = topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (topic.name.to_string(), *index)));
    let keys: Vec<(String, i32)> = keys.collect();
    let is_missing = |topic: &str, index: i32| cluster.topics.partition(topic, index).is_none();
    if keys.iter().any(|(topic, index)| is_missing(topic, *index)) {
        return results(
            topics,
            |topic, index| {
                if is_missing(topic, index) { code::UNKNOWN_TOPIC_OR_PARTITION } else { OPERATION_NOT_ATTEMPTED }
            },
        );
    }
    let done = if verify_only {
        keys.iter().try_for_each(|key| cluster.transactions.holds(transactional_id, identity, key))
    } else {
        let fenced = if call.version >= 2 { code::PRODUCER_FENCED } else { code::INVALID_PRODUCER_EPOCH };
        cluster.transactions.add_partitions(cluster.now, transactional_id, identity, fenced, keys)
    };
    results(topics, |_, _| done.err().unwrap_or(code::NONE))
}

impl Api for AddPartitionsToTxn {
    type Request = AddPartitionsToTxnRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: AddPartitionsToTxnRequest) -> Reply {
        if call.version < 4 {
            let identity = Identity { producer_id: request.v3_and_below_producer_id.0, epoch: request.v3_and_below_producer_epoch };
            let id = request.v3_and_below_transactional_id.as_str();
            let added = add(cluster, call, id, identity, false, &request.v3_and_below_topics);
            return call.reply(&AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(added));
        }
        let mut response = AddPartitionsToTxnResponse::default();
        for transaction in request.transactions {
            let identity = Identity { producer_id: transaction.producer_id.0, epoch: transaction.producer_epoch };
            let id = transaction.transactional_id.as_str();
            let added = add(cluster, call, id, identity, transaction.verify_only, &transaction.topics);
            let result = AddPartitionsToTxnResult::default().with_transactional_id(transaction.transactional_id);
            response.results_by_transaction.push(result.with_topic_results(added));
        }
        call.reply(&response)
    }

    fn refuse(_: &mut Cluster, call: &Call, request: AddPartitionsToTxnRequest, error_code: i16) -> Reply {
        if call.version < 4 {
            let refused = results(&request.v3_and_below_topics, |_, _| error_code);
            return call.reply(&AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(refused));
        }
        call.reply(&AddPartitionsToTxnResponse::default().with_error_code(error_code))
    }
}
