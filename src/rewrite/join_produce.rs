//! Joins produce requests of one client: what several of them have for one broker, in one request.
//!
//! A broker works on one request of a connection at a time, so that a hundred small ones wait a hundred times for its followers; one
//! that holds the same batches waits once.
//!
//! Invariant: each batch keeps its bytes; everything before and behind the topics is the first request's, and the same in all
//! (`may_join`); a topic is there once. Deliberately absent: which batches may go together, order among them included.

use bytes::Bytes;

use super::{Failure, RewriteError};
use crate::wire::produce_request::{ProduceRequest, ProduceTopic};
use crate::wire::{ApiKey, Head, Span, new_frame};

/// Some partitions of one request.
#[derive(Clone, Copy, Debug)]
pub struct Share<'a> {
    pub frame: &'a Bytes,
    pub head: &'a Head,
    /// What was parsed from the frame.
    pub request: &'a ProduceRequest,
    /// Ordinals, ascending.
    pub partitions: &'a [usize],
}

/// Length prefix, API key, version; then the correlation id.
const CORRELATION_ID: Span = Span { start: 8, end: 12 };

impl Share<'_> {
    /// Everything but the topics: what lies before the correlation id (without the length), between it and the topics, and behind them.
    fn around(&self) -> Option<[&[u8]; 3]> {
        let topics_end = self.request.topics.last().map_or(self.request.topic_count.span.end, |topic| topic.whole.end);
        let frame = self.frame;
        Some([
            Span { start: 4, end: CORRELATION_ID.start }.of(frame)?,
            Span { start: CORRELATION_ID.end, end: self.request.topic_count.span.start }.of(frame)?,
            frame.get(topics_end as usize..)?,
        ])
    }
}

/// Whether two requests say the same but for correlation id and topics: version, client id, transactional id, acks, timeout. Never for
/// those of a transaction, whose batches a broker holds to one producer per request (`AddPartitionsToTxnManager`, KIP-890), and never
/// for `acks=0`, which nobody answers.
pub fn may_join(one: &Share<'_>, other: &Share<'_>) -> bool {
    let joins = |produce: crate::wire::ProduceHead| produce.transactional_id.is_none() && produce.acks != 0;
    one.head.produce.is_some_and(joins) && one.around().is_some_and(|around| other.around() == Some(around))
}

/// One request with all that the shares hold, under the first one's correlation id. No partition may be in two of them.
///
/// # Errors
/// There is none, or one was not parsed from its frame.
pub fn join_produce(shares: &[Share<'_>]) -> Result<Bytes, RewriteError> {
    let version = shares.first().map_or(-1, |first| first.head.version);
    joined(shares).map_err(|Failure(what)| RewriteError { api: ApiKey::PRODUCE, version, what })
}

/// A topic's part in one share.
struct Piece<'a> {
    share: &'a Share<'a>,
    topic: &'a ProduceTopic,
    partitions: Vec<Span>,
}

fn joined(shares: &[Share<'_>]) -> Result<Bytes, Failure> {
    let strange = || Failure("the request is not that of its frame");
    let first = shares.first().ok_or(Failure("there is nothing to join"))?;
    let version = first.head.version;
    let [before, between, behind] = first.around().ok_or_else(strange)?;
    let mut topics: Vec<Vec<Piece<'_>>> = Vec::new();
    for share in shares {
        for topic in &share.request.topics {
            let taken = share.partitions.iter().filter(|ordinal| topic.partitions.contains(ordinal));
            let partitions: Vec<Span> = taken.filter_map(|ordinal| Some(share.request.partitions.get(*ordinal)?.whole)).collect();
            if partitions.is_empty() {
                continue;
            }
            let piece = Piece { share, topic, partitions };
            let name = topic.name_in(share.frame);
            let is_same = |pieces: &&mut Vec<Piece<'_>>| pieces.first().is_some_and(|known| known.topic.name_in(known.share.frame) == name);
            match topics.iter_mut().find(is_same) {
                Some(pieces) => pieces.push(piece),
                None => topics.push(vec![piece]),
            }
        }
    }
    let mut is_whole = true;
    let frame = new_frame(ApiKey::PRODUCE.is_flexible(version), |writer| {
        let mut raw = |writer: &mut crate::wire::Writer<'_>, bytes: Option<&[u8]>| {
            is_whole &= bytes.is_some();
            writer.raw(bytes.unwrap_or_default());
        };
        raw(writer, Some(before));
        raw(writer, CORRELATION_ID.of(first.frame));
        raw(writer, Some(between));
        writer.count(topics.len());
        for pieces in &topics {
            let Some(named) = pieces.first() else { continue };
            let (topic, frame) = (named.topic, named.share.frame);
            raw(writer, Span { start: topic.whole.start, end: topic.partition_count.span.start }.of(frame));
            writer.count(pieces.iter().map(|piece| piece.partitions.len()).sum());
            for piece in pieces {
                for partition in &piece.partitions {
                    raw(writer, partition.of(piece.share.frame));
                }
            }
            let partitions_end =
                named.share.request.partitions_of(topic).last().map_or(topic.partition_count.span.end, |last| last.whole.end);
            raw(writer, Span { start: partitions_end, end: topic.whole.end }.of(frame));
        }
        raw(writer, Some(behind));
    })?;
    if is_whole { Ok(frame) } else { Err(strange()) }
}
