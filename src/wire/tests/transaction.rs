use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{EndTxnRequest, InitProducerIdRequest, ProducerId, RequestHeader, TransactionalId};
use kafka_protocol::protocol::Encodable;

use super::*;
use crate::wire::fixtures::{framed, text};
use crate::wire::produce_fixtures::head_of;

fn frame(api: ApiKey, version: i16, body: &impl Encodable) -> Bytes {
    let mut payload = BytesMut::new();
    let header = RequestHeader::default().with_request_api_key(api.0).with_request_api_version(version).with_client_id(Some(text("me")));
    header.encode(&mut payload, api.request_header_version(version)).unwrap();
    if api == ApiKey::INIT_PRODUCER_ID && version == 6 {
        // KIP-939 puts two flags before the tagged fields. The crate does not know them.
        body.encode(&mut payload, 5).unwrap();
        let tagged_fields = payload.split_off(payload.len() - 1);
        payload.extend_from_slice(&[0, 0]);
        payload.unsplit(tagged_fields);
    } else {
        body.encode(&mut payload, version).unwrap();
    }
    framed(&payload)
}

#[test]
fn the_producer_that_ends_a_transaction() {
    for version in 0..=ApiKey::END_TXN.spec().unwrap().max_version {
        let request = EndTxnRequest::default()
            .with_transactional_id(TransactionalId(text("payments")))
            .with_producer_id(ProducerId(0x0102_0304_0506_0708))
            .with_producer_epoch(9)
            .with_committed(true);
        let frame = frame(ApiKey::END_TXN, version, &request);
        assert_eq!(end_txn_producer_id(&frame, &head_of(&frame)), Ok(0x0102_0304_0506_0708), "v{version}");
        assert!(init_producer_id(&frame, &head_of(&frame)).is_err(), "another API");
        let body_at = head_of(&frame).body_at as usize;
        for cut in body_at..body_at + 17 {
            let cut = framed(&frame[4..cut]);
            assert!(end_txn_producer_id(&cut, &head_of(&cut)).is_err());
        }
    }
}

#[test]
fn the_producer_that_asks_for_an_id() {
    for version in 0..=ApiKey::INIT_PRODUCER_ID.spec().unwrap().max_version {
        for id in [None, Some(""), Some("payments")] {
            for producer_id in [-1, 4711] {
                let mut request = InitProducerIdRequest::default()
                    .with_transactional_id(id.map(|id| TransactionalId(text(id))))
                    .with_transaction_timeout_ms(60_000);
                if version >= 3 {
                    request = request.with_producer_id(ProducerId(producer_id)).with_producer_epoch(2);
                }
                let frame = frame(ApiKey::INIT_PRODUCER_ID, version, &request);
                let parsed = init_producer_id(&frame, &head_of(&frame)).unwrap();
                assert_eq!(parsed.transactional_id.map(|span| span.of(&frame).unwrap()), id.map(str::as_bytes), "v{version}");
                assert_eq!(parsed.producer_id, if version >= 3 { producer_id } else { -1 }, "v{version}");
            }
        }
    }
}

#[test]
fn versions_without_a_known_layout_are_errors() {
    let frame = framed(&[0; 64]);
    let head = head_of(&frame);
    assert!(end_txn_producer_id(&frame, &Head { api: ApiKey::END_TXN, version: 6, ..head }).is_err());
    assert!(init_producer_id(&frame, &Head { api: ApiKey::INIT_PRODUCER_ID, version: 7, ..head }).is_err());
}
