//! Virtual time: one queue of events, and everything that they happen to.
//!
//! Invariant: nothing happens but by an event, in the order of their times. Deliberately absent: sockets, threads, a real clock (one
//! `Instant` is taken as the start, and time is counted from there).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::client::Client;
use super::dice::Dice;
use super::discovery::Discovery;
use super::leg::{BOOTSTRAP_PORT, Upstream};
use super::plan::{MS, Plan, S, Time};
use super::session::Session;
use super::trace::Trace;
use crate::cluster::{Endpoint, NodeId, View};
use crate::rewrite::{Addresses, Advertised};
use crate::session::{Gate, LegId};
use crate::sim::cluster::{Cluster, ConnId, Options};

pub const TOPIC: &str = "t";
/// Virtual broker n listens here plus n.
pub const VIRTUAL_PORT: u16 = 20_000;
pub const VIRTUAL_HOST: &str = "proxy.example";
/// A history that is not over by then is stuck.
const PATIENCE: Time = 90 * S;
const EVENTS_MAX: u64 = 400_000;

/// Bytes on a connection, or its end.
#[derive(Debug)]
pub enum Input {
    Bytes(Bytes),
    Fin,
    /// Broken: what was on its way is lost.
    Gone,
}

pub type Deed = Box<dyn FnOnce(&mut World)>;

pub enum Event {
    ToProxy { sid: usize, input: Input },
    ToClient { sid: usize, piece: Option<Bytes> },
    Timer { sid: usize },
    View { sid: usize },
    Gate { sid: usize },
    Fresh { sid: usize, token: u64 },
    Connect { sid: usize, leg: LegId, target: usize },
    ConnectFailed { sid: usize, leg: LegId },
    Write { sid: usize, leg: LegId },
    AtBroker { conn: ConnId, input: Input },
    FromBroker { conn: ConnId, piece: Option<Bytes> },
    Cluster,
    Flight,
    Client { cid: usize },
    ClientPatience { sid: usize, correlation_id: i32 },
    Fault,
    Heal,
    Do(Deed),
}

#[derive(Default)]
pub struct Stats {
    pub events: u64,
    pub requests: u64,
    pub detours: u64,
    pub attempts: u64,
    pub resent_bytes: u64,
    pub produced_at_brokers: u64,
    pub acked: u64,
    pub deadlines_missed: u64,
    pub longest_hold: Duration,
    pub longest_recovery: Time,
    pub metadata_asked: u64,
    /// Connections that their clients did not read for a while.
    pub dozes: u64,
    /// Batches that went over one connection while earlier ones of their lane were in line behind another.
    pub beside: u64,
    pub closes: BTreeMap<&'static str, u64>,
}

pub struct World {
    pub plan: Plan,
    pub dice: Dice,
    pub now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    next_event: u64,
    base: Instant,
    pub cluster: Cluster,
    cluster_due: Option<Time>,
    pub gate: Arc<Gate>,
    pub view: Arc<View>,
    pub bootstrap: Arc<[Endpoint]>,
    pub sessions: Vec<Session>,
    pub clients: Vec<Client>,
    pub discovery: Discovery,
    pub upstreams: BTreeMap<ConnId, Upstream>,
    /// Hosts that packets to and from vanish.
    pub silent_hosts: BTreeSet<i32>,
    /// Hosts that do not answer at all while their broker is down.
    pub dark_hosts: BTreeSet<i32>,
    pub faults_left: usize,
    pub is_healed: bool,
    pub is_ending: bool,
    pub is_thawing: bool,
    /// A leader lost what its followers did not have.
    pub has_truncated: bool,
    pub trace: Trace,
    pub broken: Option<String>,
    pub stats: Stats,
}

pub struct Ports;

impl Addresses for Ports {
    fn advertised(&self, node: NodeId) -> Option<Advertised> {
        let offset = u16::try_from(node.0).ok()?;
        Some(Advertised { host: VIRTUAL_HOST.into(), port: VIRTUAL_PORT + offset })
    }
}

impl World {
    pub fn new(seed: u64, with_trace: bool) -> World {
        let mut dice = Dice::new(seed);
        let plan = Plan::roll(&mut dice);
        let options =
            Options { brokers: plan.brokers, replication_factor: plan.replication_factor, seed: dice.number(), ..Options::default() };
        let mut cluster = Cluster::new(options);
        for (id, profile) in (0..plan.brokers).zip(&plan.profiles) {
            cluster.set_profile(id, *profile);
        }
        cluster.create_topic(TOPIC, plan.partitions);
        let bootstrap = [Endpoint { host: "bootstrap.example".into(), port: BOOTSTRAP_PORT }].into();
        let gate = Arc::new(Gate::new(plan.gate_bytes));
        let mut world = World {
            faults_left: plan.faults_at.len(),
            dice,
            now: 0,
            queue: BTreeMap::new(),
            next_event: 0,
            base: Instant::now(),
            cluster,
            cluster_due: None,
            gate,
            view: Arc::default(),
            bootstrap,
            sessions: Vec::new(),
            clients: Vec::new(),
            discovery: Discovery::default(),
            upstreams: BTreeMap::new(),
            silent_hosts: BTreeSet::new(),
            dark_hosts: BTreeSet::new(),
            is_healed: false,
            is_ending: false,
            is_thawing: false,
            has_truncated: false,
            trace: Trace::new(with_trace),
            broken: None,
            stats: Stats::default(),
            plan,
        };
        let (faults, heals_at) = (world.plan.faults_at.clone(), world.plan.heals_at);
        faults.into_iter().for_each(|at| world.at(at, Event::Fault));
        world.at(heals_at, Event::Heal);
        if world.dice.chance(95) {
            world.learn_at_start();
        }
        world.poll_slowly();
        for cid in 0..world.plan.clients.len() {
            let client = Client::new(&world.plan.clients[cid], world.plan.partitions);
            world.clients.push(client);
            let at = world.dice.between(0, 5 * MS);
            world.at(at, Event::Client { cid });
        }
        world
    }

