//! One partition's records on their way (kgo: `recBuf`): batches in order, which of them are sent, and what keeps the rest back.
//!
//! Invariant: a batch keeps its records and, as long as the producer's epoch stays, its sequence; only the first one is ever settled.
//! Deliberately not here: where the partition is led, beyond the number of the sink that drains it.

use std::collections::VecDeque;
use std::time::Duration;

/// Records `first .. first + count` of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub(super) id: u64,
    pub(super) first: u64,
    pub(super) count: u64,
    /// Once sent, no record is added.
    pub(super) sent: bool,
}

#[derive(Debug)]
pub(super) struct Buffer {
    /// The broker whose sink drains it; negative: none that could be asked.
    pub(super) node: i32,
    pub(super) epoch: i32,
    pub(super) rewinds: u32,
    pub(super) batches: VecDeque<Batch>,
    /// Batches before this one are on the wire.
    pub(super) drained: usize,
    pub(super) in_flight: usize,
    /// Requests under way at one broker keep another from starting.
    pub(super) in_flight_on: Option<i32>,
    pub(super) ok_on_sink: bool,
    /// Kept back until the next metadata.
    pub(super) failing: bool,
    pub(super) unknown_failures: u32,
    pub(super) linger_until: Option<Duration>,
    sequence: i64,
    first_sequence: i64,
    needs_reset: bool,
}

impl Buffer {
    pub(super) fn new(node: i32, epoch: i32) -> Buffer {
        Buffer {
            node,
            epoch,
            rewinds: 0,
            batches: VecDeque::new(),
            drained: 0,
            in_flight: 0,
            in_flight_on: None,
            ok_on_sink: false,
            failing: false,
            unknown_failures: 0,
            linger_until: None,
            sequence: 0,
            first_sequence: 0,
            needs_reset: false,
        }
    }

    /// Adds a record; true: nothing else waited, so draining has to be started.
    pub(super) fn push(&mut self, record: u64, batch_id: u64, batch_records_max: u64) -> bool {
        let was_drained = self.drained == self.batches.len();
        match self.batches.back_mut() {
            Some(batch) if !batch.sent && batch.count < batch_records_max => batch.count += 1,
            _ => self.batches.push_back(Batch { id: batch_id, first: record, count: 1, sent: false }),
        }
        was_drained
    }

    pub(super) fn has_more(&self) -> bool {
        self.drained < self.batches.len()
    }

    /// Whether this broker's sink may send another batch now.
    pub(super) fn may_send(&self, node: i32) -> bool {
        let elsewhere = self.in_flight_on.is_some_and(|on| on != node);
        !self.failing && self.has_more() && !elsewhere && (self.in_flight == 0 || self.ok_on_sink)
    }

    /// Takes the next batch to send, and its sequence.
    pub(super) fn send(&mut self, node: i32) -> Option<(Batch, i32)> {
        if self.needs_reset && self.drained == 0 {
            self.needs_reset = false;
            self.sequence = 0;
            self.first_sequence = 0;
        }
        let batch = self.batches.get_mut(self.drained)?;
        batch.sent = true;
        let batch = *batch;
        let sequence = wrapped(self.sequence);
        self.sequence += signed(batch.count);
        self.drained += 1;
        self.in_flight += 1;
        self.in_flight_on = Some(node);
        self.linger_until = None;
        Some((batch, sequence))
    }

    pub(super) fn is_first(&self, batch_id: u64) -> bool {
        self.batches.front().is_some_and(|batch| batch.id == batch_id)
    }

    /// The first batch is with the broker.
    pub(super) fn finish_first(&mut self) -> Option<Batch> {
        let batch = self.batches.pop_front()?;
        self.first_sequence += signed(batch.count);
        self.drained = self.drained.saturating_sub(1);
        Some(batch)
    }

    /// Everything is to be sent again, from the first batch on.
    pub(super) fn rewind(&mut self) {
        self.sequence = self.first_sequence;
        self.drained = 0;
    }

    /// Sequences start anew with the next first batch: the producer has another epoch.
    pub(super) fn restart_sequences(&mut self) {
        self.needs_reset = true;
    }

    /// Gives everything up; what that was.
    pub(super) fn fail_all(&mut self) -> Vec<Batch> {
        // The broker has none of them, so the next record takes the first one's sequence.
        self.rewind();
        self.batches.drain(..).collect()
    }

    /// A request with a batch of this partition is over.
    pub(super) fn landed(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0 {
            self.in_flight_on = None;
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn wrapped(sequence: i64) -> i32 {
    i32::try_from(sequence % (i64::from(i32::MAX) + 1)).unwrap_or(0)
}
