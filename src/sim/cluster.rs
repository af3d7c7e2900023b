//! The simulated cluster: a state machine that takes frames and gives frames back.
//!
//! In: [`Cluster::connect`], [`Cluster::receive`], [`Cluster::disconnect`], [`Cluster::tick`]; out: [`Cluster::poll`],
//! [`Cluster::next_timeout`]. Invariant: a connection has at most one request under way, as at a broker; the next one starts when the
//! answer was handed out. Deliberately not here: sockets, a clock (time is a `Duration` since the start), unseeded randomness.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::api::{self, Call};
use super::broker::{Broker, Hang};
use super::coordinator::Seats;
use super::departure::Windows;
use super::fault::{Fault, Faults};
use super::group::Groups;
use super::image::Image;
use super::inspect::Observed;
use super::profile::Profile;
use super::topic::{Partition, Topic, Topics};
use super::transaction::Transactions;
use super::waiting::Waiting;

/// How a cluster starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many brokers, with ids from `first_broker_id`.
    pub brokers: i32,
    /// The first broker's id.
    pub first_broker_id: i32,
    /// Which versions they serve.
    pub profile: Profile,
    /// Whether Metadata creates topics that are asked for (Kafka: `auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// Partitions of a topic where the creator does not say.
    pub default_partitions: i32,
    /// Replicas of a partition where the creator does not say; at most as many as there are brokers.
    pub replication_factor: i16,
    /// Whether a leader hint comes with the addresses of all listed brokers; Kafka gives those of the hinted leaders only.
    pub hints_list_all_brokers: bool,
    /// Whether leaders send consumers to a follower in their rack (Kafka: `replica.selector.class=RackAwareReplicaSelector`).
    pub rack_aware_fetch: bool,
    /// A partition's log forgets its oldest batches beyond this.
    pub log_max_bytes: usize,
    /// A new group waits this long for more members (Kafka: `group.initial.rebalance.delay.ms`, there 3 s).
    pub group_initial_rebalance_delay: Duration,
    /// How long departures take; [`Cluster::set_windows`] changes it under way.
    pub windows: Windows,
    /// What wall clock the start of the simulation has, in milliseconds since 1970.
    pub epoch_ms: i64,
    /// Seed of ids.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            brokers: 3,
            first_broker_id: 0,
            profile: Profile::default(),
            auto_create_topics: false,
            default_partitions: 1,
            replication_factor: 3,
            hints_list_all_brokers: false,
            rack_aware_fetch: false,
            log_max_bytes: 256 * 1024 * 1024,
            group_initial_rebalance_delay: Duration::ZERO,
            windows: Windows::default(),
            epoch_ms: 1_700_000_000_000,
            seed: 1,
        }
    }
}

/// A connection to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// Why a connection was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broker {broker} refuses connections")]
pub struct Refused {
    /// Which broker.
    pub broker: i32,
}

/// What the cluster wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this (a length prefix comes before it on the wire).
    Respond {
        /// To whom.
        conn: ConnId,
        /// The answer.
        frame: Bytes,
    },
    /// Close the connection; it exists no more.
    Close {
        /// Which.
        conn: ConnId,
    },
}

#[derive(Debug)]
struct Conn {
    broker: i32,
    inbox: VecDeque<Bytes>,
    /// The request under way.
    busy: Option<u64>,
    /// The peer is gone: what it sent in full is still carried out, and nothing is answered.
    gone: bool,
}

type Scheduled = Box<dyn FnOnce(&mut Cluster) + Send>;

