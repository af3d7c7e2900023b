//! What holds for every sequence of observations.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::learn_tests::{answer, broker_at, led, node, topic, topic_id};
use super::*;
use crate::wire::ApiKey;

fn topics() -> impl Strategy<Value = Vec<TopicObservation>> {
    let partition = (0..3i32, -1..5i32, -1..6i32).prop_map(|(index, leader, epoch)| led(index, leader, epoch));
    let one = (0u8..5, 0..3usize, 0..8usize, prop::collection::vec(partition, 0..4)).prop_map(|(id, name, error, partitions)| {
        // An id belongs to one name for ever; a name has had two ids, at most.
        let name = ["t", "u", "v"][[name, 0, 0, 1, 2][usize::from(id)]];
        let mut topic = topic(id, name, partitions);
        topic.error = [0, 0, 0, 0, 0, 3, 29, 100][error];
        if topic.error == 100 || id == 3 {
            topic.name = None;
        }
        topic
    });
    prop::collection::vec(one, 0..3)
}

fn observation() -> impl Strategy<Value = Observation> {
    let metadata =
        (any::<bool>(), prop::collection::vec((0..5i32, 1..3u16), 0..5), topics(), 0..14i16).prop_map(|(own, brokers, topics, version)| {
            let Observation::Metadata(mut metadata) = answer(if own { Source::Own } else { Source::Passing }, &[], topics) else {
                unreachable!()
            };
            metadata.brokers = brokers.into_iter().map(|(id, port)| broker_at(id, port)).collect();
            metadata.version = version;
            Observation::Metadata(metadata)
        });
    let versions = (0..5i32, 1..3u16, 0..14i16).prop_map(|(id, port, max)| {
        Observation::ApiVersions(ApiVersionsObservation {
            node: node(id),
            endpoint: broker_at(id, port).endpoint,
            ranges: vec![(ApiKey::METADATA, VersionRange { min: 0, max })],
        })
    });
    let coordinators = (any::<bool>(), 0..4usize, -1..5i32).prop_map(|(own, key, id)| {
        let key = ["g", "h", "i", "j"][key].into();
        let named = vec![CoordinatorObservation { kind: CoordinatorKind::Group, key, node: node(id) }];
        Observation::Coordinators { source: if own { Source::Own } else { Source::Passing }, named }
    });
    let asked_for = (0..7i32).prop_map(|id| Observation::AskedFor(node(id)));
    let retire = (0..7i32).prop_map(|id| Observation::Retire(node(id)));
    prop_oneof![8 => metadata, 2 => versions, 2 => coordinators, 4 => topics().prop_map(Observation::Leaders), 1 => asked_for, 1 => retire]
}

