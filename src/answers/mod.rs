//! Answers of our own, in place of a broker that is gone: a request's frame in, the frame out that a broker gives which does not lead the
//! request's partitions, does not coordinate its groups or transactions, or does not know its fetch session.
//!
//! Invariant: one pass over the request; every count is held against the bytes that are left, nothing is reserved by it, and an answer
//! has at most [`MAX_GROWTH`] times its request's bytes. Deliberately absent: which request is answered so, and when.
//!
//! The requests come from clients, so that `wire::Reader` reads them; the kafka-protocol crate reserves memory by any count that it is
//! sent. As its own reader is not needed, neither are its versions the limit: every version is answered that `wire::ApiKey` has a row for,
//! but for those of `table` that say otherwise. What each answer says besides the code is what Kafka's own says; the class is named there.

mod fetch;
mod groups;
mod leaders;
mod newer_groups;
mod share;
mod table;
mod transactions;
mod turn;

use bytes::Bytes;

use crate::wire::{ApiKey, EditError, Head, Malformed, Reader, Span, new_frame};
use turn::Turn;

/// What a broker may say that has nothing to do with what it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Denial {
    /// NOT_LEADER_OR_FOLLOWER, of each partition.
    NotLeader,
    /// FETCH_SESSION_ID_NOT_FOUND: the client opens a new session (KIP-227). Only for a Fetch that goes on with one.
    FetchSessionNotFound,
    /// SHARE_SESSION_NOT_FOUND, likewise (KIP-932). A request within a share session names only the partitions that are new to it or
    /// have acknowledgements, so that `NotLeader` may have nothing to stand at.
    ShareSessionNotFound,
    /// NOT_COORDINATOR, of each group or transaction, or of each of its partitions.
    NotCoordinator,
}

impl Denial {
    /// Kafka: `Errors`.
    pub fn code(self) -> i16 {
        match self {
            Denial::NotLeader => 6,
            Denial::FetchSessionNotFound => 70,
            Denial::ShareSessionNotFound => 122,
            Denial::NotCoordinator => 16,
        }
    }
}

/// Why there is no answer: the client has to be closed instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("{} is never answered with error {}", api.name(), denial.code())]
    NeverSaid { api: ApiKey, denial: Denial },
    #[error("{} v{version} cannot be answered with error {}: its layout is not known, or has no place for it", api.name(), denial.code())]
    Version { api: ApiKey, version: i16, denial: Denial },
    #[error("{} v{version}: {source}", api.name())]
    Malformed { api: ApiKey, version: i16, source: Malformed },
    #[error("the answer to {} v{version}: {source}", api.name())]
    Encode { api: ApiKey, version: i16, source: EditError },
}

/// An answer has at most this many times its request's bytes.
pub const MAX_GROWTH: usize = 32;

/// Whether [`answer`] answers such a request, if it is well-formed: what a session asks before it keeps one.
pub fn can_answer(api: ApiKey, version: i16, denial: Denial) -> bool {
    table::row(api, version, denial).is_ok()
}

/// The whole answer to the request `frame` (its length prefix included), whose head is `head`.
pub fn answer(frame: &[u8], head: &Head, denial: Denial) -> Result<Bytes, AnswerError> {
    let Head { api, version, .. } = *head;
    let row = table::row(api, version, denial)?;
    let flexible = api.is_flexible(version);
    let malformed = |source| AnswerError::Malformed { api, version, source };
    let body = Span { start: head.body_at, end: head.frame_bytes };
    let request = Reader::new(frame, flexible).map_err(malformed)?.within(body);
    let mut outcome = Ok(());
    let answer = new_frame(flexible, |writer| {
        writer.i32(head.correlation_id);
        if api.response_header_version(version) >= 1 {
            writer.no_tagged_fields();
        }
        outcome = (row.write)(&mut Turn::new(version, denial.code(), frame, request, writer));
        writer.no_tagged_fields();
    });
    outcome.map_err(malformed)?;
    answer.map_err(|source| AnswerError::Encode { api, version, source })
}

#[cfg(test)]
mod tests;
