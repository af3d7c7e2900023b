//! The transaction coordinator: producer ids, open transactions, how they end.
//!
//! ```text
//! Empty ──first partition──▶ Ongoing ──EndTxn, a new epoch, time is up──▶ Prepared (51) ──markers written──▶ Complete
//!                               ▲                                                                              │
//!                               └──────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Source: Kafka's `TransactionCoordinator`, `TransactionMetadata`, `TransactionStateManager`; KIP-98, KIP-360, KIP-890. Invariant: a
//! producer id's epoch never goes backwards; all of it outlives the coordinator's broker. Deliberately not here: the markers (`markers`);
//! an end that lies in the log and is answered with 16 (`Fault::ErrorAfterApplying(16)` is that); the 10 s between two looks for
//! transactions whose time is up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::batch::BatchHeader;
use super::cluster::Cluster;
use super::code;
use super::coordinator::TRANSACTION;

/// Who a transactional id belongs to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The producer's id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    Ongoing {
        since: Duration,
    },
    /// The outcome stands; markers are written from `due` on, under `marker`.
    Prepared {
        committed: bool,
        due: Duration,
        marker: Identity,
    },
    Complete {
        committed: bool,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    identity: Identity,
    /// The epoch before, if its owner counted it up: asking again under it is a retry (KIP-360).
    last_epoch: Option<i16>,
    pub(crate) state: State,
    timeout: Duration,
    pub(crate) partitions: BTreeSet<(String, i32)>,
    groups: BTreeSet<String>,
}

/// All transactions, by transactional id.
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    pub(crate) by_id: BTreeMap<String, Transaction>,
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

    /// Whether the first transactional batch of a partition may be appended; with `may_add` it adds its partition (KIP-890).
    pub fn admit_batch(
        &mut self,
        now: Duration,
        transactional_id: &str,
        header: &BatchHeader,
        partition: (&str, i32),
        may_add: bool,
    ) -> Result<(), i16> {
        let identity = Identity { producer_id: header.producer_id, epoch: header.producer_epoch };
        let transaction = self.of(transactional_id, identity, code::INVALID_PRODUCER_EPOCH)?;
        let key = (partition.0.to_owned(), partition.1);
        match transaction.state {
            State::Prepared { .. } => Err(code::CONCURRENT_TRANSACTIONS),
            State::Ongoing { .. } if transaction.partitions.contains(&key) => Ok(()),
            _ if !may_add => Err(code::INVALID_TXN_STATE),
            _ => {
                transaction.begin(now)?;
                transaction.partitions.insert(key);
                Ok(())
            }
        }
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
        transaction.begin(now)?;
        transaction.partitions.extend(partitions);
        Ok(())
    }

    /// Adds a group, whose offsets will be committed with the transaction.
    pub fn add_group(&mut self, now: Duration, transactional_id: &str, identity: Identity, fenced: i16, group_id: &str) -> Result<(), i16> {
        let transaction = self.of(transactional_id, identity, fenced)?;
        transaction.begin(now)?;
        transaction.groups.insert(group_id.to_owned());
        Ok(())
    }

    /// Whether a group belongs to the open transaction.
    pub fn holds_group(&mut self, transactional_id: &str, identity: Identity, group_id: &str) -> Result<(), i16> {
        let transaction = self.of(transactional_id, identity, code::INVALID_PRODUCER_EPOCH)?;
        transaction.check_open()?;
        if transaction.groups.contains(group_id) { Ok(()) } else { Err(code::INVALID_TXN_STATE) }
    }

    /// Whether a partition belongs to the open transaction.
    pub fn holds(&mut self, transactional_id: &str, identity: Identity, partition: &(String, i32)) -> Result<(), i16> {
        let transaction = self.of(transactional_id, identity, code::PRODUCER_FENCED)?;
        transaction.check_open()?;
        if transaction.partitions.contains(partition) { Ok(()) } else { Err(code::INVALID_TXN_STATE) }
    }
}

impl Transaction {
    fn begin(&mut self, now: Duration) -> Result<(), i16> {
        self.check_open()?;
        if !matches!(self.state, State::Ongoing { .. }) {
            self.state = State::Ongoing { since: now };
            self.partitions.clear();
            self.groups.clear();
        }
        Ok(())
    }

    /// While markers are being written, nothing new begins.
    fn check_open(&self) -> Result<(), i16> {
        if matches!(self.state, State::Prepared { .. }) { Err(code::CONCURRENT_TRANSACTIONS) } else { Ok(()) }
    }

    fn falls_due(&self) -> Option<Duration> {
        match self.state {
            State::Ongoing { since } => Some(since + self.timeout),
            State::Prepared { due, .. } => Some(due),
            _ => None,
        }
    }
}

