//! A departure as clients see it, rule by rule. The world here is a view, a clock, and what brokers answer.

use std::time::Duration;

use kafka_protocol::messages::MetadataResponse;
use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponsePartition};
use kafka_protocol::protocol::Decodable;

use super::*;
use crate::cluster::{LearnLimits, MetadataObservation, PartitionObservation, TopicId, TopicObservation, learn};
use crate::wire::fixtures::{PartitionSpec, TopicSpec};

pub(super) struct World {
    pub(super) view: View,
    pub(super) now: Instant,
}

impl World {
    pub(super) fn learn(&mut self, seen: &Observation) {
        self.view = learn(&self.view, self.now, seen, &LearnLimits::default()).view.unwrap_or_else(|| self.view.clone());
    }

    /// Our own request is answered.
    pub(super) fn own(&mut self, spec: &Spec) {
        let topics = spec.topics.iter().map(|topic| TopicObservation {
            id: TopicId(topic.id),
            name: Some(topic.name.as_str().into()),
            error: 0,
            partitions: (0..).zip(&topic.partitions).map(|(index, partition)| seen(index, partition)).collect(),
        });
        self.learn(&Observation::Metadata(MetadataObservation {
            source: Source::Own,
            version: 12,
            cluster_id: spec.message.as_deref().map(Arc::from),
            controller: None,
            brokers: spec.nodes.iter().map(real).collect(),
            topics: topics.collect(),
        }));
    }

    /// A client's request is answered: what it gets, and what was masked. The view then learns.
    pub(super) fn client(&mut self, version: i16, spec: &Spec) -> (MetadataResponse, Masked) {
        let original = fixtures::metadata(spec, version);
        let whole = frame(ApiKey::METADATA, version, &spec.unknown_tag, &original);
        let addresses = Virtual { without: None };
        let context = Context { now: self.now, ..context(&addresses, &self.view) };
        let rewritten = response(ApiKey::METADATA, version, &whole, &context).unwrap();
        let told = decoded(version, &rewritten.frame, &spec.unknown_tag);
        assert_eq!(frame(ApiKey::METADATA, version, &spec.unknown_tag, &told), rewritten.frame, "v{version}: as the crate encodes it");
        assert_nothing_else_changed(original, &told);
        self.learn(&rewritten.observation.expect("it teaches"));
        (told, rewritten.masked)
    }
}

fn seen(index: i32, partition: &PartitionSpec) -> PartitionObservation {
    let leader = (partition.leader >= 0).then_some(NodeId(partition.leader));
    PartitionObservation { index, error: partition.error, leader, leader_epoch: partition.epoch }
}

fn decoded(version: i16, whole: &Bytes, unknown_tag: &Option<Vec<u8>>) -> MetadataResponse {
    let header_tags = unknown_tag.as_ref().map_or(1, |tag| 1 + 2 + if tag.len() < 128 { 1 } else { 2 } + tag.len());
    let mut body = whole.slice(8 + if version >= 9 { header_tags } else { 0 }..);
    let told = MetadataResponse::decode(&mut body, version).unwrap();
    assert!(body.is_empty(), "v{version}");
    told
}

/// Beside brokers' addresses and racks, brokers that were added, the controller, and partitions' leaders.
fn assert_nothing_else_changed(mut original: MetadataResponse, told: &MetadataResponse) {
    for (original, told) in original.brokers.iter_mut().zip(&told.brokers) {
        assert_eq!((&*told.host, told.port), ("virtual.example", 20_000 + told.node_id.0));
        (original.host, original.port, original.rack) = (told.host.clone(), told.port, told.rack.clone());
    }
    original.brokers.extend_from_slice(&told.brokers[original.brokers.len()..]);
    original.controller_id = told.controller_id;
    let told_partitions = told.topics.iter().flat_map(|topic| &topic.partitions);
    for (original, told) in original.topics.iter_mut().flat_map(|topic| &mut topic.partitions).zip(told_partitions) {
        (original.error_code, original.leader_id, original.leader_epoch) = (told.error_code, told.leader_id, told.leader_epoch);
    }
    assert_eq!(original, *told);
}

