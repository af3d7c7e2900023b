//! Opening kept produce requests: from here on their batches are in line at the gate.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Core, Reading, Surroundings};
use crate::cluster::{NodeId, TopicId, TopicRef};
use crate::session::gate::{Gate, Key, TopicKey, Whose};
use crate::session::produce::{Kept, Opened, Part, PartState, patience};
use crate::session::request::{Body, Request};
use crate::session::{LegId, SlotId};
use crate::wire::node::TopicRef as WireTopic;
use crate::wire::produce_request::ProduceRequest;
use crate::wire::{ApiKey, BatchHead, Head};

impl Core {
    pub(super) fn request_at(&self, number: u64) -> Option<usize> {
        match self.requests.front() {
            Some(first) if first.number == number => Some(0),
            _ => self.requests.binary_search_by_key(&number, |request| request.number).ok(),
        }
    }

    pub(super) fn request(&self, number: u64) -> Option<&Request> {
        self.requests.get(self.request_at(number)?)
    }

    pub(super) fn request_mut(&mut self, number: u64) -> Option<&mut Request> {
        let at = self.request_at(number)?;
        self.requests.get_mut(at)
    }

    /// The requests whose bodies are such, by arrival: working on one may change the list.
    pub(super) fn numbers_of(&self, is_such: impl Fn(&Body) -> bool) -> Vec<u64> {
        self.requests.iter().filter(|request| is_such(&request.body)).map(|request| request.number).collect()
    }

    pub(super) fn has_opened(&self) -> bool {
        self.slow_due.is_some() && self.requests.iter().any(|request| matches!(request.body, Body::Opened(_) | Body::Lent))
    }

    /// Takes an opened request out, to work on it beside the rest of the state.
    pub(super) fn lend(&mut self, number: u64) -> Option<Box<Opened>> {
        let request = self.request_mut(number)?;
        if !matches!(request.body, Body::Opened(_)) {
            return None;
        }
        match std::mem::replace(&mut request.body, Body::Lent) {
            Body::Opened(opened) => Some(opened),
            _ => None,
        }
    }

    pub(super) fn put_back(&mut self, number: u64, opened: Box<Opened>) {
        match self.request_mut(number) {
            Some(request) => request.body = Body::Opened(opened),
            // The session was closed meanwhile, and everything forgotten that was there to be forgotten.
            None => self.settle_all(number, &opened),
        }
    }

    fn settle_all(&mut self, number: u64, opened: &Opened) {
        #[cfg(test)]
        if crate::session::mutation::is_on(crate::session::mutation::Mutation::KeepTickets) {
            return;
        }
        let mut wake = Vec::new();
        for part in opened.parts.iter().filter(|part| !part.is_done()) {
            wake.extend(self.gate.settle(&part.key, number));
        }
        self.wake(wake);
    }

    /// Every kept produce request that is whole gets opened: from its first detour on, a session knows what its requests hold.
    pub(super) fn open_all(&mut self, around: &Surroundings<'_>) {
        #[cfg(test)]
        if crate::session::mutation::is_on(crate::session::mutation::Mutation::LeaveFastOnesOut) {
            return;
        }
        if self.logged_in {
            return;
        }
        let produce = |body: &Body| matches!(body, Body::Whole { head, frame: Some(_), .. } if head.api == ApiKey::PRODUCE);
        for number in self.numbers_of(produce) {
            let sent = self.home.outstanding.iter().find(|on_leg| on_leg.number == number).map(|on_leg| (self.home.id, on_leg.end));
            self.open_request(number, sent, around);
        }
    }

