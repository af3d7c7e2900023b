//! The Produce request, versions 0 to 13: where each topic and partition lies, and whose batches they are.
//!
//! Invariant: spans nest, so that taking partitions out leaves a request that is whole. Deliberately absent: what stands before the
//! topics, which is in the head; records.

use std::ops::Range;

use super::batch_head::BatchHead;
use super::node::TopicRef;
use super::{ApiKey, Count, Head, Malformed, Reader, Span};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRequest {
    pub topic_count: Count,
    pub topics: Vec<ProduceTopic>,
    /// Of all topics, one behind the other. A partition's place here is its ordinal.
    pub partitions: Vec<ProducePartition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopic {
    pub topic: ProduceTopicName,
    /// The whole element, its tagged fields included.
    pub whole: Span,
    pub partition_count: Count,
    /// Into the request's `partitions`.
    pub partitions: Range<usize>,
}

/// By name or, from version 13, by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProduceTopicName {
    Name(Span),
    Id([u8; 16]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    pub index: i32,
    /// From the index to the end of its tagged fields.
    pub whole: Span,
    pub records: Option<Span>,
    pub batch: BatchHead,
}

pub const LAST_VERSION: i16 = 13;

/// Kafka has no such limit, but no client comes near it; with it, a frame of partitions without records costs some megabytes when it is
/// parsed, and not ten times its size.
pub const MAX_PARTITIONS: usize = 100_000;

/// Name, partitions, tagged fields.
const SMALLEST_TOPIC_BYTES: usize = 3;
/// Index, records, tagged fields.
const SMALLEST_PARTITION_BYTES: usize = 6;

impl ProduceRequest {
    /// Parses a whole frame, whose head is `head`.
    pub fn parse(frame: &[u8], head: &Head) -> Result<ProduceRequest, Malformed> {
        let mut reader = super::request_body(frame, head, ApiKey::PRODUCE, LAST_VERSION)?;
        let reader = &mut reader;
        if head.version >= 3 {
            let _transactional_id = reader.nullable_string()?;
        }
        let _acks = reader.i16()?;
        let _timeout_ms = reader.i32()?;
        let topic_count = reader.array(SMALLEST_TOPIC_BYTES)?;
        let mut topics = Vec::new();
        let mut partitions = Vec::new();
        for _ in 0..topic_count.len {
            if topics.len() == MAX_PARTITIONS {
                return reader.malformed("it has too many topics");
            }
            topics.push(topic(reader, head.version, &mut partitions)?);
        }
        reader.skip_tagged_fields()?;
        Ok(ProduceRequest { topic_count, topics, partitions })
    }

    /// One topic's partitions.
    pub fn partitions_of(&self, topic: &ProduceTopic) -> &[ProducePartition] {
        self.partitions.get(topic.partitions.clone()).unwrap_or_default()
    }
}

impl ProduceTopic {
    /// The topic as the request names it; `frame` is the one that was parsed.
    pub fn name_in<'a>(&self, frame: &'a [u8]) -> TopicRef<'a> {
        match self.topic {
            ProduceTopicName::Id(id) => TopicRef::Id(id),
            ProduceTopicName::Name(span) => TopicRef::Name(span.of(frame).unwrap_or_default()),
        }
    }
}

fn topic(reader: &mut Reader<'_>, version: i16, partitions: &mut Vec<ProducePartition>) -> Result<ProduceTopic, Malformed> {
    let start = reader.position();
    let topic = if version >= 13 {
        ProduceTopicName::Id(reader.uuid()?)
    } else {
        let len = reader.string()?.len();
        ProduceTopicName::Name(reader.span_behind(len))
    };
    let partition_count = reader.array(SMALLEST_PARTITION_BYTES)?;
    let first = partitions.len();
    if first + partition_count.len > MAX_PARTITIONS {
        return reader.malformed("it has too many partitions");
    }
    partitions.reserve(partition_count.len);
    for _ in 0..partition_count.len {
        partitions.push(partition(reader)?);
    }
    reader.skip_tagged_fields()?;
    Ok(ProduceTopic { topic, whole: reader.span_from(start), partition_count, partitions: first..partitions.len() })
}

fn partition(reader: &mut Reader<'_>) -> Result<ProducePartition, Malformed> {
    let start = reader.position();
    let index = reader.i32()?;
    let bytes = reader.nullable_bytes()?;
    let records = bytes.map(|bytes| reader.span_behind(bytes.len()));
    reader.skip_tagged_fields()?;
    Ok(ProducePartition { index, whole: reader.span_from(start), records, batch: BatchHead::read(bytes) })
}

#[cfg(test)]
#[path = "tests/produce_request.rs"]
mod tests;
