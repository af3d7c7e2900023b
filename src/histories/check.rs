//! What must hold: while it happens, and when it is over.
//!
//! Invariant: nothing here looks at what the core believes; only at what clients and brokers saw, and at the gate's counts.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, EndTxnRequest, ProduceRequest};

use super::client::{Batch, State};
use super::plan::Kind;
use super::world::{TOPIC, World};
use crate::cluster::View;
use crate::session::CloseReason;
use crate::sim::cluster::ConnId;
use crate::sim::{batch, frame};

/// Where a batch lies: its first offsets, in order.
type Places = BTreeMap<String, Vec<i64>>;

impl World {
    /// A session has no reason of its own to end, but for these.
    pub fn check_close(&mut self, sid: usize, reason: CloseReason) {
        let session = &self.sessions[sid];
        let client = &self.clients[session.cid];
        let asked = client.conns.get(&sid).map(|conn| &conn.asked);
        // Requests that only their own broker can answer, or that are not kept.
        let has_unkept = client.plan.kind == Kind::Transactional || session.budget_refusals > 0 || client.plan.acks == 0;
        let is_fair = match reason {
            CloseReason::ClientClosed | CloseReason::ClientGone | CloseReason::HalfCloseTimeout => true,
            CloseReason::UpstreamClosed | CloseReason::UpstreamConnectFailed => {
                session.had_nobody || has_unkept || session.losses + session.failed_opens > 2
            }
            CloseReason::Undeliverable => client.plan.acks == 0,
            CloseReason::AmbiguousProduce => self.plan.detours.ambiguous == crate::session::Ambiguous::Fail,
            _ => false,
        };
        let waiting = asked.map_or(0, |asked| asked.len());
        if !is_fair && asked.is_some() {
            self.breaks(|| format!("s{sid} is closed for {reason:?}, with {waiting} requests open"));
        }
    }

    /// A frame that a broker gets.
    pub fn check_frame(&mut self, conn: ConnId, frame: &Bytes) {
        let bound = self.plan.gate_bytes + self.sessions.len() * 4096;
        if self.gate.kept_bytes() > bound {
            let kept = self.gate.kept_bytes();
            self.breaks(|| format!("{kept} bytes are kept, over the bound of {bound}"));
        }
        if !self.clients.iter().any(|client| client.transacting.is_some()) {
            return;
        }
        match frame.first_chunk::<2>().map(|key| i16::from_be_bytes(*key)) {
            Some(26) => {
                let Ok((_, request)) = frame::decode_request::<EndTxnRequest>(frame) else { return };
                let cid = request.transactional_id.as_str().trim_start_matches("tx").parse::<usize>().unwrap_or_default();
                if let Some(transacting) = self.clients.get_mut(cid).and_then(|client| client.transacting.as_mut()) {
                    transacting.ended.push(transacting.number);
                }
            }
            // What a broker reads when it thaws was written long before.
            Some(0) if !self.is_thawing => {
                let tags = tags_of(frame);
                for tag in tags {
                    self.check_ended(conn, &tag);
                }
            }
            _ => {}
        }
    }

    /// A batch of a transaction that has ended must not be sent again.
    fn check_ended(&mut self, conn: ConnId, tag: &str) {
        let Some((client, batch)) = self.find(tag) else { return };
        let Some(transacting) = &client.transacting else { return };
        let number = batch.transaction;
        if !transacting.ended.contains(&number) || transacting.unguarded.contains(&number) {
            return;
        }
        // Its first copy may have been on its way: that is the client's own haste.
        let seen_before = self
            .upstreams
            .iter()
            .any(|(other, upstream)| *other != conn && upstream.produced.iter().any(|frame| tags_of(frame).iter().any(|seen| seen == tag)));
        if seen_before {
            self.breaks(|| format!("{tag} is sent again behind the end of its transaction {number}"));
        }
    }

    fn find(&self, tag: &str) -> Option<(&super::client::Client, &Batch)> {
        let mut parts = tag.trim_start_matches('c').split('/');
        let cid: usize = parts.next()?.parse().ok()?;
        let partition: i32 = parts.next()?.parse().ok()?;
        let number: usize = parts.next()?.parse().ok()?;
        let client = self.clients.get(cid)?;
        let lane = client.lanes.iter().find(|lane| lane.partition == partition)?;
        Some((client, lane.batches.get(number)?))
    }

