//! The rules by which coordinators are learned and forgotten.
//!
//! They have no epochs. So a client's answer moves one at once, but not back to where it was before: that may come from a broker that
//! lags, and only an answer to our own request says that it is so. Our own requests ask for what is wanted, and their answers renew what
//! they confirm: who wants to know whether a coordinator is back sees when it was last named, and what is wanted stays when it is full.
//!
//! Invariant: what is learned is a broker that the cluster lists. Deliberately absent: errors; a key that has none now keeps its last one.

use std::sync::Arc;

use super::coordinators::COORDINATOR_KEY_BYTES_MAX;
use super::learn::Draft;
use super::{Coordinator, CoordinatorObservation, Source, SuspicionReason};

/// When it is full, this part of it makes room at a time: looking for the oldest costs a look at all.
const ROOM_PART: usize = 32;

impl Draft<'_> {
    pub(super) fn coordinators(&mut self, source: Source, named: &[CoordinatorObservation]) {
        for seen in named {
            self.coordinator(source, seen);
        }
    }

    fn coordinator(&mut self, source: Source, seen: &CoordinatorObservation) {
        if seen.node.0 < 0 || seen.key.len() > COORDINATOR_KEY_BYTES_MAX {
            return;
        }
        if self.view().broker(seen.node).is_none() {
            self.suspect(SuspicionReason::UnlistedCoordinator(seen.node), None);
            return;
        }
        let learnt = self.next_generation();
        let known = self.view().coordinators.get(seen.kind, &seen.key).copied();
        let before = match known {
            Some(known) if known.node == seen.node => {
                if known.learnt == learnt || (source == Source::Passing && !self.is_worn(&known)) {
                    return;
                }
                known.before
            }
            Some(known) if source == Source::Passing && known.before == Some(seen.node) && self.view().broker(known.node).is_some() => {
                return;
            }
            Some(known) => Some(known.node),
            None => {
                self.make_room_for_coordinator();
                None
            }
        };
        Arc::make_mut(&mut self.edit().coordinators).put(seen.kind, seen.key.clone(), Coordinator { node: seen.node, learnt, before });
    }

    /// Whether it is about to be forgotten, though clients still ask for it.
    fn is_worn(&self, known: &Coordinator) -> bool {
        let max = self.limits.max_coordinators;
        self.view().coordinators_count() >= max && self.next_generation().saturating_sub(known.learnt) > max as u64
    }

    /// Those make room first whose broker has left: they would have to be asked for again anyway.
    fn make_room_for_coordinator(&mut self) {
        let max = self.limits.max_coordinators;
        let count = self.view().coordinators_count();
        if count < max {
            return;
        }
        let view = self.edit();
        let brokers = &view.brokers;
        let coordinators = Arc::make_mut(&mut view.coordinators);
        coordinators.retain(|known| brokers.contains_key(&known.node));
        if coordinators.len() >= max {
            coordinators.forget_oldest(coordinators.len() - max + 1 + max / ROOM_PART);
        }
        self.learned.dropped.coordinators += count - self.view().coordinators_count();
    }
}
