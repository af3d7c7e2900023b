//! ShareAcknowledge: the endpoints beside leader hints, which here are no tagged field.
//!
//! Deliberately absent: the hints themselves; node ids are the same on both sides.

use bytes::Bytes;

use super::nodes::rewrite_untagged;
use super::{Context, Failure, Rewritten};
use crate::wire::share_acknowledge::ShareAcknowledgeResponse;

pub(super) fn rewrite(version: i16, frame: &Bytes, context: &Context<'_>) -> Result<Rewritten, Failure> {
    let response = ShareAcknowledgeResponse::parse(frame, version)?;
    rewrite_untagged(frame, &response.node_endpoints, &response.hints, context)
}