impl Cluster {
    /// Kafka's name for the state of a transaction.
    pub fn transaction_state(&self, transactional_id: &str) -> Option<&'static str> {
        self.transactions.by_id.get(transactional_id).map(|known| match known.state {
            State::Empty => "Empty",
            State::Ongoing { .. } => "Ongoing",
            State::Prepared { committed: true, .. } => "PrepareCommit",
            State::Prepared { committed: false, .. } => "PrepareAbort",
            State::Complete { committed: true } => "CompleteCommit",
            State::Complete { committed: false } => "CompleteAbort",
        })
    }

    /// A producer id for an idempotent producer.
    pub(crate) fn new_producer(&mut self) -> Identity {
        self.transactions.fresh_identity()
    }

    /// A new epoch for a transactional id. One that is open is aborted first, and whoever asks is told 51 and to ask again; where markers
    /// take no time that is folded into one.
    pub(crate) fn init_transactional(
        &mut self,
        transactional_id: &str,
        timeout: Duration,
        claimed: Option<Identity>,
    ) -> Result<Identity, i16> {
        let Some(known) = self.transactions.by_id.get(transactional_id).cloned() else {
            let identity = self.transactions.fresh_identity();
            self.renew(transactional_id, identity, None, timeout);
            return Ok(identity);
        };
        if claimed.is_some_and(|claimed| claimed.producer_id != known.identity.producer_id) {
            return Err(code::PRODUCER_FENCED);
        }
        match known.state {
            State::Prepared { .. } => Err(code::CONCURRENT_TRANSACTIONS),
            State::Ongoing { .. } => {
                let next = self.fence(transactional_id)?;
                let state = self.transactions.by_id.get(transactional_id).map(|transaction| transaction.state);
                if !self.windows.markers.is_zero() || !matches!(state, Some(State::Complete { .. })) {
                    return Err(code::CONCURRENT_TRANSACTIONS);
                }
                self.renew(transactional_id, next, None, timeout);
                Ok(next)
            }
            State::Empty | State::Complete { .. } => match claimed {
                Some(claimed) if Some(claimed.epoch) == known.last_epoch => Ok(known.identity),
                Some(claimed) if claimed.epoch != known.identity.epoch => Err(code::PRODUCER_FENCED),
                _ => {
                    let next = self.next_identity(known.identity);
                    let is_same = next.producer_id == known.identity.producer_id;
                    self.renew(transactional_id, next, claimed.filter(|_| is_same).map(|claimed| claimed.epoch), timeout);
                    Ok(next)
                }
            },
        }
    }

    fn renew(&mut self, transactional_id: &str, identity: Identity, last_epoch: Option<i16>, timeout: Duration) {
        let (partitions, groups) = (BTreeSet::new(), BTreeSet::new());
        let transaction = Transaction { identity, last_epoch, state: State::Empty, timeout, partitions, groups };
        self.transactions.by_id.insert(transactional_id.to_owned(), transaction);
    }

    fn next_identity(&mut self, identity: Identity) -> Identity {
        match identity.epoch.checked_add(1).filter(|epoch| *epoch < i16::MAX) {
            Some(epoch) => Identity { epoch, ..identity },
            None => self.transactions.fresh_identity(),
        }
    }

    /// Aborts an open transaction under a new epoch, which its producer does not have.
    fn fence(&mut self, transactional_id: &str) -> Result<Identity, i16> {
        let known = self.transactions.by_id.get(transactional_id).ok_or(code::INVALID_PRODUCER_ID_MAPPING)?.identity;
        let next = self.next_identity(known);
        let marker = if next.producer_id == known.producer_id { next } else { known };
        self.prepare(transactional_id, next, false, marker);
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
        let is_retry = bumps_epoch && known.identity == Identity { epoch: identity.epoch.saturating_add(1), ..identity };
        let current = if is_retry { known.identity } else { identity };
        let transaction = self.transactions.of(transactional_id, current, fenced)?;
        match transaction.state {
            State::Prepared { committed: before, .. } if before == committed => return Err(code::CONCURRENT_TRANSACTIONS),
            State::Complete { committed: before } if before == committed && is_retry == bumps_epoch => return Ok(current),
            State::Ongoing { .. } if is_retry => return Err(fenced),
            State::Ongoing { .. } => {}
            _ => return Err(code::INVALID_TXN_STATE),
        }
        let next = Identity { epoch: identity.epoch.saturating_add(i16::from(bumps_epoch)), ..identity };
        self.prepare(transactional_id, next, committed, next);
        Ok(next)
    }

    fn prepare(&mut self, transactional_id: &str, identity: Identity, committed: bool, marker: Identity) {
        let due = self.now + self.windows.markers;
        if let Some(transaction) = self.transactions.by_id.get_mut(transactional_id) {
            transaction.identity = identity;
            transaction.last_epoch = None;
            transaction.state = State::Prepared { committed, due, marker };
        }
        self.write_due_markers();
    }

    /// When a coordinator next has something to do by itself: never while it is dead or frozen.
    pub(crate) fn next_transaction_timeout(&self) -> Option<Duration> {
        let one = |(id, known): (&String, &Transaction)| Some(known.falls_due()?.max(self.acts_from(TRANSACTION, id)?));
        // What is overdue waits for a leader, not for a time.
        self.transactions.by_id.iter().filter_map(one).filter(|at| *at > self.now).min()
    }

    /// Which transactions have something due, and a coordinator to do it.
    pub(crate) fn due_transactions(&self, is_kind: impl Fn(&State) -> bool) -> Vec<String> {
        let now = self.now;
        let is_due = |known: &Transaction| is_kind(&known.state) && known.falls_due().is_some_and(|at| at <= now);
        let acts = |id: &str| self.acts_from(TRANSACTION, id).is_some_and(|from| from <= now);
        let due = self.transactions.by_id.iter().filter(|(id, known)| is_due(known) && acts(id));
        due.map(|(id, _)| id.clone()).collect()
    }

    /// Transactions that were open for too long are aborted, and their producers fenced.
    pub(crate) fn expire_transactions(&mut self) {
        for transactional_id in self.due_transactions(|state| matches!(state, State::Ongoing { .. })) {
            let _ = self.fence(&transactional_id);
        }
        self.write_due_markers();
    }
}
