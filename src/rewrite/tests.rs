//! Every rewrite against the kafka-protocol crate: the response that leaves must have the very bytes that the crate gives the response
//! that was meant, so that nothing but addresses (and what a missing address entails) can have changed.

mod departures;
mod departures_properties;
mod produce_parts;
mod versions;

use std::collections::BTreeMap;
use std::time::Instant;

use kafka_protocol::messages::BrokerId;
use proptest::prelude::*;

use super::*;
use crate::cluster::{Broker, Source, ToldBroker};
use crate::wire::fixtures::{self, NodeSpec, Spec, every_frame, frame, framed, spec, text};

/// Virtual brokers on 20000 + id, but for one id that no port is left for.
struct Virtual {
    without: Option<i32>,
}

impl Addresses for Virtual {
    fn advertised(&self, node: NodeId) -> Option<Advertised> {
        (Some(node.0) != self.without).then(|| Advertised { host: "virtual.example".into(), port: 20_000 + node.0 as u16 })
    }
}

impl Virtual {
    fn has(&self, node: i32) -> bool {
        Some(node) != self.without
    }
}

fn view(nodes: &[NodeSpec]) -> View {
    let mut view = View::default();
    view.brokers = nodes.iter().map(|node| (NodeId(node.id), real(node))).collect();
    view
}

fn real(node: &NodeSpec) -> Broker {
    let endpoint = Endpoint { host: node.host.as_str().into(), port: node.port as u16 };
    Broker { id: NodeId(node.id), endpoint, rack: node.rack.as_deref().map(Arc::from) }
}

