//! The rules of learning, one by one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::wire::ApiKey;

pub(super) fn node(id: i32) -> NodeId {
    NodeId(id)
}

pub(super) fn broker(id: i32) -> Broker {
    broker_at(id, 9092)
}

pub(super) fn broker_at(id: i32, port: u16) -> Broker {
    Broker { id: node(id), endpoint: Endpoint { host: format!("broker-{id}").into(), port }, rack: Some("a".into()) }
}

pub(super) fn topic_id(id: u8) -> TopicId {
    TopicId([id; 16])
}

pub(super) fn led(index: i32, leader: i32, leader_epoch: i32) -> PartitionObservation {
    PartitionObservation { index, error: 0, leader: (leader >= 0).then_some(node(leader)), leader_epoch }
}

pub(super) fn topic(id: u8, name: &str, partitions: Vec<PartitionObservation>) -> TopicObservation {
    TopicObservation { id: topic_id(id), name: Some(name.into()), error: 0, partitions }
}

pub(super) fn answer(source: Source, brokers: &[i32], topics: Vec<TopicObservation>) -> Observation {
    Observation::Metadata(MetadataObservation {
        source,
        version: 12,
        cluster_id: Some("c".into()),
        controller: None,
        brokers: brokers.iter().map(|id| broker(*id)).collect(),
        topics,
    })
}

pub(super) fn own(brokers: &[i32], topics: Vec<TopicObservation>) -> Observation {
    answer(Source::Own, brokers, topics)
}

pub(super) fn passing(brokers: &[i32], topics: Vec<TopicObservation>) -> Observation {
    answer(Source::Passing, brokers, topics)
}

fn versions(id: i32, ranges: &[(ApiKey, i16, i16)]) -> Observation {
    Observation::ApiVersions(ApiVersionsObservation {
        node: node(id),
        endpoint: broker(id).endpoint,
        ranges: ranges.iter().map(|(key, min, max)| (*key, VersionRange { min: *min, max: *max })).collect(),
    })
}

/// Learns one observation after the other.
pub(super) struct Learner {
    pub(super) view: View,
    pub(super) now: Instant,
    pub(super) limits: LearnLimits,
}

impl Learner {
    pub(super) fn new() -> Learner {
        Learner { view: View::default(), now: Instant::now(), limits: LearnLimits::default() }
    }

    pub(super) fn learn(&mut self, observation: Observation) -> Learned {
        let learned = learn(&self.view, self.now, &observation, &self.limits);
        if let Some(view) = &learned.view {
            assert_eq!(view.generation, self.view.generation + 1);
            self.view = view.clone();
        }
        learned
    }

    pub(super) fn leader(&self, name: &str) -> Option<(i32, i32)> {
        self.view.leader(TopicRef::Name(name), 0).map(|leader| (leader.node.0, leader.epoch))
    }

    pub(super) fn listed(&self) -> Vec<i32> {
        self.view.brokers.keys().map(|id| id.0).collect()
    }
}

#[test]
fn the_same_answer_twice_changes_nothing() {
    let mut learner = Learner::new();
    let seen = own(&[1, 2], vec![topic(1, "t", vec![led(0, 1, 5)])]);
    assert!(learner.learn(seen.clone()).view.is_some());
    assert_eq!(learner.learn(seen), Learned::default());
    assert_eq!(learner.view.generation, 1);
}

#[test]
fn an_epoch_never_goes_back_and_a_newer_one_moves_the_leader() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![topic(1, "t", vec![led(0, 1, 5)])]));
    assert_eq!(learner.learn(passing(&[1, 2], vec![topic(1, "t", vec![led(0, 2, 4)])])).view, None);
    learner.learn(passing(&[1, 2], vec![topic(1, "t", vec![led(0, 2, 6)])]));
    assert_eq!(learner.leader("t"), Some((2, 6)));
    for _ in 0..20 {
        learner.learn(passing(&[1, 2], vec![topic(1, "t", vec![led(0, 1, 5)])]));
    }
    assert_eq!(learner.leader("t"), Some((2, 6)));
}

#[test]
fn a_recreated_topic_starts_anew_under_its_name() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![topic(1, "t", vec![led(0, 1, 50)])]));
    learner.learn(own(&[1, 2], vec![topic(2, "t", vec![led(0, 2, 0)])]));
    assert_eq!(learner.leader("t"), Some((2, 0)));
    let old = learner.view.leader(TopicRef::Id(topic_id(1)), 0).map(|leader| leader.epoch);
    assert_eq!(old, Some(50), "a lagging broker may still speak of it, and then its epochs hold");
    learner.learn(own(&[1, 2], vec![topic(3, "t", vec![led(0, 1, 0)])]));
    assert!(learner.view.topic(TopicRef::Id(topic_id(1))).is_none(), "one predecessor is kept, not all");
    assert_eq!(learner.view.topics().len(), 2);
}

