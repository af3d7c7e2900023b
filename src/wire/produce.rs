//! The Produce response's leader hints (KIP-951), versions 10 to 13.
//!
//! Deliberately absent: offsets and errors of partitions without a hint; older versions, which have no hints.

use super::node::{LeaderHint, NODE_ENDPOINTS_TAG, NodeEndpoints, TopicRef};
use super::{ApiKey, Malformed, Reader, TaggedFields};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceResponse<'a> {
    pub hints: Vec<LeaderHint<'a>>,
    /// The tagged fields that end the response.
    pub tagged_fields: TaggedFields,
    pub node_endpoints: Option<NodeEndpoints<'a>>,
}

/// The first version that carries hints.
pub const FIRST_VERSION: i16 = 10;
pub const LAST_VERSION: i16 = 13;

/// Of a partition.
const CURRENT_LEADER_TAG: u32 = 0;
/// Name, partitions, tagged fields.
const SMALLEST_TOPIC_BYTES: usize = 3;
/// Index, error, three offsets or times, record errors, message, tagged fields.
const SMALLEST_PARTITION_BYTES: usize = 33;
/// Index, message, tagged fields.
const SMALLEST_RECORD_ERROR_BYTES: usize = 6;

impl<'a> ProduceResponse<'a> {
    /// Parses a whole frame.
    pub fn parse(frame: &'a [u8], version: i16) -> Result<ProduceResponse<'a>, Malformed> {
        if version < FIRST_VERSION {
            return Err(Malformed { what: "this version has no leader hints", at: 0 });
        }
        let mut reader = super::response_body(frame, ApiKey::PRODUCE, version, LAST_VERSION)?;
        let reader = &mut reader;
        let mut hints = Vec::new();
        let topics = reader.array(SMALLEST_TOPIC_BYTES)?;
        for _ in 0..topics.len {
            let topic = if version >= 13 { TopicRef::Id(reader.uuid()?) } else { TopicRef::Name(reader.string()?) };
            let partitions = reader.array(SMALLEST_PARTITION_BYTES)?;
            for _ in 0..partitions.len {
                hints.extend(partition(reader, topic)?);
            }
            reader.skip_tagged_fields()?;
        }
        let _throttle_time_ms = reader.i32()?;
        let tagged_fields = reader.tagged_fields(Some(NODE_ENDPOINTS_TAG))?;
        let node_endpoints = match tagged_fields.found {
            Some(field) => Some(NodeEndpoints::read(&mut reader.within(field.value))?),
            None => None,
        };
        Ok(ProduceResponse { hints, tagged_fields, node_endpoints })
    }
}

fn partition<'a>(reader: &mut Reader<'a>, topic: TopicRef<'a>) -> Result<Option<LeaderHint<'a>>, Malformed> {
    let partition = reader.i32()?;
    let error = reader.i16()?;
    reader.raw(24)?; // base_offset, log_append_time_ms, log_start_offset
    let record_errors = reader.array(SMALLEST_RECORD_ERROR_BYTES)?;
    for _ in 0..record_errors.len {
        let _batch_index = reader.i32()?;
        let _message = reader.nullable_string()?;
        reader.skip_tagged_fields()?;
    }
    let _message = reader.nullable_string()?;
    let Some(field) = reader.tagged_fields(Some(CURRENT_LEADER_TAG))?.found else { return Ok(None) };
    let mut value = reader.within(field.value);
    let hint = LeaderHint { topic, partition, error, leader: value.i32()?, leader_epoch: value.i32()? };
    value.skip_tagged_fields()?;
    Ok(Some(hint))
}
