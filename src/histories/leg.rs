//! Connections to brokers: bytes in pieces, a send buffer that fills, connects that are refused or come to nothing, ends that are clean,
//! sudden or silent.
//!
//! Invariant: what a broker gets is a prefix of what was written, and what was written is a prefix of what was given. Deliberately absent:
//! what the bytes mean, save where a frame ends.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::plan::{MS, S, Time};
use super::session::{Moving, Session};
use super::world::{Event, Input, World};
use crate::session::{LegEvent, LegId, ResponseVerdict, Target};
use crate::sim::cluster::{ConnId, Output};
use crate::wire;

/// What a kernel takes for a broker that does not read.
const WINDOW_BYTES: u64 = 2048;
/// Until the next target of a connect is tried beside one that says nothing.
const STAGGER: Time = 250 * MS;
/// An address in front of all brokers, which leads to one that is there.
pub const BOOTSTRAP_PORT: u16 = 9000;
const CONNECT_TIMEOUT: Time = 3 * S;
const USER_TIMEOUT: (Time, Time) = (2 * S, 6 * S);

pub struct Leg {
    pub id: LegId,
    targets: Vec<Target>,
    pub conn: Option<ConnId>,
    outbound: VecDeque<Bytes>,
    written_bytes: u64,
    is_writing: bool,
    /// `None`: its end.
    unread: VecDeque<Option<Bytes>>,
    inbound: BytesMut,
    moving: Moving,
    pub held: bool,
    /// The core has left it; what was queued still goes out.
    pub is_left: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Leg(usize, LegId),
    Discovery(u64),
}

/// A connection as the network has it.
pub struct Upstream {
    pub owner: Owner,
    pub broker: i32,
    /// The client's own way to its broker, as a direct connection would be.
    pub is_home: bool,
    to_broker_at: Time,
    to_proxy_at: Time,
    assembling: BytesMut,
    /// The proxy's side has shut it down, and everything before that has come.
    fin_came: bool,
    taken_bytes: u64,
    /// What was on its way to the proxy is lost.
    is_reset: bool,
    is_closed: bool,
    /// Produce requests that the broker got.
    pub produced: Vec<Bytes>,
}

impl Session {
    pub fn leg_mut(&mut self, id: LegId) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|leg| leg.id == id && !leg.is_left)
    }

    fn any_leg(&mut self, id: LegId) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|leg| leg.id == id)
    }
}

impl World {
    pub fn open(&mut self, sid: usize, id: LegId, targets: Vec<Target>) {
        let leg = Leg {
            id,
            targets,
            conn: None,
            outbound: VecDeque::new(),
            written_bytes: 0,
            is_writing: false,
            unread: VecDeque::new(),
            inbound: BytesMut::new(),
            moving: Moving::Head,
            held: false,
            is_left: false,
        };
        self.sessions[sid].legs.push(leg);
        let at = self.soon();
        self.at(at, Event::Connect { sid, leg: id, target: 0 });
        self.after(CONNECT_TIMEOUT, Event::ConnectFailed { sid, leg: id });
    }

    /// The broker that listens at this port now.
    pub fn broker_at(&self, port: u16) -> Option<i32> {
        if port == BOOTSTRAP_PORT {
            let is_there = |id: &i32| self.cluster.broker(*id).is_some_and(|broker| broker.accepts()) && !self.silent_hosts.contains(id);
            return (0..self.plan.brokers).find(is_there);
        }
        self.cluster.brokers().find(|broker| broker.port == port).map(|broker| broker.id)
    }

    /// Whether a packet to this broker's host brings nothing back.
    pub fn is_dark(&self, broker: i32) -> bool {
        let is_up = self.cluster.broker(broker).is_some_and(|broker| broker.running);
        self.silent_hosts.contains(&broker) || (!is_up && self.dark_hosts.contains(&broker))
    }

    pub fn try_connect(&mut self, sid: usize, id: LegId, target: usize) {
        if target == 0 && self.sessions[sid].leg_mut(id).is_some() {
            self.on_leg(sid, id, LegEvent::Connecting);
        }
        let Some(leg) = self.sessions[sid].leg_mut(id).filter(|leg| leg.conn.is_none()) else { return };
        let Some(port) = leg.targets.get(target).map(|target| target.endpoint.port) else {
            // All were refused, or say nothing.
            let none_is_dark = leg.targets.iter().map(|target| target.endpoint.port).collect::<Vec<_>>();
            let waits = none_is_dark.into_iter().any(|port| self.broker_at(port).is_some_and(|broker| self.is_dark(broker)));
            if !waits {
                self.connect_failed(sid, id);
            }
            return;
        };
        let broker = self.broker_at(port);
        if broker.is_some_and(|broker| self.is_dark(broker)) {
            self.after(STAGGER, Event::Connect { sid, leg: id, target: target + 1 });
            return;
        }
        let conn = broker.and_then(|broker| self.cluster.connect(self.clock(), broker).ok());
        let Some((conn, broker)) = conn.zip(broker) else {
            self.say(|| format!("s{sid}: {id:?}: port {port} refuses"));
            self.try_connect(sid, id, target + 1);
            return;
        };
        self.adopt(conn, broker, Owner::Leg(sid, id));
        self.say(|| format!("s{sid}: {id:?} is open to broker {broker} ({conn:?})"));
        if let Some(leg) = self.sessions[sid].leg_mut(id) {
            leg.conn = Some(conn);
        }
        self.start_writing(sid, id);
        self.on_leg(sid, id, LegEvent::Opened(target));
    }

