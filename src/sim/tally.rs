//! Who was sent, acknowledged and consumed, and what that says: lost, duplicated, out of order.
//!
//! Invariant: memory is one byte per record of a run. Deliberately not here: time.

/// One record's history, as bits.
const ACKED: u8 = 1;
const CONSUMED: u8 = 2;

/// What a consumed record was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Its first appearance, in order.
    InOrder,
    /// Its first appearance, behind a later record.
    Behind,
    /// It was there before.
    Again,
    /// Not of this run.
    Foreign,
}

/// See the module. Counters start at 0 in each partition and have no gaps.
#[derive(Debug, Default)]
pub struct Tally {
    partitions: Vec<Partition>,
    duplicated: u64,
    reordered: u64,
    foreign: u64,
    acked: u64,
    consumed: u64,
}

#[derive(Clone, Debug, Default)]
struct Partition {
    records: Vec<u8>,
    largest_seen: Option<usize>,
}

impl Tally {
    /// Nothing happened yet.
    pub fn new(partitions: i32) -> Tally {
        Tally { partitions: vec![Partition::default(); usize::try_from(partitions).unwrap_or(0)], ..Tally::default() }
    }

    fn partition(&mut self, partition: i32) -> Option<&mut Partition> {
        self.partitions.get_mut(usize::try_from(partition).ok()?)
    }

    /// The next `count` records of a partition are on their way.
    pub fn send(&mut self, partition: i32, count: u64) {
        if let Some(known) = self.partition(partition) {
            let length = known.records.len() + usize::try_from(count).unwrap_or(0);
            known.records.resize(length, 0);
        }
    }

    /// `count` records from `first` on are acknowledged.
    pub fn acknowledge(&mut self, partition: i32, first: u64, count: u64) {
        let (first, count) = (usize::try_from(first).unwrap_or(usize::MAX), usize::try_from(count).unwrap_or(0));
        let Some(known) = self.partition(partition) else { return };
        let mut fresh = 0;
        for record in known.records.iter_mut().skip(first).take(count) {
            fresh += u64::from(*record & ACKED == 0);
            *record |= ACKED;
        }
        self.acked += fresh;
    }

    /// A record came; `None`: one that is not of this run.
    pub fn consume(&mut self, partition: i32, counter: Option<u64>) -> Seen {
        let seen = self.look_at(partition, counter);
        match seen {
            Seen::InOrder => self.consumed += 1,
            Seen::Behind => {
                self.consumed += 1;
                self.reordered += 1;
            }
            Seen::Again => self.duplicated += 1,
            Seen::Foreign => self.foreign += 1,
        }
        seen
    }

    fn look_at(&mut self, partition: i32, counter: Option<u64>) -> Seen {
        let index = counter.and_then(|counter| usize::try_from(counter).ok());
        let (Some(index), Some(known)) = (index, self.partition(partition)) else { return Seen::Foreign };
        let Some(record) = known.records.get_mut(index) else { return Seen::Foreign };
        let was_seen = *record & CONSUMED != 0;
        *record |= CONSUMED;
        let is_behind = known.largest_seen.is_some_and(|largest| index < largest);
        known.largest_seen = known.largest_seen.max(Some(index));
        match (was_seen, is_behind) {
            (true, _) => Seen::Again,
            (false, true) => Seen::Behind,
            (false, false) => Seen::InOrder,
        }
    }

    /// Records on their way, ever.
    pub fn sent(&self) -> u64 {
        self.partitions.iter().map(|known| known.records.len() as u64).sum()
    }

    /// Records acknowledged.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Distinct records consumed.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Acknowledged, and not consumed so far.
    pub fn lost(&self) -> u64 {
        self.lost_records().count() as u64
    }

    /// Which those are: partition and counter.
    pub fn lost_records(&self) -> impl Iterator<Item = (i32, u64)> {
        let partitions = self.partitions.iter().zip(0_i32..);
        let records =
            partitions.flat_map(|(known, partition)| known.records.iter().zip(0_u64..).map(move |(record, at)| (partition, at, *record)));
        records.filter(|(.., record)| record & ACKED != 0 && record & CONSUMED == 0).map(|(partition, at, _)| (partition, at))
    }

    /// Whether everything acknowledged was consumed.
    pub fn is_complete(&self) -> bool {
        self.lost() == 0
    }

    /// Extra appearances.
    pub fn duplicated(&self) -> u64 {
        self.duplicated
    }

    /// First appearances behind a later record.
    pub fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Records of somebody else.
    pub fn foreign(&self) -> u64 {
        self.foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        let mut tally = Tally::new(1);
        tally.send(0, 6);
        tally.acknowledge(0, 0, 5);
        for counter in [0, 2, 1, 1, 4] {
            tally.consume(0, Some(counter));
        }
        tally.consume(0, None);
        tally.consume(0, Some(6));
        assert_eq!((tally.sent(), tally.acked(), tally.consumed()), (6, 5, 4));
        assert_eq!((tally.lost(), tally.duplicated(), tally.reordered(), tally.foreign()), (1, 1, 1, 2));
    }

    #[test]
    fn a_redelivered_record_is_a_duplicate_and_not_out_of_order() {
        let mut tally = Tally::new(1);
        tally.send(0, 3);
        for counter in [0, 1, 2, 0] {
            tally.consume(0, Some(counter));
        }
        assert_eq!((tally.duplicated(), tally.reordered()), (1, 0));
    }
}
