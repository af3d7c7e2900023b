//! Topics and partitions: who leads, who follows, under which epoch.
//!
//! Invariant: a leader epoch never goes backwards. Deliberately not here: replication; all replicas share one log, and a test that wants
//! followers to lag holds the high watermark instead.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::code;
use super::log::Log;
use super::producer_state::ProducerStates;

/// A topic.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id, new with every creation (KIP-516).
    pub id: Uuid,
    /// Its partitions, by index.
    pub partitions: Vec<Partition>,
    /// Configuration that was given at creation.
    pub configs: BTreeMap<String, String>,
}

impl Topic {
    /// The partition of this index.
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// The partition of this index.
    pub fn partition_mut(&mut self, index: i32) -> Option<&mut Partition> {
        self.partitions.get_mut(usize::try_from(index).ok()?)
    }
}

/// A partition.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Brokers that hold it.
    pub replicas: Vec<i32>,
    /// Those of them that are in sync.
    pub isr: Vec<i32>,
    /// `None`: leaderless.
    pub leader: Option<i32>,
    /// Counts up with each change of leader.
    pub leader_epoch: i32,
    /// The log that all replicas share.
    pub log: Log,
    /// While set, followers do not fetch: the high watermark stands and acks=all waits.
    pub replication_held: bool,
    /// Where the log ended when the leader took over.
    pub epoch_start_offset: i64,
    producers: BTreeMap<i32, ProducerStates>,
}

impl Partition {
    /// An empty partition, led by the first replica.
    pub fn new(replicas: Vec<i32>, log_max_bytes: usize) -> Partition {
        Partition {
            leader: replicas.first().copied(),
            isr: replicas.clone(),
            replicas,
            leader_epoch: 0,
            log: Log::new(log_max_bytes),
            replication_held: false,
            epoch_start_offset: 0,
            producers: BTreeMap::new(),
        }
    }

    /// What a replica knows of producers, brought up to the log's end.
    pub fn producers_at(&mut self, broker: i32) -> &mut ProducerStates {
        let states = self.producers.entry(broker).or_default();
        states.catch_up(&self.log);
        states
    }

    /// The broker stops cleanly or dies: what it wrote to disk of its producers is their last batch each.
    pub fn snapshot_producers(&mut self, broker: i32) {
        if self.replicas.contains(&broker) {
            self.producers_at(broker).keep_last_batch_only();
        }
    }

    /// Every replica forgets this partition's producers.
    pub fn forget_producers(&mut self) {
        self.producers.values_mut().for_each(ProducerStates::forget);
    }

    /// Replicas forget what a truncation took away: they read the log anew.
    pub fn truncate_to(&mut self, offset: i64) {
        self.log.truncate_to(offset);
        self.producers.clear();
    }

    /// Another leader, or none, under the next epoch.
    pub fn lead(&mut self, leader: Option<i32>) {
        if let Some(new) = leader {
            if !self.replicas.contains(&new) {
                self.replicas.push(new);
            }
            if !self.isr.contains(&new) {
                self.isr.push(new);
            }
        }
        self.leader = leader;
        self.leader_epoch += 1;
        self.epoch_start_offset = self.log.end_offset();
    }

    /// Whether `broker` may answer for the partition to one who believes in `known_epoch` (−1: does not say). Only a replica compares
    /// epochs, and does so before it looks whether it leads (Kafka: `Partition.checkCurrentLeaderEpoch`).
    pub fn admit(&self, broker: i32, known_epoch: i32) -> Result<(), i16> {
        self.admit_reader(broker, known_epoch)?;
        if self.leader == Some(broker) { Ok(()) } else { Err(code::NOT_LEADER_OR_FOLLOWER) }
    }

    /// The same, where any replica will do.
    pub fn admit_reader(&self, broker: i32, known_epoch: i32) -> Result<(), i16> {
        match known_epoch {
            _ if !self.replicas.contains(&broker) => Err(code::NOT_LEADER_OR_FOLLOWER),
            0.. if known_epoch < self.leader_epoch => Err(code::FENCED_LEADER_EPOCH),
            0.. if known_epoch > self.leader_epoch => Err(code::UNKNOWN_LEADER_EPOCH),
            _ => Ok(()),
        }
    }

    /// Where the log of this replica ends: a follower that is held back has what is committed.
    pub fn end_offset_at(&self, broker: i32) -> i64 {
        let lags = self.replication_held && self.leader != Some(broker);
        if lags { self.log.high_watermark() } else { self.log.end_offset() }
    }
}

/// All topics, by name and by id.
#[derive(Clone, Debug, Default)]
pub struct Topics {
    by_name: BTreeMap<String, Topic>,
    names: BTreeMap<Uuid, String>,
}

impl Topics {
    /// The topic of this name.
    pub fn get(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    /// The topic of this name.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Topic> {
        self.by_name.get_mut(name)
    }

    /// The name that belongs to an id.
    pub fn name_of(&self, id: &Uuid) -> Option<&str> {
        self.names.get(id).map(String::as_str)
    }

    /// Adds a topic.
    pub fn insert(&mut self, topic: Topic) {
        self.names.insert(topic.id, topic.name.clone());
        self.by_name.insert(topic.name.clone(), topic);
    }

    /// Takes a topic away.
    pub fn remove(&mut self, name: &str) -> Option<Topic> {
        let topic = self.by_name.remove(name)?;
        self.names.remove(&topic.id);
        Some(topic)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values()
    }

    /// All of them, by name.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        self.by_name.values_mut()
    }

    /// A partition of a topic.
    pub fn partition(&self, topic: &str, index: i32) -> Option<&Partition> {
        self.get(topic)?.partition(index)
    }

    /// A partition of a topic.
    pub fn partition_mut(&mut self, topic: &str, index: i32) -> Option<&mut Partition> {
        self.get_mut(topic)?.partition_mut(index)
    }
}
