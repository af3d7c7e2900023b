//! Produce requests and responses of all versions: from 3 in the words of the kafka-protocol crate, below in bytes of our own, since the
//! crate does not know them. Shared with the tests of `rewrite`.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{BrokerId, RequestHeader, TopicName, TransactionalId, produce_request as rq, produce_response as rs};
use kafka_protocol::protocol::Encodable;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use uuid::Uuid;

use crate::wire::fixtures::{NodeSpec, UNKNOWN_TAG, frame, framed, text};
use crate::wire::{ApiKey, BatchHead, Head, HeadLimits, Sequence, parse_head};

pub(crate) const CORRELATION_ID: i32 = 0x0102_0304;

#[derive(Clone, Debug)]
pub(crate) struct RequestSpec {
    pub transactional_id: Option<String>,
    pub acks: i16,
    pub topics: Vec<TopicSpec>,
    /// In every structure of a flexible version.
    pub unknown_tag: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(crate) struct TopicSpec {
    pub name: String,
    pub id: [u8; 16],
    pub partitions: Vec<PartitionSpec>,
}

#[derive(Clone, Debug)]
pub(crate) struct PartitionSpec {
    pub index: i32,
    pub records: Option<Vec<u8>>,
    pub batch: BatchHead,
    /// What a broker says to it.
    pub result: ResultSpec,
}

#[derive(Clone, Debug)]
pub(crate) struct ResultSpec {
    pub error: i16,
    pub base_offset: i64,
    pub message: Option<String>,
    pub leader: Option<(i32, i32)>,
}

/// Topics and partitions stand in no order, but none of them twice.
pub(crate) fn request_spec() -> impl Strategy<Value = RequestSpec> {
    let topic = (any::<[u8; 16]>(), btree_map(0i32..40, partition_spec(), 1..5).prop_shuffled());
    let topics = btree_map("[a-z]{1,200}", topic, 0..5).prop_shuffled();
    (option::of("[a-z]{0,20}"), -1i16..2, topics, option::of(vec(any::<u8>(), 0..200))).prop_map(
        |(transactional_id, acks, topics, unknown_tag)| {
            let topics = topics
                .into_iter()
                .map(|(name, (id, partitions))| TopicSpec {
                    name,
                    id,
                    partitions: partitions.into_iter().map(|(index, partition)| PartitionSpec { index, ..partition }).collect(),
                })
                .collect();
            RequestSpec { transactional_id, acks, topics, unknown_tag }
        },
    )
}

/// A map's entries in a random order.
trait Shuffled: Strategy {
    fn prop_shuffled<K, V>(self) -> impl Strategy<Value = Vec<(K, V)>>
    where
        Self: Sized + Strategy<Value = std::collections::BTreeMap<K, V>>,
        K: Clone + std::fmt::Debug,
        V: Clone + std::fmt::Debug,
    {
        self.prop_map(|map| map.into_iter().collect::<Vec<_>>()).prop_shuffle()
    }
}

impl<S: Strategy> Shuffled for S {}

fn partition_spec() -> impl Strategy<Value = PartitionSpec> {
    let sequence = (0i64..9, any::<i16>(), any::<i32>(), any::<i32>(), any::<bool>()).prop_map(
        |(producer_id, producer_epoch, base_sequence, last_offset_delta, transactional)| Sequence {
            producer_id,
            producer_epoch,
            base_sequence,
            last_offset_delta,
            transactional,
        },
    );
    let records = (option::of(sequence), vec(any::<u8>(), 0..300), 0..8).prop_map(|(sequence, payload, kind)| match (kind, sequence) {
        (0, _) => (None, BatchHead::Empty),
        (1, _) => (Some(Vec::new()), BatchHead::Empty),
        // Too short for any batch.
        (2, _) => (Some(payload[..payload.len().min(25)].to_vec()), if payload.is_empty() { BatchHead::Empty } else { BatchHead::Plain }),
        (_, None) => (Some(batch(None, &payload)), BatchHead::Plain),
        (_, Some(sequence)) => (Some(batch(Some(sequence), &payload)), BatchHead::Sequenced(sequence)),
    });
    let result = (prop_oneof![Just(0i16), Just(6), Just(7)], any::<i64>(), option::of("[a-z]{0,200}"), option::of((0i32..5, 0i32..1000)))
        .prop_map(|(error, base_offset, message, leader)| ResultSpec { error, base_offset, message, leader });
    (records, result).prop_map(|((records, batch), result)| PartitionSpec { index: 0, records, batch, result })
}

/// A batch of magic 2, as far as anybody here looks into it.
pub(crate) fn batch(sequence: Option<Sequence>, payload: &[u8]) -> Vec<u8> {
    let none = Sequence { producer_id: -1, producer_epoch: -1, base_sequence: -1, last_offset_delta: 3, transactional: false };
    let sequence = sequence.unwrap_or(none);
    let mut bytes = vec![0; 8];
    bytes.extend((49 + payload.len() as i32).to_be_bytes());
    bytes.extend([0xff, 0xff, 0xff, 0xff, 2, 1, 2, 3, 4]); // leader epoch, magic, checksum
    bytes.extend((if sequence.transactional { 0x10i16 } else { 0 } | 4).to_be_bytes());
    bytes.extend(sequence.last_offset_delta.to_be_bytes());
    bytes.extend([7; 16]); // timestamps
    bytes.extend(sequence.producer_id.to_be_bytes());
    bytes.extend(sequence.producer_epoch.to_be_bytes());
    bytes.extend(sequence.base_sequence.to_be_bytes());
    bytes.extend([0, 0, 0, 4]);
    bytes.extend(payload);
    bytes
}

/// A message of magic 0 or 1 with a null key.
pub(crate) fn message(magic: u8, value: &[u8]) -> Vec<u8> {
    let timestamp: &[u8] = if magic == 1 { &[0; 8] } else { &[] };
    let rest = [&[magic, 0], timestamp, &[0xff; 4], &(value.len() as i32).to_be_bytes(), value].concat();
    [&[0; 8][..], &(4 + rest.len() as i32).to_be_bytes(), &[1, 2, 3, 4], &rest].concat()
}

/// The base offset of a result that no broker gave: it has no other times and offsets either, and no tagged fields.
pub(crate) const MADE: i64 = -1;

pub(crate) fn head_of(frame: &[u8]) -> Head {
    parse_head(frame, &HeadLimits { max_frame_bytes: 100 << 20, max_head_bytes: 10_000 }).unwrap().unwrap()
}

macro_rules! tagged {
    ($tag:expr, $structure:expr) => {{
        let mut structure = $structure;
        if let Some(tag) = $tag {
            structure.unknown_tagged_fields.insert(UNKNOWN_TAG, tag.clone().into());
        }
        structure
    }};
}

pub(crate) fn request_frame(spec: &RequestSpec, version: i16) -> Bytes {
    let tag = spec.unknown_tag.as_ref().filter(|_| version >= 9);
    let header = tagged!(
        tag,
        RequestHeader::default()
            .with_request_api_key(0)
            .with_request_api_version(version)
            .with_correlation_id(CORRELATION_ID)
            .with_client_id(Some(text("a client")))
    );
    let mut payload = BytesMut::new();
    header.encode(&mut payload, ApiKey::PRODUCE.request_header_version(version)).unwrap();
    if version < 3 {
        payload.extend_from_slice(&old_request(spec));
        return framed(&payload);
    }
    let topics = spec.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let data = rq::PartitionProduceData::default().with_index(partition.index);
            tagged!(tag, data.with_records(partition.records.clone().map(Bytes::from)))
        });
        let mut data = rq::TopicProduceData::default().with_partition_data(partitions.collect());
        if version >= 13 {
            data.topic_id = Uuid::from_bytes(topic.id);
        } else {
            data.name = TopicName(text(&topic.name));
        }
        tagged!(tag, data)
    });
    let request = rq::ProduceRequest::default()
        .with_transactional_id(spec.transactional_id.as_deref().map(|id| TransactionalId(text(id))))
        .with_acks(spec.acks)
        .with_timeout_ms(30_000)
        .with_topic_data(topics.collect());
    tagged!(tag, request).encode(&mut payload, version).unwrap();
    framed(&payload)
}

