//! DescribeProducers 0: who writes to a partition, idempotently or in transactions.
//!
//! Source: Kafka's `ReplicaManager.activeProducerState`, `Partition.activeProducerState`. Invariant: any broker that holds a replica answers,
//! the leader or not; it knows no epoch to compare. Deliberately not here: the coordinator's epoch; it is always −1.

use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;

pub(crate) struct DescribeProducers;

fn look(cluster: &mut Cluster, call: &Call, topic: &str, index: i32) -> Result<Vec<ProducerState>, i16> {
    let partition = cluster.topics.partition_mut(topic, index).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    partition.admit_reader(call.broker, -1)?;
    let known: Vec<_> = partition.producers_at(call.broker).known().collect();
    let one = |known: &crate::sim::producer_state::KnownProducer| {
        ProducerState::default()
            .with_producer_id(ProducerId(known.producer_id))
            .with_producer_epoch(i32::from(known.epoch))
            .with_last_sequence(known.last_sequence)
            .with_last_timestamp(known.last_timestamp_ms)
            .with_coordinator_epoch(-1)
            .with_current_txn_start_offset(partition.log.ongoing_since(known.producer_id).unwrap_or(-1))
    };
    Ok(known.iter().map(one).collect())
}

fn respond(call: &Call, request: DescribeProducersRequest, mut each: impl FnMut(&str, i32) -> Result<Vec<ProducerState>, i16>) -> Reply {
    let mut response = DescribeProducersResponse::default();
    for topic in request.topics {
        let mut answer = TopicResponse::default().with_name(topic.name.clone());
        for index in topic.partition_indexes {
            let part = PartitionResponse::default().with_partition_index(index);
            answer.partitions.push(match each(topic.name.as_str(), index) {
                Ok(producers) => part.with_active_producers(producers),
                Err(error_code) => part.with_error_code(error_code),
            });
        }
        response.topics.push(answer);
    }
    call.reply(&response)
}

impl Api for DescribeProducers {
    type Request = DescribeProducersRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: DescribeProducersRequest) -> Reply {
        respond(call, request, |topic, index| look(cluster, call, topic, index))
    }

    fn refuse(_: &mut Cluster, call: &Call, request: DescribeProducersRequest, error_code: i16) -> Reply {
        respond(call, request, |_, _| Err(error_code))
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_producers_request::TopicRequest;

    use super::super::topic_name;
    use super::*;
    use crate::sim::bench::{Bench, Made};

    #[test]
    fn leader_and_followers_tell_of_producers_and_others_answer_6() {
        let mut bench = Bench::new();
        bench.cluster.create_assigned_topic("t", vec![vec![0, 1]]);
        let conn = bench.connect(0);
        bench.produce(conn, "t", 0, Made::idempotent(5, 0, 3));
        let topic = TopicRequest::default().with_name(topic_name("t")).with_partition_indexes(vec![0, 1]);
        let request = DescribeProducersRequest::default().with_topics(vec![topic]);
        for (broker, error_code) in [(0, code::NONE), (1, code::NONE), (2, code::NOT_LEADER_OR_FOLLOWER)] {
            let conn = bench.connect(broker);
            let response = bench.ask(conn, 0, &request);
            let parts = &response.topics[0].partitions;
            assert_eq!((parts[0].error_code, parts[1].error_code), (error_code, code::UNKNOWN_TOPIC_OR_PARTITION));
            let told: Vec<_> = parts[0].active_producers.iter().map(|one| (one.producer_id.0, one.last_sequence)).collect();
            assert_eq!(told, if error_code == code::NONE { vec![(5, 2)] } else { vec![] });
        }
    }
}
