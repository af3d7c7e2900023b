//! Responses in the words of the kafka-protocol crate, for tests to hold ours against. Shared with the tests of `rewrite`.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{
    BrokerId, ResponseHeader, TopicName, api_versions_response as av, describe_cluster_response as dc, find_coordinator_response as fc,
    metadata_response as md, produce_response as pr, share_acknowledge_response as sa, share_fetch_response as sf,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use crate::wire::ApiKey;

/// What a cluster could say, from which every response is made.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub nodes: Vec<NodeSpec>,
    pub controller: i32,
    pub topics: Vec<TopicSpec>,
    pub message: Option<String>,
    /// In every structure of a flexible version: a tagged field that nobody knows.
    pub unknown_tag: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(crate) struct NodeSpec {
    pub id: i32,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct TopicSpec {
    pub name: String,
    pub id: [u8; 16],
    pub partitions: Vec<PartitionSpec>,
}

#[derive(Clone, Debug)]
pub(crate) struct PartitionSpec {
    pub error: i16,
    pub leader: i32,
    pub epoch: i32,
    pub replicas: Vec<i32>,
    pub records: Option<Vec<u8>>,
}

pub(crate) fn spec() -> impl Strategy<Value = Spec> {
    let node = ("[a-z]{1,12}(\\.[a-z]{1,3})?", 1..=65535, option::of("[a-c]{0,3}"));
    let nodes = btree_map(0i32..6, node, 0..5)
        .prop_map(|nodes| nodes.into_iter().map(|(id, (host, port, rack))| NodeSpec { id, host, port, rack }).collect());
    let partition = (
        prop_oneof![Just(0i16), Just(5), Just(6), Just(9), Just(74)],
        -1i32..7,
        0i32..1000,
        vec(0i32..7, 0..4),
        option::of(vec(any::<u8>(), 0..40)),
    )
        .prop_map(|(error, leader, epoch, replicas, records)| PartitionSpec { error, leader, epoch, replicas, records });
    let topic =
        ("[a-z]{1,20}", any::<[u8; 16]>(), vec(partition, 0..4)).prop_map(|(name, id, partitions)| TopicSpec { name, id, partitions });
    (nodes, -1i32..6, vec(topic, 0..4), option::of("[a-z]{0,200}"), option::of(vec(any::<u8>(), 0..200)))
        .prop_map(|(nodes, controller, topics, message, unknown_tag)| Spec { nodes, controller, topics, message, unknown_tag })
}

pub(crate) fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// The crate's `Uuid`, which its own crate would make, but that is not among our dependencies.
macro_rules! uuid {
    ($id:expr) => {{
        let with_no_partitions_and_no_tags = [&$id[..], &[1, 0]].concat();
        pr::TopicProduceResponse::decode(&mut Bytes::from(with_no_partitions_and_no_tags), 13).unwrap().topic_id
    }};
}

/// A whole frame.
pub(crate) fn frame(api: ApiKey, version: i16, unknown_tag: &Option<Vec<u8>>, body: &impl Encodable) -> Bytes {
    let mut header = ResponseHeader::default().with_correlation_id(0x0102_0304);
    let header_version = api.response_header_version(version);
    if let Some(tag) = unknown_tag.as_ref().filter(|_| header_version >= 1) {
        header.unknown_tagged_fields.insert(UNKNOWN_TAG, tag.clone().into());
    }
    let mut payload = BytesMut::new();
    header.encode(&mut payload, header_version).unwrap();
    body.encode(&mut payload, version).unwrap();
    framed(&payload)
}

pub(crate) fn framed(payload: &[u8]) -> Bytes {
    [&(payload.len() as i32).to_be_bytes(), payload].concat().into()
}

pub(crate) const UNKNOWN_TAG: i32 = 200;

/// Puts the unknown tagged field into a structure.
macro_rules! tagged {
    ($spec:expr, $flexible:expr, $structure:expr) => {{
        let mut structure = $structure;
        if let Some(tag) = $spec.unknown_tag.as_ref().filter(|_| $flexible) {
            structure.unknown_tagged_fields.insert(UNKNOWN_TAG, tag.clone().into());
        }
        structure
    }};
}

pub(crate) fn metadata(spec: &Spec, version: i16) -> md::MetadataResponse {
    let flexible = version >= 9;
    let ids = |ids: &[i32]| ids.iter().map(|id| BrokerId(*id)).collect::<Vec<_>>();
    let brokers = spec.nodes.iter().map(|node| {
        let broker = md::MetadataResponseBroker::default()
            .with_node_id(BrokerId(node.id))
            .with_host(text(&node.host))
            .with_port(node.port)
            .with_rack(node.rack.as_deref().filter(|_| version >= 1).map(text));
        tagged!(spec, flexible, broker)
    });
    let topics = spec.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(0..).map(|(partition, index)| {
            let partition = md::MetadataResponsePartition::default()
                .with_error_code(partition.error)
                .with_partition_index(index)
                .with_leader_id(BrokerId(partition.leader))
                .with_leader_epoch(if version >= 7 { partition.epoch } else { -1 })
                .with_replica_nodes(ids(&partition.replicas))
                .with_isr_nodes(ids(&partition.replicas))
                .with_offline_replicas(if version >= 5 { ids(&partition.replicas) } else { Vec::new() });
            tagged!(spec, flexible, partition)
        });
        let mut response = md::MetadataResponseTopic::default()
            .with_name(Some(TopicName(text(&topic.name))))
            .with_is_internal(version >= 1)
            .with_partitions(partitions.collect());
        if version >= 8 {
            response.topic_authorized_operations = 0x0123;
        }
        if version >= 10 {
            response.topic_id = uuid!(topic.id);
        }
        if version >= 12 && topic.partitions.is_empty() {
            response.name = None;
        }
        tagged!(spec, flexible, response)
    });
    let mut response = md::MetadataResponse::default().with_brokers(brokers.collect()).with_topics(topics.collect());
    if version >= 1 {
        response.controller_id = BrokerId(spec.controller);
    }
    if version >= 2 {
        response.cluster_id = spec.message.as_deref().map(text);
    }
    if version >= 3 {
        response.throttle_time_ms = 17;
    }
    if (8..=10).contains(&version) {
        response.cluster_authorized_operations = 0x0456;
    }
    tagged!(spec, flexible, response)
}

