//! The rules by which brokers depart, return, move, are asked for and are retired, and what is then known of leaders.

use std::sync::Arc;
use std::time::Duration;

use super::learn_tests::{Learner, answer, broker_at, led, node, own, passing, topic};
use super::*;

fn departed(learner: &Learner) -> Vec<i32> {
    learner.view.departed.keys().map(|id| id.0).collect()
}

fn told(learner: &Learner) -> Vec<(i32, Option<&str>)> {
    learner.view.told_brokers().map(|broker| (broker.id.0, broker.rack.map(|rack| &**rack))).collect()
}

fn with_broker(source: Source, brokers: &[i32], broker: Broker) -> Observation {
    let Observation::Metadata(mut metadata) = answer(source, brokers, Vec::new()) else { unreachable!() };
    metadata.brokers.push(broker);
    Observation::Metadata(metadata)
}

fn last_leader(learner: &Learner) -> Option<(i32, i32, Option<Duration>)> {
    let last = learner.view.last_leader(TopicRef::Name("t"), 0)?;
    Some((last.node.0, last.epoch, last.unled_since.map(|since| learner.now - since)))
}

#[test]
fn who_an_own_answer_no_longer_lists_departs_and_who_it_lists_again_returns() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2, 3], vec![]));
    let left = learner.now;
    learner.learn(own(&[1, 3], vec![]));
    let endpoint = Some(broker_at(2, 9092).endpoint);
    assert_eq!(learner.view.departed[&node(2)], Departed { endpoint, rack: Some("a".into()), since: left });
    assert!(learner.view.is_departed(node(2)) && learner.view.is_told(node(2)) && !learner.view.is_told(node(4)));
    assert_eq!(told(&learner), [(1, Some("a")), (2, Some("a")), (3, Some("a"))]);
    learner.now += Duration::from_secs(1);
    assert_eq!(learner.learn(own(&[1, 3], vec![])).view, None, "it departed once");
    learner.learn(own(&[1, 2, 3], vec![]));
    assert_eq!((learner.listed(), departed(&learner)), (vec![1, 2, 3], vec![]));
}

#[test]
fn a_lagging_clients_answer_does_not_bring_a_departed_broker_back() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![]));
    learner.learn(own(&[1], vec![]));
    let learned = learner.learn(passing(&[1, 2], vec![]));
    assert_eq!(learned.view, None);
    assert_eq!(learned.suspicion, Some(Suspicion { reason: SuspicionReason::BrokerAppeared(node(2)), topics: vec![] }));
    learner.learn(passing(&[1, 2, 3], vec![]));
    assert_eq!((learner.listed(), departed(&learner)), (vec![1, 3], vec![2]), "one that never was there counts at once");
}

#[test]
fn a_lagging_clients_answer_does_not_move_a_broker_back() {
    let mut learner = Learner::new();
    let port = |learner: &Learner| learner.view.brokers[&node(2)].endpoint.port;
    learner.learn(own(&[1, 2], vec![]));
    learner.learn(with_broker(Source::Own, &[1], broker_at(2, 9999)));
    let learned = learner.learn(passing(&[1, 2], vec![]));
    assert_eq!(learned.suspicion.map(|suspicion| suspicion.reason), Some(SuspicionReason::BrokerAppeared(node(2))));
    assert_eq!(port(&learner), 9999);
    learner.learn(with_broker(Source::Passing, &[1], broker_at(2, 7777)));
    assert_eq!(port(&learner), 7777, "an address that it never had counts at once");
    learner.learn(own(&[1, 2], vec![]));
    assert_eq!(port(&learner), 9092, "our own answer may move it back");
    // The same where it was away in between.
    learner.learn(own(&[1], vec![]));
    learner.learn(with_broker(Source::Own, &[1], broker_at(2, 9999)));
    learner.learn(passing(&[1, 2], vec![]));
    assert_eq!(port(&learner), 9999);
}

