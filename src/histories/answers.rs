//! What a client makes of answers, of their absence, and of connections that end.
//!
//! Invariant: an answer is held against the oldest request of its connection, and nothing else. Deliberately absent: sending.

use bytes::Bytes;
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ApiKey, ApiVersionsResponse, MetadataResponse, ProduceResponse};
use kafka_protocol::protocol::Decodable;

use super::client::{Ask, Asked, State};
use super::plan::{Kind, MS, Time};
use super::world::{TOPIC, VIRTUAL_HOST, VIRTUAL_PORT, World};
use crate::sim::{code, frame};

impl World {
    /// Bytes from the proxy, or the end of the connection.
    pub fn at_client(&mut self, sid: usize, piece: Option<Bytes>) {
        let cid = self.sessions[sid].cid;
        if !self.is_left_unread(cid, sid, &piece) {
            self.client_hears(cid, sid, self.now, piece);
        }
    }

    pub fn client_hears(&mut self, cid: usize, sid: usize, came_at: Time, piece: Option<Bytes>) {
        let Some(piece) = piece else {
            self.say(|| format!("client {cid}: s{sid} is closed"));
            self.connection_lost(cid, sid);
            return self.client_acts(cid);
        };
        let Some(conn) = self.clients[cid].conns.get_mut(&sid) else { return };
        if conn.inbound.is_empty() {
            conn.began_at = came_at;
        }
        conn.inbound.extend_from_slice(&piece);
        loop {
            let Some(conn) = self.clients[cid].conns.get_mut(&sid) else { return };
            let Some(prefix) = conn.inbound.first_chunk::<4>() else { break };
            let whole = 4 + i32::from_be_bytes(*prefix) as usize;
            if conn.inbound.len() < whole {
                break;
            }
            let frame = conn.inbound.split_to(whole).freeze().slice(4..);
            let Some(asked) = conn.asked.pop_front() else {
                return self.breaks(|| format!("s{sid}: a response without a request"));
            };
            self.on_answer(cid, sid, asked, &frame);
            if self.broken.is_some() {
                return;
            }
            if let Some(conn) = self.clients[cid].conns.get_mut(&sid) {
                conn.began_at = came_at;
            }
        }
        self.client_acts(cid);
    }

    pub fn decoded<T: Decodable>(&mut self, sid: usize, api: ApiKey, asked: &Asked, frame: &Bytes) -> Option<T> {
        match frame::decode_response::<T>(api, asked.version, frame) {
            Ok((correlation_id, body)) if correlation_id == asked.correlation_id => Some(body),
            Ok((correlation_id, _)) => {
                self.breaks(|| format!("s{sid}: an answer to #{correlation_id} where #{} was next", asked.correlation_id));
                None
            }
            Err(error) => {
                self.breaks(|| format!("s{sid}: the answer to #{} does not parse: {error}", asked.correlation_id));
                None
            }
        }
    }

    fn on_answer(&mut self, cid: usize, sid: usize, asked: Asked, frame: &Bytes) {
        match &asked.what {
            Ask::Produce(sent) => {
                let Some(response) = self.decoded::<ProduceResponse>(sid, ApiKey::Produce, &asked, frame) else { return };
                self.on_produced(cid, sid, &asked, sent, &response);
            }
            Ask::Metadata => {
                let Some(response) = self.decoded::<MetadataResponse>(sid, ApiKey::Metadata, &asked, frame) else { return };
                self.on_metadata(cid, sid, &asked, &response);
            }
            Ask::ApiVersions => {
                self.decoded::<ApiVersionsResponse>(sid, ApiKey::ApiVersions, &asked, frame);
            }
            _ => self.on_transaction_answer(cid, sid, &asked, frame),
        }
    }

    fn on_produced(&mut self, cid: usize, sid: usize, asked: &Asked, sent: &[(usize, usize)], response: &ProduceResponse) {
        let parts: Vec<&PartitionProduceResponse> = response.responses.iter().flat_map(|topic| &topic.partition_responses).collect();
        let expected: Vec<i32> = sent.iter().map(|(lane, _)| self.clients[cid].lanes[*lane].partition).collect();
        let got: Vec<i32> = parts.iter().map(|part| part.index).collect();
        if got != expected {
            return self
                .breaks(|| format!("s{sid}: #{} asked for partitions {expected:?} and the answer has {got:?}", asked.correlation_id));
        }
        for node in &response.node_endpoints {
            if node.host.as_str() != VIRTUAL_HOST || node.port != i32::from(VIRTUAL_PORT) + node.node_id.0 {
                self.breaks(|| format!("s{sid}: a hint with the address {}:{}", node.host.as_str(), node.port));
            }
        }
        for ((lane, batch), part) in sent.iter().zip(parts) {
            let hint = part.current_leader.leader_id.0;
            if hint >= 0 && response.node_endpoints.iter().all(|node| node.node_id.0 != hint) {
                self.breaks(|| format!("s{sid}: a hint to {hint}, and no address of it"));
            }
            self.on_result(cid, sid, (*lane, *batch), part);
        }
    }

