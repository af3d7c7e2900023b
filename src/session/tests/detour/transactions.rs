//! The end of a transaction: no batch lands behind its marker.

use bytes::Bytes;
use kafka_protocol::messages::{EndTxnRequest, InitProducerIdRequest, ProducerId, TransactionalId};

use super::bench::Stage;
use super::frames::{Produce, numbered, request_frame, text};
use crate::wire::ApiKey;

fn end_txn(correlation_id: i32, producer_id: i64) -> Bytes {
    let request = EndTxnRequest::default()
        .with_transactional_id(TransactionalId(text("tx")))
        .with_producer_id(ProducerId(producer_id))
        .with_committed(false);
    request_frame(ApiKey::END_TXN, 3, correlation_id, &request)
}

fn init_producer_id(correlation_id: i32, producer_id: i64) -> Bytes {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(TransactionalId(text("tx"))))
        .with_transaction_timeout_ms(1000)
        .with_producer_id(ProducerId(producer_id))
        .with_producer_epoch(0);
    request_frame(ApiKey::INIT_PRODUCER_ID, 4, correlation_id, &request)
}

/// How many requests other than produce this broker has.
fn others_at(stage: &mut Stage, client: usize, node: i32) -> usize {
    if !stage.has_wire(client, node) {
        return 0;
    }
    stage.wire(client, node).unanswered.iter().filter(|frame| frame[4..6] != [0, 0]).count()
}

#[test]
fn it_cancels_what_is_not_sent_in_all_sessions() {
    for ending in [end_txn, init_producer_id] {
        let mut stage = Stage::new();
        let (a, b) = (stage.client(), stage.client());
        stage.sends(a, &Produce { transactional_id: Some("tx"), ..Produce::of([numbered(7, 0, 1)]) });
        stage.refuses(a, 1, 6);
        stage.fresh(a);
        let correlation_id = stage.next_correlation_id(b);
        stage.sends_frame(b, ending(correlation_id, 7));
        assert_eq!(stage.errors(a), [6]);
        assert_eq!(others_at(&mut stage, b, 1), 1, "and goes on at once");
        stage.moves_for_all("t", 0, 2);
        assert!(!stage.has_wire(a, 2), "nothing of it lands any more");
    }
}

#[test]
fn what_went_the_fast_way_in_another_session_is_not_sent_again_behind_it() {
    let mut stage = Stage::new();
    let (a, b, other) = (stage.client(), stage.client(), stage.client());
    stage.sends(a, &Produce::of([numbered(7, 0, 1)]));
    stage.sends(other, &Produce::of([numbered(9, 1, 1)]));
    stage.refuses(other, 1, 6);
    let correlation_id = stage.next_correlation_id(b);
    stage.sends_frame(b, end_txn(correlation_id, 7));
    assert_eq!(others_at(&mut stage, b, 1), 1, "nothing of it is in line");
    stage.refuses(a, 1, 6);
    assert_eq!(stage.errors(a), [6]);
    stage.moves_for_all("t", 0, 2);
    assert!(!stage.has_wire(a, 2), "nothing of it lands any more");
    // The next transaction is another matter.
    stage.sends(a, &Produce::of([numbered(7, 0, 2)]));
    assert_eq!(stage.at(a, 2), [[2]]);
}

#[test]
fn it_cancels_what_waits_for_news_too() {
    let mut stage = Stage::new();
    let (a, b) = (stage.client(), stage.client());
    stage.sends(a, &Produce::of([numbered(7, 0, 1)]));
    stage.refuses(a, 1, 6);
    assert_eq!(stage.asked_partitions(a).len(), 1, "which may take its time");
    let correlation_id = stage.next_correlation_id(b);
    stage.sends_frame(b, end_txn(correlation_id, 7));
    assert_eq!((stage.errors(a), others_at(&mut stage, b, 1)), (vec![6], 1));
}

#[test]
fn it_waits_for_what_is_sent() {
    for ending in [end_txn, init_producer_id] {
        let mut stage = Stage::new();
        let (a, b) = (stage.client(), stage.client());
        stage.sends(a, &Produce::of([numbered(7, 0, 1), numbered(7, 1, 1)]));
        stage.refuses(a, 1, 6);
        stage.moves("t", 0, 2);
        stage.moves("t", 1, 3);
        stage.tell();
        let correlation_id = stage.next_correlation_id(b);
        stage.sends_frame(b, ending(correlation_id, 7));
        stage.acks(a, 2);
        assert_eq!(others_at(&mut stage, b, 1), 0, "another may land yet");
        stage.acks(a, 3);
        assert_eq!(others_at(&mut stage, b, 1), 1);
        assert_eq!(stage.errors(a), [0, 0]);
    }
}

#[test]
fn in_its_own_session_too() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    stage.sends(client, &Produce::of([numbered(7, 1, 1)]));
    stage.refuses(client, 1, 6);
    stage.refuses(client, 1, 6);
    stage.moves_for_all("t", 1, 3);
    let correlation_id = stage.next_correlation_id(client);
    stage.sends_frame(client, end_txn(correlation_id, 7));
    assert_eq!(others_at(&mut stage, client, 1), 0);
    stage.acks(client, 3);
    assert_eq!(others_at(&mut stage, client, 1), 1);
    assert_eq!(stage.errors(client), [6, 0]);
}

#[test]
fn what_is_refused_while_it_waits_is_not_sent_again() {
    let mut stage = Stage::new();
    let (a, b) = (stage.client(), stage.client());
    stage.sends(a, &Produce::of([numbered(7, 0, 1)]));
    stage.refuses(a, 1, 6);
    stage.moves_for_all("t", 0, 2);
    let correlation_id = stage.next_correlation_id(b);
    stage.sends_frame(b, end_txn(correlation_id, 7));
    stage.refuses(a, 2, 6);
    stage.moves_for_all("t", 0, 3);
    assert!(!stage.has_wire(a, 3));
    assert_eq!((stage.errors(a), others_at(&mut stage, b, 1)), (vec![6], 1));
}

#[test]
fn another_producers_end_waits_for_nobody() {
    let mut stage = Stage::new();
    let (a, b) = (stage.client(), stage.client());
    stage.sends(a, &Produce::of([numbered(7, 0, 1)]));
    stage.refuses(a, 1, 6);
    let correlation_id = stage.next_correlation_id(b);
    stage.sends_frame(b, end_txn(correlation_id, 8));
    assert_eq!(others_at(&mut stage, b, 1), 1);
    assert!(stage.errors(a).is_empty());
}

#[test]
fn it_waits_no_longer_than_the_batches_deadline() {
    let mut stage = Stage::new();
    let (a, b) = (stage.client(), stage.client());
    stage.sends(a, &Produce::of([numbered(7, 0, 1)]));
    stage.refuses(a, 1, 6);
    stage.moves_for_all("t", 0, 2);
    let correlation_id = stage.next_correlation_id(b);
    stage.sends_frame(b, end_txn(correlation_id, 7));
    stage.pass(std::time::Duration::from_secs(30));
    assert_eq!((stage.errors(a), others_at(&mut stage, b, 1)), (vec![7], 1));
}