    pub fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    pub fn clock(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    /// The first microsecond that is not before `instant`.
    pub fn time_of(&self, instant: Instant) -> Time {
        instant.saturating_duration_since(self.base).as_nanos().div_ceil(1000) as Time
    }

    pub fn at(&mut self, at: Time, event: Event) {
        self.next_event += 1;
        self.queue.insert((at.max(self.now), self.next_event), event);
    }

    pub fn after(&mut self, wait: Time, event: Event) {
        self.at(self.now + wait, event);
    }

    pub fn soon(&mut self) -> Time {
        let latency = self.plan.latency;
        self.now + self.dice.between(latency / 10, latency)
    }

    pub fn say(&mut self, what: impl FnOnce() -> String) {
        self.trace.say(self.now, what);
    }

    /// The history has gone wrong; what it says first counts.
    pub fn breaks(&mut self, why: impl FnOnce() -> String) {
        if self.broken.is_none() {
            let why = why();
            self.say(|| format!("!!! {why}"));
            self.broken = Some(why);
        }
    }

    pub fn run(&mut self) {
        while self.broken.is_none() {
            let Some(((at, _), event)) = self.queue.pop_first() else { break };
            self.now = at;
            self.stats.events += 1;
            if self.stats.events > EVENTS_MAX {
                self.breaks(|| "it does not come to rest".to_owned());
            }
            if at > self.plan.heals_at + PATIENCE {
                let mut stuck: Vec<String> = self.clients.iter().enumerate().filter_map(|(cid, client)| client.stuck(cid)).collect();
                let open = self.sessions.iter().enumerate().filter(|(_, session)| !session.is_over());
                stuck.extend(open.map(|(sid, _)| format!("s{sid} is open")).filter(|_| self.is_ending));
                self.breaks(|| format!("not over {} s after the world was well: {}", PATIENCE / S, stuck.join("; ")));
                break;
            }
            self.handle(event);
            self.end_if_over();
            if self.is_ending && self.sessions.iter().all(Session::is_over) {
                break;
            }
        }
        if self.broken.is_none() {
            self.check_the_end();
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::ToProxy { sid, input } => self.hear_client(sid, input),
            Event::ToClient { sid, piece } => self.at_client(sid, piece),
            Event::Timer { sid } => self.on_timer(sid),
            Event::View { sid } => self.on_view(sid),
            Event::Gate { sid } => self.on_gate(sid),
            Event::Fresh { sid, token } => self.on_fresh(sid, token),
            Event::Connect { sid, leg, target } => self.try_connect(sid, leg, target),
            Event::ConnectFailed { sid, leg } => self.connect_failed(sid, leg),
            Event::Write { sid, leg } => self.write(sid, leg),
            Event::AtBroker { conn, input } => self.at_broker(conn, input),
            Event::FromBroker { conn, piece } => self.hear_broker(conn, piece),
            Event::Cluster => {
                self.cluster_due = None;
                self.cluster.tick(self.clock());
                self.drain_cluster();
            }
            Event::Flight => self.start_flight(),
            Event::Client { cid } => self.client_turn(cid),
            Event::ClientPatience { sid, correlation_id } => self.client_patience(sid, correlation_id),
            Event::Fault => self.something_goes_wrong(),
            Event::Heal => self.heal(),
            Event::Do(deed) => deed(self),
        }
    }

    /// After each call into the cluster: what it answers goes on its way, and its next moment is noted.
    pub fn drain_cluster(&mut self) {
        while let Some(output) = self.cluster.poll() {
            self.broker_says(output);
        }
        if let Some(due) = self.cluster.next_timeout() {
            let due = due.as_nanos().div_ceil(1000) as Time;
            if self.cluster_due.is_none_or(|known| due < known) {
                self.cluster_due = Some(due);
                self.at(due, Event::Cluster);
            }
        }
    }

    fn end_if_over(&mut self) {
        if !self.is_ending && self.is_healed && self.clients.iter().all(Client::is_done) {
            self.is_ending = true;
            self.stats.longest_recovery = self.now.saturating_sub(self.plan.heals_at);
            self.say(|| "every client is done, and leaves".to_owned());
            for sid in 0..self.sessions.len() {
                self.client_leaves(sid);
            }
        }
    }
}