#[test]
fn leaders_are_not_learned_from_answers_without_epochs() {
    let mut learner = Learner::new();
    let Observation::Metadata(mut old) = passing(&[1, 2], vec![topic(0, "t", vec![led(0, 1, -1)])]) else { unreachable!() };
    old.version = 6;
    learner.learn(Observation::Metadata(old.clone()));
    assert_eq!(learner.listed(), [1, 2], "its brokers count all the same");
    assert_eq!(learner.leader("t"), None);
    old.source = Source::Own;
    learner.learn(Observation::Metadata(old));
    assert_eq!(learner.leader("t"), Some((1, -1)), "our own request is believed");
}

#[test]
fn without_topic_ids_a_smaller_epoch_counts_after_five_equal_answers() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![topic(0, "t", vec![led(0, 1, 9)])]));
    learner.learn(versions(1, &[(ApiKey::METADATA, 0, 9)]));
    let lower = || own(&[1, 2], vec![topic(0, "t", vec![led(0, 2, 1)])]);
    for _ in 0..4 {
        learner.learn(lower());
    }
    learner.learn(own(&[1, 2], vec![topic(0, "t", vec![led(0, 1, 9)])]));
    for _ in 0..4 {
        learner.learn(lower());
        assert_eq!(learner.leader("t"), Some((1, 9)), "five in a row, not five in all");
    }
    learner.learn(lower());
    assert_eq!(learner.leader("t"), Some((2, 1)));
    assert_eq!(learner.learn(lower()).view, None);
}

#[test]
fn where_the_cluster_has_ids_a_smaller_epoch_under_a_bare_name_asks_for_a_refresh() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![]));
    learner.learn(versions(1, &[(ApiKey::METADATA, 0, 13)]));
    learner.learn(passing(&[1, 2], vec![topic(0, "t", vec![led(0, 1, 9)])]));
    for _ in 0..10 {
        let learned = learner.learn(passing(&[1, 2], vec![topic(0, "t", vec![led(0, 2, 1)])]));
        assert_eq!(learned.view, None);
        assert_eq!(learned.suspicion, Some(Suspicion { reason: SuspicionReason::LowerEpoch, topics: vec!["t".into()] }));
    }
    learner.learn(own(&[1, 2], vec![topic(1, "t", vec![led(0, 2, 1)])]));
    assert_eq!(learner.leader("t"), Some((2, 1)), "an answer with its id starts it anew");
    assert_eq!(learner.view.topics().len(), 1);
    assert_eq!(learner.view.topics().partitions_count(), 1);
}

#[test]
fn hints_move_leaders_by_name_and_by_id() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2, 3], vec![topic(1, "t", vec![led(0, 1, 5)])]));
    let mut hint = topic(1, "t", vec![led(0, 2, 6)]);
    hint.id = TopicId::default();
    learner.learn(Observation::Leaders(vec![hint]));
    assert_eq!(learner.leader("t"), Some((2, 6)));
    let mut hint = topic(1, "t", vec![led(0, 3, 7)]);
    hint.name = None;
    learner.learn(Observation::Leaders(vec![hint]));
    assert_eq!(learner.leader("t"), Some((3, 7)));
    let mut unheard = topic(7, "u", vec![led(0, 1, 1)]);
    unheard.name = None;
    learner.learn(Observation::Leaders(vec![unheard]));
    assert_eq!(learner.leader("u"), None);
    learner.learn(own(&[1, 2, 3], vec![topic(7, "u", vec![led(0, 1, 1)])]));
    assert_eq!(learner.leader("u"), Some((1, 1)), "its name is learned later");
}

#[test]
fn no_leader_keeps_the_last_good_one_and_says_since_when() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![topic(1, "t", vec![led(0, 1, 5)])]));
    let lost = learner.now;
    learner.learn(passing(&[1, 2], vec![topic(1, "t", vec![led(0, -1, 6)])]));
    learner.now += Duration::from_secs(1);
    assert_eq!(learner.learn(passing(&[1, 2], vec![topic(1, "t", vec![led(0, -1, 6)])])).view, None, "the first moment stands");
    let leader = learner.view.leader(TopicRef::Name("t"), 0);
    assert_eq!(leader, Some(Leader { node: node(1), epoch: 6, leaderless_since: Some(lost) }));
    learner.learn(passing(&[1, 2], vec![topic(1, "t", vec![led(0, 1, 5)])]));
    assert_eq!(learner.view.leader(TopicRef::Name("t"), 0), leader, "a lagging answer does not end it");
    learner.learn(passing(&[1, 2], vec![topic(1, "t", vec![led(0, 2, 7)])]));
    assert_eq!(learner.view.leader(TopicRef::Name("t"), 0), Some(Leader { node: node(2), epoch: 7, leaderless_since: None }));
}

