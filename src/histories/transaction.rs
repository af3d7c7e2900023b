//! A transactional client: coordinator, producer id, partitions, batches, end; aborts in haste now and then, with batches in flight.
//!
//! After an abort it takes a new epoch, as clients do whose sequences are in doubt. Invariant: one request to the coordinator at a time.
//! Deliberately absent: consumers' offsets in transactions.

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ApiKey, EndTxnRequest, EndTxnResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse, ProducerId, TransactionalId,
};

use super::client::{Ask, Asked, State};
use super::plan::{MS, Time};
use super::world::{Event, TOPIC, VIRTUAL_PORT, World};
use crate::cluster::NodeId;
use crate::session::Port;
use crate::sim::api::{text, topic_name};

const ROUNDS: u32 = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Init,
    Add,
    Produce,
    End {
        commit: bool,
    },
    Done,
}

#[derive(Debug, Default)]
pub struct Transacting {
    phase: Phase,
    coordinator: Option<i32>,
    is_asking: bool,
    not_before: Time,
    must_abort: bool,
    /// Counts up with each transaction.
    pub number: u32,
    pub committed: Vec<u32>,
    /// Ends that reached their broker: no batch of theirs may be sent again after that.
    pub ended: Vec<u32>,
    /// Ends that passed while nothing was on the move: what moved later was not held back.
    pub unguarded: Vec<u32>,
}

impl Transacting {
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }
}

pub fn id_of(cid: usize) -> TransactionalId {
    TransactionalId(text(&format!("tx{cid}")))
}

impl World {
    pub fn transact(&mut self, cid: usize) {
        let now = self.now;
        let Some(transacting) = &mut self.clients[cid].transacting else { return };
        if transacting.is_asking || transacting.phase == Phase::Done {
            return;
        }
        if transacting.not_before > now {
            let at = transacting.not_before;
            return self.at(at, Event::Client { cid });
        }
        let phase = transacting.phase;
        if phase == Phase::Produce {
            return self.produce_or_end(cid);
        }
        let Some(coordinator) = transacting.coordinator else {
            transacting.is_asking = true;
            let request = FindCoordinatorRequest::default().with_key(text(&format!("tx{cid}"))).with_key_type(1);
            let sid = self.any_connection(cid);
            return self.ask(cid, sid, ApiKey::FindCoordinator, 3, &request, Ask::FindCoordinator);
        };
        transacting.is_asking = true;
        let number = transacting.number;
        let sid = self.connection(cid, Port::Node(NodeId(coordinator)));
        let (id, epoch) = self.clients[cid].producer;
        match phase {
            Phase::Init => {
                let request = InitProducerIdRequest::default()
                    .with_transactional_id(Some(id_of(cid)))
                    .with_transaction_timeout_ms(600_000)
                    .with_producer_id(ProducerId(id))
                    .with_producer_epoch(epoch);
                self.ask(cid, sid, ApiKey::InitProducerId, 4, &request, Ask::InitProducerId);
            }
            Phase::Add => {
                let partitions = self.clients[cid].lanes.iter().map(|lane| lane.partition).collect();
                let topic = AddPartitionsToTxnTopic::default().with_name(topic_name(TOPIC)).with_partitions(partitions);
                let request = AddPartitionsToTxnRequest::default()
                    .with_v3_and_below_transactional_id(id_of(cid))
                    .with_v3_and_below_producer_id(ProducerId(id))
                    .with_v3_and_below_producer_epoch(epoch)
                    .with_v3_and_below_topics(vec![topic]);
                self.ask(cid, sid, ApiKey::AddPartitionsToTxn, 3, &request, Ask::AddPartitions);
            }
            Phase::End { commit } => {
                let request = EndTxnRequest::default()
                    .with_transactional_id(id_of(cid))
                    .with_producer_id(ProducerId(id))
                    .with_producer_epoch(epoch)
                    .with_committed(commit);
                self.say(|| format!("client {cid}: ends transaction {number}"));
                self.ask(cid, sid, ApiKey::EndTxn, 3, &request, Ask::EndTxn);
            }
            Phase::Produce | Phase::Done => {}
        }
    }

    fn produce_or_end(&mut self, cid: usize) {
        let open = |state: State| matches!(state, State::Queued | State::InFlight(_));
        let is_open = self.clients[cid].lanes.iter().any(|lane| lane.batches.iter().any(|batch| open(batch.state)));
        // Most often where it matters: while something is on the move.
        let hastens = self.dice.chance(if self.gate.is_moving() { 30 } else { 3 });
        let Some(transacting) = &mut self.clients[cid].transacting else { return };
        transacting.must_abort |= is_open && hastens;
        let aborts = transacting.must_abort;
        if is_open && !aborts {
            return;
        }
        // An abort does not wait for what is in flight; by a new epoch as often as by an end.
        let bumps = aborts && self.dice.chance(40);
        let commits = !aborts && self.dice.chance(80);
        for lane in &mut self.clients[cid].lanes {
            for batch in lane.batches.iter_mut().filter(|batch| open(batch.state)) {
                batch.was_given_up = true;
                if batch.state == State::Queued {
                    batch.state = State::Over;
                }
            }
        }
        if let Some(transacting) = &mut self.clients[cid].transacting {
            transacting.phase = if bumps { Phase::Init } else { Phase::End { commit: commits } };
        }
        self.transact(cid);
    }