fn epochs(view: &View) -> HashMap<(TopicId, i32), i32> {
    (1..5u8)
        .filter_map(|id| view.topic(TopicRef::Id(topic_id(id))))
        .flat_map(|topic| topic.partitions.iter().map(|(index, partition)| ((topic.id, *index), partition.epoch)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_view_only_moves_forward(observations in prop::collection::vec(observation(), 1..60)) {
        let limits = LearnLimits {
            max_brokers: 4,
            max_departed: 2,
            max_topics: 5,
            max_partitions: 8,
            max_coordinators: 3,
            lower_epoch_answers: 2,
        };
        let mut view = View::default();
        let mut now = Instant::now();
        for seen in observations {
            now += Duration::from_millis(10);
            let learned = learn(&view, now, &seen, &limits);
            let Some(next) = learned.view else { continue };

            prop_assert_eq!(next.generation, view.generation + 1);
            let mut same_but_for_generation = next.clone();
            same_but_for_generation.generation = view.generation;
            prop_assert_ne!(&same_but_for_generation, &view, "a new generation without a change: {:?}", seen);

            let before = epochs(&view);
            for (partition, epoch) in epochs(&next) {
                let back = before.get(&partition).is_some_and(|before| *before > epoch);
                prop_assert!(!back || contradicts_itself(&seen) || forgets(&seen), "{:?} went back by {:?}", partition, seen);
            }

            prop_assert!(next.brokers.len() <= limits.max_brokers);
            prop_assert!(next.topics().len() <= limits.max_topics);
            prop_assert!(next.topics().partitions_count() <= limits.max_partitions);
            prop_assert!(next.coordinators_count() <= limits.max_coordinators);
            let counted: usize = next.topics().iter().map(|topic| topic.partitions.len()).sum();
            prop_assert_eq!(counted, next.topics().partitions_count());

            for (kind, key, known) in next.coordinators().iter() {
                let is_same = view.coordinators().get(kind, key) == Some(known);
                prop_assert!(is_same || (known.learnt == next.generation && next.broker(known.node).is_some()), "{:?}", known);
            }

            let broker_left = view.brokers.keys().any(|id| !next.brokers.contains_key(id));
            let own = matches!(&seen, Observation::Metadata(metadata) if metadata.source == Source::Own);
            prop_assert!(!broker_left || own, "{:?} removed a broker", seen);
            let came_back = view.departed.iter().any(|(id, departed)| departed.endpoint.is_some() && next.brokers.contains_key(id));
            prop_assert!(!came_back || own, "{:?} brought a broker back", seen);
            prop_assert!(next.departed.len() <= limits.max_departed);
            prop_assert!(next.departed.keys().all(|id| !next.brokers.contains_key(id)), "listed and departed");
            prop_assert!(next.moved_from.keys().all(|id| next.brokers.contains_key(id)));
            let told: Vec<NodeId> = next.told_brokers().map(|broker| broker.id).collect();
            prop_assert!(told.is_sorted() && told.len() == next.brokers.len() + next.departed.len());
            for broker in view.told_brokers() {
                let forgotten = !next.is_told(broker.id);
                let room_made = next.departed.len() == limits.max_departed;
                prop_assert!(!forgotten || room_made || seen == Observation::Retire(broker.id), "{:?} made {} vanish", seen, broker.id);
                prop_assert!(forgotten || broker.rack.is_none() || next.known_rack(broker.id) == broker.rack);
            }
            for (id, broker) in &next.brokers {
                prop_assert!(next.versions_of(*id).is_none_or(|versions| versions.endpoint == broker.endpoint));
            }
            prop_assert!(next.versions.keys().all(|id| next.brokers.contains_key(id)));
            view = next;
        }
    }

    /// Where topics have ids, no answer is worth a change twice.
    #[test]
    fn an_answer_heard_again_changes_nothing(observations in prop::collection::vec(observation(), 1..20)) {
        let limits = LearnLimits::default();
        let mut view = View::default();
        for seen in observations {
            let now = Instant::now();
            for _ in 0..=limits.lower_epoch_answers {
                if let Some(next) = learn(&view, now, &seen, &limits).view { view = next; }
            }
            let again = learn(&view, now, &seen, &limits).view;
            prop_assert!(contradicts_itself(&seen) || confirms(&seen) || again.is_none(), "{:?}", seen);
        }
    }
}

/// Whether an answer says of a topic that it is gone: it may come back in the same answer, under another of its ids.
fn forgets(seen: &Observation) -> bool {
    matches!(seen, Observation::Metadata(metadata)
        if metadata.source == Source::Own && metadata.topics.iter().any(|topic| matches!(topic.error, 3 | 100)))
}

/// Whether what it says of coordinators counts as news however often it is heard.
fn confirms(seen: &Observation) -> bool {
    matches!(seen, Observation::Coordinators { source: Source::Own, .. })
}

/// Whether one answer names a broker, a topic or a partition twice.
fn contradicts_itself(seen: &Observation) -> bool {
    match seen {
        Observation::Metadata(metadata) => has_twins(metadata.brokers.iter().map(|broker| broker.id)) || has_twin_topics(&metadata.topics),
        Observation::Leaders(topics) => has_twin_topics(topics),
        Observation::ApiVersions(_) | Observation::Coordinators { .. } | Observation::AskedFor(_) | Observation::Retire(_) => false,
    }
}

fn has_twin_topics(topics: &[TopicObservation]) -> bool {
    has_twins(topics.iter().filter_map(|topic| topic.name.clone()))
        || has_twins(topics.iter().map(|topic| topic.id).filter(|id| *id != TopicId::default()))
        || topics.iter().any(|topic| has_twins(topic.partitions.iter().map(|partition| partition.index)))
}

fn has_twins<T: Ord>(all: impl Iterator<Item = T>) -> bool {
    let mut all: Vec<T> = all.collect();
    let count = all.len();
    all.sort();
    all.dedup();
    all.len() < count
}