pub(crate) fn find_coordinator(spec: &Spec, version: i16) -> fc::FindCoordinatorResponse {
    let flexible = version >= 3;
    let mut response = fc::FindCoordinatorResponse::default();
    if version >= 1 {
        response.throttle_time_ms = 17;
    }
    if version <= 3 {
        if version >= 1 {
            response.error_message = spec.message.as_deref().map(text);
        }
        match spec.nodes.first() {
            Some(node) => {
                response.node_id = BrokerId(node.id);
                response.host = text(&node.host);
                response.port = node.port;
            }
            None => {
                response.error_code = 15;
                response.node_id = BrokerId(-1);
                response.port = -1;
            }
        }
    } else {
        let nobody = NodeSpec { id: -1, host: String::new(), port: -1, rack: None };
        response.coordinators = spec
            .nodes
            .iter()
            .chain([&nobody])
            .map(|node| {
                let coordinator = fc::Coordinator::default()
                    .with_key(text(&format!("group-{}", node.id)))
                    .with_node_id(BrokerId(node.id))
                    .with_host(text(&node.host))
                    .with_port(node.port)
                    .with_error_code(if node.id < 0 { 15 } else { 0 })
                    .with_error_message(spec.message.as_deref().map(text));
                tagged!(spec, flexible, coordinator)
            })
            .collect();
    }
    tagged!(spec, flexible, response)
}

pub(crate) fn describe_cluster(spec: &Spec, version: i16) -> dc::DescribeClusterResponse {
    let brokers = spec.nodes.iter().map(|node| {
        let mut broker = dc::DescribeClusterBroker::default()
            .with_broker_id(BrokerId(node.id))
            .with_host(text(&node.host))
            .with_port(node.port)
            .with_rack(node.rack.as_deref().map(text));
        if version >= 2 {
            broker.is_fenced = node.id % 2 == 0;
        }
        tagged!(spec, true, broker)
    });
    let response = dc::DescribeClusterResponse::default()
        .with_throttle_time_ms(17)
        .with_error_message(spec.message.as_deref().map(text))
        .with_cluster_id(text("the-cluster"))
        .with_controller_id(BrokerId(spec.controller))
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(0x0789);
    tagged!(spec, true, response)
}

