//! Fetches in virtual time.

use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{DeleteTopicsRequest, FetchRequest, FetchResponse};

use super::topic_name;
use crate::sim::bench::{Bench, Made};
use crate::sim::cluster::Options;
use crate::sim::code;

fn bench() -> Bench {
    let mut bench = Bench::new();
    // Each partition is led by broker 0.
    bench.cluster.create_assigned_topic("t", vec![vec![0, 1], vec![0, 1]]);
    bench
}

fn request(offsets: &[(i32, i64)]) -> FetchRequest {
    let partitions = offsets.iter().map(|(index, offset)| {
        let partition = FetchPartition::default().with_partition(*index).with_fetch_offset(*offset);
        partition.with_current_leader_epoch(-1).with_partition_max_bytes(1 << 20)
    });
    let topic = FetchTopic::default().with_topic(topic_name("t")).with_partitions(partitions.collect());
    let request = FetchRequest::default().with_max_bytes(1 << 20).with_min_bytes(1).with_session_epoch(-1);
    if offsets.is_empty() { request } else { request.with_topics(vec![topic]) }
}

fn parts(response: &FetchResponse) -> Vec<(i32, i16, bool)> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|part| (part.partition_index, part.error_code, part.records.as_ref().is_some_and(|records| !records.is_empty())))
        .collect()
}

#[test]
fn a_long_poll_waits_for_bytes_and_holds_up_nobody_else() {
    let mut bench = bench();
    let (waiting, other) = (bench.connect(0), bench.connect(0));
    bench.send(waiting, 11, &request(&[(0, 0)]).with_max_wait_ms(500));
    bench.pass(Duration::from_millis(499));
    assert!(bench.answer::<FetchRequest>(waiting, 11).is_none());
    bench.produce(other, "t", 0, Made::plain(1));
    let answer = bench.answer::<FetchRequest>(waiting, 11).expect("records end the wait");
    assert_eq!(parts(&answer), [(0, code::NONE, true)]);

    bench.send(waiting, 11, &request(&[(0, 1)]).with_max_wait_ms(500));
    bench.pass(Duration::from_millis(500));
    let answer = bench.answer::<FetchRequest>(waiting, 11).expect("time ends the wait");
    assert_eq!(parts(&answer), [(0, code::NONE, false)]);
}

/// The same request as versions from 13 on have it.
fn by_id(bench: &Bench, mut request: FetchRequest) -> FetchRequest {
    for topic in &mut request.topics {
        topic.topic_id = bench.cluster.image().topics[topic.topic.as_str()].id;
        topic.topic = topic_name("");
    }
    request
}

fn with_epoch(mut request: FetchRequest, epoch: i32) -> FetchRequest {
    let partitions = request.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    partitions.for_each(|partition| partition.current_leader_epoch = epoch);
    request
}

#[test]
fn a_move_ends_the_wait_of_one_who_knows_the_epoch_with_74_and_a_hint_from_version_16() {
    let mut bench = bench();
    for (version, hints) in [(12, 0), (16, 1)] {
        let (leader, epoch) = bench.cluster.leader("t", 0).expect("a leader");
        let conn = bench.connect(leader);
        let asked = with_epoch(request(&[(0, 0)]).with_max_wait_ms(500), epoch);
        let asked = if version >= 13 { by_id(&bench, asked) } else { asked };
        bench.send(conn, version, &asked);
        assert!(bench.answer::<FetchRequest>(conn, version).is_none());
        bench.cluster.move_leader("t", 0, 1 - leader);
        let answer = bench.answer::<FetchRequest>(conn, version).expect("the move ends the wait");
        assert_eq!(parts(&answer), [(0, code::FENCED_LEADER_EPOCH, false)]);
        assert_eq!(answer.node_endpoints.len(), hints);
        let told = &answer.responses[0].partitions[0].current_leader;
        assert_eq!(told.leader_id.0, if hints == 0 { -1 } else { 1 - leader });
    }
}

