//! A cluster of the tests, in virtual time: the model's actions are answered a millisecond later, by what brokers there are just then.
//!
//! Invariant: a batch is taken only in its sequence, so a producer that mixes its order up is caught. Deliberately not here: bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::exchange::{Action, Answer, Broker, Exchanged, Failure, Part, PartAnswer, PartitionSeen, Seen, Target};
use super::{Core, Rules};
use crate::sim::code;

type Event = Box<dyn FnOnce(&mut Stage)>;
type Distortion = Box<dyn FnMut(&mut Seen)>;

const ROUND_TRIP: Duration = Duration::from_millis(1);
const RECORD_EVERY: Duration = Duration::from_millis(10);

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) struct Stage {
    pub(super) core: Core,
    pub(super) now: Duration,
    pub(super) listed: BTreeMap<i32, Broker>,
    pub(super) up: BTreeSet<i32>,
    /// (leader, epoch) by partition.
    pub(super) leaders: Vec<(i32, i32)>,
    pub(super) version: i16,
    /// The endpoints beside a leader hint.
    pub(super) hints: Vec<i32>,
    /// What metadata says wrongly.
    pub(super) distortion: Option<Distortion>,
    /// Answers that do not come, until the connection ends.
    pub(super) silent: BTreeSet<i32>,
    pub(super) asked_metadata: Vec<Duration>,
    pub(super) asked_brokers: Vec<Duration>,
    pub(super) closed: Vec<i32>,
    pub(super) requests: Vec<(Duration, i32, Vec<Part>)>,
    pub(super) gave_up: Vec<i16>,
    /// What every batch is refused with.
    pub(super) refuse_with: Option<i16>,
    pub(super) epoch_bumps: i16,
    /// How long until a question for brokers is answered.
    pub(super) broker_answer_after: Duration,
    /// Requests that silent brokers have: (token, broker).
    lost: Vec<(u64, i32)>,
    generations: BTreeMap<i32, u64>,
    expected: Vec<(i16, i64)>,
    pushed: Vec<u64>,
    due: BTreeMap<(i32, u64), Duration>,
    /// The worst latency of each partition.
    pub(super) worst: Vec<Duration>,
    events: BTreeMap<(Duration, u64), Event>,
    next_event: u64,
}

impl Stage {
    /// Three brokers, as many partitions as said, led in turn; quiet until it is run.
    pub(super) fn new(rules: Rules, partitions: usize) -> Stage {
        let broker = |id: i32| Broker { id, address: format!("host-{id}:9092"), rack: None };
        Stage {
            core: Core::new(rules, 7),
            now: Duration::ZERO,
            listed: (0..3).map(|id| (id, broker(id))).collect(),
            up: (0..3).collect(),
            leaders: (0..partitions).map(|partition| ((partition % 3) as i32, 0)).collect(),
            version: 9,
            hints: Vec::new(),
            distortion: None,
            silent: BTreeSet::new(),
            asked_metadata: Vec::new(),
            asked_brokers: Vec::new(),
            closed: Vec::new(),
            requests: Vec::new(),
            gave_up: Vec::new(),
            refuse_with: None,
            epoch_bumps: 0,
            broker_answer_after: ROUND_TRIP,
            lost: Vec::new(),
            generations: BTreeMap::new(),
            expected: vec![(0, 0); partitions],
            pushed: vec![0; partitions],
            due: BTreeMap::new(),
            worst: vec![Duration::ZERO; partitions],
            events: BTreeMap::new(),
            next_event: 0,
        }
    }

    pub(super) fn at(&mut self, when: Duration, event: impl FnOnce(&mut Stage) + 'static) {
        self.next_event += 1;
        self.events.insert((when, self.next_event), Box::new(event));
    }

    /// A record every 10 ms to each partition from `from` until `until`.
    pub(super) fn load(&mut self, from: Duration, until: Duration) {
        let mut at = from;
        while at < until {
            self.at(at, |stage| (0..stage.leaders.len()).for_each(|partition| stage.push(partition)));
            at += RECORD_EVERY;
        }
    }

    pub(super) fn push(&mut self, partition: usize) {
        let number = self.pushed[partition];
        self.pushed[partition] += 1;
        self.due.insert((partition as i32, number), self.now);
        self.core.push(self.now, partition as i32, number);
    }

    pub(super) fn run(&mut self, until: Duration) {
        self.core.on_timeout(self.now);
        self.carry_out();
        loop {
            let event = self.events.keys().next().map(|(at, _)| *at);
            let timer = self.core.next_timeout();
            let next = [event, timer].into_iter().flatten().min().unwrap_or(until);
            if next > until {
                self.now = until;
                return;
            }
            self.now = self.now.max(next);
            match self.events.first_entry().filter(|first| first.key().0 <= self.now) {
                Some(first) => first.remove()(self),
                None => self.core.on_timeout(self.now),
            }
            self.carry_out();
        }
    }

    /// All records that were pushed are acknowledged.
    pub(super) fn is_settled(&self) -> bool {
        self.due.is_empty()
    }

    pub(super) fn worst_of_all(&self) -> Duration {
        self.worst.iter().copied().max().unwrap_or_default()
    }

    /// Leadership of a partition moves.
    pub(super) fn lead(&mut self, partition: usize, leader: i32) {
        let epoch = self.leaders[partition].1;
        self.leaders[partition] = (leader, epoch + 1);
    }

