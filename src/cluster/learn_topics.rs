//! The rules by which an answer about topics counts.
//!
//! Epochs are per topic id: an answer with a smaller one comes from a broker that lags. A topic that is deleted and created again has a
//! new id and starts anew. Where the cluster has no topic ids (Metadata below 10) a re-created topic looks like one that went back, and
//! then a smaller epoch counts after several equal answers in a row. At an equal epoch a client's answer does not replace a leader that
//! is listed: it takes an answer of our own to say that the cluster moves leaders without a new epoch.
//!
//! Invariant: an error about a topic that one client got never enters the view: it may say what its principal may see, not what is.
//! Deliberately absent: brokers (`learn`).

use std::sync::Arc;

use super::learn::Draft;
use super::topics::LowerEpoch;
use super::{NodeId, Partition, PartitionObservation, Source, SuspicionReason, Topic, TopicId, TopicObservation, TopicRef};

/// Kafka's error codes (`Errors`) that say that a topic does not exist.
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNKNOWN_TOPIC_ID: i16 = 100;

pub(super) fn learn_topics(draft: &mut Draft<'_>, source: Source, topics: &[TopicObservation]) {
    let ids_exist = draft.view().may_have_topic_ids();
    for seen in topics {
        match (seen.error, source) {
            (0, _) => learn_topic(draft, source, seen, ids_exist),
            (UNKNOWN_TOPIC_OR_PARTITION | UNKNOWN_TOPIC_ID, Source::Own) => forget_topic(draft, seen),
            _ => {}
        }
    }
}

fn forget_topic(draft: &mut Draft<'_>, seen: &TopicObservation) {
    let gone = match &seen.name {
        Some(name) => TopicRef::Name(name),
        None => TopicRef::Id(seen.id),
    };
    if draft.view().topic(gone).is_some() {
        Arc::make_mut(&mut draft.edit().topics).remove(gone);
    }
}

fn learn_topic(draft: &mut Draft<'_>, source: Source, seen: &TopicObservation, ids_exist: bool) {
    let has_id = seen.id != TopicId::default();
    let place = match &seen.name {
        _ if has_id => TopicRef::Id(seen.id),
        Some(name) => TopicRef::Name(name),
        None => return,
    };
    let known = draft.view().topic(place).cloned();
    if known.is_none() && draft.view().topics().len() >= draft.limits.max_topics {
        draft.learned.dropped.topics += 1;
        return;
    }
    if known.as_deref().is_some_and(|known| says_nothing_new(draft, known, seen)) {
        return;
    }
    let others = draft.view().topics().partitions_count() - known.as_ref().map_or(0, |topic| topic.partitions.len());
    let mut next = match &known {
        Some(known) => Topic::clone(known),
        None => Topic { id: seen.id, name: seen.name.clone(), partitions: Default::default() },
    };
    if next.name.is_none() {
        next.name = seen.name.clone();
    }
    let lower_may_count = !ids_exist && next.id == TopicId::default();
    for partition in &seen.partitions {
        if partition.index < 0 || (!next.partitions.contains_key(&partition.index) && nothing_in(partition)) {
            continue;
        }
        if !next.partitions.contains_key(&partition.index) && others + next.partitions.len() >= draft.limits.max_partitions {
            draft.learned.dropped.partitions += 1;
            continue;
        }
        let verdict = learn_partition(draft, source, &mut next, partition, lower_may_count);
        match verdict {
            Verdict::Taken => {}
            Verdict::Unlisted(node) => draft.suspect(SuspicionReason::UnlistedLeader(node), next.name.clone()),
            // Under a bare name: of this topic before, or of another one that has taken its name.
            Verdict::Lower if ids_exist && !has_id => {
                draft.suspect(SuspicionReason::LowerEpoch, next.name.clone());
            }
            Verdict::Lower => {}
            Verdict::Other => draft.suspect(SuspicionReason::OtherLeader, next.name.clone()),
        }
    }
    if let Some(suspicion) = &mut draft.learned.suspicion {
        suspicion.topics.dedup();
    }
    if next.partitions.is_empty() && known.is_none() {
        return;
    }
    let name_moves = name_moves(draft, &next, seen);
    if name_moves || known.as_deref() != Some(&next) {
        Arc::make_mut(&mut draft.edit().topics).put(next, seen.name.is_some());
    }
}

