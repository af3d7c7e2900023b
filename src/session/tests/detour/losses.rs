//! Connections that are lost: what was not applied, what may have been, and what is final.

use super::bench::{MS, Stage};
use super::brokers::{End, Written};
use super::frames::{Produce, numbered, plain};
use crate::session::{Ambiguous, CloseReason, Note};

fn resends(notes: &[Note]) -> Vec<bool> {
    let resend = |note: &Note| match note {
        Note::AmbiguousResend { idempotent } => Some(*idempotent),
        _ => None,
    };
    notes.iter().filter_map(resend).collect()
}

fn stage_with(ambiguous: Ambiguous) -> (Stage, usize) {
    let mut stage = Stage::new();
    stage.detours.ambiguous = ambiguous;
    let client = stage.client();
    (stage, client)
}

#[test]
fn what_was_not_written_whole_was_not_applied_and_is_sent_again() {
    for written in [Written::Nothing, Written::Requests(0)] {
        let (mut stage, client) = stage_with(Ambiguous::Fail);
        stage.sends(client, &Produce::of([plain(0, 1)]));
        stage.loses(client, 1, written);
        stage.departs(1, 2);
        stage.tell();
        assert_eq!((stage.closed(client), stage.at(client, 2)), (None, vec![vec![1]]), "{written:?}");
        assert!(resends(&stage.notes(client)).is_empty());
        stage.acks(client, 2);
        assert_eq!(stage.errors(client), [0]);
    }
}

#[test]
fn a_numbered_batch_that_may_be_applied_is_sent_again_with_the_same_bytes() {
    for ambiguous in [Ambiguous::Resend, Ambiguous::Fail] {
        let (mut stage, client) = stage_with(ambiguous);
        let produce = Produce::of([numbered(7, 0, 1), numbered(7, 1, 1)]);
        let correlation_id = stage.sends(client, &produce);
        stage.loses(client, 1, Written::All);
        stage.departs(1, 2);
        stage.tell();
        assert_eq!(stage.closed(client), None);
        assert_eq!(stage.wire(client, 2).unanswered, [produce.frame(correlation_id)]);
        assert_eq!(resends(&stage.notes(client)), [true, true]);
        stage.acks(client, 2);
        assert_eq!(stage.errors(client), [0, 0]);
    }
}

#[test]
fn a_plain_batch_that_may_be_applied_is_sent_again_or_not_as_configured() {
    let (mut stage, client) = stage_with(Ambiguous::Resend);
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.loses(client, 1, Written::All);
    stage.departs(1, 2);
    stage.tell();
    assert_eq!(stage.at(client, 2), [[1]]);
    assert_eq!(resends(&stage.notes(client)), [false]);

    let (mut stage, client) = stage_with(Ambiguous::Fail);
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.loses(client, 1, Written::All);
    assert_eq!(stage.closed(client), Some(CloseReason::AmbiguousProduce));
    assert_eq!(stage.gate.tickets(), 0);
}

#[test]
fn only_what_was_written_is_ambiguous() {
    let (mut stage, client) = stage_with(Ambiguous::Resend);
    for tag in 1..=3 {
        stage.sends(client, &Produce::of([plain(0, tag)]));
    }
    stage.loses(client, 1, Written::Requests(1));
    stage.departs(1, 2);
    stage.tell();
    stage.acks(client, 2);
    assert_eq!(stage.at(client, 2), [[2], [3]]);
    stage.acks(client, 2);
    stage.acks(client, 2);
    assert_eq!(stage.errors(client), [0, 0, 0]);
    assert_eq!(resends(&stage.notes(client)), [false], "the first");
}

