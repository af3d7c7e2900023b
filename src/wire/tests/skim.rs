use bytes::Bytes;
use kafka_protocol::messages::{BrokerId, FetchResponse, ShareFetchResponse, fetch_response as fe};
use kafka_protocol::protocol::Decodable;
use proptest::prelude::*;

use super::*;
use crate::wire::fixtures::{self, Spec, frame, framed, spec, text};

fn fetch(spec: &Spec, version: i16) -> Bytes {
    let topics = spec.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(0..).map(|(partition, index)| {
            let mut data = fe::PartitionData::default()
                .with_partition_index(index)
                .with_error_code(partition.error)
                .with_aborted_transactions(Some(vec![fe::AbortedTransaction::default(); partition.replicas.len()]))
                .with_records(partition.records.clone().map(Bytes::from));
            if partition.error == 6 {
                let leader = fe::LeaderIdAndEpoch::default().with_leader_id(BrokerId(partition.leader)).with_leader_epoch(partition.epoch);
                data.current_leader = leader;
            }
            data
        });
        fe::FetchableTopicResponse::default().with_partitions(partitions.collect())
    });
    let nodes = spec
        .nodes
        .iter()
        .map(|node| fe::NodeEndpoint::default().with_node_id(BrokerId(node.id)).with_host(text(&node.host)).with_port(node.port));
    let mut response = FetchResponse::default().with_responses(topics.collect()).with_node_endpoints(nodes.collect());
    if let Some(tag) = &spec.unknown_tag {
        response.unknown_tagged_fields.insert(fixtures::UNKNOWN_TAG, tag.clone().into());
    }
    frame(ApiKey::FETCH, version, &spec.unknown_tag, &response)
}

/// Feeds the frame in chunks of these sizes, again and again.
fn skim(api: ApiKey, version: i16, frame: &[u8], chunks: &[usize]) -> Result<(Bytes, bool), Malformed> {
    let mut skimmer = EndpointSkimmer::new(api, version, frame.len() as u32).unwrap();
    let mut out = frame.to_vec();
    let mut sizes = chunks.iter().cycle();
    let mut rest = &mut out[..];
    while !rest.is_empty() {
        let size = rest.len().min(*sizes.next().unwrap());
        let (chunk, behind) = rest.split_at_mut(size);
        skimmer.advance(chunk)?;
        rest = behind;
    }
    Ok((out.into(), skimmer.struck()))
}