#[test]
fn without_an_epoch_a_former_leader_is_a_follower_from_version_11_and_6_before() {
    let mut bench = bench();
    let (old, new) = (bench.connect(0), bench.connect(0));
    for (conn, version) in [(old, 10), (new, 11)] {
        bench.send(conn, version, &request(&[(0, 0)]).with_max_wait_ms(500));
    }
    bench.cluster.move_leader("t", 0, 1);
    let told = bench.answer::<FetchRequest>(old, 10).expect("the move ends the wait");
    assert_eq!(parts(&told), [(0, code::NOT_LEADER_OR_FOLLOWER, false)]);
    assert!(bench.answer::<FetchRequest>(new, 11).is_none());
    let leader = bench.connect(1);
    bench.produce(leader, "t", 0, Made::plain(1));
    let served = bench.answer::<FetchRequest>(new, 11).expect("what the leader has, the follower has");
    assert_eq!(parts(&served), [(0, code::NONE, true)]);
}

#[test]
fn a_broker_that_lost_its_replica_answers_6_whatever_it_is_asked() {
    let mut bench = bench();
    let conn = bench.connect(0);
    bench.send(conn, 12, &with_epoch(request(&[(0, 0)]).with_max_wait_ms(500), 0));
    bench.cluster.reassign("t", 0, &[1, 2]);
    let told = bench.answer::<FetchRequest>(conn, 12).expect("the loss ends the wait");
    assert_eq!(parts(&told), [(0, code::NOT_LEADER_OR_FOLLOWER, false)]);
    assert_eq!(bench.cluster.leader("t", 0), Some((1, 1)));
}

#[test]
fn epochs_fence_both_ways() {
    let mut bench = bench();
    bench.cluster.move_leader("t", 0, 1);
    let conn = bench.connect(1);
    for (epoch, error_code) in [(0, code::FENCED_LEADER_EPOCH), (1, code::NONE), (2, code::UNKNOWN_LEADER_EPOCH)] {
        let mut asked = request(&[(0, 0)]);
        asked.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(parts(&bench.ask(conn, 11, &asked)), [(0, error_code, false)]);
    }
}

