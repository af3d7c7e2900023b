//! The stage: a cluster as the view has it, sessions with what was asked and answered on each of their legs, and time.
//!
//! A session carries out its core's actions as the driver does. Legs connect at once unless the test says otherwise; whatever a broker
//! says is said by the test.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::brokers::{End, Wire};
use super::frames::{Produce, correlation_id_of, results_in, topic_id};
use crate::cluster::{
    ApiVersionsObservation, Broker, LearnLimits, MetadataObservation, NodeId, Observation, PartitionObservation, Source, TopicId,
    TopicObservation, VersionRange, View, Want, learn,
};
use crate::rewrite::{Masks, UnknownApis};
use crate::session::tests::{LIMITS, Ports, endpoint};
use crate::session::*;
use crate::wire::{ApiKey, HeadLimits, parse_head};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const MANY: u32 = 64 << 20;

pub(super) struct Stage {
    pub now: Instant,
    pub view: View,
    pub gate: Arc<Gate>,
    pub limits: Limits,
    pub detours: Detours,
    /// Id and port of each broker that the cluster lists.
    pub brokers: BTreeMap<i32, u16>,
    /// Leader and epoch by topic and partition.
    pub leaders: BTreeMap<(String, i32), (i32, i32)>,
    /// Brokers that refuse connections.
    pub refusing: BTreeSet<i32>,
    /// Brokers to which connecting comes to nothing, for now.
    pub unreachable: BTreeSet<i32>,
    pub(super) sessions: Vec<Session>,
}

pub(super) struct Session {
    core: Option<Core>,
    member: Member,
    pub(super) legs: Vec<Wire>,
    /// Requests that the core did not want yet.
    waiting: VecDeque<Bytes>,
    pub(super) told: VecDeque<Bytes>,
    asked: Vec<(u64, Vec<Want>)>,
    notes: Vec<Note>,
    closed: Option<CloseReason>,
    versions: HashMap<i32, i16>,
    next_correlation_id: i32,
    /// What becomes of legs, behind what the core wants to have done first.
    pending: VecDeque<(LegId, LegEvent)>,
}

impl Stage {
    /// Brokers 1, 2 and 3; broker 1 leads partitions 0–3 of `t` and `u`, under epoch 5.
    pub fn new() -> Stage {
        let limits = Limits {
            max_slots: 64,
            max_parked_bytes: MANY,
            max_rewrite_bytes: MANY,
            max_request_bytes: MANY,
            max_response_bytes: MANY,
            max_kept_bytes: MANY as usize,
            ..LIMITS
        };
        let leaders = ["t", "u"].into_iter().flat_map(|topic| (0..4).map(move |partition| ((topic.to_owned(), partition), (1, 5))));
        let mut stage = Stage {
            now: Instant::now(),
            view: View::default(),
            gate: Arc::new(Gate::new(MANY as usize)),
            limits,
            detours: Detours::default(),
            brokers: BTreeMap::from([(1, 9091), (2, 9092), (3, 9093)]),
            leaders: leaders.collect(),
            refusing: BTreeSet::new(),
            unreachable: BTreeSet::new(),
            sessions: Vec::new(),
        };
        stage.tell();
        stage
    }

    /// Another client, at broker 1's port.
    pub fn client(&mut self) -> usize {
        self.client_at(Port::Node(NodeId(1)))
    }

    pub fn client_at(&mut self, port: Port) -> usize {
        let second = Duration::from_secs(1);
        let timeouts = Timeouts { handshake: 10 * second, idle: 600 * second, half_close: 5 * second };
        let (limits, detours) = (Arc::new(self.limits.clone()), Arc::new(self.detours.clone()));
        let core = Core::new(self.now, port, limits, timeouts, detours, self.gate.clone(), 7);
        self.sessions.push(Session {
            member: core.member(),
            core: Some(core),
            legs: Vec::new(),
            waiting: VecDeque::new(),
            told: VecDeque::new(),
            asked: Vec::new(),
            notes: Vec::new(),
            closed: None,
            versions: HashMap::new(),
            next_correlation_id: 0,
            pending: VecDeque::new(),
        });
        let new = self.sessions.len() - 1;
        self.with(new, |core, now, around| core.on_view(now, around));
        new
    }

