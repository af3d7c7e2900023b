//! Coordinators that move, in virtual time: who is told what, when, and what of a group is left.

use std::time::Duration;

use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::*;

use super::api::{text, topic_name};
use super::bench::Bench;
use super::broker::{Hang, MetadataFault};
use super::cluster::{ConnId, Options};
use super::code;
use super::coordinator::GROUP;
use super::departure::{Leaving, Windows};
use super::group::State;
use super::group_tests::{JOIN, SYNC, beat, commit, group, join, join_request, joined, sync_request};
use super::profile::Profile;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A cluster, and the brokers that coordinate the group now and next.
fn bench(windows: Windows) -> (Bench, i32, i32) {
    let mut bench = Bench::with(Options { windows, ..Options::default() });
    let at = bench.cluster.coordinator_of(GROUP, "g").expect("a coordinator");
    (bench, at, (at + 1) % 3)
}

/// A member alone in its group: generation 1, assigned.
fn settled(bench: &mut Bench, at: i32) -> (ConnId, String) {
    let conn = bench.connect(at);
    let member_id = join(bench, conn);
    assert_eq!(joined(bench, conn).expect("alone").generation_id, 1);
    assert_eq!(bench.ask(conn, SYNC, &sync_request(&member_id, 1, &[(&member_id, b"all")])).error_code, code::NONE);
    (conn, member_id)
}

/// (error code, node) as a broker tells of the group's coordinator.
fn found(bench: &mut Bench, broker: i32) -> (i16, i32) {
    let conn = bench.connect(broker);
    let one = bench.ask(conn, 3, &FindCoordinatorRequest::default().with_key(text("g")));
    let many = bench.ask(conn, 4, &FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]));
    assert_eq!((one.error_code, one.node_id), (many.coordinators[0].error_code, many.coordinators[0].node_id));
    (one.error_code, one.node_id.0)
}

fn loading(loading: Duration) -> Windows {
    Windows { loading, ..Windows::default() }
}

#[test]
fn a_move_tells_who_waits_and_the_rebalance_under_way_is_lost() {
    let (mut bench, at, next) = bench(Windows::default());
    let other = bench.connect(at);
    assert_eq!(commit(&mut bench, other, "", -1), code::NONE);
    let (conn, member_id) = settled(&mut bench, at);
    let waiting = bench.connect(at);
    let newcomer = join(&mut bench, waiting);
    assert_eq!(bench.cluster.group_state("g"), Some((State::PreparingRebalance, 2)));
    bench.cluster.move_coordinator(GROUP, "g", next);
    let told = joined(&mut bench, waiting).expect("told at once");
    assert_eq!((told.error_code, told.member_id.as_str()), (code::NOT_COORDINATOR, newcomer.as_str()));
    assert_eq!(beat(&mut bench, conn, &member_id, 1), code::NOT_COORDINATOR);
    // The log has the generation before: its member goes on, the newcomer is unknown.
    let conn = bench.connect(next);
    assert_eq!(beat(&mut bench, conn, &member_id, 1), code::NONE);
    assert_eq!(bench.cluster.group_state("g"), Some((State::Stable, 1)));
    assert_eq!(bench.ask(conn, JOIN, &join_request(&newcomer)).error_code, code::UNKNOWN_MEMBER_ID);
    assert_eq!(bench.ask(conn, SYNC, &sync_request(&member_id, 1, &[])).assignment.as_ref(), b"all");
    assert_eq!(bench.cluster.committed("g", "t", 0), Some(7));
}

#[test]
fn a_generation_that_was_not_assigned_is_lost_with_its_coordinator() {
    let (mut bench, at, next) = bench(Windows::default());
    let (one, first) = settled(&mut bench, at);
    let two = bench.connect(at);
    let second = join(&mut bench, two);
    bench.send(one, JOIN, &join_request(&first));
    assert_eq!(joined(&mut bench, one).expect("all joined").generation_id, 2);
    joined(&mut bench, two).expect("all joined");
    bench.send(two, SYNC, &sync_request(&second, 2, &[]));
    bench.cluster.move_coordinator(GROUP, "g", next);
    assert_eq!(bench.answer::<SyncGroupRequest>(two, SYNC).expect("told at once").error_code, code::NOT_COORDINATOR);
    let conn = bench.connect(next);
    assert_eq!(bench.ask(conn, SYNC, &sync_request(&first, 2, &[])).error_code, code::ILLEGAL_GENERATION);
    assert_eq!(bench.ask(conn, SYNC, &sync_request(&second, 2, &[])).error_code, code::UNKNOWN_MEMBER_ID);
    assert_eq!(beat(&mut bench, conn, &first, 1), code::NONE);
}

