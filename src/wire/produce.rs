//! The Produce response, versions 0 to 13: each partition's result, and from version 10 the leader hints (KIP-951).
//!
//! Invariant: one walk for all that is asked of a response, so that a response that is all well for one is well-formed for the other.
//! Deliberately absent: what an error means.

use super::node::{LeaderHint, NODE_ENDPOINTS_TAG, NodeEndpoints, TopicRef};
use super::produce_request::{MAX_PARTITIONS, ProduceRequest};
use super::{ApiKey, Malformed, Reader, Span, TaggedFields};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceResults<'a> {
    /// Of all topics, one behind the other.
    pub results: Vec<ProduceResult<'a>>,
    /// 0 in version 0, which does not say.
    pub throttle_time_ms: i32,
    /// The tagged fields that end the response; `None` below version 9. From version 10 `found` is NodeEndpoints.
    pub tagged_fields: Option<TaggedFields>,
    pub node_endpoints: Option<NodeEndpoints<'a>>,
}

/// What became of one partition's batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceResult<'a> {
    pub topic: TopicRef<'a>,
    pub index: i32,
    pub error: i16,
    pub error_span: Span,
    pub base_offset: i64,
    /// The whole element, from its index to the end of its tagged fields.
    pub whole: Span,
    /// `None` below version 9. From version 10 `found` is CurrentLeader.
    pub tagged_fields: Option<TaggedFields>,
    pub current_leader: Option<CurrentLeader>,
}

/// From version 10, beside an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentLeader {
    pub node: i32,
    pub epoch: i32,
}

/// The first version that carries leader hints.
pub const FIRST_VERSION_WITH_HINTS: i16 = 10;
pub const LAST_VERSION: i16 = 13;

/// Of a partition.
const CURRENT_LEADER_TAG: u32 = 0;
/// Name, partitions, tagged fields.
const SMALLEST_TOPIC_BYTES: usize = 3;
/// Index, error, base offset: all that version 0 has.
const SMALLEST_PARTITION_BYTES: usize = 14;
/// Index, message, tagged fields.
const SMALLEST_RECORD_ERROR_BYTES: usize = 6;

impl<'a> ProduceResults<'a> {
    /// Parses a whole frame.
    pub fn parse(frame: &'a [u8], version: i16) -> Result<ProduceResults<'a>, Malformed> {
        let mut results = Vec::new();
        let end = walk(frame, version, |result| results.push(result))?;
        let node_endpoints = match end.tagged_fields.and_then(|fields| fields.found) {
            Some(field) => Some(NodeEndpoints::read(&mut end.reader.within(field.value))?),
            None => None,
        };
        Ok(ProduceResults { results, throttle_time_ms: end.throttle_time_ms, tagged_fields: end.tagged_fields, node_endpoints })
    }

    pub fn hints(&self) -> Vec<LeaderHint<'a>> {
        self.results.iter().filter_map(ProduceResult::hint).collect()
    }

    /// For each partition of `request`, by its ordinal, where in `results` its result stands. A broker may answer in another order; one
    /// partition that a request has twice gets one answer. `request_frame` is what `request` was parsed from.
    pub fn places(&self, request: &ProduceRequest, request_frame: &[u8]) -> Vec<Option<usize>> {
        let key = |place: &usize| self.results.get(*place).map(|result| (result.topic, result.index));
        let mut sorted: Vec<usize> = (0..self.results.len()).collect();
        sorted.sort_by_key(key);
        let mut places = Vec::with_capacity(request.partitions.len());
        for topic in &request.topics {
            let name = topic.name_in(request_frame);
            places.extend(request.partitions_of(topic).iter().map(|partition| {
                let wanted = Some((name, partition.index));
                let first = sorted.get(sorted.partition_point(|place| key(place) < wanted))?;
                (key(first) == wanted).then_some(*first)
            }));
        }
        places
    }
}