#[test]
fn a_refusal_with_an_offset_may_have_been_applied() {
    let appended = |stage: &mut Stage, client| stage.says(client, 1, |_, _| (6, 4));

    let (mut stage, client) = stage_with(Ambiguous::Fail);
    stage.sends(client, &Produce::of([plain(0, 1)]));
    appended(&mut stage, client);
    assert_eq!(stage.errors(client), [6], "the client decides");

    for (batch, is_numbered) in [(plain(0, 1), false), (numbered(7, 0, 1), true)] {
        let (mut stage, client) = stage_with(Ambiguous::Resend);
        stage.sends(client, &Produce::of([batch]));
        appended(&mut stage, client);
        stage.moves_for_all("t", 0, 2);
        assert_eq!(stage.at(client, 2), [[1]]);
        assert_eq!(resends(&stage.notes(client)), [is_numbered]);
    }

    // Without one it was not.
    let (mut stage, client) = stage_with(Ambiguous::Fail);
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.refuses(client, 1, 6);
    stage.moves_for_all("t", 0, 2);
    assert_eq!(stage.at(client, 2), [[1]]);
    assert!(resends(&stage.notes(client)).is_empty());
}

#[test]
fn what_speaks_of_data_or_rights_is_final() {
    for error in [7, 10, 22, 29, 46, 47, 59, 87, 90] {
        let (mut stage, client) = Stage::with_client();
        stage.sends(client, &Produce::of([numbered(7, 0, 1), plain(1, 2)]));
        stage.says(client, 1, |_, partition| if partition == 0 { (error, -1) } else { (6, -1) });
        stage.moves_for_all("t", 1, 2);
        stage.acks(client, 2);
        assert_eq!(stage.errors(client), [error, 0]);
    }
}

#[test]
fn a_detours_leg_may_be_lost_too() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1), numbered(7, 1, 1)]));
    stage.refuses(client, 1, 6);
    stage.moves("t", 0, 2);
    stage.moves("t", 1, 3);
    stage.tell();
    stage.acks(client, 3);
    stage.loses(client, 2, Written::All);
    stage.departs(2, 3);
    stage.tell();
    assert_eq!(stage.at(client, 3), [[1]], "only what was lost");
    stage.acks(client, 3);
    assert_eq!(stage.errors(client), [0, 0]);
}

#[test]
fn a_request_that_takes_its_connection_down_each_time_is_not_sent_for_ever() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    let mut sent = 0;
    while stage.closed(client).is_none() {
        stage.until_at(client, 1);
        sent += 1;
        assert!(sent < 20, "it goes on and on");
        stage.loses(client, 1, Written::All);
    }
    assert_eq!(stage.closed(client), Some(CloseReason::UpstreamClosed));
    assert!(sent > 3, "{sent}");
}

#[test]
fn connections_are_not_shared_and_a_lost_one_is_anothers_no_more() {
    let mut stage = Stage::new();
    let (a, b) = (stage.client(), stage.client());
    for client in [a, b] {
        stage.sends(client, &Produce::of([plain(0, 1)]));
        stage.refuses(client, 1, 6);
    }
    stage.moves_for_all("t", 0, 2);
    stage.loses(a, 2, Written::All);
    assert_eq!((stage.ends(a, 2).first(), stage.ends(b, 2).first()), (Some(&End::Lost), Some(&End::Up)));
    stage.acks(b, 2);
    assert_eq!(stage.errors(b), [0]);
}

#[test]
fn a_refusal_that_is_passed_on_does_not_hide_that_an_earlier_send_may_have_been_applied() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1), numbered(7, 1, 1)]));
    stage.sends(client, &Produce::of([numbered(8, 0, 1)]));
    stage.says(client, 1, |_, partition| if partition == 0 { (6, -1) } else { (0, 7) });
    stage.says(client, 1, |_, _| (6, 5));
    stage.fresh(client);
    stage.pass(100 * MS);
    assert_eq!(stage.at(client, 1), [[1], [1]], "nobody else leads: both are tried again there");
    // The first is given up, and with it the partition: refusals are for the client from here on.
    stage.says_newest(client, (6, -1));
    stage.pass(stage.detours.hold_mixed);
    assert_eq!(stage.told(client), [[(0, 6), (1, 0)]]);
    stage.refuses(client, 1, 6);
    assert_eq!(stage.errors(client), [7], "the first of its two sends had got an offset");
}
