//! A model of a producer: lanes (one per partition), batches with their sequences, requests in flight up to a depth, several connections.
//!
//! It keeps a lane's order as careful clients do: after a failure it waits for what is in flight, then sends again from the oldest on, and
//! a lane moves to another broker only with nothing in flight. Invariant: a batch keeps its bytes however often it is sent. Deliberately
//! absent: answers (`answers`), and a client's haste of its own (reordering that no proxy could mend).

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, MetadataRequest, ProduceRequest};
use kafka_protocol::protocol::{Encodable, HeaderVersion};
use kafka_protocol::records::{Record, TimestampType};

use super::discovery::prefixed;
use super::habits::Unread;
use super::plan::{ClientPlan, Kind, MS, Time};
use super::transaction::Transacting;
use super::world::{Event, Input, TOPIC, World};
use crate::cluster::NodeId;
use crate::session::Port;
use crate::sim::api::topic_name;
use crate::sim::{batch, frame};

/// A broker remembers so many batches of a producer.
const IN_FLIGHT_MAX: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Queued,
    InFlight(usize),
    Acked {
        offset: i64,
    },
    /// Sent with acks=0, or given up.
    Over,
}

pub struct Batch {
    pub tag: String,
    pub bytes: Bytes,
    pub state: State,
    pub sends: u32,
    /// How often it was sent again though it may have been applied.
    pub ambiguous: u32,
    /// How often its sender was told that it failed, in whatever way.
    pub failures: u32,
    pub is_ambiguous: bool,
    pub was_given_up: bool,
    /// Which transaction of its producer.
    pub transaction: u32,
}

pub struct Lane {
    pub partition: i32,
    pub batches: Vec<Batch>,
    pub to_make: usize,
    pub next_sequence: i32,
    /// Whom the client believes to lead, and under which epoch (−1: it does not know).
    pub leader: Option<(i32, i32)>,
    pub not_before: Time,
    is_starting_over: bool,
    pub is_dead: bool,
    /// A batch failed at the client with later ones on their way: a leader without state may take one of those first, as it may directly.
    pub was_broken: bool,
    /// Two connections had batches of it, and not all of them were in line: their order is the client's own doing.
    pub is_hasty: bool,
    /// The largest epoch that it was told, and when first.
    pub told_epoch: Option<(i32, Time)>,
}

#[derive(Debug)]
pub enum Ask {
    /// Lane and batch.
    Produce(Vec<(usize, usize)>),
    Metadata,
    ApiVersions,
    InitProducerId,
    AddPartitions,
    EndTxn,
    FindCoordinator,
}

#[derive(Debug)]
pub struct Asked {
    pub correlation_id: i32,
    pub version: i16,
    pub what: Ask,
}

pub struct Conn {
    pub port: Port,
    pub inbound: BytesMut,
    pub asked: VecDeque<Asked>,
    next_correlation_id: i32,
    pub to_proxy_at: Time,
    /// When the first byte of what is in `inbound` came.
    pub began_at: Time,
    pub unread: Unread,
    /// Another has taken its place.
    pub is_old: bool,
}

pub struct Client {
    pub plan: ClientPlan,
    pub lanes: Vec<Lane>,
    pub conns: BTreeMap<usize, Conn>,
    /// Every session that it ever had.
    pub sids: Vec<usize>,
    pub producer: (i64, i16),
    pub is_asking: bool,
    pub wants_metadata: Option<Time>,
    next_make_at: Time,
    turn_at: Option<Time>,
    pub transacting: Option<Transacting>,
    /// The brokers that it was told of, and when first.
    pub told_brokers: BTreeMap<i32, Time>,
}

impl Client {
    pub fn new(plan: &ClientPlan, partitions: i32) -> Client {
        let lane = |partition| Lane {
            partition,
            batches: Vec::new(),
            to_make: plan.batches_per_lane,
            next_sequence: 0,
            leader: None,
            not_before: 0,
            is_starting_over: false,
            is_dead: false,
            was_broken: false,
            is_hasty: false,
            told_epoch: None,
        };
        Client {
            lanes: (0..partitions).map(lane).collect(),
            conns: BTreeMap::new(),
            sids: Vec::new(),
            producer: (-1, -1),
            is_asking: false,
            wants_metadata: Some(0),
            next_make_at: 0,
            turn_at: None,
            told_brokers: BTreeMap::new(),
            transacting: (plan.kind == Kind::Transactional).then(Transacting::default),
            plan: plan.clone(),
        }
    }

