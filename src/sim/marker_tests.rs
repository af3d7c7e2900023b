//! Transactions whose markers take time, whose coordinator moves, whose leaders are gone; in virtual time.

use std::time::Duration;

use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
use kafka_protocol::messages::*;

use super::api::{text, topic_name};
use super::bench::{Bench, Made};
use super::cluster::{ConnId, Options};
use super::code;
use super::coordinator::{GROUP, TRANSACTION};
use super::departure::{Leaving, Windows};
use super::transaction::Identity;
use super::transaction_tests::{add, end, id, init, produce, read_committed};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Three brokers; the topic is led by 0, the transaction coordinated at 1, the group at 2. Connections to each.
fn bench(windows: Windows) -> (Bench, [ConnId; 3]) {
    let mut bench = Bench::with(Options::default());
    bench.cluster.create_assigned_topic("t", vec![vec![0, 1], vec![1, 2]]);
    bench.cluster.move_coordinator(TRANSACTION, "tx", 1);
    bench.cluster.move_coordinator(GROUP, "g", 2);
    bench.cluster.set_windows(windows);
    let connections = [0, 1, 2].map(|broker| bench.connect(broker));
    (bench, connections)
}

fn markers(markers: Duration) -> Windows {
    Windows { markers, ..Windows::default() }
}

fn try_init(bench: &mut Bench, conn: ConnId, claimed: Option<Identity>) -> Result<Identity, i16> {
    let (producer_id, epoch) = claimed.map_or((-1, -1), |claimed| (claimed.producer_id, claimed.epoch));
    let request = InitProducerIdRequest::default().with_transactional_id(Some(id())).with_transaction_timeout_ms(10_000);
    let response = bench.ask(conn, 4, &request.with_producer_id(ProducerId(producer_id)).with_producer_epoch(epoch));
    let identity = Identity { producer_id: response.producer_id.0, epoch: response.producer_epoch };
    if response.error_code == code::NONE { Ok(identity) } else { Err(response.error_code) }
}

fn add_group(bench: &mut Bench, conn: ConnId, identity: Identity) -> i16 {
    let request = AddOffsetsToTxnRequest::default().with_transactional_id(id()).with_group_id(GroupId(text("g")));
    bench.ask(conn, 3, &request.with_producer_id(ProducerId(identity.producer_id)).with_producer_epoch(identity.epoch)).error_code
}

fn commit_offset(bench: &mut Bench, conn: ConnId, version: i16, identity: Identity) -> i16 {
    let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(41);
    let topic = TxnOffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequest::default().with_transactional_id(id()).with_group_id(GroupId(text("g"))).with_generation_id(-1);
    let request = request.with_producer_id(ProducerId(identity.producer_id)).with_producer_epoch(identity.epoch).with_topics(vec![topic]);
    bench.ask(conn, version, &request).topics[0].partitions[0].error_code
}

/// (error code, offset) of the group's partition, as one asks who wants stable offsets only.
fn stable_offset(bench: &mut Bench, conn: ConnId) -> (i16, i64) {
    let topic = OffsetFetchRequestTopics::default().with_name(topic_name("t")).with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text("g"))).with_topics(Some(vec![topic]));
    let response = bench.ask(conn, 8, &OffsetFetchRequest::default().with_groups(vec![group]).with_require_stable(true));
    let partition = &response.groups[0].topics[0].partitions[0];
    (partition.error_code, partition.committed_offset)
}

#[test]
fn while_markers_are_being_written_the_coordinator_says_51() {
    let (mut bench, [leader, coordinator, _]) = bench(markers(SECOND));
    let identity = init(&mut bench, coordinator);
    assert_eq!(add(&mut bench, coordinator, identity), code::NONE);
    assert_eq!(produce(&mut bench, leader, identity, 0), code::NONE);
    assert_eq!(end(&mut bench, coordinator, identity, true), code::NONE);
    bench.pass(SECOND - MS);
    assert_eq!(bench.cluster.transaction_state("tx"), Some("PrepareCommit"));
    assert_eq!(end(&mut bench, coordinator, identity, true), code::CONCURRENT_TRANSACTIONS);
    assert_eq!(end(&mut bench, coordinator, identity, false), code::INVALID_TXN_STATE);
    assert_eq!(add(&mut bench, coordinator, identity), code::CONCURRENT_TRANSACTIONS);
    assert_eq!(add_group(&mut bench, coordinator, identity), code::CONCURRENT_TRANSACTIONS);
    assert_eq!(try_init(&mut bench, coordinator, Some(identity)), Err(code::CONCURRENT_TRANSACTIONS));
    // A partition that is not in it yet has to ask.
    let other = bench.connect(1);
    let made = Made { producer_id: identity.producer_id, epoch: identity.epoch, sequence: 0, count: 1, transactional: true };
    assert_eq!(bench.produce(other, "t", 1, made).error_code, code::NOT_ENOUGH_REPLICAS);
    assert_eq!(read_committed(&mut bench, leader), (false, 0, vec![]));
    bench.pass(MS);
    assert_eq!(read_committed(&mut bench, leader), (true, 3, vec![]));
    assert_eq!(end(&mut bench, coordinator, identity, true), code::NONE);
    assert_eq!(add(&mut bench, coordinator, identity), code::NONE);
}