    fn on_result(&mut self, cid: usize, sid: usize, (at, number): (usize, usize), part: &PartitionProduceResponse) {
        let (error, offset) = (part.error_code, part.base_offset);
        let client = &mut self.clients[cid];
        let kind = client.plan.kind;
        let lane = &mut client.lanes[at];
        let batch = &mut lane.batches[number];
        if batch.state != State::InFlight(sid) {
            let tag = batch.tag.clone();
            return self.breaks(|| format!("{tag} is answered on s{sid} and was not in flight there"));
        }
        let tag = batch.tag.clone();
        self.trace.say(self.now, || format!("client {cid}: {tag}: error {error}, offset {offset}"));
        if error == code::NONE {
            let lane = &mut self.clients[cid].lanes[at];
            lane.batches[number].state = State::Acked { offset };
            self.stats.acked += 1;
            return;
        }
        if lane.batches[number].was_given_up {
            self.clients[cid].lanes[at].batches[number].state = State::Over;
            return;
        }
        let is_first = lane.batches[..number].iter().all(|batch| matches!(batch.state, State::Acked { .. }));
        let sends = lane.batches[number].sends;
        let is_retriable = match error {
            code::OUT_OF_ORDER_SEQUENCE if kind != Kind::Plain => {
                // Forwarded without being kept, it could not be sent again behind those that were.
                let lane = &self.clients[cid].lanes[at];
                let was_broken = lane.was_broken || lane.is_hasty || self.sessions[sid].budget_refusals > 0;
                if is_first && !was_broken && kind == Kind::Idempotent && !self.is_in_log(at, &tag) && !self.was_passed(cid, at, number) {
                    return self.breaks(|| format!("{tag}: 45, with every earlier batch acknowledged and itself not in the log"));
                }
                !is_first
            }
            2 | 3 | 5 | 6 | 7 | 19 | 20 | 56 | 100 => true,
            _ => false,
        };
        let is_ambiguous = error == code::REQUEST_TIMED_OUT || offset >= 0;
        if !is_ambiguous && is_retriable && sends == 1 && error != code::OUT_OF_ORDER_SEQUENCE && self.is_in_log(at, &tag) {
            return self.breaks(|| format!("{tag}: error {error} says that it was not applied, and it is in the log"));
        }
        if !is_retriable {
            let is_known = kind == Kind::Transactional || error == code::OUT_OF_ORDER_SEQUENCE;
            if !is_known {
                return self.breaks(|| format!("{tag}: error {error}, which nothing in this world would cause"));
            }
            return self.give_up(cid, at);
        }
        let wait = self.dice.between(0, 60 * MS);
        let lane = &mut self.clients[cid].lanes[at];
        lane.fails(number, is_ambiguous);
        lane.not_before = self.now + wait;
        let hint = part.current_leader.leader_id.0;
        if hint >= 0 && self.dice.chance(50) {
            self.clients[cid].lanes[at].leader = Some((hint, part.current_leader.leader_epoch));
            self.told_epoch(cid, at, part.current_leader.leader_epoch);
        } else {
            let wait = self.dice.between(0, 30 * MS);
            self.wants_metadata(cid, wait);
        }
        if kind == Kind::Transactional && self.dice.chance(30) {
            self.must_abort(cid);
        }
    }

    /// The client cannot go on with this lane.
    pub fn give_up(&mut self, cid: usize, at: usize) {
        if self.clients[cid].transacting.is_some() {
            return self.must_abort(cid);
        }
        let lane = &mut self.clients[cid].lanes[at];
        lane.is_dead = true;
        for batch in lane.batches.iter_mut().filter(|batch| !matches!(batch.state, State::Acked { .. })) {
            batch.was_given_up = true;
            if batch.state == State::Queued {
                batch.state = State::Over;
            }
        }
    }

