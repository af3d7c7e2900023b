//! Faults in virtual time: each does what it says, and no more.

use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse, ProduceRequest};

use super::api::topic_name;
use super::bench::{Bench, Made};
use super::broker::{Hang, MetadataFault};
use super::cluster::ConnId;
use super::code;
use super::fault::{Fault, Rule, Verdict};
use super::frame;

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const SECOND: Duration = Duration::from_secs(1);

fn bench() -> (Bench, ConnId) {
    let mut bench = Bench::new();
    bench.cluster.create_topic("t", 1);
    let conn = bench.connect(0);
    (bench, conn)
}

fn metadata(bench: &mut Bench, conn: ConnId) -> MetadataResponse {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    bench.ask(conn, 12, &MetadataRequest::default().with_topics(Some(vec![topic])))
}

/// (ids in `brokers[]`, leader, epoch, error code).
fn told(bench: &mut Bench, conn: ConnId) -> (Vec<i32>, i32, i32, i16) {
    let response = metadata(bench, conn);
    let part = &response.topics[0].partitions[0];
    (response.brokers.iter().map(|broker| broker.node_id.0).collect(), part.leader_id.0, part.leader_epoch, part.error_code)
}

#[test]
fn an_error_applies_so_often_where_it_was_asked_for() {
    let (mut bench, conn) = bench();
    bench.cluster.inject(Rule::new(Fault::Error(19)).on_broker(0).on_api(PRODUCE).times(2));
    assert_eq!(bench.produce(conn, "t", 0, Made::plain(1)).error_code, 19);
    assert_eq!(told(&mut bench, conn).3, code::NONE);
    assert_eq!(bench.produce(conn, "t", 0, Made::plain(1)).error_code, 19);
    assert_eq!(bench.produce(conn, "t", 0, Made::plain(1)).error_code, code::NONE);
    assert_eq!(bench.cluster.records("t", 0).len(), 1);
}

#[test]
fn an_error_after_applying_leaves_the_record_there() {
    let (mut bench, conn) = bench();
    bench.cluster.inject(Rule::new(Fault::ErrorAfterApplying(code::REQUEST_TIMED_OUT)).on_api(PRODUCE).until(SECOND));
    assert_eq!(bench.produce(conn, "t", 0, Made::plain(1)).error_code, code::REQUEST_TIMED_OUT);
    bench.pass(SECOND);
    assert_eq!(bench.produce(conn, "t", 0, Made::plain(1)).error_code, code::NONE);
    assert_eq!(bench.cluster.records("t", 0).len(), 2);
}

#[test]
fn a_dropped_answer_was_applied_and_a_close_was_not() {
    let (mut bench, conn) = bench();
    bench.cluster.inject(Rule::new(Fault::DropAnswer).on_api(PRODUCE).times(1));
    bench.send(conn, 9, &Bench::produce_request("t", 0, -1, Made::plain(1)));
    assert!(bench.is_closed(conn));
    assert_eq!(bench.cluster.records("t", 0).len(), 1);
    let conn = bench.connect(0);
    bench.cluster.inject(Rule::new(Fault::Close).on_api(PRODUCE).times(1));
    bench.send(conn, 9, &Bench::produce_request("t", 0, -1, Made::plain(1)));
    assert!(bench.is_closed(conn));
    assert_eq!(bench.cluster.records("t", 0).len(), 1);
}

#[test]
fn a_delayed_answer_holds_its_connection_only() {
    let (mut bench, conn) = bench();
    let other = bench.connect(0);
    bench.cluster.inject(Rule::new(Fault::Delay(SECOND)).on_api(PRODUCE).times(1));
    bench.send(conn, 9, &Bench::produce_request("t", 0, -1, Made::plain(1)));
    bench.send(conn, 9, &Bench::produce_request("t", 0, -1, Made::plain(1)));
    assert_eq!(bench.cluster.records("t", 0).len(), 1, "the second waits behind the first");
    assert_eq!(bench.produce(other, "t", 0, Made::plain(1)).base_offset, 1);
    bench.pass(SECOND - Duration::from_millis(1));
    assert!(bench.answer::<ProduceRequest>(conn, 9).is_none());
    bench.pass(Duration::from_millis(1));
    let mut offset = || bench.answer::<ProduceRequest>(conn, 9).expect("an answer").responses[0].partition_responses[0].base_offset;
    assert_eq!((offset(), offset()), (0, 2));
}