#[test]
fn a_rack_stays_as_it_was_first_heard_also_over_a_departure() {
    let mut learner = Learner::new();
    let other_rack = |source| with_broker(source, &[1], Broker { rack: Some("b".into()), ..broker_at(2, 9092) });
    learner.learn(own(&[1, 2], vec![]));
    assert_eq!(learner.learn(other_rack(Source::Own)).view, None);
    assert_eq!(learner.learn(other_rack(Source::Passing)).view, None);
    learner.learn(own(&[1], vec![]));
    learner.learn(other_rack(Source::Own));
    assert_eq!(learner.view.known_rack(node(2)), Some(&Arc::from("a")));
    learner.learn(own(&[1], vec![]));
    learner.learn(Observation::Retire(node(2)));
    learner.learn(other_rack(Source::Own));
    assert_eq!(learner.view.known_rack(node(2)), Some(&Arc::from("b")), "once it is retired, nobody remembers");
}

#[test]
fn who_is_asked_for_and_not_known_is_departed_until_any_answer_lists_it() {
    let mut learner = Learner::new();
    assert_eq!(learner.learn(Observation::AskedFor(node(7))), Learned::default(), "before the first view nobody can say");
    learner.learn(own(&[1], vec![]));
    assert_eq!(learner.learn(Observation::AskedFor(node(1))), Learned::default(), "it is there");
    let learned = learner.learn(Observation::AskedFor(node(7)));
    assert_eq!(learned.suspicion.map(|suspicion| suspicion.reason), Some(SuspicionReason::UnknownBroker(node(7))));
    assert_eq!(learner.view.departed[&node(7)], Departed { endpoint: None, rack: None, since: learner.now });
    assert_eq!(learner.learn(Observation::AskedFor(node(7))), Learned::default(), "the second time is no news");
    assert_eq!(learner.learn(Observation::AskedFor(node(-1))), Learned::default());
    // No answer of ours took it away.
    learner.learn(passing(&[1, 7], vec![]));
    assert_eq!((learner.listed(), departed(&learner)), (vec![1, 7], vec![]));
}

#[test]
fn a_retired_broker_is_not_told_any_more() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![]));
    assert_eq!(learner.learn(Observation::Retire(node(2))).view, None, "only a departed one can be retired");
    learner.learn(own(&[1], vec![]));
    learner.learn(Observation::Retire(node(2)));
    assert_eq!(told(&learner), [(1, Some("a"))]);
    assert_eq!(learner.learn(Observation::Retire(node(2))).view, None);
}

#[test]
fn of_too_many_departed_brokers_the_oldest_makes_room() {
    let mut learner = Learner::new();
    learner.limits.max_departed = 2;
    learner.learn(own(&[1, 2, 3, 4], vec![]));
    for listed in [&[1, 2, 4][..], &[1, 4], &[1]] {
        learner.now += Duration::from_secs(1);
        learner.learn(own(listed, vec![]));
    }
    assert_eq!(departed(&learner), [2, 4], "3 left first");
    assert_eq!(learner.learn(Observation::AskedFor(node(9))), Learned::default(), "who is only asked for takes nobody's place");
    learner.limits.max_departed = 0;
    learner.learn(Observation::Retire(node(2)));
    learner.learn(own(&[5], vec![]));
    assert!(!learner.view.is_departed(node(1)));
}

#[test]
fn the_last_good_leader_outlives_its_brokers_departure_and_it_is_known_since_when() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![topic(1, "t", vec![led(0, 2, 5)])]));
    assert_eq!(last_leader(&learner), Some((2, 5, None)));
    learner.learn(own(&[1], vec![]));
    learner.now += Duration::from_secs(1);
    assert_eq!(learner.leader("t"), None, "where to send: nobody knows");
    assert_eq!(last_leader(&learner), Some((2, 5, Some(Duration::from_secs(1)))));
    learner.learn(own(&[1], vec![topic(1, "t", vec![led(0, -1, 6)])]));
    learner.now += Duration::from_secs(1);
    assert_eq!(last_leader(&learner), Some((2, 6, Some(Duration::from_secs(2)))), "the departure was first");
    learner.learn(own(&[1], vec![topic(1, "t", vec![led(0, 1, 7)])]));
    assert_eq!(last_leader(&learner), Some((1, 7, None)));
}