pub(super) fn node(id: i32) -> NodeSpec {
    NodeSpec { id, host: format!("real-{id}"), port: 9092, rack: Some(format!("rack-{id}")) }
}

/// One topic, `t`, with one partition.
fn cluster(nodes: &[i32], (error, leader, epoch): (i16, i32, i32)) -> Spec {
    let partition = PartitionSpec { error, leader, epoch, replicas: vec![1, 2], records: None };
    Spec {
        nodes: nodes.iter().map(|id| node(*id)).collect(),
        controller: nodes[0],
        topics: vec![TopicSpec { name: "t".to_owned(), id: [7; 16], partitions: vec![partition] }],
        message: Some("c".to_owned()),
        unknown_tag: None,
    }
}

fn world(spec: &Spec) -> World {
    let mut world = World { view: View::default(), now: Instant::now() };
    world.own(spec);
    world
}

fn partition(told: &MetadataResponse) -> (i16, i32, i32) {
    let MetadataResponsePartition { error_code, leader_id, leader_epoch, .. } = &told.topics[0].partitions[0];
    (*error_code, leader_id.0, *leader_epoch)
}

fn brokers(told: &MetadataResponse) -> Vec<(i32, i32, Option<String>)> {
    let rack = |broker: &MetadataResponseBroker| broker.rack.as_ref().map(|rack| rack.to_string());
    told.brokers.iter().map(|broker| (broker.node_id.0, broker.port, rack(broker))).collect()
}

fn errors(masked: &Masked) -> Vec<(i16, u32)> {
    masked.errors.iter().collect()
}

/// In version 0 there are no racks.
fn listed(ids: &[i32], version: i16) -> Vec<(i32, i32, Option<String>)> {
    ids.iter().map(|id| (*id, 20_000 + id, (version >= 1).then(|| format!("rack-{id}")))).collect()
}

#[test]
fn nothing_is_masked_where_nothing_departs() {
    for version in 0..=13 {
        let calm = cluster(&[1, 2], (0, 2, 5));
        let (told, masked) = world(&calm).client(version, &calm);
        assert!(masked.is_empty(), "v{version}: {masked:?}");
        assert_eq!((partition(&told).1, brokers(&told)), (2, listed(&[1, 2], version)));
    }
}

#[test]
fn a_departed_broker_stays_listed_as_it_was_until_it_is_retired() {
    for version in 0..=13 {
        let mut world = world(&cluster(&[1, 2, 3], (0, 1, 5)));
        let without = cluster(&[1, 3], (0, 1, 5));
        world.own(&without);
        let (told, masked) = world.client(version, &without);
        assert_eq!(brokers(&told), listed(&[1, 3, 2], version), "v{version}");
        assert_eq!(masked, Masked { brokers_added: 1, ..Masked::default() });
        world.learn(&Observation::Retire(NodeId(2)));
        assert_eq!(brokers(&world.client(version, &without).0), listed(&[1, 3], version), "v{version}");
    }
}

#[test]
fn a_broker_that_a_lagging_answer_lacks_is_added() {
    let mut world = world(&cluster(&[1, 2], (0, 2, 5)));
    let (told, masked) = world.client(12, &cluster(&[1], (0, 2, 5)));
    assert_eq!((brokers(&told), partition(&told)), (listed(&[1, 2], 12), (0, 2, 5)));
    assert_eq!(masked.brokers_added, 1);
}

#[test]
fn an_empty_list_of_brokers_is_filled() {
    for version in 0..=13 {
        let calm = cluster(&[1, 2], (0, 2, 5));
        let starting = Spec { nodes: Vec::new(), topics: Vec::new(), ..calm.clone() };
        assert_eq!(brokers(&world(&calm).client(version, &starting).0), listed(&[1, 2], version), "v{version}");
    }
}

