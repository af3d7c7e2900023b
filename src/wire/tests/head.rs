use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{ApiKey as CrateKey, ProduceRequest, RequestHeader, TransactionalId};
use kafka_protocol::protocol::{Encodable, StrBytes};
use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { max_frame_bytes: 100 << 20, max_head_bytes: 4096 };

fn framed(payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as i32).to_be_bytes().to_vec();
    frame.extend_from_slice(payload);
    frame
}

fn header(key: i16, version: i16, correlation_id: i32, client_id: Option<&str>, header_version: i16, tag: Option<&[u8]>) -> BytesMut {
    let mut out = BytesMut::new();
    let mut header = RequestHeader::default()
        .with_request_api_key(key)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(client_id.map(|id| StrBytes::from_string(id.to_owned())));
    if let Some(tag) = tag.filter(|_| header_version >= 2) {
        header.unknown_tagged_fields.insert(77, tag.to_vec().into());
    }
    header.encode(&mut out, header_version).unwrap();
    out
}

/// Parses it whole; then holds that every cut says "more", and that an exactly sufficient one says the same head.
fn parse_in_every_cut(frame: &[u8]) -> Head {
    let head = parse_head(frame, &LIMITS).unwrap().expect("a whole frame has its head");
    let mut seen = None;
    for cut in 0..=frame.len() {
        match parse_head(&frame[..cut], &LIMITS).unwrap() {
            None => assert_eq!(seen, None, "a head was there, and is gone at {cut}"),
            Some(parsed) => {
                assert_eq!(parsed, head);
                seen.get_or_insert(cut);
            }
        }
    }
    assert!(seen.unwrap() as u32 >= head.body_at);
    head
}

fn text(frame: &[u8], span: Option<Span>) -> Option<String> {
    span.map(|span| String::from_utf8(frame[span.start as usize..span.end as usize].to_vec()).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn heads_of_every_api_and_version_agree_with_the_crate(
        correlation_id in any::<i32>(),
        client_id in proptest::option::of("[a-zé]{0,40}"),
        tag in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
        body in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        for key in CrateKey::iter().filter(|key| *key != CrateKey::Produce) {
            let versions = key.valid_versions();
            // One beyond what is known as well: a client may ask for it, and its header reads the same.
            for version in 0..=versions.max + 1 {
                // The crate guesses at versions older than it knows.
                let known = versions.min <= version;
                let header_version = if known { key.request_header_version(version) } else { ApiKey(key as i16).request_header_version(version) };
                let mut payload = header(key as i16, version, correlation_id, client_id.as_deref(), header_version, tag.as_deref());
                let body_at = payload.len() as u32 + 4;
                payload.extend_from_slice(&body);
                let frame = framed(&payload);
                let head = parse_head(&frame, &LIMITS).unwrap().unwrap();
                prop_assert_eq!(head.api, ApiKey(key as i16));
                prop_assert_eq!(head.version, version);
                prop_assert_eq!(head.correlation_id, correlation_id);
                prop_assert_eq!(head.frame_bytes as usize, frame.len());
                prop_assert_eq!(text(&frame, head.client_id), client_id.clone());
                prop_assert_eq!(head.body_at, body_at, "{:?} v{}", key, version);
                prop_assert_eq!(head.produce, None);
            }
        }
    }

    #[test]
    fn produce_heads_agree_with_the_crate(
        client_id in proptest::option::of("[a-z]{0,40}"),
        transactional_id in proptest::option::of("[a-z]{0,200}"),
        acks in -1i16..=1,
        timeout_ms in any::<i32>(),
        tag in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20)),
    ) {
        for version in 3..=13 {
            let header_version = CrateKey::Produce.request_header_version(version);
            let mut payload = header(0, version, 7, client_id.as_deref(), header_version, tag.as_deref());
            let body_at = payload.len() as u32 + 4;
            ProduceRequest::default()
                .with_transactional_id(transactional_id.clone().map(|id| TransactionalId(StrBytes::from_string(id))))
                .with_acks(acks)
                .with_timeout_ms(timeout_ms)
                .encode(&mut payload, version)
                .unwrap();
            let frame = framed(&payload);
            let head = parse_in_every_cut(&frame);
            let produce = head.produce.unwrap();
            prop_assert_eq!(head.body_at, body_at);
            prop_assert_eq!(text(&frame, produce.transactional_id), transactional_id.clone());
            prop_assert_eq!((produce.acks, produce.timeout_ms), (acks, timeout_ms));
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), small in any::<bool>()) {
        let mut frame = bytes;
        if small && frame.len() >= 6 {
            // A plausible length and key, so that more than the prefix is reached.
            let len = frame.len() as i32 - 4;
            frame[..4].copy_from_slice(&len.to_be_bytes());
            frame[4] = 0;
            frame[5] %= 95;
            frame[6.min(len as usize + 3)] = 0;
        }
        let _ = parse_head(&frame, &LIMITS);
        let _ = parse_response_head(&frame, LIMITS.max_frame_bytes);
    }
}

#[test]
fn produce_heads_that_the_crate_is_too_young_for() {
    for version in 0..3i16 {
        let mut payload = header(0, version, 9, Some("old"), 1, None);
        payload.put_i16(1);
        payload.put_i32(1500);
        payload.put_i32(0);
        let head = parse_in_every_cut(&framed(&payload));
        assert_eq!(head.produce, Some(ProduceHead { transactional_id: None, acks: 1, timeout_ms: 1500 }));
    }
}

