//! 45 (OUT_OF_ORDER_SEQUENCE_NUMBER): whose fault it is.

use std::time::Duration;

use super::bench::{MS, Stage};
use super::frames::{Produce, numbered, plain};

const S: Duration = Duration::from_secs(1);

#[test]
fn a_45_behind_a_refused_predecessor_is_sent_again_after_it() {
    let (mut stage, client) = Stage::with_client();
    for tag in 1..=3 {
        stage.sends(client, &Produce::of([numbered(7, 0, tag)]));
    }
    stage.refuses(client, 1, 6);
    stage.refuses(client, 1, 45);
    stage.refuses(client, 1, 45);
    stage.moves_for_all("t", 0, 2);
    assert_eq!(stage.at(client, 2), [[1]]);
    stage.acks(client, 2);
    assert_eq!(stage.at(client, 2), [[2], [3]]);
    stage.acks(client, 2);
    stage.acks(client, 2);
    assert_eq!(stage.errors(client), [0, 0, 0]);
}

#[test]
fn a_45_may_come_long_after_the_predecessor_has_settled() {
    let mut stage = Stage::new();
    stage.detours.suspect_after = 60 * S;
    let client = stage.client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    stage.sends(client, &Produce::of([numbered(7, 0, 2)]));
    stage.refuses(client, 1, 6);
    stage.moves_for_all("t", 0, 2);
    stage.acks(client, 2);
    assert_eq!(stage.errors(client), [0]);
    stage.pass(20 * S);
    stage.refuses(client, 1, 45);
    assert_eq!(stage.at(client, 2), [[2]]);
    stage.acks(client, 2);
    assert_eq!(stage.errors(client), [0]);
}

#[test]
fn a_45_that_is_read_after_the_predecessor_has_settled_is_sent_again_though_nobody_else_leads() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1), numbered(7, 1, 1)]));
    stage.sends(client, &Produce::of([numbered(7, 0, 2)]));
    stage.says(client, 1, |_, partition| if partition == 0 { (6, -1) } else { (0, 7) });
    // It leads on, as it says itself; what it refused goes to it over a detour's leg, past its other answers.
    stage.fresh(client);
    stage.pass(100 * MS);
    assert_eq!(stage.at(client, 1), [[2], [1]]);
    stage.says_newest(client, (0, 7));
    assert_eq!(stage.errors(client), [0, 0]);
    assert_eq!(stage.gate.tickets(), 1);
    stage.refuses(client, 1, 45);
    assert!(stage.errors(client).is_empty(), "it was sent before its predecessor was there");
    assert_eq!(stage.at(client, 1), [[2]]);
    stage.acks(client, 1);
    assert_eq!(stage.errors(client), [0]);
}

#[test]
fn any_other_45_passes() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    stage.refuses(client, 1, 45);
    assert_eq!(stage.errors(client), [45]);

    // Near a departure, too: nothing of its partition has moved.
    stage.sends(client, &Produce::of([plain(1, 2)]));
    stage.refuses(client, 1, 6);
    stage.sends(client, &Produce::of([numbered(7, 0, 3)]));
    stage.refuses(client, 1, 45);
    stage.moves_for_all("t", 1, 2);
    stage.acks(client, 2);
    assert_eq!(stage.errors(client), [0, 45]);

    // Sent after its predecessor had settled, it is the client's own.
    stage.sends(client, &Produce::of([numbered(8, 2, 1)]));
    stage.refuses(client, 1, 6);
    stage.moves_for_all("t", 2, 3);
    stage.acks(client, 3);
    stage.sends(client, &Produce::of([numbered(8, 2, 3)]));
    stage.refuses(client, 3, 45);
    assert_eq!(stage.errors(client), [0, 45]);
}

#[test]
fn a_second_45_passes() {
    let (mut stage, client) = Stage::with_client();
    for tag in 1..=3 {
        stage.sends(client, &Produce::of([numbered(7, 0, tag)]));
    }
    stage.refuses(client, 1, 6);
    stage.refuses(client, 1, 45);
    stage.refuses(client, 1, 45);
    stage.moves_for_all("t", 0, 2);
    stage.acks(client, 2);
    assert_eq!(stage.at(client, 2), [[2], [3]]);
    stage.refuses(client, 2, 6);
    stage.refuses(client, 2, 45);
    stage.moves_for_all("t", 0, 3);
    assert_eq!(stage.at(client, 3), [[2]]);
    stage.acks(client, 3);
    assert_eq!(stage.errors(client), [0, 0, 45]);
}