#[test]
fn while_it_loads_a_coordinator_says_14_and_to_heartbeats_nothing() {
    for (profile, to_sync) in [(Profile::V4, code::COORDINATOR_LOAD_IN_PROGRESS), (Profile::V3_6, code::REBALANCE_IN_PROGRESS)] {
        let (mut bench, at, next) = bench(loading(SECOND));
        (0..3).for_each(|broker| bench.cluster.set_profile(broker, profile));
        let (_, member_id) = settled(&mut bench, at);
        bench.cluster.move_coordinator(GROUP, "g", next);
        assert_eq!(found(&mut bench, at), (code::NONE, next));
        let conn = bench.connect(next);
        bench.pass(SECOND - MS);
        assert_eq!(commit(&mut bench, conn, &member_id, 1), code::COORDINATOR_LOAD_IN_PROGRESS);
        assert_eq!(bench.ask(conn, JOIN, &join_request("")).error_code, code::COORDINATOR_LOAD_IN_PROGRESS);
        assert_eq!(bench.ask(conn, SYNC, &sync_request(&member_id, 1, &[])).error_code, to_sync);
        assert_eq!(beat(&mut bench, conn, "anybody", 9), code::NONE);
        assert_eq!(bench.ask(conn, 4, &ListGroupsRequest::default()).error_code, code::COORDINATOR_LOAD_IN_PROGRESS);
        let topics = Some(vec![OffsetFetchRequestTopic::default().with_name(topic_name("t")).with_partition_indexes(vec![0])]);
        let offsets = OffsetFetchRequest::default().with_group_id(group()).with_topics(topics);
        assert_eq!(bench.ask(conn, 7, &offsets).error_code, code::COORDINATOR_LOAD_IN_PROGRESS);
        bench.pass(MS);
        assert_eq!(commit(&mut bench, conn, &member_id, 1), code::NONE);
        assert_eq!(bench.ask(conn, 7, &offsets).topics[0].partitions[0].committed_offset, 7);
    }
}

