//! ApiVersions: clamping, hiding, and what is learned.

use std::time::Instant;

use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::protocol::Decodable;

use super::*;
use crate::cluster::{ApiVersionsObservation, LearnLimits, VersionRange, learn};

/// A view in which each of these brokers has told these ranges.
fn view_of_versions(brokers: &[&[(i16, i16, i16)]]) -> View {
    let nodes: Vec<NodeSpec> =
        (0..brokers.len() as i32).map(|id| NodeSpec { id, host: format!("real-{id}"), port: 9092, rack: None }).collect();
    let mut view = view(&nodes);
    for (node, ranges) in nodes.iter().zip(brokers) {
        let observation = Observation::ApiVersions(ApiVersionsObservation {
            node: NodeId(node.id),
            endpoint: real(node).endpoint,
            ranges: ranges.iter().map(|(key, min, max)| (ApiKey(*key), VersionRange { min: *min, max: *max })).collect(),
        });
        view = learn(&view, Instant::now(), &observation, &LearnLimits::default()).view.expect("versions are news");
    }
    view
}

const SPEC: Spec = Spec { nodes: Vec::new(), controller: -1, topics: Vec::new(), message: None, unknown_tag: None };

fn served(ranges: &[(i16, i16, i16)], view: &View, unknown_apis: UnknownApis) -> Vec<(i16, i16, i16)> {
    let addresses = Virtual { without: None };
    let context = Context { unknown_apis, ..context(&addresses, view) };
    let mut all = Vec::new();
    for version in 0..=4 {
        let original = frame(ApiKey::API_VERSIONS, version, &None, &fixtures::api_versions(&SPEC, version, ranges));
        let rewritten = response(ApiKey::API_VERSIONS, version, &original, &context).unwrap().frame;
        let decoded = ApiVersionsResponse::decode(&mut rewritten.slice(8..), version).unwrap();
        all.push(decoded.api_keys.iter().map(|range| (range.api_key, range.min_version, range.max_version)).collect::<Vec<_>>());
    }
    assert!(all.iter().all(|served| *served == all[0]), "every version serves the same: {all:?}");
    all.swap_remove(0)
}

#[test]
fn maxima_are_those_of_the_table_and_of_every_broker_and_minima_stay() {
    let view = View::default();
    let hide = UnknownApis::Hide;
    assert_eq!(served(&[(0, 0, 13), (1, 4, 18), (18, 0, 5), (11, 0, 9)], &view, hide), [(0, 0, 13), (1, 4, 15), (18, 0, 4), (11, 0, 9)]);
    let view = view_of_versions(&[&[(0, 0, 13), (3, 0, 13)], &[(0, 0, 9), (3, 0, 12)]]);
    assert_eq!(served(&[(0, 3, 13), (3, 0, 13)], &view, hide), [(0, 3, 9), (3, 0, 12)]);
}

#[test]
fn a_key_is_dropped_where_no_version_is_left() {
    let hide = UnknownApis::Hide;
    // Fetch has only versions that we cannot relay; a broker lacks FindCoordinator; another has only older versions of JoinGroup.
    let view = view_of_versions(&[&[(1, 0, 17), (10, 0, 6), (11, 5, 9)], &[(1, 0, 17), (11, 0, 4)]]);
    assert_eq!(served(&[(1, 16, 18), (10, 0, 6), (11, 5, 9), (1, 4, 4)], &view, hide), [(1, 4, 4)]);
}

#[test]
fn unknown_keys_are_hidden_or_passed_and_those_between_servers_are_always_hidden() {
    let view = View::default();
    let ranges = [(3, 0, 13), (4, 0, 7), (56, 2, 3), (86, 0, 0), (500, 1, 7)];
    assert_eq!(served(&ranges, &view, UnknownApis::Hide), [(3, 0, 13)]);
    assert_eq!(served(&ranges, &view, UnknownApis::Pass), [(3, 0, 13), (500, 1, 7)]);
}

proptest! {
    #![proptest_config(config(40))]

    /// Features, tags and everything else keep their bytes, also where the count of keys gets shorter than it was.
    #[test]
    fn all_else_keeps_its_bytes(spec in spec(), ranges in proptest::collection::vec((0i16..120, 0i16..5, 0i16..20), 0..150)) {
        let addresses = Virtual { without: None };
        let view = View::default();
        for version in 0..=4 {
            let original = fixtures::api_versions(&spec, version, &ranges);
            let mut expected = original.clone();
            expected.api_keys.retain_mut(|range| {
                let Some(known) = ApiKey(range.api_key).spec() else { return false };
                range.max_version = range.max_version.min(known.max_version);
                !known.between_servers && range.max_version >= range.min_version
            });
            let original = frame(ApiKey::API_VERSIONS, version, &spec.unknown_tag, &original);
            let rewritten = response(ApiKey::API_VERSIONS, version, &original, &context(&addresses, &view)).unwrap();
            let expected = frame(ApiKey::API_VERSIONS, version, &spec.unknown_tag, &expected);
            prop_assert_eq!(rewritten.frame, expected, "v{}", version);
            prop_assert_eq!(rewritten.observation, None, "nobody knows whose they are");
        }
    }
}

#[test]
fn a_known_brokers_own_ranges_are_learned_unclamped_and_sorted() {
    let addresses = Virtual { without: None };
    let view = View::default();
    let endpoint = Endpoint { host: "real".into(), port: 9092 };
    let context = Context { from_node: Some(NodeId(7)), from_endpoint: Some(&endpoint), ..context(&addresses, &view) };
    let original = frame(ApiKey::API_VERSIONS, 3, &None, &fixtures::api_versions(&SPEC, 3, &[(18, 0, 5), (1, 4, 18), (500, 0, 1)]));
    let observation = response(ApiKey::API_VERSIONS, 3, &original, &context).unwrap().observation;
    let range = |key, min, max| (ApiKey(key), VersionRange { min, max });
    let ranges = vec![range(1, 4, 18), range(18, 0, 5), range(500, 0, 1)];
    assert_eq!(observation, Some(Observation::ApiVersions(ApiVersionsObservation { node: NodeId(7), endpoint: endpoint.clone(), ranges })));

    // Beside an error the list names ApiVersions alone, which would hide all else.
    let unsupported = framed(&[0, 0, 0, 1, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 5]);
    let rewritten = response(ApiKey::API_VERSIONS, 4, &unsupported, &context).unwrap();
    assert_eq!(rewritten.observation, None);
    assert_eq!(rewritten.frame[..], [0, 0, 0, 16, 0, 0, 0, 1, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
}

#[test]
fn a_version_of_the_future_is_answered_as_a_broker_would() {
    let frame = unsupported_api_versions(0x0102_0304);
    assert_eq!(frame[..8], [0, 0, 0, 16, 1, 2, 3, 4]);
    let mut body = frame.slice(8..);
    let decoded = ApiVersionsResponse::decode(&mut body, 0).unwrap();
    assert!(body.is_empty());
    assert_eq!(decoded.error_code, 35);
    let ranges: Vec<_> = decoded.api_keys.iter().map(|range| (range.api_key, range.min_version, range.max_version)).collect();
    assert_eq!(ranges, [(18, 0, 4)]);
}
