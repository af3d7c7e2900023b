//! All departures: those that are open, and the last of those that ended.
//!
//! Invariant: bounded, whatever sessions say. Deliberately absent: what follows from a departure.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::{End, Event, Record, State, Tally};
use crate::cluster::{NodeId, View};
use crate::session::{DepartureSign, Note};

/// Departures at once; a broker beyond that is neither told of nor retired.
const OPEN_MAX: usize = 100;
const PAST_MAX: usize = 50;
/// Without a sign for so long, a broker that was never unlisted is well.
const QUIET: Duration = Duration::from_secs(10);
/// The same where nobody has reached it since it refused: nobody may have knocked.
const QUIET_UNREACHED: Duration = Duration::from_secs(60);
/// Signs over so long are no accident of one connection.
const CONFIRMED_AFTER: Duration = Duration::from_secs(3);
/// Sessions may say so shortly after a rehearsal what it made them meet.
const ECHO: Duration = Duration::from_secs(2);
/// What was masked so shortly before a departure belongs to it: leaders move before their broker goes.
const PRELUDE: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub struct Registry {
    open: BTreeMap<NodeId, Open>,
    past: VecDeque<Record>,
    /// What is masked while nothing is open.
    prelude: Tally,
    rehearsed: Option<(NodeId, Instant)>,
}

#[derive(Debug)]
struct Open {
    /// Its toll stays empty until the end.
    record: Record,
    tally: Tally,
    last_sign: Instant,
    last_reason: DepartureSign,
    reached: Option<Instant>,
    /// The cluster has not listed it at some time since.
    was_unlisted: bool,
    /// When a client last used its port for what only moves on when it knows better.
    used: Instant,
}

/// What is worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Departed(Record),
    Ended(Record),
    /// A suspicion that came to nothing.
    Dropped(Record),
}

impl Registry {
    /// A session met a sign.
    pub fn on_sign(&mut self, now: Instant, node: NodeId, sign: DepartureSign) -> Option<Said> {
        if self.rehearsed.is_some_and(|(rehearsed, over)| rehearsed == node && now.saturating_duration_since(over) < ECHO) {
            return None;
        }
        let open = self.open(now, now, node, sign)?;
        open.last_sign = now;
        open.last_reason = sign;
        if sign == DepartureSign::Refused {
            open.reached = None;
        }
        open.happened(now, Event::Sign(sign));
        let is_certain = matches!(sign, DepartureSign::Refused | DepartureSign::NotListed)
            || now.saturating_duration_since(open.record.began) >= CONFIRMED_AFTER;
        is_certain.then(|| open.confirm()).flatten()
    }

    /// A connection to the broker was made.
    pub fn on_reached(&mut self, now: Instant, node: NodeId) {
        if let Some(open) = self.open.get_mut(&node).filter(|open| open.reached.is_none() && open.last_reason == DepartureSign::Refused) {
            open.reached = Some(now);
            open.happened(now, Event::Reached);
        }
    }

    /// A client used the port of a broker that is not there, for more than asking about the cluster.
    pub fn on_used(&mut self, now: Instant, node: NodeId) {
        if let Some(open) = self.open.get_mut(&node) {
            open.used = now;
        }
    }

    pub fn on_note(&mut self, now: Instant, note: &Note) {
        if self.open.is_empty() {
            if self.prelude.last_note.is_some_and(|last| now.saturating_duration_since(last) > PRELUDE) {
                self.prelude = Tally::default();
            }
            self.prelude.count(now, note);
        }
        for open in self.open.values_mut() {
            open.tally.count(now, note);
        }
    }

    /// The operator has this broker treated as departed.
    pub fn on_rehearsal(&mut self, now: Instant, node: NodeId) -> Option<Said> {
        let open = self.open(now, now, node, DepartureSign::Closed)?;
        open.record.is_rehearsal = true;
        // What was before is not the rehearsal's.
        open.tally = Tally::default();
        open.happened(now, Event::Sign(DepartureSign::Closed));
        open.confirm()
    }

    pub fn on_rehearsal_over(&mut self, now: Instant, node: NodeId) -> Option<Said> {
        self.open.get(&node).filter(|open| open.record.is_rehearsal)?;
        self.rehearsed = Some((node, now));
        self.end(now, node, End::Rehearsed)
    }