/// Every API that the crate knows, a few that nobody knows, and all features that there are.
pub(crate) fn api_versions(spec: &Spec, version: i16, ranges: &[(i16, i16, i16)]) -> av::ApiVersionsResponse {
    let flexible = version >= 3;
    let keys = ranges.iter().map(|(key, min, max)| {
        let range = av::ApiVersion::default().with_api_key(*key).with_min_version(*min).with_max_version(*max);
        tagged!(spec, flexible, range)
    });
    let mut response = av::ApiVersionsResponse::default().with_api_keys(keys.collect());
    if version >= 1 {
        response.throttle_time_ms = 17;
    }
    if flexible {
        response.supported_features =
            vec![tagged!(spec, true, av::SupportedFeatureKey::default().with_name(text("metadata.version")).with_max_version(29))];
        response.finalized_features_epoch = 3;
        response.finalized_features = vec![av::FinalizedFeatureKey::default().with_name(text("group.version")).with_max_version_level(1)];
        response.zk_migration_ready = true;
    }
    tagged!(spec, flexible, response)
}

pub(crate) fn produce(spec: &Spec, version: i16) -> pr::ProduceResponse {
    let topics = spec.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(0..).map(|(partition, index)| {
            let mut response = pr::PartitionProduceResponse::default()
                .with_index(index)
                .with_error_code(partition.error)
                .with_base_offset(i64::from(partition.epoch))
                .with_error_message(spec.message.as_deref().map(text));
            if partition.error == 6 {
                let leader = pr::LeaderIdAndEpoch::default().with_leader_id(BrokerId(partition.leader)).with_leader_epoch(partition.epoch);
                response.current_leader = tagged!(spec, true, leader);
            }
            if partition.error == 9 {
                let error = pr::BatchIndexAndErrorMessage::default().with_batch_index(3).with_batch_index_error_message(Some(text("bad")));
                response.record_errors = vec![tagged!(spec, true, error)];
            }
            tagged!(spec, true, response)
        });
        let mut response = pr::TopicProduceResponse::default().with_partition_responses(partitions.collect());
        if version >= 13 {
            response.topic_id = uuid!(topic.id);
        } else {
            response.name = TopicName(text(&topic.name));
        }
        tagged!(spec, true, response)
    });
    let nodes = spec.nodes.iter().map(|node| {
        let endpoint = pr::NodeEndpoint::default()
            .with_node_id(BrokerId(node.id))
            .with_host(text(&node.host))
            .with_port(node.port)
            .with_rack(node.rack.as_deref().map(text));
        tagged!(spec, true, endpoint)
    });
    let response =
        pr::ProduceResponse::default().with_responses(topics.collect()).with_throttle_time_ms(17).with_node_endpoints(nodes.collect());
    tagged!(spec, true, response)
}

/// In version 1, the only one that the crate knows.
pub(crate) fn share_fetch(spec: &Spec) -> sf::ShareFetchResponse {
    let topics = spec.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(0..).map(|(partition, index)| {
            let leader = sf::LeaderIdAndEpoch::default().with_leader_id(partition.leader).with_leader_epoch(partition.epoch);
            let acquired = sf::AcquiredRecords::default().with_first_offset(5).with_last_offset(9).with_delivery_count(1);
            let response = sf::PartitionData::default()
                .with_partition_index(index)
                .with_error_code(partition.error)
                .with_error_message(spec.message.as_deref().map(text))
                .with_acknowledge_error_message(spec.message.as_deref().map(text))
                .with_current_leader(tagged!(spec, true, leader))
                .with_records(partition.records.clone().map(Bytes::from))
                .with_acquired_records(vec![tagged!(spec, true, acquired); partition.replicas.len()]);
            tagged!(spec, true, response)
        });
        tagged!(spec, true, sf::ShareFetchableTopicResponse::default().with_topic_id(uuid!(topic.id)).with_partitions(partitions.collect()))
    });
    let nodes = spec.nodes.iter().map(|node| {
        let endpoint = sf::NodeEndpoint::default()
            .with_node_id(BrokerId(node.id))
            .with_host(text(&node.host))
            .with_port(node.port)
            .with_rack(node.rack.as_deref().map(text));
        tagged!(spec, true, endpoint)
    });
    let response = sf::ShareFetchResponse::default()
        .with_acquisition_lock_timeout_ms(30_000)
        .with_responses(topics.collect())
        .with_node_endpoints(nodes.collect());
    tagged!(spec, true, response)
}

