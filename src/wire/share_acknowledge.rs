//! The ShareAcknowledge response's leader hints (KIP-932), versions 0 to 2.
//!
//! Deliberately absent: what was acknowledged.

use super::node::{LeaderHint, NodeEndpoints, TopicRef};
use super::share_fetch::{SMALLEST_TOPIC_BYTES, leader};
use super::{ApiKey, Malformed};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareAcknowledgeResponse<'a> {
    pub hints: Vec<LeaderHint<'a>>,
    pub node_endpoints: NodeEndpoints<'a>,
}

pub const LAST_VERSION: i16 = 2;

/// Index, error, message, leader, tagged fields.
const SMALLEST_PARTITION_BYTES: usize = 17;

impl<'a> ShareAcknowledgeResponse<'a> {
    /// Parses a whole frame.
    pub fn parse(frame: &'a [u8], version: i16) -> Result<ShareAcknowledgeResponse<'a>, Malformed> {
        let mut reader = super::response_body(frame, ApiKey::SHARE_ACKNOWLEDGE, version, LAST_VERSION)?;
        let reader = &mut reader;
        let _throttle_time_ms = reader.i32()?;
        let _error = reader.i16()?;
        let _message = reader.nullable_string()?;
        if version >= 2 {
            let _acquisition_lock_timeout_ms = reader.i32()?;
        }
        let mut hints = Vec::new();
        let topics = reader.array(SMALLEST_TOPIC_BYTES)?;
        for _ in 0..topics.len {
            let topic = TopicRef::Id(reader.uuid()?);
            let partitions = reader.array(SMALLEST_PARTITION_BYTES)?;
            for _ in 0..partitions.len {
                let partition = reader.i32()?;
                let error = reader.i16()?;
                let _message = reader.nullable_string()?;
                hints.extend(leader(reader, topic, partition, error)?);
                reader.skip_tagged_fields()?;
            }
            reader.skip_tagged_fields()?;
        }
        let node_endpoints = NodeEndpoints::read(reader)?;
        reader.skip_tagged_fields()?;
        Ok(ShareAcknowledgeResponse { hints, node_endpoints })
    }
}