#[test]
fn a_new_producer_is_told_51_until_the_old_ones_transaction_is_aborted() {
    let (mut bench, [leader, coordinator, _]) = bench(markers(SECOND));
    let first = init(&mut bench, coordinator);
    add(&mut bench, coordinator, first);
    produce(&mut bench, leader, first, 0);
    assert_eq!(try_init(&mut bench, coordinator, None), Err(code::CONCURRENT_TRANSACTIONS));
    assert_eq!(end(&mut bench, coordinator, first, true), code::PRODUCER_FENCED);
    // Its leader does not know that yet: the batch goes before the marker, and is aborted with the others.
    assert_eq!(produce(&mut bench, leader, first, 2), code::NONE);
    bench.pass(SECOND);
    let second = try_init(&mut bench, coordinator, None).expect("nothing is open");
    assert_eq!(second, Identity { epoch: first.epoch + 2, ..first });
    assert_eq!(read_committed(&mut bench, leader), (true, 5, vec![(first.producer_id, 0)]));
    assert_eq!(produce(&mut bench, leader, first, 4), code::INVALID_PRODUCER_EPOCH);
}

#[test]
fn a_repeated_request_for_a_new_epoch_gets_the_same_and_a_strangers_is_fenced() {
    let (mut bench, [_, coordinator, _]) = bench(Windows::default());
    let first = init(&mut bench, coordinator);
    let second = try_init(&mut bench, coordinator, Some(first)).expect("its own");
    assert_eq!(try_init(&mut bench, coordinator, Some(first)), Ok(second));
    let third = try_init(&mut bench, coordinator, None).expect("another");
    assert_eq!(try_init(&mut bench, coordinator, Some(second)), Err(code::PRODUCER_FENCED));
    let stranger = Identity { producer_id: 7, ..third };
    assert_eq!(try_init(&mut bench, coordinator, Some(stranger)), Err(code::PRODUCER_FENCED));
}

#[test]
fn a_transaction_survives_its_coordinator_and_markers_wait_for_the_next() {
    let (mut bench, [leader, coordinator, _]) = bench(Windows { loading: SECOND, markers: SECOND, ..Windows::default() });
    let identity = init(&mut bench, coordinator);
    add(&mut bench, coordinator, identity);
    produce(&mut bench, leader, identity, 0);
    assert_eq!(end(&mut bench, coordinator, identity, true), code::NONE);
    bench.pass(SECOND / 2);
    bench.cluster.move_coordinator(TRANSACTION, "tx", 2);
    assert_eq!(add(&mut bench, coordinator, identity), code::NOT_COORDINATOR);
    let coordinator = bench.connect(2);
    bench.pass(SECOND - MS);
    assert_eq!(try_init(&mut bench, coordinator, Some(identity)), Err(code::COORDINATOR_LOAD_IN_PROGRESS));
    assert_eq!(end(&mut bench, coordinator, identity, true), code::COORDINATOR_LOAD_IN_PROGRESS);
    assert_eq!(read_committed(&mut bench, leader), (false, 0, vec![]));
    bench.pass(MS);
    assert_eq!(read_committed(&mut bench, leader), (true, 3, vec![]));
    assert_eq!(end(&mut bench, coordinator, identity, true), code::NONE);
}

#[test]
fn the_first_batch_of_a_transaction_needs_its_coordinator_and_the_next_ones_do_not() {
    let (mut bench, [leader, coordinator, _]) = bench(Windows { loading: SECOND, notice: SECOND, ..Windows::default() });
    let identity = init(&mut bench, coordinator);
    add(&mut bench, coordinator, identity);
    bench.cluster.depart(1, Leaving::Kill);
    assert_eq!(produce(&mut bench, leader, identity, 0), code::NOT_ENOUGH_REPLICAS);
    bench.pass(2 * SECOND - MS);
    assert_eq!(produce(&mut bench, leader, identity, 0), code::NOT_ENOUGH_REPLICAS);
    bench.pass(MS);
    assert_eq!(produce(&mut bench, leader, identity, 0), code::NONE);
    let at = bench.cluster.coordinator_of(TRANSACTION, "tx").expect("another");
    bench.cluster.move_coordinator(TRANSACTION, "tx", 2 - at);
    assert_eq!(produce(&mut bench, leader, identity, 2), code::NONE);
}

