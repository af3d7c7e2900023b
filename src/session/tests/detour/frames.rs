//! Frames of clients and brokers, in the words of the kafka-protocol crate.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    BrokerId, MetadataResponse, ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use uuid::Uuid;

use crate::wire::produce_fixtures::batch;
use crate::wire::{ApiKey, Sequence};

pub(super) const TIMEOUT_MS: i32 = 30_000;

/// One batch, told from others by its tag.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    topic: &'static str,
    partition: i32,
    tag: u8,
    sequence: Option<Sequence>,
    bytes: usize,
}

/// Of a producer that is not idempotent.
pub(super) fn plain(partition: i32, tag: u8) -> Batch {
    Batch { topic: "t", partition, tag, sequence: None, bytes: 8 }
}

/// Of an idempotent producer; the tag is its sequence number.
pub(super) fn numbered(producer_id: i64, partition: i32, tag: u8) -> Batch {
    let sequence = Sequence { producer_id, producer_epoch: 0, base_sequence: i32::from(tag), last_offset_delta: 0, transactional: false };
    Batch { sequence: Some(sequence), ..plain(partition, tag) }
}

impl Batch {
    pub fn in_topic(self, topic: &'static str) -> Batch {
        Batch { topic, ..self }
    }

    /// With so many bytes of records.
    pub fn of_bytes(self, bytes: usize) -> Batch {
        Batch { bytes, ..self }
    }

    fn records(&self) -> Bytes {
        batch(self.sequence, &vec![self.tag; self.bytes]).into()
    }
}

/// A produce request.
#[derive(Clone, Debug)]
pub(super) struct Produce {
    pub version: i16,
    pub acks: i16,
    pub timeout_ms: i32,
    pub transactional_id: Option<&'static str>,
    pub batches: Vec<Batch>,
}

impl Produce {
    pub fn of<const N: usize>(batches: [Batch; N]) -> Produce {
        Produce { version: 9, acks: -1, timeout_ms: TIMEOUT_MS, transactional_id: None, batches: batches.into() }
    }

    pub fn frame(&self, correlation_id: i32) -> Bytes {
        let mut topics: Vec<TopicProduceData> = Vec::new();
        for batch in &self.batches {
            let data = PartitionProduceData::default().with_index(batch.partition).with_records(Some(batch.records()));
            let is_it = |topic: &&mut TopicProduceData| topic.topic_id == topic_id(batch.topic) || topic.name.0.as_str() == batch.topic;
            match topics.iter_mut().find(is_it) {
                Some(topic) => topic.partition_data.push(data),
                None if self.version >= 13 => {
                    topics.push(TopicProduceData::default().with_topic_id(topic_id(batch.topic)).with_partition_data(vec![data]));
                }
                None => {
                    topics.push(TopicProduceData::default().with_name(TopicName(text(batch.topic))).with_partition_data(vec![data]));
                }
            }
        }
        let request = ProduceRequest::default()
            .with_transactional_id(self.transactional_id.map(|id| TransactionalId(text(id))))
            .with_acks(self.acks)
            .with_timeout_ms(self.timeout_ms)
            .with_topic_data(topics);
        request_frame(ApiKey::PRODUCE, self.version, correlation_id, &request)
    }
}

pub(super) fn topic_id(topic: &str) -> Uuid {
    Uuid::from_bytes([topic.as_bytes()[0]; 16])
}

pub(super) fn topic_named(id: Uuid) -> String {
    char::from(id.as_bytes()[0]).to_string()
}

pub(super) fn text(of: &str) -> StrBytes {
    StrBytes::from_string(of.to_owned())
}

pub(super) fn request_frame<R: Encodable + HeaderVersion>(api: ApiKey, version: i16, correlation_id: i32, request: &R) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(api.0)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(text("a client")));
    let mut payload = BytesMut::new();
    header.encode(&mut payload, R::header_version(version)).unwrap();
    request.encode(&mut payload, version).unwrap();
    framed(&payload)
}

pub(super) fn response_frame<R: Encodable + HeaderVersion>(version: i16, correlation_id: i32, response: &R) -> Bytes {
    let mut payload = BytesMut::new();
    ResponseHeader::default().with_correlation_id(correlation_id).encode(&mut payload, R::header_version(version)).unwrap();
    response.encode(&mut payload, version).unwrap();
    framed(&payload)
}

