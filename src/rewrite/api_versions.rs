//! ApiVersions: what every known broker and this proxy can do; and the answer to versions newer than this proxy.
//!
//! Invariant: a minimum is never raised (librdkafka relies on old ones). Deliberately absent: features, which pass as they are.

use bytes::Bytes;

use super::{Context, Failure, Rewritten, UnknownApis};
use crate::cluster::{ApiVersionsObservation, CommonMax, Observation, VersionRange};
use crate::wire::api_versions::{ApiRange, ApiVersionsResponse, LAST_VERSION, UNSUPPORTED_VERSION};
use crate::wire::{ApiKey, Edits};

pub(super) fn rewrite(version: i16, frame: &Bytes, context: &Context<'_>) -> Result<Rewritten, Failure> {
    let response = ApiVersionsResponse::parse(frame, version)?;
    let maxima: Vec<Option<i16>> = response.ranges.iter().map(|range| served_max(range, context)).collect();
    let kept = maxima.iter().flatten().count();
    let mut edits = Edits::new();
    if kept != response.ranges.len() {
        edits.replace(response.count.span, response.flexible, |writer| writer.count(kept));
    }
    for (range, max) in response.ranges.iter().zip(maxima) {
        match max {
            None => edits.remove(range.whole),
            Some(max) if max != range.max => edits.replace(range.max_span, response.flexible, |writer| writer.i16(max)),
            Some(_) => (),
        }
    }
    Ok(Rewritten::new(edits.apply(frame)?, observation(&response, context)))
}

/// The highest version that a client may use, or `None` if it may use none.
fn served_max(range: &ApiRange, context: &Context<'_>) -> Option<i16> {
    let known = match range.api.spec() {
        Some(spec) if spec.between_servers => return None,
        Some(spec) => spec.max_version,
        None if context.unknown_apis == UnknownApis::Pass => i16::MAX,
        None => return None,
    };
    let max = match context.view.common_max(range.api) {
        CommonMax::UpTo(common) => range.max.min(known).min(common),
        CommonMax::Unknown => range.max.min(known),
        // Some broker would close the connection of a client that takes one broker's word for all.
        CommonMax::Lacking => return None,
    };
    (max >= range.min).then_some(max)
}

/// The broker's own, unclamped ranges, if it is known which broker this is. Beside an error the list may not be whole.
fn observation(response: &ApiVersionsResponse, context: &Context<'_>) -> Option<Observation> {
    if response.error != 0 {
        return None;
    }
    let mut ranges: Vec<_> = response.ranges.iter().map(|range| (range.api, VersionRange { min: range.min, max: range.max })).collect();
    ranges.sort_unstable_by_key(|(api, _)| *api);
    Some(Observation::ApiVersions(ApiVersionsObservation { node: context.from_node?, endpoint: context.from_endpoint?.clone(), ranges }))
}

/// A whole frame that answers an ApiVersions request of a version that we do not relay (5 and up): UNSUPPORTED_VERSION in the layout
/// of version 0, naming the versions of ApiVersions that may be asked for instead, as a broker does (KIP-511).
pub fn unsupported_api_versions(correlation_id: i32) -> Bytes {
    let mut body = Vec::with_capacity(20);
    body.extend_from_slice(&correlation_id.to_be_bytes());
    body.extend_from_slice(&UNSUPPORTED_VERSION.to_be_bytes());
    body.extend_from_slice(&1i32.to_be_bytes());
    for field in [ApiKey::API_VERSIONS.0, 0, LAST_VERSION] {
        body.extend_from_slice(&field.to_be_bytes());
    }
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&(body.len() as i32).to_be_bytes());
    frame.extend_from_slice(&body);
    Bytes::from(frame)
}
