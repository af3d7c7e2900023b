//! The gate: what all sessions of a process share, so that batches which are on the move keep their order.
//!
//! A batch is in line under its key with the arrival number of its request:
//!
//! ```text
//!  enter ──▶ waiting ──go──▶ placed on a leg ──settle──▶ gone
//!               ▲                  │
//!               └──────back────────┘  refused, or its leg was lost: it moves
//! ```
//!
//! Invariant: a batch goes to a leg only when every lower number of its key is settled or lies on that very leg (a broker answers one
//! request of a connection at a time, so there order is kept); waits therefore point only to lower numbers, and cannot form a circle.
//! Tickets go when a verdict is read, at the deadline or at the session's end, never on delivery: a client that does not read blocks nobody.
//!
//! Deliberately absent: IO, clocks, and what a batch holds. It is locked to enter, go, come back and settle, and for nothing longer.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cluster::TopicId;

/// A session, as the gate knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Member(pub u64);

/// One life of one leg, process-wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place(u64);

/// A topic as requests name it; by name wherever the view knows that, so that versions with ids and without meet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicKey {
    Name(Arc<str>),
    Id(TopicId),
}

/// Within a key, order matters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub whose: Whose,
    pub topic: TopicKey,
    pub partition: i32,
}

impl Key {
    /// The partition alone, whoever writes to it.
    pub fn line(&self) -> (TopicKey, i32) {
        (self.topic.clone(), self.partition)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// Idempotent and transactional: brokers hold the batches of a producer against each other, whichever connection brings them.
    Producer { id: i64, epoch: i16 },
    /// Plain: order is a matter of one connection.
    Session(Member),
}

/// What a batch may follow on the leg that it goes to. A broker may refuse the first for want of leadership and then, a moment later, take
/// the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Any: the broker has acknowledged a batch of this partition on this leg.
    All,
    /// What the client itself has pipelined there and was never refused: then the risk is the client's own.
    Unmoved,
    Nothing,
}

impl Follows {
    fn may_follow(self, lower: &Ticket) -> bool {
        match self {
            Follows::All => true,
            Follows::Unmoved => !lower.moved,
            Follows::Nothing => false,
        }
    }
}

#[derive(Debug)]
struct Ticket {
    member: Member,
    place: Option<Place>,
    /// It was refused or lost at least once.
    moved: bool,
    cancelled: bool,
}

impl Ticket {
    fn is_moving(&self, key: &Key) -> bool {
        self.moved || self.place.is_none() && matches!(key.whose, Whose::Producer { .. })
    }
}

#[derive(Debug, Default)]
struct Line {
    tickets: BTreeMap<u64, Ticket>,
    /// The event at which the last batch that had moved was settled; 0: none.
    moved_settled_at: u64,
}

#[derive(Debug, Default)]
struct Lines {
    keys: HashMap<Key, Line>,
    /// How many tickets each topic has, by the name that its keys use.
    topics: HashMap<TopicKey, usize>,
    /// Counts what happens, so that before and after can be told.
    event: u64,
    /// Sessions that wait for a producer's sent batches before its transaction ends.
    ending: HashMap<i64, Vec<Member>>,
    /// By producer: what arrived before this number belongs to a transaction that has ended. Batches on another session's fast path are
    /// not in line, and may come back only then.
    ended: HashMap<i64, u64>,
}

/// Producers whose last end of a transaction is remembered; the one that ended longest ago makes room.
const ENDED_MAX: usize = 4096;

/// One per process.
#[derive(Debug)]
pub struct Gate {
    lines: Mutex<Lines>,
    numbers: AtomicU64,
    members: AtomicU64,
    places: AtomicU64,
    /// Batches that have moved and are not settled, and those of producers that wait for their turn: the next of theirs may come in over
    /// another session.
    moving: AtomicUsize,
    kept_bytes: AtomicUsize,
    max_kept_bytes: usize,
}

impl Gate {
    /// `max_kept_bytes`: of requests that may have to be sent again, over all sessions.
    pub fn new(max_kept_bytes: usize) -> Gate {
        Gate {
            lines: Mutex::default(),
            numbers: AtomicU64::new(1),
            members: AtomicU64::new(1),
            places: AtomicU64::new(1),
            moving: AtomicUsize::new(0),
            kept_bytes: AtomicUsize::new(0),
            max_kept_bytes,
        }
    }

    pub fn join(&self) -> Member {
        Member(self.members.fetch_add(1, Ordering::Relaxed))
    }

