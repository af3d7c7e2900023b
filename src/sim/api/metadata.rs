//! Metadata 0–13, from the image that this broker serves.
//!
//! Invariant: one answer comes from one image. Deliberately not here: authorised operations.

use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse};
use uuid::Uuid;

use super::{Api, Call, Reply, text, topic_name};
use crate::sim::CLUSTER_ID;
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::image::{Image, ImageTopic};

pub(crate) struct Metadata;

/// A topic as it was asked for.
enum Asked {
    Name(String),
    Id(Uuid),
}

impl Api for Metadata {
    type Request = MetadataRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: MetadataRequest) -> Reply {
        let image = cluster.image_at(call.broker);
        let mut response = frame_of(&image);
        match asked(call, &request) {
            None => response.topics = image.topics.iter().map(|(name, topic)| known(name, topic)).collect(),
            Some(asked) => {
                let may_create = cluster.options.auto_create_topics && (call.version < 4 || request.allow_auto_topic_creation);
                for topic in asked {
                    let mut described = describe(cluster, &image, topic, may_create);
                    if call.version >= 12 && described.error_code == code::UNKNOWN_TOPIC_ID {
                        described.name = None;
                    }
                    response.topics.push(described);
                }
            }
        }
        call.reply(&response)
    }

    fn refuse(cluster: &mut Cluster, call: &Call, request: MetadataRequest, error_code: i16) -> Reply {
        let image = cluster.image_at(call.broker);
        let mut response = frame_of(&image);
        let names = match asked(call, &request) {
            None => image.topics.keys().cloned().collect(),
            Some(asked) => asked.into_iter().filter_map(|topic| name_of(&image, topic)).collect::<Vec<_>>(),
        };
        response.topics = names.iter().map(|name| unknown(Some(name), Uuid::nil(), error_code)).collect();
        call.reply(&response)
    }
}

/// The topics that a request names; `None`: all. In version 0 an empty list means all.
fn asked(call: &Call, request: &MetadataRequest) -> Option<Vec<Asked>> {
    let topics = request.topics.as_ref()?;
    if call.version == 0 && topics.is_empty() {
        return None;
    }
    let one = |topic: &kafka_protocol::messages::metadata_request::MetadataRequestTopic| match &topic.name {
        Some(name) => Asked::Name(name.to_string()),
        None => Asked::Id(topic.topic_id),
    };
    Some(topics.iter().map(one).collect())
}

fn name_of(image: &Image, asked: Asked) -> Option<String> {
    match asked {
        Asked::Name(name) => Some(name),
        Asked::Id(id) => image.topics.iter().find(|(_, topic)| topic.id == id).map(|(name, _)| name.clone()),
    }
}

fn frame_of(image: &Image) -> MetadataResponse {
    let brokers = image.brokers.iter().map(|broker| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(broker.id))
            .with_host(text(&broker.host))
            .with_port(i32::from(broker.port))
            .with_rack(broker.rack.as_deref().map(text))
    });
    MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(text(CLUSTER_ID)))
        .with_controller_id(BrokerId(image.controller))
}

fn describe(cluster: &mut Cluster, image: &Image, asked: Asked, may_create: bool) -> MetadataResponseTopic {
    match asked {
        Asked::Id(id) => match image.topics.iter().find(|(_, topic)| topic.id == id) {
            Some((name, topic)) => known(name, topic),
            None => unknown(None, id, code::UNKNOWN_TOPIC_ID),
        },
        Asked::Name(name) => match image.topics.get(&name) {
            Some(topic) => known(&name, topic),
            None => {
                // Kafka creates it behind its answer, which still says that there is none.
                if may_create && cluster.topics.get(&name).is_none() {
                    cluster.create_topic(&name, cluster.options.default_partitions);
                }
                unknown(Some(&name), Uuid::nil(), code::UNKNOWN_TOPIC_OR_PARTITION)
            }
        },
    }
}

fn unknown(name: Option<&str>, id: Uuid, error_code: i16) -> MetadataResponseTopic {
    // Versions below 12 have no room for a missing name.
    MetadataResponseTopic::default().with_error_code(error_code).with_name(Some(topic_name(name.unwrap_or_default()))).with_topic_id(id)
}

fn known(name: &str, topic: &ImageTopic) -> MetadataResponseTopic {
    let partition = |(index, partition): (usize, &crate::sim::image::ImagePartition)| {
        let ids = |nodes: &[i32]| nodes.iter().map(|id| BrokerId(*id)).collect::<Vec<_>>();
        MetadataResponsePartition::default()
            .with_error_code(partition.error_code)
            .with_partition_index(i32::try_from(index).unwrap_or(i32::MAX))
            .with_leader_id(BrokerId(partition.leader))
            .with_leader_epoch(partition.leader_epoch)
            .with_replica_nodes(ids(&partition.replicas))
            .with_isr_nodes(ids(&partition.isr))
            .with_offline_replicas(ids(&partition.offline))
    };
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(name)))
        .with_topic_id(topic.id)
        .with_partitions(topic.partitions.iter().enumerate().map(partition).collect())
}