/// See the module.
pub struct Cluster {
    pub(crate) options: Options,
    pub(crate) now: Duration,
    pub(crate) rng: fastrand::Rng,
    pub(crate) brokers: BTreeMap<i32, Broker>,
    pub(crate) topics: Topics,
    pub(crate) seats: Seats,
    pub(crate) windows: Windows,
    /// What the cluster was like, and until when it is told so; the oldest first.
    pub(crate) old_news: Vec<(Duration, Image)>,
    pub(crate) groups: Groups,
    pub(crate) transactions: Transactions,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) faults: Faults,
    pub(crate) observed: Observed,
    /// Something changed that a waiting request may have waited for.
    pub(crate) dirty: bool,
    connections: BTreeMap<ConnId, Conn>,
    runnable: VecDeque<ConnId>,
    outputs: VecDeque<Output>,
    delayed: BTreeMap<(Duration, u64), (Call, Bytes)>,
    /// Answers that a frozen broker would have given by now.
    frozen_answers: Vec<(Call, Bytes)>,
    schedule: BinaryHeap<Reverse<(Duration, u64)>>,
    scheduled: BTreeMap<u64, Scheduled>,
    next_id: u64,
}

impl Cluster {
    /// A cluster whose brokers run and have no topics.
    pub fn new(options: Options) -> Cluster {
        let ids = options.first_broker_id..options.first_broker_id.saturating_add(options.brokers);
        Cluster {
            rng: fastrand::Rng::with_seed(options.seed),
            now: Duration::ZERO,
            brokers: ids.map(|id| (id, Broker::new(id, None, options.profile))).collect(),
            topics: Topics::default(),
            seats: Seats::new(),
            windows: options.windows,
            old_news: Vec::new(),
            groups: Groups::default(),
            transactions: Transactions::default(),
            waiting: Vec::new(),
            faults: Faults::default(),
            observed: Observed::default(),
            dirty: false,
            connections: BTreeMap::new(),
            runnable: VecDeque::new(),
            outputs: VecDeque::new(),
            delayed: BTreeMap::new(),
            frozen_answers: Vec::new(),
            schedule: BinaryHeap::new(),
            scheduled: BTreeMap::new(),
            next_id: 0,
            options,
        }
    }

    /// A client connects to a broker.
    pub fn connect(&mut self, now: Duration, broker: i32) -> Result<ConnId, Refused> {
        self.advance(now);
        if !self.brokers.get(&broker).is_some_and(Broker::accepts) {
            return Err(Refused { broker });
        }
        let conn = ConnId(self.fresh_id());
        self.connections.insert(conn, Conn { broker, inbox: VecDeque::new(), busy: None, gone: false });
        self.observed.connected(broker);
        Ok(conn)
    }

    /// A whole request came in, without its length prefix. Frames for a connection that is gone are ignored.
    pub fn receive(&mut self, now: Duration, conn: ConnId, frame: Bytes) {
        self.advance(now);
        if let Some(known) = self.connections.get_mut(&conn) {
            known.inbox.push_back(frame);
            self.runnable.push_back(conn);
        }
        self.settle();
    }

    /// The client closed. Whole requests that it sent before are still carried out (an acks=0 producer flushes and exits).
    pub fn disconnect(&mut self, conn: ConnId) {
        if let Some(known) = self.connections.get_mut(&conn) {
            known.gone = true;
            known.busy = None;
            self.runnable.push_back(conn);
        }
        self.settle();
    }

    /// Time passed.
    pub fn tick(&mut self, now: Duration) {
        self.advance(now);
        self.settle();
    }

    /// The next thing to do, until there is none.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Cluster::tick`] is next needed.
    pub fn next_timeout(&self) -> Option<Duration> {
        let waits = self.waiting.iter().filter(|waiting| !self.is_frozen(waiting.call.broker)).map(|waiting| waiting.deadline).min();
        let delayed = self.delayed.keys().next().map(|(at, _)| *at);
        let scheduled = self.schedule.peek().map(|Reverse((at, _))| *at);
        let seats = self.next_seat_change();
        [waits, delayed, scheduled, seats, self.next_group_timeout(), self.next_transaction_timeout()].into_iter().flatten().min()
    }

    /// Whether a driver should read more of this connection: not while a frozen broker takes no bytes, nor far ahead of the answers.
    pub fn wants_read(&self, conn: ConnId) -> bool {
        const READ_AHEAD_FRAMES: usize = 64;
        let Some(known) = self.connections.get(&conn) else { return false };
        let frozen = self.brokers.get(&known.broker).is_some_and(|broker| broker.hang == Some(Hang::NotReading));
        !frozen && known.inbox.len() < READ_AHEAD_FRAMES
    }

