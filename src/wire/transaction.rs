//! Whom a request of a producer's life is about: InitProducerId, versions 0 to 6, and EndTxn, versions 0 to 5.
//!
//! Deliberately absent: their responses, and what else these requests ask for.

use super::{ApiKey, Head, Malformed, Span, request_body};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitProducerId {
    /// `None`: idempotent only.
    pub transactional_id: Option<Span>,
    /// The id that the producer has already; −1: none, or the version (below 3) does not say.
    pub producer_id: i64,
}

const LAST_INIT_PRODUCER_ID_VERSION: i16 = 6;
const LAST_END_TXN_VERSION: i16 = 5;

/// From a whole InitProducerId request.
pub fn init_producer_id(frame: &[u8], head: &Head) -> Result<InitProducerId, Malformed> {
    let mut reader = request_body(frame, head, ApiKey::INIT_PRODUCER_ID, LAST_INIT_PRODUCER_ID_VERSION)?;
    let transactional_id = reader.nullable_string()?.map(|id| reader.span_behind(id.len()));
    let _transaction_timeout_ms = reader.i32()?;
    let producer_id = if head.version >= 3 { reader.i64()? } else { -1 };
    Ok(InitProducerId { transactional_id, producer_id })
}

/// The producer id of a whole EndTxn request.
pub fn end_txn_producer_id(frame: &[u8], head: &Head) -> Result<i64, Malformed> {
    let mut reader = request_body(frame, head, ApiKey::END_TXN, LAST_END_TXN_VERSION)?;
    let _transactional_id = reader.string()?;
    reader.i64()
}

#[cfg(test)]
#[path = "tests/transaction.rs"]
mod tests;
