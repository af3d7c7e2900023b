//! The rules by which one answer of the cluster makes the next view.
//!
//! Brokers: see `learn_brokers`. Leaders: see `learn_topics`. Coordinators: see `learn_coordinators`.
//!
//! Invariant: the next view exists exactly if it differs from the one before, and then its generation is the next number.
//! Deliberately absent: asking for a refresh (a suspicion is returned as a value).

use std::sync::Arc;
use std::time::Instant;

use super::learn_topics::{hold_against, learn_topics};
use super::{ApiVersionsObservation, MetadataObservation, NodeId, NodeVersions, Observation, Source, View};

/// Bounds on what a view may hold. What does not fit is not learned, or makes what is older be forgotten, and is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnLimits {
    pub max_brokers: usize,
    /// Where it is full, the one that has been away longest makes room for one that leaves.
    pub max_departed: usize,
    pub max_topics: usize,
    /// Over all topics.
    pub max_partitions: usize,
    /// Over all kinds. Where it is full, those make room that have not been asked for for longest.
    pub max_coordinators: usize,
    /// Where the cluster has no topic ids: how many equal answers in a row make a smaller epoch count.
    pub lower_epoch_answers: u32,
}

impl Default for LearnLimits {
    fn default() -> Self {
        LearnLimits {
            max_brokers: 1_000,
            max_departed: 1_000,
            max_topics: 20_000,
            max_partitions: 200_000,
            max_coordinators: 10_000,
            lower_epoch_answers: 5,
        }
    }
}

/// APIs that one broker may list; Kafka 4.4 has fewer than 100.
const VERSION_RANGES_MAX: usize = 1024;

/// What came of an observation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// `None`: nothing changed.
    pub view: Option<View>,
    /// The view may be behind the cluster, or the answer behind the view: worth a request of our own.
    pub suspicion: Option<Suspicion>,
    /// The answer was not believed at all.
    pub refused: Option<Refused>,
    pub dropped: Dropped,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspicion {
    pub reason: SuspicionReason,
    /// The topics that it concerns; empty: the broker list.
    pub topics: Vec<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SuspicionReason {
    /// A client's answer lacks a broker that we hold for listed.
    BrokerMissing(NodeId),
    /// A client's answer has a new broker, one that left, or another address for a known one.
    BrokerAppeared(NodeId),
    /// A leader is named that is not listed.
    UnlistedLeader(NodeId),
    /// A coordinator is named that is not listed.
    UnlistedCoordinator(NodeId),
    /// A topic known without its id has a smaller epoch than before, though the cluster has ids: it may have been re-created.
    LowerEpoch,
    /// A client's answer names another leader than the view, at the same epoch or in a version without epochs.
    OtherLeader,
    /// A client asks for a broker that the view knows nothing of.
    UnknownBroker(NodeId),
}

/// Why an answer was not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(
        "an answer comes from the cluster {seen}, but this proxy serves the cluster {known}: do all bootstrap addresses belong to one cluster?"
    )]
    OtherCluster { known: Arc<str>, seen: Arc<str> },
}

/// What did not fit into the limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    pub brokers: usize,
    pub topics: usize,
    pub partitions: usize,
    pub coordinators: usize,
}

/// Judges one observation against the view.
///
/// `now` stamps what must be bounded in time (leaderless partitions).
pub fn learn(view: &View, now: Instant, observation: &Observation, limits: &LearnLimits) -> Learned {
    let mut draft = Draft { base: view, next: None, limits, now, learned: Learned::default() };
    match observation {
        Observation::Metadata(metadata) => draft.metadata(metadata),
        Observation::ApiVersions(versions) => draft.versions(versions),
        Observation::Coordinators { source, named } => draft.coordinators(*source, named),
        Observation::Leaders(topics) => learn_topics(&mut draft, Source::Passing, topics),
        Observation::AskedFor(node) => draft.asked_for(*node),
        Observation::Retire(node) => draft.retire(*node),
    }
    draft.finish()
}

/// The next view while it is made: a copy of the old one from the first change on.
pub(super) struct Draft<'a> {
    base: &'a View,
    next: Option<View>,
    pub(super) limits: &'a LearnLimits,
    pub(super) now: Instant,
    pub(super) learned: Learned,
}

impl Draft<'_> {
    pub(super) fn view(&self) -> &View {
        self.next.as_ref().unwrap_or(self.base)
    }

    pub(super) fn edit(&mut self) -> &mut View {
        self.next.get_or_insert_with(|| self.base.clone())
    }

    /// Of the view that this will be, if anything changes.
    pub(super) fn next_generation(&self) -> u64 {
        self.base.generation + 1
    }

    /// The first reason stands; topics add up.
    pub(super) fn suspect(&mut self, reason: SuspicionReason, topic: Option<Arc<str>>) {
        let suspicion = self.learned.suspicion.get_or_insert(Suspicion { reason, topics: Vec::new() });
        suspicion.topics.extend(topic);
    }

    fn finish(self) -> Learned {
        let mut learned = self.learned;
        // An answer that contradicts itself may undo its own change.
        learned.view = self.next.filter(|next| next != self.base).map(|mut next| {
            next.generation += 1;
            next
        });
        learned
    }

    fn metadata(&mut self, metadata: &MetadataObservation) {
        // A broker that is starting knows of nobody yet, and of no topic either.
        if metadata.brokers.is_empty() {
            return;
        }
        if let Some(seen) = metadata.cluster_id.as_ref().filter(|id| !id.is_empty()) {
            match &self.view().cluster_id {
                Some(known) if known != seen => {
                    self.learned.refused = Some(Refused::OtherCluster { known: known.clone(), seen: seen.clone() });
                    return;
                }
                Some(_) => {}
                None => self.edit().cluster_id = Some(seen.clone()),
            }
        }
        // Who left makes room for who came.
        self.brokers_not_listed(metadata);
        for broker in &metadata.brokers {
            self.broker_listed(broker, metadata);
        }
        self.forget_oldest_departed();
        if metadata.source == Source::Own && metadata.controller.is_some() && metadata.controller != self.view().controller {
            self.edit().controller = metadata.controller;
        }
        // Below version 7 an answer has no epochs: only our own, which we asked a broker of our choice for, is worth believing.
        if metadata.source == Source::Own || metadata.version >= 7 {
            learn_topics(self, metadata.source, &metadata.topics);
        } else {
            hold_against(self, &metadata.topics);
        }
    }

    fn versions(&mut self, seen: &ApiVersionsObservation) {
        let listed = self.view().brokers.get(&seen.node).is_some_and(|broker| broker.endpoint == seen.endpoint);
        if !listed || seen.ranges.is_empty() || seen.ranges.len() > VERSION_RANGES_MAX {
            return;
        }
        let mut ranges = seen.ranges.clone();
        ranges.sort_by_key(|(key, _)| *key);
        ranges.dedup_by_key(|(key, _)| *key);
        let versions = NodeVersions { endpoint: seen.endpoint.clone(), ranges };
        if self.view().versions_of(seen.node) != Some(&versions) {
            self.edit().versions.insert(seen.node, Arc::new(versions));
        }
    }
}