    pub fn is_in_log(&self, partition: usize, tag: &str) -> bool {
        self.places(partition as i32).contains_key(tag)
    }

    fn places(&self, partition: i32) -> Places {
        let mut places = Places::new();
        for record in self.cluster.records(TOPIC, partition).iter().filter(|record| !record.is_control) {
            if let Some((tag, 0)) = tag_of(record.value.as_ref()) {
                places.entry(tag).or_default().push(record.offset);
            }
        }
        places
    }

    pub fn check_the_end(&mut self) {
        if self.gate.tickets() != 0 || self.gate.kept_bytes() != 0 || self.gate.is_moving() {
            let (tickets, bytes, moving) = (self.gate.tickets(), self.gate.kept_bytes(), self.gate.is_moving());
            self.breaks(|| format!("the gate is not drained: {tickets} tickets, {bytes} bytes kept, moving: {moving}"));
        }
        if let Some(sid) = self.sessions.iter().position(|session| !session.is_over()) {
            self.breaks(|| format!("s{sid} does not end after its client has left"));
        }
        if let Some(strange) = self.cluster.unexpected().first().cloned() {
            self.breaks(|| format!("a broker finds strange: {strange}"));
        }
        for partition in 0..self.plan.partitions {
            let places = self.places(partition);
            for cid in 0..self.clients.len() {
                self.check_lane(cid, partition as usize, &places);
            }
        }
        for cid in 0..self.clients.len() {
            self.check_copies(cid);
        }
        self.check_cost();
    }

    fn check_lane(&mut self, cid: usize, at: usize, places: &Places) {
        let client = &self.clients[cid];
        if self.has_truncated && client.plan.acks == 1 {
            // Lost with its leader, and acknowledged by it alone.
            return;
        }
        let lane = &client.lanes[at];
        let none = Vec::new();
        let mut last: Option<(usize, i64)> = None;
        let mut wrong = None;
        for (number, batch) in lane.batches.iter().enumerate() {
            let copies = places.get(&batch.tag).unwrap_or(&none);
            let tag = &batch.tag;
            match batch.state {
                State::Acked { .. } if copies.is_empty() => wrong = Some(format!("{tag} was acknowledged and is lost")),
                State::Acked { offset } if !copies.contains(&offset) && offset >= 0 => {
                    wrong = Some(format!("{tag} was acknowledged at offset {offset} and lies at {copies:?}"));
                }
                _ if client.plan.kind != Kind::Plain && copies.len() > 1 => wrong = Some(format!("{tag} lies at {copies:?}: twice")),
                _ if client.plan.acks == 0 && copies.len() > 1 => {
                    wrong = Some(format!("{tag}, sent with acks=0, lies at {copies:?}: twice"))
                }
                _ => {}
            }
            let Some(first) = copies.first().copied() else { continue };
            if let Some((before, later)) = last.filter(|(_, later)| *later > first) {
                let is_fair = match client.plan.kind {
                    // Without state a broker takes any first sequence; aborted and dead lanes have gaps that nobody looks at.
                    Kind::Idempotent | Kind::Transactional => lane.is_hasty,
                    Kind::Plain => client.plan.acks == 0 || self.is_brokers_doing(cid, at, before, number),
                };
                if !is_fair {
                    let before = &lane.batches[before].tag;
                    wrong = Some(format!("{tag} first appears at {first}, {before} (sent earlier) at {later}"));
                }
            }
            if last.is_none_or(|(_, known)| first > known) {
                last = Some((number, first));
            }
        }
        if let Some(wrong) = wrong {
            self.breaks(|| wrong);
        }
    }

    /// Whether the order of two plain batches, the earlier of which lies behind the later, is what a direct connection would have given:
    /// the earlier failed at the client, or the broker itself refused it and took the later one on the very same connection (at home, or
    /// on one that had taken a batch before).
    fn is_brokers_doing(&self, cid: usize, at: usize, earlier: usize, later: usize) -> bool {
        let lane = &self.clients[cid].lanes[at];
        let (earlier, later) = (&lane.batches[earlier], &lane.batches[later]);
        earlier.failures > 0 || later.failures > 0 || self.followed_on_a_connection(&earlier.tag, &later.tag)
    }

