//! Metadata that names a leader under suspicion is held back a little: this, not the data path, is where waiting is cheap.
//!
//! An answer that sends the client to a broker which has just refused a batch would only bring it back here. It is held once, at most
//! `Detours::metadata_hold`, and let go as soon as the view knows better or a later response of the session is ready (Java asks for
//! metadata on a connection that carries data, too).
//!
//! An answer whose turn has not come (a batch that is on the move is before it) is rewritten only when it leaves: what it would have said
//! when it came may be behind what its client has been told on another connection meanwhile.

use std::time::Instant;

use bytes::Bytes;

use super::opening::topic_ref;
use super::{Core, Surroundings};
use crate::cluster::{NodeId, Observation, PartitionObservation, TopicObservation};
use crate::rewrite;
use crate::session::gate::TopicKey;
use crate::session::leg::Outstanding;
use crate::session::produce::PartState;
use crate::session::request::Body;
use crate::session::{Action, CloseReason, Note, SlotId};
use crate::wire::ApiKey;

#[derive(Debug)]
pub(super) struct Held {
    number: u64,
    slot: SlotId,
    version: i16,
    /// As the broker sent it.
    frame: Bytes,
    since: Instant,
    /// `None`: it waits for its turn alone.
    pub(super) until: Option<Instant>,
    /// The partitions for whose sake, and the leader and epoch that it names.
    suspects: Vec<Suspect>,
}

type Suspect = (TopicKey, i32, NodeId, i32);

impl Core {
    /// True: the answer is held.
    pub(super) fn hold_metadata(&mut self, now: Instant, answered: &Outstanding, frame: &Bytes, around: &Surroundings<'_>) -> bool {
        let may_hold = !self.detours.metadata_hold.is_zero() && self.slow_until.is_some() && self.order.is_last(answered.slot);
        let suspects = if may_hold { self.suspects() } else { Vec::new() };
        let is_in_turn = self.order.is_next(answered.slot);
        if is_in_turn && suspects.is_empty() {
            return false;
        }
        let Ok(rewritten) = rewrite::response(ApiKey::METADATA, answered.version, frame, &self.context(now, around)) else { return false };
        let said = rewritten.observation;
        let suspects: Vec<Suspect> = suspects.into_iter().filter(|suspect| names(said.as_ref(), suspect)).collect();
        if is_in_turn && suspects.is_empty() {
            return false;
        }
        let until = (!suspects.is_empty()).then(|| now + self.detours.metadata_hold);
        self.actions.extend(said.map(Action::Learn));
        self.held_metadata.push_back(Held {
            number: answered.number,
            slot: answered.slot,
            version: answered.version,
            frame: frame.clone(),
            since: now,
            until,
            suspects,
        });
        self.slow_due = self.slow_due.into_iter().chain(until).min();
        true
    }

    /// Leaders that have refused a batch, and have not been replaced in the view since.
    fn suspects(&self) -> Vec<Suspect> {
        let mut suspects = Vec::new();
        for request in &self.requests {
            let Body::Opened(opened) = &request.body else { continue };
            for part in opened.parts.iter().filter(|part| !matches!(part.state, PartState::Done(_) | PartState::Sent { .. })) {
                if let Some(by) = part.refused {
                    suspects.push((part.key.topic.clone(), part.key.partition, by.node, by.epoch));
                }
            }
        }
        suspects.dedup();
        suspects
    }

    /// Lets go of answers whose time and turn have come. `all`: something behind them is ready.
    pub(super) fn release_metadata(&mut self, now: Instant, around: &Surroundings<'_>, all: bool) {
        let is_stale = |(topic, partition, node, epoch): &Suspect| {
            around.view.leader(topic_ref(topic), *partition).is_none_or(|leader| leader.node == *node && leader.epoch <= *epoch)
        };
        let mut notes = Vec::new();
        for held in &mut self.held_metadata {
            if held.until.is_some_and(|until| all || now >= until || !held.suspects.iter().any(is_stale)) {
                held.until = None;
                notes.push(Note::MetadataHeld(now.saturating_duration_since(held.since)));
            }
        }
        notes.into_iter().for_each(|note| self.note(note));
        while self.held_metadata.front().is_some_and(|held| held.until.is_none() && self.order.is_next(held.slot)) {
            let Some(held) = self.held_metadata.pop_front() else { return };
            let Ok(rewritten) = rewrite::response(ApiKey::METADATA, held.version, &held.frame, &self.context(now, around)) else {
                return self.close(CloseReason::UpstreamViolation);
            };
            // What it says was learned when it came.
            self.actions.push_back(Action::Rewrote(ApiKey::METADATA));
            if !rewritten.masked.is_empty() {
                self.note(Note::Masked(rewritten.masked));
            }
            self.forget(held.number);
            self.answer(now, held.slot, rewritten.frame, around);
        }
    }
}

/// Whether an answer names a leader under suspicion.
fn names(said: Option<&Observation>, (topic, partition, node, epoch): &Suspect) -> bool {
    let Some(Observation::Metadata(said)) = said else { return false };
    let is_it = |seen: &TopicObservation| match topic {
        TopicKey::Name(name) => seen.name.as_ref() == Some(name),
        TopicKey::Id(id) => seen.id == *id,
    };
    let is_named = |seen: &PartitionObservation| seen.index == *partition && seen.leader == Some(*node) && seen.leader_epoch <= *epoch;
    said.topics.iter().any(|seen| is_it(seen) && seen.partitions.iter().any(is_named))
}
