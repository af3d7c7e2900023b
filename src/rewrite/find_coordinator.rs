//! FindCoordinator: virtual addresses; a coordinator that has departed keeps its own.
//!
//! Deliberately absent: learning coordinators; the response does not say of what kind they are, nor, up to version 3, whose.

use bytes::Bytes;

use super::nodes::host_port;
use super::{Context, Failure, Rewritten};
use crate::cluster::NodeId;
use crate::wire::find_coordinator::{CoordinatorEntry, FindCoordinatorResponse};
use crate::wire::{ApiKey, Edits};

const COORDINATOR_NOT_AVAILABLE: i16 = 15;

pub(super) fn rewrite(version: i16, frame: &Bytes, context: &Context<'_>) -> Result<Rewritten, Failure> {
    let response = FindCoordinatorResponse::parse(frame, version)?;
    let flexible = ApiKey::FIND_COORDINATOR.is_flexible(version);
    let mut edits = Edits::new();
    for coordinator in &response.coordinators {
        readdress(&mut edits, flexible, coordinator, context);
    }
    Ok(Rewritten::new(edits.apply(frame)?, None))
}

fn readdress(edits: &mut Edits, flexible: bool, coordinator: &CoordinatorEntry<'_>, context: &Context<'_>) {
    let entry = &coordinator.entry;
    if entry.node < 0 && entry.host.is_empty() {
        // The usual company of an error: no node, no address.
        return;
    }
    let address = if entry.node < 0 { None } else { context.addresses.advertised(NodeId(entry.node)) };
    if let Some(address) = address {
        edits.replace(entry.host_port(), flexible, |writer| host_port(writer, &address));
        return;
    }
    let error = (coordinator.error == 0).then_some(coordinator.error_span);
    let error_first = coordinator.error_span.start < entry.node_host_port.start;
    if let Some(span) = error.filter(|_| error_first) {
        edits.replace(span, flexible, |writer| writer.i16(COORDINATOR_NOT_AVAILABLE));
    }
    edits.replace(entry.node_host_port, flexible, |writer| {
        writer.i32(-1);
        writer.string("");
        writer.i32(-1);
    });
    if let Some(span) = error.filter(|_| !error_first) {
        edits.replace(span, flexible, |writer| writer.i16(COORDINATOR_NOT_AVAILABLE));
    }
}