fn context<'a>(addresses: &'a Virtual, view: &'a View) -> Context<'a> {
    let (unknown_apis, masks) = (UnknownApis::Hide, Masks::default());
    Context { addresses, view, from_node: None, from_endpoint: None, unknown_apis, now: Instant::now(), masks }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// What endpoints beside leader hints must become: all of the view, or none.
macro_rules! expected_endpoints {
    ($named:expr, $leaders:expr, $view_nodes:expr, $virtual:expr, $endpoint:ty) => {{
        let view_nodes: &[NodeSpec] = $view_nodes;
        let listed = $named.clone();
        let mut named = listed.iter().map(|named| named.node_id.0).chain($leaders);
        let known = named.all(|named| view_nodes.iter().any(|node| node.id == named));
        if listed.is_empty() || !known || view_nodes.iter().any(|node| !$virtual.has(node.id)) {
            Vec::new()
        } else {
            let endpoint = |node: &NodeSpec| {
                <$endpoint>::default()
                    .with_node_id(BrokerId(node.id))
                    .with_host(text("virtual.example"))
                    .with_port(20_000 + node.id)
                    .with_rack(node.rack.as_deref().map(text))
            };
            view_nodes.iter().map(endpoint).collect()
        }
    }};
}

proptest! {
    #![proptest_config(config(40))]

    #[test]
    fn metadata(spec in spec(), without in proptest::option::of(0i32..6)) {
        let addresses = Virtual { without };
        let empty = View::default();
        for version in 0..=13 {
            let original = fixtures::metadata(&spec, version);
            let mut expected = original.clone();
            expected.brokers.retain(|broker| addresses.has(broker.node_id.0));
            let listed: Vec<BrokerId> = expected.brokers.iter().map(|broker| broker.node_id).collect();
            for broker in &mut expected.brokers {
                broker.host = text("virtual.example");
                broker.port = 20_000 + broker.node_id.0;
            }
            if !listed.contains(&expected.controller_id) {
                expected.controller_id = BrokerId(-1);
            }
            for partition in expected.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if !listed.contains(&partition.leader_id) {
                    partition.leader_id = BrokerId(-1);
                    if partition.error_code == 0 || partition.error_code == 9 {
                        partition.error_code = 5;
                    }
                }
            }
            let original = frame(ApiKey::METADATA, version, &spec.unknown_tag, &original);
            let rewritten = response(ApiKey::METADATA, version, &original, &context(&addresses, &empty)).unwrap();
            let expected = frame(ApiKey::METADATA, version, &spec.unknown_tag, &expected);
            prop_assert_eq!(rewritten.frame, expected, "v{}", version);

            let Some(Observation::Metadata(seen)) = rewritten.observation else { panic!("metadata teaches") };
            prop_assert_eq!((seen.source, seen.version), (Source::Passing, version));
            let brokers: Vec<Broker> = spec.nodes.iter().map(real).map(|broker| match version {
                0 => Broker { rack: None, ..broker },
                _ => broker,
            }).collect();
            prop_assert_eq!(seen.brokers, brokers, "with their real addresses, those without a virtual one too");
            prop_assert_eq!(seen.controller, Some(NodeId(spec.controller)).filter(|node| version >= 1 && node.0 >= 0));
            for (topic, expected) in seen.topics.iter().zip(&spec.topics) {
                for (partition, expected) in topic.partitions.iter().zip(&expected.partitions) {
                    prop_assert_eq!(partition.leader, Some(NodeId(expected.leader)).filter(|node| node.0 >= 0), "as the cluster said");
                    prop_assert_eq!(partition.error, expected.error);
                }
            }
        }
    }

    #[test]
    fn find_coordinator(spec in spec(), without in proptest::option::of(0i32..6)) {
        let addresses = Virtual { without };
        let empty = View::default();
        for version in 0..=6 {
            let original = fixtures::find_coordinator(&spec, version);
            let mut expected = original.clone();
            if version <= 3 && expected.node_id.0 >= 0 {
                let has = addresses.has(expected.node_id.0);
                if !has {
                    expected.node_id = BrokerId(-1);
                    expected.error_code = 15;
                }
                expected.host = text(if has { "virtual.example" } else { "" });
                expected.port = if has { 20_000 + expected.node_id.0 } else { -1 };
            }
            for coordinator in expected.coordinators.iter_mut().filter(|coordinator| coordinator.node_id.0 >= 0) {
                let has = addresses.has(coordinator.node_id.0);
                if !has {
                    coordinator.node_id = BrokerId(-1);
                    coordinator.error_code = 15;
                }
                coordinator.host = text(if has { "virtual.example" } else { "" });
                coordinator.port = if has { 20_000 + coordinator.node_id.0 } else { -1 };
            }
            let original = frame(ApiKey::FIND_COORDINATOR, version, &spec.unknown_tag, &original);
            let rewritten = response(ApiKey::FIND_COORDINATOR, version, &original, &context(&addresses, &empty)).unwrap();
            let expected = frame(ApiKey::FIND_COORDINATOR, version, &spec.unknown_tag, &expected);
            prop_assert_eq!(rewritten.frame, expected, "v{}", version);
        }
    }

    #[test]
    fn describe_cluster(spec in spec(), without in proptest::option::of(0i32..6), controllers in any::<bool>()) {
        let addresses = Virtual { without };
        let empty = View::default();
        for version in 0..=2 {
            let mut original = fixtures::describe_cluster(&spec, version);
            if controllers && version >= 1 {
                original.endpoint_type = 2;
            }
            let mut expected = original.clone();
            expected.brokers.retain(|broker| addresses.has(broker.broker_id.0) && original.endpoint_type == 1);
            for broker in &mut expected.brokers {
                broker.host = text("virtual.example");
                broker.port = 20_000 + broker.broker_id.0;
            }
            if !expected.brokers.iter().any(|broker| broker.broker_id == expected.controller_id) {
                expected.controller_id = BrokerId(-1);
            }
            let original = frame(ApiKey::DESCRIBE_CLUSTER, version, &spec.unknown_tag, &original);
            let rewritten = response(ApiKey::DESCRIBE_CLUSTER, version, &original, &context(&addresses, &empty)).unwrap();
            let expected = frame(ApiKey::DESCRIBE_CLUSTER, version, &spec.unknown_tag, &expected);
            prop_assert_eq!(rewritten.frame, expected, "v{}", version);
        }
    }

    #[test]
    fn leaders_endpoints_list_every_broker_or_none(
        spec in spec(),
        more in spec(),
        known in any::<bool>(),
        without in proptest::option::of(0i32..6),
    ) {
        let addresses = Virtual { without };
        // Half the time the view knows all that the response names, and some more; else what it knows is by chance.
        let mut nodes: BTreeMap<i32, NodeSpec> = more.nodes.iter().map(|node| (node.id, node.clone())).collect();
        if known {
            nodes.extend(spec.nodes.iter().map(|node| (node.id, node.clone())));
        }
        let nodes: Vec<NodeSpec> = nodes.into_values().collect();
        let view = view(&nodes);

        for version in 10..=13 {
            let original = fixtures::produce(&spec, version);
            let mut expected = original.clone();
            expected.node_endpoints =
                expected_endpoints!(
                    original.node_endpoints,
                    hinted(&spec, &[6]),
                    &nodes,
                    addresses,
                    kafka_protocol::messages::produce_response::NodeEndpoint
                );
            let original = frame(ApiKey::PRODUCE, version, &spec.unknown_tag, &original);
            let rewritten = response(ApiKey::PRODUCE, version, &original, &context(&addresses, &view)).unwrap();
            let expected = frame(ApiKey::PRODUCE, version, &spec.unknown_tag, &expected);
            prop_assert_eq!(rewritten.frame, expected, "v{}", version);
            assert_learned(&spec, &[6], rewritten.observation, version >= 13);
        }
        for version in 0..=2 {
            let mut meant = spec.clone();
            meant.nodes = Vec::new();
            let mut expected = fixtures::share_fetch(&meant);
            expected.node_endpoints = expected_endpoints!(
                fixtures::share_fetch(&spec).node_endpoints,
                hinted(&spec, &[6, 74]),
                &nodes,
                addresses,
                kafka_protocol::messages::share_fetch_response::NodeEndpoint
            );
            let original = fixtures::share_fetch_frame(&spec, version);
            let rewritten = response(ApiKey::SHARE_FETCH, version, &original, &context(&addresses, &view)).unwrap();
            prop_assert_eq!(rewritten.frame, fixtures::share_fetch_frame_of(&expected, &spec, version), "v{}", version);
            assert_learned(&spec, &[6, 74], rewritten.observation, true);

            let mut expected = fixtures::share_acknowledge(&meant);
            expected.node_endpoints = expected_endpoints!(
                fixtures::share_acknowledge(&spec).node_endpoints,
                hinted(&spec, &[6, 74]),
                &nodes,
                addresses,
                kafka_protocol::messages::share_acknowledge_response::NodeEndpoint
            );
            let original = fixtures::share_acknowledge_frame(&spec, version);
            let rewritten = response(ApiKey::SHARE_ACKNOWLEDGE, version, &original, &context(&addresses, &view)).unwrap();
            prop_assert_eq!(rewritten.frame, fixtures::share_acknowledge_frame_of(&expected, &spec, version), "v{}", version);
            assert_learned(&spec, &[6, 74], rewritten.observation, true);
        }
    }
}

