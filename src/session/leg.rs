//! One upstream connection of a session, as the core sees it.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::gate::{Place, TopicKey};
use super::{LegId, SlotId, Target};
use crate::cluster::NodeId;
use crate::wire::ApiKey;

/// Far above what followers take that are well, far below what a client would notice.
const STUCK_AFTER: Duration = Duration::from_millis(50);

/// ```text
///  Down ──open──▶ Opening ──Opened──▶ Up
///   ▲                │ Failed          │ Closed, or the broker moved
///   └────────────────┴─────────────────┘
/// ```
/// Each way through it has a `LegId` and a place of its own.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum LegState {
    #[default]
    Down,
    /// Requests for it are queued already.
    Opening(Vec<Target>),
    Up(Target),
}

#[derive(Debug)]
pub struct Leg {
    pub id: LegId,
    pub place: Place,
    pub state: LegState,
    /// Since when it has been in this state.
    pub since: Instant,
    /// Requests sent on it that wait for their response: a broker answers them in this order.
    pub outstanding: VecDeque<Outstanding>,
    /// Its next response must wait for a slot of another leg, so that its reading has stopped.
    pub held: bool,
    /// Bytes of requests given to it, those under way included.
    pub given_bytes: u64,
    /// Whether requests that nobody answers (`acks=0`) were given to it: of those only the leg's end tells.
    pub has_unanswered: bool,
    /// It is its turn to be connected, and the connect is under way.
    pub is_connecting: bool,
    /// Partitions that its broker has acknowledged a batch of: what follows them there is safe.
    pub proven: HashSet<(TopicKey, i32)>,
    /// When its silence was last spoken of.
    pub suspected_at: Option<Instant>,
}

/// A request on a leg.
#[derive(Debug)]
pub struct Outstanding {
    /// Its arrival number; 0: it cannot be sent again.
    pub number: u64,
    pub slot: SlotId,
    pub correlation_id: i32,
    pub api: ApiKey,
    pub version: i16,
    pub sent_at: Instant,
    /// Where in `given_bytes` its last byte is.
    pub end: u64,
    /// Which parts of a produce request; `None`: the whole request, as it came.
    pub parts: Option<Vec<usize>>,
    /// Parts of other produce requests that were put into it.
    pub also: Vec<(u64, Vec<usize>)>,
}

/// What one request of a client has in a request on a leg.
#[derive(Clone, Copy, Debug)]
pub struct Share<'a> {
    pub number: u64,
    pub parts: Option<&'a [usize]>,
    pub end: u64,
}

impl Outstanding {
    pub fn shares(&self) -> impl Iterator<Item = Share<'_>> {
        let first = Share { number: self.number, parts: self.parts.as_deref(), end: self.end };
        [first].into_iter().chain(self.also.iter().map(|(number, parts)| Share { number: *number, parts: Some(parts), end: self.end }))
    }
}

impl Leg {
    pub fn down(id: LegId, place: Place, now: Instant) -> Leg {
        Leg {
            id,
            place,
            state: LegState::Down,
            since: now,
            outstanding: VecDeque::new(),
            held: false,
            given_bytes: 0,
            has_unanswered: false,
            is_connecting: false,
            proven: HashSet::new(),
            suspected_at: None,
        }
    }

    pub fn is_down(&self) -> bool {
        self.state == LegState::Down
    }

    /// The broker that it leads to, or will, where that is certain.
    pub fn node(&self) -> Option<NodeId> {
        match &self.state {
            LegState::Up(target) => target.node,
            LegState::Opening(targets) => match targets.as_slice() {
                [only] => only.node,
                _ => None,
            },
            LegState::Down => None,
        }
    }

    pub fn target(&self) -> Option<&Target> {
        match &self.state {
            LegState::Up(target) => Some(target),
            _ => None,
        }
    }

    /// When its silence is worth speaking of (again): a connect that is under way, or a request whose answer brokers do not hold back on
    /// purpose, for so long.
    pub fn suspect_at(&self, suspect_after: Duration) -> Option<Instant> {
        let since = match self.state {
            LegState::Opening(_) => Some(self.since).filter(|_| self.is_connecting)?,
            LegState::Up(_) => self.outstanding.front().filter(|oldest| oldest.number != 0).and_then(|_| self.oldest_sent_at())?,
            LegState::Down => return None,
        };
        Some(self.suspected_at.map_or(since, |before| before.max(since)) + suspect_after)
    }

    /// Its broker has had a produce request for so long that others queue behind it.
    pub fn is_stuck(&self, now: Instant) -> bool {
        let is_produce = self.outstanding.front().is_some_and(|oldest| oldest.api == ApiKey::PRODUCE);
        is_produce && self.oldest_sent_at().is_some_and(|since| now.saturating_duration_since(since) >= STUCK_AFTER)
    }

    /// The request that its broker has had longest.
    pub fn oldest_sent_at(&self) -> Option<Instant> {
        self.outstanding.front().map(|oldest| oldest.sent_at.max(self.since))
    }
}