#[test]
fn a_produce_version_of_the_future_has_a_head_but_no_acks() {
    let payload = header(0, 14, 9, None, 2, None);
    assert_eq!(parse_head(&framed(&payload), &LIMITS).unwrap().unwrap().produce, None);
}

#[test]
fn a_controlled_shutdown_of_version_0_has_no_client_id() {
    let frame = framed(&[0, 7, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1]);
    let head = parse_in_every_cut(&frame);
    assert_eq!((head.api, head.correlation_id, head.client_id, head.body_at), (ApiKey::CONTROLLED_SHUTDOWN, 5, None, 12));
}

#[test]
fn an_unknown_key_is_read_as_far_as_every_header_agrees() {
    let mut payload = header(4242, 3, 11, Some("me"), 1, None);
    payload.put_slice(&[0xff; 9]);
    let frame = framed(&payload);
    let head = parse_in_every_cut(&frame);
    assert_eq!((head.api, head.version, head.correlation_id, head.body_at), (ApiKey(4242), 3, 11, 16));
    assert_eq!(text(&frame, head.client_id).as_deref(), Some("me"));
}

#[test]
fn strangers_are_recognised() {
    let cases: [(&[u8], Stranger); 9] = [
        (&[0x16, 0x03, 0x01, 0x02], Stranger::Tls),
        (b"GET / HTTP/1.1\r\n", Stranger::Http),
        (b"POST", Stranger::Http),
        (b"PRI * HTTP/2.0", Stranger::Http),
        (b"HTTP/1.1 200", Stranger::Http),
        (b"SSH-2.0-OpenSSH", Stranger::Text),
        (b"PROXY TCP4 ", Stranger::Text),
        (b"\r\n\r\n\x00\r\nQUIT\n", Stranger::Text),
        (b"hello?", Stranger::Text),
    ];
    for (bytes, stranger) in cases {
        assert_eq!(parse_head(bytes, &LIMITS), Err(HeadError::Stranger(stranger)), "{bytes:?}");
        assert_eq!(parse_response_head(bytes, LIMITS.max_frame_bytes), Err(HeadError::Stranger(stranger)));
        assert_eq!(parse_head(&bytes[..3], &LIMITS), Ok(None));
    }
}

#[test]
fn bad_lengths_are_errors() {
    let with_length = |len: i32| parse_head(&len.to_be_bytes(), &LIMITS);
    assert_eq!(with_length(i32::MAX), Err(HeadError::FrameTooLarge { len: i64::from(i32::MAX) + 4, max: LIMITS.max_frame_bytes }));
    assert_eq!(with_length((100 << 20) - 4), Ok(None));
    assert!(matches!(with_length((100 << 20) - 3), Err(HeadError::FrameTooLarge { .. })));
    assert_eq!(with_length(-1), Err(HeadError::FrameTooSmall { len: -1 }));
    assert_eq!(with_length(i32::MIN), Err(HeadError::FrameTooSmall { len: i64::from(i32::MIN) }));
    assert_eq!(with_length(7), Err(HeadError::FrameTooSmall { len: 7 }));
    assert_eq!(parse_response_head(&3i32.to_be_bytes(), 100), Err(HeadError::FrameTooSmall { len: 3 }));
}

#[test]
fn a_header_that_is_longer_than_its_frame_is_malformed_at_once() {
    // The client id would end behind the frame; its bytes need not arrive for that to be known.
    let frame = framed(&[0, 3, 0, 1, 0, 0, 0, 1, 0x7f, 0xff, b'x']);
    assert_eq!(parse_head(&frame[..14], &LIMITS), Err(HeadError::Malformed { what: "it is longer than its frame" }));
    // Header version 1 wants ten bytes, and the frame has eight.
    let frame = framed(&[0, 3, 0, 1, 0, 0, 0, 1]);
    assert!(matches!(parse_head(&frame, &LIMITS), Err(HeadError::Malformed { .. })));
}

#[test]
fn malformed_fields_are_errors() {
    let malformed =
        |payload: &[u8]| assert!(matches!(parse_head(&framed(payload), &LIMITS), Err(HeadError::Malformed { .. })), "{payload:?}");
    malformed(&[0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xfe]); // client id of length −2
    malformed(&[0, 3, 0x80, 0, 0, 0, 0, 1, 0xff, 0xff]); // a negative version
    malformed(&[0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]); // 35 bits of tagged fields
    malformed(&[0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]); // 2³² − 1 tagged fields
    malformed(&[0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff, 0x01, 0x00, 0x7f]); // one of 127 bytes
}

#[test]
fn a_head_is_bounded() {
    let limits = HeadLimits { max_frame_bytes: 100_000, max_head_bytes: 64 };
    let mut payload = header(3, 1, 1, Some(&"x".repeat(50)), 1, None);
    payload.put_slice(&[0; 1000]);
    assert!(parse_head(&framed(&payload), &limits).unwrap().is_some());
    let mut payload = header(3, 1, 1, Some(&"x".repeat(51)), 1, None);
    payload.put_slice(&[0; 1000]);
    assert_eq!(parse_head(&framed(&payload), &limits), Err(HeadError::HeadTooLarge { max: 64 }));
    // Known before the bytes are there.
    assert_eq!(parse_head(&framed(&payload)[..20], &limits), Err(HeadError::HeadTooLarge { max: 64 }));
}

#[test]
fn response_heads() {
    let frame = framed(&[0, 0, 0, 9, 1, 2, 3]);
    for cut in 0..8 {
        assert_eq!(parse_response_head(&frame[..cut], 1000), Ok(None));
    }
    assert_eq!(parse_response_head(&frame, 1000), Ok(Some(ResponseHead { frame_bytes: 11, correlation_id: 9 })));
}
