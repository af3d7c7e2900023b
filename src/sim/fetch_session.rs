//! Incremental fetch sessions of one broker (KIP-227).
//!
//! Source: Kafka's `FetchSession`. Invariant: a session's epoch matches exactly, or its request is refused. Deliberately not here: what is
//! in the partitions; and eviction by age or size: beyond a bound, a new session is simply not granted.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::code;

/// Sessions that a broker holds at most (Kafka: `max.incremental.fetch.session.cache.slots`).
const MAX_SESSIONS: usize = 1_000;

/// A partition in a fetch: by the topic's name, or by its id from version 13 on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchKey {
    /// Empty from version 13 on.
    pub topic: String,
    /// Nil below version 13.
    pub topic_id: Uuid,
    /// The partition's index.
    pub partition: i32,
}

/// What a client asked of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// −1: the client does not say.
    pub current_leader_epoch: i32,
    /// From where.
    pub offset: i64,
    /// At most so many bytes.
    pub max_bytes: i32,
}

/// What a client was last told of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// −1 after an error, so that the next answer has the partition again.
    pub high_watermark: i64,
    /// Where the log starts.
    pub log_start_offset: i64,
    /// Where read_committed ends.
    pub last_stable_offset: i64,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    uses_ids: bool,
    order: Vec<FetchKey>,
    partitions: BTreeMap<FetchKey, (Wanted, Option<Told>)>,
}

impl Session {
    fn put(&mut self, key: FetchKey, wanted: Wanted) {
        match self.partitions.get_mut(&key) {
            Some(known) => known.0 = wanted,
            None => {
                self.order.push(key.clone());
                self.partitions.insert(key, (wanted, None));
            }
        }
    }

    fn forget(&mut self, key: &FetchKey) {
        if self.partitions.remove(key).is_some() {
            self.order.retain(|known| known != key);
        }
    }
}

/// What a fetch request means after the session's rules.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The session to answer with; 0: none.
    pub session_id: i32,
    /// Whether unchanged partitions are left out of the answer.
    pub is_incremental: bool,
    /// What to read, in order.
    pub partitions: Vec<(FetchKey, Wanted)>,
}

/// The sessions of one broker.
#[derive(Debug, Default)]
pub struct FetchSessions {
    sessions: BTreeMap<i32, Session>,
    next_id: i32,
}

impl FetchSessions {
    /// Applies a request to its session; an error is a top-level error code.
    pub fn plan(
        &mut self,
        session_id: i32,
        epoch: i32,
        uses_ids: bool,
        asked: Vec<(FetchKey, Wanted)>,
        forgotten: &[FetchKey],
    ) -> Result<Plan, i16> {
        const FINAL_EPOCH: i32 = -1;
        const INITIAL_EPOCH: i32 = 0;
        if epoch == FINAL_EPOCH {
            self.sessions.remove(&session_id);
            return Ok(Plan { session_id: 0, is_incremental: false, partitions: asked });
        }
        if epoch == INITIAL_EPOCH {
            self.sessions.remove(&session_id);
            let granted = self.open(uses_ids, &asked);
            return Ok(Plan { session_id: granted, is_incremental: false, partitions: asked });
        }
        let session = self.sessions.get_mut(&session_id).ok_or(code::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != epoch {
            return Err(code::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.uses_ids != uses_ids {
            return Err(code::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        session.epoch = epoch.checked_add(1).unwrap_or(1);
        forgotten.iter().for_each(|key| session.forget(key));
        asked.into_iter().for_each(|(key, wanted)| session.put(key, wanted));
        let wanted = |key: &FetchKey| session.partitions.get(key).map(|(wanted, _)| (key.clone(), *wanted));
        Ok(Plan { session_id, is_incremental: true, partitions: session.order.iter().filter_map(wanted).collect() })
    }

    fn open(&mut self, uses_ids: bool, asked: &[(FetchKey, Wanted)]) -> i32 {
        if self.sessions.len() >= MAX_SESSIONS || asked.is_empty() {
            return 0;
        }
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let mut session = Session { epoch: 1, uses_ids, order: Vec::new(), partitions: BTreeMap::new() };
        asked.iter().for_each(|(key, wanted)| session.put(key.clone(), *wanted));
        self.sessions.insert(self.next_id, session);
        self.next_id
    }

    /// Whether a partition without records belongs into an incremental answer: it says something new, or an error.
    pub fn is_news(&self, session_id: i32, key: &FetchKey, told: Told) -> bool {
        let known = self.sessions.get(&session_id).and_then(|session| session.partitions.get(key));
        known.is_none_or(|(_, before)| *before != Some(told))
    }

    /// Notes what an answer said.
    pub fn note(&mut self, session_id: i32, key: &FetchKey, told: Option<Told>) {
        if let Some(known) = self.sessions.get_mut(&session_id).and_then(|session| session.partitions.get_mut(key)) {
            known.1 = told;
        }
    }

    /// All gone, as after a restart.
    pub fn clear(&mut self) {
        self.sessions.clear();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}