    /// Runs `change` at a moment of the simulation.
    pub fn at(&mut self, when: Duration, change: impl FnOnce(&mut Cluster) + Send + 'static) {
        let id = self.fresh_id();
        self.schedule.push(Reverse((when, id)));
        self.scheduled.insert(id, Box::new(change));
    }

    /// The moment of the last call that had one.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The simulated wall clock, in milliseconds since 1970.
    pub(crate) fn wall_clock_ms(&self) -> i64 {
        self.options.epoch_ms.saturating_add(i64::try_from(self.now.as_millis()).unwrap_or(i64::MAX))
    }

    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Creates a topic; replicas go round the listed brokers.
    pub fn create_topic(&mut self, name: &str, partitions: i32) {
        let assignment = (0..usize::try_from(partitions).unwrap_or(0)).map(|index| self.spread(index)).collect();
        self.create_assigned_topic(name, assignment);
    }

    /// The replicas of the partition `index` of a topic that nobody placed by hand.
    fn spread(&self, index: usize) -> Vec<i32> {
        let listed: Vec<i32> = self.brokers.values().filter(|broker| broker.listed).map(|broker| broker.id).collect();
        let factor = usize::try_from(self.options.replication_factor).unwrap_or(1).clamp(1, listed.len().max(1));
        listed.iter().cycle().skip(index % listed.len().max(1)).take(factor).copied().collect()
    }

    /// Adds partitions to a topic, up to `partitions`.
    pub fn grow_topic(&mut self, name: &str, partitions: usize) {
        let from = self.topics.get(name).map_or(0, |topic| topic.partitions.len());
        let added: Vec<Vec<i32>> = (from..partitions).map(|index| self.spread(index)).collect();
        let log_max_bytes = self.options.log_max_bytes;
        if let Some(topic) = self.topics.get_mut(name) {
            topic.partitions.extend(added.into_iter().map(|replicas| Partition::new(replicas, log_max_bytes)));
        }
    }

    /// Creates a topic whose partitions lie as given; the first replica leads.
    pub fn create_assigned_topic(&mut self, name: &str, assignment: Vec<Vec<i32>>) {
        let id = Uuid::from_u128(self.rng.u128(1..));
        let log_max_bytes = self.options.log_max_bytes;
        let partitions = assignment.into_iter().map(|replicas| Partition::new(replicas, log_max_bytes)).collect();
        self.topics.insert(Topic { name: name.to_owned(), id, partitions, configs: BTreeMap::new() });
        self.dirty = true;
    }

    /// Closes a connection from the broker's side.
    pub fn close(&mut self, conn: ConnId) {
        if self.connections.remove(&conn).is_some_and(|known| !known.gone) {
            self.outputs.push_back(Output::Close { conn });
        }
    }

    /// The connections to a broker that are open.
    pub fn connections_of(&self, broker: i32) -> Vec<ConnId> {
        self.connections.iter().filter(|(_, known)| known.broker == broker && !known.gone).map(|(conn, _)| *conn).collect()
    }

    /// All connections of a broker end, those included whose peer is gone but whose requests still lie there.
    pub(crate) fn drop_connections_of(&mut self, broker: i32) {
        for conn in self.connections_of(broker) {
            self.close(conn);
        }
        self.connections.retain(|_, known| known.broker != broker);
    }

    /// A frozen broker goes on: what piled up is carried out.
    pub(crate) fn wake(&mut self, broker: i32) {
        let woken = self.connections.iter().filter(|(_, known)| known.broker == broker).map(|(conn, _)| *conn);
        self.runnable.extend(woken);
        for (call, frame) in std::mem::take(&mut self.frozen_answers) {
            self.hand_out(&call, frame);
        }
        self.dirty = true;
    }

    /// Whether somebody still waits for this call's answer.
    pub(crate) fn is_awaited(&self, call: &Call) -> bool {
        self.connections.get(&call.conn).is_some_and(|known| known.busy == Some(call.ticket))
    }