    pub fn adopt(&mut self, conn: ConnId, broker: i32, owner: Owner) {
        let is_home = match owner {
            Owner::Leg(sid, id) => self.sessions[sid].core.as_ref().is_some_and(|core| core.home_leg() == id),
            Owner::Discovery(_) => false,
        };
        let upstream = Upstream {
            owner,
            broker,
            is_home,
            to_broker_at: 0,
            to_proxy_at: 0,
            assembling: BytesMut::new(),
            fin_came: false,
            taken_bytes: 0,
            is_reset: false,
            is_closed: false,
            produced: Vec::new(),
        };
        self.upstreams.insert(conn, upstream);
    }

    pub fn connect_failed(&mut self, sid: usize, id: LegId) {
        let legs = &mut self.sessions[sid].legs;
        let Some(at) = legs.iter().position(|leg| leg.id == id && !leg.is_left && leg.conn.is_none()) else { return };
        let had_choice = legs.remove(at).targets.len() > 1;
        self.say(|| format!("s{sid}: {id:?} could not be opened"));
        // Of those that the session knows.
        let is_there = |id: i32| self.cluster.broker(id).is_some_and(|broker| broker.accepts()) && !self.silent_hosts.contains(&id);
        let nobody = !self.sessions[sid].view.brokers.values().any(|known| self.broker_at(known.endpoint.port).is_some_and(is_there));
        self.sessions[sid].had_nobody |= nobody || had_choice;
        self.sessions[sid].failed_opens += 1;
        self.on_leg(sid, id, LegEvent::Failed);
    }

    fn on_leg(&mut self, sid: usize, id: LegId, event: LegEvent) {
        self.load_view(sid);
        self.core(sid, |core, now, around| core.on_leg(now, id, event, around));
        self.carry_out(sid);
        self.rest(sid);
    }

    // To the broker.

    /// Bytes for a leg; one that is gone takes nothing.
    pub fn give(&mut self, sid: usize, id: LegId, bytes: Bytes) {
        let Some(leg) = self.sessions[sid].leg_mut(id) else { return };
        if !bytes.is_empty() {
            leg.outbound.push_back(bytes);
            self.start_writing(sid, id);
        }
    }

    fn start_writing(&mut self, sid: usize, id: LegId) {
        let wait = if self.dice.chance(80) { 0 } else { self.dice.between(0, MS) };
        let Some(leg) = self.sessions[sid].any_leg(id) else { return };
        if leg.conn.is_some() && !leg.is_writing && (!leg.outbound.is_empty() || leg.is_left) {
            leg.is_writing = true;
            self.after(wait, Event::Write { sid, leg: id });
        }
    }

    pub fn write(&mut self, sid: usize, id: LegId) {
        let Some(leg) = self.sessions[sid].any_leg(id) else { return };
        leg.is_writing = false;
        let Some(conn) = leg.conn else { return };
        let (is_left, written) = (leg.is_left, leg.written_bytes);
        let Some(upstream) = self.upstreams.get(&conn) else { return };
        let is_stuck = written >= upstream.taken_bytes + WINDOW_BYTES;
        let Some(leg) = self.sessions[sid].any_leg(id) else { return };
        if is_stuck && !leg.outbound.is_empty() {
            leg.is_writing = true;
            self.after(5 * MS, Event::Write { sid, leg: id });
            return;
        }
        if let Some(mut chunk) = leg.outbound.pop_front() {
            let whole = self.dice.chance(80);
            let cut = 1 + self.dice.below(chunk.len());
            let piece = if whole { chunk.split_to(chunk.len()) } else { chunk.split_to(cut) };
            let Some(leg) = self.sessions[sid].any_leg(id) else { return };
            if !chunk.is_empty() {
                leg.outbound.push_front(chunk);
            }
            leg.written_bytes += piece.len() as u64;
            self.give_broker(conn, Input::Bytes(piece));
            self.start_writing(sid, id);
        } else if is_left {
            self.give_broker(conn, Input::Fin);
            self.forget_leg(sid, id);
        }
    }

