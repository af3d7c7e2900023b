//! Cuts a produce request: the same request with some of its partitions only.
//!
//! Invariant: each batch that stays keeps its bytes, and so do header, acks, timeout and unknown tagged fields. Deliberately absent:
//! which partitions belong together.

use bytes::Bytes;

use super::{Failure, RewriteError};
use crate::wire::produce_request::ProduceRequest;
use crate::wire::{ApiKey, Edits, Head};

/// `frame` with those partitions only whose ordinal `keep` says; topics that have none of theirs left are left out. The very same
/// `Bytes` where all are kept.
///
/// # Errors
/// `request` was not parsed from `frame`.
pub fn split_produce(frame: &Bytes, head: &Head, request: &ProduceRequest, keep: &dyn Fn(usize) -> bool) -> Result<Bytes, RewriteError> {
    let kept: Vec<bool> = (0..request.partitions.len()).map(keep).collect();
    if kept.iter().all(|kept| *kept) {
        return Ok(frame.clone());
    }
    let flexible = ApiKey::PRODUCE.is_flexible(head.version);
    let kept_of = |ordinals: std::ops::Range<usize>| kept.get(ordinals).unwrap_or_default();
    let some_kept = |ordinals: std::ops::Range<usize>| kept_of(ordinals).contains(&true);

    let mut edits = Edits::new();
    let topics_left = request.topics.iter().filter(|topic| some_kept(topic.partitions.clone())).count();
    if topics_left != request.topics.len() {
        edits.replace(request.topic_count.span, flexible, |writer| writer.count(topics_left));
    }
    for topic in &request.topics {
        if !some_kept(topic.partitions.clone()) {
            edits.remove(topic.whole);
            continue;
        }
        let kept = kept_of(topic.partitions.clone());
        let left = kept.iter().filter(|kept| **kept).count();
        if left != kept.len() {
            edits.replace(topic.partition_count.span, flexible, |writer| writer.count(left));
        }
        for (partition, kept) in request.partitions_of(topic).iter().zip(kept) {
            if !kept {
                edits.remove(partition.whole);
            }
        }
    }
    edits.apply(frame).map_err(|error| {
        let Failure(what) = error.into();
        RewriteError { api: ApiKey::PRODUCE, version: head.version, what }
    })
}