/// In version 1, the only one that the crate knows.
pub(crate) fn share_acknowledge(spec: &Spec) -> sa::ShareAcknowledgeResponse {
    let topics = spec.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(0..).map(|(partition, index)| {
            let leader = sa::LeaderIdAndEpoch::default().with_leader_id(partition.leader).with_leader_epoch(partition.epoch);
            let response = sa::PartitionData::default()
                .with_partition_index(index)
                .with_error_code(partition.error)
                .with_error_message(spec.message.as_deref().map(text))
                .with_current_leader(tagged!(spec, true, leader));
            tagged!(spec, true, response)
        });
        tagged!(
            spec,
            true,
            sa::ShareAcknowledgeTopicResponse::default().with_topic_id(uuid!(topic.id)).with_partitions(partitions.collect())
        )
    });
    let nodes = spec.nodes.iter().map(|node| {
        let endpoint = sa::NodeEndpoint::default()
            .with_node_id(BrokerId(node.id))
            .with_host(text(&node.host))
            .with_port(node.port)
            .with_rack(node.rack.as_deref().map(text));
        tagged!(spec, true, endpoint)
    });
    tagged!(spec, true, sa::ShareAcknowledgeResponse::default().with_responses(topics.collect()).with_node_endpoints(nodes.collect()))
}

/// A share response of version 1 as the version that has, or lacks, the lock timeout behind the (null) error message: ShareFetch 0 and
/// ShareAcknowledge 2 (KIP-1222).
pub(crate) fn change_lock_timeout(frame: &Bytes, unknown_tag: &Option<Vec<u8>>, change: LockTimeout) -> Bytes {
    // Count, and then tag (two bytes: 200), length, value.
    let header_tags = unknown_tag.as_ref().map_or(1, |tag| 1 + 2 + if tag.len() < 128 { 1 } else { 2 } + tag.len());
    // Length prefix, correlation id, tags, throttle time, error, message.
    let at = 4 + 4 + header_tags + 4 + 2 + 1;
    let payload = match change {
        LockTimeout::Remove => [&frame[4..at], &frame[at + 4..]].concat(),
        LockTimeout::Insert => [&frame[4..at], &[0, 0, 0x75, 0x30], &frame[at..]].concat(),
    };
    framed(&payload)
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum LockTimeout {
    Remove,
    Insert,
}

/// A frame of each API and version that has a parsed form.
pub(crate) fn every_frame(spec: &Spec) -> Vec<(ApiKey, i16, Bytes)> {
    let tag = &spec.unknown_tag;
    let mut frames = Vec::new();
    let mut add = |api, version, frame| frames.push((api, version, frame));
    for v in 0..=13 {
        add(ApiKey::METADATA, v, frame(ApiKey::METADATA, v, tag, &metadata(spec, v)));
    }
    for v in 0..=6 {
        add(ApiKey::FIND_COORDINATOR, v, frame(ApiKey::FIND_COORDINATOR, v, tag, &find_coordinator(spec, v)));
    }
    for v in 0..=2 {
        add(ApiKey::DESCRIBE_CLUSTER, v, frame(ApiKey::DESCRIBE_CLUSTER, v, tag, &describe_cluster(spec, v)));
    }
    for v in 0..=4 {
        add(ApiKey::API_VERSIONS, v, frame(ApiKey::API_VERSIONS, v, tag, &api_versions(spec, v, &[(0, 3, 13), (18, 0, 5), (500, 0, 1)])));
    }
    for v in 10..=13 {
        add(ApiKey::PRODUCE, v, frame(ApiKey::PRODUCE, v, tag, &produce(spec, v)));
    }
    for v in 0..=2 {
        add(ApiKey::SHARE_FETCH, v, share_fetch_frame(spec, v));
        add(ApiKey::SHARE_ACKNOWLEDGE, v, share_acknowledge_frame(spec, v));
    }
    frames
}

pub(crate) fn share_fetch_frame(spec: &Spec, version: i16) -> Bytes {
    share_fetch_frame_of(&share_fetch(spec), spec, version)
}

pub(crate) fn share_fetch_frame_of(response: &sf::ShareFetchResponse, spec: &Spec, version: i16) -> Bytes {
    let frame = frame(ApiKey::SHARE_FETCH, 1, &spec.unknown_tag, response);
    if version == 0 { change_lock_timeout(&frame, &spec.unknown_tag, LockTimeout::Remove) } else { frame }
}

pub(crate) fn share_acknowledge_frame(spec: &Spec, version: i16) -> Bytes {
    share_acknowledge_frame_of(&share_acknowledge(spec), spec, version)
}

pub(crate) fn share_acknowledge_frame_of(response: &sa::ShareAcknowledgeResponse, spec: &Spec, version: i16) -> Bytes {
    let frame = frame(ApiKey::SHARE_ACKNOWLEDGE, 1, &spec.unknown_tag, response);
    if version == 2 { change_lock_timeout(&frame, &spec.unknown_tag, LockTimeout::Insert) } else { frame }
}
