//! Departures in virtual time: leaders and coordinators together, each step when its window says.

use std::time::Duration;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{FetchRequest, FindCoordinatorRequest, MetadataRequest, ProduceRequest};

use super::api::{text, topic_name};
use super::bench::{Bench, Made};
use super::broker::Hang;
use super::cluster::{ConnId, Options};
use super::code;
use super::coordinator::GROUP;
use super::departure::{Leaving, Windows};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Broker 0 leads the partition and coordinates the group; a connection to it, and one to broker 2.
fn bench(windows: Windows) -> (Bench, ConnId, ConnId) {
    let mut bench = Bench::with(Options { windows, ..Options::default() });
    bench.cluster.create_assigned_topic("t", vec![vec![0, 1]]);
    let set = bench.cluster.coordinator_of(GROUP, "g");
    if set != Some(0) {
        bench.cluster.set_windows(Windows::default());
        bench.cluster.move_coordinator(GROUP, "g", 0);
        bench.cluster.set_windows(windows);
    }
    let (leaving, other) = (bench.connect(0), bench.connect(2));
    (bench, leaving, other)
}

/// Whether 0 is listed, who leads, who coordinates, as a broker tells it; −1: nobody.
fn told(bench: &mut Bench, conn: ConnId) -> (bool, i32, i32) {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name("t")));
    let metadata = bench.ask(conn, 12, &MetadataRequest::default().with_topics(Some(vec![topic])));
    let found = bench.ask(conn, 4, &FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]));
    let is_listed = metadata.brokers.iter().any(|broker| broker.node_id.0 == 0);
    let part = &metadata.topics[0].partitions[0];
    assert_eq!(part.error_code == code::LEADER_NOT_AVAILABLE, part.leader_id.0 < 0);
    (is_listed, part.leader_id.0, found.coordinators[0].node_id.0)
}

#[test]
fn without_windows_a_departure_is_over_at_once() {
    for (leaving, is_listed) in
        [(Leaving::Drain, true), (Leaving::ControlledShutdown, false), (Leaving::Kill, false), (Leaving::Freeze(Hang::Reading), false)]
    {
        let (mut bench, _, other) = bench(Windows::default());
        bench.cluster.depart(0, leaving);
        assert_eq!(told(&mut bench, other), (is_listed, 1, 1));
    }
}

#[test]
fn a_killed_broker_leads_and_coordinates_until_it_is_noticed_and_is_told_of_for_longer() {
    let (mut bench, leaving, other) = bench(Windows { notice: 9 * SECOND, old_news: SECOND, ..Windows::default() });
    bench.cluster.depart(0, Leaving::Kill);
    bench.collect();
    assert!(bench.is_closed(leaving) && bench.cluster.connect(bench.now, 0).is_err());
    bench.pass(9 * SECOND - MS);
    assert_eq!(bench.cluster.leader("t", 0), Some((0, 0)));
    bench.pass(MS);
    assert_eq!(bench.cluster.leader("t", 0), Some((1, 1)));
    assert_eq!(told(&mut bench, other), (true, 0, 0));
    bench.pass(SECOND);
    assert_eq!(told(&mut bench, other), (false, 1, 1));
}

#[test]
fn a_broker_that_is_back_before_it_was_missed_keeps_everything() {
    let windows = Windows { notice: 9 * SECOND, ..Windows::default() };
    let (mut bench, _, other) = bench(windows);
    bench.cluster.depart(0, Leaving::Freeze(Hang::NotReading));
    bench.pass(SECOND);
    bench.cluster.thaw_broker(0);
    bench.pass(9 * SECOND);
    assert_eq!((told(&mut bench, other), bench.cluster.leader("t", 0)), ((true, 0, 0), Some((0, 0))));
}

#[test]
fn each_step_of_a_controlled_shutdown_is_told_late_and_in_order() {
    let (mut bench, leaving, other) = bench(Windows { old_news: SECOND, stopping: 500 * MS, ..Windows::default() });
    bench.cluster.depart(0, Leaving::ControlledShutdown);
    bench.pass(600 * MS);
    assert!(bench.is_closed(leaving));
    assert_eq!(told(&mut bench, other), (true, 0, 0), "it is gone, and nothing is known of it");
    bench.pass(500 * MS);
    assert_eq!(told(&mut bench, other), (true, 1, 1), "it gave everything away");
    bench.pass(500 * MS);
    assert_eq!(told(&mut bench, other), (false, 1, 1));
}

#[test]
fn during_the_handover_nobody_leads_and_long_polls_end() {
    let (mut bench, leaving, other) = bench(Windows { handover: SECOND, ..Windows::default() });
    let reading = bench.connect(0);
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20).with_current_leader_epoch(0);
    let topic = FetchTopic::default().with_topic(topic_name("t")).with_partitions(vec![partition]);
    let fetch = FetchRequest::default().with_max_bytes(1 << 20).with_min_bytes(1).with_max_wait_ms(60_000).with_session_epoch(-1);
    bench.send(reading, 12, &fetch.with_topics(vec![topic]));
    bench.cluster.depart(0, Leaving::Drain);
    let ended = bench.answer::<FetchRequest>(reading, 12).expect("the drain ends the wait");
    assert_eq!(ended.responses[0].partitions[0].error_code, code::FENCED_LEADER_EPOCH);
    assert_eq!(told(&mut bench, other), (true, -1, -1));
    let next = bench.connect(1);
    for conn in [leaving, next] {
        assert_eq!(bench.produce(conn, "t", 0, Made::plain(1)).error_code, code::NOT_LEADER_OR_FOLLOWER);
    }
    bench.pass(SECOND);
    assert_eq!(told(&mut bench, other), (true, 1, 1));
    assert_eq!(bench.produce(next, "t", 0, Made::plain(1)).error_code, code::NONE);
}

#[test]
fn a_successor_that_dies_during_the_handover_is_passed_over() {
    let (mut bench, _, other) = bench(Windows { handover: SECOND, ..Windows::default() });
    bench.cluster.depart(0, Leaving::Drain);
    bench.pass(SECOND / 2);
    bench.cluster.stop_broker(1);
    bench.pass(SECOND / 2);
    assert_eq!(told(&mut bench, other).1, 2, "a drain places anew what no replica can take");
    // The coordinator's handover began anew.
    bench.pass(SECOND / 2);
    assert!(told(&mut bench, other).2 != 1);
    assert_ne!(told(&mut bench, other).2, -1);
}

#[test]
fn a_write_under_way_during_a_drain_keeps_its_offset_and_is_answered_6() {
    let (mut bench, leaving, _) = bench(Windows { handover: SECOND, ..Windows::default() });
    bench.cluster.hold_replication("t", 0, true);
    bench.send(leaving, 9, &Bench::produce_request("t", 0, -1, Made::plain(1)));
    bench.cluster.depart(0, Leaving::Drain);
    let answer = bench.answer::<ProduceRequest>(leaving, 9).expect("the drain answers");
    let part = &answer.responses[0].partition_responses[0];
    assert_eq!((part.error_code, part.base_offset), (code::NOT_LEADER_OR_FOLLOWER, 0));
}