#[test]
fn a_frozen_broker_takes_up_where_it_was_and_knows_it_leads_no_more() {
    let (mut bench, conn) = bench();
    bench.cluster.hang_broker(0, Hang::Reading);
    bench.send(conn, 9, &Bench::produce_request("t", 0, -1, Made::plain(1)));
    bench.cluster.fence_broker(0);
    bench.pass(SECOND);
    assert!(bench.answer::<ProduceRequest>(conn, 9).is_none());
    bench.cluster.thaw_broker(0);
    let answer = bench.answer::<ProduceRequest>(conn, 9).expect("it goes on");
    assert_eq!(answer.responses[0].partition_responses[0].error_code, code::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(bench.cluster.leader("t", 0), Some((1, 1)));
}

#[test]
fn whole_frames_of_a_client_that_left_are_carried_out() {
    let (mut bench, conn) = bench();
    bench.cluster.hang_broker(0, Hang::Reading);
    bench.send(conn, 9, &Bench::produce_request("t", 0, 0, Made::plain(1)));
    bench.cluster.disconnect(conn);
    assert!(bench.cluster.records("t", 0).is_empty());
    bench.cluster.thaw_broker(0);
    assert_eq!(bench.cluster.records("t", 0).len(), 1);
}

#[test]
fn metadata_can_be_stale_hide_a_leader_or_have_none() {
    let (mut bench, conn) = bench();
    bench.cluster.freeze_metadata(0, SECOND);
    bench.cluster.move_leader("t", 0, 1);
    assert_eq!(told(&mut bench, conn), (vec![0, 1, 2], 0, 0, code::NONE));
    let other = bench.connect(2);
    assert_eq!(told(&mut bench, other), (vec![0, 1, 2], 1, 1, code::NONE));
    bench.pass(SECOND);
    assert_eq!(told(&mut bench, conn).1, 1);

    bench.cluster.distort_metadata(0, MetadataFault::Hide(1), SECOND);
    assert_eq!(told(&mut bench, conn), (vec![0, 2], 1, 1, code::NONE));
    bench.cluster.heal_metadata(0);
    for error_code in [code::LEADER_NOT_AVAILABLE, code::NONE] {
        bench.cluster.distort_metadata(0, MetadataFault::Leaderless { topic: None, error_code }, SECOND);
        assert_eq!(told(&mut bench, conn), (vec![0, 1, 2], -1, 1, error_code));
        bench.cluster.heal_metadata(0);
    }
    bench.cluster.lose_leader("t", 0);
    assert_eq!(told(&mut bench, conn), (vec![0, 1, 2], -1, 2, code::LEADER_NOT_AVAILABLE));
}

#[test]
fn a_hook_holds_one_metadata_answer_while_a_later_one_overtakes() {
    let (mut bench, conn) = bench();
    let mut held = false;
    bench.cluster.hook(move |exchange, cluster| {
        if exchange.api_key != METADATA || std::mem::replace(&mut held, true) {
            return Verdict::Pass;
        }
        let now = exchange.now;
        cluster.at(now + Duration::from_millis(10), |cluster| cluster.move_leader("t", 0, 2));
        Verdict::Inflict(Fault::Delay(Duration::from_millis(60)))
    });
    bench.send(conn, 12, &MetadataRequest::default().with_topics(None));
    bench.pass(Duration::from_millis(20));
    let other = bench.connect(1);
    assert_eq!(told(&mut bench, other).1, 2);
    assert!(bench.answer::<MetadataRequest>(conn, 12).is_none());
    bench.pass(Duration::from_millis(40));
    let late = bench.answer::<MetadataRequest>(conn, 12).expect("released");
    assert_eq!(late.topics[0].partitions[0].leader_id.0, 0);
}

#[test]
fn a_hook_may_answer_instead() {
    let (mut bench, conn) = bench();
    bench.cluster.hook(|exchange, _| {
        let body = MetadataResponse::default().with_controller_id(77.into());
        let answer = frame::encode_response(ApiKey::Metadata, exchange.version, exchange.correlation_id, &body);
        answer.map_or(Verdict::Pass, Verdict::Answer)
    });
    assert_eq!(bench.ask(conn, 12, &MetadataRequest::default()).controller_id.0, 77);
    bench.cluster.clear_faults();
    assert_eq!(bench.ask(conn, 12, &MetadataRequest::default()).controller_id.0, 0);
}

#[test]
fn a_scale_in_leaves_nothing_on_the_broker_that_left() {
    let (mut bench, conn) = bench();
    let other = bench.connect(1);
    bench.cluster.remove_broker(0);
    bench.collect();
    assert!(bench.is_closed(conn));
    assert!(bench.cluster.connect(bench.now, 0).is_err());
    let (listed, leader, epoch, error_code) = told(&mut bench, other);
    assert_eq!((listed, error_code), (vec![1, 2], code::NONE));
    assert!(leader != 0 && epoch == 1);
    let part = &metadata(&mut bench, other).topics[0].partitions[0];
    assert!(part.offline_replicas.is_empty() && part.replica_nodes.iter().all(|node| node.0 != 0));
}