    fn on_metadata(&mut self, cid: usize, sid: usize, asked: &Asked, response: &MetadataResponse) {
        for broker in &response.brokers {
            if broker.host.as_str() != VIRTUAL_HOST || broker.port != i32::from(VIRTUAL_PORT) + broker.node_id.0 {
                self.breaks(|| format!("s{sid}: broker {} is said to be at {}:{}", broker.node_id.0, broker.host.as_str(), broker.port));
            }
        }
        self.clients[cid].is_asking = false;
        // What the client was told by then the proxy knew when it answered.
        let told_by = self.clients[cid].conns.get(&sid).map_or(0, |conn| conn.began_at).saturating_sub(self.plan.latency);
        let is_listed = |node: i32| response.brokers.iter().any(|broker| broker.node_id.0 == node);
        let gone =
            self.clients[cid].told_brokers.iter().find(|(node, since)| **since < told_by && !is_listed(**node)).map(|(node, _)| *node);
        if let Some(gone) = gone {
            self.breaks(|| format!("s{sid}: broker {gone}, which the client was told of, is not listed any more"));
        }
        for broker in &response.brokers {
            let now = self.now;
            self.clients[cid].told_brokers.entry(broker.node_id.0).or_insert(now);
        }
        let mut is_short = true;
        for topic in response.topics.iter().filter(|topic| topic.name.as_ref().is_some_and(|name| name.as_str() == TOPIC)) {
            is_short = topic.error_code != 0 || topic.partitions.is_empty();
            for partition in &topic.partitions {
                let (leader, epoch) = (partition.leader_id.0, partition.leader_epoch);
                if leader >= 0 && !is_listed(leader) {
                    self.breaks(|| format!("s{sid}: {leader} leads t/{} and is not listed", partition.partition_index));
                }
                let guess = self.dice.below(self.plan.brokers as usize) as i32;
                let guesses = self.dice.chance(self.clients[cid].plan.guesses_percent) && self.now < self.plan.heals_at;
                let Some(lane) = self.clients[cid].lanes.iter_mut().find(|lane| lane.partition == partition.partition_index) else {
                    continue;
                };
                is_short |= leader < 0;
                let is_older = asked.version >= 7 && lane.leader.is_some_and(|(_, known)| epoch < known);
                let was_told = lane.told_epoch.filter(|(known, since)| asked.version >= 7 && epoch < *known && *since < told_by);
                if leader >= 0 && !is_older {
                    lane.leader = Some((if guesses { guess } else { leader }, if asked.version >= 7 { epoch } else { -1 }));
                }
                if let Some((known, _)) = was_told {
                    self.breaks(|| format!("s{sid}: t/{} at epoch {epoch}, after {known}", partition.partition_index));
                }
                if asked.version >= 7 {
                    self.told_epoch(cid, partition.partition_index as usize, epoch);
                }
            }
        }
        if is_short {
            let wait = self.dice.between(5 * MS, 100 * MS);
            self.wants_metadata(cid, wait);
        } else if self.dice.chance(20) {
            let wait = self.dice.between(MS, 300 * MS);
            self.wants_metadata(cid, wait);
        }
    }

    fn told_epoch(&mut self, cid: usize, at: usize, epoch: i32) {
        let now = self.now;
        let Some(lane) = self.clients[cid].lanes.get_mut(at) else { return };
        if lane.told_epoch.is_none_or(|(known, _)| known < epoch) {
            lane.told_epoch = Some((epoch, now));
        }
    }

    /// A connection has ended, whoever ended it: what was in flight on it may or may not have been applied.
    pub fn connection_lost(&mut self, cid: usize, sid: usize) {
        let Some(conn) = self.clients[cid].conns.remove(&sid) else { return };
        for asked in conn.asked {
            match asked.what {
                Ask::Produce(sent) => {
                    for (lane, batch) in sent.into_iter().rev() {
                        let wait = self.dice.between(0, 60 * MS);
                        let lane = &mut self.clients[cid].lanes[lane];
                        if lane.batches[batch].was_given_up {
                            lane.batches[batch].state = State::Over;
                            continue;
                        }
                        lane.fails(batch, true);
                        lane.not_before = self.now + wait;
                    }
                    self.wants_metadata(cid, 0);
                }
                Ask::Metadata => {
                    self.clients[cid].is_asking = false;
                    self.wants_metadata(cid, 10 * MS);
                }
                Ask::ApiVersions => {}
                _ => self.transaction_answer_lost(cid),
            }
        }
    }

    /// The time that a client waits for one answer is over.
    pub fn client_patience(&mut self, sid: usize, correlation_id: i32) {
        let cid = self.sessions[sid].cid;
        let Some(conn) = self.clients[cid].conns.get(&sid) else { return };
        let Some(at) = conn.asked.iter().position(|asked| asked.correlation_id == correlation_id) else { return };
        let is_produce = |asked: &Asked| matches!(asked.what, Ask::Produce(_));
        // Behind an answer that only one broker can give, no deadline can be kept.
        let all_produce = conn.asked.iter().take(at + 1).all(is_produce);
        let session = &self.sessions[sid];
        let asked_at = self.now.saturating_sub(self.clients[cid].plan.timeout_ms as Time * MS);
        let is_limited = session.budget_refusals > 0 || session.was_limited || conn.has_dozed_since(asked_at);
        if all_produce && !is_limited {
            return self.breaks(|| format!("s{sid}: #{correlation_id} has no answer when its client's patience ends"));
        }
        self.client_hangs_up(sid);
        self.client_acts(cid);
    }
}
