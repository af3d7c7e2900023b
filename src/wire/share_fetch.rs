//! The ShareFetch response's leader hints (KIP-932), versions 0 to 2.
//!
//! Deliberately absent: the records.

use super::node::{LeaderHint, NodeEndpoints, TopicRef};
use super::{ApiKey, Malformed, Reader};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareFetchResponse<'a> {
    pub hints: Vec<LeaderHint<'a>>,
    /// Not tagged, unlike those of Fetch and Produce.
    pub node_endpoints: NodeEndpoints<'a>,
}

pub const LAST_VERSION: i16 = 2;

/// Id, partitions, tagged fields.
pub(super) const SMALLEST_TOPIC_BYTES: usize = 18;
/// Index, two errors with messages, leader, records, acquired records, tagged fields.
const SMALLEST_PARTITION_BYTES: usize = 22;
/// First and last offset, delivery count, tagged fields.
const SMALLEST_ACQUIRED_BYTES: usize = 19;

impl<'a> ShareFetchResponse<'a> {
    /// Parses a whole frame.
    pub fn parse(frame: &'a [u8], version: i16) -> Result<ShareFetchResponse<'a>, Malformed> {
        let mut reader = super::response_body(frame, ApiKey::SHARE_FETCH, version, LAST_VERSION)?;
        let reader = &mut reader;
        let _throttle_time_ms = reader.i32()?;
        let _error = reader.i16()?;
        let _message = reader.nullable_string()?;
        if version >= 1 {
            let _acquisition_lock_timeout_ms = reader.i32()?;
        }
        let mut hints = Vec::new();
        let topics = reader.array(SMALLEST_TOPIC_BYTES)?;
        for _ in 0..topics.len {
            let topic = TopicRef::Id(reader.uuid()?);
            let partitions = reader.array(SMALLEST_PARTITION_BYTES)?;
            for _ in 0..partitions.len {
                hints.extend(partition(reader, topic)?);
            }
            reader.skip_tagged_fields()?;
        }
        let node_endpoints = NodeEndpoints::read(reader)?;
        reader.skip_tagged_fields()?;
        Ok(ShareFetchResponse { hints, node_endpoints })
    }
}

fn partition<'a>(reader: &mut Reader<'a>, topic: TopicRef<'a>) -> Result<Option<LeaderHint<'a>>, Malformed> {
    let partition = reader.i32()?;
    let error = reader.i16()?;
    let _message = reader.nullable_string()?;
    let _acknowledge_error = reader.i16()?;
    let _acknowledge_message = reader.nullable_string()?;
    let hint = leader(reader, topic, partition, error)?;
    let _records = reader.nullable_bytes()?;
    let acquired = reader.array(SMALLEST_ACQUIRED_BYTES)?;
    for _ in 0..acquired.len {
        reader.raw(18)?; // first_offset, last_offset, delivery_count
        reader.skip_tagged_fields()?;
    }
    reader.skip_tagged_fields()?;
    Ok(hint)
}

/// The leader of a share response's partition: always there, and node 0 where nothing is meant by it. The broker sets it with
/// NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH only.
pub(super) fn leader<'a>(
    reader: &mut Reader<'a>,
    topic: TopicRef<'a>,
    partition: i32,
    error: i16,
) -> Result<Option<LeaderHint<'a>>, Malformed> {
    let hint = LeaderHint { topic, partition, error, leader: reader.i32()?, leader_epoch: reader.i32()? };
    reader.skip_tagged_fields()?;
    Ok(matches!(error, 6 | 74).then_some(hint))
}
