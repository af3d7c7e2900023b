//! What waits for a leg that has its window full of unanswered requests goes together.

use super::bench::{MS, Stage};
use super::brokers::Written;
use super::frames::{Produce, numbered, plain};
use crate::session::Note;

/// Four requests are unanswered for so long that what comes waits here.
fn stuck(stage: &mut Stage, client: usize) {
    for tag in 1..=4 {
        stage.sends(client, &Produce::of([plain(0, tag)]));
    }
    stage.pass(60 * MS);
}

#[test]
fn none_waits_behind_all_of_another_partition() {
    let (mut stage, client) = Stage::with_client();
    for tag in 1..=9 {
        stage.sends(client, &Produce::of([numbered(7, i32::from(tag % 3), tag)]));
    }
    for _ in 1..=9 {
        stage.refuses(client, 1, 6);
    }
    for partition in 0..3 {
        stage.moves("t", partition, 2);
    }
    stage.tell();
    assert_eq!(stage.at(client, 2), [[1], [2], [3]], "it may refuse these");
    stage.acks(client, 2);
    assert_eq!(stage.at(client, 2), [vec![2], vec![3], vec![4], vec![7]]);
    stage.acks(client, 2);
    assert_eq!(stage.at(client, 2), [vec![3], vec![4], vec![7], vec![5]], "one batch of a partition is all that a request may have");
    stage.acks(client, 2);
    assert_eq!(stage.at(client, 2), [vec![4], vec![7], vec![5], vec![6, 8]], "the rest together, by arrival");
    for _ in 0..3 {
        stage.acks(client, 2);
    }
    assert_eq!(stage.at(client, 2), [vec![6, 8], vec![9]]);
    // One is refused once more: the other's answer is its own.
    stage.says(client, 2, |_, partition| if partition == 0 { (6, -1) } else { (0, 7) });
    assert_eq!(stage.errors(client), [0; 5]);
    stage.moves_for_all("t", 0, 3);
    assert_eq!(stage.at(client, 3), [[6]]);
    stage.acks(client, 3);
    assert_eq!(stage.at(client, 3), [[9]]);
    stage.acks(client, 3);
    assert_eq!(stage.errors(client), [0; 4]);
    assert_eq!(stage.gate.tickets(), 0);
}

#[test]
fn behind_a_stuck_request_they_wait_here_and_go_as_one() {
    let (mut stage, client) = Stage::with_client();
    stuck(&mut stage, client);
    for (tag, partition) in [(5, 0), (6, 1), (7, 0), (8, 2)] {
        stage.sends(client, &Produce::of([plain(partition, tag)]));
    }
    assert_eq!(stage.at(client, 1).len(), 4, "its broker has enough to do");
    stage.acks(client, 1);
    assert_eq!(stage.at(client, 1), [vec![2], vec![3], vec![4], vec![5, 6, 8]]);
    for _ in 0..5 {
        stage.acks(client, 1);
    }
    assert_eq!(stage.told(client), [[(0, 0)], [(0, 0)], [(0, 0)], [(0, 0)], [(0, 0)], [(1, 0)], [(0, 0)], [(2, 0)]]);
    let is_detour = |note: &Note| matches!(note, Note::DetourStarted(_) | Note::DetourEnded { .. } | Note::Resent { .. });
    assert!(!stage.notes(client).iter().any(is_detour), "nothing took another way");
    assert_eq!((stage.gate.tickets(), stage.gate.kept_bytes()), (0, 0));
}

#[test]
fn what_waits_here_is_not_passed() {
    let (mut stage, client) = Stage::with_client();
    let other = stage.client();
    stage.sends(other, &Produce::of([plain(1, 9)]));
    stage.refuses(other, 1, 6);
    // While another session's batch is on the move, everyone's are looked into.
    for tag in 1..=5 {
        stage.sends(client, &Produce::of([plain(0, tag)]));
    }
    stage.moves_for_all("t", 1, 2);
    stage.acks(other, 2);
    stage.sends(client, &Produce::of([plain(0, 6)]));
    assert_eq!(stage.at(client, 1), [[1], [2], [3], [4]]);
    for _ in 1..=6 {
        stage.acks(client, 1);
    }
    assert_eq!(stage.told(client).len(), 6);
    assert!(stage.at(client, 1).is_empty());
}

#[test]
fn a_broker_that_answers_in_time_gets_each_request_at_once() {
    let (mut stage, client) = Stage::with_client();
    for tag in 1..=9 {
        stage.sends(client, &Produce::of([plain(0, tag)]));
    }
    assert_eq!(stage.at(client, 1).len(), 9);
    // Few are not worth waiting for, however long they take.
    let other = stage.client();
    for tag in 1..=3 {
        stage.sends(other, &Produce::of([plain(0, tag)]));
    }
    stage.pass(60 * MS);
    stage.sends(other, &Produce::of([plain(0, 4)]));
    assert_eq!(stage.at(other, 1).len(), 4);
}

#[test]
fn what_waits_can_still_go_elsewhere() {
    let (mut stage, client) = Stage::with_client();
    stuck(&mut stage, client);
    for (tag, partition) in [(5, 1), (6, 2), (7, 1)] {
        stage.sends(client, &Produce::of([plain(partition, tag)]));
    }
    stage.moves("t", 1, 2);
    stage.moves("t", 2, 2);
    stage.tell();
    assert_eq!(stage.at(client, 2), [[5], [6]], "none of it was with the stuck broker");
    stage.acks(client, 2);
    stage.acks(client, 2);
    assert_eq!(stage.at(client, 2), [[7]]);
    assert_eq!(stage.at(client, 1).len(), 4);
}

#[test]
fn the_parts_of_one_that_is_lost_go_on_each_by_itself() {
    let (mut stage, client) = Stage::with_client();
    stuck(&mut stage, client);
    for (tag, partition) in [(5, 1), (6, 2), (7, 0)] {
        stage.sends(client, &Produce::of([numbered(7, partition, tag)]));
    }
    stage.acks(client, 1);
    assert_eq!(stage.at(client, 1).last(), Some(&vec![5, 6, 7]));
    stage.loses(client, 1, Written::All);
    for partition in 0..3 {
        stage.moves("t", partition, 2);
    }
    stage.tell();
    assert_eq!(stage.at(client, 2), [[2], [5], [6], [7]], "whatever made the broker close it, the others have nothing to do with it");
    for _ in 2..=7 {
        stage.acks(client, 2);
    }
    assert_eq!(stage.errors(client), [0; 7]);
    assert_eq!((stage.gate.tickets(), stage.gate.kept_bytes()), (0, 0));
}

#[test]
fn only_requests_that_are_alike_go_together() {
    let alike = Produce::of([plain(2, 6)]);
    let others = [
        Produce { acks: 1, ..alike.clone() },
        Produce { timeout_ms: 1, ..alike.clone() },
        Produce { version: 8, ..alike.clone() },
        Produce { transactional_id: Some("x"), ..alike.clone() },
        Produce::of([plain(2, 6).of_bytes(1 << 20)]),
    ];
    for (other, joins) in others.into_iter().map(|other| (other, false)).chain([(alike, true)]) {
        let (mut stage, client) = Stage::with_client();
        stuck(&mut stage, client);
        stage.sends(client, &Produce::of([plain(1, 5)]));
        stage.sends(client, &other);
        stage.acks(client, 1);
        let last = if joins { vec![5, 6] } else { vec![5] };
        assert_eq!(stage.at(client, 1).last(), Some(&last), "{other:?}");
        stage.acks(client, 1);
        assert_eq!(stage.at(client, 1).last().unwrap().last(), Some(&6));
    }
}
