//! CreateTopics 2–7. Any broker takes it, as in KRaft, where a broker forwards to the controller.
//!
//! Invariant: a topic exists for every broker at once. Deliberately not here: the check of configuration values.

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;

pub(crate) struct CreateTopics;

impl Api for CreateTopics {
    type Request = CreateTopicsRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: CreateTopicsRequest) -> Reply {
        let mut response = CreateTopicsResponse::default();
        for topic in &request.topics {
            let error_code = create(cluster, topic, request.validate_only).err().unwrap_or(code::NONE);
            let mut result = result_of(topic, error_code);
            if let Some(made) = cluster.topics.get(topic.name.as_str()).filter(|_| error_code == code::NONE) {
                if call.version >= 7 {
                    result.topic_id = made.id;
                }
                if call.version >= 5 {
                    result.num_partitions = i32::try_from(made.partitions.len()).unwrap_or(i32::MAX);
                    let factor = made.partitions.first().map_or(0, |partition| partition.replicas.len());
                    result.replication_factor = i16::try_from(factor).unwrap_or(i16::MAX);
                }
            }
            response.topics.push(result);
        }
        call.reply(&response)
    }

    fn refuse(_: &mut Cluster, call: &Call, request: CreateTopicsRequest, error_code: i16) -> Reply {
        let results = request.topics.iter().map(|topic| result_of(topic, error_code));
        call.reply(&CreateTopicsResponse::default().with_topics(results.collect()))
    }
}

fn result_of(topic: &CreatableTopic, error_code: i16) -> CreatableTopicResult {
    CreatableTopicResult::default().with_name(topic.name.clone()).with_error_code(error_code).with_configs(Some(Vec::new()))
}

/// Kafka: `org.apache.kafka.common.internals.Topic.validate`.
fn is_legal(name: &str) -> bool {
    let legal = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-');
    !name.is_empty() && name.len() <= 249 && name != "." && name != ".." && name.chars().all(legal)
}

fn create(cluster: &mut Cluster, topic: &CreatableTopic, validate_only: bool) -> Result<(), i16> {
    let name = topic.name.as_str();
    if !is_legal(name) {
        return Err(code::INVALID_TOPIC);
    }
    if cluster.topics.get(name).is_some() {
        return Err(code::TOPIC_ALREADY_EXISTS);
    }
    let listed = cluster.brokers.values().filter(|broker| broker.listed).count();
    if usize::try_from(topic.replication_factor).is_ok_and(|factor| factor == 0 || factor > listed) {
        return Err(code::INVALID_REPLICATION_FACTOR);
    }
    let wanted = if topic.num_partitions == -1 { cluster.options.default_partitions } else { topic.num_partitions };
    let given: Vec<Vec<i32>> = topic.assignments.iter().map(|assignment| assignment.broker_ids.iter().map(|id| id.0).collect()).collect();
    if given.iter().any(|replicas| replicas.is_empty() || replicas.iter().any(|id| !cluster.brokers.contains_key(id))) {
        return Err(code::INVALID_REPLICA_ASSIGNMENT);
    }
    if given.is_empty() && wanted <= 0 {
        return Err(code::INVALID_PARTITIONS);
    }
    if validate_only {
        return Ok(());
    }
    if given.is_empty() {
        let usual = cluster.options.replication_factor;
        if topic.replication_factor > 0 {
            cluster.options.replication_factor = topic.replication_factor;
        }
        cluster.create_topic(name, wanted);
        cluster.options.replication_factor = usual;
    } else {
        cluster.create_assigned_topic(name, given);
    }
    if let Some(made) = cluster.topics.get_mut(name) {
        let configs = topic.configs.iter().filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string())));
        made.configs = configs.collect();
    }
    Ok(())
}
