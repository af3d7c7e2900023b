//! The frames that the load sends and the stub answers with, encoded once.
//!
//! Invariant: all of a kind are equal but for the correlation id, which lies at a fixed place.
//! Not here: Evenkeel's own reading and writing of frames; the kafka-protocol crate encodes.

use anyhow::{Context, Result};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, FetchRequest, FetchResponse, MetadataResponse, ProduceRequest, ProduceResponse, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Encodable, StrBytes};

/// Where the correlation id lies.
pub const IN_REQUEST: usize = 8;
pub const IN_RESPONSE: usize = 4;
/// A request's length, API key, version and correlation id.
pub const REQUEST_START_BYTES: usize = 12;

/// What the stub says that it serves.
pub const SERVED: &[(ApiKey, i16)] = &[(ApiKey::Produce, 12), (ApiKey::Fetch, 12), (ApiKey::Metadata, 12), (ApiKey::ApiVersions, 4)];

/// What a client asks, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Produce { version: i16, record_bytes: usize },
    Fetch { version: i16 },
}

pub fn request(ask: Ask) -> Result<Bytes> {
    match ask {
        Ask::Produce { version, record_bytes } => {
            let mut partition = PartitionProduceData::default();
            partition.records = Some(Bytes::from(vec![b'r'; record_bytes]));
            let mut topic = TopicProduceData::default();
            topic.name = topic_name();
            topic.partition_data = vec![partition];
            let mut body = ProduceRequest::default();
            body.acks = -1;
            body.timeout_ms = 30_000;
            body.topic_data = vec![topic];
            encode_request(ApiKey::Produce, version, &body)
        }
        Ask::Fetch { version } => {
            let mut partition = FetchPartition::default();
            partition.partition_max_bytes = 1024 * 1024;
            let mut topic = FetchTopic::default();
            topic.topic = topic_name();
            topic.partitions = vec![partition];
            let mut body = FetchRequest::default();
            body.max_wait_ms = 500;
            body.min_bytes = 1;
            body.max_bytes = 50 * 1024 * 1024;
            body.topics = vec![topic];
            encode_request(ApiKey::Fetch, version, &body)
        }
    }
}

/// The stub's answer; `brokers` are the cluster's node ids and ports.
pub fn response(api: ApiKey, version: i16, brokers: &[(i32, u16)], fetch_bytes: usize) -> Result<Bytes> {
    match api {
        ApiKey::ApiVersions => {
            let mut body = ApiVersionsResponse::default();
            body.api_keys = SERVED
                .iter()
                .map(|(api, max)| ApiVersion::default().with_api_key(*api as i16).with_min_version(0).with_max_version(*max))
                .collect();
            encode_response(api, version, &body)
        }
        ApiKey::Metadata => {
            let mut body = MetadataResponse::default();
            body.cluster_id = Some(StrBytes::from_static_str("stub"));
            body.controller_id = BrokerId(brokers.first().map_or(-1, |(id, _)| *id));
            body.brokers = brokers
                .iter()
                .map(|(id, port)| {
                    let host = StrBytes::from_static_str("127.0.0.1");
                    MetadataResponseBroker::default().with_node_id(BrokerId(*id)).with_host(host).with_port(i32::from(*port))
                })
                .collect();
            encode_response(api, version, &body)
        }
        ApiKey::Produce => {
            let mut topic = TopicProduceResponse::default();
            topic.name = topic_name();
            topic.partition_responses = vec![PartitionProduceResponse::default().with_base_offset(42)];
            encode_response(api, version, &ProduceResponse::default().with_responses(vec![topic]))
        }
        ApiKey::Fetch => {
            let mut partition = PartitionData::default();
            partition.records = Some(Bytes::from(vec![b'r'; fetch_bytes]));
            let mut topic = FetchableTopicResponse::default();
            topic.topic = topic_name();
            topic.partitions = vec![partition];
            encode_response(api, version, &FetchResponse::default().with_responses(vec![topic]))
        }
        other => anyhow::bail!("the stub does not serve {other:?}"),
    }
}

fn topic_name() -> TopicName {
    TopicName(StrBytes::from_static_str("benchmark"))
}

fn encode_request(api: ApiKey, version: i16, body: &impl Encodable) -> Result<Bytes> {
    let header = RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version)
        .with_client_id(Some(StrBytes::from_static_str("benchmark")));
    framed(&header, api.request_header_version(version), body, version).with_context(|| format!("{api:?} request {version}"))
}

fn encode_response(api: ApiKey, version: i16, body: &impl Encodable) -> Result<Bytes> {
    let header = ResponseHeader::default();
    framed(&header, api.response_header_version(version), body, version).with_context(|| format!("{api:?} response {version}"))
}

fn framed(header: &impl Encodable, header_version: i16, body: &impl Encodable, version: i16) -> Result<Bytes> {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header.encode(&mut frame, header_version)?;
    body.encode(&mut frame, version)?;
    let length = i32::try_from(frame.len() - 4)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame.freeze())
}

/// Appends a copy of `frame` with a correlation id of its own.
pub fn append(out: &mut Vec<u8>, frame: &[u8], id_at: usize, correlation_id: i32) {
    let start = out.len();
    out.extend_from_slice(frame);
    out[start + id_at..start + id_at + 4].copy_from_slice(&correlation_id.to_be_bytes());
}

/// The big-endian number at `at`; the caller has checked that it is there.
pub fn number(bytes: &[u8], at: usize) -> i32 {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, i32::from_be_bytes)
}