#[test]
fn an_unlisted_leader_is_unknown_until_it_is_listed() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![topic(1, "t", vec![led(0, 1, 5)])]));
    let learned = learner.learn(own(&[1, 2], vec![topic(1, "t", vec![led(0, 9, 6)])]));
    assert_eq!(learned.suspicion, Some(Suspicion { reason: SuspicionReason::UnlistedLeader(node(9)), topics: vec!["t".into()] }));
    assert_eq!(learner.leader("t"), None);
    learner.learn(own(&[1, 2, 9], vec![]));
    assert_eq!(learner.leader("t"), Some((9, 6)));
}

#[test]
fn a_guess_at_an_unlisted_leader_with_an_unchanged_epoch_does_not_replace_a_leader() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![topic(1, "t", vec![led(0, 1, 5)])]));
    let learned = learner.learn(own(&[1, 2], vec![topic(1, "t", vec![led(0, 9, 5)])]));
    assert!(learned.view.is_none() && learned.suspicion.is_some());
    assert_eq!(learner.leader("t"), Some((1, 5)));
}

#[test]
fn errors_that_a_client_got_never_remove_a_topic_and_our_own_do() {
    let mut learner = Learner::new();
    learner.learn(own(&[1], vec![topic(1, "t", vec![led(0, 1, 5)]), topic(2, "u", vec![led(0, 1, 5)])]));
    for error in [3, 29, 100] {
        let mut hidden = topic(0, "t", vec![]);
        hidden.error = error;
        assert_eq!(learner.learn(passing(&[1], vec![hidden])).view, None);
    }
    let mut gone = topic(0, "t", vec![]);
    gone.error = 29;
    assert_eq!(learner.learn(own(&[1], vec![gone.clone()])).view, None, "29 says nothing about the topic, whoever asked");
    gone.error = 3;
    learner.learn(own(&[1], vec![gone]));
    assert_eq!(learner.leader("t"), None);
    let gone = TopicObservation { id: topic_id(2), name: None, error: 100, partitions: vec![] };
    learner.learn(own(&[1], vec![gone]));
    assert!(learner.view.topics().is_empty());
    assert_eq!(learner.view.topics().partitions_count(), 0);
}

#[test]
fn a_poll_of_the_broker_list_leaves_topics_alone() {
    let mut learner = Learner::new();
    learner.learn(own(&[1], vec![topic(1, "t", vec![led(0, 1, 5)])]));
    assert_eq!(learner.learn(own(&[1], vec![])).view, None);
    assert_eq!(learner.leader("t"), Some((1, 5)));
}

#[test]
fn only_our_own_answers_remove_brokers() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![]));
    let learned = learner.learn(passing(&[1, 3], vec![]));
    assert_eq!(learner.listed(), [1, 2, 3], "a new one counts at once, a missing one does not");
    assert!(learned.suspicion.is_some());
    let learned = learner.learn(passing(&[1, 3], vec![]));
    assert_eq!(learned.suspicion.map(|suspicion| suspicion.reason), Some(SuspicionReason::BrokerMissing(node(2))));
    learner.learn(own(&[1, 3], vec![]));
    assert_eq!(learner.listed(), [1, 3]);
}

#[test]
fn an_answer_without_brokers_teaches_nothing() {
    let mut learner = Learner::new();
    learner.learn(own(&[1], vec![topic(1, "t", vec![led(0, 1, 5)])]));
    let mut gone = topic(0, "t", vec![]);
    gone.error = 3;
    assert_eq!(learner.learn(own(&[], vec![gone])), Learned::default());
}

#[test]
fn another_clusters_answer_is_refused_whole() {
    let mut learner = Learner::new();
    learner.learn(own(&[1], vec![]));
    let Observation::Metadata(mut other) = own(&[7], vec![]) else { unreachable!() };
    other.cluster_id = Some("d".into());
    let learned = learner.learn(Observation::Metadata(other));
    assert_eq!(learned.view, None);
    assert_eq!(learned.refused, Some(Refused::OtherCluster { known: "c".into(), seen: "d".into() }));
}