#[test]
fn a_leader_that_nobody_lists_does_not_hide_the_last_good_one() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![topic(1, "t", vec![led(0, 2, 5)])]));
    for (unlisted, epoch) in [(9, 6), (8, 7), (8, 7)] {
        learner.learn(passing(&[1, 2], vec![topic(1, "t", vec![led(0, unlisted, epoch)])]));
        learner.now += Duration::from_secs(1);
        assert_eq!(learner.leader("t"), None);
    }
    assert_eq!(last_leader(&learner), Some((2, 7, Some(Duration::from_secs(3)))), "unled since the first of them was named");
    learner.learn(own(&[1, 2, 8], vec![]));
    assert_eq!(last_leader(&learner), Some((8, 7, None)));
}

#[test]
fn a_clients_answer_with_another_leader_at_the_same_epoch_asks_for_our_own() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2, 3], vec![topic(1, "t", vec![led(0, 1, 5)])]));
    for guess in
        [passing(&[1, 2, 3], vec![topic(1, "t", vec![led(0, 2, 5)])]), Observation::Leaders(vec![topic(1, "t", vec![led(0, 2, 5)])])]
    {
        let learned = learner.learn(guess);
        assert_eq!(learned.suspicion, Some(Suspicion { reason: SuspicionReason::OtherLeader, topics: vec!["t".into()] }));
        assert_eq!(learner.leader("t"), Some((1, 5)));
    }
    learner.learn(own(&[1, 2, 3], vec![topic(1, "t", vec![led(0, 2, 5)])]));
    assert_eq!(learner.leader("t"), Some((2, 5)), "our own is the judge: there are clusters without new epochs");
    learner.learn(own(&[1, 3], vec![]));
    learner.learn(passing(&[1, 3], vec![topic(1, "t", vec![led(0, 3, 5)])]));
    assert_eq!(learner.leader("t"), Some((3, 5)), "better than a leader that is gone");
}

#[test]
fn an_old_answer_that_differs_from_the_view_asks_for_our_own() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![topic(1, "t", vec![led(0, 1, 5)])]));
    for (leader, differs) in [(1, false), (2, true), (-1, true)] {
        let Observation::Metadata(mut old) = passing(&[1, 2], vec![topic(0, "t", vec![led(0, leader, -1)])]) else { unreachable!() };
        old.version = 6;
        let learned = learner.learn(Observation::Metadata(old));
        assert_eq!(learned.view, None);
        assert_eq!(learned.suspicion.map(|suspicion| suspicion.reason), differs.then_some(SuspicionReason::OtherLeader));
    }
}

#[test]
fn a_smaller_epoch_under_a_bare_name_asks_whether_another_topic_has_the_name() {
    let mut learner = Learner::new();
    learner.learn(own(&[1, 2], vec![topic(1, "t", vec![led(0, 1, 50)])]));
    let learned = learner.learn(passing(&[1, 2], vec![topic(0, "t", vec![led(0, 2, 0)])]));
    assert_eq!(learned.suspicion, Some(Suspicion { reason: SuspicionReason::LowerEpoch, topics: vec!["t".into()] }));
    let learned = learner.learn(passing(&[1, 2], vec![topic(1, "t", vec![led(0, 2, 0)])]));
    assert_eq!(learned, Learned::default(), "with its id it is a broker that lags");
    learner.learn(own(&[1, 2], vec![topic(2, "t", vec![led(0, 2, 0)])]));
    assert_eq!(learner.leader("t"), Some((2, 0)));
}