    /// A stage with one client.
    pub fn with_client() -> (Stage, usize) {
        let mut stage = Stage::new();
        let client = stage.client();
        (stage, client)
    }

    // The cluster, and what the view is told of it.

    /// Another broker leads under the next epoch; nobody here knows yet.
    pub fn moves(&mut self, topic: &str, partition: i32, to: i32) {
        let (leader, epoch) = self.leaders.get_mut(&(topic.to_owned(), partition)).unwrap();
        (*leader, *epoch) = (to, *epoch + 1);
    }

    /// The view becomes what the cluster is, and the sessions hear of it.
    pub fn tell(&mut self) {
        let brokers = self.brokers.iter().map(|(id, port)| Broker { id: NodeId(*id), endpoint: endpoint(*port), rack: None }).collect();
        let mut topics: Vec<TopicObservation> = Vec::new();
        for ((topic, index), (leader, leader_epoch)) in &self.leaders {
            if topics.last().is_none_or(|last| last.name.as_deref() != Some(topic)) {
                let id = TopicId(topic_id(topic).into_bytes());
                topics.push(TopicObservation { id, name: Some(topic.as_str().into()), error: 0, partitions: Vec::new() });
            }
            let leader = (*leader >= 0).then_some(NodeId(*leader));
            let error = if leader.is_none() { 5 } else { 0 };
            let seen = PartitionObservation { index: *index, error, leader, leader_epoch: *leader_epoch };
            topics.last_mut().unwrap().partitions.push(seen);
        }
        let seen =
            MetadataObservation { source: Source::Own, version: 12, cluster_id: Some("test".into()), controller: None, brokers, topics };
        self.learn(&Observation::Metadata(seen));
    }

    /// The broker says which versions of Produce it has.
    pub fn tells_versions(&mut self, node: i32, max: i16) {
        let ranges = vec![(ApiKey::PRODUCE, VersionRange { min: 0, max })];
        let endpoint = endpoint(self.brokers[&node]);
        self.learn(&Observation::ApiVersions(ApiVersionsObservation { node: NodeId(node), endpoint, ranges }));
    }

    fn learn(&mut self, observation: &Observation) {
        if let Some(view) = learn(&self.view, self.now, observation, &LearnLimits::default()).view {
            self.view = view;
            for session in 0..self.sessions.len() {
                self.with(session, |core, now, around| core.on_view(now, around));
            }
        }
    }

    /// `moves`, and everybody knows.
    pub fn moves_for_all(&mut self, topic: &str, partition: i32, to: i32) {
        self.moves(topic, partition, to);
        self.tell();
    }

    /// The broker is gone, and the cluster knows; its partitions are led by `heir`.
    pub fn departs(&mut self, node: i32, heir: i32) {
        self.brokers.remove(&node);
        for (leader, epoch) in self.leaders.values_mut().filter(|(leader, _)| *leader == node) {
            (*leader, *epoch) = (heir, *epoch + 1);
        }
    }

    /// The cluster answers what this session has asked, with the view as it is.
    pub fn fresh(&mut self, session: usize) {
        let tokens: Vec<u64> = self.sessions[session].asked.drain(..).map(|(token, _)| token).collect();
        for token in tokens {
            self.with(session, |core, now, around| core.on_fresh(now, token, around));
        }
    }

    /// What the session has asked for since the last look, answered or not.
    pub fn asked(&mut self, session: usize) -> Vec<Want> {
        self.sessions[session].asked.iter().flat_map(|(_, wants)| wants.clone()).collect()
    }

    /// Its partitions only.
    pub fn asked_partitions(&mut self, session: usize) -> Vec<(String, i32)> {
        let named = |topic| match topic {
            crate::cluster::WantedTopic::Name(name) => name.to_string(),
            crate::cluster::WantedTopic::Id(id) => super::frames::topic_named(uuid::Uuid::from_bytes(id.0)),
        };
        let partition = |want| match want {
            Want::Partition { topic, partition, .. } => Some((named(topic), partition)),
            Want::Broker { .. } | Want::Coordinator { .. } => None,
        };
        self.asked(session).into_iter().filter_map(partition).collect()
    }

    // Time.