#[test]
fn a_rack_does_not_change() {
    let mut world = world(&cluster(&[1, 2], (0, 1, 5)));
    let mut moved = cluster(&[1, 2], (0, 1, 5));
    moved.nodes[1] = NodeSpec { rack: None, port: 9999, ..node(2) };
    for returned in [false, true] {
        if returned {
            world.own(&cluster(&[1], (0, 1, 5)));
            assert_eq!(brokers(&world.client(12, &moved).0), listed(&[1, 2], 12), "departed, and named by a broker that lags");
            world.own(&moved);
            assert_eq!(world.view.brokers[&NodeId(2)].endpoint.port, 9999);
        }
        for version in 0..=13 {
            assert_eq!(brokers(&world.client(version, &moved).0), listed(&[1, 2], version), "v{version}");
        }
    }
}

#[test]
fn a_broker_asked_for_takes_the_rack_that_it_turns_out_to_have() {
    let mut world = world(&cluster(&[1], (0, 1, 5)));
    world.learn(&Observation::AskedFor(NodeId(2)));
    let (told, _) = world.client(12, &cluster(&[1], (0, 1, 5)));
    assert_eq!(brokers(&told)[1], (2, 20_002, None));
    assert_eq!(brokers(&world.client(12, &cluster(&[1, 2], (0, 1, 5))).0), listed(&[1, 2], 12));
}

#[test]
fn an_answer_of_a_broker_that_lags_is_told_with_what_the_view_knows() {
    for version in 7..=13 {
        let mut world = world(&cluster(&[1, 2], (0, 2, 6)));
        for stale in [(0, 1, 5), (5, -1, 5), (0, -1, 5), (72, -1, 5), (0, 9, 5)] {
            let (told, masked) = world.client(version, &cluster(&[1, 2], stale));
            assert_eq!(partition(&told), (0, 2, 6), "v{version} {stale:?}");
            assert_eq!((masked.epochs_raised, masked.leaders_kept), (1, 0));
            assert_eq!(errors(&masked), if stale.0 == 0 { vec![] } else { vec![(stale.0, 1)] });
        }
        assert_eq!(partition(&world.client(version, &cluster(&[1, 2], (0, 1, 6))).0), (0, 1, 6), "at the same epoch the answer counts");
        assert_eq!(partition(&world.client(version, &cluster(&[1, 2], (0, 1, 7))).0), (0, 1, 7));
    }
}

#[test]
fn a_leaderless_window_shows_the_last_good_leader_for_a_bounded_time() {
    let lasts = Masks::default().leaderless;
    for version in 7..=13 {
        for leaderless in [(5, -1, 6), (0, -1, 6), (0, 9, 6), (5, -1, 5)] {
            let mut world = world(&cluster(&[1, 2], (0, 2, 5)));
            let epoch = leaderless.2;
            // 2 is gone with it, or stays.
            for nodes in [&[1][..], &[1, 2]] {
                let (told, masked) = world.client(version, &cluster(nodes, leaderless));
                assert_eq!(partition(&told), (0, 2, epoch), "v{version} {leaderless:?} among {nodes:?}");
                assert!(told.brokers.iter().any(|broker| broker.node_id.0 == 2));
                assert_eq!((masked.leaders_kept, errors(&masked)), (1, if leaderless.0 == 5 { vec![(5, 1)] } else { vec![] }));
            }
            world.now += lasts - Duration::from_millis(1);
            assert_eq!(partition(&world.client(version, &cluster(&[1, 2], leaderless)).0), (0, 2, epoch));
            world.now += Duration::from_millis(1);
            let (told, masked) = world.client(version, &cluster(&[1, 2], leaderless));
            assert_eq!((partition(&told), masked.leaders_kept), ((5, -1, epoch), 0), "v{version} {leaderless:?}");
            let (told, masked) = world.client(version, &cluster(&[1, 2], (0, 2, 4)));
            assert_eq!((partition(&told), masked.epochs_raised), ((5, -1, epoch), 1), "an old answer does not prolong it");
            assert_eq!(partition(&world.client(version, &cluster(&[1, 2], (0, 1, 7))).0), (0, 1, 7), "it ends with a new leader");
            assert_eq!(partition(&world.client(version, &cluster(&[1, 2], (5, -1, 8))).0), (0, 1, 8), "and the next one is bounded anew");
        }
    }
}

