//! FindCoordinator, versions 0 to 6: the response, and the request that it answers.
//!
//! Only the request says what kind of coordinator it asks for; up to version 3 only it says whose.

use super::node::NodeEntry;
use super::{ApiKey, Head, Malformed, Span};

/// Whose coordinators a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindCoordinatorRequest<'a> {
    /// 0: groups, the only kind of version 0; 1: transactional ids; 2: share partitions.
    pub key_type: i8,
    /// Exactly one up to version 3.
    pub keys: Vec<&'a [u8]>,
}

impl<'a> FindCoordinatorRequest<'a> {
    /// Parses a whole frame, whose head is `head`.
    pub fn parse(frame: &'a [u8], head: &Head) -> Result<FindCoordinatorRequest<'a>, Malformed> {
        let mut reader = super::request_body(frame, head, ApiKey::FIND_COORDINATOR, LAST_VERSION)?;
        let mut keys = Vec::new();
        if head.version <= 3 {
            keys.push(reader.string()?);
        }
        let key_type = if head.version >= 1 { reader.i8()? } else { 0 };
        if head.version >= 4 {
            let count = reader.array(1)?;
            keys.reserve(count.len);
            for _ in 0..count.len {
                keys.push(reader.string()?);
            }
        }
        reader.skip_tagged_fields()?;
        Ok(FindCoordinatorRequest { key_type, keys })
    }
}

/// The coordinators that a response names: exactly one, without its key, up to version 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindCoordinatorResponse<'a> {
    pub coordinators: Vec<CoordinatorEntry<'a>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoordinatorEntry<'a> {
    /// From version 4 (KIP-699).
    pub key: Option<&'a [u8]>,
    pub error: i16,
    /// Before the node up to version 3, behind it from version 4.
    pub error_span: Span,
    pub entry: NodeEntry<'a>,
}

pub const LAST_VERSION: i16 = 6;

/// Key, node, error and message, each at its smallest.
const SMALLEST_COORDINATOR_BYTES: usize = 1 + NodeEntry::SMALLEST_BYTES + 2 + 1;

impl<'a> FindCoordinatorResponse<'a> {
    /// Parses a whole frame.
    pub fn parse(frame: &'a [u8], version: i16) -> Result<FindCoordinatorResponse<'a>, Malformed> {
        let mut reader = super::response_body(frame, ApiKey::FIND_COORDINATOR, version, LAST_VERSION)?;
        let reader = &mut reader;
        if version >= 1 {
            let _throttle_time_ms = reader.i32()?;
        }
        let mut coordinators;
        if version <= 3 {
            let error_start = reader.position();
            let error = reader.i16()?;
            let error_span = reader.span_from(error_start);
            if version >= 1 {
                let _message = reader.nullable_string()?;
            }
            let entry = NodeEntry::read(reader)?;
            coordinators = vec![CoordinatorEntry { key: None, error, error_span, entry }];
        } else {
            let count = reader.array(SMALLEST_COORDINATOR_BYTES)?;
            coordinators = Vec::with_capacity(count.len);
            for _ in 0..count.len {
                let key = Some(reader.string()?);
                let mut entry = NodeEntry::read(reader)?;
                let error_start = reader.position();
                let error = reader.i16()?;
                let error_span = reader.span_from(error_start);
                let _message = reader.nullable_string()?;
                entry.end(reader)?;
                coordinators.push(CoordinatorEntry { key, error, error_span, entry });
            }
        }
        reader.skip_tagged_fields()?;
        Ok(FindCoordinatorResponse { coordinators })
    }
}

#[cfg(test)]
#[path = "tests/find_coordinator.rs"]
mod tests;