#[test]
fn a_marker_waits_for_a_leader_that_answers() {
    let (mut bench, [_, coordinator, _]) = bench(Windows { notice: SECOND, ..Windows::default() });
    let identity = init(&mut bench, coordinator);
    add(&mut bench, coordinator, identity);
    let leader = bench.connect(0);
    produce(&mut bench, leader, identity, 0);
    bench.cluster.depart(0, Leaving::Kill);
    assert_eq!(end(&mut bench, coordinator, identity, false), code::NONE);
    bench.pass(SECOND - MS);
    assert_eq!(add(&mut bench, coordinator, identity), code::CONCURRENT_TRANSACTIONS);
    bench.pass(MS);
    let leader = bench.connect(1);
    assert_eq!(read_committed(&mut bench, leader), (true, 3, vec![(identity.producer_id, 0)]));
    assert_eq!(add(&mut bench, coordinator, identity), code::NONE);
}

#[test]
fn a_transaction_is_not_stable_before_its_marker_is_replicated() {
    let (mut bench, [leader, coordinator, _]) = bench(Windows::default());
    let identity = init(&mut bench, coordinator);
    add(&mut bench, coordinator, identity);
    produce(&mut bench, leader, identity, 0);
    bench.cluster.hold_replication("t", 0, true);
    assert_eq!(end(&mut bench, coordinator, identity, true), code::NONE);
    assert_eq!(read_committed(&mut bench, leader), (false, 0, vec![]));
    // A leader that lacks the marker has the transaction open again.
    let mut lost = bench.cluster.topics.partition("t", 0).expect("it exists").log.clone();
    lost.truncate_to(lost.high_watermark());
    lost.commit();
    assert_eq!((lost.last_stable_offset(), lost.ongoing_since(identity.producer_id)), (0, Some(0)));
    bench.cluster.hold_replication("t", 0, false);
    assert_eq!(read_committed(&mut bench, leader), (true, 3, vec![]));
}

#[test]
fn pending_offsets_are_unstable_until_the_groups_coordinator_has_the_marker() {
    let (mut bench, [_, coordinator, group]) = bench(Windows { markers: SECOND, loading: 2 * SECOND, ..Windows::default() });
    let identity = init(&mut bench, coordinator);
    assert_eq!(commit_offset(&mut bench, group, 3, identity), code::INVALID_TXN_STATE);
    assert_eq!(add_group(&mut bench, coordinator, identity), code::NONE);
    assert_eq!(commit_offset(&mut bench, group, 3, identity), code::NONE);
    assert_eq!(stable_offset(&mut bench, group), (code::UNSTABLE_OFFSET_COMMIT, -1));
    assert_eq!(end(&mut bench, coordinator, identity, true), code::NONE);
    // Pending offsets move with their group, and are settled when it has loaded.
    bench.cluster.move_coordinator(GROUP, "g", 0);
    let group = bench.connect(0);
    assert_eq!(commit_offset(&mut bench, group, 3, identity), code::COORDINATOR_LOAD_IN_PROGRESS);
    assert_eq!(commit_offset(&mut bench, group, 1, identity), code::COORDINATOR_NOT_AVAILABLE);
    bench.pass(2 * SECOND - MS);
    assert_eq!((stable_offset_error(&mut bench, group), bench.cluster.committed("g", "t", 0)), (code::COORDINATOR_LOAD_IN_PROGRESS, None));
    assert_eq!(add(&mut bench, coordinator, identity), code::CONCURRENT_TRANSACTIONS);
    bench.pass(MS);
    assert_eq!(stable_offset(&mut bench, group), (code::NONE, 41));
    assert_eq!((bench.cluster.transaction_state("tx"), bench.cluster.commits_put_back("g")), (Some("CompleteCommit"), 0));
    assert_eq!(add(&mut bench, coordinator, identity), code::NONE);
}

fn stable_offset_error(bench: &mut Bench, conn: ConnId) -> i16 {
    let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text("g"))).with_topics(None);
    bench.ask(conn, 8, &OffsetFetchRequest::default().with_groups(vec![group])).groups[0].error_code
}

#[test]
fn a_transactions_time_runs_on_while_its_coordinator_moves() {
    let (mut bench, [leader, coordinator, _]) = bench(Windows { loading: 4 * SECOND, ..Windows::default() });
    let identity = init(&mut bench, coordinator);
    add(&mut bench, coordinator, identity);
    produce(&mut bench, leader, identity, 0);
    bench.pass(8 * SECOND);
    bench.cluster.move_coordinator(TRANSACTION, "tx", 2);
    // Its ten seconds are over while the log is being read.
    bench.pass(4 * SECOND - MS);
    assert_eq!(read_committed(&mut bench, leader), (false, 0, vec![]));
    bench.pass(MS);
    assert_eq!(read_committed(&mut bench, leader), (true, 3, vec![(identity.producer_id, 0)]));
    let coordinator = bench.connect(2);
    assert_eq!(end(&mut bench, coordinator, identity, true), code::PRODUCER_FENCED);
}