impl<'a> ProduceResult<'a> {
    /// Reads one partition's element again, that of a `whole` span in a frame of the same version.
    ///
    /// # Errors
    /// The span is not that of an element.
    pub fn at(frame: &'a [u8], whole: Span, version: i16) -> Result<ProduceResult<'a>, Malformed> {
        super::known_version(version, LAST_VERSION)?;
        let mut reader = Reader::new(frame, ApiKey::PRODUCE.is_flexible(version))?.within(whole);
        let result = ProduceResult::read(&mut reader, TopicRef::Name(b""), version)?;
        if result.whole == whole { Ok(result) } else { reader.malformed("this is not a whole result") }
    }

    #[inline]
    fn read(reader: &mut Reader<'a>, topic: TopicRef<'a>, version: i16) -> Result<ProduceResult<'a>, Malformed> {
        let start = reader.position();
        let index = reader.i32()?;
        let error_start = reader.position();
        let error = reader.i16()?;
        let error_span = reader.span_from(error_start);
        let base_offset = reader.i64()?;
        // log_append_time_ms, then log_start_offset.
        reader.raw(8 * (usize::from(version >= 2) + usize::from(version >= 5)))?;
        if version >= 8 {
            let record_errors = reader.array(SMALLEST_RECORD_ERROR_BYTES)?;
            for _ in 0..record_errors.len {
                let _batch_index = reader.i32()?;
                let _message = reader.nullable_string()?;
                reader.skip_tagged_fields()?;
            }
            let _message = reader.nullable_string()?;
        }
        let tagged_fields = tagged_fields(reader, version, CURRENT_LEADER_TAG)?;
        let current_leader = match tagged_fields.and_then(|fields| fields.found) {
            Some(field) => {
                let mut value = reader.within(field.value);
                let leader = CurrentLeader { node: value.i32()?, epoch: value.i32()? };
                value.skip_tagged_fields()?;
                Some(leader)
            }
            None => None,
        };
        let whole = reader.span_from(start);
        Ok(ProduceResult { topic, index, error, error_span, base_offset, whole, tagged_fields, current_leader })
    }

    fn hint(&self) -> Option<LeaderHint<'a>> {
        let CurrentLeader { node, epoch } = self.current_leader?;
        Some(LeaderHint { topic: self.topic, partition: self.index, error: self.error, leader: node, leader_epoch: epoch })
    }
}

/// Whether a whole response says nothing but that every batch is appended: no error, no leader hint, no endpoints. Allocates nothing
/// where it says so.
///
/// # Errors
/// As those of `ProduceResults::parse`.
pub fn all_ok(frame: &[u8], version: i16) -> Result<bool, Malformed> {
    let mut ok = true;
    let end = walk(frame, version, |result| ok &= result.error == 0 && result.current_leader.is_none())?;
    match end.tagged_fields.and_then(|fields| fields.found) {
        Some(field) => NodeEndpoints::read(&mut end.reader.within(field.value)).map(|_| false),
        None => Ok(ok),
    }
}

/// What stands behind the topics.
struct End<'a> {
    throttle_time_ms: i32,
    tagged_fields: Option<TaggedFields>,
    reader: Reader<'a>,
}

#[inline]
fn walk<'a>(frame: &'a [u8], version: i16, mut each: impl FnMut(ProduceResult<'a>)) -> Result<End<'a>, Malformed> {
    let mut reader = super::response_body(frame, ApiKey::PRODUCE, version, LAST_VERSION)?;
    let topics = reader.array(SMALLEST_TOPIC_BYTES)?;
    let mut results = 0;
    for _ in 0..topics.len {
        let topic = if version >= 13 { TopicRef::Id(reader.uuid()?) } else { TopicRef::Name(reader.string()?) };
        let partitions = reader.array(SMALLEST_PARTITION_BYTES)?;
        results += partitions.len;
        if results > MAX_PARTITIONS {
            return reader.malformed("it has more partitions than any request");
        }
        for _ in 0..partitions.len {
            each(ProduceResult::read(&mut reader, topic, version)?);
        }
        reader.skip_tagged_fields()?;
    }
    let throttle_time_ms = if version >= 1 { reader.i32()? } else { 0 };
    let tagged_fields = tagged_fields(&mut reader, version, NODE_ENDPOINTS_TAG)?;
    Ok(End { throttle_time_ms, tagged_fields, reader })
}

/// A structure's tagged fields, looked into from the first version that has hints.
#[inline]
fn tagged_fields(reader: &mut Reader<'_>, version: i16, tag: u32) -> Result<Option<TaggedFields>, Malformed> {
    if !reader.is_flexible() {
        return Ok(None);
    }
    reader.tagged_fields((version >= FIRST_VERSION_WITH_HINTS).then_some(tag)).map(Some)
}

#[cfg(test)]
#[path = "tests/produce.rs"]
mod tests;
