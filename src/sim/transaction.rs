//! The transaction coordinator: producer ids, open transactions, markers.
//!
//! Source: Kafka's `TransactionCoordinator`, KIP-98, KIP-360, KIP-890. Invariant: a producer id's epoch never goes backwards. Deliberately
//! not here: the time between prepare and complete; an EndTxn writes all markers at once, so 51 comes from a fault rule only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::batch::BatchHeader;
use super::cluster::Cluster;
use super::code;

/// Who a transactional id belongs to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    Ongoing { since: Duration },
    Complete { committed: bool },
}

#[derive(Clone, Debug)]
struct Transaction {
    identity: Identity,
    state: State,
    timeout: Duration,
    partitions: BTreeSet<(String, i32)>,
}

/// All transactions, by transactional id.
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    by_id: BTreeMap<String, Transaction>,
    last_producer_id: i64,
}

impl Transactions {
    fn fresh_identity(&mut self) -> Identity {
        self.last_producer_id += 1;
        Identity { producer_id: 999 + self.last_producer_id, epoch: 0 }
    }

    /// The transaction of a producer that is the current one; fencing as an error code.
    fn of(&mut self, transactional_id: &str, identity: Identity, fenced: i16) -> Result<&mut Transaction, i16> {
        let transaction = self.by_id.get_mut(transactional_id).ok_or(code::INVALID_PRODUCER_ID_MAPPING)?;
        if transaction.identity.producer_id != identity.producer_id {
            return Err(code::INVALID_PRODUCER_ID_MAPPING);
        }
        if transaction.identity.epoch != identity.epoch {
            return Err(fenced);
        }
        Ok(transaction)
    }

    /// Whether a transactional batch may be appended; with `may_add` it adds its partition (KIP-890).
    pub fn admit_batch(
        &mut self,
        now: Duration,
        transactional_id: Option<&str>,
        header: &BatchHeader,
        partition: (&str, i32),
        may_add: bool,
    ) -> Result<(), i16> {
        let identity = Identity { producer_id: header.producer_id, epoch: header.producer_epoch };
        let transactional_id = transactional_id.ok_or(code::INVALID_TXN_STATE)?;
        let transaction = self.of(transactional_id, identity, code::INVALID_PRODUCER_EPOCH)?;
        let key = (partition.0.to_owned(), partition.1);
        let is_part = matches!(transaction.state, State::Ongoing { .. }) && transaction.partitions.contains(&key);
        if is_part {
            return Ok(());
        }
        if !may_add {
            return Err(code::INVALID_TXN_STATE);
        }
        transaction.begin(now);
        transaction.partitions.insert(key);
        Ok(())
    }

    /// Adds partitions, and thereby begins the transaction. `fenced` is what this API answers to an old epoch.
    pub fn add_partitions(
        &mut self,
        now: Duration,
        transactional_id: &str,
        identity: Identity,
        fenced: i16,
        partitions: Vec<(String, i32)>,
    ) -> Result<(), i16> {
        let transaction = self.of(transactional_id, identity, fenced)?;
        transaction.begin(now);
        transaction.partitions.extend(partitions);
        Ok(())
    }

    /// Whether a partition belongs to the open transaction.
    pub fn holds(&mut self, transactional_id: &str, identity: Identity, partition: &(String, i32)) -> Result<(), i16> {
        let transaction = self.of(transactional_id, identity, code::PRODUCER_FENCED)?;
        if transaction.partitions.contains(partition) { Ok(()) } else { Err(code::INVALID_TXN_STATE) }
    }

    /// When the next open transaction times out.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.by_id.values().filter_map(Transaction::expires).min()
    }
}

impl Transaction {
    fn begin(&mut self, now: Duration) {
        if !matches!(self.state, State::Ongoing { .. }) {
            self.state = State::Ongoing { since: now };
            self.partitions.clear();
        }
    }

    fn expires(&self) -> Option<Duration> {
        match self.state {
            State::Ongoing { since } => Some(since + self.timeout),
            _ => None,
        }
    }
}

impl Cluster {
    /// A producer id for an idempotent producer.
    pub(crate) fn new_producer(&mut self) -> Identity {
        self.transactions.fresh_identity()
    }

