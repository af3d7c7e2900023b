//! What a replica remembers of each idempotent producer, and its verdict on the next batch.
//!
//! Source: Kafka's `ProducerStateManager`, `ProducerStateEntry`, `ProducerAppendInfo`. Invariant: at most the last five batches per producer.
//! Deliberately not here: the expiry of producer ids that are not used any more, and transactions (`log`, `transaction`).

use std::collections::{BTreeMap, VecDeque};

use super::batch::BatchHeader;
use super::code;
use super::log::Log;

/// Batches that are remembered per producer (Kafka: `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
const REMEMBERED_BATCHES: usize = 5;

/// What to do with a producer's batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It follows what is there.
    Append,
    /// It is there already, from this offset on: answered as a success.
    Duplicate {
        /// The offset that the first copy got.
        base_offset: i64,
    },
    /// It does not fit; the error code that the broker answers with.
    Refuse(i16),
}

#[derive(Clone, Debug, Default)]
struct Entry {
    epoch: i16,
    last_timestamp_ms: i64,
    batches: VecDeque<Remembered>,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
}

/// A producer as DescribeProducers tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownProducer {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// −1: none in this epoch.
    pub last_sequence: i32,
    /// Of its last batch or marker.
    pub last_timestamp_ms: i64,
}

/// One replica's memory for one partition.
#[derive(Clone, Debug, Default)]
pub struct ProducerStates {
    producers: BTreeMap<i64, Entry>,
    applied_to: i64,
}

impl ProducerStates {
    /// Judges a batch from a client. Batches without a producer id are always fine.
    pub fn judge(&self, header: &BatchHeader) -> Verdict {
        if header.producer_id < 0 {
            return Verdict::Append;
        }
        // Without any state, every first sequence is accepted (KIP-360).
        let Some(entry) = self.producers.get(&header.producer_id) else { return Verdict::Append };
        if entry.epoch == header.producer_epoch {
            let same = |known: &&Remembered| known.first_sequence == header.base_sequence && known.last_sequence == header.last_sequence();
            if let Some(known) = entry.batches.iter().find(same) {
                return Verdict::Duplicate { base_offset: known.base_offset };
            }
        }
        if header.producer_epoch < entry.epoch {
            return Verdict::Refuse(code::INVALID_PRODUCER_EPOCH);
        }
        let expected = match entry.batches.back() {
            Some(last) if entry.epoch == header.producer_epoch => last.last_sequence.checked_add(1).unwrap_or(0),
            _ => 0,
        };
        if header.base_sequence == expected { Verdict::Append } else { Verdict::Refuse(code::OUT_OF_ORDER_SEQUENCE) }
    }

    /// Whether any batch of this producer's epoch is known.
    pub fn has_batches(&self, producer_id: i64) -> bool {
        self.producers.get(&producer_id).is_some_and(|entry| !entry.batches.is_empty())
    }

    /// Every producer that is known here.
    pub fn known(&self) -> impl Iterator<Item = KnownProducer> {
        self.producers.iter().map(|(producer_id, entry)| KnownProducer {
            producer_id: *producer_id,
            epoch: entry.epoch,
            last_sequence: entry.batches.back().map_or(-1, |last| last.last_sequence),
            last_timestamp_ms: entry.last_timestamp_ms,
        })
    }

    /// Takes note of a batch that was appended (its header carries its offset).
    pub fn apply(&mut self, header: &BatchHeader) {
        self.applied_to = header.last_offset() + 1;
        if header.producer_id < 0 {
            return;
        }
        let entry = self.producers.entry(header.producer_id).or_default();
        if entry.epoch != header.producer_epoch {
            entry.epoch = header.producer_epoch;
            entry.batches.clear();
        }
        entry.last_timestamp_ms = header.max_timestamp_ms;
        if header.is_control() {
            return;
        }
        if entry.batches.len() == REMEMBERED_BATCHES {
            entry.batches.pop_front();
        }
        entry.batches.push_back(Remembered {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
        });
    }

