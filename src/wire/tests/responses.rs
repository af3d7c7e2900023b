//! Parsed forms against the crate's, and against bytes that mean harm.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader};
use kafka_protocol::protocol::Encodable;
use proptest::prelude::*;

use crate::wire::api_versions::{ApiVersionsResponse, ClientSoftware};
use crate::wire::describe_cluster::DescribeClusterResponse;
use crate::wire::find_coordinator::FindCoordinatorResponse;
use crate::wire::fixtures::{self, NodeSpec, Spec, every_frame, frame, framed, spec, text};
use crate::wire::metadata::MetadataResponse;
use crate::wire::node::{NodeEntry, TopicRef};
use crate::wire::produce::ProduceResults;
use crate::wire::share_acknowledge::ShareAcknowledgeResponse;
use crate::wire::share_fetch::ShareFetchResponse;
use crate::wire::{ApiKey, HeadLimits, Malformed, parse_head};

fn parse(api: ApiKey, version: i16, frame: &[u8]) -> Result<(), Malformed> {
    match api {
        ApiKey::METADATA => MetadataResponse::parse(frame, version).map(drop),
        ApiKey::FIND_COORDINATOR => FindCoordinatorResponse::parse(frame, version).map(drop),
        ApiKey::DESCRIBE_CLUSTER => DescribeClusterResponse::parse(frame, version).map(drop),
        ApiKey::API_VERSIONS => ApiVersionsResponse::parse(frame, version).map(drop),
        ApiKey::PRODUCE => ProduceResults::parse(frame, version).map(drop),
        ApiKey::SHARE_FETCH => ShareFetchResponse::parse(frame, version).map(drop),
        ApiKey::SHARE_ACKNOWLEDGE => ShareAcknowledgeResponse::parse(frame, version).map(drop),
        _ => panic!("no parsed form"),
    }
}