    /// Time goes by; what is due meanwhile happens when it is due.
    pub fn pass(&mut self, how_long: Duration) {
        let until = self.now + how_long;
        for _ in 0..10_000 {
            let due = |session: &Session| session.core.as_ref().and_then(Core::next_timeout);
            let Some(next) = self.sessions.iter().filter_map(due).min().filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(next);
            for session in 0..self.sessions.len() {
                if due(&self.sessions[session]).is_some_and(|due| due <= self.now) {
                    self.with(session, |core, now, around| core.on_timeout(now, around));
                }
            }
        }
        panic!("it spins");
    }

    // The client's end.

    /// The client sends this; its correlation id.
    pub fn sends(&mut self, session: usize, produce: &Produce) -> i32 {
        let correlation_id = self.next_correlation_id(session);
        self.sends_frame(session, produce.frame(correlation_id));
        correlation_id
    }

    pub fn next_correlation_id(&mut self, session: usize) -> i32 {
        self.sessions[session].next_correlation_id += 1;
        self.sessions[session].next_correlation_id
    }

    pub fn sends_frame(&mut self, session: usize, frame: Bytes) {
        self.sessions[session].versions.insert(correlation_id_of(&frame), super::frames::version_of(&frame));
        self.sessions[session].waiting.push_back(frame);
        self.pump(session);
    }

    /// Whether the client is read from.
    pub fn is_read(&self, session: usize) -> bool {
        self.sessions[session].waiting.is_empty()
    }

    fn pump(&mut self, session: usize) {
        while self.sessions[session].core.is_some()
            && let Some(frame) = self.sessions[session].waiting.pop_front()
        {
            if self.begin(session, &frame).is_break() {
                self.sessions[session].waiting.push_front(frame);
                return;
            }
        }
    }

    fn begin(&mut self, session: usize, frame: &Bytes) -> ControlFlow<()> {
        match self.head(session, frame) {
            verdict @ (RequestVerdict::Relay(leg) | RequestVerdict::RelayKeep(leg)) => {
                self.sessions[session].wire(leg).give(frame.clone());
                match verdict {
                    RequestVerdict::Relay(_) => self.with(session, |core, _, _| core.on_request_end()),
                    _ => self.with(session, |core, now, around| core.on_request_kept(now, Kept::from(frame.clone()), around)),
                }
            }
            RequestVerdict::Read => self.with(session, |core, now, around| core.on_request_frame(now, frame.clone(), around)),
            RequestVerdict::Discard => self.with(session, |core, _, _| core.on_request_end()),
            RequestVerdict::Wait => return ControlFlow::Break(()),
            RequestVerdict::Refuse => {}
        }
        ControlFlow::Continue(())
    }

    /// Only a request's head has come.
    pub fn head(&mut self, session: usize, frame: &Bytes) -> RequestVerdict {
        let limits = HeadLimits { max_frame_bytes: MANY, max_head_bytes: 4096 };
        let head = parse_head(frame, &limits).unwrap().expect("a whole head");
        self.call(session, |core, now, around| core.on_request_head(now, &head, around))
    }

    /// Whole responses that the client has got since the last look, as partition and error, in the request's order.
    pub fn told(&mut self, session: usize) -> Vec<Vec<(i32, i16)>> {
        let frames: Vec<Bytes> = self.sessions[session].told.drain(..).collect();
        let version = |frame: &Bytes| self.sessions[session].versions[&i32::from_be_bytes(frame[4..8].try_into().unwrap())];
        let results = |frame: &Bytes| results_in(frame, version(frame)).into_iter().map(|(_, partition, error)| (partition, error));
        frames.iter().map(|frame| results(frame).collect()).collect()
    }

    /// The same, errors only, of all responses.
    pub fn errors(&mut self, session: usize) -> Vec<i16> {
        self.told(session).into_iter().flatten().map(|(_, error)| error).collect()
    }

    /// Responses of whatever kind since the last look.
    pub fn told_frames(&mut self, session: usize) -> Vec<Bytes> {
        self.sessions[session].told.drain(..).collect()
    }

    pub fn closed(&self, session: usize) -> Option<CloseReason> {
        self.sessions[session].closed
    }

    /// What was noted since the last look.
    pub fn notes(&mut self, session: usize) -> Vec<Note> {
        std::mem::take(&mut self.sessions[session].notes)
    }

