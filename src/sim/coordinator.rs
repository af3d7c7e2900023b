//! Who coordinates a group or a transactional id, and from when on: a seat that changes hands takes its time.
//!
//! ```text
//! active ──its broker leaves──▶ nobody: 16, FindCoordinator 15 ──handover──▶ loading: 14 ──loading──▶ active
//! ```
//!
//! Source: Kafka's `GroupCoordinator.validateGroupStatus`, `CoordinatorRuntime.withActiveContextOrThrow`,
//! `TransactionStateManager.getAndMaybeAddTransactionState`, `KafkaApis.getCoordinator`. Invariant: a seat's times are settled when it is
//! handed over. Deliberately not here: the partitions of `__consumer_offsets` and `__transaction_state`; each key has its own seat.

use std::collections::BTreeMap;
use std::time::Duration;

use super::api::Call;
use super::cluster::Cluster;
use super::code;

/// Key type of groups.
pub const GROUP: i8 = 0;
/// Key type of transactional ids.
pub const TRANSACTION: i8 = 1;

/// Where a key is coordinated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    at: i32,
    /// Before, nobody coordinates.
    elected_at: Duration,
    /// Before, the coordinator reads its log.
    loaded_at: Duration,
}

/// All seats, by key type and key.
pub(crate) type Seats = BTreeMap<i8, BTreeMap<String, Seat>>;

impl Cluster {
    fn known_seat(&self, key_type: i8, key: &str) -> Option<Seat> {
        self.seats.get(&key_type)?.get(key).copied()
    }

    fn take_seat(&mut self, key_type: i8, key: &str, seat: Seat) {
        self.seats.entry(key_type).or_default().insert(key.to_owned(), seat);
    }

    fn seat(&mut self, key_type: i8, key: &str) -> Option<Seat> {
        let known = self.known_seat(key_type, key);
        if known.is_some_and(|seat| self.brokers.get(&seat.at).is_some_and(|broker| broker.listed)) {
            return known;
        }
        let serving: Vec<i32> = self.brokers.values().filter(|broker| broker.serves()).map(|broker| broker.id).collect();
        let hash = key.bytes().fold(usize::from(key_type.unsigned_abs()), |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
        let at = serving.get(hash.checked_rem(serving.len())?).copied()?;
        let seat = Seat { at, elected_at: self.now, loaded_at: self.now };
        self.take_seat(key_type, key, seat);
        Some(seat)
    }

    /// The coordinator of a group (0) or a transactional id (1), loading or not; a key that has none yet gets one.
    pub fn coordinator_of(&mut self, key_type: i8, key: &str) -> Option<i32> {
        let now = self.now;
        self.seat(key_type, key).filter(|seat| seat.elected_at <= now).map(|seat| seat.at)
    }

    /// Whether the broker of this call may act for a key: 15, 14 or 16 if not, looked at in Kafka's order.
    pub(crate) fn admit_to_seat(&mut self, call: &Call, key_type: i8, key: &str) -> Result<(), i16> {
        if !self.brokers.get(&call.broker).is_some_and(|broker| broker.coordinates) {
            return Err(code::COORDINATOR_NOT_AVAILABLE);
        }
        let now = self.now;
        match self.seat(key_type, key) {
            Some(seat) if seat.at == call.broker && seat.elected_at <= now => {
                if seat.loaded_at <= now {
                    Ok(())
                } else {
                    Err(code::COORDINATOR_LOAD_IN_PROGRESS)
                }
            }
            _ => Err(code::NOT_COORDINATOR),
        }
    }

    /// Whether this broker coordinates the transactional id.
    pub(crate) fn coordinates_transaction(&mut self, call: &Call, transactional_id: &str) -> Result<(), i16> {
        self.admit_to_seat(call, TRANSACTION, transactional_id)
    }

    /// From when on a key's coordinator does by itself what falls due; `None` while it is dead or frozen.
    pub(crate) fn acts_from(&self, key_type: i8, key: &str) -> Option<Duration> {
        let Some(seat) = self.known_seat(key_type, key) else { return Some(Duration::ZERO) };
        self.brokers.get(&seat.at).filter(|broker| broker.answers()).map(|_| seat.loaded_at)
    }

    /// When the next seat is taken, or the next log loaded.
    pub(crate) fn next_seat_change(&self) -> Option<Duration> {
        let moments = self.seats.values().flat_map(BTreeMap::values).flat_map(|seat| [seat.elected_at, seat.loaded_at]);
        moments.filter(|at| *at > self.now).min()
    }

    /// Whether the broker still loads any key of this type; one partition of the log holds many.
    pub(crate) fn is_loading(&self, key_type: i8, broker: i32) -> bool {
        let now = self.now;
        let mut seats = self.seats.get(&key_type).into_iter().flat_map(BTreeMap::values);
        seats.any(|seat| seat.at == broker && seat.elected_at <= now && now < seat.loaded_at)
    }

    /// Each key and who coordinates it now; −1: nobody.
    pub(crate) fn coordinators_now(&self) -> BTreeMap<(i8, String), i32> {
        let all = self.seats.iter().flat_map(|(key_type, seats)| seats.iter().map(move |(key, seat)| (*key_type, key, seat)));
        all.map(|(key_type, key, seat)| ((key_type, key.clone()), if seat.elected_at <= self.now { seat.at } else { -1 })).collect()
    }

    /// Another broker coordinates, within the windows in force; the old one answers 16, also to those who wait.
    pub fn move_coordinator(&mut self, key_type: i8, key: &str, to: i32) {
        self.hand_over(key_type, key, to);
        self.settle();
    }

    fn hand_over(&mut self, key_type: i8, key: &str, to: i32) {
        let elected_at = self.now + self.windows.handover;
        let loaded_at = elected_at + self.windows.loading;
        self.take_seat(key_type, key, Seat { at: to, elected_at, loaded_at });
        if key_type == GROUP {
            self.unload_group(key, loaded_at);
        }
        self.dirty = true;
    }

    pub(crate) fn move_coordinators_away_from(&mut self, id: i32) {
        let all = self.seats.iter().flat_map(|(key_type, seats)| seats.iter().map(move |(key, seat)| (*key_type, key, seat)));
        let moving: Vec<(i8, String)> = all.filter(|(.., seat)| seat.at == id).map(|(key_type, key, _)| (key_type, key.clone())).collect();
        let next = self.brokers.values().find(|other| other.id != id && other.serves()).map(|other| other.id);
        for (key_type, key) in moving {
            match next {
                Some(next) => self.hand_over(key_type, &key, next),
                None => {
                    if key_type == GROUP {
                        self.unload_group(&key, self.now);
                    }
                    self.seats.entry(key_type).or_default().remove(&key);
                }
            }
        }
    }

    /// The broker's coordinators refuse everything with 15, as before they start and after they stop (Kafka: `isActive`).
    pub fn suspend_coordinators(&mut self, broker: i32, suspended: bool) {
        if let Some(broker) = self.brokers.get_mut(&broker) {
            broker.coordinates = !suspended;
        }
        self.settle();
    }
}