    /// A broker took a later batch of the lane, and on that very connection it had refused this one.
    pub fn was_passed(&self, cid: usize, at: usize, number: usize) -> bool {
        let batches = &self.clients[cid].lanes[at].batches;
        batches
            .iter()
            .skip(number + 1)
            .any(|later| self.is_in_log(at, &later.tag) && self.followed_on_a_connection(&batches[number].tag, &later.tag))
    }

    fn followed_on_a_connection(&self, earlier: &str, later: &str) -> bool {
        self.upstreams.values().any(|upstream| {
            let tags: Vec<String> = upstream.produced.iter().flat_map(tags_of).collect();
            let place = |tag: &str| tags.iter().position(|seen| seen == tag);
            let Some((first, _)) = place(earlier).zip(place(later)).filter(|(first, second)| first < second) else { return false };
            // Elsewhere than at home, nothing follows before the leader has taken one of the lane's batches.
            let lane = &earlier[..=earlier.rfind('/').unwrap_or_default()];
            upstream.is_home || tags.iter().take(first).any(|before| before.starts_with(lane))
        })
    }

    /// Plain batches lie there more than once only where somebody knowingly sent again what may have been applied.
    fn check_copies(&mut self, cid: usize) {
        let client = &self.clients[cid];
        if client.plan.kind != Kind::Plain {
            return;
        }
        let knowingly: u32 = client.sids.iter().map(|sid| self.sessions[*sid].resends_of_plain).sum();
        let (mut extra, mut tags) = (0, Vec::new());
        for lane in &client.lanes {
            let places = self.places(lane.partition);
            for batch in &lane.batches {
                let copies = places.get(&batch.tag).map_or(0, Vec::len) as u32;
                let too_many = copies.saturating_sub(1 + batch.ambiguous);
                extra += too_many;
                if too_many > 0 {
                    tags.push(batch.tag.clone());
                }
            }
        }
        if extra > knowingly {
            self.breaks(|| {
                format!(
                    "client {cid}: {extra} copies too many ({}), and only {knowingly} resends of what may have been applied",
                    tags.join(" ")
                )
            });
        }
    }

    /// No storm: what brokers got is within bounds of what clients asked.
    fn check_cost(&mut self) {
        let asked = self.stats.requests;
        let seconds = self.plan.heals_at / super::plan::S + 1;
        let bound = asked * (super::ATTEMPTS_PER_REQUEST + super::ATTEMPTS_PER_SECOND * seconds);
        let got = self.stats.produced_at_brokers;
        if got > bound {
            self.breaks(|| format!("brokers got {got} produce requests for {asked} of the clients, over the bound of {bound}"));
        }
    }
}

fn tag_of(value: Option<&Bytes>) -> Option<(String, u32)> {
    let text = std::str::from_utf8(value?).ok()?;
    let mut parts = text.split(';');
    Some((parts.next()?.to_owned(), parts.next()?.parse().ok()?))
}

fn tags_of(produce: &Bytes) -> Vec<String> {
    let Ok((_, request)) = frame::decode_request::<ProduceRequest>(produce) else { return Vec::new() };
    let parts = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let records = parts.filter_map(|part| batch::records_of(part.records.as_ref()?).into_iter().next());
    records.filter_map(|record| Some(tag_of(record.value.as_ref())?.0)).collect()
}

/// For the trace.
pub fn batches_of(produce: &Bytes) -> String {
    let head = frame::head(produce).map(|head| head.correlation_id).unwrap_or_default();
    let _ = ApiKey::Produce;
    format!("#{head} {}", tags_of(produce).join(" "))
}

pub fn leaders_of(view: &View) -> String {
    let brokers: Vec<String> = view.brokers.values().map(|broker| format!("{}:{}", broker.id, broker.endpoint.port)).collect();
    let leader = |partition| {
        let leader = view.leader(crate::cluster::TopicRef::Name(TOPIC), partition)?;
        Some(format!("{partition}@{}e{}{}", leader.node, leader.epoch, if leader.leaderless_since.is_some() { "?" } else { "" }))
    };
    let leaders: Vec<String> = (0..8).filter_map(leader).collect();
    format!("{} | {}", brokers.join(" "), leaders.join(" "))
}
