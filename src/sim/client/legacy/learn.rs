//! What metadata and leader hints change (kgo: `updateBrokers`, `mergeTopicPartitions`, `kip951move`).
//!
//! Invariant: brokers change before partitions do. Deliberately not here: when metadata is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::buffer::Buffer;
use super::core::Core;
use super::exchange::{Action, Broker, Failure, PartitionSeen, Seen};
use crate::sim::code;

/// How often an epoch that goes backwards is ignored.
const EPOCH_REWINDS_MAX: u32 = 5;

/// New leaders that a refusal named, with the brokers that it named beside.
#[derive(Clone, Debug)]
pub(super) struct Move {
    pub(super) brokers: Vec<Broker>,
    pub(super) leaders: Vec<(i32, (i32, i32))>,
}

impl Core {
    /// What [`Action::AskMetadata`] brought.
    pub fn on_metadata(&mut self, now: Duration, answer: Result<Seen, Failure>) {
        match answer {
            Ok(seen) => {
                self.update_brokers(seen.brokers);
                let mut again = false;
                let mut drained = BTreeSet::new();
                for partition in &seen.partitions {
                    again |= self.merge(partition, &mut drained);
                }
                self.schedule.answered(now);
                if again {
                    self.schedule.trigger(now, true, &self.rules);
                }
                for node in drained {
                    self.drain(now, node);
                }
            }
            Err(_) => self.metadata_failed(now),
        }
        self.settle(now);
    }

    /// Brokers that are gone, or have another address or rack, lose their connections.
    pub(super) fn update_brokers(&mut self, brokers: Vec<Broker>) {
        let listed: BTreeMap<i32, Broker> = brokers.into_iter().map(|broker| (broker.id, broker)).collect();
        for (id, known) in &self.brokers {
            if listed.get(id) != Some(known) {
                self.actions.push_back(Action::Close { broker: *id });
            }
        }
        self.brokers = listed;
        self.order.restart(self.brokers.keys().copied(), &mut self.rng);
    }

    /// Whether metadata has to be asked for again; brokers that may have something to send now go into `drained`.
    fn merge(&mut self, seen: &PartitionSeen, drained: &mut BTreeSet<i32>) -> bool {
        let index = usize::try_from(seen.partition).unwrap_or(usize::MAX);
        if index == self.buffers.len() {
            let mut buffer = Buffer::new(seen.leader, seen.epoch);
            buffer.failing = seen.error_code != code::NONE;
            self.buffers.push(buffer);
            return seen.error_code != code::NONE;
        }
        let Some(buffer) = self.buffers.get_mut(index) else { return true };
        if seen.error_code != code::NONE {
            // What was known stays, and so does what keeps the partition back.
            return true;
        }
        if seen.epoch < buffer.epoch && buffer.rewinds < EPOCH_REWINDS_MAX {
            buffer.rewinds += 1;
            return true;
        }
        buffer.rewinds = 0;
        buffer.node = seen.leader;
        buffer.epoch = seen.epoch;
        buffer.failing = false;
        if buffer.has_more() {
            drained.insert(buffer.node);
        }
        false
    }

    /// Carries out what refusals said of new leaders; not while metadata is being asked for.
    pub(super) fn begin_moves(&mut self, now: Duration) {
        for Move { brokers, leaders } in std::mem::take(&mut self.moves) {
            self.update_brokers(brokers);
            for (partition, (leader, epoch)) in leaders {
                let Some(buffer) = self.buffer_mut(partition) else { continue };
                let is_newer = buffer.epoch < epoch || (buffer.epoch == epoch && buffer.node != leader);
                if is_newer {
                    buffer.node = leader;
                    buffer.epoch = epoch;
                }
                buffer.failing = false;
                let node = buffer.node;
                self.drain(now, node);
            }
        }
    }
}
