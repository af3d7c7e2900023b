//! Batches with `acks=0`: a closed connection is all that a client can be told.

use std::time::Duration;

use super::bench::Stage;
use super::brokers::Written;
use super::frames::{Produce, batches_in, numbered, plain};
use crate::session::CloseReason;

fn unanswered(tag: u8) -> Produce {
    Produce { acks: 0, ..Produce::of([plain(0, tag)]) }
}

/// The tags of what this broker got and answers to nobody.
fn silent_at(stage: &mut Stage, client: usize, node: i32) -> Vec<u8> {
    if !stage.has_wire(client, node) {
        return Vec::new();
    }
    stage.wire(client, node).silent.iter().flat_map(batches_in).map(|(_, _, tag)| tag).collect()
}

#[test]
fn after_a_closed_leg_frames_are_routed_by_the_view_and_nothing_written_is_sent_again() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &unanswered(1));
    assert_eq!(silent_at(&mut stage, client, 1), [1]);
    stage.loses(client, 1, Written::All);
    stage.moves_for_all("t", 0, 2);
    assert!(silent_at(&mut stage, client, 2).is_empty());
    stage.sends(client, &unanswered(2));
    stage.sends(client, &unanswered(3));
    assert_eq!(silent_at(&mut stage, client, 2), [2, 3]);
    assert_eq!(stage.closed(client), None);
    assert_eq!((stage.gate.tickets(), stage.gate.kept_bytes()), (0, 0));
}

#[test]
fn a_closed_leg_with_such_bytes_on_it_asks_for_a_fresh_view() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &unanswered(1));
    stage.loses(client, 1, Written::All);
    assert!(!stage.asked(client).is_empty(), "to a broker that does not lead, closing is the only answer");

    // One that has sent nothing else does not ask each time.
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.acks(client, 1);
    stage.loses(client, 1, Written::All);
    assert!(stage.asked(client).is_empty());
}

#[test]
fn a_leader_that_is_none_is_not_fed_for_ever() {
    let (mut stage, client) = Stage::with_client();
    // The view is behind: broker 1 closes on each.
    let mut closed = 0;
    for tag in 1..=5 {
        stage.sends(client, &unanswered(tag));
        if silent_at(&mut stage, client, 1).is_empty() {
            break;
        }
        stage.loses(client, 1, Written::All);
        closed += 1;
        if stage.asked_partitions(client) == [("t".into(), 0)] {
            stage.moves_for_all("t", 0, 2);
        }
        stage.fresh(client);
    }
    assert!(closed <= 2, "it closed {closed} times");
}

#[test]
fn what_cannot_be_brought_anywhere_closes_the_client() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &unanswered(1));
    stage.refusing.extend([1, 2, 3]);
    stage.loses(client, 1, Written::All);
    stage.moves_for_all("t", 0, 2);
    stage.sends(client, &unanswered(2));
    stage.pass(Duration::from_secs(29));
    assert_eq!(stage.closed(client), None);
    stage.pass(Duration::from_secs(1));
    assert_eq!(stage.closed(client), Some(CloseReason::Undeliverable));
}

#[test]
fn what_was_given_to_a_connection_that_came_to_nothing_closes_the_client() {
    let (mut stage, client) = Stage::with_client();
    stage.refusing.insert(1);
    stage.sends(client, &unanswered(1));
    assert_eq!(stage.closed(client), Some(CloseReason::Undeliverable));

    // On the slow path it is kept until there is a connection.
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &unanswered(1));
    stage.loses(client, 1, Written::All);
    stage.fresh(client);
    stage.refusing.insert(2);
    stage.moves_for_all("t", 0, 2);
    stage.sends(client, &unanswered(2));
    stage.moves_for_all("t", 0, 3);
    stage.pass(Duration::from_secs(1));
    assert_eq!((silent_at(&mut stage, client, 3), stage.closed(client)), (vec![2], None));
}

#[test]
fn they_keep_their_order_with_the_others() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.refuses(client, 1, 6);
    stage.moves_for_all("t", 0, 2);
    stage.sends(client, &unanswered(2));
    assert!(silent_at(&mut stage, client, 2).is_empty(), "the one before it may be refused");
    stage.acks(client, 2);
    assert_eq!(silent_at(&mut stage, client, 2), [2]);
}

#[test]
fn numbered_ones_wait_for_their_predecessors_too() {
    let mut stage = Stage::new();
    let (a, b) = (stage.client(), stage.client());
    stage.sends(a, &Produce::of([numbered(7, 0, 1)]));
    stage.refuses(a, 1, 6);
    stage.sends(b, &Produce { acks: 0, ..Produce::of([numbered(7, 0, 2)]) });
    stage.moves_for_all("t", 0, 2);
    assert!(silent_at(&mut stage, b, 2).is_empty());
    stage.acks(a, 2);
    assert_eq!(silent_at(&mut stage, b, 2), [2]);
}