#[test]
fn sessions_begin_anew_when_the_group_is_loaded() {
    let (mut bench, at, next) = bench(loading(8 * SECOND));
    let (_, member_id) = settled(&mut bench, at);
    bench.pass(9 * SECOND);
    bench.cluster.move_coordinator(GROUP, "g", next);
    let conn = bench.connect(next);
    bench.pass(8 * SECOND + 10 * SECOND - MS);
    assert_eq!(bench.cluster.group_state("g"), Some((State::Stable, 1)));
    bench.pass(MS);
    assert_eq!(bench.cluster.group_state("g"), Some((State::Empty, 0)));
    assert_eq!(beat(&mut bench, conn, &member_id, 1), code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_dead_coordinator_throws_nobody_out() {
    let (mut bench, at, _) = bench(Windows { notice: 30 * SECOND, ..Windows::default() });
    let (_, member_id) = settled(&mut bench, at);
    bench.cluster.depart(at, Leaving::Kill);
    bench.pass(30 * SECOND - MS);
    assert_eq!(found(&mut bench, (at + 1) % 3), (code::NONE, at));
    assert_eq!(bench.cluster.group_state("g"), Some((State::Stable, 1)));
    bench.pass(MS);
    let next = bench.cluster.coordinator_of(GROUP, "g").expect("another");
    assert_ne!(next, at);
    let conn = bench.connect(next);
    assert_eq!(beat(&mut bench, conn, &member_id, 1), code::NONE);
}

#[test]
fn a_frozen_coordinator_that_was_not_missed_finds_its_members_silent() {
    let (mut bench, at, _) = bench(Windows { notice: 60 * SECOND, ..Windows::default() });
    settled(&mut bench, at);
    bench.cluster.depart(at, Leaving::Freeze(Hang::Reading));
    bench.pass(20 * SECOND);
    assert_eq!(bench.cluster.group_state("g"), Some((State::Stable, 1)));
    bench.cluster.thaw_broker(at);
    assert_eq!(bench.cluster.group_state("g"), Some((State::Empty, 0)));
    bench.pass(60 * SECOND);
    assert_eq!(bench.cluster.coordinator_of(GROUP, "g"), Some(at));
}

#[test]
fn between_two_coordinators_there_is_none_and_old_news_name_the_one_before() {
    let windows = Windows { handover: 2 * SECOND, old_news: SECOND, loading: SECOND, ..Windows::default() };
    let (mut bench, at, _) = bench(windows);
    bench.cluster.create_assigned_topic("t", vec![vec![at, (at + 1) % 3]]);
    let (conn, member_id) = settled(&mut bench, at);
    bench.cluster.depart(at, Leaving::Drain);
    let other = (at + 2) % 3;
    assert_eq!(found(&mut bench, other), (code::NONE, at));
    assert_eq!(beat(&mut bench, conn, &member_id, 1), code::NOT_COORDINATOR);
    bench.pass(SECOND);
    assert_eq!(found(&mut bench, other), (code::COORDINATOR_NOT_AVAILABLE, -1));
    assert_eq!(bench.cluster.leader("t", 0), None);
    bench.pass(SECOND);
    let (error_code, next) = found(&mut bench, other);
    assert_eq!((error_code, next != at), (code::NONE, true));
    assert_eq!(bench.cluster.leader("t", 0), Some(((at + 1) % 3, 2)));
    let conn = bench.connect(next);
    assert_eq!(commit(&mut bench, conn, &member_id, 1), code::COORDINATOR_LOAD_IN_PROGRESS);
    bench.pass(SECOND);
    assert_eq!(commit(&mut bench, conn, &member_id, 1), code::NONE);
}

#[test]
fn a_coordinator_whose_broker_or_log_is_not_there_is_not_available() {
    let (mut bench, at, next) = bench(Windows::default());
    bench.cluster.distort_metadata(next, MetadataFault::Hide(at), SECOND);
    assert_eq!(found(&mut bench, next), (code::COORDINATOR_NOT_AVAILABLE, -1));
    bench.cluster.heal_metadata(next);
    for (topic, error_code) in [("__consumer_offsets", code::COORDINATOR_NOT_AVAILABLE), ("__transaction_state", code::NONE)] {
        let fault = MetadataFault::Leaderless { topic: Some(topic.to_owned()), error_code: code::LEADER_NOT_AVAILABLE };
        bench.cluster.distort_metadata(next, fault, SECOND);
        assert_eq!(found(&mut bench, next).0, error_code);
        bench.cluster.heal_metadata(next);
    }
    let conn = bench.connect(at);
    bench.cluster.suspend_coordinators(at, true);
    assert_eq!(commit(&mut bench, conn, "", -1), code::COORDINATOR_NOT_AVAILABLE);
    bench.cluster.suspend_coordinators(at, false);
    assert_eq!(commit(&mut bench, conn, "", -1), code::NONE);
}

#[test]
fn a_controlled_shutdown_gives_everything_away_before_the_process_ends() {
    let (mut bench, at, _) = bench(Windows { stopping: SECOND, ..Windows::default() });
    bench.cluster.create_assigned_topic("t", vec![vec![at, (at + 1) % 3]]);
    let (conn, member_id) = settled(&mut bench, at);
    bench.cluster.depart(at, Leaving::ControlledShutdown);
    assert_eq!(bench.cluster.leader("t", 0), Some(((at + 1) % 3, 1)));
    assert_eq!(beat(&mut bench, conn, &member_id, 1), code::NOT_COORDINATOR);
    bench.pass(SECOND - MS);
    assert!(!bench.is_closed(conn));
    bench.pass(MS);
    assert!(bench.is_closed(conn));
    assert!(bench.cluster.broker(at).is_some_and(|broker| !broker.listed && !broker.running));
}
