//! Incremental fetch sessions of one broker (KIP-227).
//!
//! A session is the broker's, not a connection's: it outlives the connection that opened it, may be used from another, and dies with the
//! broker's process. Source: Kafka's `FetchSession`, `FetchManager`, `CachedPartition`. Invariant: a session's epoch matches exactly, or
//! its request is refused. Deliberately not here: what is in the partitions; and eviction by age or size: beyond a bound, a new session is
//! simply not granted.

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
    /// The epoch of the record before `offset`; −1: the client does not say.
    pub last_fetched_epoch: i32,
}

/// What a client was last told of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// −1 after an error, so that the next answer has the partition again.
    pub high_watermark: i64,
    /// Where the log starts.
    pub log_start_offset: i64,
}

/// A partition that is to be read.
#[derive(Clone, Debug)]
pub struct Planned {
    /// As the client named it.
    pub key: FetchKey,
    /// Its topic's name. A session keeps the name that an id had when it was first known, whatever becomes of the topic.
    pub topic: Option<String>,
    /// What the client asked of it.
    pub wanted: Wanted,
}

#[derive(Debug)]
struct Cached {
    topic: Option<String>,
    wanted: Wanted,
    told: Option<Told>,
}

#[derive(Debug)]
struct Session {
    epoch: i32,
    uses_ids: bool,
    order: Vec<FetchKey>,
    partitions: BTreeMap<FetchKey, Cached>,
}

impl Session {
    fn put(&mut self, key: FetchKey, wanted: Wanted) {
        match self.partitions.get_mut(&key) {
            Some(known) => known.wanted = wanted,
            None => {
                self.order.push(key.clone());
                self.partitions.insert(key, Cached { topic: None, wanted, told: None });
            }
        }
    }

    fn forget(&mut self, key: &FetchKey) {
        if self.partitions.remove(key).is_some() {
            self.order.retain(|known| known != key);
        }
    }

    fn resolve(&mut self, name_of: &impl Fn(&FetchKey) -> Option<String>) {
        for (key, cached) in &mut self.partitions {
            if cached.topic.is_none() {
                cached.topic = name_of(key);
            }
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
    /// The session's epoch while nobody else has used it since.
    pub next_epoch: i32,
    /// What to read, in order.
    pub partitions: Vec<Planned>,
}

impl Plan {
    fn full(session_id: i32, asked: Vec<(FetchKey, Wanted)>, name_of: &impl Fn(&FetchKey) -> Option<String>) -> Plan {
        let partitions = asked.into_iter().map(|(key, wanted)| Planned { topic: name_of(&key), key, wanted }).collect();
        Plan { session_id, is_incremental: false, next_epoch: 1, partitions }
    }
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
        name_of: impl Fn(&FetchKey) -> Option<String>,
    ) -> Result<Plan, i16> {
        const FINAL_EPOCH: i32 = -1;
        const INITIAL_EPOCH: i32 = 0;
        if epoch == FINAL_EPOCH {
            self.sessions.remove(&session_id);
            return Ok(Plan::full(0, asked, &name_of));
        }
        if epoch == INITIAL_EPOCH {
            self.sessions.remove(&session_id);
            let granted = self.open(uses_ids, &asked, &name_of);
            return Ok(Plan::full(granted, asked, &name_of));
        }
        let session = self.sessions.get_mut(&session_id).ok_or(code::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != epoch {
            return Err(code::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.uses_ids != uses_ids {
            return Err(code::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        asked.iter().for_each(|(key, wanted)| session.put(key.clone(), *wanted));
        forgotten.iter().for_each(|key| session.forget(key));
        if session.order.is_empty() {
            // Nothing is left in it: it closes, and what was asked is answered without one.
            self.sessions.remove(&session_id);
            return Ok(Plan::full(0, asked, &name_of));
        }
        session.epoch = epoch.checked_add(1).unwrap_or(1);
        session.resolve(&name_of);
        let planned = |key: &FetchKey| {
            let cached = session.partitions.get(key)?;
            Some(Planned { key: key.clone(), topic: cached.topic.clone(), wanted: cached.wanted })
        };
        let partitions = session.order.iter().filter_map(planned).collect();
        Ok(Plan { session_id, is_incremental: true, next_epoch: session.epoch, partitions })
    }

    fn open(&mut self, uses_ids: bool, asked: &[(FetchKey, Wanted)], name_of: &impl Fn(&FetchKey) -> Option<String>) -> i32 {
        if self.sessions.len() >= MAX_SESSIONS {
            return 0;
        }
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        let mut session = Session { epoch: 1, uses_ids, order: Vec::new(), partitions: BTreeMap::new() };
        asked.iter().for_each(|(key, wanted)| session.put(key.clone(), *wanted));
        session.resolve(name_of);
        self.sessions.insert(self.next_id, session);
        self.next_id
    }

    /// Whether a later request used the session while this one waited (`IncrementalFetchContext.updateAndGenerateResponseData`).
    pub fn was_overtaken(&self, plan: &Plan) -> bool {
        let session = self.sessions.get(&plan.session_id).filter(|_| plan.is_incremental);
        session.is_some_and(|session| session.epoch != plan.next_epoch)
    }

    /// Whether a partition without records belongs into an incremental answer: it says something new, or an error.
    pub fn is_news(&self, session_id: i32, key: &FetchKey, told: Told) -> bool {
        let known = self.sessions.get(&session_id).and_then(|session| session.partitions.get(key));
        known.is_none_or(|cached| cached.told != Some(told))
    }

    /// Notes what an answer said. A partition that had records goes to the end of the line.
    pub fn note(&mut self, session_id: i32, key: &FetchKey, told: Option<Told>, had_records: bool) {
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        let Some(cached) = session.partitions.get_mut(key) else { return };
        cached.told = told;
        if had_records {
            session.order.retain(|known| known != key);
            session.order.push(key.clone());
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
