//! Which bytes go to whom, and what the client is told of it.

use std::time::Duration;

use super::bench::{MS, Stage};
use super::brokers::End;
use super::frames::{Produce, numbered, plain};

#[test]
fn the_whole_frame_goes_untouched_where_one_leader_has_all() {
    for version in 3..=13 {
        let (mut stage, client) = Stage::with_client();
        let produce = Produce { version, ..Produce::of([plain(0, 1), numbered(7, 1, 2), plain(0, 3).in_topic("u")]) };
        let correlation_id = stage.next_correlation_id(client);
        let frame = produce.frame(correlation_id);
        stage.sends_frame(client, frame.clone());
        stage.refuses(client, 1, 6);
        for (topic, partition) in [("t", 0), ("t", 1), ("u", 0)] {
            stage.moves(topic, partition, 2);
        }
        stage.tell();
        let sent = stage.wire(client, 2).unanswered.clone();
        assert!(sent.len() == 1 && sent[0] == frame, "Produce v{version}");
        assert_eq!(sent[0].as_ptr(), frame.as_ptr(), "Produce v{version}: not even copied");
        stage.acks(client, 2);
        assert_eq!(stage.errors(client), [0, 0, 0], "Produce v{version}");
    }
}

#[test]
fn a_request_is_cut_by_leader_and_its_answer_is_in_the_requests_order() {
    for version in 3..=13 {
        let (mut stage, client) = Stage::with_client();
        let batches = [plain(2, 1), numbered(7, 0, 2), plain(1, 3), plain(0, 4).in_topic("u")];
        stage.sends(client, &Produce { version, ..Produce::of(batches) });
        stage.refuses(client, 1, 6);
        for (topic, partition, to) in [("t", 2, 2), ("t", 0, 3), ("t", 1, 2), ("u", 0, 3)] {
            stage.moves(topic, partition, to);
        }
        stage.tell();
        assert_eq!((stage.at(client, 2), stage.at(client, 3)), (vec![vec![1, 3]], vec![vec![2, 4]]), "Produce v{version}");
        stage.says(client, 3, |topic, _| if topic == "u" { (10, -1) } else { (0, 7) });
        assert!(stage.errors(client).is_empty(), "half an answer is none");
        stage.acks(client, 2);
        assert_eq!(stage.told(client), [[(2, 0), (0, 0), (1, 0), (0, 10)]], "Produce v{version}");
    }
}

#[test]
fn results_that_are_final_are_kept_and_only_the_rest_goes_on() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1), plain(1, 2), plain(2, 3)]));
    stage.says(client, 1, |_, partition| [(0, 7), (6, -1), (87, -1)][partition as usize]);
    stage.moves_for_all("t", 1, 2);
    assert_eq!(stage.at(client, 2), [[2]]);
    assert!(stage.at(client, 1).is_empty());
    stage.acks(client, 2);
    assert_eq!(stage.told(client), [[(0, 0), (1, 0), (2, 87)]]);
}

#[test]
fn others_follow_pipelined_only_behind_a_leader_that_has_acknowledged() {
    let (mut stage, client) = Stage::with_client();
    for tag in 1..=4 {
        stage.sends(client, &Produce::of([numbered(7, 0, tag)]));
    }
    for _ in 1..=4 {
        stage.refuses(client, 1, 6);
    }
    stage.moves_for_all("t", 0, 2);
    assert_eq!(stage.at(client, 2), [[1]], "it may refuse this one, too");
    stage.acks(client, 2);
    assert_eq!(stage.at(client, 2), [[2], [3], [4]]);
    stage.sends(client, &Produce::of([numbered(7, 0, 5)]));
    assert_eq!(stage.at(client, 2), [[2], [3], [4], [5]]);
}

#[test]
fn what_follows_a_move_does_not_ask_the_old_leader() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.refuses(client, 1, 6);
    stage.moves_for_all("t", 0, 2);
    stage.acks(client, 2);
    stage.sends(client, &Produce::of([plain(0, 2), plain(1, 3)]));
    assert_eq!(stage.at(client, 2), [[2]]);
    assert_eq!(stage.at(client, 1), [[3]], "whose leader that still is");
}

#[test]
fn a_partition_that_moves_again_is_followed() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.refuses(client, 1, 6);
    for (from, to) in [(2, 3), (3, 2), (2, 1)] {
        stage.moves_for_all("t", 0, from);
        assert_eq!(stage.at(client, from), [[1]]);
        stage.refuses(client, from, 6);
        assert!(stage.at(client, to).is_empty());
    }
    stage.moves_for_all("t", 0, 1);
    assert_eq!(stage.at(client, 1), [[1]], "back home");
    stage.acks(client, 1);
    assert_eq!(stage.errors(client), [0]);
}

#[test]
fn the_slow_path_ends_when_nothing_has_needed_it_for_a_while() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.refuses(client, 1, 6);
    stage.moves_for_all("t", 0, 2);
    stage.acks(client, 2);
    stage.pass(stage.detours.linger - MS);
    assert_eq!(stage.ends(client, 2), [End::Up]);
    stage.pass(2 * MS);
    assert_eq!(stage.ends(client, 2), [End::Closed]);
    // From here on a leader is the client's business, and an answer the broker's.
    stage.sends(client, &Produce::of([plain(0, 2)]));
    assert_eq!(stage.at(client, 1), [[2]]);
}

#[test]
fn as_long_as_it_is_needed_it_stays() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.refuses(client, 1, 6);
    stage.moves_for_all("t", 0, 2);
    stage.acks(client, 2);
    for tag in 2..8 {
        stage.pass(stage.detours.linger / 2);
        stage.sends(client, &Produce::of([plain(0, tag)]));
        assert_eq!(stage.at(client, 2), [[tag]]);
        stage.acks(client, 2);
    }
}

#[test]
fn a_leader_that_lacks_the_version_gets_nothing_and_the_client_the_true_error() {
    let (mut stage, client) = Stage::with_client();
    stage.tells_versions(2, 11);
    stage.tells_versions(3, 13);
    stage.sends(client, &Produce { version: 12, ..Produce::of([plain(0, 1), plain(1, 2)]) });
    stage.refuses(client, 1, 6);
    stage.moves("t", 0, 2);
    stage.moves("t", 1, 3);
    stage.tell();
    assert!(!stage.has_wire(client, 2), "it would close the connection");
    stage.acks(client, 3);
    assert_eq!(stage.told(client), [[(0, 6), (1, 0)]]);
    stage.pass(Duration::from_secs(30));
    assert!(!stage.has_wire(client, 2));
}