    /// The session's task ends without more ado.
    pub fn drops(&mut self, session: usize) {
        let mut core = self.sessions[session].core.take().expect("a session");
        core.on_client(self.now, ClientEvent::Gone);
        let mut woken = Vec::new();
        while let Some(action) = core.poll() {
            if let Action::Wake(members) = action {
                woken.extend(members);
            }
        }
        drop(core);
        self.wake(&woken);
    }

    pub fn event(&mut self, session: usize, leg: LegId, event: LegEvent) {
        self.with(session, |core, now, around| core.on_leg(now, leg, event, around));
    }

    /// A call of the core, and whatever follows from it.
    pub fn with<T>(&mut self, session: usize, step: impl FnOnce(&mut Core, Instant, &Surroundings<'_>) -> T) -> T {
        let result = self.call(session, step);
        let mut events = 0;
        while let Some((leg, event)) = self.sessions[session].pending.pop_front() {
            events += 1;
            assert!(events < 100, "it connects over and over");
            self.call(session, |core, now, around| core.on_leg(now, leg, event, around));
        }
        result
    }

    /// The same, but for what becomes of legs meanwhile.
    fn call<T>(&mut self, session: usize, step: impl FnOnce(&mut Core, Instant, &Surroundings<'_>) -> T) -> T {
        let around =
            Surroundings { view: &self.view, addresses: &Ports, bootstrap: &[], unknown_apis: UnknownApis::Hide, masks: Masks::default() };
        let core = self.sessions[session].core.as_mut().expect("a session that has not ended");
        let result = step(core, self.now, &around);
        self.carry_out(session);
        result
    }

    fn carry_out(&mut self, session: usize) {
        while let Some(action) = self.sessions[session].core.as_mut().and_then(Core::poll) {
            let at = &mut self.sessions[session];
            match action {
                Action::Open { leg, targets } => self.open(session, leg, &targets),
                Action::CloseLeg(leg) => at.wire(leg).state = End::Closed,
                Action::DropLeg(leg) => at.wire(leg).state = End::Dropped,
                Action::Send { leg, frame } => at.wire(leg).give(frame),
                Action::Respond(frame) => at.told.push_back(frame),
                Action::Resume => self.pump(session),
                Action::Refresh { token, wants } => at.asked.push((token, wants)),
                Action::Wake(members) => self.wake(&members),
                Action::Note(note) => at.notes.push(note),
                Action::Close(reason) => at.closed = at.closed.or(Some(reason)),
                Action::ResumeLeg(_) | Action::Learn(_) | Action::DepartedUsed(_) | Action::Rewrote(_) => {}
            }
        }
    }

    fn wake(&mut self, members: &[Member]) {
        for session in 0..self.sessions.len() {
            if members.contains(&self.sessions[session].member) && self.sessions[session].core.is_some() {
                self.with(session, |core, now, around| core.on_gate(now, around));
            }
        }
    }

    fn open(&mut self, session: usize, leg: LegId, targets: &[Target]) {
        let node = |target: &Target| target.node.map_or(0, |node| node.0);
        let can = |target: &&Target| !self.refusing.contains(&node(target)) && !self.unreachable.contains(&node(target));
        let opened = targets.iter().position(|target| can(&target));
        let first = &targets[opened.unwrap_or(0)];
        let wire = Wire {
            id: leg,
            node: first.node.map(|node| node.0),
            port: first.endpoint.port,
            state: if opened.is_some() { End::Up } else { End::Opening },
            unanswered: VecDeque::new(),
            silent: Vec::new(),
            bytes: 0,
        };
        let is_stuck = self.unreachable.contains(&node(first));
        self.sessions[session].legs.push(wire);
        match opened {
            Some(index) => self.later(session, leg, LegEvent::Opened(index)),
            None if is_stuck => self.later(session, leg, LegEvent::Connecting),
            None => {
                self.sessions[session].wire(leg).state = End::Lost;
                self.later(session, leg, LegEvent::Failed);
            }
        }
    }

    fn later(&mut self, session: usize, leg: LegId, event: LegEvent) {
        self.sessions[session].pending.push_back((leg, event));
    }
}

impl Session {
    fn wire(&mut self, leg: LegId) -> &mut Wire {
        self.legs.iter_mut().rev().find(|wire| wire.id == leg).expect("a leg that was opened")
    }
}
