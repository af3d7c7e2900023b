//! Who coordinates which group, transactional id or share partition, as far as anybody has asked.
//!
//! Invariant: a key is held once per kind. Deliberately absent: when what is heard counts (`learn_coordinators`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{CoordinatorKind, CoordinatorObservation, NodeId};
use crate::wire::find_coordinator::FindCoordinatorResponse;

/// Longer keys are not held: what clients call themselves must not decide what a view weighs. Kafka itself sets no bound.
pub const COORDINATOR_KEY_BYTES_MAX: usize = 1_024;

/// A coordinator as it was last named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coordinator {
    pub node: NodeId,
    /// The generation of the view that heard it: the first that named this node, or the last that our own request was told.
    pub learnt: u64,
    /// The node before it: a broker that lags may still name that one.
    pub(super) before: Option<NodeId>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coordinators {
    by_kind: HashMap<CoordinatorKind, HashMap<Arc<str>, Coordinator>>,
}

impl Coordinators {
    pub fn get(&self, kind: CoordinatorKind, key: &str) -> Option<&Coordinator> {
        self.by_kind.get(&kind)?.get(key)
    }

    pub fn len(&self) -> usize {
        self.by_kind.values().map(HashMap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = (CoordinatorKind, &Arc<str>, &Coordinator)> {
        self.by_kind.iter().flat_map(|(kind, of_kind)| of_kind.iter().map(|(key, known)| (*kind, key, known)))
    }

    pub(super) fn put(&mut self, kind: CoordinatorKind, key: Arc<str>, coordinator: Coordinator) {
        self.by_kind.entry(kind).or_default().insert(key, coordinator);
    }

    pub(super) fn retain(&mut self, mut is_kept: impl FnMut(&Coordinator) -> bool) {
        for of_kind in self.by_kind.values_mut() {
            of_kind.retain(|_, known| is_kept(known));
        }
    }

    /// Forgets so many of those that were heard of least recently.
    pub(super) fn forget_oldest(&mut self, count: usize) {
        let mut all: Vec<(u64, CoordinatorKind, Arc<str>)> =
            self.iter().map(|(kind, key, known)| (known.learnt, kind, key.clone())).collect();
        if count < all.len() {
            all.select_nth_unstable(count);
            all.truncate(count);
        }
        for (_, kind, key) in all {
            if let Some(of_kind) = self.by_kind.get_mut(&kind) {
                of_kind.remove(&key);
            }
        }
    }
}

impl CoordinatorKind {
    /// As FindCoordinator names it (`CoordinatorType`).
    pub const fn key_type(self) -> i8 {
        match self {
            CoordinatorKind::Group => 0,
            CoordinatorKind::Transaction => 1,
            CoordinatorKind::Share => 2,
        }
    }

    pub const fn of_key_type(key_type: i8) -> Option<CoordinatorKind> {
        match key_type {
            0 => Some(CoordinatorKind::Group),
            1 => Some(CoordinatorKind::Transaction),
            2 => Some(CoordinatorKind::Share),
            _ => None,
        }
    }
}

impl CoordinatorObservation {
    /// What an answer says of the keys that its request asked for; nothing of those that it has an error for. Up to version 3 an answer
    /// names no key, and is about the only one asked for.
    pub fn of_response(kind: CoordinatorKind, asked: &[&[u8]], response: &FindCoordinatorResponse<'_>) -> Vec<CoordinatorObservation> {
        let keys: HashSet<&[u8]> = asked.iter().copied().collect();
        let alone = (asked.len() == 1).then(|| asked.first().copied()).flatten();
        let named = response.coordinators.iter().filter(|named| named.error == 0 && named.entry.node >= 0).filter_map(|named| {
            let key = named.key.or(alone).filter(|key| keys.contains(key) && key.len() <= COORDINATOR_KEY_BYTES_MAX)?;
            let key = std::str::from_utf8(key).ok()?.into();
            Some(CoordinatorObservation { kind, key, node: NodeId(named.entry.node) })
        });
        named.collect()
    }
}