    /// The next arrival number.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub fn place(&self) -> Place {
        Place(self.places.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether any batch of the process is on the move: then every produce request has to be looked into.
    #[inline]
    pub fn is_moving(&self) -> bool {
        self.moving.load(Ordering::Relaxed) > 0
    }

    /// Room for so many more bytes; to be given back.
    pub fn reserve(&self, bytes: usize) -> bool {
        let before = self.kept_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.max_kept_bytes {
            self.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// The same without regard to the bound: for a request that has nowhere else to go.
    pub fn reserve_anyway(&self, bytes: usize) {
        self.kept_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn give_back(&self, bytes: usize) {
        self.kept_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes.load(Ordering::Relaxed)
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How keys are to name a topic that may go by either: as those do that are in line already, since the view may learn which name
    /// belongs to which id at any time; else by name.
    pub fn topic_key(&self, id: Option<TopicId>, name: Option<Arc<str>>) -> Option<TopicKey> {
        let by_id = id.map(TopicKey::Id);
        match name {
            Some(name) if by_id.as_ref().is_none_or(|id| !self.lines().topics.contains_key(id)) => Some(TopicKey::Name(name)),
            _ => by_id,
        }
    }

    /// A batch gets in line. `place`: it is on that leg already. False, and nothing happens, if the number is there under this key.
    pub fn enter(&self, key: &Key, number: u64, member: Member, place: Option<Place>) -> bool {
        let mut lines = self.lines();
        let line = lines.keys.entry(key.clone()).or_default();
        if line.tickets.contains_key(&number) {
            return false;
        }
        let ticket = Ticket { member, place, moved: false, cancelled: false };
        self.count(false, ticket.is_moving(key));
        line.tickets.insert(number, ticket);
        *lines.topics.entry(key.topic.clone()).or_default() += 1;
        true
    }

    /// Sends the batch's ticket to `place`, if its turn has come; returns the event's number.
    pub fn go(&self, key: &Key, number: u64, place: Place, follows: Follows) -> Option<u64> {
        let mut lines = self.lines();
        lines.event += 1;
        let event = lines.event;
        let line = lines.keys.get_mut(key)?;
        let in_turn = line.tickets.range(..number).all(|(_, lower)| lower.place == Some(place) && follows.may_follow(lower));
        #[cfg(test)]
        let in_turn = in_turn
            || crate::session::mutation::is_on(crate::session::mutation::Mutation::DropGate)
            || crate::session::mutation::is_on(crate::session::mutation::Mutation::LeaveUnanswered)
                && line.tickets.range(..number).all(|(_, lower)| lower.place.is_some());
        if !in_turn {
            return None;
        }
        let ticket = line.tickets.get_mut(&number)?;
        let was_moving = ticket.is_moving(key);
        ticket.place = Some(place);
        self.count(was_moving, ticket.is_moving(key));
        Some(event)
    }

    fn count(&self, was_moving: bool, is_moving: bool) {
        match (was_moving, is_moving) {
            (false, true) => _ = self.moving.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = self.moving.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }

    /// The batch was refused, or its leg was lost: from now on it is on the move.
    pub fn back(&self, key: &Key, number: u64) {
        let mut lines = self.lines();
        let is_ending = matches!(key.whose, Whose::Producer { id, .. } if lines.ends(id, number));
        let Some(ticket) = lines.keys.get_mut(key).and_then(|line| line.tickets.get_mut(&number)) else { return };
        let was_moving = ticket.is_moving(key);
        ticket.place = None;
        ticket.cancelled |= is_ending;
        ticket.moved = true;
        self.count(was_moving, true);
    }

    /// The batch's fate is known, or nobody waits for it any more. Returns who may go on now.
    pub fn settle(&self, key: &Key, number: u64) -> Vec<Member> {
        let mut lines = self.lines();
        lines.event += 1;
        let event = lines.event;
        let mut wake = Vec::new();
        let Some(line) = lines.keys.get_mut(key) else { return wake };
        let Some(ticket) = line.tickets.remove(&number) else { return wake };
        if ticket.moved {
            line.moved_settled_at = event;
        }
        self.count(ticket.is_moving(key), false);
        wake.extend(line.tickets.values().take_while(|next| next.place.is_none()).take(1).map(|next| next.member));
        if line.tickets.is_empty() {
            lines.keys.remove(key);
        }
        if let Some(left) = lines.topics.get_mut(&key.topic) {
            *left -= 1;
            if *left == 0 {
                lines.topics.remove(&key.topic);
            }
        }
        if let Whose::Producer { id, .. } = key.whose
            && lines.ending.contains_key(&id)
            && !lines.has_any(id)
        {
            wake.extend(lines.ending.remove(&id).unwrap_or_default());
        }
        wake
    }

    /// Whether a 45 (OUT_OF_ORDER_SEQUENCE_NUMBER) only says that an earlier batch of the key was not there yet: one that has moved is
    /// unsettled still, or was settled after this one was sent, at event `sent_at`.
    pub fn overtook(&self, key: &Key, number: u64, sent_at: u64) -> bool {
        let lines = self.lines();
        let Some(line) = lines.keys.get(key) else { return false };
        line.moved_settled_at > sent_at || line.tickets.range(..number).any(|(_, lower)| lower.moved)
    }

    /// The producer's transaction is to end: what is not on a leg is not sent any more. True: nothing of it is unsettled. False:
    /// `member` is told when it is. Also returns who has to look at what was cancelled.
    pub fn end_transaction(&self, producer: i64, member: Member) -> (bool, Vec<Member>) {
        let mut lines = self.lines();
        lines.note_end(producer, self.numbers.load(Ordering::Relaxed));
        let mut wake = Vec::new();
        let of_producer = |key: &Key| matches!(key.whose, Whose::Producer { id, .. } if id == producer);
        for (_, line) in lines.keys.iter_mut().filter(|(key, _)| of_producer(key)) {
            for ticket in line.tickets.values_mut().filter(|ticket| ticket.place.is_none() && !ticket.cancelled) {
                ticket.cancelled = true;
                wake.push(ticket.member);
            }
        }
        wake.sort_unstable();
        wake.dedup();
        let clear = !lines.has_any(producer);
        if !clear {
            let waiting = lines.ending.entry(producer).or_default();
            if !waiting.contains(&member) {
                waiting.push(member);
            }
        }
        (clear, wake)
    }

    pub fn is_cancelled(&self, key: &Key, number: u64) -> bool {
        let lines = self.lines();
        lines.keys.get(key).and_then(|line| line.tickets.get(&number)).is_some_and(|ticket| ticket.cancelled && ticket.place.is_none())
    }

    /// The session ends: it waits for nothing any more. Its tickets are settled one by one.
    pub fn leave(&self, member: Member) {
        let mut lines = self.lines();
        for waiting in lines.ending.values_mut() {
            waiting.retain(|waiting| *waiting != member);
        }
        lines.ending.retain(|_, waiting| !waiting.is_empty());
    }

    /// Batches in line now, over all keys.
    pub fn tickets(&self) -> usize {
        self.lines().keys.values().map(|line| line.tickets.len()).sum()
    }
}

impl Lines {
    /// Whether a batch with this arrival number must not be sent again.
    fn ends(&self, producer: i64, number: u64) -> bool {
        #[cfg(test)]
        if crate::session::mutation::is_on(crate::session::mutation::Mutation::ForgetEnds) {
            return self.ending.contains_key(&producer);
        }
        self.ending.contains_key(&producer) || self.ended.get(&producer).is_some_and(|end| number < *end)
    }

    fn note_end(&mut self, producer: i64, number: u64) {
        if self.ended.len() >= ENDED_MAX && !self.ended.contains_key(&producer) {
            let oldest = self.ended.iter().min_by_key(|(_, end)| **end).map(|(producer, _)| *producer);
            oldest.map(|oldest| self.ended.remove(&oldest));
        }
        self.ended.insert(producer, number);
    }

    fn has_any(&self, producer: i64) -> bool {
        self.keys.iter().any(|(key, line)| matches!(key.whose, Whose::Producer { id, .. } if id == producer) && !line.tickets.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: i32) -> Key {
        Key { whose: Whose::Producer { id: 7, epoch: 0 }, topic: TopicKey::Name("t".into()), partition }
    }

    #[test]
    fn a_batch_waits_for_every_lower_one_that_is_elsewhere() {
        let gate = Gate::new(0);
        let (a, b) = (gate.join(), gate.join());
        let (home, other) = (gate.place(), gate.place());
        assert!(gate.enter(&key(0), 1, a, Some(home)));
        assert!(gate.enter(&key(0), 2, a, Some(home)));
        assert!(gate.enter(&key(0), 3, b, None));
        assert!(!gate.enter(&key(0), 3, b, None), "a number is there once");
        gate.back(&key(0), 2);
        assert_eq!(gate.go(&key(0), 2, other, Follows::All), None, "1 is unanswered at the old broker");
        assert_eq!(gate.settle(&key(0), 1), [a]);
        assert!(gate.go(&key(0), 2, other, Follows::All).is_some());
        assert_eq!(gate.go(&key(0), 3, home, Follows::All), None);
        assert_eq!(gate.go(&key(0), 3, other, Follows::Nothing), None, "the new leader has not proven itself");
        assert!(gate.go(&key(0), 3, other, Follows::All).is_some(), "on the same leg it may follow");
        assert!(gate.is_moving());
        assert_eq!(gate.settle(&key(0), 2), []);
        assert!(!gate.is_moving());
        assert_eq!(gate.settle(&key(0), 3), []);
        assert_eq!(gate.tickets(), 0);
    }

    #[test]
    fn a_topic_goes_by_one_name_as_long_as_it_has_batches_in_line() {
        let gate = Gate::new(0);
        let member = gate.join();
        let (id, name) = (TopicId([7; 16]), Arc::<str>::from("t"));
        assert_eq!(gate.topic_key(Some(id), None), Some(TopicKey::Id(id)));
        let key = Key { topic: TopicKey::Id(id), ..key(0) };
        gate.enter(&key, 1, member, None);
        assert_eq!(gate.topic_key(Some(id), Some(name.clone())), Some(TopicKey::Id(id)), "the view has learnt its name meanwhile");
        gate.settle(&key, 1);
        assert_eq!(gate.topic_key(Some(id), Some(name.clone())), Some(TopicKey::Name(name)));
    }

    #[test]
    fn partitions_and_producers_do_not_wait_for_each_other() {
        let gate = Gate::new(0);
        let (member, place) = (gate.join(), gate.place());
        gate.enter(&key(0), 1, member, None);
        gate.enter(&key(1), 2, member, None);
        let other = Key { whose: Whose::Producer { id: 8, epoch: 0 }, ..key(0) };
        gate.enter(&other, 3, member, None);
        assert!(gate.go(&key(1), 2, place, Follows::Nothing).is_some());
        assert!(gate.go(&other, 3, place, Follows::Nothing).is_some());
    }

    #[test]
    fn a_45_counts_as_overtaking_only_if_a_batch_before_it_moved_meanwhile() {
        let gate = Gate::new(0);
        let (member, home, other) = (gate.join(), gate.place(), gate.place());
        for number in 1..=3 {
            gate.enter(&key(0), number, member, None);
        }
        gate.go(&key(0), 1, home, Follows::All).unwrap();
        let second = gate.go(&key(0), 2, home, Follows::All).unwrap();
        assert!(!gate.overtook(&key(0), 2, second));
        gate.back(&key(0), 1);
        assert!(gate.overtook(&key(0), 2, second), "1 is on the move");
        gate.go(&key(0), 1, other, Follows::Nothing).unwrap();
        gate.settle(&key(0), 1);
        assert!(gate.overtook(&key(0), 2, second), "1 was settled after 2 was sent");
        gate.settle(&key(0), 2);
        let third = gate.go(&key(0), 3, other, Follows::Nothing).unwrap();
        assert!(!gate.overtook(&key(0), 3, third), "that is long ago for 3");
    }

    #[test]
    fn the_end_of_a_transaction_cancels_what_is_not_sent_and_waits_for_what_is() {
        let gate = Gate::new(0);
        let (a, b, place) = (gate.join(), gate.join(), gate.place());
        gate.enter(&key(0), 1, a, None);
        gate.enter(&key(1), 2, a, None);
        gate.go(&key(0), 1, place, Follows::Nothing).unwrap();
        assert_eq!(gate.end_transaction(7, b), (false, vec![a]));
        assert!(gate.is_cancelled(&key(1), 2) && !gate.is_cancelled(&key(0), 1));
        assert_eq!(gate.settle(&key(1), 2), []);
        assert_eq!(gate.settle(&key(0), 1), [b]);
        assert_eq!(gate.end_transaction(7, b), (true, vec![]));
    }

    #[test]
    fn what_arrived_before_an_end_and_gets_in_line_after_it_is_cancelled_when_it_comes_back() {
        let gate = Gate::new(0);
        let (a, b, home) = (gate.join(), gate.join(), gate.place());
        let before = gate.number();
        assert_eq!(gate.end_transaction(7, b), (true, vec![]));
        let after = gate.number();
        for number in [before, after] {
            gate.enter(&key(0), number, a, Some(home));
            gate.back(&key(0), number);
        }
        assert!(gate.is_cancelled(&key(0), before) && !gate.is_cancelled(&key(0), after));
        for producer in 100..100 + ENDED_MAX as i64 {
            gate.end_transaction(producer, b);
        }
        assert_eq!(gate.lines().ended.len(), ENDED_MAX);
    }

    #[test]
    fn kept_bytes_are_bounded_over_all_sessions() {
        let gate = Gate::new(10);
        assert!(gate.reserve(6) && !gate.reserve(5) && gate.reserve(4));
        gate.give_back(10);
        assert_eq!(gate.kept_bytes(), 0);
    }
}
