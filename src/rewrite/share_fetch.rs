//! ShareFetch: the endpoints beside leader hints, which here are no tagged field.
//!
//! Deliberately absent: the hints themselves; node ids are the same on both sides.

use bytes::Bytes;

use super::nodes::{all_endpoints, learned_leaders, write_endpoints};
use super::{Context, Failure, Rewritten};
use crate::wire::Edits;
use crate::wire::share_fetch::ShareFetchResponse;

pub(super) fn rewrite(version: i16, frame: &Bytes, context: &Context<'_>) -> Result<Rewritten, Failure> {
    let response = ShareFetchResponse::parse(frame, version)?;
    let named = &response.node_endpoints;
    let mut edits = Edits::new();
    if !named.nodes.is_empty() {
        let endpoints = all_endpoints(named, context).unwrap_or_default();
        edits.replace(named.whole, true, |writer| write_endpoints(writer, &endpoints));
    }
    Ok(Rewritten { frame: edits.apply(frame)?, observation: learned_leaders(&response.hints) })
}