fn body(frame: &Bytes, unknown_tag: &Option<Vec<u8>>) -> Bytes {
    let header_tags = unknown_tag.as_ref().map_or(1, |tag| 1 + 2 + if tag.len() < 128 { 1 } else { 2 } + tag.len());
    frame.slice(8 + header_tags..)
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn with_marked_hosts(mut spec: Spec) -> Spec {
    for node in &mut spec.nodes {
        node.host = format!("REAL-{}", node.host);
    }
    spec
}

fn names_a_real_host(bytes: &[u8]) -> bool {
    bytes.windows(5).any(|window| window == b"REAL-")
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn fetch_loses_its_endpoints_alone(spec in spec(), chunks in proptest::collection::vec(1usize..40, 1..8)) {
        let spec = with_marked_hosts(spec);
        for version in 16..=18 {
            let original = fetch(&spec, version);
            let (skimmed, struck) = skim(ApiKey::FETCH, version, &original, &chunks).unwrap();
            prop_assert_eq!(&skimmed, &skim(ApiKey::FETCH, version, &original, &[usize::MAX]).unwrap().0, "however it is cut");
            prop_assert_eq!(skimmed.len(), original.len());
            prop_assert_eq!(struck, !spec.nodes.is_empty());
            prop_assert!(!names_a_real_host(&skimmed));
            if !struck {
                prop_assert_eq!(&skimmed, &original);
            }
            let mut expected = FetchResponse::decode(&mut body(&original, &spec.unknown_tag), version).unwrap();
            let mut rest = body(&skimmed, &spec.unknown_tag);
            let mut decoded = FetchResponse::decode(&mut rest, version).unwrap();
            prop_assert!(rest.is_empty());
            expected.node_endpoints.clear();
            decoded.unknown_tagged_fields.remove(&i32::from(FILLER_TAG));
            prop_assert_eq!(decoded, expected);
        }
    }

    #[test]
    fn share_fetch_loses_its_endpoints(spec in spec(), chunks in proptest::collection::vec(1usize..40, 1..8)) {
        let spec = with_marked_hosts(spec);
        for version in 0..=2 {
            let original = fixtures::share_fetch_frame(&spec, version);
            let (skimmed, struck) = skim(ApiKey::SHARE_FETCH, version, &original, &chunks).unwrap();
            prop_assert_eq!(&skimmed, &skim(ApiKey::SHARE_FETCH, version, &original, &[usize::MAX]).unwrap().0, "however it is cut");
            prop_assert_eq!(skimmed.len(), original.len());
            prop_assert_eq!(struck, !spec.nodes.is_empty());
            prop_assert!(!names_a_real_host(&skimmed));
            if !struck {
                prop_assert_eq!(&skimmed, &original);
            }
            if version >= 1 {
                let mut expected = ShareFetchResponse::decode(&mut body(&original, &spec.unknown_tag), 1).unwrap();
                let mut rest = body(&skimmed, &spec.unknown_tag);
                let mut decoded = ShareFetchResponse::decode(&mut rest, 1).unwrap();
                prop_assert!(rest.is_empty());
                if struck {
                    expected.node_endpoints.clear();
                    expected.unknown_tagged_fields.clear();
                    decoded.unknown_tagged_fields.clear();
                }
                prop_assert_eq!(decoded, expected);
            }
        }
    }
}

proptest! {
    #![proptest_config(config(4))]

    #[test]
    fn a_frame_that_ends_early_is_an_error(spec in spec()) {
        for (api, version, whole) in [
            (ApiKey::FETCH, 16, fetch(&spec, 16)),
            (ApiKey::SHARE_FETCH, 0, fixtures::share_fetch_frame(&spec, 0)),
            (ApiKey::SHARE_FETCH, 1, fixtures::share_fetch_frame(&spec, 1)),
        ] {
            let (_, struck) = skim(api, version, &whole, &[64]).unwrap();
            for cut in 5..whole.len() {
                let cut = framed(&whole[4..cut]);
                match skim(api, version, &cut, &[64]) {
                    Err(_) => {}
                    // Endpoints that are cut are replaced like whole ones.
                    Ok((_, cut_struck)) => prop_assert!(struck && cut_struck && api == ApiKey::SHARE_FETCH, "{} v{}", api.name(), version),
                }
            }
        }
    }

    #[test]
    fn hostile_numbers_anywhere_are_survived(spec in spec(), chunk in 1usize..20) {
        for (api, version, whole) in [(ApiKey::FETCH, 16, fetch(&spec, 16)), (ApiKey::SHARE_FETCH, 1, fixtures::share_fetch_frame(&spec, 1))] {
            for at in 4..whole.len() {
                for number in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0xff, 0xff, 0xff, 0xff, 0xff], &[0x80, 0x80, 0x01], &[0]] {
                    let mut bytes = whole.to_vec();
                    let end = (at + number.len()).min(bytes.len());
                    bytes[at..end].copy_from_slice(&number[..end - at]);
                    let _ = skim(api, version, &bytes, &[chunk]);
                }
            }
        }
    }

    #[test]
    fn random_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 1..300), chunk in 1usize..40) {
        let _ = skim(ApiKey::FETCH, 17, &framed(&bytes), &[chunk]);
        let _ = skim(ApiKey::SHARE_FETCH, 2, &framed(&bytes), &[chunk]);
    }
}

/// The filler's length takes one byte more from certain sizes on, where the frame must not get longer: each size around those.
#[test]
fn endpoints_of_every_size_leave_a_well_formed_end() {
    let sizes = (12..400).chain(16_380..16_400);
    for size in sizes {
        // No topics; then one endpoint of a long host, whose bytes are not looked into.
        let before = [&[0, 0, 0, 1, 0][..], &[0; 6], &[0], &[0; 4], &[1]].concat();
        let original = framed(&[&before[..], &[2], &vec![b'x'; size - 1]].concat());
        let (skimmed, struck) = skim(ApiKey::SHARE_FETCH, 1, &original, &[7]).unwrap();
        assert!(struck && skimmed.len() == original.len());
        assert_eq!(skimmed[4..4 + before.len()], before[..]);
        let parsed = crate::wire::share_fetch::ShareFetchResponse::parse(&skimmed, 1).unwrap();
        assert!(parsed.node_endpoints.nodes.is_empty());
        let mut rest = skimmed.slice(9..);
        ShareFetchResponse::decode(&mut rest, 1).unwrap();
        assert!(rest.is_empty(), "size {size}");
        let end = &skimmed[4 + before.len()..];
        assert!(end.iter().skip(8).all(|byte| *byte == 0), "size {size}");
    }
}

#[test]
fn only_what_has_addresses_behind_records_is_skimmed() {
    for (api, version) in
        [(ApiKey::FETCH, 15), (ApiKey::FETCH, 19), (ApiKey::SHARE_FETCH, 3), (ApiKey::PRODUCE, 10), (ApiKey::METADATA, 12)]
    {
        assert!(EndpointSkimmer::new(api, version, 100).is_none());
    }
}

#[test]
fn bytes_behind_the_response_are_an_error() {
    let spec = Spec { nodes: Vec::new(), controller: -1, topics: Vec::new(), message: None, unknown_tag: None };
    let whole = fetch(&spec, 16);
    assert!(skim(ApiKey::FETCH, 16, &whole, &[3]).is_ok());
    let longer = framed(&[&whole[4..], &[0]].concat());
    for chunk in [1, 5, 1000] {
        assert_eq!(skim(ApiKey::FETCH, 16, &longer, &[chunk]).unwrap_err().what, "bytes follow the response's last field");
    }
}