    pub fn is_done(&self) -> bool {
        let is_over = |batch: &Batch| matches!(batch.state, State::Acked { .. } | State::Over);
        let lanes = self.lanes.iter().all(|lane| lane.is_dead || (lane.to_make == 0 && lane.batches.iter().all(is_over)));
        lanes && self.transacting.as_ref().is_none_or(Transacting::is_done)
    }

    /// What it waits for, if it does.
    pub fn stuck(&self, cid: usize) -> Option<String> {
        let open = |lane: &Lane| lane.batches.iter().filter(|batch| matches!(batch.state, State::Queued | State::InFlight(_))).count();
        let lanes: Vec<String> = self
            .lanes
            .iter()
            .filter(|lane| !lane.is_dead && (lane.to_make > 0 || open(lane) > 0))
            .map(|lane| format!("t/{} {} unmade {} open, leader {:?}", lane.partition, lane.to_make, open(lane), lane.leader))
            .collect();
        let transacting = self.transacting.as_ref().map(|transacting| format!("{transacting:?}")).unwrap_or_default();
        (!self.is_done()).then(|| format!("client {cid} ({:?}): {} {transacting}", self.plan.kind, lanes.join(", ")))
    }
}

impl Lane {
    fn in_flight(&self) -> usize {
        self.batches.iter().filter(|batch| matches!(batch.state, State::InFlight(_))).count()
    }

    /// An earlier batch is in flight on another connection.
    pub fn is_elsewhere(&self, sid: usize, number: usize) -> bool {
        self.batches.iter().take(number).any(|batch| matches!(batch.state, State::InFlight(at) if at != sid))
    }

    /// The next batch that may go to `sid`. `in_line`: other connections, beside which a lane may go on.
    fn next_for(&mut self, sid: usize, in_line: &[usize]) -> Option<usize> {
        let in_flight = self.in_flight();
        self.is_starting_over &= in_flight > 0;
        if self.is_starting_over || in_flight >= IN_FLIGHT_MAX {
            return None;
        }
        let elsewhere = self.batches.iter().any(|batch| matches!(batch.state, State::InFlight(at) if at != sid && !in_line.contains(&at)));
        if elsewhere {
            return None;
        }
        self.batches.iter().position(|batch| batch.state == State::Queued)
    }

    pub fn fails(&mut self, at: usize, is_ambiguous: bool) {
        self.was_broken |= self.batches.iter().skip(at + 1).any(|later| matches!(later.state, State::InFlight(_)));
        if let Some(State::InFlight(sid)) = self.batches.get(at).map(|batch| batch.state) {
            self.is_hasty |= self.batches.iter().skip(at + 1).any(|later| matches!(later.state, State::InFlight(on) if on != sid));
        }
        self.is_starting_over = true;
        let batch = &mut self.batches[at];
        batch.state = State::Queued;
        batch.failures += 1;
        batch.is_ambiguous = is_ambiguous;
    }
}

impl World {
    pub fn client_turn(&mut self, cid: usize) {
        if self.clients[cid].turn_at.is_some_and(|at| at > self.now) {
            return;
        }
        self.clients[cid].turn_at = None;
        self.client_acts(cid);
    }

    /// It makes batches, asks for metadata, and sends what it can.
    pub fn client_acts(&mut self, cid: usize) {
        if self.is_ending || self.broken.is_some() {
            return;
        }
        if self.clients[cid].producer.0 < 0 && self.clients[cid].plan.kind == Kind::Idempotent {
            self.clients[cid].producer = (10_000 + cid as i64, 0);
        }
        if self.clients[cid].transacting.is_some() {
            self.transact(cid);
        } else {
            self.make_batches(cid);
        }
        self.ask_metadata(cid);
        self.close_old(cid);
        self.produce(cid);
        self.may_doze(cid);
        self.plan_turn(cid);
    }

