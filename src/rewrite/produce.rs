//! Produce from version 10: the endpoints beside leader hints (KIP-951).
//!
//! Deliberately absent: the hints themselves; node ids are the same on both sides.

use bytes::Bytes;

use super::nodes::{all_endpoints, leaders_are_told, learned_leaders, write_endpoints};
use super::{Context, Failure, Rewritten};
use crate::wire::Edits;
use crate::wire::node::NODE_ENDPOINTS_TAG;
use crate::wire::produce::{ProduceResults, all_ok};

pub(super) fn rewrite(version: i16, frame: &Bytes, context: &Context<'_>) -> Result<Rewritten, Failure> {
    if all_ok(frame, version)? {
        return Ok(Rewritten::new(frame.clone(), None));
    }
    let response = ProduceResults::parse(frame, version)?;
    let hints = response.hints();
    let mut edits = Edits::new();
    if let (Some(fields), Some(named)) = (response.tagged_fields, &response.node_endpoints)
        && let Some(field) = fields.found
    {
        match all_endpoints(named, context).filter(|_| leaders_are_told(&hints, context)) {
            Some(endpoints) => edits.replace(field.whole, true, |writer| {
                writer.uvarint(NODE_ENDPOINTS_TAG);
                writer.sized(|value| write_endpoints(value, &endpoints));
            }),
            None => {
                let left = fields.count.len - 1;
                edits.replace(fields.count.span, true, |writer| writer.uvarint(left as u32));
                edits.remove(field.whole);
            }
        }
    }
    Ok(Rewritten::new(edits.apply(frame)?, learned_leaders(&hints)))
}
