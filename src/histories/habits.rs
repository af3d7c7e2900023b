//! Habits of clients that brokers know from direct connections, too: not to read for a while, and to go on over a new connection while an
//! old one still has something unanswered.
//!
//! Invariant: a lane goes over a second connection only while the first one's session has all of it in line and something is on the move;
//! else the client would be hasty, and no proxy could mend that. Deliberately absent: what is sent (`client`), what answers mean (`answers`).

use bytes::Bytes;

use super::client::{Ask, Conn};
use super::plan::{MS, S, Time};
use super::world::{Event, World};
use crate::cluster::NodeId;
use crate::session::{LegId, Port, RequestVerdict};

/// Bytes that the proxy can give to a client which does not read, before its legs are not read either.
const WINDOW_BYTES: usize = 300;

/// Bytes that have come and are not read yet.
#[derive(Default)]
pub struct Unread {
    /// Until when it does not read.
    pub until: Option<Time>,
    pieces: Vec<(Time, Option<Bytes>)>,
}

impl Conn {
    pub fn unread_bytes(&self) -> usize {
        self.unread.pieces.iter().filter_map(|(_, piece)| piece.as_ref().map(Bytes::len)).sum()
    }

    /// It did not read at some time since then.
    pub fn has_dozed_since(&self, since: Time) -> bool {
        self.unread.until.is_some_and(|until| until + 100 * MS > since)
    }

    pub fn has_produce(&self) -> bool {
        self.asked.iter().any(|asked| matches!(asked.what, Ask::Produce(_)))
    }
}

impl World {
    // Not reading.

    /// Now and then one of its connections is not read.
    pub fn may_doze(&mut self, cid: usize) {
        if !self.clients[cid].plan.dozes || self.now >= self.plan.heals_at || !self.dice.chance(5) {
            return;
        }
        let now = self.now;
        let awake: Vec<usize> = self.clients[cid]
            .conns
            .iter()
            .filter(|(_, conn)| conn.unread.until.is_none_or(|until| until < now))
            .map(|(sid, _)| *sid)
            .collect();
        let longest = self.dice.pick(&[20 * MS, 200 * MS, 2 * S]).unwrap_or(MS);
        let Some(sid) = self.dice.pick(&awake) else { return };
        let until = now + self.dice.between(MS, longest);
        self.stats.dozes += 1;
        self.say(|| format!("client {cid}: does not read s{sid} for {} ms", (until - now) / MS));
        if let Some(conn) = self.clients[cid].conns.get_mut(&sid) {
            conn.unread.until = Some(until);
        }
        self.at(until, Event::Do(Box::new(move |world| world.client_reads_on(sid))));
    }

    /// True: the piece waits until the client reads again.
    pub fn is_left_unread(&mut self, cid: usize, sid: usize, piece: &Option<Bytes>) -> bool {
        let now = self.now;
        let Some(conn) = self.clients[cid].conns.get_mut(&sid) else { return false };
        let waits = conn.unread.until.is_some_and(|until| now < until);
        if waits {
            conn.unread.pieces.push((now, piece.clone()));
        }
        waits
    }

    fn client_reads_on(&mut self, sid: usize) {
        let cid = self.sessions[sid].cid;
        let Some(conn) = self.clients[cid].conns.get_mut(&sid) else { return };
        for (came_at, piece) in std::mem::take(&mut conn.unread.pieces) {
            self.client_hears(cid, sid, came_at, piece);
        }
        self.read_legs(sid);
    }

    /// Its client has room for more, or is gone.
    pub fn read_legs(&mut self, sid: usize) {
        let legs: Vec<LegId> = self.sessions[sid].legs.iter().filter(|leg| !leg.is_left).map(|leg| leg.id).collect();
        for leg in legs {
            self.read_leg(sid, leg);
        }
        self.rest(sid);
    }

    /// What the driver has for its client is more than it may queue.
    pub fn client_is_full(&self, sid: usize) -> bool {
        self.clients[self.sessions[sid].cid].conns.get(&sid).is_some_and(|conn| conn.unread_bytes() >= WINDOW_BYTES)
    }

    // A second connection.

    /// The connection to this broker is replaced; what is unanswered on it is still waited for.
    pub fn may_replace(&mut self, cid: usize, node: i32) {
        if !self.clients[cid].plan.replaces {
            return;
        }
        let port = Port::Node(NodeId(node));
        let found = self.clients[cid].conns.iter().find(|(_, conn)| conn.port == port && !conn.is_old && conn.has_produce());
        let Some(sid) = found.map(|(sid, _)| *sid).filter(|sid| self.is_in_line(cid, *sid)) else { return };
        if self.dice.chance(30) {
            self.say(|| format!("client {cid}: goes on beside s{sid}, over a new connection"));
            if let Some(conn) = self.clients[cid].conns.get_mut(&sid) {
                conn.is_old = true;
            }
        }
    }

    /// Whether a lane of which something is unanswered there may go on elsewhere.
    pub fn is_in_line(&self, cid: usize, sid: usize) -> bool {
        let session = &self.sessions[sid];
        let is_taken = self.clients[cid].conns.get(&sid).is_some_and(|conn| conn.to_proxy_at <= self.now);
        self.clients[cid].plan.replaces
            && is_taken
            && session.has_taken_all()
            && session.budget_refusals == 0
            && session.core.as_ref().is_some_and(crate::session::Core::is_detouring)
            && self.gate.is_moving()
    }

    /// Old connections on which nothing is unanswered are closed.
    pub fn close_old(&mut self, cid: usize) {
        let is_over = |conn: &Conn| conn.is_old && conn.asked.is_empty();
        let over: Vec<usize> = self.clients[cid].conns.iter().filter(|(_, conn)| is_over(conn)).map(|(sid, _)| *sid).collect();
        over.into_iter().for_each(|sid| self.client_leaves(sid));
    }

    /// By the time that a request came nothing may be on the move any more: it goes the fast way, past what is unanswered elsewhere.
    pub fn note_haste(&mut self, sid: usize, correlation_id: i32, verdict: &RequestVerdict) {
        let cid = self.sessions[sid].cid;
        if !self.clients[cid].plan.replaces {
            return;
        }
        let is_looked_into = *verdict == RequestVerdict::Read;
        let client = &mut self.clients[cid];
        let Some(asked) = client.conns.get(&sid).and_then(|conn| conn.asked.iter().find(|asked| asked.correlation_id == correlation_id))
        else {
            return;
        };
        let Ask::Produce(sent) = &asked.what else { return };
        for (lane, number) in sent {
            if let Some(lane) = client.lanes.get_mut(*lane) {
                let is_beside = lane.is_elsewhere(sid, *number);
                self.stats.beside += u64::from(is_beside);
                lane.is_hasty |= is_beside && !is_looked_into;
            }
        }
    }
}
