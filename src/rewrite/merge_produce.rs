//! Builds one produce response out of what several brokers said, and of what none could say.
//!
//! Invariant: topics and partitions stand in the request's order, each once; a leader hint leaves only beside the addresses of all
//! brokers. Deliberately absent: which result is final.

use bytes::Bytes;

use super::nodes::{all_endpoints, write_endpoints};
use super::{Advertised, Context, Failure, RewriteError};
use crate::cluster::ToldBroker;
use crate::wire::node::{NODE_ENDPOINTS_TAG, NodeEndpoints};
use crate::wire::produce::{FIRST_VERSION_WITH_HINTS, LAST_VERSION, ProduceResult};
use crate::wire::produce_request::ProduceRequest;
use crate::wire::{ApiKey, Span, Writer, new_frame};

/// What a merged response is made of.
#[derive(Clone, Copy, Debug)]
pub struct Merge<'a> {
    /// The client's request's.
    pub version: i16,
    pub correlation_id: i32,
    /// What `request` was parsed from.
    pub request_frame: &'a [u8],
    pub request: &'a ProduceRequest,
    /// One per partition of the request, by its ordinal.
    pub results: &'a [Merged<'a>],
    /// The longest that any part asks for.
    pub throttle_time_ms: i32,
    /// All brokers with their virtual addresses, from `virtual_endpoints`. They leave only if a copied result names one of them as its
    /// partition's leader; with `None`, and where they lack that leader, the result loses its CurrentLeader.
    pub endpoints: Option<&'a [(ToldBroker<'a>, Advertised)]>,
}

/// One partition's result.
#[derive(Clone, Copy, Debug)]
pub enum Merged<'a> {
    /// A broker's, of the same version, from the `whole` of a `ProduceResult`.
    Copied {
        frame: &'a Bytes,
        whole: Span,
        /// In place of the broker's error; the result then loses its CurrentLeader, which was that error's.
        error: Option<i16>,
    },
    /// Our own: no offsets, no message.
    Made { error: i16 },
}

/// Every broker that clients are told of with its virtual address, for `Merge::endpoints`; `None` (none may be listed) if one has no
/// virtual address.
pub fn virtual_endpoints<'v>(context: &Context<'v>) -> Option<Vec<(ToldBroker<'v>, Advertised)>> {
    let nobody = NodeEndpoints { whole: Span { start: 0, end: 0 }, nodes: Vec::new() };
    all_endpoints(&nobody, context)
}

/// The whole response frame.
///
/// # Errors
/// There are more or fewer results than partitions, a copied one is not a whole element or is another partition's, or the version is
/// not known.
pub fn merge_produce(merge: &Merge<'_>) -> Result<Bytes, RewriteError> {
    built(merge).map_err(|Failure(what)| RewriteError { api: ApiKey::PRODUCE, version: merge.version, what })
}

fn built(merge: &Merge<'_>) -> Result<Bytes, Failure> {
    let Merge { version, request, results, .. } = *merge;
    if !(0..=LAST_VERSION).contains(&version) {
        return Err(Failure("the layout of this version is not known"));
    }
    if results.len() != request.partitions.len() {
        return Err(Failure("there are not as many results as partitions"));
    }
    let mut failure = None;
    let frame = new_frame(ApiKey::PRODUCE.is_flexible(version), |writer| failure = write_response(writer, merge).err())?;
    failure.map_or(Ok(frame), Err)
}

fn write_response(writer: &mut Writer<'_>, merge: &Merge<'_>) -> Result<(), Failure> {
    let Merge { version, request, .. } = *merge;
    writer.i32(merge.correlation_id);
    if ApiKey::PRODUCE.response_header_version(version) >= 1 {
        writer.no_tagged_fields();
    }
    let mut hinted = false;
    writer.count(request.topics.len());
    for topic in &request.topics {
        // A response of the same version writes name or id as the request does.
        let name = Span { start: topic.whole.start, end: topic.partition_count.span.start };
        writer.raw(name.of(merge.request_frame).ok_or(Failure("the request is not that of its frame"))?);
        let results = merge.results.get(topic.partitions.clone()).unwrap_or_default();
        writer.count(results.len());
        for (partition, result) in request.partitions_of(topic).iter().zip(results) {
            match *result {
                Merged::Made { error } => write_made(writer, version, partition.index, error),
                Merged::Copied { frame, whole, error } => {
                    let result = ProduceResult::at(frame, whole, version)?;
                    if result.index != partition.index {
                        return Err(Failure("a copied result is another partition's"));
                    }
                    hinted |= write_copied(writer, merge, frame, &result, error)?;
                }
            }
        }
        writer.no_tagged_fields();
    }
    if version >= 1 {
        writer.i32(merge.throttle_time_ms);
    }
    match merge.endpoints.filter(|_| hinted) {
        Some(endpoints) => {
            writer.uvarint(1);
            writer.uvarint(NODE_ENDPOINTS_TAG);
            writer.sized(|value| write_endpoints(value, endpoints));
        }
        None => writer.no_tagged_fields(),
    }
    Ok(())
}

fn write_made(writer: &mut Writer<'_>, version: i16, index: i32, error: i16) {
    writer.i32(index);
    writer.i16(error);
    writer.i64(-1); // base_offset
    if version >= 2 {
        writer.i64(-1); // log_append_time_ms
    }
    if version >= 5 {
        writer.i64(-1); // log_start_offset
    }
    if version >= 8 {
        writer.count(0); // record_errors
        writer.nullable_string(None); // error_message
    }
    writer.no_tagged_fields();
}

/// Says whether the result kept its CurrentLeader.
fn write_copied(
    writer: &mut Writer<'_>,
    merge: &Merge<'_>,
    frame: &Bytes,
    result: &ProduceResult<'_>,
    error: Option<i16>,
) -> Result<bool, Failure> {
    let mut from = result.whole.start;
    let mut copy = |writer: &mut Writer<'_>, until: u32, on_from: u32| {
        let bytes = Span { start: from, end: until }.of(frame).ok_or(Failure("a result's parts are out of order"))?;
        writer.raw(bytes);
        from = on_from;
        Ok::<(), Failure>(())
    };
    if let Some(error) = error {
        copy(writer, result.error_span.start, result.error_span.end)?;
        writer.i16(error);
    }
    let listed = |node: i32| merge.endpoints.is_some_and(|endpoints| endpoints.iter().any(|(broker, _)| broker.id.0 == node));
    let keeps_hint = error.is_none() && result.current_leader.is_some_and(|leader| listed(leader.node));
    if merge.version >= FIRST_VERSION_WITH_HINTS
        && !keeps_hint
        && let Some(fields) = result.tagged_fields
        && let Some(hint) = fields.found
    {
        copy(writer, fields.count.span.start, fields.count.span.end)?;
        writer.uvarint(fields.count.len as u32 - 1);
        copy(writer, hint.whole.start, hint.whole.end)?;
    }
    copy(writer, result.whole.end, result.whole.end)?;
    Ok(keeps_hint)
}