fn assert_nodes(parsed: &[NodeEntry<'_>], nodes: &[NodeSpec], racks: bool) {
    assert_eq!(parsed.len(), nodes.len());
    for (parsed, node) in parsed.iter().zip(nodes) {
        assert_eq!((parsed.node, parsed.host, parsed.port), (node.id, node.host.as_bytes(), node.port));
        assert_eq!(parsed.rack, node.rack.as_deref().filter(|_| racks).map(str::as_bytes));
    }
}

/// Each topic, partition and leader that must come out as a hint.
fn hints(spec: &Spec, errors: &[i16]) -> Vec<(usize, i32, i16, i32, i32)> {
    let mut hints = Vec::new();
    for (topic, position) in spec.topics.iter().zip(0..) {
        for (partition, index) in topic.partitions.iter().zip(0..) {
            if errors.contains(&partition.error) {
                hints.push((position, index, partition.error, partition.leader, partition.epoch));
            }
        }
    }
    hints
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn parsed_metadata_agrees_with_the_crate(spec in spec()) {
        for version in 0..=13 {
            let frame = frame(ApiKey::METADATA, version, &spec.unknown_tag, &fixtures::metadata(&spec, version));
            let parsed = MetadataResponse::parse(&frame, version).unwrap();
            assert_nodes(&parsed.brokers, &spec.nodes, version >= 1);
            prop_assert_eq!(parsed.controller.map(|controller| controller.node), (version >= 1).then_some(spec.controller));
            prop_assert_eq!(parsed.cluster_id, spec.message.as_deref().filter(|_| version >= 2).map(str::as_bytes));
            prop_assert_eq!(parsed.topics.len(), spec.topics.len());
            for (topic, expected) in parsed.topics.iter().zip(&spec.topics) {
                let nameless = version >= 12 && expected.partitions.is_empty();
                prop_assert_eq!(topic.name, Some(expected.name.as_bytes()).filter(|_| !nameless));
                prop_assert_eq!(topic.id, if version >= 10 { expected.id } else { [0; 16] });
                let partitions = parsed.partitions_of(topic);
                prop_assert_eq!(partitions.len(), expected.partitions.len());
                for (partition, expected) in partitions.iter().zip(&expected.partitions) {
                    prop_assert_eq!((partition.error, partition.leader), (expected.error, expected.leader));
                    prop_assert_eq!(partition.leader_epoch, if version >= 7 { expected.epoch } else { -1 });
                    let leader = &frame[partition.leader_span.start as usize..partition.leader_span.end as usize];
                    prop_assert_eq!(leader, expected.leader.to_be_bytes());
                    let error = &frame[partition.error_span.start as usize..partition.error_span.end as usize];
                    prop_assert_eq!(error, expected.error.to_be_bytes());
                }
            }
        }
    }

    #[test]
    fn other_parsed_forms_agree_with_the_crate(spec in spec()) {
        let tag = &spec.unknown_tag;
        for version in 0..=2 {
            let frame = frame(ApiKey::DESCRIBE_CLUSTER, version, tag, &fixtures::describe_cluster(&spec, version));
            let parsed = DescribeClusterResponse::parse(&frame, version).unwrap();
            assert_nodes(&parsed.brokers, &spec.nodes, true);
            prop_assert_eq!((parsed.controller.node, parsed.endpoint_type, parsed.cluster_id), (spec.controller, 1, &b"the-cluster"[..]));
        }
        for version in 4..=6 {
            let frame = frame(ApiKey::FIND_COORDINATOR, version, tag, &fixtures::find_coordinator(&spec, version));
            let parsed = FindCoordinatorResponse::parse(&frame, version).unwrap();
            let (nobody, somebody) = parsed.coordinators.split_last().unwrap();
            assert_nodes(&somebody.iter().map(|coordinator| coordinator.entry).collect::<Vec<_>>(), &spec.nodes, false);
            prop_assert_eq!((nobody.entry.node, nobody.error, nobody.key), (-1, 15, Some(&b"group--1"[..])));
        }
        for version in 10..=13 {
            let frame = frame(ApiKey::PRODUCE, version, tag, &fixtures::produce(&spec, version));
            let parsed = ProduceResults::parse(&frame, version).unwrap();
            let seen = parsed.hints();
            assert_nodes(&parsed.node_endpoints.map(|endpoints| endpoints.nodes).unwrap_or_default(), &spec.nodes, true);
            let expected = hints(&spec, &[6]);
            prop_assert_eq!(seen.len(), expected.len());
            for (hint, (topic, partition, error, leader, epoch)) in seen.iter().zip(expected) {
                let name = TopicRef::Name(spec.topics[topic].name.as_bytes());
                prop_assert_eq!(hint.topic, if version >= 13 { TopicRef::Id(spec.topics[topic].id) } else { name });
                prop_assert_eq!((hint.partition, hint.error, hint.leader, hint.leader_epoch), (partition, error, leader, epoch));
            }
        }
        for version in 0..=2 {
            let fetch = fixtures::share_fetch_frame(&spec, version);
            let fetch = ShareFetchResponse::parse(&fetch, version).unwrap();
            let acknowledge = fixtures::share_acknowledge_frame(&spec, version);
            let acknowledge = ShareAcknowledgeResponse::parse(&acknowledge, version).unwrap();
            assert_nodes(&fetch.node_endpoints.nodes, &spec.nodes, true);
            prop_assert_eq!(fetch.node_endpoints.nodes.len(), acknowledge.node_endpoints.nodes.len());
            let expected = hints(&spec, &[6, 74]);
            prop_assert_eq!(&fetch.hints, &acknowledge.hints);
            prop_assert_eq!(fetch.hints.len(), expected.len());
            for (hint, (topic, partition, error, leader, epoch)) in fetch.hints.iter().zip(expected) {
                prop_assert_eq!(hint.topic, TopicRef::Id(spec.topics[topic].id));
                prop_assert_eq!((hint.partition, hint.error, hint.leader, hint.leader_epoch), (partition, error, leader, epoch));
            }
        }
    }
}

proptest! {
    #![proptest_config(config(3))]

    #[test]
    fn a_frame_cut_anywhere_is_an_error(spec in spec()) {
        for (api, version, frame) in every_frame(&spec) {
            prop_assert_eq!(parse(api, version, &frame), Ok(()), "{} v{}", api.name(), version);
            for cut in 4..frame.len() {
                prop_assert!(parse(api, version, &framed(&frame[4..cut])).is_err(), "{} v{} cut at {}", api.name(), version, cut);
                // The prefix still promises the whole.
                prop_assert!(parse(api, version, &frame[..cut]).is_err());
            }
        }
    }

    /// A count or length of every kind, at every place where one could be. Had any of them been believed, this would take terabytes.
    #[test]
    fn hostile_numbers_anywhere_are_survived(spec in spec()) {
        const HOSTILE: [&[u8]; 6] = [
            &[0x7f, 0xff, 0xff, 0xff],
            &[0xff, 0xff, 0xff, 0xfe],
            &[0x7f, 0xff],
            &[0xff, 0xfe],
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ];
        for (api, version, frame) in every_frame(&spec) {
            for at in 4..frame.len() {
                for number in HOSTILE {
                    let mut bytes = frame.to_vec();
                    let end = (at + number.len()).min(bytes.len());
                    bytes[at..end].copy_from_slice(&number[..end - at]);
                    let _ = parse(api, version, &bytes);
                }
            }
        }
    }

    #[test]
    fn random_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let frame = framed(&bytes);
        for (api, version, _) in every_frame(&Spec { nodes: vec![], controller: 0, topics: vec![], message: None, unknown_tag: None }) {
            let _ = parse(api, version, &frame);
        }
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn versions_without_a_known_layout_are_errors() {
    let frame = framed(&[0; 64]);
    for (api, version) in [
        (ApiKey::METADATA, 14),
        (ApiKey::FIND_COORDINATOR, 7),
        (ApiKey::DESCRIBE_CLUSTER, 3),
        (ApiKey::API_VERSIONS, 5),
        (ApiKey::PRODUCE, -1),
        (ApiKey::PRODUCE, 14),
        (ApiKey::SHARE_FETCH, 3),
        (ApiKey::SHARE_ACKNOWLEDGE, 3),
        (ApiKey::METADATA, -1),
    ] {
        assert!(parse(api, version, &frame).is_err(), "{} v{version}", api.name());
    }
}

#[test]
fn a_tagged_field_that_stands_twice_is_an_error() {
    // Produce 10: no topics, no throttling, two empty NodeEndpoints.
    let twice = [0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 2, 0, 1, 1, 0, 1, 1];
    assert_eq!(parse(ApiKey::PRODUCE, 10, &framed(&twice)).unwrap_err().what, "a tagged field stands twice");
    let once = [0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 1, 1];
    assert_eq!(parse(ApiKey::PRODUCE, 10, &framed(&once)), Ok(()));
}

/// A broker that lacks the version asked for answers in version 0 (KIP-511): Kafka 2.3 to a version 3 request, without the key itself.
#[test]
fn an_unsupported_version_is_read_in_version_0() {
    let bare = framed(&[0, 0, 0, 1, 0, 35, 0, 0, 0, 0]);
    let with_key = framed(&[0, 0, 0, 1, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 2]);
    for version in 0..=4 {
        let parsed = ApiVersionsResponse::parse(&bare, version).unwrap();
        assert_eq!((parsed.error, parsed.flexible, parsed.ranges.len()), (35, false, 0));
        let parsed = ApiVersionsResponse::parse(&with_key, version).unwrap();
        assert_eq!((parsed.ranges[0].api, parsed.ranges[0].min, parsed.ranges[0].max), (ApiKey::API_VERSIONS, 0, 2));
    }
}

#[test]
fn the_clients_software_is_read_from_its_request() {
    for version in 0..=4 {
        let mut payload = BytesMut::new();
        let header = RequestHeader::default().with_request_api_key(18).with_request_api_version(version);
        header.encode(&mut payload, ApiKey::API_VERSIONS.request_header_version(version)).unwrap();
        let mut request = ApiVersionsRequest::default();
        if version >= 3 {
            request = request.with_client_software_name(text("apache-kafka-java")).with_client_software_version(text("3.9.0"));
        }
        request.encode(&mut payload, version).unwrap();
        let frame: Bytes = framed(&payload);
        let head = parse_head(&frame, &HeadLimits { max_frame_bytes: 1000, max_head_bytes: 1000 }).unwrap().unwrap();
        let software = ClientSoftware::parse(&frame, &head).unwrap();
        let expected = ClientSoftware { name: b"apache-kafka-java", version: b"3.9.0" };
        assert_eq!(software, (version >= 3).then_some(expected));
        if version >= 3 {
            for cut in head.body_at as usize..frame.len() {
                let cut = framed(&frame[4..cut]);
                let head = parse_head(&cut, &HeadLimits { max_frame_bytes: 1000, max_head_bytes: 1000 }).unwrap().unwrap();
                assert!(ClientSoftware::parse(&cut, &head).is_err());
            }
        }
    }
}