/// The common case, told apart without copying the topic.
fn says_nothing_new(draft: &Draft<'_>, known: &Topic, seen: &TopicObservation) -> bool {
    let settled = |seen: &PartitionObservation| {
        known.partitions.get(&seen.index).is_some_and(|known| {
            known.epoch == seen.leader_epoch
                && known.leader == seen.leader
                && known.leaderless_since.is_none()
                && known.lower.is_none()
                && known.leader.is_some_and(|leader| draft.view().brokers.contains_key(&leader))
        })
    };
    (known.name.is_some() || seen.name.is_none()) && !name_moves(draft, known, seen) && seen.partitions.iter().all(settled)
}

/// Whether the answer gives `topic` its name, which had another topic before. A hint by id alone says nothing about whose a name is.
fn name_moves(draft: &Draft<'_>, topic: &Topic, seen: &TopicObservation) -> bool {
    let Some(name) = seen.name.as_deref().filter(|_| seen.name == topic.name) else { return false };
    draft.view().topic(TopicRef::Name(name)).is_none_or(|current| current.id != topic.id)
}

fn nothing_in(seen: &PartitionObservation) -> bool {
    seen.leader.is_none() && seen.leader_epoch < 0
}

enum Verdict {
    Taken,
    /// The answer names a leader that is not listed.
    Unlisted(NodeId),
    /// The answer's epoch is below the known one.
    Lower,
    /// A client's answer names another leader at the same epoch.
    Other,
}

fn learn_partition(draft: &Draft<'_>, source: Source, topic: &mut Topic, seen: &PartitionObservation, lower_may_count: bool) -> Verdict {
    let view = draft.view();
    let unlisted = seen.leader.filter(|node| !view.brokers.contains_key(node));
    let known = topic.partitions.entry(seen.index).or_insert(Partition {
        leader: None,
        epoch: seen.leader_epoch,
        leaderless_since: None,
        changed_at: draft.now,
        last_good: None,
        unlisted_since: None,
        lower: None,
    });
    let same_epoch = seen.leader_epoch == known.epoch;
    let lower = seen.leader_epoch < known.epoch;
    if lower && !(lower_may_count && lower_epoch_counts(known, seen, draft.limits.lower_epoch_answers)) {
        return Verdict::Lower;
    }
    known.lower = None;
    let unled_since = view.unled_since(known);
    let is_led = unled_since.is_none() && known.leader.is_some();
    match (seen.leader, unlisted) {
        // At an equal epoch this is a guess of a broker that knows less.
        (Some(_), Some(unlisted)) if same_epoch && known.leader.is_some() => return Verdict::Unlisted(unlisted),
        (Some(_), None) if same_epoch && known.epoch >= 0 && source == Source::Passing && is_led && known.leader != seen.leader => {
            return Verdict::Other;
        }
        (Some(leader), _) => {
            known.last_good = match known.leader {
                _ if view.is_told(leader) => None,
                Some(before) if view.is_told(before) => Some(before),
                _ => known.last_good,
            };
            known.unlisted_since = unlisted.map(|_| unled_since.unwrap_or(draft.now));
            if known.leader != seen.leader {
                known.changed_at = draft.now;
            }
            known.leader = Some(leader);
            known.leaderless_since = None;
        }
        (None, _) => {
            known.leaderless_since.get_or_insert(draft.now);
        }
    }
    if !same_epoch {
        known.changed_at = draft.now;
    }
    known.epoch = seen.leader_epoch;
    unlisted.map_or(Verdict::Taken, Verdict::Unlisted)
}

/// A client's answer without epochs may be older or newer than the view: where they differ, a request of our own says which.
pub(super) fn hold_against(draft: &mut Draft<'_>, topics: &[TopicObservation]) {
    for seen in topics.iter().filter(|seen| seen.error == 0) {
        let Some(known) = seen.name.as_deref().and_then(|name| draft.view().topic(TopicRef::Name(name))).cloned() else { continue };
        let differs = |seen: &PartitionObservation| {
            known.partitions.get(&seen.index).is_some_and(|known| match seen.leader {
                None => known.leaderless_since.is_none(),
                Some(_) => known.leader != seen.leader,
            })
        };
        if seen.partitions.iter().any(differs) {
            draft.suspect(SuspicionReason::OtherLeader, known.name.clone());
        }
    }
}

/// Counts one more answer with a smaller epoch; true: there were enough equal ones in a row.
fn lower_epoch_counts(known: &mut Partition, seen: &PartitionObservation, answers_needed: u32) -> bool {
    let before = known.lower.filter(|lower| lower.leader == seen.leader && lower.epoch == seen.leader_epoch);
    let answers = before.map_or(0, |lower| lower.answers) + 1;
    known.lower = Some(LowerEpoch { leader: seen.leader, epoch: seen.leader_epoch, answers });
    answers >= answers_needed
}
