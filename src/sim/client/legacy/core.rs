//! The model's state and what drives it: records in, requests out, timers.
//!
//! Invariant: everything that can be done at a moment is done when an input returns. Deliberately not here: what answers mean
//! (`outcome`) and what metadata changes (`learn`).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::Rules;
use super::buffer::Buffer;
use super::exchange::{Action, Broker, Exchanged, Failure, Part, Target};
use super::flight::{Flight, Next, Order};
use super::learn::Move;
use super::metadata::Schedule;
use super::sink::{Leave, Sent, Sink};

/// A sink that waits for its broker to be found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looking {
    pub(super) node: i32,
    pub(super) token: u64,
    pub(super) round: u32,
}

/// See the module. Time is a `Duration` since whenever.
#[derive(Debug)]
pub struct Core {
    pub(super) rules: Rules,
    pub(super) rng: fastrand::Rng,
    pub(super) brokers: BTreeMap<i32, Broker>,
    pub(super) buffers: Vec<Buffer>,
    pub(super) sinks: BTreeMap<i32, Sink>,
    pub(super) schedule: Schedule,
    pub(super) order: Order,
    pub(super) looking: Vec<Looking>,
    pub(super) moves: Vec<Move>,
    pub(super) actions: VecDeque<Action>,
    pub(super) failures: u64,
    pub(super) wants_new_epoch: bool,
    topic_flight: Flight,
    broker_flight: Flight,
    /// Requests whose broker was not found: the token, for which sink.
    parked: BTreeMap<u64, (i32, Vec<Part>)>,
    epoch_bumps: i16,
    buffered: usize,
    next_id: u64,
}

impl Core {
    /// Asks for metadata at once.
    pub fn new(rules: Rules, seed: u64) -> Core {
        Core {
            schedule: Schedule::new(&rules),
            rng: fastrand::Rng::with_seed(seed),
            brokers: BTreeMap::new(),
            buffers: Vec::new(),
            sinks: BTreeMap::new(),
            order: Order::default(),
            looking: Vec::new(),
            moves: Vec::new(),
            actions: VecDeque::new(),
            failures: 0,
            wants_new_epoch: false,
            topic_flight: Flight::default(),
            broker_flight: Flight::default(),
            parked: BTreeMap::new(),
            epoch_bumps: 0,
            buffered: 0,
            next_id: 0,
            rules,
        }
    }

    /// Partitions that are known.
    pub fn partitions(&self) -> usize {
        self.buffers.len()
    }

    /// Whether the caller has to wait before the next record.
    pub fn is_full(&self) -> bool {
        self.buffered >= self.rules.buffered_records_max
    }

    /// Refusals and lost connections so far, whether or not they were overcome.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Records that are not settled.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    /// A listed broker's address.
    pub fn address_of(&self, broker: i32) -> Option<&str> {
        self.brokers.get(&broker).map(|known| known.address.as_str())
    }

    /// The next record of a partition; records are numbered without gaps.
    pub fn push(&mut self, now: Duration, partition: i32, record: u64) {
        let batch_id = self.fresh_id();
        let (linger, batch_records_max) = (self.rules.linger, self.rules.batch_records_max);
        let Some(buffer) = self.buffer_mut(partition) else { return };
        let starts = buffer.push(record, batch_id, batch_records_max);
        let node = buffer.node;
        if starts && !linger.is_zero() {
            buffer.linger_until = Some(now + linger);
        }
        self.buffered += 1;
        if starts && linger.is_zero() {
            self.drain(now, node);
        }
        self.settle(now);
    }

    /// How a produce request ended.
    pub fn on_produced(&mut self, now: Duration, token: u64, result: Exchanged) {
        if let Some(sink) = self.sinks.values_mut().find(|sink| sink.in_flight.iter().any(|known| known.token == token)) {
            sink.note(token, result);
        }
        self.settle(now);
    }

    /// What [`Action::AskBrokers`] brought.
    pub fn on_brokers(&mut self, now: Duration, answer: Result<Vec<Broker>, Failure>) {
        match answer {
            Ok(brokers) => {
                self.update_brokers(brokers);
                for node in self.look_again() {
                    self.drain(now, node);
                }
            }
            Err(failure) => {
                if self.broker_flight.failed(now, &self.rules, &mut self.rng) == Next::GiveUp {
                    for looking in std::mem::take(&mut self.looking) {
                        self.found(looking, Some(failure));
                    }
                }
            }
        }
        self.settle(now);
    }

    /// The topic's metadata could not be had from the broker that was asked.
    pub(super) fn metadata_failed(&mut self, now: Duration) {
        if self.topic_flight.failed(now, &self.rules, &mut self.rng) == Next::GiveUp {
            self.schedule.failed(now, &self.rules, &mut self.rng);
        }
    }

    /// Time passed.
    pub fn on_timeout(&mut self, now: Duration) {
        self.settle(now);
    }