fn framed(payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u32(payload.len() as u32);
    frame.put_slice(payload);
    frame.freeze()
}

pub(super) fn version_of(request: &[u8]) -> i16 {
    i16::from_be_bytes([request[6], request[7]])
}

pub(super) fn correlation_id_of(request: &[u8]) -> i32 {
    i32::from_be_bytes(request[8..12].try_into().unwrap())
}

/// What a broker reads: topic, partition and tag of each batch.
pub(super) fn batches_in(frame: &Bytes) -> Vec<(String, i32, u8)> {
    let version = version_of(frame);
    let mut rest = frame.slice(4..);
    RequestHeader::decode(&mut rest, ProduceRequest::header_version(version)).unwrap();
    let request = ProduceRequest::decode(&mut rest, version).unwrap();
    assert!(rest.is_empty());
    let mut batches = Vec::new();
    for topic in &request.topic_data {
        let name = if version >= 13 { topic_named(topic.topic_id) } else { topic.name.to_string() };
        for partition in &topic.partition_data {
            batches.push((name.clone(), partition.index, *partition.records.as_ref().unwrap().last().unwrap()));
        }
    }
    batches
}

/// A broker's answer to a produce request: error and base offset for each batch.
pub(super) fn produced(frame: &Bytes, result: impl Fn(&str, i32) -> (i16, i64)) -> Bytes {
    let version = version_of(frame);
    let mut topics: Vec<(String, TopicProduceResponse)> = Vec::new();
    for (topic, partition, _) in batches_in(frame) {
        let (error, base_offset) = result(&topic, partition);
        let said = PartitionProduceResponse::default().with_index(partition).with_error_code(error).with_base_offset(base_offset);
        if topics.last().is_none_or(|(name, _)| *name != topic) {
            let response = match version {
                13.. => TopicProduceResponse::default().with_topic_id(topic_id(&topic)),
                _ => TopicProduceResponse::default().with_name(TopicName(text(&topic))),
            };
            topics.push((topic, response));
        }
        topics.last_mut().unwrap().1.partition_responses.push(said);
    }
    let response = ProduceResponse::default().with_responses(topics.into_iter().map(|(_, topic)| topic).collect());
    response_frame(version, correlation_id_of(frame), &response)
}

/// Partition and error of each result that a client reads.
pub(super) fn results_in(frame: &Bytes, version: i16) -> Vec<(String, i32, i16)> {
    let mut rest = frame.slice(4..);
    ResponseHeader::decode(&mut rest, ProduceResponse::header_version(version)).unwrap();
    let response = ProduceResponse::decode(&mut rest, version).unwrap();
    assert!(rest.is_empty());
    let mut results = Vec::new();
    for topic in &response.responses {
        let name = if version >= 13 { topic_named(topic.topic_id) } else { topic.name.to_string() };
        results.extend(topic.partition_responses.iter().map(|said| (name.clone(), said.index, said.error_code)));
    }
    results
}

/// A broker's answer to Metadata: brokers (id, port), and leader and epoch by topic and partition.
pub(super) fn metadata(version: i16, correlation_id: i32, brokers: &[(i32, u16)], leaders: &[(String, i32, i32, i32)]) -> Bytes {
    let brokers = brokers.iter().map(|(id, port)| {
        MetadataResponseBroker::default().with_node_id(BrokerId(*id)).with_host(text("broker.example")).with_port(i32::from(*port))
    });
    let mut topics: Vec<MetadataResponseTopic> = Vec::new();
    for (topic, partition, leader, epoch) in leaders {
        let said = MetadataResponsePartition::default()
            .with_partition_index(*partition)
            .with_leader_id(BrokerId(*leader))
            .with_leader_epoch(*epoch);
        if topics.last().is_none_or(|known| known.name.as_ref().is_none_or(|name| name.0.as_str() != topic.as_str())) {
            let mut described = MetadataResponseTopic::default().with_name(Some(TopicName(text(topic))));
            if version >= 10 {
                described.topic_id = topic_id(topic);
            }
            topics.push(described);
        }
        topics.last_mut().unwrap().partitions.push(said);
    }
    let response = MetadataResponse::default().with_brokers(brokers.collect()).with_cluster_id(Some(text("test"))).with_topics(topics);
    response_frame(version, correlation_id, &response)
}
