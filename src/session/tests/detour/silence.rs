//! Brokers that say nothing: when a session doubts them, and when it leaves them.

use std::time::Duration;

use super::bench::{MS, Stage};
use super::brokers::End;
use super::frames::{Produce, numbered, plain};
use crate::session::{LegEvent, Note};

const S: Duration = Duration::from_secs(1);

#[test]
fn a_request_out_for_long_asks_for_a_fresh_view_at_a_bounded_rate() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1), plain(2, 2)]));
    stage.pass(999 * MS);
    assert!(stage.asked(client).is_empty());
    stage.pass(MS);
    assert_eq!(stage.asked_partitions(client), [("t".into(), 0), ("t".into(), 2)]);
    let mut asked = 0;
    for _ in 0..100 {
        stage.fresh(client);
        stage.pass(100 * MS);
        asked += stage.asked_partitions(client).len();
    }
    assert!((16..=22).contains(&asked), "two partitions, once per second: {asked}");
}

#[test]
fn a_silent_leg_is_left_only_for_a_newer_epoch_elsewhere() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    stage.pass(5 * S);
    stage.fresh(client);
    stage.moves_for_all("t", 3, 2);
    assert_eq!((stage.ends(client, 1), stage.at(client, 1)), (vec![End::Up], vec![vec![1]]), "nothing is known of its partition");
    // The same broker under a newer epoch is no reason either.
    stage.moves_for_all("t", 0, 1);
    assert_eq!(stage.ends(client, 1), [End::Up]);
    stage.moves_for_all("t", 0, 2);
    assert_eq!(stage.ends(client, 1), [End::Dropped], "its late answer cannot come any more");
    assert_eq!(stage.at(client, 2), [[1]]);
    stage.acks(client, 2);
    assert_eq!(stage.errors(client), [0]);
}

#[test]
fn a_broker_that_may_be_waiting_for_a_dead_follower_is_not_called_departed() {
    for (acks, is_suspect) in [(-1, false), (1, true)] {
        let (mut stage, client) = Stage::with_client();
        stage.sends(client, &Produce { acks, ..Produce::of([plain(0, 1)]) });
        stage.pass(5 * S);
        let signs = |notes: Vec<Note>| notes.iter().filter(|note| matches!(note, Note::Departure { .. })).count();
        assert_eq!(signs(stage.notes(client)) > 0, is_suspect, "acks={acks}");
        assert!(!stage.asked(client).is_empty(), "the cluster is asked all the same");
        stage.moves_for_all("t", 0, 2);
        assert_eq!(signs(stage.notes(client)), 1, "acks={acks}: now it is certain");
    }
}

#[test]
fn a_plain_batch_is_not_sent_beside_a_leg_that_may_still_answer() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.moves_for_all("t", 0, 2);
    stage.pass(900 * MS);
    assert_eq!((stage.at(client, 1), stage.has_wire(client, 2)), (vec![vec![1]], false), "it is not silent for long yet");
    stage.pass(200 * MS);
    assert_eq!((stage.ends(client, 1), stage.at(client, 2)), (vec![End::Dropped], vec![vec![1]]));
}

#[test]
fn an_answer_in_time_ends_the_doubt() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.pass(3 * S);
    stage.acks(client, 1);
    assert_eq!(stage.errors(client), [0]);
    stage.moves_for_all("t", 0, 2);
    assert_eq!(stage.ends(client, 1), [End::Up]);
}

#[test]
fn what_becomes_of_a_leg_that_was_left_is_ignored() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    let old = stage.wire(client, 1).id;
    stage.pass(2 * S);
    stage.moves_for_all("t", 0, 2);
    stage.fresh(client);
    for event in [LegEvent::Closed { written_bytes: 0 }, LegEvent::Failed, LegEvent::Opened(0)] {
        stage.event(client, old, event);
    }
    assert_eq!((stage.closed(client), stage.at(client, 2)), (None, vec![vec![1]]));
    assert!(stage.asked(client).is_empty());
    stage.acks(client, 2);
    assert_eq!(stage.errors(client), [0]);
}

#[test]
fn a_detours_leg_is_left_in_the_same_way() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    stage.refuses(client, 1, 6);
    stage.moves_for_all("t", 0, 2);
    stage.pass(2 * S);
    assert_eq!(stage.at(client, 2), [[1]]);
    assert_eq!(stage.asked_partitions(client).last(), Some(&("t".into(), 0)));
    stage.moves_for_all("t", 0, 3);
    assert_eq!((stage.ends(client, 2), stage.at(client, 3)), (vec![End::Dropped], vec![vec![1]]));
}

#[test]
fn a_connection_that_comes_to_nothing_is_not_waited_for() {
    let (mut stage, client) = Stage::with_client();
    stage.unreachable.insert(1);
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.pass(999 * MS);
    assert_eq!(stage.ends(client, 1), [End::Opening]);
    assert!(stage.asked(client).is_empty());
    stage.pass(2 * MS);
    assert_eq!(stage.asked_partitions(client), [("t".into(), 0)]);
    stage.departs(1, 2);
    stage.tell();
    assert_eq!(stage.ends(client, 1)[0], End::Dropped);
    assert_eq!(stage.at(client, 2), [[1]]);

    // The same for a detour's.
    let (mut stage, client) = Stage::with_client();
    stage.unreachable.insert(2);
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.refuses(client, 1, 6);
    stage.moves_for_all("t", 0, 2);
    stage.pass(2 * S);
    stage.moves_for_all("t", 0, 3);
    assert_eq!((stage.ends(client, 2), stage.at(client, 3)), (vec![End::Dropped], vec![vec![1]]));
}

#[test]
fn a_silent_broker_that_is_not_listed_any_more_is_left() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    stage.pass(2 * S);
    stage.brokers.remove(&1);
    stage.tell();
    assert_eq!(stage.ends(client, 1), [End::Dropped]);
    stage.moves_for_all("t", 0, 2);
    assert_eq!(stage.at(client, 2), [[1]]);
}