    pub fn give_broker(&mut self, conn: ConnId, input: Input) {
        let soon = self.soon();
        let Some(upstream) = self.upstreams.get_mut(&conn) else { return };
        upstream.to_broker_at = upstream.to_broker_at.max(soon);
        let at = upstream.to_broker_at;
        self.at(at, Event::AtBroker { conn, input });
    }

    pub fn at_broker(&mut self, conn: ConnId, input: Input) {
        let Some(upstream) = self.upstreams.get_mut(&conn).filter(|upstream| !upstream.fin_came) else { return };
        match input {
            Input::Bytes(bytes) => upstream.assembling.extend_from_slice(&bytes),
            Input::Fin | Input::Gone => upstream.fin_came = true,
        }
        self.feed_broker(conn);
    }

    /// Whole frames go to the broker, if it takes any.
    pub fn feed_broker(&mut self, conn: ConnId) {
        while self.cluster.wants_read(conn) {
            let Some(upstream) = self.upstreams.get_mut(&conn) else { return };
            let Some(prefix) = upstream.assembling.first_chunk::<4>() else { break };
            let whole = 4 + i32::from_be_bytes(*prefix) as usize;
            if upstream.assembling.len() < whole {
                break;
            }
            let frame = upstream.assembling.split_to(whole).freeze().slice(4..);
            upstream.taken_bytes += whole as u64;
            let (broker, is_produce) = (upstream.broker, frame.starts_with(&[0, 0]));
            if is_produce {
                upstream.produced.push(frame.clone());
                self.stats.produced_at_brokers += 1;
                if self.trace.is_on {
                    let what = super::check::batches_of(&frame);
                    self.say(|| format!("broker {broker} gets {what} on {conn:?}"));
                }
            }
            self.check_frame(conn, &frame);
            self.cluster.receive(self.clock(), conn, frame);
            self.drain_cluster();
        }
        let Some(upstream) = self.upstreams.get(&conn) else { return };
        // What came whole is read first, if the broker ever reads again.
        if upstream.fin_came && !upstream.is_closed && !has_whole_frame(&upstream.assembling) {
            self.cluster.disconnect(conn);
            self.drain_cluster();
        }
    }

    // From the broker.

    pub fn broker_says(&mut self, output: Output) {
        match output {
            Output::Respond { conn, frame } => {
                let mut bytes = BytesMut::with_capacity(frame.len() + 4);
                bytes.extend_from_slice(&(frame.len() as i32).to_be_bytes());
                bytes.extend_from_slice(&frame);
                for piece in self.dice.pieces(bytes.freeze()) {
                    self.give_proxy(conn, Some(piece), None);
                }
            }
            Output::Close { conn } => {
                let Some(upstream) = self.upstreams.get_mut(&conn) else { return };
                upstream.is_closed = true;
                let broker = upstream.broker;
                let is_silent = self.silent_hosts.contains(&broker);
                let is_reset = is_silent || self.dice.chance(40);
                if let Some(upstream) = self.upstreams.get_mut(&conn) {
                    upstream.is_reset |= is_reset;
                }
                let at = is_silent.then(|| self.now + self.dice.between(USER_TIMEOUT.0, USER_TIMEOUT.1));
                self.give_proxy(conn, None, at);
            }
        }
    }

    fn give_proxy(&mut self, conn: ConnId, piece: Option<Bytes>, at: Option<Time>) {
        let at = at.unwrap_or_else(|| self.soon());
        let Some(upstream) = self.upstreams.get_mut(&conn) else { return };
        upstream.to_proxy_at = upstream.to_proxy_at.max(at);
        let at = upstream.to_proxy_at;
        self.at(at, Event::FromBroker { conn, piece });
    }

    pub fn hear_broker(&mut self, conn: ConnId, piece: Option<Bytes>) {
        let Some(upstream) = self.upstreams.get(&conn) else { return };
        if upstream.is_reset && piece.is_some() {
            return;
        }
        match upstream.owner {
            Owner::Discovery(flight) => self.discovery_hears(flight, conn, piece),
            Owner::Leg(sid, id) => {
                let Some(leg) = self.sessions[sid].leg_mut(id) else { return };
                leg.unread.push_back(piece);
                self.read_leg(sid, id);
                self.rest(sid);
            }
        }
    }

    pub fn read_leg(&mut self, sid: usize, id: LegId) {
        while self.sessions[sid].closing.is_none() && !self.client_is_full(sid) {
            let Some(leg) = self.sessions[sid].leg_mut(id).filter(|leg| !leg.held) else { return };
            match leg.unread.pop_front() {
                None => return,
                Some(Some(bytes)) => {
                    leg.inbound.extend_from_slice(&bytes);
                    self.pump_responses(sid, id);
                }
                Some(None) => {
                    let written_bytes = leg.written_bytes;
                    self.forget_leg(sid, id);
                    self.sessions[sid].losses += 1;
                    self.say(|| format!("s{sid}: {id:?} is closed by its broker, {written_bytes} bytes written"));
                    self.on_leg(sid, id, LegEvent::Closed { written_bytes });
                }
            }
        }
    }