    fn plan_turn(&mut self, cid: usize) {
        let client = &self.clients[cid];
        let makes = client.lanes.iter().any(|lane| lane.to_make > 0).then_some(client.next_make_at);
        let lanes =
            client.lanes.iter().filter(|lane| lane.batches.iter().any(|batch| batch.state == State::Queued)).map(|lane| lane.not_before);
        let later = |at: Time| (at > self.now).then_some(at);
        let soonest = lanes.chain(client.wants_metadata).chain(makes).filter_map(later).min();
        let at = soonest.unwrap_or(self.now + 200 * MS).max(self.now + 1);
        if self.clients[cid].turn_at.is_none_or(|known| at < known || known <= self.now) {
            self.clients[cid].turn_at = Some(at);
            self.at(at, Event::Client { cid });
        }
    }

    fn make_batches(&mut self, cid: usize) {
        if self.now < self.clients[cid].next_make_at {
            return;
        }
        let pause = self.clients[cid].plan.pause;
        self.clients[cid].next_make_at = self.now + self.dice.between(pause / 20, pause);
        for at in 0..self.clients[cid].lanes.len() {
            let burst = if self.dice.chance(30) { 3 } else { usize::from(self.dice.chance(60)) };
            for _ in 0..burst.min(self.clients[cid].lanes[at].to_make) {
                self.clients[cid].lanes[at].to_make -= 1;
                self.make_batch(cid, at, 0);
            }
        }
    }

    pub fn make_batch(&mut self, cid: usize, at: usize, transaction: u32) {
        let records = if self.dice.chance(80) { 1 } else { 3 };
        let client = &mut self.clients[cid];
        let (producer, is_transactional, padding) = (client.producer, client.transacting.is_some(), client.plan.record_bytes);
        let lane = &mut client.lanes[at];
        let tag = format!("c{cid}/{}/{}", lane.partition, lane.batches.len());
        let record = |index: i32| Record {
            transactional: is_transactional,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: producer.0,
            producer_epoch: producer.1,
            timestamp_type: TimestampType::Creation,
            offset: i64::from(index),
            sequence: if producer.0 < 0 { index - 1 } else { lane.next_sequence + index },
            timestamp: 1_000,
            key: None,
            value: Some(Bytes::from(format!("{tag};{index};{}", "x".repeat(padding)))),
            headers: IndexMap::new(),
        };
        let bytes = batch::encode(&(0..records).map(record).collect::<Vec<_>>());
        lane.next_sequence += records;
        let batch = Batch {
            tag,
            bytes,
            state: State::Queued,
            sends: 0,
            ambiguous: 0,
            failures: 0,
            is_ambiguous: false,
            was_given_up: false,
            transaction,
        };
        lane.batches.push(batch);
    }

    /// A connection to that port: the one that is there, or another.
    pub fn connection(&mut self, cid: usize, port: Port) -> usize {
        if let Some((sid, _)) = self.clients[cid].conns.iter().find(|(_, conn)| conn.port == port && !conn.is_old) {
            return *sid;
        }
        let sid = self.accept(cid, port);
        let conn = Conn {
            port,
            inbound: BytesMut::new(),
            asked: VecDeque::new(),
            next_correlation_id: 1,
            to_proxy_at: 0,
            began_at: 0,
            unread: Unread::default(),
            is_old: false,
        };
        self.clients[cid].conns.insert(sid, conn);
        self.clients[cid].sids.push(sid);
        if self.clients[cid].plan.asks_versions {
            let request = ApiVersionsRequest::default();
            self.ask(cid, sid, ApiKey::ApiVersions, 2, &request, Ask::ApiVersions);
        }
        sid
    }

    /// Any connection that it has, or a new one.
    pub fn any_connection(&mut self, cid: usize) -> usize {
        let open: Vec<usize> = self.clients[cid].conns.keys().copied().collect();
        match self.dice.pick(&open).filter(|_| self.dice.chance(70)) {
            Some(sid) => sid,
            None if self.dice.chance(60) => self.connection(cid, Port::Bootstrap),
            None => {
                let node = self.dice.below(self.plan.brokers as usize) as i32;
                self.connection(cid, Port::Node(NodeId(node)))
            }
        }
    }

