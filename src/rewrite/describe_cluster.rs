//! DescribeCluster: virtual addresses; which brokers exist is told as it is: departed ones are not among them.
//!
//! Deliberately absent: learning from it; version 2 may list fenced brokers, which Metadata does not.

use bytes::Bytes;

use super::nodes::VirtualAddresses;
use super::{Context, Failure, Rewritten};
use crate::wire::describe_cluster::DescribeClusterResponse;
use crate::wire::{ApiKey, Edits};

/// Endpoint type 2 would be controllers (KIP-919), which only controllers answer; they have no virtual addresses, so none is listed.
const BROKERS: i8 = 1;

pub(super) fn rewrite(version: i16, frame: &Bytes, context: &Context<'_>) -> Result<Rewritten, Failure> {
    let response = DescribeClusterResponse::parse(frame, version)?;
    let flexible = ApiKey::DESCRIBE_CLUSTER.is_flexible(version);
    let advertised = |node| if response.endpoint_type == BROKERS { context.addresses.advertised(node) } else { None };
    let addresses = VirtualAddresses::of(&response.brokers, advertised);
    let mut edits = Edits::new();
    if response.controller.node != -1 && addresses.listed().binary_search(&response.controller.node).is_err() {
        edits.replace(response.controller.span, flexible, |writer| writer.i32(-1));
    }
    addresses.replace(&mut edits, flexible, response.broker_count, &response.brokers, |_| None, &[]);
    Ok(Rewritten::new(edits.apply(frame)?, None))
}