    /// A new epoch for a transactional id; what was open is aborted (Kafka says 51 until that is done, here it is done at once).
    pub(crate) fn init_transactional(
        &mut self,
        transactional_id: &str,
        timeout: Duration,
        claimed: Option<Identity>,
    ) -> Result<Identity, i16> {
        let Some(known) = self.transactions.by_id.get(transactional_id).cloned() else {
            let identity = self.transactions.fresh_identity();
            let transaction = Transaction { identity, state: State::Empty, timeout, partitions: BTreeSet::new() };
            self.transactions.by_id.insert(transactional_id.to_owned(), transaction);
            return Ok(identity);
        };
        if let Some(claimed) = claimed {
            if claimed.producer_id != known.identity.producer_id {
                return Err(code::INVALID_PRODUCER_ID_MAPPING);
            }
            if claimed.epoch < known.identity.epoch {
                return Err(code::PRODUCER_FENCED);
            }
        }
        let next = match known.identity.epoch.checked_add(1).filter(|epoch| *epoch < i16::MAX) {
            Some(epoch) => Identity { epoch, ..known.identity },
            None => self.transactions.fresh_identity(),
        };
        if matches!(known.state, State::Ongoing { .. }) {
            let marker = if next.producer_id == known.identity.producer_id { next } else { known.identity };
            self.write_markers(&known.partitions, marker, false);
        }
        if let Some(transaction) = self.transactions.by_id.get_mut(transactional_id) {
            *transaction = Transaction { identity: next, state: State::Empty, timeout, partitions: BTreeSet::new() };
        }
        Ok(next)
    }

    /// Ends a transaction. From version 5 on the epoch counts up with every end (KIP-890); the answer is the identity to go on with.
    pub(crate) fn end_transaction(
        &mut self,
        transactional_id: &str,
        identity: Identity,
        committed: bool,
        version: i16,
    ) -> Result<Identity, i16> {
        let bumps_epoch = version >= 5;
        let fenced = if version >= 2 { code::PRODUCER_FENCED } else { code::INVALID_PRODUCER_EPOCH };
        let known = self.transactions.by_id.get(transactional_id).ok_or(code::INVALID_PRODUCER_ID_MAPPING)?;
        // A retry of what was ended already comes under the epoch before.
        let is_retry = bumps_epoch && known.state == (State::Complete { committed }) && known.identity.epoch == identity.epoch + 1;
        if is_retry && known.identity.producer_id == identity.producer_id {
            return Ok(known.identity);
        }
        let transaction = self.transactions.of(transactional_id, identity, fenced)?;
        match transaction.state {
            State::Complete { committed: before } if before == committed && !bumps_epoch => return Ok(identity),
            State::Ongoing { .. } => {}
            _ => return Err(code::INVALID_TXN_STATE),
        }
        let next = Identity { epoch: identity.epoch.saturating_add(i16::from(bumps_epoch)), ..identity };
        transaction.state = State::Complete { committed };
        transaction.identity = next;
        let partitions = std::mem::take(&mut transaction.partitions);
        self.write_markers(&partitions, next, committed);
        Ok(next)
    }

    fn write_markers(&mut self, partitions: &BTreeSet<(String, i32)>, identity: Identity, committed: bool) {
        let timestamp_ms = self.wall_clock_ms();
        for (topic, index) in partitions {
            let Some(partition) = self.topics.partition_mut(topic, *index) else { continue };
            let epoch = partition.leader_epoch;
            partition.log.append_marker(identity.producer_id, identity.epoch, committed, timestamp_ms, epoch);
            if !partition.replication_held {
                partition.log.commit();
            }
        }
        self.groups.end_transaction(identity.producer_id, committed);
        self.dirty = true;
    }