    /// `sent`: the leg where it is already, and where on it its last byte lies. False: it does not parse, and stays as it came.
    pub(super) fn open_request(&mut self, number: u64, sent: Option<(LegId, u64)>, around: &Surroundings<'_>) -> bool {
        let member = self.member;
        let configured = self.detours.patience;
        let software = self.software.as_ref().map_or("", |software| &software.name).to_owned();
        let node = sent.and_then(|(leg, _)| self.leg(leg)).and_then(|leg| leg.node());
        let place = sent.and_then(|(leg, _)| self.leg(leg)).map(|leg| leg.place);
        let gate = self.gate.clone();
        let Some(request) = self.request_mut(number) else { return false };
        let Body::Whole { head, frame, .. } = &mut request.body else { return false };
        let head = *head;
        let Some(frame) = frame.take().map(Kept::into_frame) else { return false };
        let Some((parsed, topics)) = parse(&gate, &frame, &head, around) else {
            request.body = Body::Whole { head, frame: Some(frame.into()), resent: 0, stranded: false };
            return false;
        };
        let mut parts = Vec::with_capacity(parsed.partitions.len());
        for (topic, key) in parsed.topics.iter().zip(&topics) {
            for partition in parsed.partitions_of(topic) {
                let (whose, is_idempotent) = match partition.batch {
                    BatchHead::Sequenced(sequence) => (Whose::Producer { id: sequence.producer_id, epoch: sequence.producer_epoch }, true),
                    BatchHead::Plain | BatchHead::Empty => (Whose::Session(member), false),
                };
                #[cfg(test)]
                let whose = match partition.batch {
                    BatchHead::Sequenced(sequence)
                        if !sequence.transactional
                            && crate::session::mutation::is_on(crate::session::mutation::Mutation::LinePerSession) =>
                    {
                        Whose::Session(member)
                    }
                    _ => whose,
                };
                let mut part = Part::new(Key { whose, topic: key.clone(), partition: partition.index }, is_idempotent);
                gate.enter(&part.key, number, member, place);
                if let Some((leg, end)) = sent {
                    part.state = PartState::Sent { leg, node, epoch: epoch_at(&part.key, node, around), end };
                    part.times_sent = 1;
                }
                parts.push(part);
            }
        }
        let timeout_ms = head.produce.map_or(0, |produce| produce.timeout_ms);
        let deadline = request.arrived_at + patience(&software, timeout_ms, configured);
        let opened = Opened {
            head,
            frame,
            request: parsed,
            parts,
            deadline,
            first_done: None,
            last_trouble: None,
            detoured_at: None,
            was_cut: false,
            was_joined: false,
        };
        request.body = Body::Opened(Box::new(opened));
        self.slow_due.get_or_insert(deadline);
        true
    }

    /// Nothing is sent again any more, and nobody waits for this session.
    pub(super) fn forget_requests(&mut self) {
        for request in std::mem::take(&mut self.requests) {
            self.gate.give_back(request.reserved_bytes);
            if let Body::Opened(opened) = request.body {
                self.settle_all(request.number, &opened);
            }
        }
        if let Some(Reading::Produce { reserved_bytes, .. }) = self.reading.take() {
            self.gate.give_back(reserved_bytes);
        }
        self.kept_bytes = 0;
        self.gate.leave(self.member);
    }

    pub(super) fn slot_of(&self, number: u64) -> Option<SlotId> {
        self.request(number)?.slot
    }
}

/// The epoch under which the view has `node` as the partition's leader; −1: it has not.
pub(super) fn epoch_at(key: &Key, node: Option<NodeId>, around: &Surroundings<'_>) -> i32 {
    let leader = around.view.leader(topic_ref(&key.topic), key.partition);
    leader.filter(|leader| Some(leader.node) == node).map_or(-1, |leader| leader.epoch)
}

pub(super) fn topic_ref(topic: &TopicKey) -> TopicRef<'_> {
    match topic {
        TopicKey::Name(name) => TopicRef::Name(name),
        TopicKey::Id(id) => TopicRef::Id(*id),
    }
}

/// What the request holds, and how the gate names its topics. `None`: it does not parse, or has a partition twice, which no client does,
/// and which one line per partition could not hold apart.
fn parse(gate: &Gate, frame: &[u8], head: &Head, around: &Surroundings<'_>) -> Option<(ProduceRequest, Vec<TopicKey>)> {
    let parsed = ProduceRequest::parse(frame, head).ok()?;
    let topics: Vec<TopicKey> = parsed.topics.iter().map(|topic| topic_key(gate, topic.name_in(frame), around)).collect();
    (!has_twins(&parsed, &topics)).then_some((parsed, topics))
}

/// Whether a partition is in the request twice.
fn has_twins(request: &ProduceRequest, topics: &[TopicKey]) -> bool {
    let mut seen = HashSet::with_capacity(request.partitions.len());
    let mut by_topic = request.topics.iter().zip(topics);
    by_topic.any(|(topic, key)| request.partitions_of(topic).iter().any(|partition| !seen.insert((key, partition.index))))
}

fn topic_key(gate: &Gate, topic: WireTopic<'_>, around: &Surroundings<'_>) -> TopicKey {
    let (id, name) = match topic {
        WireTopic::Name(name) => {
            let name: Arc<str> = Arc::from(String::from_utf8_lossy(name));
            let known = around.view.topic(TopicRef::Name(&name)).map(|topic| topic.id);
            (known.filter(|id| *id != TopicId::default()), Some(name))
        }
        WireTopic::Id(id) => {
            let id = TopicId(id);
            (Some(id), around.view.topic(TopicRef::Id(id)).and_then(|topic| topic.name.clone()))
        }
    };
    gate.topic_key(id, name).unwrap_or(TopicKey::Id(TopicId::default()))
}
