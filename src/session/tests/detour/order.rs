//! Order: a batch moves only when every earlier one of its key is settled.

use std::time::Duration;

use super::bench::Stage;
use super::brokers::Written;
use super::frames::{Produce, numbered, plain};

const S: Duration = Duration::from_secs(1);

/// A client on the slow path, since `u` 3 has moved.
fn on_the_slow_path(stage: &mut Stage) -> usize {
    let client = stage.client();
    stage.sends(client, &Produce::of([plain(3, 99).in_topic("u")]));
    stage.refuses(client, 1, 6);
    stage.moves_for_all("u", 3, 3);
    stage.acks(client, 3);
    assert_eq!(stage.errors(client), [0]);
    client
}

#[test]
fn a_plain_batch_waits_for_those_that_the_old_broker_has_not_answered() {
    let mut stage = Stage::new();
    let client = on_the_slow_path(&mut stage);
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.moves_for_all("t", 0, 2);
    stage.sends(client, &Produce::of([plain(0, 2)]));
    assert_eq!(stage.at(client, 1), [[1]]);
    assert!(stage.at(client, 2).is_empty(), "the first may yet be refused, and would come behind it");
    stage.refuses(client, 1, 6);
    assert_eq!(stage.at(client, 2), [[1]]);
    stage.acks(client, 2);
    assert_eq!(stage.at(client, 2), [[2]]);
    stage.acks(client, 2);
    assert_eq!(stage.errors(client), [0, 0]);
}

#[test]
fn an_idempotent_batch_does_not_wait_for_a_broker_that_leads_no_more_and_those_behind_it_wait_for_it() {
    let mut stage = Stage::new();
    let client = on_the_slow_path(&mut stage);
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    stage.moves_for_all("t", 0, 2);
    stage.sends(client, &Produce::of([numbered(7, 0, 2)]));
    assert_eq!((stage.at(client, 1), stage.at(client, 2)), (vec![vec![1]], vec![vec![1]]));
    // The old broker's answer is nobody's, whatever it says.
    stage.refuses(client, 1, 6);
    assert!(stage.errors(client).is_empty());
    assert!(stage.at(client, 2).len() == 1, "a new leader would take the second for the first");
    stage.acks(client, 2);
    assert_eq!(stage.at(client, 2), [[2]]);
    stage.acks(client, 2);
    assert_eq!(stage.errors(client), [0, 0]);
}

#[test]
fn a_producers_batches_keep_their_order_over_connections_and_versions() {
    for (first, second) in [(9, 9), (13, 9), (9, 13)] {
        let mut stage = Stage::new();
        let (a, b) = (stage.client(), stage.client());
        stage.sends(a, &Produce { version: first, ..Produce::of([numbered(7, 0, 1)]) });
        stage.refuses(a, 1, 6);
        stage.sends(b, &Produce { version: second, ..Produce::of([numbered(7, 0, 2)]) });
        stage.moves_for_all("t", 0, 2);
        assert_eq!(stage.at(a, 2), [[1]]);
        assert!(stage.at(b, 1).is_empty() && stage.at(b, 2).is_empty(), "{first} {second}: a new leader would take it, and lose the other");
        stage.acks(a, 2);
        assert_eq!(stage.at(b, 2), [[2]]);
    }
}

#[test]
fn other_producers_partitions_and_connections_do_not_wait() {
    let mut stage = Stage::new();
    let (a, b) = (stage.client(), stage.client());
    stage.sends(a, &Produce::of([numbered(7, 0, 1)]));
    stage.sends(a, &Produce::of([plain(1, 2)]));
    stage.refuses(a, 1, 6);
    stage.refuses(a, 1, 6);
    stage.sends(b, &Produce::of([numbered(8, 0, 3)]));
    stage.sends(b, &Produce::of([numbered(7, 2, 4)]));
    stage.sends(b, &Produce::of([plain(1, 5)]));
    assert_eq!(stage.at(b, 1), [[3], [4], [5]]);
}

#[test]
fn a_healthy_partition_of_the_same_request_goes_on() {
    let mut stage = Stage::new();
    let (a, b) = (stage.client(), stage.client());
    stage.sends(a, &Produce::of([numbered(7, 0, 1)]));
    stage.refuses(a, 1, 6);
    stage.sends(b, &Produce::of([numbered(7, 0, 2), numbered(7, 1, 3)]));
    assert_eq!(stage.at(b, 1), [[3]]);
}

#[test]
fn tickets_are_released_at_the_deadline() {
    let (mut stage, a) = Stage::with_client();
    stage.sends(a, &Produce::of([numbered(7, 0, 1)]));
    stage.refuses(a, 1, 6);
    stage.moves_for_all("t", 0, 2);
    stage.pass(20 * S);
    let b = stage.client();
    stage.sends(b, &Produce::of([numbered(7, 0, 2)]));
    stage.pass(9 * S);
    assert!(stage.at(b, 2).is_empty());
    stage.pass(S);
    assert_eq!((stage.errors(a), stage.at(b, 2)), (vec![7], vec![vec![2]]));
}

