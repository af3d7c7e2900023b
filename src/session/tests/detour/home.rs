//! The home leg, its stand-in, and what any broker may answer.

use bytes::Bytes;
use kafka_protocol::messages::{FetchRequest, MetadataRequest};

use super::bench::{MS, Stage};
use super::brokers::{End, Written};
use super::frames::{Produce, numbered, plain, request_frame};
use crate::cluster::NodeId;
use crate::session::{CloseReason, Kept, LegEvent, LegId, Port, RequestVerdict};
use crate::wire::ApiKey;

fn metadata(correlation_id: i32) -> Bytes {
    request_frame(ApiKey::METADATA, 9, correlation_id, &MetadataRequest::default().with_topics(Some(Vec::new())))
}

fn fetch(correlation_id: i32) -> Bytes {
    request_frame(ApiKey::FETCH, 11, correlation_id, &FetchRequest::default())
}

fn asks(stage: &mut Stage, client: usize, frame: fn(i32) -> Bytes) {
    let correlation_id = stage.next_correlation_id(client);
    stage.sends_frame(client, frame(correlation_id));
}

/// Broker 1 is gone, and everybody knows; its clients' connections were idle.
fn after_departure() -> (Stage, usize) {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.acks(client, 1);
    stage.loses(client, 1, Written::All);
    assert_eq!(stage.closed(client), None, "its client's connection stays");
    stage.departs(1, 2);
    stage.tell();
    assert_eq!(stage.errors(client), [0]);
    (stage, client)
}

/// Where this request is now.
fn where_is(stage: &mut Stage, client: usize) -> Option<i32> {
    (1..=3).find(|node| stage.has_wire(client, *node) && !stage.wire(client, *node).unanswered.is_empty())
}

#[test]
fn a_stand_in_answers_for_a_broker_that_is_gone() {
    let (mut stage, client) = after_departure();
    asks(&mut stage, client, metadata);
    let stand_in = where_is(&mut stage, client).expect("it is with somebody");
    assert_ne!(stand_in, 1);
    stage.says_metadata(client, stand_in);
    assert_eq!(stage.told_frames(client).len(), 1);
    stage.sends(client, &Produce::of([plain(0, 2)]));
    assert_eq!(stage.at(client, 2), [[2]]);
}

#[test]
fn a_stand_in_answers_for_a_broker_that_connects_to_nothing() {
    let (mut stage, client) = Stage::with_client();
    stage.unreachable.insert(1);
    asks(&mut stage, client, metadata);
    assert_eq!(where_is(&mut stage, client), Some(1));
    stage.pass(stage.detours.suspect_after + stage.detours.backoff_max);
    let stand_in = where_is(&mut stage, client).expect("it is with somebody");
    assert_ne!(stand_in, 1);
    stage.says_metadata(client, stand_in);
    assert_eq!((stage.told_frames(client).len(), stage.closed(client)), (1, None));
}

#[test]
fn what_only_the_broker_itself_can_answer_closes() {
    let (mut stage, client) = after_departure();
    asks(&mut stage, client, fetch);
    assert_eq!(stage.closed(client), Some(CloseReason::BrokerNotListed));
}

#[test]
fn a_broker_that_is_back_is_home_again_once_nothing_is_unresolved() {
    let (mut stage, client) = after_departure();
    asks(&mut stage, client, metadata);
    let stand_in = where_is(&mut stage, client).unwrap();
    stage.brokers.insert(1, 9091);
    stage.moves("t", 0, 1);
    stage.tell();
    assert_eq!(stage.ends(client, stand_in), [End::Up], "it has a request");
    stage.says_metadata(client, stand_in);
    stage.sends(client, &Produce::of([plain(0, 2)]));
    assert_eq!(stage.at(client, 1), [[2]]);
    stage.acks(client, 1);
    asks(&mut stage, client, metadata);
    assert_eq!(where_is(&mut stage, client), Some(1), "home");
    assert_eq!(stage.ends(client, stand_in).last(), Some(&End::Closed));
}

#[test]
fn a_broker_that_moves_is_followed_with_what_was_lost() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    stage.loses(client, 1, Written::All);
    stage.brokers.insert(1, 9999);
    stage.tell();
    stage.fresh(client);
    assert_eq!((stage.wire(client, 1).port, stage.at(client, 1)), (9999, vec![vec![1]]));
    stage.acks(client, 1);
    stage.sends(client, &Produce::of([numbered(7, 0, 2)]));
    assert_eq!((stage.wire(client, 1).port, stage.at(client, 1)), (9999, vec![vec![2]]));
}