    /// Transactions that were open for too long are aborted, and their producers fenced.
    pub(crate) fn expire_transactions(&mut self) {
        let now = self.now;
        let is_over = |transaction: &Transaction| transaction.expires().is_some_and(|at| at <= now);
        let over = self.transactions.by_id.iter().filter(|(_, transaction)| is_over(transaction));
        let over: Vec<(String, Duration)> = over.map(|(id, transaction)| (id.clone(), transaction.timeout)).collect();
        for (transactional_id, timeout) in over {
            let _ = self.init_transactional(&transactional_id, timeout, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
    use kafka_protocol::messages::txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
    use kafka_protocol::messages::*;

    use super::*;
    use crate::sim::api::{text, topic_name};
    use crate::sim::bench::{Bench, Made};
    use crate::sim::cluster::{ConnId, Options};

    fn id() -> TransactionalId {
        TransactionalId(text("tx"))
    }

    /// One broker, so that it is leader and coordinator of everything.
    fn bench() -> (Bench, ConnId) {
        let mut bench = Bench::with(Options { brokers: 1, ..Options::default() });
        bench.cluster.create_topic("t", 2);
        let conn = bench.connect(0);
        (bench, conn)
    }

    fn init(bench: &mut Bench, conn: ConnId) -> Identity {
        let request = InitProducerIdRequest::default().with_transactional_id(Some(id())).with_transaction_timeout_ms(10_000);
        let response = bench.ask(conn, 4, &request.with_producer_id(ProducerId(-1)).with_producer_epoch(-1));
        assert_eq!(response.error_code, code::NONE);
        Identity { producer_id: response.producer_id.0, epoch: response.producer_epoch }
    }

    fn add(bench: &mut Bench, conn: ConnId, identity: Identity) -> i16 {
        let topic = AddPartitionsToTxnTopic::default().with_name(topic_name("t")).with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(id())
            .with_v3_and_below_producer_id(ProducerId(identity.producer_id))
            .with_v3_and_below_producer_epoch(identity.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let response = bench.ask(conn, 3, &request);
        response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
    }

    fn produce(bench: &mut Bench, conn: ConnId, identity: Identity, sequence: i32) -> i16 {
        let made = Made { producer_id: identity.producer_id, epoch: identity.epoch, sequence, count: 2, transactional: true };
        bench.produce(conn, "t", 0, made).error_code
    }

    fn end(bench: &mut Bench, conn: ConnId, identity: Identity, committed: bool) -> i16 {
        let request = EndTxnRequest::default().with_transactional_id(id()).with_producer_id(ProducerId(identity.producer_id));
        bench.ask(conn, 3, &request.with_producer_epoch(identity.epoch).with_committed(committed)).error_code
    }

    /// (bytes, last stable offset, aborted) that a read_committed consumer gets from the start.
    fn read_committed(bench: &mut Bench, conn: ConnId) -> (bool, i64, Vec<(i64, i64)>) {
        let partition = FetchPartition::default().with_current_leader_epoch(-1).with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(topic_name("t")).with_partitions(vec![partition]);
        let request =
            FetchRequest::default().with_max_bytes(1 << 20).with_isolation_level(1).with_session_epoch(-1).with_topics(vec![topic]);
        let response = bench.ask(conn, 11, &request);
        let part = &response.responses[0].partitions[0];
        let aborted = part.aborted_transactions.iter().flatten().map(|aborted| (aborted.producer_id.0, aborted.first_offset));
        let has_records = part.records.as_ref().is_some_and(|records| !records.is_empty());
        (has_records, part.last_stable_offset, aborted.collect())
    }

    #[test]
    fn read_committed_stops_at_an_open_transaction_and_learns_of_an_aborted_one() {
        let (mut bench, conn) = bench();
        let identity = init(&mut bench, conn);
        assert_eq!(add(&mut bench, conn, identity), code::NONE);
        assert_eq!(produce(&mut bench, conn, identity, 0), code::NONE);
        assert_eq!(read_committed(&mut bench, conn), (false, 0, vec![]));
        assert_eq!(end(&mut bench, conn, identity, false), code::NONE);
        assert_eq!(read_committed(&mut bench, conn), (true, 3, vec![(identity.producer_id, 0)]));
        let markers: Vec<bool> = bench.cluster.records("t", 0).iter().map(|record| record.is_control).collect();
        assert_eq!(markers, [false, false, true]);
        // A retry ends nothing again; the other outcome is refused.
        assert_eq!(end(&mut bench, conn, identity, false), code::NONE);
        assert_eq!(end(&mut bench, conn, identity, true), code::INVALID_TXN_STATE);
        assert_eq!(bench.cluster.records("t", 0).len(), 3);
        // Sequences go on behind the marker.
        add(&mut bench, conn, identity);
        assert_eq!(produce(&mut bench, conn, identity, 2), code::NONE);
    }

    #[test]
    fn a_batch_outside_its_transaction_is_refused_and_version_12_adds_it() {
        let (mut bench, conn) = bench();
        let identity = init(&mut bench, conn);
        assert_eq!(produce(&mut bench, conn, identity, 0), code::INVALID_TXN_STATE);
        let made = Made { producer_id: identity.producer_id, epoch: identity.epoch, sequence: 0, count: 1, transactional: true };
        let response = bench.ask(conn, 12, &Bench::produce_request("t", 0, -1, made));
        assert_eq!(response.responses[0].partition_responses[0].error_code, code::NONE);
        // While it is open, the producer writes nothing else there.
        let outside = Made { sequence: 1, transactional: false, ..made };
        assert_eq!(bench.produce(conn, "t", 0, outside).error_code, code::INVALID_TXN_STATE);
        let late = Made { sequence: 4, ..made };
        let response = bench.ask(conn, 12, &Bench::produce_request("t", 1, -1, late));
        assert_eq!(response.responses[0].partition_responses[0].error_code, code::OUT_OF_ORDER_SEQUENCE);
    }

    #[test]
    fn a_second_producer_fences_the_first_and_aborts_what_it_left() {
        let (mut bench, conn) = bench();
        let first = init(&mut bench, conn);
        add(&mut bench, conn, first);
        produce(&mut bench, conn, first, 0);
        let second = init(&mut bench, conn);
        assert_eq!((second.producer_id, second.epoch), (first.producer_id, first.epoch + 1));
        assert_eq!(read_committed(&mut bench, conn), (true, 3, vec![(first.producer_id, 0)]));
        assert_eq!(produce(&mut bench, conn, first, 2), code::INVALID_PRODUCER_EPOCH);
        assert_eq!(add(&mut bench, conn, first), code::PRODUCER_FENCED);
        assert_eq!(end(&mut bench, conn, first, true), code::PRODUCER_FENCED);
    }

    #[test]
    fn version_5_counts_the_epoch_up_and_forgives_a_retry() {
        let (mut bench, conn) = bench();
        let identity = init(&mut bench, conn);
        add(&mut bench, conn, identity);
        produce(&mut bench, conn, identity, 0);
        let request = EndTxnRequest::default().with_transactional_id(id()).with_producer_id(ProducerId(identity.producer_id));
        let request = request.with_producer_epoch(identity.epoch).with_committed(true);
        for _ in 0..2 {
            let response = bench.ask(conn, 5, &request);
            assert_eq!((response.error_code, response.producer_epoch), (code::NONE, identity.epoch + 1));
        }
        assert_eq!(produce(&mut bench, conn, identity, 2), code::INVALID_PRODUCER_EPOCH);
    }

    #[test]
    fn a_transaction_that_stays_open_is_aborted_in_time() {
        let (mut bench, conn) = bench();
        let identity = init(&mut bench, conn);
        add(&mut bench, conn, identity);
        produce(&mut bench, conn, identity, 0);
        bench.pass(Duration::from_secs(10));
        assert_eq!(read_committed(&mut bench, conn).1, 3);
        assert_eq!(end(&mut bench, conn, identity, true), code::PRODUCER_FENCED);
    }

    #[test]
    fn offsets_count_when_their_transaction_commits() {
        let (mut bench, conn) = bench();
        let identity = init(&mut bench, conn);
        let group = || GroupId(text("g"));
        let add = AddOffsetsToTxnRequest::default().with_transactional_id(id()).with_group_id(group());
        let add = add.with_producer_id(ProducerId(identity.producer_id)).with_producer_epoch(identity.epoch);
        assert_eq!(bench.ask(conn, 3, &add).error_code, code::NONE);
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(41);
        let topic = TxnOffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
        let commit = TxnOffsetCommitRequest::default().with_transactional_id(id()).with_group_id(group()).with_topics(vec![topic]);
        let commit = commit.with_producer_id(ProducerId(identity.producer_id)).with_producer_epoch(identity.epoch).with_generation_id(-1);
        assert_eq!(bench.ask(conn, 3, &commit).topics[0].partitions[0].error_code, code::NONE);
        assert_eq!(bench.cluster.committed("g", "t", 0), None);
        assert_eq!(end(&mut bench, conn, identity, true), code::NONE);
        assert_eq!(bench.cluster.committed("g", "t", 0), Some(41));
    }
}