#[test]
fn a_session_leaves_out_what_did_not_change() {
    let mut bench = bench();
    let conn = bench.connect(0);
    let opened = bench.ask(conn, 11, &request(&[(0, 0), (1, 0)]).with_session_epoch(0));
    let session = opened.session_id;
    assert_ne!(session, 0);
    assert_eq!(parts(&opened).len(), 2);
    let next = |epoch: i32, asked: FetchRequest| asked.with_session_id(session).with_session_epoch(epoch);
    assert_eq!(parts(&bench.ask(conn, 11, &next(1, request(&[])))), []);
    bench.produce(conn, "t", 1, Made::plain(1));
    assert_eq!(parts(&bench.ask(conn, 11, &next(2, request(&[])))), [(1, code::NONE, true)]);
    assert_eq!(parts(&bench.ask(conn, 11, &next(3, request(&[(1, 1)])))), []);
    assert_eq!(bench.ask(conn, 11, &next(3, request(&[]))).error_code, code::INVALID_FETCH_SESSION_EPOCH);

    let forgotten = ForgottenTopic::default().with_topic(topic_name("t")).with_partitions(vec![0]);
    bench.ask(conn, 11, &next(4, request(&[])).with_forgotten_topics_data(vec![forgotten]));
    bench.cluster.move_leader("t", 0, 1);
    assert_eq!(parts(&bench.ask(conn, 11, &next(5, request(&[])))), []);

    bench.cluster.restart_broker(0);
    let conn = bench.connect(0);
    assert_eq!(bench.ask(conn, 11, &next(6, request(&[]))).error_code, code::FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn sizes_bound_an_answer_but_never_to_nothing() {
    let mut bench = bench();
    let conn = bench.connect(0);
    for _ in 0..3 {
        bench.produce(conn, "t", 0, Made::plain(1));
        bench.produce(conn, "t", 1, Made::plain(1));
    }
    let answer = bench.ask(conn, 11, &request(&[(0, 0), (1, 0)]).with_max_bytes(1));
    assert_eq!(parts(&answer), [(0, code::NONE, true), (1, code::NONE, false)]);
    assert_eq!(parts(&bench.ask(conn, 11, &request(&[(0, 4)]))), [(0, code::OFFSET_OUT_OF_RANGE, false)]);
}

#[test]
fn a_session_is_its_brokers_and_not_its_connections() {
    let mut bench = bench();
    let conn = bench.connect(0);
    let session = bench.ask(conn, 11, &request(&[(0, 0), (1, 0)]).with_session_epoch(0)).session_id;
    bench.cluster.disconnect(conn);
    let next = |epoch: i32, asked: FetchRequest| asked.with_session_id(session).with_session_epoch(epoch);
    let (one, two) = (bench.connect(0), bench.connect(0));
    bench.send(one, 11, &next(1, request(&[])).with_max_wait_ms(500));
    // A later request of the session overtakes the one that waits.
    assert_eq!(parts(&bench.ask(two, 11, &next(2, request(&[])))), []);
    bench.produce(two, "t", 0, Made::plain(1));
    let overtaken = bench.answer::<FetchRequest>(one, 11).expect("records end the wait");
    assert_eq!((overtaken.error_code, overtaken.session_id), (code::INVALID_FETCH_SESSION_EPOCH, session));
    // Another broker does not know it, a full fetch closes it.
    let other = bench.connect(1);
    assert_eq!(bench.ask(other, 11, &next(3, request(&[]))).error_code, code::FETCH_SESSION_ID_NOT_FOUND);
    let reopened = bench.ask(two, 11, &next(0, request(&[(0, 0)])));
    assert!(reopened.session_id != 0 && reopened.session_id != session);
    assert_eq!(bench.ask(two, 11, &next(3, request(&[]))).error_code, code::FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn a_session_says_an_error_each_time_and_the_partition_again_when_it_is_over() {
    let mut bench = bench();
    let conn = bench.connect(0);
    let session = bench.ask(conn, 10, &request(&[(0, 0), (1, 0)]).with_session_epoch(0)).session_id;
    let next = |epoch: i32| request(&[]).with_session_id(session).with_session_epoch(epoch);
    bench.cluster.move_leader("t", 0, 1);
    for epoch in [1, 2] {
        assert_eq!(parts(&bench.ask(conn, 10, &next(epoch))), [(0, code::NOT_LEADER_OR_FOLLOWER, false)]);
    }
    bench.cluster.move_leader("t", 0, 0);
    assert_eq!(parts(&bench.ask(conn, 10, &next(3))), [(0, code::NONE, false)]);
    assert_eq!(parts(&bench.ask(conn, 10, &next(4))), []);
}

#[test]
fn a_session_without_partitions_closes_and_one_with_records_takes_turns() {
    let mut bench = bench();
    let conn = bench.connect(0);
    let session = bench.ask(conn, 11, &request(&[(0, 0), (1, 0)]).with_session_epoch(0)).session_id;
    let next = |epoch: i32| request(&[]).with_session_id(session).with_session_epoch(epoch);
    bench.produce(conn, "t", 0, Made::plain(1));
    bench.produce(conn, "t", 1, Made::plain(1));
    let first_with_records = |response: &FetchResponse| parts(response).into_iter().find(|part| part.2).map(|part| part.0);
    let turns = [1, 2, 3].map(|epoch| first_with_records(&bench.ask(conn, 11, &next(epoch).with_max_bytes(1))));
    assert_eq!(turns, [Some(0), Some(1), Some(0)]);
    let forgotten = ForgottenTopic::default().with_topic(topic_name("t")).with_partitions(vec![0, 1]);
    assert_eq!(bench.ask(conn, 11, &next(4).with_forgotten_topics_data(vec![forgotten])).session_id, 0);
    assert_eq!(bench.ask(conn, 11, &next(5)).error_code, code::FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn a_topic_id_is_unknown_gone_or_anothers() {
    let mut bench = bench();
    let conn = bench.connect(0);
    let asked = by_id(&bench, request(&[(0, 0)]));
    let session = bench.ask(conn, 13, &asked.clone().with_session_epoch(0)).session_id;
    let next = |epoch: i32| request(&[]).with_session_id(session).with_session_epoch(epoch);
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![topic_name("t")]);
    bench.ask(conn, 5, &delete);
    assert_eq!(parts(&bench.ask(conn, 13, &asked)), [(0, code::UNKNOWN_TOPIC_ID, false)]);
    // The session knows the name.
    assert_eq!(parts(&bench.ask(conn, 13, &next(1))), [(0, code::UNKNOWN_TOPIC_OR_PARTITION, false)]);
    bench.cluster.create_assigned_topic("t", vec![vec![0, 1]]);
    assert_eq!(parts(&bench.ask(conn, 13, &next(2))), [(0, code::INCONSISTENT_TOPIC_ID, false)]);
    assert_eq!(bench.ask(conn, 12, &next(3)).error_code, code::FETCH_SESSION_TOPIC_ID_ERROR);
}

#[test]
fn a_reader_is_sent_to_the_follower_in_its_rack_and_comes_back_when_that_leaves() {
    let mut bench = Bench::with(Options { rack_aware_fetch: true, ..Options::default() });
    (0..3).for_each(|broker| bench.cluster.set_rack(broker, ["a", "b", "b"][broker as usize]));
    bench.cluster.create_assigned_topic("t", vec![vec![0, 1, 2]]);
    let (leader, follower) = (bench.connect(0), bench.connect(1));
    bench.produce(leader, "t", 0, Made::plain(2));
    let near = |rack: &str| request(&[(0, 0)]).with_rack_id(super::text(rack)).with_max_wait_ms(500);
    let preferred = |bench: &mut Bench, rack: &str| {
        let response = bench.ask(leader, 11, &near(rack));
        let part = &response.responses[0].partitions[0];
        (part.error_code, part.preferred_read_replica.0, part.high_watermark, parts(&response)[0].2)
    };
    assert_eq!(preferred(&mut bench, "b"), (code::NONE, 1, 2, false));
    assert_eq!(preferred(&mut bench, "a"), (code::NONE, -1, 2, true));
    assert_eq!(preferred(&mut bench, "c"), (code::NONE, -1, 2, true));
    assert_eq!(parts(&bench.ask(follower, 11, &near("b"))), [(0, code::NONE, true)]);
    assert_eq!(parts(&bench.ask(follower, 10, &request(&[(0, 0)]))), [(0, code::NOT_LEADER_OR_FOLLOWER, false)]);
    // The follower has and serves what is committed; the leader sends nobody to one that lacks what is asked for.
    bench.cluster.hold_replication("t", 0, true);
    bench.ask(leader, 9, &Bench::produce_request("t", 0, 1, Made::plain(2)));
    assert_eq!(parts(&bench.ask(follower, 11, &request(&[(0, 3)]))), [(0, code::OFFSET_OUT_OF_RANGE, false)]);
    assert_eq!(parts(&bench.ask(follower, 11, &request(&[(0, 2)]).with_max_wait_ms(0))), [(0, code::NONE, false)]);
    bench.cluster.hold_replication("t", 0, false);
    // What the leader sent there is fenced, or the connection is gone, when something moves.
    let known = with_epoch(near("b"), 0);
    bench.cluster.stop_broker(1);
    let leader = bench.connect(0);
    assert_eq!(bench.ask(leader, 11, &known).responses[0].partitions[0].preferred_read_replica.0, 2);
    bench.cluster.move_leader("t", 0, 2);
    let follower = bench.connect(0);
    assert_eq!(parts(&bench.ask(follower, 11, &known)), [(0, code::FENCED_LEADER_EPOCH, false)]);
}

#[test]
fn a_log_that_was_cut_shows_where_it_parts() {
    let mut bench = bench();
    let conn = bench.connect(0);
    for _ in 0..3 {
        bench.produce(conn, "t", 0, Made::plain(2));
    }
    bench.cluster.move_leader_uncleanly("t", 0, 1, 4);
    let conn = bench.connect(1);
    bench.produce(conn, "t", 0, Made::plain(4));
    let mut asked = with_epoch(request(&[(0, 6)]), 1).with_max_wait_ms(500);
    asked.topics[0].partitions[0].last_fetched_epoch = 0;
    let response = bench.ask(conn, 12, &asked);
    let part = &response.responses[0].partitions[0];
    assert_eq!((part.error_code, part.diverging_epoch.epoch, part.diverging_epoch.end_offset), (code::NONE, 0, 4));
    assert!(part.records.as_ref().is_none_or(|records| records.is_empty()));
    asked.topics[0].partitions[0].last_fetched_epoch = 1;
    assert_eq!(parts(&bench.ask(conn, 12, &asked)), [(0, code::NONE, true)]);
    // Before version 12 nobody sees it.
    assert_eq!(parts(&bench.ask(conn, 11, &with_epoch(request(&[(0, 6)]), 1))), [(0, code::NONE, true)]);
}