    /// The broker takes requests and answers none, until [`Stage::cut`].
    pub(super) fn silence(&mut self, broker: i32) {
        self.silent.insert(broker);
    }

    /// A metadata answer comes, whoever asked.
    pub(super) fn tell_metadata(&mut self) {
        let seen = self.seen();
        self.core.on_metadata(self.now, Ok(seen));
    }

    /// Every connection to the broker ends; what is unanswered is lost.
    pub(super) fn cut(&mut self, broker: i32) {
        *self.generations.entry(broker).or_default() += 1;
        self.silent.remove(&broker);
        let (ended, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.lost).into_iter().partition(|(_, at)| *at == broker);
        self.lost = left;
        for (token, _) in ended {
            self.at(self.now, move |stage| stage.core.on_produced(stage.now, token, Err(Failure::Ended)));
        }
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.core.poll() {
            let soon = self.now + ROUND_TRIP;
            match action {
                Action::Produce { token, broker, address, epoch_bumps, parts } => {
                    self.requests.push((self.now, broker, parts.clone()));
                    let generation = self.generation(broker);
                    let is_there = self.up.contains(&broker) && self.listed.get(&broker).is_none_or(|known| known.address == address);
                    if self.silent.contains(&broker) {
                        self.lost.push((token, broker));
                        continue;
                    }
                    self.at(soon, move |stage| {
                        let result = if !is_there {
                            Err(Failure::Refused)
                        } else if stage.generation(broker) != generation {
                            Err(Failure::Ended)
                        } else {
                            stage.take(broker, epoch_bumps, &parts)
                        };
                        stage.core.on_produced(stage.now, token, result);
                    });
                }
                Action::AskMetadata(target) => {
                    self.asked_metadata.push(self.now);
                    self.at(soon, move |stage| {
                        let answer = if stage.answers(target) { Ok(stage.seen()) } else { Err(Failure::Refused) };
                        stage.core.on_metadata(stage.now, answer);
                    });
                }
                Action::AskBrokers(target) => {
                    self.asked_brokers.push(self.now);
                    self.at(self.now + self.broker_answer_after, move |stage| {
                        let answer = if stage.answers(target) { Ok(stage.seen().brokers) } else { Err(Failure::Refused) };
                        stage.core.on_brokers(stage.now, answer);
                    });
                }
                Action::Close { broker } => {
                    self.closed.push(broker);
                    self.cut(broker);
                }
                Action::Acknowledged { partition, first, count } => {
                    for number in first..first + count {
                        let due = self.due.remove(&(partition, number)).expect("acknowledged once");
                        let worst = &mut self.worst[partition as usize];
                        *worst = (*worst).max(self.now - due);
                    }
                }
                Action::GaveUp { partition, first, count, error_code } => {
                    self.gave_up.push(error_code);
                    self.due.retain(|(of, number), _| *of != partition || !(first..first + count).contains(number));
                }
            }
        }
    }

    fn generation(&self, broker: i32) -> u64 {
        self.generations.get(&broker).copied().unwrap_or(0)
    }

    fn answers(&self, target: Target) -> bool {
        match target {
            Target::Broker(broker) => self.up.contains(&broker),
            Target::Bootstrap(_) => !self.up.is_empty(),
        }
    }

    fn seen(&mut self) -> Seen {
        let partitions = self.leaders.iter().enumerate();
        let partitions = partitions.map(|(partition, (leader, epoch))| PartitionSeen {
            partition: partition as i32,
            error_code: code::NONE,
            leader: *leader,
            epoch: *epoch,
        });
        let mut seen = Seen { brokers: self.listed.values().cloned().collect(), partitions: partitions.collect() };
        if let Some(distort) = &mut self.distortion {
            distort(&mut seen);
        }
        seen
    }

    fn take(&mut self, broker: i32, epoch_bumps: i16, parts: &[Part]) -> Exchanged {
        let mut answer = Answer { version: self.version, ..Answer::default() };
        for part in parts {
            let (leader, epoch) = self.leaders[part.partition as usize];
            let refused = leader != broker;
            let error_code = if refused { code::NOT_LEADER_OR_FOLLOWER } else { self.append(epoch_bumps, part) };
            let hinted = refused && !self.hints.is_empty();
            let leader = if hinted { (leader, epoch) } else { (-1, -1) };
            answer.parts.push(PartAnswer { partition: part.partition, error_code, leader });
            if hinted {
                answer.brokers = self.hints.iter().filter_map(|id| self.listed.get(id).cloned()).collect();
            }
        }
        Ok(answer)
    }

    fn append(&mut self, epoch_bumps: i16, part: &Part) -> i16 {
        if let Some(error_code) = self.refuse_with {
            return error_code;
        }
        self.epoch_bumps = self.epoch_bumps.max(epoch_bumps);
        let (epoch, expected) = &mut self.expected[part.partition as usize];
        if *epoch != epoch_bumps {
            (*epoch, *expected) = (epoch_bumps, 0);
        }
        let (sequence, count) = (i64::from(part.sequence), part.count as i64);
        if sequence > *expected {
            return code::OUT_OF_ORDER_SEQUENCE;
        }
        *expected = (*expected).max(sequence + count);
        code::NONE
    }
}