    pub fn ask<T: Encodable + HeaderVersion>(&mut self, cid: usize, sid: usize, api: ApiKey, version: i16, request: &T, what: Ask) {
        let Some(conn) = self.clients[cid].conns.get_mut(&sid) else { return };
        let correlation_id = conn.next_correlation_id;
        conn.next_correlation_id += 1;
        let frame = match frame::encode_request(api, version, correlation_id, &format!("c{cid}"), request) {
            Ok(frame) => prefixed(&frame),
            Err(error) => return self.breaks(|| format!("a request of the model does not encode: {error}")),
        };
        let is_answered = !(matches!(what, Ask::Produce(_)) && self.clients[cid].plan.acks == 0);
        let (timeout, wait) = (self.clients[cid].plan.timeout_ms as Time * MS, self.dice.between(0, 20 * MS));
        let patience = if matches!(what, Ask::Produce(_)) { timeout } else { timeout + wait };
        self.say(|| format!("client {cid}: asks {api:?} v{version} #{correlation_id} on s{sid}: {what:?}"));
        self.stats.requests += 1;
        if is_answered && let Some(conn) = self.clients[cid].conns.get_mut(&sid) {
            conn.asked.push_back(Asked { correlation_id, version, what });
            self.after(patience, Event::ClientPatience { sid, correlation_id });
        }
        self.give_session(cid, sid, frame);
    }

    fn give_session(&mut self, cid: usize, sid: usize, bytes: Bytes) {
        for piece in self.dice.pieces(bytes) {
            let soon = self.soon();
            let Some(conn) = self.clients[cid].conns.get_mut(&sid) else { return };
            conn.to_proxy_at = conn.to_proxy_at.max(soon);
            let at = conn.to_proxy_at;
            self.at(at, Event::ToProxy { sid, input: Input::Bytes(piece) });
        }
    }