    pub fn pump_responses(&mut self, sid: usize, id: LegId) {
        while self.sessions[sid].closing.is_none() && self.pump_response(sid, id) {}
    }

    fn pump_response(&mut self, sid: usize, id: LegId) -> bool {
        let Some(leg) = self.sessions[sid].leg_mut(id) else { return false };
        match leg.moving {
            Moving::Head => !leg.held && self.pump_response_head(sid, id),
            Moving::Relay { left, to } => {
                let piece = leg.inbound.split_to(left.min(leg.inbound.len())).freeze();
                let left = left - piece.len();
                leg.moving = if left == 0 { Moving::Head } else { Moving::Relay { left, to } };
                if !piece.is_empty() {
                    self.respond(sid, piece);
                }
                if left == 0 {
                    self.core(sid, |core, now, around| core.on_response_end(now, around));
                    self.carry_out(sid);
                }
                left == 0
            }
            Moving::Read { total } => {
                if leg.inbound.len() < total {
                    return false;
                }
                let frame = leg.inbound.split_to(total).freeze();
                leg.moving = Moving::Head;
                self.load_view(sid);
                if self.trace.is_on {
                    let what = u32::from_be_bytes(frame.get(4..8).and_then(|id| id.try_into().ok()).unwrap_or_default());
                    self.say(|| format!("s{sid}: {id:?} has the answer to #{what}, {total} bytes"));
                }
                if let Some(Err(error)) = self.core(sid, |core, now, around| core.on_response_frame(now, id, frame, around)) {
                    self.breaks(|| format!("s{sid}: a broker's response does not parse: {error}"));
                }
                self.carry_out(sid);
                true
            }
            Moving::Discard { .. } | Moving::RelayKeep { .. } => false,
        }
    }

    fn pump_response_head(&mut self, sid: usize, id: LegId) -> bool {
        let max_bytes = self.plan.limits.max_response_bytes;
        let Some(leg) = self.sessions[sid].leg_mut(id) else { return false };
        let head = match wire::parse_response_head(&leg.inbound, max_bytes) {
            Ok(Some(head)) => head,
            Ok(None) => return false,
            Err(error) => {
                self.breaks(|| format!("s{sid}: a broker's response has no head: {error}"));
                return false;
            }
        };
        let whole = head.frame_bytes as usize;
        let Some(verdict) = self.core(sid, |core, _, _| core.on_response_head(id, &head)) else { return false };
        let Some(leg) = self.sessions[sid].leg_mut(id) else { return false };
        match verdict {
            ResponseVerdict::Relay(_) => leg.moving = Moving::Relay { left: whole, to: id },
            ResponseVerdict::Read(_) => leg.moving = Moving::Read { total: whole },
            ResponseVerdict::HoldLeg => leg.held = true,
            ResponseVerdict::Skim(_) => self.breaks(|| format!("s{sid}: a response is to be skimmed, and nothing was fetched")),
            ResponseVerdict::Violation => {}
        }
        self.carry_out(sid);
        !matches!(verdict, ResponseVerdict::HoldLeg | ResponseVerdict::Violation)
    }

    // Leaving.

    /// What is queued still goes out, and then its end.
    pub fn leave_leg(&mut self, sid: usize, id: LegId) {
        let Some(leg) = self.sessions[sid].leg_mut(id) else { return };
        leg.is_left = true;
        if leg.conn.is_none() {
            self.forget_leg(sid, id);
        } else {
            self.start_writing(sid, id);
        }
    }

    /// What is queued does not go out; what is on its way is lost, unless it has come already.
    pub fn drop_leg(&mut self, sid: usize, id: LegId) {
        let Some(leg) = self.sessions[sid].leg_mut(id) else { return };
        let conn = leg.conn;
        self.forget_leg(sid, id);
        self.sessions[sid].losses += u32::from(conn.is_some());
        if let Some(conn) = conn {
            // What has come whole may be read yet; what is still on its way is lost.
            self.at_broker(conn, Input::Gone);
        }
    }

    fn forget_leg(&mut self, sid: usize, id: LegId) {
        let was_open = self.sessions[sid].legs.iter().any(|leg| leg.id == id && leg.conn.is_some());
        self.sessions[sid].failed_opens += u32::from(!was_open);
        self.sessions[sid].legs.retain(|leg| leg.id != id);
    }
}

fn has_whole_frame(bytes: &[u8]) -> bool {
    bytes.first_chunk::<4>().is_some_and(|prefix| bytes.len() >= 4 + i32::from_be_bytes(*prefix) as usize)
}
