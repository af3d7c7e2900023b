//! Bounded reading of untrusted bytes: heads of frames, and where in a frame things lie.
//!
//! Invariant: nothing here allocates, loops or indexes by a number that the peer sent before that number was held against the bytes
//! that are there. Deliberately absent: anything else of ours; IO; decisions.

mod api;
mod batch_head;
mod edit;
mod head;
mod reader;
mod skim;
mod transaction;

pub mod api_versions;
pub mod describe_cluster;
pub mod find_coordinator;
pub mod metadata;
pub mod node;
pub mod produce;
pub mod produce_request;
pub mod share_acknowledge;
pub mod share_fetch;

pub use api::{ApiKey, ApiSpec};
pub use batch_head::{BatchHead, Sequence};
pub use edit::{EditError, Edits, Writer, new_frame};
pub use head::{Head, HeadError, HeadLimits, ProduceHead, ResponseHead, Span, Stranger, parse_head, parse_response_head};
pub use reader::{Count, Malformed, Reader, TaggedField, TaggedFields};
pub use skim::EndpointSkimmer;
pub use transaction::{InitProducerId, end_txn_producer_id, init_producer_id};

/// A reader that stands at the body of a whole response, of a version that its parsed form knows.
fn response_body(frame: &[u8], api: ApiKey, version: i16, last_version: i16) -> Result<Reader<'_>, Malformed> {
    known_version(version, last_version)?;
    let mut reader = Reader::new(frame, api.is_flexible(version))?;
    let _correlation_id = reader.i32()?;
    if api.response_header_version(version) >= 1 {
        reader.skip_tagged_fields()?;
    }
    Ok(reader)
}

/// A reader that stands at the body of a whole request of this API, whose head is `head`.
fn request_body<'a>(frame: &'a [u8], head: &Head, api: ApiKey, last_version: i16) -> Result<Reader<'a>, Malformed> {
    if head.api != api {
        return Err(Malformed { what: "this is a request of another API", at: 4 });
    }
    known_version(head.version, last_version)?;
    Ok(Reader::new(frame, api.is_flexible(head.version))?.within(Span { start: head.body_at, end: head.frame_bytes }))
}

fn known_version(version: i16, last_version: i16) -> Result<(), Malformed> {
    if (0..=last_version).contains(&version) { Ok(()) } else { Err(Malformed { what: "the layout of this version is not known", at: 0 }) }
}

#[cfg(test)]
#[path = "tests/fixtures.rs"]
pub(crate) mod fixtures;
#[cfg(test)]
#[path = "tests/produce_fixtures.rs"]
pub(crate) mod produce_fixtures;
#[cfg(test)]
#[path = "tests/responses.rs"]
mod responses;