    fn ask_metadata(&mut self, cid: usize) {
        let now = self.now;
        let client = &mut self.clients[cid];
        if client.is_asking || client.wants_metadata.is_none_or(|at| at > now) {
            return;
        }
        client.is_asking = true;
        client.wants_metadata = None;
        let version = client.plan.metadata_version;
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(TOPIC)));
        let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(version < 4);
        let sid = self.any_connection(cid);
        self.ask(cid, sid, ApiKey::Metadata, version, &request, Ask::Metadata);
    }

    pub fn wants_metadata(&mut self, cid: usize, wait: Time) {
        let at = self.now + wait;
        let client = &mut self.clients[cid];
        client.wants_metadata = Some(client.wants_metadata.map_or(at, |known| known.min(at)));
    }

    fn produce(&mut self, cid: usize) {
        let nodes: Vec<i32> = {
            let mut nodes: Vec<i32> = self.clients[cid].lanes.iter().filter_map(|lane| lane.leader.map(|(node, _)| node)).collect();
            nodes.sort_unstable();
            nodes.dedup();
            nodes
        };
        for node in nodes {
            while self.produce_to(cid, node) {}
        }
    }

    fn produce_to(&mut self, cid: usize, node: i32) -> bool {
        let now = self.now;
        let has_any = |lane: &Lane| {
            let is_due = !lane.is_dead && lane.leader.is_some_and(|(leader, _)| leader == node) && lane.not_before <= now;
            is_due && lane.batches.iter().any(|batch| batch.state == State::Queued)
        };
        if !self.clients[cid].lanes.iter().any(has_any) {
            return false;
        }
        self.may_replace(cid, node);
        let sid = self.connection(cid, Port::Node(NodeId(node)));
        let in_line: Vec<usize> =
            self.clients[cid].conns.keys().copied().filter(|other| *other != sid && self.is_in_line(cid, *other)).collect();
        let client = &mut self.clients[cid];
        let (depth, lanes_max) = (client.plan.depth, client.plan.lanes_per_request);
        let in_flight =
            client.conns.get(&sid).map_or(0, |conn| conn.asked.iter().filter(|asked| matches!(asked.what, Ask::Produce(_))).count());
        if in_flight >= depth {
            return false;
        }
        let mut going = Vec::new();
        for (at, lane) in client.lanes.iter_mut().enumerate().filter(|(_, lane)| has_any(lane)) {
            if going.len() < lanes_max
                && let Some(batch) = lane.next_for(sid, &in_line)
            {
                going.push((at, batch));
            }
        }
        if going.is_empty() {
            return false;
        }
        let version = self.clients[cid].plan.produce_version;
        let request = self.produce_request(cid, sid, &going);
        self.ask(cid, sid, ApiKey::Produce, version, &request, Ask::Produce(going));
        true
    }

    fn produce_request(&mut self, cid: usize, sid: usize, going: &[(usize, usize)]) -> ProduceRequest {
        let id = self.cluster.topics.get(TOPIC).map(|topic| topic.id).unwrap_or_default();
        let client = &mut self.clients[cid];
        let mut data = Vec::new();
        for (at, batch) in going {
            let lane = &mut client.lanes[*at];
            let batch = &mut lane.batches[*batch];
            batch.sends += 1;
            batch.ambiguous += u32::from(std::mem::take(&mut batch.is_ambiguous));
            batch.state = if client.plan.acks == 0 { State::Over } else { State::InFlight(sid) };
            data.push(PartitionProduceData::default().with_index(lane.partition).with_records(Some(batch.bytes.clone())));
        }
        let topic = TopicProduceData::default().with_partition_data(data);
        let by_id = client.plan.produce_version >= 13;
        let topic = if by_id { topic.with_topic_id(id) } else { topic.with_name(topic_name(TOPIC)) };
        let request = ProduceRequest::default().with_acks(client.plan.acks).with_timeout_ms(client.plan.timeout_ms);
        let request = request.with_topic_data(vec![topic]);
        if client.transacting.is_some() { request.with_transactional_id(Some(super::transaction::id_of(cid))) } else { request }
    }

    /// The client's process ends a connection: in the middle of a request, now and then.
    pub fn client_hangs_up(&mut self, sid: usize) {
        let cid = self.sessions[sid].cid;
        let Some(conn) = self.clients[cid].conns.get(&sid) else { return };
        let at = conn.to_proxy_at;
        let lanes = &self.clients[cid].lanes;
        let queued = lanes.iter().enumerate().find_map(|(at, lane)| {
            let batch = lane.batches.iter().position(|batch| batch.state == State::Queued)?;
            Some((at, batch))
        });
        if let Some((lane, batch)) = queued.filter(|_| self.dice.chance(50)) {
            // Some bytes of a request that does not come to its end.
            let partition = self.clients[cid].lanes[lane].partition;
            let bytes = self.clients[cid].lanes[lane].batches[batch].bytes.clone();
            let data = PartitionProduceData::default().with_index(partition).with_records(Some(bytes));
            let topic = TopicProduceData::default().with_name(topic_name(TOPIC)).with_partition_data(vec![data]);
            let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic]);
            if let Ok(frame) = frame::encode_request(ApiKey::Produce, 9, 9999, "cut", &request) {
                let mut frame = prefixed(&frame);
                let cut = 1 + self.dice.below(frame.len() - 1);
                self.at(at, Event::ToProxy { sid, input: Input::Bytes(frame.split_to(cut)) });
            }
        }
        let input = if self.dice.chance(50) { Input::Fin } else { Input::Gone };
        self.say(|| format!("client {cid}: hangs up s{sid}: {input:?}"));
        self.at(at, Event::ToProxy { sid, input });
        self.connection_lost(cid, sid);
        self.at(self.now, Event::Do(Box::new(move |world| world.read_legs(sid))));
    }

    pub fn client_leaves(&mut self, sid: usize) {
        let cid = self.sessions[sid].cid;
        let Some(conn) = self.clients[cid].conns.remove(&sid) else { return };
        self.at(conn.to_proxy_at, Event::ToProxy { sid, input: Input::Fin });
        self.at(self.now, Event::Do(Box::new(move |world| world.read_legs(sid))));
    }
}
