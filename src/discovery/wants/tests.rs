//! The pace of asking, in virtual time, without a cluster: `Model` is one, as far as the wants can tell.

use std::time::Instant as StdInstant;

use super::*;
use crate::cluster::{
    Broker, CoordinatorObservation, LearnLimits, MetadataObservation, Observation, PartitionObservation, Source, TopicObservation, learn,
};

pub(super) const MS: Duration = Duration::from_millis(1);
const MIN_INTERVAL: Duration = Duration::from_millis(50);

fn endpoint(node: i32) -> Endpoint {
    Endpoint { host: "broker.example".into(), port: 9092 + node as u16 }
}

pub(super) fn on(topic: &str, partition: i32, leader: i32, epoch: i32) -> Want {
    Want::Partition { topic: WantedTopic::Name(topic.into()), partition, leader: Some(NodeId(leader)), epoch }
}

pub(super) fn broker(node: i32) -> Want {
    Want::Broker { node: NodeId(node), endpoint: endpoint(node) }
}

/// A cluster, the view of it, and requests that are answered `ROUND_TRIP` after they were written, `MIN_INTERVAL` apart at least.
pub(super) struct Model {
    pub(super) wants: Wants,
    pub(super) view: View,
    pub(super) listed: Vec<i32>,
    /// Topic to (leader, epoch) of each partition.
    pub(super) led: BTreeMap<&'static str, Vec<(i32, i32)>>,
    /// Group to its coordinator, as the broker that answers says; others are answered with an error.
    pub(super) coordinated: BTreeMap<&'static str, i32>,
    pub(super) start: Instant,
    pub(super) now: Instant,
    not_before: Instant,
    /// When, and for which topics.
    pub(super) written: Vec<(Duration, Vec<String>)>,
    /// When, and for the coordinators of which keys.
    pub(super) looked_up: Vec<(Duration, Vec<String>)>,
    pub(super) takes: Takes,
    under_way: Option<(Asked, Instant)>,
    /// No broker answers.
    is_down: bool,
}

const ROUND_TRIP: Duration = Duration::from_millis(3);

