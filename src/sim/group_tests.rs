//! Groups in virtual time: joins, assignments, silence.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;

use super::api::{text, topic_name};
use super::bench::Bench;
use super::cluster::{ConnId, Options};
use super::code;
use super::group::State;

pub(super) const JOIN: i16 = 7;
pub(super) const SYNC: i16 = 5;

fn bench() -> Bench {
    Bench::with(Options { brokers: 1, ..Options::default() })
}

pub(super) fn group() -> GroupId {
    GroupId(text("g"))
}

pub(super) fn join_request(member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(group())
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(20_000)
        .with_member_id(text(member_id))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(b"m"))])
}

/// Gets an id as KIP-394 has it, and joins with it.
pub(super) fn join(bench: &mut Bench, conn: ConnId) -> String {
    let promised = bench.ask(conn, JOIN, &join_request(""));
    assert_eq!(promised.error_code, code::MEMBER_ID_REQUIRED);
    let member_id = promised.member_id.to_string();
    bench.send(conn, JOIN, &join_request(&member_id));
    member_id
}

pub(super) fn joined(bench: &mut Bench, conn: ConnId) -> Option<JoinGroupResponse> {
    bench.answer::<JoinGroupRequest>(conn, JOIN)
}

pub(super) fn sync_request(member_id: &str, generation: i32, assignments: &[(&str, &'static [u8])]) -> SyncGroupRequest {
    let one = |(id, bytes): &(&str, &'static [u8])| {
        SyncGroupRequestAssignment::default().with_member_id(text(id)).with_assignment(Bytes::from_static(bytes))
    };
    SyncGroupRequest::default()
        .with_group_id(group())
        .with_generation_id(generation)
        .with_member_id(text(member_id))
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")))
        .with_assignments(assignments.iter().map(one).collect())
}

pub(super) fn beat(bench: &mut Bench, conn: ConnId, member_id: &str, generation: i32) -> i16 {
    let request = HeartbeatRequest::default().with_group_id(group()).with_member_id(text(member_id)).with_generation_id(generation);
    bench.ask(conn, 4, &request).error_code
}

pub(super) fn commit(bench: &mut Bench, conn: ConnId, member_id: &str, generation: i32) -> i16 {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(7);
    let topic = OffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default().with_group_id(group()).with_member_id(text(member_id)).with_topics(vec![topic]);
    bench.ask(conn, 8, &request.with_generation_id_or_member_epoch(generation)).topics[0].partitions[0].error_code
}

/// Two members in generation 2, the first of them leading, both assigned.
fn two_members(bench: &mut Bench) -> [(ConnId, String); 2] {
    let (one, two) = (bench.connect(0), bench.connect(0));
    let first = join(bench, one);
    assert_eq!(joined(bench, one).expect("alone, the generation begins").generation_id, 1);
    bench.ask(one, SYNC, &sync_request(&first, 1, &[(&first, b"all")]));
    let second = join(bench, two);
    assert!(joined(bench, two).is_none(), "the first has to join again");
    assert_eq!(beat(bench, one, &first, 1), code::REBALANCE_IN_PROGRESS);
    bench.send(one, JOIN, &join_request(&first));
    let leading = joined(bench, one).expect("all joined");
    let following = joined(bench, two).expect("all joined");
    assert_eq!((leading.generation_id, leading.members.len(), following.members.len()), (2, 2, 0));
    assert_eq!(following.leader.as_str(), first);
    bench.send(two, SYNC, &sync_request(&second, 2, &[]));
    let led = bench.ask(one, SYNC, &sync_request(&first, 2, &[(&first, b"left"), (&second, b"right")]));
    let followed = bench.answer::<SyncGroupRequest>(two, SYNC).expect("the leader assigned");
    assert_eq!((led.assignment.as_ref(), followed.assignment.as_ref()), (&b"left"[..], &b"right"[..]));
    [(one, first), (two, second)]
}

#[test]
fn two_members_rebalance_and_share() {
    let mut bench = bench();
    let [(one, first), (two, second)] = two_members(&mut bench);
    assert_eq!(bench.cluster.group_state("g"), Some((State::Stable, 2)));
    assert_eq!(commit(&mut bench, one, &first, 1), code::ILLEGAL_GENERATION);
    assert_eq!(commit(&mut bench, two, &second, 2), code::NONE);
    assert_eq!(bench.cluster.committed("g", "t", 0), Some(7));
    assert_eq!(commit(&mut bench, two, "stranger", 2), code::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_member_that_leaves_sends_the_other_to_join_again() {
    let mut bench = bench();
    let [(one, first), (two, second)] = two_members(&mut bench);
    let identity = leave_group_request::MemberIdentity::default().with_member_id(text(&second));
    let left = bench.ask(two, 4, &LeaveGroupRequest::default().with_group_id(group()).with_members(vec![identity]));
    assert_eq!(left.members[0].error_code, code::NONE);
    assert_eq!(beat(&mut bench, one, &first, 2), code::REBALANCE_IN_PROGRESS);
    bench.send(one, JOIN, &join_request(&first));
    assert_eq!(joined(&mut bench, one).expect("alone again").generation_id, 3);
}

#[test]
fn a_silent_member_is_out_when_its_session_ends() {
    let mut bench = bench();
    let [(one, first), (two, second)] = two_members(&mut bench);
    for _ in 0..3 {
        bench.pass(Duration::from_secs(4));
        let expected = if bench.now < Duration::from_secs(10) { code::NONE } else { code::REBALANCE_IN_PROGRESS };
        assert_eq!(beat(&mut bench, one, &first, 2), expected);
    }
    assert_eq!(beat(&mut bench, two, &second, 2), code::UNKNOWN_MEMBER_ID);
    assert_eq!((bench.cluster.members_expelled("g"), bench.cluster.generation("g")), (1, Some(2)));
}

#[test]
fn who_does_not_join_in_time_is_left_behind() {
    let mut bench = bench();
    let [(one, first), (two, second)] = two_members(&mut bench);
    let three = bench.connect(0);
    join(&mut bench, three);
    bench.send(one, JOIN, &join_request(&first));
    for _ in 0..3 {
        bench.pass(Duration::from_secs(6));
        assert_eq!(beat(&mut bench, two, &second, 2), code::REBALANCE_IN_PROGRESS);
        assert!(joined(&mut bench, three).is_none());
    }
    bench.pass(Duration::from_secs(2));
    assert_eq!(beat(&mut bench, two, &second, 2), code::UNKNOWN_MEMBER_ID);
    let answer = joined(&mut bench, three).expect("time is up");
    assert_eq!((answer.error_code, answer.generation_id), (code::NONE, 3));
    assert_eq!(bench.cluster.group_state("g"), Some((State::CompletingRebalance, 2)));
    assert_eq!((bench.cluster.members_expelled("g"), bench.cluster.generation("g")), (1, Some(3)));
}

#[test]
fn a_static_member_that_returns_fences_its_former_self() {
    let mut bench = bench();
    let (one, two) = (bench.connect(0), bench.connect(0));
    let request = join_request("").with_group_instance_id(Some(text("i")));
    let before = bench.ask(one, JOIN, &request).member_id.to_string();
    let after = bench.ask(two, JOIN, &request);
    assert_eq!(after.error_code, code::NONE);
    assert_ne!(after.member_id.as_str(), before);
    let request = HeartbeatRequest::default().with_group_id(group()).with_member_id(text(&before)).with_generation_id(2);
    let answer = bench.ask(one, 4, &request.with_group_instance_id(Some(text("i"))));
    assert_eq!(answer.error_code, code::FENCED_INSTANCE_ID);
}
