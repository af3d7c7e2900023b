//! The Metadata response, versions 0 to 13.
//!
//! Deliberately absent: what makes a leader usable.

use std::ops::Range;

use super::node::NodeEntry;
use super::{ApiKey, Count, Malformed, Reader, Span};

/// A Metadata response with the places that a rewrite touches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataResponse<'a> {
    pub broker_count: Count,
    pub brokers: Vec<NodeEntry<'a>>,
    pub cluster_id: Option<&'a [u8]>,
    /// From version 1.
    pub controller: Option<Controller>,
    pub topics: Vec<MetadataTopic<'a>>,
    /// Of all topics, one behind the other.
    pub partitions: Vec<MetadataPartition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controller {
    pub node: i32,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataTopic<'a> {
    pub error: i16,
    pub name: Option<&'a [u8]>,
    /// Zeros below version 10.
    pub id: [u8; 16],
    /// Into the response's `partitions`.
    pub partitions: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetadataPartition {
    pub error: i16,
    pub error_span: Span,
    pub index: i32,
    pub leader: i32,
    pub leader_span: Span,
    /// −1 below version 7.
    pub leader_epoch: i32,
    /// Empty below version 7.
    pub leader_epoch_span: Span,
}

pub const LAST_VERSION: i16 = 13;

/// Error, name, partitions, each at its smallest.
const SMALLEST_TOPIC_BYTES: usize = 8;
/// Error, index, leader, and two arrays or, flexible, an epoch, three arrays and tagged fields.
const SMALLEST_PARTITION_BYTES: usize = 18;

impl<'a> MetadataResponse<'a> {
    /// Parses a whole frame.
    pub fn parse(frame: &'a [u8], version: i16) -> Result<MetadataResponse<'a>, Malformed> {
        let mut reader = super::response_body(frame, ApiKey::METADATA, version, LAST_VERSION)?;
        let reader = &mut reader;
        if version >= 3 {
            let _throttle_time_ms = reader.i32()?;
        }
        let broker_count = reader.array(NodeEntry::SMALLEST_BYTES)?;
        let mut brokers = Vec::with_capacity(broker_count.len);
        for _ in 0..broker_count.len {
            let mut broker = if version >= 1 { NodeEntry::read_with_rack(reader)? } else { NodeEntry::read(reader)? };
            broker.end(reader)?;
            brokers.push(broker);
        }
        let cluster_id = if version >= 2 { reader.nullable_string()? } else { None };
        let controller = if version >= 1 {
            let start = reader.position();
            Some(Controller { node: reader.i32()?, span: reader.span_from(start) })
        } else {
            None
        };
        let topic_count = reader.array(SMALLEST_TOPIC_BYTES)?;
        let mut topics = Vec::with_capacity(topic_count.len);
        let mut partitions = Vec::new();
        for _ in 0..topic_count.len {
            topics.push(topic(reader, version, &mut partitions)?);
        }
        if (8..=10).contains(&version) {
            let _cluster_authorized_operations = reader.i32()?;
        }
        if version >= 13 {
            let _error = reader.i16()?;
        }
        reader.skip_tagged_fields()?;
        Ok(MetadataResponse { broker_count, brokers, cluster_id, controller, topics, partitions })
    }

    /// One topic's partitions.
    pub fn partitions_of(&self, topic: &MetadataTopic<'a>) -> &[MetadataPartition] {
        self.partitions.get(topic.partitions.clone()).unwrap_or_default()
    }
}

fn topic<'a>(reader: &mut Reader<'a>, version: i16, partitions: &mut Vec<MetadataPartition>) -> Result<MetadataTopic<'a>, Malformed> {
    let error = reader.i16()?;
    let name = if version >= 12 { reader.nullable_string()? } else { Some(reader.string()?) };
    let id = if version >= 10 { reader.uuid()? } else { [0; 16] };
    if version >= 1 {
        let _is_internal = reader.i8()?;
    }
    let count = reader.array(SMALLEST_PARTITION_BYTES)?;
    let first = partitions.len();
    partitions.reserve(count.len);
    for _ in 0..count.len {
        partitions.push(partition(reader, version)?);
    }
    if version >= 8 {
        let _topic_authorized_operations = reader.i32()?;
    }
    reader.skip_tagged_fields()?;
    Ok(MetadataTopic { error, name, id, partitions: first..partitions.len() })
}

fn partition(reader: &mut Reader<'_>, version: i16) -> Result<MetadataPartition, Malformed> {
    let error_start = reader.position();
    let error = reader.i16()?;
    let error_span = reader.span_from(error_start);
    let index = reader.i32()?;
    let leader_start = reader.position();
    let leader = reader.i32()?;
    let leader_span = reader.span_from(leader_start);
    let epoch_start = reader.position();
    let leader_epoch = if version >= 7 { reader.i32()? } else { -1 };
    let leader_epoch_span = reader.span_from(epoch_start);
    reader.skip_array(4)?; // replica_nodes
    reader.skip_array(4)?; // isr_nodes
    if version >= 5 {
        reader.skip_array(4)?; // offline_replicas
    }
    reader.skip_tagged_fields()?;
    Ok(MetadataPartition { error, error_span, index, leader, leader_span, leader_epoch, leader_epoch_span })
}
