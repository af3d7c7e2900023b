use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::RequestHeader;
use kafka_protocol::messages::find_coordinator_request::FindCoordinatorRequest as TheirRequest;
use kafka_protocol::protocol::Encodable;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::wire::fixtures::{framed, text};
use crate::wire::produce_fixtures::head_of;

fn frame(version: i16, body: &TheirRequest) -> Bytes {
    let api = ApiKey::FIND_COORDINATOR;
    let mut payload = BytesMut::new();
    let header = RequestHeader::default().with_request_api_key(api.0).with_request_api_version(version).with_client_id(Some(text("me")));
    header.encode(&mut payload, api.request_header_version(version)).unwrap();
    body.encode(&mut payload, version).unwrap();
    framed(&payload)
}

fn request(version: i16, key_type: i8, keys: &[String], tag: &Option<Vec<u8>>) -> TheirRequest {
    let mut request = TheirRequest::default();
    if version >= 1 {
        request.key_type = key_type;
    }
    if version <= 3 {
        request.key = text(&keys[0]);
    } else {
        request.coordinator_keys = keys.iter().map(|key| text(key)).collect();
    }
    if let Some(tag) = tag.as_ref().filter(|_| version >= 3) {
        request.unknown_tagged_fields.insert(99, tag.clone().into());
    }
    request
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_parsed_request_agrees_with_the_crate(
        key_type in 0..4i8,
        keys in vec(".{0,200}", 1..6),
        tag in proptest::option::of(vec(any::<u8>(), 0..300)),
    ) {
        for version in 0..=LAST_VERSION {
            let frame = frame(version, &request(version, key_type, &keys, &tag));
            let parsed = FindCoordinatorRequest::parse(&frame, &head_of(&frame)).unwrap();
            prop_assert_eq!(parsed.key_type, if version >= 1 { key_type } else { 0 });
            let expected: Vec<&[u8]> = keys.iter().take(if version <= 3 { 1 } else { keys.len() }).map(String::as_bytes).collect();
            prop_assert_eq!(parsed.keys, expected, "v{}", version);
        }
    }

    #[test]
    fn a_request_that_ends_early_is_an_error(keys in vec("[a-z]{1,20}", 1..4), cut in any::<proptest::sample::Index>()) {
        for version in 0..=LAST_VERSION {
            let whole = frame(version, &request(version, 1, &keys, &None));
            let body_at = head_of(&whole).body_at as usize;
            let cut = framed(&whole[4..body_at + cut.index(whole.len() - body_at)]);
            prop_assert!(FindCoordinatorRequest::parse(&cut, &head_of(&cut)).is_err(), "v{}", version);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body in vec(any::<u8>(), 0..200)) {
        for version in 0..=LAST_VERSION {
            let empty = frame(version, &request(version, 0, &[String::new()], &None));
            let mut payload = empty[4..head_of(&empty).body_at as usize].to_vec();
            payload.extend_from_slice(&body);
            let frame = framed(&payload);
            let _ = FindCoordinatorRequest::parse(&frame, &head_of(&frame));
        }
    }
}

#[test]
fn a_number_of_keys_that_cannot_be_there_is_an_error() {
    for version in 4..=LAST_VERSION {
        let whole = frame(version, &request(version, 0, &["g".to_owned()], &None));
        let mut payload = whole[4..head_of(&whole).body_at as usize].to_vec();
        // Key type, and an array of 2^28 or so.
        payload.extend_from_slice(&[0, 0xff, 0xff, 0xff, 0x7f, 0]);
        let frame = framed(&payload);
        assert!(FindCoordinatorRequest::parse(&frame, &head_of(&frame)).is_err());
    }
}

#[test]
fn another_api_and_a_version_without_a_known_layout_are_errors() {
    let frame = frame(4, &request(4, 0, &["g".to_owned()], &None));
    let head = head_of(&frame);
    assert!(FindCoordinatorRequest::parse(&frame, &Head { api: ApiKey::METADATA, ..head }).is_err());
    assert!(FindCoordinatorRequest::parse(&frame, &Head { version: LAST_VERSION + 1, ..head }).is_err());
}
