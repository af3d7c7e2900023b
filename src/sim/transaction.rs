//! The transaction coordinator: producer ids, open transactions, markers.
//!
//! Source: Kafka's `TransactionCoordinator`, KIP-98, KIP-360, KIP-890. Invariant: a producer id's epoch never goes backwards. Deliberately
//! not here: the time between prepare and complete; an EndTxn writes all markers at once, so 51 comes from a fault rule only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::batch::BatchHeader;
use super::cluster::Cluster;
use super::code;

/// Who a transactional id belongs to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    Ongoing { since: Duration },
    Complete { committed: bool },
}

#[derive(Clone, Debug)]
struct Transaction {
    identity: Identity,
    state: State,
    timeout: Duration,
    partitions: BTreeSet<(String, i32)>,
}

/// All transactions, by transactional id.
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    by_id: BTreeMap<String, Transaction>,
    last_producer_id: i64,
}

impl Transactions {
    fn fresh_identity(&mut self) -> Identity {
        self.last_producer_id += 1;
        Identity { producer_id: 999 + self.last_producer_id, epoch: 0 }
    }

    /// The transaction of a producer that is the current one; fencing as an error code.
    fn of(&mut self, transactional_id: &str, identity: Identity, fenced: i16) -> Result<&mut Transaction, i16> {
        let transaction = self.by_id.get_mut(transactional_id).ok_or(code::INVALID_PRODUCER_ID_MAPPING)?;
        if transaction.identity.producer_id != identity.producer_id {
            return Err(code::INVALID_PRODUCER_ID_MAPPING);
        }
        if transaction.identity.epoch != identity.epoch {
            return Err(fenced);
        }
        Ok(transaction)
    }

    /// Whether a transactional batch may be appended; with `may_add` it adds its partition (KIP-890).
    pub fn admit_batch(
        &mut self,
        now: Duration,
        transactional_id: Option<&str>,
        header: &BatchHeader,
        partition: (&str, i32),
        may_add: bool,
    ) -> Result<(), i16> {
        let identity = Identity { producer_id: header.producer_id, epoch: header.producer_epoch };
        let transactional_id = transactional_id.ok_or(code::INVALID_TXN_STATE)?;
        let transaction = self.of(transactional_id, identity, code::INVALID_PRODUCER_EPOCH)?;
        let key = (partition.0.to_owned(), partition.1);
        let is_part = matches!(transaction.state, State::Ongoing { .. }) && transaction.partitions.contains(&key);
        if is_part {
            return Ok(());
        }
        if !may_add {
            return Err(code::INVALID_TXN_STATE);
        }
        transaction.begin(now);
        transaction.partitions.insert(key);
        Ok(())
    }

    /// Adds partitions, and thereby begins the transaction. `fenced` is what this API answers to an old epoch.
    pub fn add_partitions(
        &mut self,
        now: Duration,
        transactional_id: &str,
        identity: Identity,
        fenced: i16,
        partitions: Vec<(String, i32)>,
    ) -> Result<(), i16> {
        let transaction = self.of(transactional_id, identity, fenced)?;
        transaction.begin(now);
        transaction.partitions.extend(partitions);
        Ok(())
    }

    /// Whether a partition belongs to the open transaction.
    pub fn holds(&mut self, transactional_id: &str, identity: Identity, partition: &(String, i32)) -> Result<(), i16> {
        let transaction = self.of(transactional_id, identity, code::PRODUCER_FENCED)?;
        if transaction.partitions.contains(partition) { Ok(()) } else { Err(code::INVALID_TXN_STATE) }
    }

    /// When the next open transaction times out.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.by_id.values().filter_map(Transaction::expires).min()
    }
}

impl Transaction {
    fn begin(&mut self, now: Duration) {
        if !matches!(self.state, State::Ongoing { .. }) {
            self.state = State::Ongoing { since: now };
            self.partitions.clear();
        }
    }

    fn expires(&self) -> Option<Duration> {
        match self.state {
            State::Ongoing { since } => Some(since + self.timeout),
            _ => None,
        }
    }
}

impl Cluster {
    /// A producer id for an idempotent producer.
    pub(crate) fn new_producer(&mut self) -> Identity {
        self.transactions.fresh_identity()
    }