#[test]
fn a_live_broker_that_moves_is_followed_when_idle() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.brokers.insert(1, 9999);
    stage.tell();
    assert_eq!((stage.wire(client, 1).port, stage.at(client, 1)), (9091, vec![vec![1]]));
    stage.acks(client, 1);
    stage.sends(client, &Produce::of([plain(0, 2)]));
    assert_eq!((stage.wire(client, 1).port, stage.at(client, 1)), (9999, vec![vec![2]]));
}

#[test]
fn an_id_that_another_machine_takes_over_leads_nothing_of_the_old() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    stage.loses(client, 1, Written::All);
    stage.departs(1, 2);
    stage.brokers.insert(1, 7777);
    stage.tell();
    assert_eq!(stage.at(client, 2), [[1]]);
    assert!(!stage.has_wire(client, 1) || stage.at(client, 1).is_empty());
    stage.acks(client, 2);
    asks(&mut stage, client, metadata);
    assert_eq!((where_is(&mut stage, client), stage.wire(client, 1).port), (Some(1), 7777));
}

#[test]
fn what_any_broker_may_answer_is_sent_again_but_not_for_ever() {
    let (mut stage, client) = Stage::with_client();
    asks(&mut stage, client, metadata);
    let mut sent = 1;
    while stage.closed(client).is_none() {
        let node = where_is(&mut stage, client).expect("it is with somebody");
        stage.loses(client, node, Written::All);
        sent += 1;
        assert!(sent < 10, "it goes on and on");
    }
    assert_eq!((sent, stage.closed(client)), (5, Some(CloseReason::UpstreamClosed)), "once, and three times more");
}

#[test]
fn what_found_nobody_for_a_while_is_not_given_up_the_sooner() {
    let mut stage = Stage::new();
    stage.departs(1, 2);
    stage.brokers.remove(&3);
    stage.tell();
    let client = stage.client();
    asks(&mut stage, client, metadata);
    stage.refusing.insert(2);
    stage.loses(client, 2, Written::All);
    stage.refusing.clear();
    stage.pass(1000 * MS);
    assert_eq!(where_is(&mut stage, client), Some(2), "it is there again");
    stage.loses(client, 2, Written::All);
    assert_eq!(stage.closed(client), None, "two losses");
    assert_eq!(where_is(&mut stage, client), Some(2));
}

#[test]
fn what_only_its_broker_can_answer_goes_with_it() {
    let (mut stage, client) = Stage::with_client();
    asks(&mut stage, client, fetch);
    stage.loses(client, 1, Written::All);
    assert_eq!(stage.closed(client), Some(CloseReason::UpstreamClosed));
}

#[test]
fn a_frame_cut_by_the_loss_of_its_leg_is_completed_and_sent_elsewhere() {
    for batch in [plain(0, 1), numbered(7, 0, 1)] {
        let (mut stage, client) = Stage::with_client();
        stage.sends(client, &Produce::of([plain(3, 9)]));
        stage.acks(client, 1);
        stage.errors(client);
        let correlation_id = stage.next_correlation_id(client);
        let frame = Produce::of([batch]).frame(correlation_id);
        assert_eq!(stage.head(client, &frame), RequestVerdict::RelayKeep(LegId::HOME));
        let written_bytes = stage.wire(client, 1).bytes + 30;
        stage.wire(client, 1).state = End::Lost;
        stage.event(client, LegId::HOME, LegEvent::Closed { written_bytes });
        stage.departs(1, 2);
        stage.tell();
        assert_eq!(stage.closed(client), None);
        assert!(!stage.has_wire(client, 2), "it is not whole");
        stage.with(client, |core, now, around| core.on_request_kept(now, Kept::from(frame.clone()), around));
        assert_eq!(stage.wire(client, 2).unanswered, [frame]);
        stage.acks(client, 2);
        assert_eq!(stage.told_frames(client).len(), 1);
    }
}

#[test]
fn a_port_of_a_broker_that_nobody_knows_is_served_too() {
    let mut stage = Stage::new();
    let client = stage.client_at(Port::Node(NodeId(9)));
    stage.moves_for_all("t", 0, 2);
    stage.sends(client, &Produce::of([plain(0, 1)]));
    assert_eq!(stage.at(client, 2), [[1]]);
    stage.acks(client, 2);
    assert_eq!(stage.errors(client), [0]);
}

#[test]
fn a_broker_that_came_back_at_once_is_used_again_without_a_detour() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    stage.loses(client, 1, Written::All);
    stage.fresh(client);
    assert_eq!(stage.at(client, 1), [[1]], "the cluster has nobody else");
    stage.acks(client, 1);
    stage.pass(stage.detours.linger + super::bench::MS);
    stage.sends(client, &Produce::of([numbered(7, 0, 2)]));
    assert_eq!(stage.at(client, 1), [[2]]);
    let up = stage.ends(client, 1).into_iter().filter(|end| *end == End::Up).count();
    assert_eq!(up, 1, "one leg, the home leg");
}