/// Versions 0 to 2.
fn old_request(spec: &RequestSpec) -> Vec<u8> {
    let mut out = spec.acks.to_be_bytes().to_vec();
    out.extend(30_000i32.to_be_bytes());
    out.extend((spec.topics.len() as i32).to_be_bytes());
    for topic in &spec.topics {
        out.extend((topic.name.len() as i16).to_be_bytes());
        out.extend(topic.name.as_bytes());
        out.extend((topic.partitions.len() as i32).to_be_bytes());
        for partition in &topic.partitions {
            out.extend(partition.index.to_be_bytes());
            match &partition.records {
                Some(records) => {
                    out.extend((records.len() as i32).to_be_bytes());
                    out.extend(records);
                }
                None => out.extend([0xff; 4]),
            }
        }
    }
    out
}

/// What stands around partitions in a response.
pub(crate) struct Around<'a> {
    pub throttle_time_ms: i32,
    pub nodes: &'a [NodeSpec],
    /// The unknown tagged field outside of partitions too.
    pub tagged: bool,
}

/// A broker's answer to `spec`, or the one that a merge must give.
pub(crate) fn response_frame(spec: &RequestSpec, version: i16, around: &Around<'_>) -> Bytes {
    if version < 3 {
        return old_response(spec, version, around);
    }
    let inner = spec.unknown_tag.as_ref().filter(|_| version >= 9);
    let outer = inner.filter(|_| around.tagged);
    let topics = spec.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let tag = inner.filter(|_| partition.result.base_offset != MADE);
            tagged!(tag, result(partition, version, tag))
        });
        let mut response = rs::TopicProduceResponse::default().with_partition_responses(partitions.collect());
        if version >= 13 {
            response.topic_id = Uuid::from_bytes(topic.id);
        } else {
            response.name = TopicName(text(&topic.name));
        }
        tagged!(outer, response)
    });
    let nodes = around.nodes.iter().filter(|_| version >= 10).map(|node| {
        let endpoint = rs::NodeEndpoint::default().with_node_id(BrokerId(node.id)).with_host(text(&node.host));
        tagged!(outer, endpoint.with_port(node.port).with_rack(node.rack.as_deref().map(text)))
    });
    let response = rs::ProduceResponse::default()
        .with_responses(topics.collect())
        .with_throttle_time_ms(around.throttle_time_ms)
        .with_node_endpoints(nodes.collect());
    frame(ApiKey::PRODUCE, version, &outer.cloned(), &tagged!(outer, response))
}