    pub fn must_abort(&mut self, cid: usize) {
        if let Some(transacting) = &mut self.clients[cid].transacting {
            transacting.must_abort |= transacting.phase == Phase::Produce;
        }
    }

    pub fn on_transaction_answer(&mut self, cid: usize, sid: usize, asked: &Asked, frame: &Bytes) {
        if let Some(transacting) = &mut self.clients[cid].transacting {
            transacting.is_asking = false;
        }
        match asked.what {
            Ask::FindCoordinator => {
                let Some(response) = self.decoded::<FindCoordinatorResponse>(sid, ApiKey::FindCoordinator, asked, frame) else { return };
                let (node, port) = (response.node_id.0, response.port);
                if node >= 0 && port != i32::from(VIRTUAL_PORT) + node {
                    self.breaks(|| format!("s{sid}: the coordinator {node} is said to be at port {port}"));
                }
                match (&mut self.clients[cid].transacting, response.error_code) {
                    (Some(transacting), 0) => transacting.coordinator = Some(node),
                    _ => self.coordinator_lost(cid),
                }
            }
            Ask::InitProducerId => {
                let Some(response) = self.decoded::<InitProducerIdResponse>(sid, ApiKey::InitProducerId, asked, frame) else { return };
                if response.error_code != 0 {
                    return self.on_coordinator_error(cid, response.error_code);
                }
                self.clients[cid].producer = (response.producer_id.0, response.producer_epoch);
                self.clients[cid].lanes.iter_mut().for_each(|lane| lane.next_sequence = 0);
                self.next_transaction(cid);
            }
            Ask::AddPartitions => {
                let Some(response) = self.decoded::<AddPartitionsToTxnResponse>(sid, ApiKey::AddPartitionsToTxn, asked, frame) else {
                    return;
                };
                let results = response.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
                let error = results.map(|result| result.partition_error_code).find(|error| *error != 0);
                if let Some(error) = error {
                    return self.on_coordinator_error(cid, error);
                }
                let Some(transacting) = &mut self.clients[cid].transacting else { return };
                transacting.phase = Phase::Produce;
                let number = transacting.number;
                for at in 0..self.clients[cid].lanes.len() {
                    for _ in 0..self.dice.below(4) {
                        self.make_batch(cid, at, number);
                    }
                }
            }
            Ask::EndTxn => {
                let Some(response) = self.decoded::<EndTxnResponse>(sid, ApiKey::EndTxn, asked, frame) else { return };
                if response.error_code != 0 {
                    return self.on_coordinator_error(cid, response.error_code);
                }
                let Some(transacting) = &mut self.clients[cid].transacting else { return };
                let aborted = transacting.must_abort;
                if transacting.phase == (Phase::End { commit: true }) {
                    transacting.committed.push(transacting.number);
                }
                if aborted {
                    transacting.phase = Phase::Init;
                } else {
                    self.next_transaction(cid);
                }
            }
            _ => {}
        }
    }

    fn next_transaction(&mut self, cid: usize) {
        let Some(transacting) = &mut self.clients[cid].transacting else { return };
        transacting.must_abort = false;
        transacting.number += 1;
        transacting.phase = if transacting.number > ROUNDS { Phase::Done } else { Phase::Add };
        for lane in &mut self.clients[cid].lanes {
            lane.to_make = 0;
        }
    }

    fn on_coordinator_error(&mut self, cid: usize, error: i16) {
        match error {
            14..=16 | 51 => self.coordinator_lost(cid),
            // An end whose answer was lost: done, or no longer ours to do. A new epoch makes sure.
            _ => {
                if let Some(transacting) = &mut self.clients[cid].transacting {
                    transacting.phase = if transacting.number > 2 * ROUNDS { Phase::Done } else { Phase::Init };
                    transacting.number += 1;
                    if error == 90 || error == 47 || error == 49 {
                        // An earlier request for a new epoch was carried out, and its answer lost: this producer is no longer it.
                        self.clients[cid].producer = (-1, -1);
                    }
                }
            }
        }
    }

    pub fn transaction_answer_lost(&mut self, cid: usize) {
        if let Some(transacting) = &mut self.clients[cid].transacting {
            transacting.is_asking = false;
            transacting.must_abort |= transacting.phase == Phase::Produce;
        }
        self.coordinator_lost(cid);
    }

    pub fn end_is_unguarded(&mut self, sid: usize) {
        let cid = self.sessions[sid].cid;
        if let Some(transacting) = &mut self.clients[cid].transacting {
            transacting.unguarded.push(transacting.number);
        }
    }

    fn coordinator_lost(&mut self, cid: usize) {
        let wait = self.dice.between(5 * MS, 80 * MS);
        let now = self.now;
        if let Some(transacting) = &mut self.clients[cid].transacting {
            transacting.coordinator = None;
            transacting.not_before = now + wait;
        }
    }
}