#[test]
fn tickets_are_released_when_their_session_ends() {
    let mut stage = Stage::new();
    let (a, b) = (stage.client(), stage.client());
    stage.sends(a, &Produce::of([numbered(7, 0, 1)]));
    stage.refuses(a, 1, 6);
    stage.sends(b, &Produce::of([numbered(7, 0, 2)]));
    stage.moves_for_all("t", 0, 2);
    assert!(stage.at(b, 2).is_empty());
    stage.drops(a);
    assert_eq!(stage.at(b, 2), [[2]]);
    assert_eq!(stage.gate.tickets(), 1);
}

#[test]
fn tickets_are_released_when_the_verdict_is_read_and_not_when_it_is_delivered() {
    let mut stage = Stage::new();
    let (a, b) = (stage.client(), stage.client());
    stage.sends(a, &Produce::of([numbered(7, 1, 9)]));
    stage.sends(a, &Produce::of([numbered(7, 0, 1)]));
    stage.refuses(a, 1, 6);
    stage.refuses(a, 1, 6);
    stage.sends(b, &Produce::of([numbered(7, 0, 2)]));
    stage.moves("t", 1, 3);
    stage.moves("t", 0, 2);
    stage.tell();
    stage.acks(a, 2);
    assert!(stage.told(a).is_empty(), "the answer before it is not there");
    assert_eq!(stage.at(b, 2), [[2]]);
}

#[test]
fn parts_of_a_lost_connection_go_in_the_order_of_their_arrival() {
    let (mut stage, client) = Stage::with_client();
    for tag in 1..=3 {
        stage.sends(client, &Produce::of([numbered(7, 0, tag), numbered(7, 1, tag)]));
    }
    stage.loses(client, 1, Written::Requests(2));
    stage.departs(1, 2);
    stage.moves("t", 1, 3);
    stage.tell();
    assert_eq!((stage.at(client, 2), stage.at(client, 3)), (vec![vec![1]], vec![vec![1]]));
    stage.acks(client, 3);
    assert_eq!((stage.at(client, 2), stage.at(client, 3)), (vec![vec![1]], vec![vec![2], vec![3]]), "each partition by itself");
    stage.acks(client, 2);
    assert_eq!(stage.at(client, 2), [[2], [3]]);
}

#[test]
fn everything_is_given_back_in_the_end() {
    let mut stage = Stage::new();
    let (a, b) = (stage.client(), stage.client());
    for tag in 1..=3 {
        stage.sends(a, &Produce::of([numbered(7, 0, tag), plain(1, tag)]));
        stage.sends(b, &Produce::of([numbered(7, 2, tag), plain(1, tag)]));
    }
    assert!(stage.gate.kept_bytes() > 0);
    for client in [a, b] {
        stage.loses(client, 1, Written::All);
    }
    assert!(stage.gate.tickets() > 0 && stage.gate.is_moving());
    stage.departs(1, 2);
    stage.tell();
    for client in [a, b] {
        for _ in 1..=3 {
            stage.acks(client, 2);
        }
        assert_eq!(stage.errors(client), [0; 6]);
    }
    assert_eq!((stage.gate.tickets(), stage.gate.kept_bytes(), stage.gate.is_moving()), (0, 0, false));
}

#[test]
fn what_was_refused_at_home_is_not_followed_there_either_before_it_is_acknowledged() {
    let (mut stage, client) = Stage::with_client();
    for tag in 1..=3 {
        stage.sends(client, &Produce::of([plain(0, tag)]));
    }
    for _ in 1..=3 {
        stage.refuses(client, 1, 6);
    }
    // It leads again, as the cluster says, and may be the last to hear of it: it could refuse the first and take the second.
    stage.moves_for_all("t", 0, 1);
    assert_eq!(stage.at(client, 1), [[1]]);
    stage.acks(client, 1);
    assert_eq!(stage.at(client, 1), [[2], [3]]);
}

#[test]
fn at_the_first_refusal_all_that_is_kept_gets_in_line_though_it_is_for_the_client() {
    let (mut stage, client) = Stage::with_client();
    let other = stage.client();
    for tag in 1..=2 {
        stage.sends(client, &Produce::of([numbered(7, 0, tag)]));
    }
    stage.sends(other, &Produce::of([plain(1, 1)]));
    stage.refuses(other, 1, 6);
    stage.refuses(client, 1, 45);
    assert_eq!(stage.errors(client), [45], "nothing was before it");
    // What is behind it is not left with a leader that leads no more.
    stage.moves_for_all("t", 0, 2);
    assert_eq!(stage.at(client, 2), [[2]]);
}
