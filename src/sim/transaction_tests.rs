//! Transactions in virtual time, where nothing takes any.

use std::time::Duration;

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
use kafka_protocol::messages::*;

use super::api::{text, topic_name};
use super::bench::{Bench, Made};
use super::cluster::{ConnId, Options};
use super::code;
use super::transaction::Identity;

pub(super) fn id() -> TransactionalId {
    TransactionalId(text("tx"))
}

/// One broker, so that it is leader and coordinator of everything.
fn bench() -> (Bench, ConnId) {
    let mut bench = Bench::with(Options { brokers: 1, ..Options::default() });
    bench.cluster.create_topic("t", 2);
    let conn = bench.connect(0);
    (bench, conn)
}

pub(super) fn init(bench: &mut Bench, conn: ConnId) -> Identity {
    let request = InitProducerIdRequest::default().with_transactional_id(Some(id())).with_transaction_timeout_ms(10_000);
    let response = bench.ask(conn, 4, &request.with_producer_id(ProducerId(-1)).with_producer_epoch(-1));
    assert_eq!(response.error_code, code::NONE);
    Identity { producer_id: response.producer_id.0, epoch: response.producer_epoch }
}

pub(super) fn add(bench: &mut Bench, conn: ConnId, identity: Identity) -> i16 {
    let topic = AddPartitionsToTxnTopic::default().with_name(topic_name("t")).with_partitions(vec![0]);
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(id())
        .with_v3_and_below_producer_id(ProducerId(identity.producer_id))
        .with_v3_and_below_producer_epoch(identity.epoch)
        .with_v3_and_below_topics(vec![topic]);
    let response = bench.ask(conn, 3, &request);
    response.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
}

pub(super) fn produce(bench: &mut Bench, conn: ConnId, identity: Identity, sequence: i32) -> i16 {
    let made = Made { producer_id: identity.producer_id, epoch: identity.epoch, sequence, count: 2, transactional: true };
    bench.produce(conn, "t", 0, made).error_code
}

pub(super) fn end(bench: &mut Bench, conn: ConnId, identity: Identity, committed: bool) -> i16 {
    let request = EndTxnRequest::default().with_transactional_id(id()).with_producer_id(ProducerId(identity.producer_id));
    bench.ask(conn, 3, &request.with_producer_epoch(identity.epoch).with_committed(committed)).error_code
}

/// (bytes, last stable offset, aborted) that a read_committed consumer gets from the start.
pub(super) fn read_committed(bench: &mut Bench, conn: ConnId) -> (bool, i64, Vec<(i64, i64)>) {
    let partition = FetchPartition::default().with_current_leader_epoch(-1).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(topic_name("t")).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_bytes(1 << 20).with_isolation_level(1).with_session_epoch(-1).with_topics(vec![topic]);
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