#[test]
fn the_time_of_a_leaderless_window_counts_from_its_leaders_departure() {
    let mut world = world(&cluster(&[1, 2], (0, 2, 5)));
    world.own(&Spec { topics: Vec::new(), ..cluster(&[1], (0, 2, 5)) });
    world.now += Masks::default().leaderless;
    assert_eq!(partition(&world.client(12, &cluster(&[1], (0, 2, 5))).0), (0, 2, 5), "whom the cluster itself names is told");
    assert_eq!(partition(&world.client(12, &cluster(&[1], (0, 1, 4))).0), (5, -1, 5));
    assert_eq!(partition(&world.client(12, &cluster(&[1], (5, -1, 6))).0), (5, -1, 6));
}

#[test]
fn without_a_last_good_leader_a_client_is_told_that_there_is_none() {
    for version in 0..=13 {
        for (seen, told_error) in [((0, 9, 5), 5), ((9, -1, 5), 5), ((5, -1, 5), 5), ((72, -1, 5), 72)] {
            let mut world = world(&Spec { topics: Vec::new(), ..cluster(&[1, 2], (0, 1, 1)) });
            let (told, masked) = world.client(version, &cluster(&[1, 2], seen));
            assert_eq!((partition(&told).0, partition(&told).1), (told_error, -1), "v{version} {seen:?}");
            assert!(masked.is_empty());
        }
    }
}

#[test]
fn an_error_that_is_not_a_departures_passes() {
    let mut world = world(&cluster(&[1, 2], (0, 2, 5)));
    let (told, masked) = world.client(12, &cluster(&[1, 2], (72, -1, 5)));
    assert_eq!((partition(&told), masked), ((72, -1, 5), Masked::default()));
}

#[test]
fn answers_without_epochs_get_the_views_newer_leader() {
    for version in 0..=6 {
        let mut world = world(&cluster(&[1, 2], (0, 2, 6)));
        for old in [(0, 1, -1), (5, -1, -1), (0, 9, -1)] {
            let (told, masked) = world.client(version, &cluster(&[1, 2], old));
            assert_eq!(partition(&told), (0, 2, -1), "v{version} {old:?}");
            assert_eq!(masked.epochs_raised, 1);
        }
        // By now every broker knows of the view's leader.
        world.now += Duration::from_secs(60);
        assert_eq!(partition(&world.client(version, &cluster(&[1, 2], (0, 1, -1))).0), (0, 1, -1), "v{version}");
        assert_eq!(partition(&world.client(version, &cluster(&[1, 2], (5, -1, -1))).0), (0, 2, -1), "v{version}: until we know better");
        world.own(&cluster(&[1, 2], (5, -1, 7)));
        assert_eq!(partition(&world.client(version, &cluster(&[1, 2], (5, -1, -1))).0), (0, 2, -1), "v{version}");
        world.now += Masks::default().leaderless;
        assert_eq!(partition(&world.client(version, &cluster(&[1, 2], (5, -1, -1))).0), (5, -1, -1), "v{version}");
    }
}

#[test]
fn a_recreated_topic_starts_anew() {
    for version in 10..=13 {
        let mut world = world(&cluster(&[1, 2], (0, 2, 50)));
        let mut recreated = cluster(&[1, 2], (0, 1, 0));
        recreated.topics[0].id = [8; 16];
        assert_eq!(partition(&world.client(version, &recreated).0), (0, 1, 0), "v{version}");
        assert_eq!(
            partition(&world.client(version, &cluster(&[1, 2], (0, 1, 40))).0),
            (0, 2, 50),
            "the old one, as a broker that lags names it"
        );
    }
}