    /// A call that was left waiting has its answer.
    pub(crate) fn complete(&mut self, call: &Call, frame: Bytes) {
        let call = call.clone();
        match call.fault {
            Some(Fault::DropAnswer) if self.is_awaited(&call) => self.close(call.conn),
            Some(Fault::Silence) => {}
            Some(Fault::Delay(by)) => {
                let id = self.fresh_id();
                self.delayed.insert((self.now + by, id), (call, frame));
            }
            _ => self.hand_out(&call, frame),
        }
    }

    fn hand_out(&mut self, call: &Call, frame: Bytes) {
        if self.is_frozen(call.broker) {
            self.frozen_answers.push((call.clone(), frame));
            return;
        }
        let Some(known) = self.connections.get_mut(&call.conn).filter(|known| known.busy == Some(call.ticket)) else { return };
        known.busy = None;
        self.outputs.push_back(Output::Respond { conn: call.conn, frame });
        self.runnable.push_back(call.conn);
    }

    /// The call is over without an answer (acks=0).
    fn end_silently(&mut self, call: &Call) {
        if let Some(known) = self.connections.get_mut(&call.conn).filter(|known| known.busy == Some(call.ticket)) {
            known.busy = None;
            self.runnable.push_back(call.conn);
        }
    }

    fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    fn is_frozen(&self, broker: i32) -> bool {
        self.brokers.get(&broker).is_some_and(|broker| broker.hang.is_some())
    }

    /// Does everything that can be done at this moment.
    pub(crate) fn settle(&mut self) {
        loop {
            self.run_scheduled();
            self.release_delayed();
            self.expire_group_timers();
            self.expire_transactions();
            self.run_connections();
            let due = self.waiting.iter().any(|waiting| waiting.deadline <= self.now && !self.is_frozen(waiting.call.broker));
            if std::mem::take(&mut self.dirty) || due {
                self.recheck_waiting();
            }
            if self.runnable.is_empty() && !self.dirty {
                break;
            }
        }
    }

    fn run_scheduled(&mut self) {
        while let Some(Reverse((when, id))) = self.schedule.peek().copied().filter(|Reverse((when, _))| *when <= self.now) {
            self.schedule.pop();
            debug_assert!(when <= self.now);
            if let Some(change) = self.scheduled.remove(&id) {
                change(self);
            }
        }
    }

    fn release_delayed(&mut self) {
        while let Some(entry) = self.delayed.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (call, frame) = entry.remove();
            self.hand_out(&call, frame);
        }
    }

    fn run_connections(&mut self) {
        while let Some(conn) = self.runnable.pop_front() {
            while let Some((call_broker, ticket, frame)) = self.next_request(conn) {
                self.serve(conn, call_broker, ticket, frame);
            }
            let finished = |known: &Conn| known.gone && known.inbox.is_empty();
            if self.connections.get(&conn).is_some_and(finished) {
                self.connections.remove(&conn);
            }
        }
    }

    fn next_request(&mut self, conn: ConnId) -> Option<(i32, u64, Bytes)> {
        let broker = self.connections.get(&conn)?.broker;
        if self.is_frozen(broker) {
            return None;
        }
        let ticket = self.fresh_id();
        let known = self.connections.get_mut(&conn).filter(|known| known.busy.is_none())?;
        let frame = known.inbox.pop_front()?;
        known.busy = (!known.gone).then_some(ticket);
        Some((broker, ticket, frame))
    }

    fn serve(&mut self, conn: ConnId, broker: i32, ticket: u64, frame: Bytes) {
        match api::serve(self, conn, broker, ticket, frame) {
            api::Served::Answer(call, frame) => self.complete(&call, frame),
            api::Served::AnswerAfter(call, by, frame) => {
                let id = self.fresh_id();
                self.delayed.insert((self.now + by, id), (call, frame));
            }
            api::Served::Later => {}
            api::Served::Nothing(call) => self.end_silently(&call),
            api::Served::Close => self.close(conn),
        }
    }
}
