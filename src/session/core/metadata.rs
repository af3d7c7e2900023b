//! Metadata that names a leader under suspicion is held back a little: this, not the data path, is where waiting is cheap.
//!
//! An answer that sends the client to a broker which has just refused a batch would only bring it back here. It is held once, at most
//! `Detours::metadata_hold`, and let go as soon as the view knows better or a later response of the session is ready (Java asks for
//! metadata on a connection that carries data, too).

use std::time::Instant;

use bytes::Bytes;

use super::opening::topic_ref;
use super::{Core, Surroundings};
use crate::cluster::{NodeId, Observation};
use crate::rewrite;
use crate::session::gate::TopicKey;
use crate::session::leg::Outstanding;
use crate::session::produce::PartState;
use crate::session::request::Body;
use crate::session::{CloseReason, Note, SlotId};
use crate::wire::ApiKey;

#[derive(Debug)]
pub(super) struct Held {
    number: u64,
    slot: SlotId,
    version: i16,
    /// As the broker sent it.
    frame: Bytes,
    since: Instant,
    pub(super) until: Instant,
    /// The partitions for whose sake, and the leader and epoch that it names.
    suspects: Vec<(TopicKey, i32, NodeId, i32)>,
}

impl Core {
    /// True: the answer is held.
    pub(super) fn hold_metadata(&mut self, now: Instant, answered: &Outstanding, frame: &Bytes, around: &Surroundings<'_>) -> bool {
        if self.detours.metadata_hold.is_zero() || self.slow_until.is_none() || !self.order.is_last(answered.slot) {
            return false;
        }
        let suspects = self.suspects();
        if suspects.is_empty() {
            return false;
        }
        let Ok(rewritten) = rewrite::response(ApiKey::METADATA, answered.version, frame, &self.context(now, around)) else { return false };
        let Some(Observation::Metadata(said)) = &rewritten.observation else { return false };
        let names = |(topic, partition, node, epoch): &(TopicKey, i32, NodeId, i32)| {
            said.topics.iter().any(|seen| {
                let is_it = match topic {
                    TopicKey::Name(name) => seen.name.as_ref() == Some(name),
                    TopicKey::Id(id) => seen.id == *id,
                };
                is_it
                    && seen
                        .partitions
                        .iter()
                        .any(|seen| seen.index == *partition && seen.leader == Some(*node) && seen.leader_epoch <= *epoch)
            })
        };
        let suspects: Vec<_> = suspects.into_iter().filter(|suspect| names(suspect)).collect();
        if suspects.is_empty() {
            return false;
        }
        let until = now + self.detours.metadata_hold;
        let held = Held {
            number: answered.number,
            slot: answered.slot,
            version: answered.version,
            frame: frame.clone(),
            since: now,
            until,
            suspects,
        };
        self.held_metadata.push_back(held);
        self.slow_due = Some(self.slow_due.map_or(until, |due| due.min(until)));
        true
    }

    /// Leaders that have refused a batch, and have not been replaced in the view since.
    fn suspects(&self) -> Vec<(TopicKey, i32, NodeId, i32)> {
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

    /// Lets go of answers whose time has come. `all`: something behind them is ready.
    pub(super) fn release_metadata(&mut self, now: Instant, around: &Surroundings<'_>, all: bool) {
        let is_stale = |(topic, partition, node, epoch): &(TopicKey, i32, NodeId, i32)| {
            around.view.leader(topic_ref(topic), *partition).is_none_or(|leader| leader.node == *node && leader.epoch <= *epoch)
        };
        let (kept, due): (Vec<Held>, Vec<Held>) = std::mem::take(&mut self.held_metadata)
            .into_iter()
            .partition(|held| !all && now < held.until && held.suspects.iter().any(is_stale));
        self.held_metadata = kept.into();
        for held in due {
            self.note(Note::MetadataHeld(now.saturating_duration_since(held.since)));
            match self.rewritten(now, ApiKey::METADATA, held.version, held.frame, around) {
                Ok(frame) => {
                    self.forget(held.number);
                    self.answer(now, held.slot, frame, around);
                }
                Err(_) => self.close(CloseReason::UpstreamViolation),
            }
        }
    }
}