    /// When [`Core::on_timeout`] is next needed.
    pub fn next_timeout(&self) -> Option<Duration> {
        let backoffs = self.sinks.values().filter_map(|sink| sink.backoff_until).min();
        let lingers = self.buffers.iter().filter_map(|buffer| buffer.linger_until).min();
        let flights = [self.topic_flight.next_timeout(), self.broker_flight.next_timeout()];
        [backoffs, lingers, self.schedule.next_timeout()].into_iter().chain(flights).flatten().min()
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn buffer_mut(&mut self, partition: i32) -> Option<&mut Buffer> {
        self.buffers.get_mut(usize::try_from(partition).ok()?)
    }

    pub(super) fn forget_buffered(&mut self, count: u64) {
        self.buffered = self.buffered.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn settle(&mut self, now: Duration) {
        self.run_timers(now);
        loop {
            let over = self.sinks.iter_mut().find_map(|(node, sink)| Some((*node, sink.next_over()?)));
            match over {
                Some((node, over)) => self.conclude(now, node, over),
                None if !self.moves.is_empty() && !self.schedule.is_asking() => self.begin_moves(now),
                None => break,
            }
        }
        if self.schedule.is_due(now, &self.rules) {
            self.topic_flight.start();
            let target = self.next_target();
            self.actions.push_back(Action::AskMetadata(target));
        }
    }

    fn run_timers(&mut self, now: Duration) {
        if self.topic_flight.is_due(now) {
            let target = self.next_target();
            self.actions.push_back(Action::AskMetadata(target));
        }
        if self.broker_flight.is_due(now) {
            let target = self.next_target();
            self.actions.push_back(Action::AskBrokers(target));
        }
        let mut due: Vec<i32> = self.sinks.iter_mut().filter_map(|(node, sink)| sink.ends_backoff(now).then_some(*node)).collect();
        for buffer in self.buffers.iter_mut().filter(|buffer| buffer.linger_until.is_some_and(|until| now >= until)) {
            buffer.linger_until = None;
            due.push(buffer.node);
        }
        for node in due {
            self.drain(now, node);
        }
    }

    fn next_target(&mut self) -> Target {
        self.order.next(self.brokers.keys().copied(), &mut self.rng)
    }

    /// Sends what this broker's sink may send.
    pub(super) fn drain(&mut self, now: Duration, node: i32) {
        loop {
            let sink = self.sinks.entry(node).or_insert_with(Sink::new);
            match sink.leave() {
                Leave::Later => return,
                Leave::BackOff => {
                    sink.begin_backoff(now, &self.rules, &mut self.rng);
                    self.schedule.trigger(now, false, &self.rules);
                    return;
                }
                Leave::Send => {}
            }
            if std::mem::take(&mut self.wants_new_epoch) {
                self.epoch_bumps = self.epoch_bumps.saturating_add(1);
                self.buffers.iter_mut().for_each(Buffer::restart_sequences);
            }
            let Some((token, parts)) = self.next_request(node) else { return };
            if node < 0 {
                self.fail_request(node, token, Failure::NotListed);
            } else if self.brokers.contains_key(&node) {
                self.write(node, token, parts);
            } else {
                self.look_for(node, token, parts);
            }
        }
    }

    fn next_request(&mut self, node: i32) -> Option<(u64, Vec<Part>)> {
        let token = self.fresh_id();
        let sink = self.sinks.get_mut(&node)?;
        let (mut parts, mut sent) = (Vec::new(), Vec::new());
        let count = self.buffers.len();
        for step in 0..count {
            let index = (sink.turn + step) % count;
            let Some(buffer) = self.buffers.get_mut(index).filter(|buffer| buffer.node == node && buffer.may_send(node)) else { continue };
            let Some((batch, sequence)) = buffer.send(node) else { continue };
            let partition = i32::try_from(index).unwrap_or(i32::MAX);
            parts.push(Part { partition, first: batch.first, count: batch.count, sequence });
            sent.push(Sent { partition, batch_id: batch.id });
        }
        if parts.is_empty() {
            return None;
        }
        sink.turn = (sink.turn + 1) % count.max(1);
        sink.push(token, sent);
        Some((token, parts))
    }

    fn write(&mut self, node: i32, token: u64, parts: Vec<Part>) {
        let address = self.address_of(node).unwrap_or_default().to_owned();
        self.actions.push_back(Action::Produce { token, broker: node, address, epoch_bumps: self.epoch_bumps, parts });
    }

    fn fail_request(&mut self, node: i32, token: u64, failure: Failure) {
        if let Some(sink) = self.sinks.get_mut(&node) {
            sink.note(token, Err(failure));
        }
    }

    /// The broker is not listed: all brokers are asked for, and the sink waits.
    fn look_for(&mut self, node: i32, token: u64, parts: Vec<Part>) {
        if let Some(sink) = self.sinks.get_mut(&node) {
            sink.looking = true;
        }
        self.parked.insert(token, (node, parts));
        self.looking.push(Looking { node, token, round: 1 });
        if self.looking.len() == 1 {
            self.ask_brokers();
        }
    }

    fn ask_brokers(&mut self) {
        self.broker_flight.start();
        let target = self.next_target();
        self.actions.push_back(Action::AskBrokers(target));
    }

    /// The brokers are known anew. Whoever is not among them is looked for once more; what that second answer says, kgo does not look at.
    /// The sinks that may go on.
    fn look_again(&mut self) -> Vec<i32> {
        let (mut left, mut found) = (Vec::new(), Vec::new());
        for looking in std::mem::take(&mut self.looking) {
            match looking.round {
                1 if self.brokers.contains_key(&looking.node) => {
                    self.found(looking, None);
                    found.push(looking.node);
                }
                1 => left.push(Looking { round: 2, ..looking }),
                _ => self.found(looking, Some(Failure::NotListed)),
            }
        }
        self.looking = left;
        if !self.looking.is_empty() {
            self.ask_brokers();
        }
        found
    }

    fn found(&mut self, looking: Looking, failure: Option<Failure>) {
        if let Some(sink) = self.sinks.get_mut(&looking.node) {
            sink.looking = false;
        }
        let parked = self.parked.remove(&looking.token);
        match (failure, parked) {
            (None, Some((node, parts))) => self.write(node, looking.token, parts),
            (failure, _) => self.fail_request(looking.node, looking.token, failure.unwrap_or(Failure::NotListed)),
        }
    }
}
