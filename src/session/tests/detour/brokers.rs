//! The brokers' end of the stage: what has come, what is answered, and connections that end.

use std::collections::VecDeque;

use bytes::Bytes;

use super::bench::{MANY, MS, Stage};
use super::frames::{batches_in, correlation_id_of, metadata, produced, version_of};
use crate::session::{LegEvent, LegId, ResponseVerdict};
use crate::wire::{HeadLimits, parse_head, parse_response_head};

/// A leg as the broker's end sees it.
#[derive(Debug)]
pub(super) struct Wire {
    pub id: LegId,
    pub node: Option<i32>,
    pub port: u16,
    pub state: End,
    /// Requests without an answer.
    pub unanswered: VecDeque<Bytes>,
    /// Requests that nobody answers: produce with acks=0.
    pub silent: Vec<Bytes>,
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Opening,
    Up,
    /// By the broker.
    Lost,
    /// By the core, once written out.
    Closed,
    /// By the core, with nothing more to arrive.
    Dropped,
}

/// What of a lost leg's bytes had been written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Written {
    All,
    Nothing,
    /// The first so many requests, and some bytes of the next.
    Requests(usize),
}

impl Wire {
    pub fn give(&mut self, frame: Bytes) {
        self.bytes += frame.len() as u64;
        let limits = HeadLimits { max_frame_bytes: MANY, max_head_bytes: 4096 };
        let head = parse_head(&frame, &limits).unwrap().unwrap();
        match head.produce {
            Some(produce) if produce.acks == 0 => self.silent.push(frame),
            _ => self.unanswered.push_back(frame),
        }
    }
}

impl Stage {
    /// The leg to this broker that is up or being opened.
    pub fn wire(&mut self, session: usize, node: i32) -> &mut Wire {
        let is_it = |wire: &&mut Wire| wire.node == Some(node) && matches!(wire.state, End::Up | End::Opening);
        self.sessions[session].legs.iter_mut().find(is_it).unwrap_or_else(|| panic!("no leg to broker {node}"))
    }

    pub fn has_wire(&self, session: usize, node: i32) -> bool {
        self.sessions[session].legs.iter().any(|wire| wire.node == Some(node) && matches!(wire.state, End::Up | End::Opening))
    }

    /// What became of every leg that ever led to this broker.
    pub fn ends(&self, session: usize, node: i32) -> Vec<End> {
        self.sessions[session].legs.iter().filter(|wire| wire.node == Some(node)).map(|wire| wire.state).collect()
    }

    /// The tags of the batches that this broker has from this session and has not answered, by request.
    pub fn at(&self, session: usize, node: i32) -> Vec<Vec<u8>> {
        let is_it = |wire: &&Wire| wire.node == Some(node) && matches!(wire.state, End::Up | End::Opening);
        let wires = self.sessions[session].legs.iter().filter(is_it);
        let tags = |frame: &Bytes| batches_in(frame).into_iter().map(|(_, _, tag)| tag).collect();
        wires.flat_map(|wire| wire.unanswered.iter().map(tags)).collect()
    }

    /// Until the broker has something to answer.
    pub fn until_at(&mut self, session: usize, node: i32) {
        let until = self.now + 2000 * MS;
        while self.at(session, node).is_empty() {
            assert!(self.now < until, "nothing comes to broker {node}");
            self.fresh(session);
            self.pass(MS);
        }
    }

    /// The broker acknowledges its oldest request.
    pub fn acks(&mut self, session: usize, node: i32) {
        self.says(session, node, |_, _| (0, 7));
    }

    /// The broker at the end of the leg that was opened last answers its oldest request.
    pub fn says_newest(&mut self, session: usize, result: (i16, i64)) {
        let wire = self.sessions[session].legs.last_mut().expect("a leg");
        let (leg, request) = (wire.id, wire.unanswered.pop_front().expect("a request without an answer"));
        self.answers(session, leg, produced(&request, |_, _| result));
    }

    /// The broker answers its oldest request with this error in every partition, as what was not appended.
    pub fn refuses(&mut self, session: usize, node: i32, error: i16) {
        self.says(session, node, |_, _| (error, -1));
    }

    /// The broker answers its oldest request: error and base offset of each partition.
    pub fn says(&mut self, session: usize, node: i32, result: impl Fn(&str, i32) -> (i16, i64)) {
        let wire = self.wire(session, node);
        let (leg, request) = (wire.id, wire.unanswered.pop_front().expect("a request without an answer"));
        self.answers(session, leg, produced(&request, result));
    }

    /// The broker answers Metadata with what `brokers` and `leaders` are now.
    pub fn says_metadata(&mut self, session: usize, node: i32) {
        let brokers: Vec<_> = self.brokers.iter().map(|(id, port)| (*id, *port)).collect();
        let leader = |((topic, index), (leader, epoch)): (&(String, i32), &(i32, i32))| (topic.clone(), *index, *leader, *epoch);
        let leaders: Vec<_> = self.leaders.iter().map(leader).collect();
        let wire = self.wire(session, node);
        let (leg, request) = (wire.id, wire.unanswered.pop_front().expect("a request without an answer"));
        let version = version_of(&request);
        self.answers(session, leg, metadata(version, correlation_id_of(&request), &brokers, &leaders));
    }

    pub fn answers(&mut self, session: usize, leg: LegId, frame: Bytes) {
        let head = parse_response_head(&frame, MANY).unwrap().unwrap();
        match self.with(session, |core, _, _| core.on_response_head(leg, &head)) {
            ResponseVerdict::Relay(_) | ResponseVerdict::Skim(_) => {
                self.sessions[session].told.push_back(frame);
                self.with(session, |core, now, around| core.on_response_end(now, around));
            }
            ResponseVerdict::Read(_) => {
                self.with(session, |core, now, around| core.on_response_frame(now, leg, frame, around)).unwrap();
            }
            verdict @ (ResponseVerdict::HoldLeg | ResponseVerdict::Violation) => panic!("{verdict:?}"),
        }
    }

    /// The broker closes its connection with this session.
    pub fn loses(&mut self, session: usize, node: i32, written: Written) {
        let wire = self.wire(session, node);
        let written_bytes = match written {
            Written::All => wire.bytes,
            Written::Nothing => 0,
            Written::Requests(count) => {
                let unwritten: usize = wire.unanswered.iter().skip(count).map(Bytes::len).sum();
                wire.bytes - unwritten as u64 + 1
            }
        };
        wire.state = End::Lost;
        let leg = wire.id;
        self.event(session, leg, LegEvent::Closed { written_bytes });
    }
}
