use std::time::Instant;

use super::*;
use crate::wire::find_coordinator::FindCoordinatorResponse;

const LIMITS: LearnLimits =
    LearnLimits { max_brokers: 10, max_departed: 10, max_topics: 10, max_partitions: 10, max_coordinators: 4, lower_epoch_answers: 5 };

struct Learner {
    view: View,
}

impl Learner {
    fn new() -> Learner {
        let mut learner = Learner { view: View::default() };
        learner.list(&[1, 2, 3]);
        learner
    }

    fn learn(&mut self, observation: &Observation) -> Learned {
        let learned = learn(&self.view, Instant::now(), observation, &LIMITS);
        self.view = learned.view.clone().unwrap_or_else(|| self.view.clone());
        learned
    }

    fn list(&mut self, brokers: &[i32]) {
        let broker = |id: &i32| Broker { id: NodeId(*id), endpoint: Endpoint { host: "b".into(), port: 9092 + *id as u16 }, rack: None };
        self.learn(&Observation::Metadata(MetadataObservation {
            source: Source::Own,
            version: 12,
            cluster_id: None,
            controller: None,
            brokers: brokers.iter().map(broker).collect(),
            topics: Vec::new(),
        }));
    }

    fn hear(&mut self, source: Source, key: &str, node: i32) -> Learned {
        let named = vec![CoordinatorObservation { kind: CoordinatorKind::Group, key: key.into(), node: NodeId(node) }];
        self.learn(&Observation::Coordinators { source, named })
    }

    fn of(&self, key: &str) -> Option<i32> {
        self.view.coordinator(CoordinatorKind::Group, key).map(|known| known.node.0)
    }
}

#[test]
fn a_passing_answer_moves_a_coordinator_and_only_our_own_moves_it_back() {
    let mut learner = Learner::new();
    learner.hear(Source::Own, "g", 1);
    learner.hear(Source::Passing, "g", 2);
    assert_eq!(learner.of("g"), Some(2));
    assert_eq!(learner.hear(Source::Passing, "g", 1).view, None, "it may come from a broker that lags");
    learner.hear(Source::Passing, "g", 3);
    assert_eq!(learner.of("g"), Some(3));
    learner.hear(Source::Own, "g", 2);
    assert_eq!(learner.of("g"), Some(2));
    // Nobody coordinates there any more: a guess is better than nothing.
    learner.list(&[1, 3]);
    learner.hear(Source::Passing, "g", 3);
    assert_eq!(learner.of("g"), Some(3));
}

#[test]
fn our_own_answer_renews_what_it_confirms_and_a_passing_one_does_not() {
    let mut learner = Learner::new();
    learner.hear(Source::Passing, "g", 1);
    let learnt = |learner: &Learner| learner.view.coordinator(CoordinatorKind::Group, "g").unwrap().learnt;
    let first = learnt(&learner);
    assert_eq!(first, learner.view.generation);
    assert_eq!(learner.hear(Source::Passing, "g", 1).view, None);
    let since = learner.view.generation;
    let want = Want::Coordinator { kind: CoordinatorKind::Group, key: "g".into(), but_not: NodeId(1) };
    assert!(!want.is_met(&learner.view) && !want.is_confirmed(&learner.view, since));
    learner.hear(Source::Own, "g", 1);
    assert!(learnt(&learner) > first);
    assert!(!want.is_met(&learner.view) && want.is_confirmed(&learner.view, since));
    learner.list(&[2, 3]);
    assert!(!want.is_confirmed(&learner.view, since), "it is not listed");
    learner.hear(Source::Own, "g", 2);
    assert!(want.is_met(&learner.view) && !want.is_confirmed(&learner.view, since));
    let of_another_kind = Want::Coordinator { kind: CoordinatorKind::Share, key: "g".into(), but_not: NodeId(1) };
    assert!(!of_another_kind.is_met(&learner.view));
}

#[test]
fn one_that_is_not_listed_is_not_learned_and_casts_doubt_on_the_list() {
    let mut learner = Learner::new();
    learner.hear(Source::Own, "g", 1);
    let learned = learner.hear(Source::Own, "g", 7);
    assert_eq!(learned.view, None);
    assert_eq!(learned.suspicion.map(|suspicion| suspicion.reason), Some(SuspicionReason::UnlistedCoordinator(NodeId(7))));
    assert_eq!(learner.of("g"), Some(1));
    assert_eq!(learner.hear(Source::Own, &"x".repeat(COORDINATOR_KEY_BYTES_MAX + 1), 1).view, None);
}

#[test]
fn those_make_room_whose_broker_left_and_then_those_that_were_wanted_least_recently() {
    let mut learner = Learner::new();
    for (key, node) in [("a", 3), ("b", 1), ("c", 1), ("d", 1)] {
        assert_eq!(learner.hear(Source::Passing, key, node).dropped.coordinators, 0);
    }
    learner.hear(Source::Own, "b", 1);
    learner.list(&[1, 2]);
    assert_eq!(learner.hear(Source::Passing, "e", 1).dropped.coordinators, 1);
    assert_eq!(learner.view.coordinators().get(CoordinatorKind::Group, "a"), None);
    assert_eq!(learner.hear(Source::Passing, "f", 1).dropped.coordinators, 1);
    let known = |learner: &Learner| ["a", "b", "c", "d", "e", "f", "g"].map(|key| learner.of(key).is_some());
    assert_eq!(known(&learner), [false, true, false, true, true, true, false], "`b` was renewed, `c` was the oldest");
    // What clients ask for again and again stays, too.
    for node in [2, 1, 2, 1, 2] {
        learner.hear(Source::Own, "f", node);
    }
    assert!(learner.hear(Source::Passing, "d", 1).view.is_some());
    learner.hear(Source::Passing, "g", 1);
    assert_eq!(known(&learner), [false, false, false, true, true, true, true], "{:?}", learner.view.coordinators());
}

/// A FindCoordinator response up to version 3: throttle time, error, no message, node, host, port.
fn one(error: i16, node: i32) -> Vec<u8> {
    let mut frame = vec![0, 0, 0, 0, 0, 0, 0, 1];
    frame.extend(0i32.to_be_bytes());
    frame.extend(error.to_be_bytes());
    frame.extend((-1i16).to_be_bytes());
    frame.extend(node.to_be_bytes());
    frame.extend([0, 1, b'b']);
    frame.extend(9092i32.to_be_bytes());
    let len = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&len.to_be_bytes());
    frame
}

#[test]
fn an_answer_without_keys_is_about_the_one_that_was_asked_for() {
    let of = |asked: &[&[u8]], error, node| {
        let frame = one(error, node);
        let response = FindCoordinatorResponse::parse(&frame, 2).unwrap();
        CoordinatorObservation::of_response(CoordinatorKind::Transaction, asked, &response)
    };
    let known = CoordinatorObservation { kind: CoordinatorKind::Transaction, key: "t".into(), node: NodeId(2) };
    assert_eq!(of(&[b"t"], 0, 2), [known]);
    for (asked, error, node) in [(&[b"t".as_slice()][..], 15, 2), (&[b"t"], 0, -1), (&[b"t", b"u"], 0, 2), (&[], 0, 2), (&[b"\xff"], 0, 2)]
    {
        assert_eq!(of(asked, error, node), [], "{asked:?} {error} {node}");
    }
}