#[test]
fn a_brokers_versions_belong_to_its_address() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![]));
    learner.learn(versions(1, &[(ApiKey::PRODUCE, 0, 11)]));
    assert_eq!(learner.view.common_max(ApiKey::PRODUCE), CommonMax::UpTo(11));
    let Observation::Metadata(mut moved) = own(&[2], vec![]) else { unreachable!() };
    moved.brokers.push(broker_at(1, 9999));
    learner.learn(Observation::Metadata(moved));
    assert_eq!(learner.view.versions_of(node(1)), None);
    assert_eq!(learner.learn(versions(1, &[(ApiKey::PRODUCE, 0, 11)])).view, None, "that was the broker at the old address");
    assert_eq!(learner.view.common_max(ApiKey::PRODUCE), CommonMax::Unknown);
}

#[test]
fn a_departed_brokers_versions_are_forgotten_and_asked_for_on_its_return() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![]));
    learner.learn(versions(1, &[(ApiKey::PRODUCE, 0, 11)]));
    learner.learn(versions(2, &[(ApiKey::PRODUCE, 0, 9)]));
    assert_eq!(learner.view.common_max(ApiKey::PRODUCE), CommonMax::UpTo(9));
    learner.learn(own(&[1], vec![]));
    assert_eq!(learner.view.common_max(ApiKey::PRODUCE), CommonMax::UpTo(11));
    learner.learn(own(&[1, 2], vec![]));
    let to_ask: Vec<NodeId> = learner.view.without_versions().map(|broker| broker.id).collect();
    assert_eq!(to_ask, [node(2)]);
}

#[test]
fn an_api_that_one_broker_lacks_is_not_common() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2, 3], vec![]));
    assert_eq!(learner.view.common_max(ApiKey::SHARE_FETCH), CommonMax::Unknown);
    learner.learn(versions(1, &[(ApiKey::PRODUCE, 0, 13), (ApiKey::SHARE_FETCH, 1, 2)]));
    assert_eq!(learner.view.common_max(ApiKey::SHARE_FETCH), CommonMax::UpTo(2));
    learner.learn(versions(2, &[(ApiKey::PRODUCE, 0, 11)]));
    assert_eq!(learner.view.common_max(ApiKey::SHARE_FETCH), CommonMax::Lacking);
    assert_eq!(learner.view.common_max(ApiKey::PRODUCE), CommonMax::UpTo(11));
}

fn coordinator(key: &str, id: i32) -> Observation {
    let named = vec![CoordinatorObservation { kind: CoordinatorKind::Group, key: key.into(), node: node(id) }];
    Observation::Coordinators { source: Source::Passing, named }
}

#[test]
fn a_coordinator_counts_while_it_is_listed() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![]));
    learner.learn(coordinator("g", 2));
    assert_eq!(learner.view.coordinator(CoordinatorKind::Group, "g").map(|known| known.node), Some(node(2)));
    assert_eq!(learner.view.coordinator(CoordinatorKind::Transaction, "g"), None);
    assert_eq!(learner.learn(coordinator("g", -1)).view, None);
    learner.learn(own(&[1], vec![]));
    assert_eq!(learner.view.coordinator(CoordinatorKind::Group, "g"), None);
}

#[test]
fn what_is_over_a_limit_is_dropped_and_counted() {
    let mut learner = Learner::new();
    learner.limits = LearnLimits { max_brokers: 2, max_topics: 2, max_partitions: 3, max_coordinators: 1, ..LearnLimits::default() };
    let two = |id, name| topic(id, name, vec![led(0, 1, 1), led(1, 1, 1)]);
    let learned = learner.learn(own(&[1, 2, 3], vec![two(1, "t"), two(2, "u"), two(3, "v")]));
    assert_eq!(learned.dropped, Dropped { brokers: 1, topics: 1, partitions: 1, coordinators: 0 });
    assert_eq!(learner.view.topics().partitions_count(), 3);
    learner.learn(coordinator("g", 1));
    assert_eq!(learner.learn(coordinator("h", 2)).dropped.coordinators, 1);
    assert_eq!(learner.view.coordinators_count(), 1);
}

#[test]
fn racks_come_from_answers_that_have_them() {
    let mut learner = Learner::new();
    learner.learn(own(&[1], vec![]));
    let Observation::Metadata(mut old) = passing(&[1], vec![]) else { unreachable!() };
    old.version = 0;
    old.brokers[0].rack = None;
    assert_eq!(learner.learn(Observation::Metadata(old)).view, None);
    assert_eq!(learner.view.broker(node(1)).and_then(|broker| broker.rack.clone()), Some(Arc::from("a")));
}
