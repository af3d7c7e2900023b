//! The markers of a transaction that is ending: to each partition's leader, and to the coordinator of each group whose offsets it has.
//!
//! A marker waits while its partition has no leader that answers, and while the coordinator that writes it is gone or loads; until all are
//! written, the transaction is Prepared. Source: Kafka's `TransactionMarkerChannelManager`, `TransactionMarkerRequestCompletionHandler`,
//! `AddPartitionsToTxnManager`. Invariant: each partition gets one marker. Deliberately not here: WriteTxnMarkers as a request; fencing
//! among coordinators by their epoch.

use super::broker::Broker;
use super::cluster::Cluster;
use super::code;
use super::coordinator::{GROUP, TRANSACTION};
use super::transaction::{Identity, State};

impl Cluster {
    /// Writes what can be written.
    pub(crate) fn write_due_markers(&mut self) {
        for id in self.due_transactions(|state| matches!(state, State::Prepared { .. })) {
            let Some(known) = self.transactions.by_id.get(&id).cloned() else { continue };
            let State::Prepared { committed, marker, .. } = known.state else { continue };
            let mut left = known.partitions;
            left.retain(|(topic, partition)| !self.write_marker(topic, *partition, marker, committed));
            let groups_left = self.write_group_markers(marker.producer_id, committed);
            if let Some(transaction) = self.transactions.by_id.get_mut(&id) {
                if left.is_empty() && !groups_left {
                    transaction.state = State::Complete { committed };
                }
                transaction.partitions = left;
            }
        }
    }

    /// Whether the partition has its marker now, or is gone.
    fn write_marker(&mut self, topic: &str, partition: i32, marker: Identity, committed: bool) -> bool {
        let timestamp_ms = self.wall_clock_ms();
        let brokers = &self.brokers;
        let Some(known) = self.topics.partition_mut(topic, partition) else { return true };
        let leader = known.leader.and_then(|leader| brokers.get(&leader));
        if !leader.is_some_and(Broker::answers) {
            return false;
        }
        let epoch = known.leader_epoch;
        known.log.append_marker(marker.producer_id, marker.epoch, committed, timestamp_ms, epoch);
        if !known.replication_held {
            known.log.commit();
        }
        self.dirty = true;
        true
    }

    /// Pending offsets become their group's, or are forgotten. Whether any are left.
    fn write_group_markers(&mut self, producer_id: i64, committed: bool) -> bool {
        let has = |group: &super::group::Group| group.pending.contains_key(&producer_id);
        let with_pending: Vec<String> = self.groups.iter().filter(|(_, group)| has(group)).map(|(id, _)| id.clone()).collect();
        let (now, mut is_left) = (self.now, false);
        for id in with_pending {
            if self.acts_from(GROUP, &id).is_none_or(|from| from > now) {
                is_left = true;
            } else if let Some(group) = self.groups.get_mut(&id) {
                let pending = group.pending.remove(&producer_id).unwrap_or_default();
                if committed {
                    group.commit(pending);
                }
                self.dirty = true;
            }
        }
        is_left
    }

    /// Whether a leader or a group's coordinator can ask the coordinator of a transactional id, and what it hears if not.
    pub(crate) fn transaction_coordinator_answers(&mut self, transactional_id: &str) -> Result<(), i16> {
        self.coordinator_of(TRANSACTION, transactional_id).ok_or(code::COORDINATOR_NOT_AVAILABLE)?;
        let from = self.acts_from(TRANSACTION, transactional_id).ok_or(code::NETWORK_EXCEPTION)?;
        if from <= self.now { Ok(()) } else { Err(code::COORDINATOR_LOAD_IN_PROGRESS) }
    }
}