#[test]
fn another_clusters_answer_is_not_mixed_with_ours() {
    let mut world = world(&cluster(&[1, 2], (0, 2, 5)));
    let other = Spec { message: Some("d".to_owned()), ..cluster(&[1], (5, -1, 1)) };
    let (told, masked) = world.client(12, &other);
    assert_eq!((brokers(&told), partition(&told), masked), (listed(&[1], 12), (5, -1, 1), Masked::default()));
}

#[test]
fn a_departed_coordinator_keeps_its_address_and_a_departed_broker_is_no_member_of_the_cluster() {
    let mut world = world(&cluster(&[1, 2], (0, 1, 5)));
    world.own(&cluster(&[1], (0, 1, 5)));
    let addresses = Virtual { without: None };
    let context = context(&addresses, &world.view);
    let named = Spec { nodes: vec![node(2)], ..cluster(&[1], (0, 1, 5)) };
    for version in 0..=6 {
        let mut expected = fixtures::find_coordinator(&named, version);
        (expected.host, expected.port) = if version <= 3 { (text("virtual.example"), 20_002) } else { (text(""), 0) };
        for coordinator in expected.coordinators.iter_mut().filter(|coordinator| coordinator.node_id.0 == 2) {
            (coordinator.host, coordinator.port) = (text("virtual.example"), 20_002);
        }
        let original = frame(ApiKey::FIND_COORDINATOR, version, &None, &fixtures::find_coordinator(&named, version));
        let rewritten = response(ApiKey::FIND_COORDINATOR, version, &original, &context).unwrap();
        assert_eq!(rewritten.frame, frame(ApiKey::FIND_COORDINATOR, version, &None, &expected), "v{version}");
    }
    for version in 0..=2 {
        let original = fixtures::describe_cluster(&cluster(&[1], (0, 1, 5)), version);
        let mut expected = original.clone();
        (expected.brokers[0].host, expected.brokers[0].port) = (text("virtual.example"), 20_001);
        let original = frame(ApiKey::DESCRIBE_CLUSTER, version, &None, &original);
        let rewritten = response(ApiKey::DESCRIBE_CLUSTER, version, &original, &context).unwrap();
        assert_eq!(rewritten.frame, frame(ApiKey::DESCRIBE_CLUSTER, version, &None, &expected), "v{version}");
    }
}

#[test]
fn endpoints_beside_hints_name_departed_brokers_too_and_no_leader_that_nobody_knows() {
    let mut world = world(&cluster(&[1, 2, 3], (0, 1, 5)));
    world.own(&cluster(&[1, 3], (0, 1, 5)));
    let addresses = Virtual { without: None };
    let context = context(&addresses, &world.view);
    // The hint's leader is departed, listed, or unknown, with or without its own endpoint.
    for (leader, known) in [(2, true), (3, true), (9, false)] {
        for named in [1, leader] {
            let hinting = Spec { nodes: vec![node(named)], ..cluster(&[1], (6, leader, 6)) };
            for version in 10..=13 {
                let mut expected = fixtures::produce(&hinting, version);
                let endpoint = expected.node_endpoints[0].clone();
                let endpoints = [1, 2, 3].map(|id| {
                    let endpoint = endpoint.clone().with_node_id(BrokerId(id)).with_host(text("virtual.example")).with_port(20_000 + id);
                    endpoint.with_rack(Some(text(&format!("rack-{id}"))))
                });
                expected.node_endpoints = if known { endpoints.to_vec() } else { Vec::new() };
                let original = frame(ApiKey::PRODUCE, version, &None, &fixtures::produce(&hinting, version));
                let rewritten = response(ApiKey::PRODUCE, version, &original, &context).unwrap();
                assert_eq!(rewritten.frame, frame(ApiKey::PRODUCE, version, &None, &expected), "v{version}, leader {leader}");
            }
        }
    }
}

#[test]
fn masked_errors_are_counted_by_code() {
    let mut errors = MaskedErrors::default();
    for code in [5, 72, 5, 3, 6, 19, 5] {
        errors.add(code);
    }
    assert_eq!(errors.iter().collect::<Vec<_>>(), [(5, 3), (72, 1), (3, 1), (6, 2)], "a fifth code counts as the fourth");
}
