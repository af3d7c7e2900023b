//! One partition's log: stored batches, leader epochs, high watermark, open and aborted transactions.
//!
//! Invariant: start ≤ last stable offset ≤ high watermark ≤ end, and offsets have no gaps. Deliberately not here: who leads, and whether a
//! producer's sequence fits (`producer_state`).

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::batch::{self, BatchHeader};

/// A batch as it lies in the log.
#[derive(Clone, Debug)]
pub struct StoredBatch {
    /// Its header, base offset and epoch as the leader wrote them.
    pub header: BatchHeader,
    /// The whole batch.
    pub bytes: Bytes,
}

/// A transaction that was aborted (Kafka: `AbortedTxn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer_id: i64,
    /// Its first record here.
    pub first_offset: i64,
    /// Its marker.
    pub last_offset: i64,
}

/// What a fetch reads.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// Whole batches, back to back.
    pub records: Bytes,
    /// The offset behind the last batch in `records`.
    pub end_offset: i64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Log {
    batches: VecDeque<StoredBatch>,
    start_offset: i64,
    end_offset: i64,
    high_watermark: i64,
    bytes: usize,
    max_bytes: usize,
    epochs: Vec<(i32, i64)>,
    ongoing: BTreeMap<i64, i64>,
    /// Transactions that ended, and whose marker is not replicated yet: (first record, marker).
    unreplicated: Vec<(i64, i64)>,
    aborted: Vec<AbortedTransaction>,
}

impl Log {
    /// An empty log that forgets its oldest batches beyond `max_bytes`.
    pub fn new(max_bytes: usize) -> Log {
        Log {
            batches: VecDeque::new(),
            start_offset: 0,
            end_offset: 0,
            high_watermark: 0,
            bytes: 0,
            max_bytes,
            epochs: Vec::new(),
            ongoing: BTreeMap::new(),
            unreplicated: Vec::new(),
            aborted: Vec::new(),
        }
    }

    /// The oldest offset that is still there.
    pub fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// The offset that the next record gets.
    pub fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// Consumers see what lies below.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// Where a read_committed consumer stops: the first transaction that is open, or whose marker is not replicated, or the high watermark
    /// (Kafka: `ProducerStateManager.firstUnstableOffset`).
    pub fn last_stable_offset(&self) -> i64 {
        let unstable = self.ongoing.values().copied().chain(self.unreplicated.iter().map(|(first, _)| *first)).min();
        unstable.map_or(self.high_watermark, |first| first.min(self.high_watermark))
    }

    /// The first offset of this producer's open transaction.
    pub fn ongoing_since(&self, producer_id: i64) -> Option<i64> {
        self.ongoing.get(&producer_id).copied()
    }

    /// Everything stored, in order.
    pub fn batches(&self) -> impl DoubleEndedIterator<Item = &StoredBatch> {
        self.batches.iter()
    }

    /// Appends a batch under `leader_epoch`; the answer is its base offset. The high watermark does not move: see [`Log::commit`].
    pub fn append(&mut self, records: &Bytes, mut header: BatchHeader, leader_epoch: i32) -> i64 {
        let base_offset = self.end_offset;
        header.base_offset = base_offset;
        header.leader_epoch = leader_epoch;
        let bytes = batch::stamp(records, base_offset, leader_epoch);
        if self.epochs.last().is_none_or(|(epoch, _)| *epoch < leader_epoch) {
            self.epochs.push((leader_epoch, base_offset));
        }
        if header.is_transactional() && !header.is_control() {
            self.ongoing.entry(header.producer_id).or_insert(base_offset);
        }
        self.end_offset = header.last_offset() + 1;
        self.bytes += bytes.len();
        self.batches.push_back(StoredBatch { header, bytes });
        self.forget_oldest();
        base_offset
    }

    /// Appends a transaction's marker and closes the transaction.
    pub fn append_marker(&mut self, producer_id: i64, producer_epoch: i16, committed: bool, timestamp_ms: i64, leader_epoch: i32) {
        let (records, header) = batch::control_batch(producer_id, producer_epoch, committed, timestamp_ms);
        let offset = self.append(&records, header, leader_epoch);
        let first = self.ongoing.remove(&producer_id);
        self.unreplicated.extend(first.map(|first| (first, offset)));
        if let (false, Some(first_offset)) = (committed, first) {
            self.aborted.push(AbortedTransaction { producer_id, first_offset, last_offset: offset });
        }
    }

    fn forget_oldest(&mut self) {
        while self.bytes > self.max_bytes && self.batches.len() > 1 {
            if let Some(oldest) = self.batches.pop_front() {
                self.bytes -= oldest.bytes.len();
                self.start_offset = oldest.header.last_offset() + 1;
            }
        }
        let start = self.start_offset;
        self.aborted.retain(|aborted| aborted.last_offset >= start);
        self.high_watermark = self.high_watermark.max(start);
    }

    /// All replicas have everything: the high watermark moves to the end.
    pub fn commit(&mut self) {
        self.high_watermark = self.end_offset;
        self.unreplicated.clear();
    }