fn result(partition: &PartitionSpec, version: i16, tag: Option<&Vec<u8>>) -> rs::PartitionProduceResponse {
    let ResultSpec { error, base_offset, message, leader } = &partition.result;
    let made = *base_offset == MADE;
    let mut response = rs::PartitionProduceResponse::default()
        .with_index(partition.index)
        .with_error_code(*error)
        .with_base_offset(*base_offset)
        .with_log_append_time_ms(if made { -1 } else { 77 });
    if version >= 5 && !made {
        response.log_start_offset = 88;
    }
    if version >= 8 {
        response.error_message = message.as_deref().map(text);
        if base_offset % 2 == 0 {
            let error = rs::BatchIndexAndErrorMessage::default().with_batch_index(3).with_batch_index_error_message(Some(text("bad")));
            response.record_errors = vec![tagged!(tag, error)];
        }
    }
    if let Some((node, epoch)) = leader.filter(|_| version >= 10) {
        let leader = rs::LeaderIdAndEpoch::default().with_leader_id(BrokerId(node)).with_leader_epoch(epoch);
        response.current_leader = tagged!(tag, leader);
    }
    response
}

/// Versions 0 to 2.
fn old_response(spec: &RequestSpec, version: i16, around: &Around<'_>) -> Bytes {
    let mut out = CORRELATION_ID.to_be_bytes().to_vec();
    out.extend((spec.topics.len() as i32).to_be_bytes());
    for topic in &spec.topics {
        out.extend((topic.name.len() as i16).to_be_bytes());
        out.extend(topic.name.as_bytes());
        out.extend((topic.partitions.len() as i32).to_be_bytes());
        for partition in &topic.partitions {
            out.extend(partition.index.to_be_bytes());
            out.extend(partition.result.error.to_be_bytes());
            out.extend(partition.result.base_offset.to_be_bytes());
            if version >= 2 {
                out.extend(if partition.result.base_offset == MADE { -1i64 } else { 77 }.to_be_bytes());
            }
        }
    }
    if version >= 1 {
        out.extend(around.throttle_time_ms.to_be_bytes());
    }
    framed(&out)
}