/// The leaders that stand beside these errors.
fn hinted(spec: &Spec, errors: &[i16]) -> impl Iterator<Item = i32> {
    let partitions = spec.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.filter(|partition| errors.contains(&partition.error) && partition.leader >= 0).map(|partition| partition.leader)
}

/// Leaders from hints beside these errors; none from −1.
fn assert_learned(spec: &Spec, errors: &[i16], observation: Option<Observation>, by_id: bool) {
    let seen = match observation {
        None => Vec::new(),
        Some(Observation::Leaders(topics)) => topics,
        Some(other) => panic!("{other:?}"),
    };
    let seen: Vec<_> = seen
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(move |partition| (topic.id.0, topic.name.as_deref(), partition)))
        .map(|(id, name, partition)| (id, name, partition.index, partition.error, partition.leader, partition.leader_epoch))
        .collect();
    let mut expected = Vec::new();
    for topic in &spec.topics {
        for (partition, index) in topic.partitions.iter().zip(0..) {
            if errors.contains(&partition.error) && partition.leader >= 0 {
                let (id, name) = if by_id { (topic.id, None) } else { ([0; 16], Some(topic.name.as_str())) };
                expected.push((id, name, index, partition.error, Some(NodeId(partition.leader)), partition.epoch));
            }
        }
    }
    assert_eq!(seen, expected);
}