    /// What a new leader does that never got what lies behind `offset`: it is gone, batch by batch. Transactions that ended there are open
    /// again.
    pub fn truncate_to(&mut self, offset: i64) {
        while self.batches.back().is_some_and(|last| last.header.base_offset >= offset) {
            if let Some(last) = self.batches.pop_back() {
                self.bytes -= last.bytes.len();
                self.end_offset = last.header.base_offset;
            }
        }
        let end = self.end_offset;
        self.epochs.retain(|(_, start)| *start < end);
        self.high_watermark = self.high_watermark.min(end);
        self.aborted.retain(|aborted| aborted.last_offset < end);
        self.unreplicated.retain(|(_, marker)| *marker < end);
        let start = self.start_offset;
        self.ongoing.retain(|_, first| *first < start);
        for stored in self.batches.iter().filter(|stored| stored.header.is_transactional()) {
            if stored.header.is_control() {
                self.ongoing.remove(&stored.header.producer_id);
            } else {
                self.ongoing.entry(stored.header.producer_id).or_insert(stored.header.base_offset);
            }
        }
    }

    /// Removes what lies below `offset`, as DeleteRecords does, batch by batch.
    pub fn delete_before(&mut self, offset: i64) {
        while self.batches.front().is_some_and(|first| first.header.last_offset() < offset) {
            if let Some(first) = self.batches.pop_front() {
                self.bytes -= first.bytes.len();
            }
        }
        self.start_offset = self.start_offset.max(offset.min(self.high_watermark));
    }

    /// Whole batches from the one that holds `offset`, below `limit`, up to `max_bytes`; at least one if `first_always` is set.
    pub fn read(&self, offset: i64, limit: i64, max_bytes: usize, first_always: bool) -> Slice {
        let from = self.batches.partition_point(|stored| stored.header.last_offset() < offset);
        let mut taken = Vec::new();
        let mut size = 0;
        let mut end_offset = offset;
        for stored in self.batches.iter().skip(from) {
            if stored.header.last_offset() >= limit {
                break;
            }
            let is_granted = first_always && taken.is_empty();
            if size + stored.bytes.len() > max_bytes && !is_granted {
                break;
            }
            size += stored.bytes.len();
            end_offset = stored.header.last_offset() + 1;
            taken.push(stored.bytes.clone());
        }
        let records = match taken.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => {
                let mut joined = BytesMut::with_capacity(size);
                many.iter().for_each(|bytes| joined.extend_from_slice(bytes));
                joined.freeze()
            }
        };
        Slice { records, end_offset }
    }

    /// The aborted transactions that overlap `[from, to)`, which a read_committed consumer has to filter.
    pub fn aborted_between(&self, from: i64, to: i64) -> Vec<AbortedTransaction> {
        self.aborted.iter().filter(|aborted| aborted.last_offset >= from && aborted.first_offset < to).copied().collect()
    }

    /// Where `epoch` ended: the largest known epoch ≤ `epoch` and its end offset (KIP-320; Kafka: `LeaderEpochFileCache.endOffsetFor`).
    pub fn end_of_epoch(&self, epoch: i32, current_epoch: i32) -> Option<(i32, i64)> {
        if epoch == current_epoch {
            return Some((epoch, self.end_offset));
        }
        let next = self.epochs.iter().find(|(known, _)| *known > epoch);
        let end = next.map(|(_, start)| *start).or_else(|| (epoch < current_epoch).then_some(self.end_offset))?;
        let known = self.epochs.iter().rev().find(|(known, _)| *known <= epoch).map(|(known, _)| *known);
        // An epoch older than all that are known ended where the first of them began.
        Some((known.unwrap_or(epoch), end))
    }

    /// The epoch under which the record at `offset` was appended; −1 where nothing was.
    pub fn epoch_at(&self, offset: i64) -> i32 {
        self.epochs.iter().rev().find(|(_, start)| *start <= offset).map_or(-1, |(epoch, _)| *epoch)
    }

    /// The first record at or after a time: (offset, its timestamp).
    pub fn first_since(&self, timestamp_ms: i64, limit: i64) -> Option<(i64, i64)> {
        let holder = self.batches.iter().find(|stored| stored.header.max_timestamp_ms >= timestamp_ms)?;
        let records = batch::records_of(&holder.bytes);
        let found = records.iter().find(|record| record.timestamp >= timestamp_ms).map(|record| (record.offset, record.timestamp));
        // A compressed batch stays closed: its first offset is the nearest answer.
        let answer = found.unwrap_or((holder.header.base_offset, holder.header.max_timestamp_ms));
        (answer.0 < limit).then_some(answer)
    }

    /// The record with the largest timestamp: (offset, timestamp) (KIP-734).
    pub fn latest_timestamp(&self) -> Option<(i64, i64)> {
        let largest = self.batches.iter().map(|stored| stored.header.max_timestamp_ms).max()?;
        self.first_since(largest, i64::MAX)
    }
}
