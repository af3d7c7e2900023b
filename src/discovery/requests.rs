//! Our own requests, ApiVersions and Metadata, and what their answers say.
//!
//! Invariant: a request of ours for metadata never creates a topic and never asks for all topics. Deliberately absent: connections.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiVersionsRequest, MetadataRequest, RequestHeader, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};

use super::coordinators::served_version;
use super::exchange::{Exchange, ExchangeError};
use super::wants::{Takes, Topics};
use crate::cluster::{
    Broker, Endpoint, MetadataObservation, NodeId, PartitionObservation, Source, TopicId, TopicObservation, VersionRange,
};
use crate::wire::api_versions::{ApiVersionsResponse, UNSUPPORTED_VERSION};
use crate::wire::metadata::MetadataResponse;
use crate::wire::{ApiKey, Malformed};

/// The highest that we ask for; 10 and up have topic ids.
const METADATA_MAX: i16 = 12;
/// Version 0 takes an empty list of topics for all of them.
const METADATA_MIN: i16 = 1;
/// Below, a request for a topic may create it.
const METADATA_WITHOUT_CREATION: i16 = 4;
/// Versions 10 and 11 have ids in the request's format, and brokers refuse them (KAFKA-10774: `InvalidRequestException`).
const METADATA_BY_ID: i16 = 12;
/// Says who we are (KIP-511). Brokers before 2.4 answer with UNSUPPORTED_VERSION, and then 0 is asked for.
const API_VERSIONS: i16 = 3;

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error("{api} v{version}: {source}", api = .api.name())]
    Malformed { api: ApiKey, version: i16, source: Malformed },
    #[error("{api} v{version} cannot be encoded: {what}", api = .api.name())]
    Encode { api: ApiKey, version: i16, what: String },
    #[error("ApiVersions was answered with error {0}")]
    Refused(i16),
    #[error("the broker is too old: it has no Metadata version from {METADATA_MIN} to {METADATA_MAX}")]
    TooOld,
    /// What a broker does with a request that comes before the login which its listener demands (Kafka: `SaslServerAuthenticator`).
    #[error("the broker closed the connection instead of answering Metadata: does the cluster demand a login? This proxy has none")]
    LoginDemanded,
    #[error("a broker is listed with an address that is none: {0}")]
    Address(String),
}

/// What one broker can do, ascending by key.
pub(super) type Ranges = Vec<(ApiKey, VersionRange)>;

pub(super) async fn ask_versions(connection: &mut impl Exchange) -> Result<Ranges, AskError> {
    let mut response = versions_once(connection, API_VERSIONS).await?;
    if response.error == UNSUPPORTED_VERSION {
        response = versions_once(connection, 0).await?;
    }
    if response.error != 0 {
        return Err(AskError::Refused(response.error));
    }
    let range = |range: &crate::wire::api_versions::ApiRange| (range.api, VersionRange { min: range.min, max: range.max });
    let mut ranges: Ranges = response.ranges.iter().map(range).collect();
    ranges.sort_unstable_by_key(|(api, _)| *api);
    Ok(ranges)
}

async fn versions_once(connection: &mut impl Exchange, version: i16) -> Result<ApiVersionsResponse, AskError> {
    let api = ApiKey::API_VERSIONS;
    let mut body = ApiVersionsRequest::default();
    if version >= 3 {
        body.client_software_name = StrBytes::from_static_str("evenkeel");
        body.client_software_version = StrBytes::from_static_str(env!("CARGO_PKG_VERSION"));
    }
    let frame = connection.exchange(encode(api, version, &body)?, CORRELATION_ID).await?;
    ApiVersionsResponse::parse(&frame, version).map_err(|source| AskError::Malformed { api, version, source })
}