    /// A new epoch for a transactional id; what was open is aborted (Kafka says 51 until that is done, here it is done at once).
    pub(crate) fn init_transactional(
        &mut self,
        transactional_id: &str,
        timeout: Duration,
        claimed: Option<Identity>,
    ) -> Result<Identity, i16> {
        let Some(known) = self.transactions.by_id.get(transactional_id).cloned() else {
            let identity = self.transactions.fresh_identity();
            let transaction = Transaction { identity, state: State::Empty, timeout, partitions: BTreeSet::new() };
            self.transactions.by_id.insert(transactional_id.to_owned(), transaction);
            return Ok(identity);
        };
        if let Some(claimed) = claimed {
            if claimed.producer_id != known.identity.producer_id {
                return Err(code::INVALID_PRODUCER_ID_MAPPING);
            }
            if claimed.epoch < known.identity.epoch {
                return Err(code::PRODUCER_FENCED);
            }
        }
        let next = match known.identity.epoch.checked_add(1).filter(|epoch| *epoch < i16::MAX) {
            Some(epoch) => Identity { epoch, ..known.identity },
            None => self.transactions.fresh_identity(),
        };
        if matches!(known.state, State::Ongoing { .. }) {
            let marker = if next.producer_id == known.identity.producer_id { next } else { known.identity };
            self.write_markers(&known.partitions, marker, false);
        }
        if let Some(transaction) = self.transactions.by_id.get_mut(transactional_id) {
            *transaction = Transaction { identity: next, state: State::Empty, timeout, partitions: BTreeSet::new() };
        }
        Ok(next)
    }

    /// Ends a transaction. From version 5 on the epoch counts up with every end (KIP-890); the answer is the identity to go on with.
    pub(crate) fn end_transaction(
        &mut self,
        transactional_id: &str,
        identity: Identity,
        committed: bool,
        version: i16,
    ) -> Result<Identity, i16> {
        let bumps_epoch = version >= 5;
        let fenced = if version >= 2 { code::PRODUCER_FENCED } else { code::INVALID_PRODUCER_EPOCH };
        let known = self.transactions.by_id.get(transactional_id).ok_or(code::INVALID_PRODUCER_ID_MAPPING)?;
        // A retry of what was ended already comes under the epoch before.
        let is_retry = bumps_epoch && known.state == (State::Complete { committed }) && known.identity.epoch == identity.epoch + 1;
        if is_retry && known.identity.producer_id == identity.producer_id {
            return Ok(known.identity);
        }
        let transaction = self.transactions.of(transactional_id, identity, fenced)?;
        match transaction.state {
            State::Complete { committed: before } if before == committed && !bumps_epoch => return Ok(identity),
            State::Ongoing { .. } => {}
            _ => return Err(code::INVALID_TXN_STATE),
        }
        let next = Identity { epoch: identity.epoch.saturating_add(i16::from(bumps_epoch)), ..identity };
        transaction.state = State::Complete { committed };
        transaction.identity = next;
        let partitions = std::mem::take(&mut transaction.partitions);
        self.write_markers(&partitions, next, committed);
        Ok(next)
    }

    fn write_markers(&mut self, partitions: &BTreeSet<(String, i32)>, identity: Identity, committed: bool) {
        let timestamp_ms = self.wall_clock_ms();
        for (topic, index) in partitions {
            let Some(partition) = self.topics.partition_mut(topic, *index) else { continue };
            let epoch = partition.leader_epoch;
            partition.log.append_marker(identity.producer_id, identity.epoch, committed, timestamp_ms, epoch);
            if !partition.replication_held {
                partition.log.commit();
            }
        }
        self.groups.end_transaction(identity.producer_id, committed);
        self.dirty = true;
    }

    /// Transactions that were open for too long are aborted, and their producers fenced.
    pub(crate) fn expire_transactions(&mut self) {
        let now = self.now;
        let is_over = |transaction: &Transaction| transaction.expires().is_some_and(|at| at <= now);
        let over = self.transactions.by_id.iter().filter(|(_, transaction)| is_over(transaction));
        let over: Vec<(String, Duration)> = over.map(|(id, transaction)| (id.clone(), transaction.timeout)).collect();
        for (transactional_id, timeout) in over {
            let _ = self.init_transactional(&transactional_id, timeout, None);
        }
    }
}
