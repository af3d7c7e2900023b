//! Bounds on what is kept for another sending.

use std::sync::Arc;

use super::bench::Stage;
use super::brokers::Written;
use super::frames::{Produce, plain};
use crate::session::{CloseReason, Gate, Note};

fn large(partition: i32, tag: u8) -> Produce {
    Produce::of([plain(partition, tag).of_bytes(2000)])
}

#[test]
fn over_the_sessions_bound_a_request_is_forwarded_and_a_lost_leg_closes_the_client() {
    for over in [false, true] {
        let mut stage = Stage::new();
        stage.limits.max_kept_bytes = if over { 3000 } else { 6000 };
        let client = stage.client();
        stage.sends(client, &large(0, 1));
        stage.sends(client, &large(0, 2));
        assert_eq!(stage.at(client, 1), [[1], [2]]);
        assert_eq!(stage.notes(client).contains(&Note::BudgetRefused), over);
        stage.loses(client, 1, Written::All);
        assert_eq!(stage.closed(client), over.then_some(CloseReason::UpstreamClosed));
    }
}

#[test]
fn over_the_processs_bound_too() {
    let mut stage = Stage::new();
    stage.gate = Arc::new(Gate::new(3000));
    let (a, b) = (stage.client(), stage.client());
    stage.sends(a, &large(0, 1));
    stage.sends(b, &large(0, 2));
    assert_eq!(stage.at(b, 1), [[2]]);
    stage.loses(a, 1, Written::All);
    assert_eq!(stage.closed(a), None, "its request was kept");
    stage.loses(b, 1, Written::All);
    assert_eq!(stage.closed(b), Some(CloseReason::UpstreamClosed));
    stage.departs(1, 2);
    stage.tell();
    stage.acks(a, 2);
    assert_eq!((stage.errors(a), stage.gate.kept_bytes()), (vec![0], 0));
}

#[test]
fn what_is_answered_makes_room() {
    let mut stage = Stage::new();
    stage.limits.max_kept_bytes = 3000;
    let client = stage.client();
    for tag in 1..20 {
        stage.sends(client, &large(0, tag));
        stage.acks(client, 1);
    }
    assert!(!stage.notes(client).contains(&Note::BudgetRefused));
    assert_eq!(stage.gate.kept_bytes(), 0);
}

#[test]
fn on_the_slow_path_the_client_is_not_read_until_there_is_room() {
    let mut stage = Stage::new();
    stage.limits.max_kept_bytes = 5000;
    let client = stage.client();
    stage.sends(client, &large(0, 1));
    stage.refuses(client, 1, 6);
    stage.sends(client, &large(0, 2));
    assert!(stage.is_read(client));
    stage.sends(client, &large(0, 3));
    assert!(!stage.is_read(client), "it would have nowhere to go");
    assert!(stage.gate.kept_bytes() <= 5000);
    stage.moves_for_all("t", 0, 2);
    stage.acks(client, 2);
    assert!(stage.is_read(client));
    stage.acks(client, 2);
    stage.acks(client, 2);
    assert_eq!((stage.errors(client), stage.closed(client)), (vec![0, 0, 0], None));
}

#[test]
fn room_that_others_take_is_looked_for_again() {
    let mut stage = Stage::new();
    stage.gate = Arc::new(Gate::new(7000));
    let (a, b) = (stage.client(), stage.client());
    stage.sends(b, &large(1, 9));
    stage.refuses(b, 1, 6);
    stage.sends(a, &large(0, 1));
    stage.sends(a, &large(0, 2));
    stage.sends(b, &large(2, 10));
    assert!(!stage.is_read(b));
    stage.acks(a, 1);
    stage.acks(a, 1);
    stage.pass(super::bench::MS * 60);
    assert!(stage.is_read(b));
}

#[test]
fn on_the_slow_path_one_request_is_let_in_whatever_its_size() {
    let mut stage = Stage::new();
    stage.gate = Arc::new(Gate::new(1000));
    stage.limits.max_kept_bytes = 1000;
    let client = stage.client();
    stage.sends(client, &Produce::of([plain(1, 9)]));
    stage.refuses(client, 1, 6);
    stage.moves_for_all("t", 1, 2);
    stage.acks(client, 2);
    stage.moves_for_all("t", 0, 2);
    stage.sends(client, &large(0, 1));
    assert_eq!(stage.at(client, 2), [[1]]);
    stage.acks(client, 2);
    assert_eq!((stage.errors(client), stage.gate.kept_bytes()), (vec![0, 0], 0));
}
