//! Metadata that names a leader under suspicion waits a little.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::MetadataRequest;

use super::bench::{MS, Stage};
use super::frames::{Produce, plain, request_frame};
use crate::session::Note;
use crate::wire::ApiKey;

fn metadata(correlation_id: i32) -> Bytes {
    request_frame(ApiKey::METADATA, 9, correlation_id, &MetadataRequest::default().with_topics(None))
}

/// Broker 1 has refused a batch of `t` 0, and its client asks who leads; the answer is with broker 1.
fn asking() -> (Stage, usize) {
    let mut stage = Stage::new();
    // Only the second client asks: its own refused batch is before the answer in line.
    let client = stage.client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.refuses(client, 1, 6);
    let correlation_id = stage.next_correlation_id(client);
    stage.sends_frame(client, metadata(correlation_id));
    (stage, client)
}

fn was_held(stage: &mut Stage, client: usize) -> bool {
    stage.notes(client).iter().any(|note| matches!(note, Note::MetadataHeld(_)))
}

#[test]
fn it_is_let_go_by_time() {
    let (mut stage, client) = asking();
    stage.says_metadata(client, 1);
    stage.pass(stage.detours.metadata_hold - MS);
    assert!(!was_held(&mut stage, client), "it still is");
    stage.pass(2 * MS);
    assert!(was_held(&mut stage, client));
    stage.moves_for_all("t", 0, 2);
    stage.acks(client, 2);
    assert_eq!(stage.told_frames(client).len(), 2);
}

#[test]
fn it_is_let_go_by_a_better_view_and_then_says_so() {
    let (mut stage, client) = asking();
    stage.says_metadata(client, 1);
    stage.pass(100 * MS);
    stage.moves_for_all("t", 0, 2);
    assert!(was_held(&mut stage, client));
    stage.acks(client, 2);
    let told = stage.told_frames(client);
    assert_eq!(leader(&told[1], 0), (2, 6));
}

/// Leader and epoch of a partition of `t`.
fn leader(frame: &Bytes, partition: usize) -> (i32, i32) {
    let told = kafka(frame);
    let partition = &told.topics.iter().find(|topic| topic.name.as_ref().unwrap().0.as_str() == "t").unwrap().partitions[partition];
    (partition.leader_id.0, partition.leader_epoch)
}

fn kafka(frame: &Bytes) -> kafka_protocol::messages::MetadataResponse {
    use kafka_protocol::protocol::{Decodable, HeaderVersion};
    let mut rest = frame.slice(4..);
    let version = kafka_protocol::messages::MetadataResponse::header_version(9);
    kafka_protocol::messages::ResponseHeader::decode(&mut rest, version).unwrap();
    kafka_protocol::messages::MetadataResponse::decode(&mut rest, 9).unwrap()
}

#[test]
fn behind_a_batch_that_moves_it_says_what_is_known_when_it_leaves() {
    let mut stage = Stage::new();
    stage.detours.metadata_hold = Duration::ZERO;
    let client = stage.client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.refuses(client, 1, 6);
    stage.moves_for_all("t", 0, 2);
    let correlation_id = stage.next_correlation_id(client);
    stage.sends_frame(client, metadata(correlation_id));
    stage.says_metadata(client, 1);
    // Its client may hear of this elsewhere before it gets that answer.
    stage.moves_for_all("t", 1, 3);
    assert!(stage.told_frames(client).is_empty());
    stage.acks(client, 2);
    let told = stage.told_frames(client);
    assert_eq!(leader(&told[1], 0), (2, 6));
    assert_eq!(leader(&told[1], 1), (3, 6));
}

#[test]
fn it_is_let_go_by_a_later_response() {
    let (mut stage, client) = asking();
    stage.says_metadata(client, 1);
    assert!(!was_held(&mut stage, client));
    stage.sends(client, &Produce::of([plain(1, 2)]));
    stage.acks(client, 1);
    assert!(was_held(&mut stage, client));
}

#[test]
fn an_answer_that_knows_better_or_speaks_of_others_is_not_held() {
    let (mut stage, client) = asking();
    stage.moves("t", 0, 2);
    stage.says_metadata(client, 1);
    stage.pass(stage.detours.metadata_hold * 2);
    assert!(!was_held(&mut stage, client));

    let (mut stage, client) = asking();
    stage.leaders.remove(&("t".into(), 0));
    stage.says_metadata(client, 1);
    stage.pass(stage.detours.metadata_hold * 2);
    assert!(!was_held(&mut stage, client));
}
