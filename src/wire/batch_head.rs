//! What the head of a record batch says of its producer.
//!
//! Invariant: each step of the walk goes on by a length that was held against the bytes that are left. Deliberately absent: records;
//! checksums; what a broker refuses.

/// A partition's records in a produce request, as far as their heads tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchHead {
    /// Null, or not a byte long.
    Empty,
    /// Nothing that a broker would know again: no batch has a producer id, the format is older (magic 0 and 1), or the bytes are no
    /// batch at all.
    Plain,
    /// A batch with a producer id, idempotent or transactional.
    ///
    /// From version 3 there is one batch at most. Where several stand one behind the other all the same, these are the numbers of the
    /// first that has a producer id, whatever stands before and behind it: such a partition is never taken for plain.
    Sequenced(Sequence),
}

/// What a broker knows a batch again by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// Of the batch's first record; its last has this plus `last_offset_delta`.
    pub base_sequence: i32,
    pub last_offset_delta: i32,
    pub transactional: bool,
}

/// Base offset and length, which stand before everything that the length counts.
const LENGTH_END: usize = 12;
/// The same place in all formats.
const MAGIC_AT: usize = 16;
/// Of a whole batch without records (magic 2).
const SMALLEST_BATCH_BYTES: usize = 61;
/// Of a whole message with a null key and a null value (magic 0).
const SMALLEST_MESSAGE_BYTES: usize = 26;
/// In a batch's attributes.
const TRANSACTIONAL: i16 = 0x10;

impl BatchHead {
    pub(super) fn read(records: Option<&[u8]>) -> BatchHead {
        let Some(mut rest) = records.filter(|records| !records.is_empty()) else { return BatchHead::Empty };
        while let Some((batch, behind)) = split_batch(rest) {
            if let Some(sequence) = Sequence::read(batch) {
                return BatchHead::Sequenced(sequence);
            }
            rest = behind;
        }
        BatchHead::Plain
    }
}

impl Sequence {
    /// `None`: the batch has no producer id, or its format knows none.
    fn read(batch: &[u8]) -> Option<Sequence> {
        if batch.get(MAGIC_AT) != Some(&2) || batch.len() < SMALLEST_BATCH_BYTES {
            return None;
        }
        let producer_id = i64::from_be_bytes(number(batch, 43)?);
        if producer_id < 0 {
            return None;
        }
        Some(Sequence {
            producer_id,
            producer_epoch: i16::from_be_bytes(number(batch, 51)?),
            base_sequence: i32::from_be_bytes(number(batch, 53)?),
            last_offset_delta: i32::from_be_bytes(number(batch, 23)?),
            transactional: i16::from_be_bytes(number(batch, 21)?) & TRANSACTIONAL != 0,
        })
    }
}

/// The first batch or message, and what stands behind it. `None`: there is none that is whole.
fn split_batch(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = usize::try_from(i32::from_be_bytes(number(bytes, LENGTH_END - 4)?)).ok()?.checked_add(LENGTH_END)?;
    if len < SMALLEST_MESSAGE_BYTES { None } else { bytes.split_at_checked(len) }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
#[path = "tests/batch_head.rs"]
mod tests;
