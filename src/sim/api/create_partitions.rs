//! CreatePartitions 0–3.
//!
//! Invariant: partitions are only ever added. Deliberately not here: assignments given by hand; the new ones go round the brokers.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;

pub(crate) struct CreatePartitions;

fn create(cluster: &mut Cluster, asked: &CreatePartitionsTopic, validate_only: bool) -> Result<(), i16> {
    let known = cluster.topics.get(asked.name.as_str()).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    let wanted = usize::try_from(asked.count).map_err(|_| code::INVALID_PARTITIONS)?;
    if wanted <= known.partitions.len() {
        return Err(code::INVALID_PARTITIONS);
    }
    if !validate_only {
        cluster.grow_topic(asked.name.as_str(), wanted);
    }
    Ok(())
}

impl Api for CreatePartitions {
    type Request = CreatePartitionsRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: CreatePartitionsRequest) -> Reply {
        let mut response = CreatePartitionsResponse::default();
        for topic in request.topics {
            let error_code = create(cluster, &topic, request.validate_only).err().unwrap_or(code::NONE);
            response.results.push(CreatePartitionsTopicResult::default().with_name(topic.name).with_error_code(error_code));
        }
        call.reply(&response)
    }

    fn refuse(_: &mut Cluster, call: &Call, request: CreatePartitionsRequest, error_code: i16) -> Reply {
        let one = |topic: CreatePartitionsTopic| CreatePartitionsTopicResult::default().with_name(topic.name).with_error_code(error_code);
        call.reply(&CreatePartitionsResponse::default().with_results(request.topics.into_iter().map(one).collect()))
    }
}