/// Asks for the brokers, and for the leaders of `topics`.
pub(super) async fn ask_metadata(
    connection: &mut impl Exchange,
    ranges: &Ranges,
    topics: &Topics,
) -> Result<MetadataObservation, AskError> {
    let api = ApiKey::METADATA;
    let served = metadata_range(ranges).ok_or(AskError::TooOld)?;
    let version = served.max.min(METADATA_MAX);
    if version < METADATA_MIN.max(served.min) {
        return Err(AskError::TooOld);
    }
    let mut body = MetadataRequest::default();
    if version >= METADATA_WITHOUT_CREATION {
        body.allow_auto_topic_creation = false;
        body.topics = Some(match topics {
            Topics::Names(names) => names.iter().map(named).collect(),
            Topics::Ids(ids) if version >= METADATA_BY_ID => ids.iter().map(identified).collect(),
            Topics::Ids(_) => Vec::new(),
        });
    } else {
        body.topics = Some(Vec::new());
    }
    let frame = connection.exchange(encode(api, version, &body)?, CORRELATION_ID).await?;
    let response = MetadataResponse::parse(&frame, version).map_err(|source| AskError::Malformed { api, version, source })?;
    observation(version, &response)
}

fn metadata_range(ranges: &Ranges) -> Option<VersionRange> {
    ranges.iter().find(|(key, _)| *key == ApiKey::METADATA).map(|(_, range)| *range)
}

/// What a broker that serves `ranges` can be asked for.
pub(super) fn takes(ranges: &Ranges) -> Takes {
    let ids = metadata_range(ranges).is_some_and(|range| range.max >= METADATA_BY_ID);
    Takes { ids, coordinators: served_version(ranges) }
}

fn identified(topic: &TopicId) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(None).with_topic_id(uuid::Uuid::from_bytes(topic.0))
}

fn named(topic: &Arc<str>) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_string(topic.to_string()))))
}

/// One request at a time is on its way, so that they need no numbers of their own.
pub(super) const CORRELATION_ID: i32 = 1;

pub(super) fn encode(api: ApiKey, version: i16, body: &impl Encodable) -> Result<Bytes, AskError> {
    let header = RequestHeader::default()
        .with_request_api_key(api.0)
        .with_request_api_version(version)
        .with_correlation_id(CORRELATION_ID)
        .with_client_id(Some(StrBytes::from_static_str("evenkeel")));
    let failed = |what: String| AskError::Encode { api, version, what };
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header.encode(&mut frame, api.request_header_version(version)).map_err(|error| failed(error.to_string()))?;
    body.encode(&mut frame, version).map_err(|error| failed(error.to_string()))?;
    let len = i32::try_from(frame.len() - 4).map_err(|_| failed("it is too long".to_owned()))?;
    if let Some(prefix) = frame.first_chunk_mut::<4>() {
        *prefix = len.to_be_bytes();
    }
    Ok(frame.freeze())
}

fn observation(version: i16, response: &MetadataResponse<'_>) -> Result<MetadataObservation, AskError> {
    let brokers = response.brokers.iter().map(|entry| {
        let address = || AskError::Address(format!("node {} at {}:{}", entry.node, entry.host.escape_ascii(), entry.port));
        let host = text(Some(entry.host)).filter(|host| !host.is_empty()).ok_or_else(address)?;
        let port = u16::try_from(entry.port).map_err(|_| address())?;
        Ok(Broker { id: NodeId(entry.node), endpoint: Endpoint { host, port }, rack: text(entry.rack) })
    });
    let topics = response.topics.iter().map(|topic| {
        let partitions = response.partitions_of(topic).iter().map(|partition| PartitionObservation {
            index: partition.index,
            error: partition.error,
            leader: node(partition.leader),
            leader_epoch: partition.leader_epoch,
        });
        TopicObservation { id: TopicId(topic.id), name: text(topic.name), error: topic.error, partitions: partitions.collect() }
    });
    Ok(MetadataObservation {
        source: Source::Own,
        version,
        cluster_id: text(response.cluster_id),
        controller: response.controller.and_then(|controller| node(controller.node)),
        brokers: brokers.collect::<Result<_, AskError>>()?,
        topics: topics.collect(),
    })
}

fn node(id: i32) -> Option<NodeId> {
    (id >= 0).then_some(NodeId(id))
}

fn text(bytes: Option<&[u8]>) -> Option<Arc<str>> {
    std::str::from_utf8(bytes?).ok().map(Arc::from)
}