    /// Takes note of everything that the log has and this replica has not seen yet, as a follower that fetches does.
    pub fn catch_up(&mut self, log: &Log) {
        let from = self.applied_to;
        for stored in log.batches().filter(|stored| stored.header.base_offset >= from) {
            self.apply(&stored.header);
        }
        self.applied_to = self.applied_to.max(log.end_offset());
    }

    /// A broker's snapshot keeps the last batch per producer: this is what is left after a restart.
    pub fn keep_last_batch_only(&mut self) {
        for entry in self.producers.values_mut() {
            while entry.batches.len() > 1 {
                entry.batches.pop_front();
            }
        }
    }

    /// All forgotten, as after the expiry of every producer id.
    pub fn forget(&mut self) {
        self.producers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(producer_id: i64, epoch: i16, base_sequence: i32, count: i32, base_offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset,
            leader_epoch: 0,
            attributes: 0,
            last_offset_delta: count - 1,
            max_timestamp_ms: 0,
            producer_id,
            producer_epoch: epoch,
            base_sequence,
            record_count: count,
        }
    }

    fn with_batches(count: i32) -> ProducerStates {
        let mut states = ProducerStates::default();
        for index in 0..count {
            states.apply(&batch(7, 0, index * 2, 2, i64::from(index) * 2));
        }
        states
    }

    #[test]
    fn the_last_five_batches_are_known_and_the_sixth_is_out_of_order() {
        let states = with_batches(6);
        for index in 1..6 {
            assert_eq!(states.judge(&batch(7, 0, index * 2, 2, 0)), Verdict::Duplicate { base_offset: i64::from(index) * 2 });
        }
        assert_eq!(states.judge(&batch(7, 0, 0, 2, 0)), Verdict::Refuse(code::OUT_OF_ORDER_SEQUENCE));
        assert_eq!(states.judge(&batch(7, 0, 12, 2, 0)), Verdict::Append);
        assert_eq!(states.judge(&batch(7, 0, 14, 2, 0)), Verdict::Refuse(code::OUT_OF_ORDER_SEQUENCE));
    }

    #[test]
    fn a_duplicate_needs_the_exact_range() {
        let states = with_batches(3);
        assert_eq!(states.judge(&batch(7, 0, 4, 1, 0)), Verdict::Refuse(code::OUT_OF_ORDER_SEQUENCE));
    }

    #[test]
    fn an_older_epoch_is_fenced_and_a_newer_one_starts_at_zero() {
        let mut states = with_batches(1);
        states.apply(&batch(7, 3, 0, 1, 2));
        assert_eq!(states.judge(&batch(7, 2, 2, 1, 0)), Verdict::Refuse(code::INVALID_PRODUCER_EPOCH));
        assert_eq!(states.judge(&batch(7, 4, 5, 1, 0)), Verdict::Refuse(code::OUT_OF_ORDER_SEQUENCE));
        assert_eq!(states.judge(&batch(7, 4, 0, 1, 0)), Verdict::Append);
    }

    #[test]
    fn without_state_any_first_sequence_is_accepted() {
        assert_eq!(ProducerStates::default().judge(&batch(7, 0, 41, 1, 0)), Verdict::Append);
    }

    #[test]
    fn a_restart_leaves_the_last_batch_only() {
        let mut states = with_batches(4);
        states.keep_last_batch_only();
        assert_eq!(states.judge(&batch(7, 0, 6, 2, 0)), Verdict::Duplicate { base_offset: 6 });
        assert_eq!(states.judge(&batch(7, 0, 4, 2, 0)), Verdict::Refuse(code::OUT_OF_ORDER_SEQUENCE));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut states = ProducerStates::default();
        states.apply(&batch(7, 0, i32::MAX - 1, 2, 0));
        assert_eq!(states.judge(&batch(7, 0, 0, 1, 0)), Verdict::Append);
    }
}