proptest! {
    #![proptest_config(config(20))]

    #[test]
    fn no_real_host_leaves(spec in spec(), without in proptest::option::of(0i32..6)) {
        let mut spec = spec;
        for node in &mut spec.nodes {
            node.host = format!("REAL-{}", node.host);
        }
        let addresses = Virtual { without };
        let view = view(&spec.nodes);
        for (api, version, frame) in every_frame(&spec) {
            prop_assert!(concerns(api, version));
            let rewritten = response(api, version, &frame, &context(&addresses, &view)).unwrap().frame;
            prop_assert!(!rewritten.windows(5).any(|window| window == b"REAL-"), "{} v{}", api.name(), version);
        }
    }

    #[test]
    fn bytes_that_do_not_parse_are_never_relayed(spec in spec(), cut in any::<proptest::sample::Index>()) {
        let addresses = Virtual { without: None };
        let view = view(&spec.nodes);
        for (api, version, frame) in every_frame(&spec) {
            let cut = framed(&frame[4..4 + cut.index(frame.len() - 4)]);
            let error = response(api, version, &cut, &context(&addresses, &view)).unwrap_err();
            prop_assert_eq!((error.api, error.version), (api, version));
        }
    }
}

#[test]
fn what_names_nobody_is_the_very_same_buffer() {
    let addresses = Virtual { without: None };
    let view = View::default();
    let spec = Spec { nodes: Vec::new(), controller: -1, topics: Vec::new(), message: None, unknown_tag: None };
    for (api, version, frame) in every_frame(&spec).into_iter().filter(|(api, ..)| *api != ApiKey::API_VERSIONS) {
        let rewritten = response(api, version, &frame, &context(&addresses, &view)).unwrap();
        assert_eq!(rewritten.frame.as_ptr(), frame.as_ptr(), "{} v{version}", api.name());
    }
    let opaque = framed(&[1, 2, 3]);
    for (api, version) in [(ApiKey::PRODUCE, 9), (ApiKey::FETCH, 15), (ApiKey::SASL_HANDSHAKE, 1), (ApiKey(4711), 0)] {
        assert!(!concerns(api, version));
        assert_eq!(response(api, version, &opaque, &context(&addresses, &view)).unwrap().frame.as_ptr(), opaque.as_ptr());
    }
}

#[test]
fn versions_of_the_future_fail_rather_than_pass() {
    let addresses = Virtual { without: None };
    let view = View::default();
    let frame = framed(&[0; 40]);
    for api in ApiKey::all().iter().filter(|spec| concerns(spec.key, i16::MAX)) {
        assert!(response(api.key, i16::MAX, &frame, &context(&addresses, &view)).is_err(), "{}", api.name);
    }
    assert!(response(ApiKey::FETCH, 16, &frame, &context(&addresses, &view)).is_err());
}

/// A broker whose port cannot be connected to would make the list short by one, as if it had departed.
#[test]
fn an_unusable_address_teaches_nothing_but_is_still_replaced() {
    let addresses = Virtual { without: None };
    let view = View::default();
    let node = NodeSpec { id: 1, host: "real".to_owned(), port: 70_000, rack: None };
    let spec = Spec { nodes: vec![node], controller: 1, topics: Vec::new(), message: None, unknown_tag: None };
    let original = frame(ApiKey::METADATA, 12, &None, &fixtures::metadata(&spec, 12));
    let rewritten = response(ApiKey::METADATA, 12, &original, &context(&addresses, &view)).unwrap();
    assert_eq!(rewritten.observation, None);
    assert!(rewritten.frame.windows(15).any(|window| window == b"virtual.example"));
}
