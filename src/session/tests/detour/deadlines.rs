//! How long a client is held, and what it is told at the end.

use std::time::Duration;

use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::bench::{MS, Stage};
use super::brokers::Written;
use super::frames::{Produce, numbered, plain, request_frame, response_frame, text};
use crate::session::Note;
use crate::wire::ApiKey;

const S: Duration = Duration::from_secs(1);

#[test]
fn what_is_not_applied_is_refused_at_the_deadline_with_the_true_error() {
    for error in [6, 5, 56] {
        let (mut stage, client) = Stage::with_client();
        stage.sends(client, &Produce::of([plain(0, 1)]));
        stage.refuses(client, 1, error);
        stage.pass(29 * S);
        assert!(stage.errors(client).is_empty(), "the client waits for 30 s");
        stage.pass(S);
        assert_eq!(stage.errors(client), [error]);
        assert!(stage.notes(client).contains(&Note::DeadlineMissed));
        assert_eq!(stage.gate.tickets(), 0);
    }
}

#[test]
fn states_that_did_not_pass_are_told_as_they_are() {
    for error in [3, 19] {
        let (mut stage, client) = Stage::with_client();
        stage.sends(client, &Produce::of([plain(0, 1)]));
        stage.refuses(client, 1, 6);
        stage.fresh(client);
        stage.pass(50 * MS);
        stage.refuses(client, 1, error);
        stage.pass(30 * S);
        assert_eq!(stage.errors(client), [error]);
    }
}

#[test]
fn what_may_be_applied_times_out() {
    // On the wire.
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    stage.refuses(client, 1, 6);
    stage.moves_for_all("t", 0, 2);
    assert_eq!(stage.at(client, 2), [[1]]);
    stage.pass(30 * S);
    assert_eq!(stage.errors(client), [7]);

    // Was on the wire when its connection was lost.
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    stage.refusing.extend([1, 2, 3]);
    stage.loses(client, 1, Written::All);
    stage.pass(30 * S);
    assert_eq!(stage.errors(client), [7]);

    // Was appended by a leader that lost its place before others had it.
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    stage.says(client, 1, |_, _| (6, 4));
    stage.pass(30 * S);
    assert_eq!(stage.errors(client), [7]);
}

#[test]
fn a_late_answer_is_nobodys() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    stage.refuses(client, 1, 6);
    stage.moves_for_all("t", 0, 2);
    stage.pass(29 * S + 800 * MS);
    assert_eq!(stage.errors(client), [7]);
    stage.acks(client, 2);
    assert!(stage.errors(client).is_empty());
    assert_eq!(stage.closed(client), None);
    stage.sends(client, &Produce::of([numbered(7, 0, 1)]));
    stage.acks(client, 2);
    assert_eq!(stage.errors(client), [0]);
}

/// The client says what it is.
fn introduces(stage: &mut Stage, client: usize, software: &str) {
    let correlation_id = stage.next_correlation_id(client);
    let request = ApiVersionsRequest::default().with_client_software_name(text(software)).with_client_software_version(text("1.0"));
    stage.sends_frame(client, request_frame(ApiKey::API_VERSIONS, 3, correlation_id, &request));
    let leg = stage.wire(client, 1).id;
    stage.wire(client, 1).unanswered.pop_front().expect("it is asked");
    stage.answers(client, leg, response_frame(3, correlation_id, &ApiVersionsResponse::default()));
    assert_eq!(stage.told_frames(client).len(), 1);
}

#[test]
fn each_client_is_held_as_long_as_it_waits() {
    for (software, waits) in [("kgo", 20 * S), ("sarama", 30 * S), ("apache-kafka-java", 10 * S), ("", 10 * S)] {
        let (mut stage, client) = Stage::with_client();
        if !software.is_empty() {
            introduces(&mut stage, client, software);
        }
        stage.sends(client, &Produce { timeout_ms: 10_000, ..Produce::of([plain(0, 1)]) });
        stage.refuses(client, 1, 6);
        stage.pass(waits - 501 * MS);
        assert!(stage.errors(client).is_empty(), "{software} waits for {waits:?}");
        stage.pass(2 * MS);
        assert_eq!(stage.errors(client), [6], "{software} waits for {waits:?}");
    }
}

#[test]
fn the_configuration_may_know_a_clients_patience_better() {
    let mut stage = Stage::new();
    stage.detours.patience = Some(2 * S);
    let client = stage.client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.refuses(client, 1, 6);
    stage.pass(1799 * MS);
    assert!(stage.errors(client).is_empty());
    stage.pass(2 * MS);
    assert_eq!(stage.errors(client), [6]);
}

#[test]
fn the_time_counts_from_the_requests_arrival() {
    let (mut stage, client) = Stage::with_client();
    stage.detours.suspect_after = 60 * S;
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.pass(20 * S);
    stage.refuses(client, 1, 6);
    stage.pass(10 * S);
    assert_eq!(stage.errors(client), [6]);
}

#[test]
fn a_request_without_any_result_is_held_whatever_queues_behind_it() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1), plain(1, 2)]));
    stage.sends(client, &Produce::of([plain(2, 3)]));
    stage.refuses(client, 1, 6);
    stage.acks(client, 1);
    stage.pass(29 * S);
    assert!(stage.told(client).is_empty(), "a 6 sent early is what stalls clients");
    stage.pass(S);
    assert_eq!(stage.told(client), [vec![(0, 6), (1, 6)], vec![(2, 0)]]);
}

#[test]
fn a_request_with_results_waits_for_the_others_only_a_while() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1), plain(1, 2)]));
    stage.says(client, 1, |_, partition| if partition == 0 { (6, -1) } else { (0, 7) });
    stage.pass(stage.detours.hold_mixed - MS);
    assert!(stage.told(client).is_empty());
    stage.pass(MS);
    assert_eq!(stage.told(client), [[(0, 6), (1, 0)]]);
    stage.moves_for_all("t", 0, 2);
    assert!(!stage.has_wire(client, 2), "what the client was told of is its own again");
}

#[test]
fn a_leader_that_is_well_may_take_its_time_though_others_have_answered() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1), plain(1, 2)]));
    stage.says(client, 1, |_, partition| if partition == 0 { (6, -1) } else { (0, 7) });
    stage.moves_for_all("t", 0, 2);
    assert_eq!(stage.at(client, 2), [[1]]);
    // It waits for a dead follower, say.
    stage.pass(stage.detours.hold_mixed * 3);
    assert!(stage.told(client).is_empty());
    stage.acks(client, 2);
    assert_eq!(stage.told(client), [[(0, 0), (1, 0)]]);
}

#[test]
fn a_partition_that_was_given_up_passes_its_errors_until_the_view_changes() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1), plain(1, 2)]));
    stage.says(client, 1, |_, partition| if partition == 0 { (6, -1) } else { (0, 7) });
    stage.pass(2 * S);
    assert_eq!(stage.told(client).len(), 1);

    stage.sends(client, &Produce::of([plain(0, 3)]));
    stage.refuses(client, 1, 6);
    assert_eq!(stage.errors(client), [6], "at once");
    // The other is not given up.
    stage.sends(client, &Produce::of([plain(1, 4)]));
    stage.refuses(client, 1, 6);
    assert!(stage.errors(client).is_empty());

    stage.moves_for_all("t", 0, 2);
    stage.sends(client, &Produce::of([plain(0, 5)]));
    stage.refuses(client, 2, 6);
    stage.moves_for_all("t", 1, 3);
    stage.acks(client, 3);
    assert_eq!(stage.errors(client), [0], "the one after it is held again");
}