    /// There is a newer view, or time has passed.
    pub fn look(&mut self, now: Instant, view: &View) -> Vec<Said> {
        let mut said = Vec::new();
        if view.generation == 0 {
            return said;
        }
        for (node, departed) in &view.departed {
            let Some(open) = self.open(now, departed.since, *node, DepartureSign::NotListed) else { continue };
            if !open.was_unlisted {
                open.was_unlisted = true;
                if std::mem::take(&mut open.record.is_rehearsal) {
                    // It leaves in earnest.
                    open.record.state = State::Suspected;
                }
                open.happened(departed.since, Event::Sign(DepartureSign::NotListed));
            }
            said.extend(open.confirm());
        }
        let nodes: Vec<NodeId> = self.open.keys().copied().collect();
        for node in nodes {
            said.extend(self.look_at(now, node, view));
        }
        said
    }

    fn look_at(&mut self, now: Instant, node: NodeId, view: &View) -> Option<Said> {
        let open = self.open.get_mut(&node)?;
        if open.record.is_rehearsal {
            return None;
        }
        if !view.brokers.contains_key(&node) {
            let is_retired = open.was_unlisted && !view.is_departed(node);
            return if is_retired { self.end(now, node, End::Retired) } else { None };
        }
        if open.was_unlisted {
            open.happened(now, Event::ListedAgain);
            // The view forgot its versions when it left, and has them again once it has answered.
            return if view.versions_of(node).is_some() { self.end(now, node, End::Returned) } else { None };
        }
        let is_unreached = open.last_reason == DepartureSign::Refused && open.reached.is_none();
        let patience = if is_unreached { QUIET_UNREACHED } else { QUIET };
        if now.saturating_duration_since(open.last_sign) < patience {
            return None;
        }
        if open.record.state == State::Suspected {
            return self.open.remove(&node).map(|open| Said::Dropped(open.record()));
        }
        let at = open.reached.unwrap_or(open.last_sign);
        self.end(at, node, End::Returned)
    }

    /// Departed brokers that no client has used for so long, as far as this record was there to see it.
    pub fn unused_for(&self, now: Instant, patience: Duration, view: &View) -> Vec<NodeId> {
        let is_unused = |node: &NodeId, since: Instant| {
            self.open.get(node).is_some_and(|open| now.saturating_duration_since(open.used.max(since)) >= patience)
        };
        view.departed.iter().filter(|(node, departed)| is_unused(node, departed.since)).map(|(node, _)| *node).collect()
    }

    /// Whether anything is open that time alone may end.
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Brokers that are certainly departed, rehearsals aside.
    pub fn departed(&self) -> impl Iterator<Item = NodeId> + '_ {
        let is_certain = |open: &Open| open.record.state == State::Departed && !open.record.is_rehearsal;
        self.open.iter().filter(move |(_, open)| is_certain(open)).map(|(node, _)| *node)
    }

    pub fn of(&self, node: NodeId) -> Option<Record> {
        self.open.get(&node).map(Open::record)
    }

    /// The newest first, open ones included.
    pub fn records(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self.open.values().map(Open::record).chain(self.past.iter().cloned()).collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.began));
        records
    }

    /// The open departure of that broker, begun at `since` if there is none. `None`: there are too many.
    fn open(&mut self, now: Instant, since: Instant, node: NodeId, reason: DepartureSign) -> Option<&mut Open> {
        if !self.open.contains_key(&node) {
            if self.open.len() >= OPEN_MAX {
                return None;
            }
            let is_recent = |tally: &Tally| tally.last_note.is_some_and(|last| now.saturating_duration_since(last) <= PRELUDE);
            let tally = std::mem::take(&mut self.prelude);
            let record = Record {
                node,
                reason,
                is_rehearsal: false,
                began: since,
                state: State::Suspected,
                timeline: Vec::new(),
                toll: super::Toll::default(),
            };
            let open = Open {
                record,
                tally: if is_recent(&tally) { tally } else { Tally::default() },
                last_sign: since,
                last_reason: reason,
                reached: None,
                was_unlisted: false,
                used: since,
            };
            self.open.insert(node, open);
        }
        self.open.get_mut(&node)
    }

    fn end(&mut self, at: Instant, node: NodeId, end: End) -> Option<Said> {
        let mut open = self.open.remove(&node)?;
        open.record.state = State::Ended(end, at);
        open.happened(at, Event::Ended(end));
        let record = open.record();
        self.past.push_front(record.clone());
        self.past.truncate(PAST_MAX);
        Some(Said::Ended(record))
    }
}

impl Open {
    fn confirm(&mut self) -> Option<Said> {
        if self.record.state == State::Departed {
            return None;
        }
        self.record.state = State::Departed;
        Some(Said::Departed(self.record()))
    }

    fn happened(&mut self, at: Instant, event: Event) {
        if self.record.timeline.iter().all(|(_, known)| *known != event) {
            self.record.timeline.push((at, event));
        }
    }

    fn record(&self) -> Record {
        Record { toll: self.tally.toll(), ..self.record.clone() }
    }
}