impl Model {
    pub(super) fn new(seed: u64, topics: &[(&'static str, usize)]) -> Model {
        let start = Instant::now();
        let mut model = Model {
            wants: Wants::new(MIN_INTERVAL, fastrand::Rng::with_seed(seed)),
            view: View::default(),
            listed: vec![1, 2, 3],
            led: topics.iter().map(|(name, partitions)| (*name, vec![(1, 5); *partitions])).collect(),
            coordinated: BTreeMap::new(),
            start,
            now: start,
            not_before: start,
            written: Vec::new(),
            looked_up: Vec::new(),
            takes: Takes { ids: true, coordinators: Some(4) },
            under_way: None,
            is_down: false,
        };
        let all: Vec<&str> = topics.iter().map(|(name, _)| *name).collect();
        model.learn(&all);
        model
    }

    fn id(name: &str) -> TopicId {
        let mut id = [0; 16];
        id[..name.len()].copy_from_slice(name.as_bytes());
        TopicId(id)
    }

    /// The view takes what the cluster says of these topics.
    pub(super) fn learn(&mut self, names: &[&str]) {
        let topics = names.iter().filter_map(|name| {
            let partitions = self.led.get(name)?.iter().enumerate().map(|(index, (leader, epoch))| PartitionObservation {
                index: index as i32,
                error: 0,
                leader: Some(NodeId(*leader)),
                leader_epoch: *epoch,
            });
            Some(TopicObservation { id: Model::id(name), name: Some((*name).into()), error: 0, partitions: partitions.collect() })
        });
        let brokers = self.listed.iter().map(|node| Broker { id: NodeId(*node), endpoint: endpoint(*node), rack: None });
        let metadata = MetadataObservation {
            source: Source::Own,
            version: 12,
            cluster_id: None,
            controller: None,
            brokers: brokers.collect(),
            topics: topics.collect(),
        };
        self.take(&Observation::Metadata(metadata));
    }

    pub(super) fn take(&mut self, observation: &Observation) {
        let learned = learn(&self.view, StdInstant::now(), observation, &LearnLimits::default());
        if let Some(next) = learned.view {
            let brokers_changed = next.brokers != self.view.brokers;
            self.view = next;
            self.wants.observe(self.now, &self.view, brokers_changed);
        }
    }

    /// The view takes what the cluster says of these groups' coordinators.
    pub(super) fn look_up(&mut self, source: Source, keys: &Keys) {
        let named = keys.iter().filter_map(|(kind, key)| {
            let node = NodeId(*self.coordinated.get(&**key)?);
            Some(CoordinatorObservation { kind: *kind, key: key.clone(), node })
        });
        let named = named.collect();
        self.take(&Observation::Coordinators { source, named });
    }

    pub(super) fn want(&mut self, wants: &[Want]) -> oneshot::Receiver<bool> {
        let (done, answer) = oneshot::channel();
        self.wants.call(self.now, wants.to_vec(), &self.view, done);
        answer
    }

    /// Lets time pass, request by request, until `at`.
    pub(super) fn run(&mut self, at: Duration) {
        let end = self.start + at;
        loop {
            let next = match &self.under_way {
                Some((_, answered_at)) => Some(*answered_at),
                None => self.wants.next_due(self.now).map(|due| due.max(self.not_before).max(self.now)),
            };
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = next;
            match self.under_way.take() {
                Some((asked, _)) if self.is_down => self.wants.failed(&asked, self.now),
                Some((asked, _)) => {
                    let (_, names) = self.written.last().unwrap().clone();
                    self.learn(&names.iter().map(String::as_str).collect::<Vec<_>>());
                    self.look_up(Source::Own, &asked.keys);
                    self.wants.answered(&asked, self.now);
                }
                None => {
                    if self.wants.next_due(self.now).is_some_and(|due| due <= self.now) {
                        let (asked, topics) = self.wants.ask(self.now, &self.view, self.takes);
                        let names = match topics {
                            Topics::Names(names) => names.iter().map(ToString::to_string).collect(),
                            Topics::Ids(ids) => ids.iter().map(|id| format!("{}*", char::from(id.0[0]))).collect(),
                        };
                        self.written.push((self.now - self.start, names));
                        if !asked.keys.is_empty() {
                            let keys = asked.keys.iter().map(|(_, key)| key.to_string()).collect();
                            self.looked_up.push((self.now - self.start, keys));
                        }
                        let interval = if self.is_down { 400 * MS } else { MIN_INTERVAL };
                        self.not_before = self.now + interval;
                        self.under_way = Some((asked, self.now + ROUND_TRIP));
                    }
                }
            }
        }
        self.now = end;
    }

    /// Sessions that want these, and again as soon as they are answered.
    pub(super) fn insist(&mut self, until: Duration, sessions: &[Vec<Want>]) {
        let mut waiting: Vec<_> = sessions.iter().map(|wants| self.want(wants)).collect();
        while self.now < self.start + until {
            self.run(self.now - self.start + 10 * MS);
            for (wants, waiting) in sessions.iter().zip(&mut waiting) {
                if waiting.try_recv().is_ok() {
                    *waiting = self.want(wants);
                }
            }
        }
    }

    /// When requests asked for this topic.
    fn asked_for(&self, topic: &str) -> Vec<Duration> {
        self.written.iter().filter(|(_, names)| names.iter().any(|name| name == topic)).map(|(at, _)| *at).collect()
    }

    /// When requests asked for the coordinator of this key.
    pub(super) fn looked_up(&self, key: &str) -> Vec<Duration> {
        self.looked_up.iter().filter(|(_, keys)| keys.iter().any(|known| known == key)).map(|(at, _)| *at).collect()
    }

    fn lists(&self) -> Vec<Duration> {
        self.written.iter().filter(|(_, names)| names.is_empty()).map(|(at, _)| *at).collect()
    }
}

pub(super) fn seed() -> u64 {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    seed
}

/// At most two in the first second of a departure, and then one per second.
pub(super) fn holds_the_bound(asked: &[Duration], begun: Duration) {
    let first_second = asked.iter().filter(|at| **at < begun + 1_000 * MS).count();
    assert!(first_second <= 2, "{asked:?}");
    for pair in asked.windows(2).skip(1) {
        assert!(pair[1] - pair[0] >= 1_000 * MS, "{asked:?}");
    }
}

#[test]
fn the_same_evidence_asks_at_once_then_after_the_interval_then_once_a_second() {
    let seed = seed();
    for seed in seed..seed + 100 {
        let mut model = Model::new(seed, &[("t", 3)]);
        model.run(10_000 * MS);
        let mut waiting = model.want(&[on("t", 0, 1, 5)]);
        let mut answers = 0;
        for step in 0..500 {
            model.run(10_000 * MS + step * 10 * MS);
            if waiting.try_recv().is_ok() {
                answers += 1;
                waiting = model.want(&[on("t", 0, 1, 5)]);
            }
        }
        let asked: Vec<Duration> = model.asked_for("t").iter().map(|at| *at - 10_000 * MS).collect();
        assert_eq!(asked[0], Duration::ZERO);
        assert!(asked[1] >= 50 * MS && asked[1] <= 100 * MS, "{asked:?}");
        assert!(asked[2] >= asked[1] + 1_000 * MS && asked[2] <= asked[1] + 1_100 * MS, "{asked:?}");
        assert!((5..=7).contains(&asked.len()), "{asked:?}");
        assert!(model.lists().is_empty());
        assert!(answers >= 4, "each request answers who called before it");
    }
}

#[test]
fn a_thousand_sessions_cost_what_one_costs() {
    let seed = seed();
    let mut model = Model::new(seed, &[("t", 24)]);
    let mut rng = fastrand::Rng::with_seed(seed);
    // Each holds records for some partitions, finds out at its own moment, and asks again as soon as it is answered.
    let wants: Vec<Vec<Want>> = (0..1_000).map(|_| (0..3).map(|_| on("t", rng.i32(0..24), 1, 5)).collect()).collect();
    let mut waiting: Vec<Option<oneshot::Receiver<bool>>> = (0..1_000).map(|_| None).collect();
    for step in 0..500u32 {
        for (session, waiting) in waiting.iter_mut().enumerate() {
            let answered = waiting.as_mut().is_none_or(|waiting| waiting.try_recv().is_ok());
            // Over the first second they come one by one.
            if answered && session as u32 <= step * 10 {
                *waiting = Some(model.want(&wants[session]));
            }
        }
        model.run(step * 10 * MS);
    }
    holds_the_bound(&model.asked_for("t"), Duration::ZERO);
    assert!(model.written.len() <= 6, "{:?}", model.written);
    model.led.insert("t", vec![(2, 6); 24]);
    model.run(6_200 * MS);
    assert!(waiting.iter_mut().flatten().all(|waiting| waiting.try_recv() == Ok(true)));
    assert!(model.wants.is_empty());
    assert_eq!((model.wants.evidence_count, model.wants.links_count, model.wants.waiters.len()), (0, 0, 0));
}

#[test]
fn only_a_request_that_was_written_later_answers() {
    let mut model = Model::new(seed(), &[("t", 3)]);
    let mut early = model.want(&[on("t", 0, 1, 5)]);
    model.run(MS);
    assert_eq!(model.written.len(), 1);
    let mut late = model.want(&[on("t", 0, 1, 5)]);
    model.run(10 * MS);
    assert_eq!(early.try_recv(), Ok(true));
    assert!(late.try_recv().is_err());
    model.run(49 * MS);
    assert!(late.try_recv().is_err());
    model.run(120 * MS);
    assert_eq!(late.try_recv(), Ok(true));
    assert_eq!(model.written.len(), 2);
}

#[test]
fn a_view_that_meets_everything_answers_whoever_taught_it() {
    let mut model = Model::new(seed(), &[("t", 2), ("u", 1)]);
    model.is_down = true;
    model.not_before = model.now + 60_000 * MS;
    let mut both = model.want(&[on("t", 0, 1, 5), on("u", 0, 1, 5)]);
    let mut one = model.want(&[on("t", 1, 1, 5)]);
    model.led.insert("t", vec![(2, 6), (1, 5)]);
    model.learn(&["t"]);
    assert!(both.try_recv().is_err() && one.try_recv().is_err());
    model.led.insert("u", vec![(3, 6)]);
    model.learn(&["u"]);
    assert_eq!(both.try_recv(), Ok(true));
    assert!(one.try_recv().is_err());
    assert_eq!(model.want(&[on("u", 0, 1, 5)]).try_recv(), Ok(true), "what is met already waits for nothing");
    assert!(model.written.is_empty());
}

#[test]
fn a_killed_brokers_list_is_asked_for_half_way_and_its_topics_at_once_when_it_is_gone() {
    let seed = seed();
    for seed in seed..seed + 100 {
        let mut model = Model::new(seed, &[("t", 6), ("u", 2)]);
        let sessions = [vec![on("t", 0, 1, 5), broker(1)], vec![on("u", 0, 1, 5), broker(1)]];
        model.insist(9_000 * MS, &sessions);
        for topic in ["t", "u"] {
            holds_the_bound(&model.asked_for(topic), Duration::ZERO);
        }
        for pair in model.written.windows(2) {
            assert!(pair[1].0 - pair[0].0 <= 600 * MS, "{:?}", model.written);
        }
        assert!((16..=20).contains(&model.written.len()), "two per second: {:?}", model.written);
        // Right after a request for topics, the cluster fences the broker and moves its leaders.
        let before = model.written.len();
        while model.written.len() == before || model.written.last().unwrap().1.is_empty() {
            model.insist(model.now - model.start + 10 * MS, &sessions);
        }
        model.insist(model.now - model.start + 20 * MS, &sessions);
        model.listed.retain(|node| *node != 1);
        model.led.insert("t", vec![(2, 6); 6]);
        model.led.insert("u", vec![(3, 6); 2]);
        let fenced = model.now - model.start;
        model.insist(fenced + 700 * MS, &sessions);
        let noticed: Vec<_> = model.written.iter().filter(|(at, _)| *at > fenced).collect();
        assert_eq!(noticed.len(), 2, "{noticed:?}");
        let mut topics = noticed[1].1.clone();
        topics.sort();
        assert!(noticed[0].1.is_empty() && topics == ["t", "u"], "{noticed:?}");
        assert!(noticed[1].0 - noticed[0].0 <= 60 * MS, "{noticed:?}");
        assert!(model.wants.is_empty());
    }
}

#[test]
fn many_topics_go_together() {
    let seed = seed();
    let names: Vec<&'static str> = (0..40).map(|index| &*Box::leak(format!("t{index}").into_boxed_str())).collect();
    let topics: Vec<(&'static str, usize)> = names.iter().map(|name| (*name, 2)).collect();
    let mut model = Model::new(seed, &topics);
    let mut waiting = Vec::new();
    for (index, name) in names.iter().enumerate() {
        model.run(index as u32 * 20 * MS);
        waiting.push(model.want(&[on(name, 0, 1, 5)]));
    }
    for second in 1..10u32 {
        model.run(second * 1_000 * MS);
        waiting = names.iter().map(|name| model.want(&[on(name, 0, 1, 5)])).collect();
    }
    for name in &names {
        let asked = model.asked_for(name);
        holds_the_bound(&asked, asked[0]);
    }
    let late = model.written.iter().filter(|(at, _)| *at >= 3_000 * MS).count();
    assert!(late <= 6 * 5, "{late} requests in 6 s");
    drop(waiting);
}

#[test]
fn progress_lets_what_is_left_ask_once_more() {
    let mut model = Model::new(seed(), &[("t", 3)]);
    let _waiting = model.want(&[on("t", 0, 1, 5), on("t", 1, 1, 5)]);
    model.run(300 * MS);
    assert_eq!(model.written.len(), 2);
    model.led.insert("t", vec![(2, 6), (1, 5), (1, 5)]);
    // Some passing answer said it.
    model.learn(&["t"]);
    let _new = model.want(&[on("t", 2, 1, 5)]);
    model.run(350 * MS);
    assert_eq!(model.written.len(), 3);
    model.run(1_300 * MS);
    assert_eq!(model.written.len(), 3);
}

#[test]
fn what_nobody_waits_for_stops_costing_requests() {
    let mut model = Model::new(seed(), &[("t", 3)]);
    let waiting = model.want(&[on("t", 0, 1, 5), broker(2)]);
    let (number, _) = model.wants.waiters.first_key_value().unwrap();
    let number = *number;
    model.run(20 * MS);
    drop(waiting);
    model.wants.withdraw(number, model.now);
    model.run(60_000 * MS);
    assert!(model.written.len() <= 6 && model.written.last().unwrap().0 <= 2_100 * MS, "{:?}", model.written);
    assert!(model.wants.is_empty());
    assert_eq!((model.wants.evidence_count, model.wants.links_count), (0, 0));
}

#[test]
fn a_cluster_that_refuses_everything_costs_a_rate_that_does_not_grow() {
    let mut model = Model::new(seed(), &[("t", 3)]);
    model.is_down = true;
    let mut by_second = Vec::new();
    let mut waiting: Vec<_> = (0..100).map(|_| model.want(&[on("t", 0, 1, 5), broker(1)])).collect();
    for second in 1..=60u32 {
        let before = model.written.len();
        for step in 0..100 {
            model.run((second - 1) * 1_000 * MS + step * 10 * MS);
            for waiting in &mut waiting {
                if let Ok(answer) = waiting.try_recv() {
                    assert!(!answer);
                    *waiting = model.want(&[on("t", 0, 1, 5), broker(1)]);
                }
            }
        }
        by_second.push(model.written.len() - before);
    }
    assert!(by_second.iter().all(|requests| *requests <= 3), "back-off alone decides: {by_second:?}");
}

#[test]
fn topics_known_by_id_alone_are_asked_for_by_id_and_never_with_names() {
    let mut model = Model::new(seed(), &[("t", 1)]);
    let by_id = |topic| Want::Partition { topic, partition: 0, leader: None, epoch: -1 };
    let mut known =
        model.want(&[Want::Partition { topic: WantedTopic::Id(Model::id("t")), partition: 0, leader: Some(NodeId(1)), epoch: 5 }]);
    let mut unknown = model.want(&[by_id(WantedTopic::Id(Model::id("x")))]);
    model.run(90 * MS);
    let mut asked: Vec<Vec<String>> = model.written.iter().map(|(_, names)| names.clone()).collect();
    asked.sort();
    asked.dedup();
    assert_eq!(asked, [vec!["t".to_owned()], vec!["x*".to_owned()]]);
    assert_eq!((known.try_recv(), unknown.try_recv()), (Ok(true), Ok(true)));

    let mut old = Model::new(seed(), &[]);
    let mut unknown = old.want(&[by_id(WantedTopic::Id(Model::id("x")))]);
    let (asked, topics) = old.wants.ask(old.now, &old.view, Takes::default());
    assert_eq!(topics, Topics::Names(Vec::new()), "the list is all that an old broker can tell");
    old.wants.answered(&asked, old.now);
    assert_eq!(unknown.try_recv(), Ok(true));
}

#[test]
fn what_is_beyond_the_limit_is_answered_by_the_list_of_brokers() {
    let mut model = Model::new(seed(), &[("t", 1)]);
    let (done, mut answer) = oneshot::channel();
    let wants: Vec<Want> = (0..EVIDENCE_MAX as i32 + 100).map(|partition| on("t", partition, 1, 5)).collect();
    let called = model.wants.call(model.now, wants, &model.view, done);
    assert_eq!(called.beyond, 100);
    assert!(model.wants.evidence_count <= EVIDENCE_MAX + 1);
    let mut other = model.want(&[on("u", 0, 1, 5)]);
    model.run(10 * MS);
    assert_eq!((answer.try_recv(), other.try_recv()), (Ok(true), Ok(true)));
    let long = "x".repeat(TOPIC_NAME_BYTES_MAX + 1);
    let mut refused = model.want(&[on(&long, 0, 1, 5)]);
    model.run(200 * MS);
    assert_eq!(refused.try_recv(), Ok(true));
    assert!(model.written.iter().flat_map(|(_, names)| names).all(|name| name == "t"));
    model.run(10_000 * MS);
    assert!(model.wants.is_empty());
}
