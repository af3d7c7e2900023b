//! Consumer groups of the classic protocol: members, generations, committed offsets.
//!
//! Source: Kafka's `GroupMetadata`, `GroupCoordinator`. Invariant: a member is answered under the generation it is in, or told why not.
//! Deliberately not here: the steps of a rebalance (`rebalance`), what a move of the coordinator leaves (`group_log`), KIP-848 groups,
//! expiry of offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};

use super::api::{Call, Reply};
use super::cluster::Cluster;
use super::code;
use super::coordinator::GROUP;
use super::group_log::Stored;

/// Kafka's names for a group's states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// No members.
    #[default]
    Empty,
    /// Members are asked to join again.
    PreparingRebalance,
    /// All joined; the leader has yet to assign.
    CompletingRebalance,
    /// Everybody has an assignment.
    Stable,
}

impl State {
    /// As ListGroups and DescribeGroups name it.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// One consumer in a group.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) client_id: String,
    pub(crate) instance_id: Option<String>,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    pub(crate) protocols: Vec<(String, Bytes)>,
    pub(crate) assignment: Bytes,
    pub(crate) session_ends: Duration,
    pub(crate) joining: Option<Call>,
    pub(crate) syncing: Option<Call>,
}

impl Member {
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }
}

/// An offset that a group committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: i64,
    /// −1: not given.
    pub leader_epoch: i32,
    /// Whatever the client wrote beside it.
    pub metadata: String,
}

type Offsets = BTreeMap<(String, i32), Committed>;

/// A group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) state: State,
    pub(crate) generation: i32,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) leader: String,
    pub(crate) members: BTreeMap<String, Member>,
    /// Ids that were given out and have not joined yet (KIP-394), and until when they may.
    pub(crate) promised: BTreeMap<String, Duration>,
    pub(crate) rebalance_ends: Option<Duration>,
    pub(crate) not_before: Duration,
    pub(crate) offsets: Offsets,
    pub(crate) pending: BTreeMap<i64, Offsets>,
    pub(crate) stored: Stored,
    /// Members that were put out: silent for too long, or not back in time for a rebalance.
    pub(crate) expelled: u64,
    /// Commits that put an offset back.
    pub(crate) put_back: u64,
}

/// An answer that has become due.
pub(crate) enum Answered {
    Join(Call, Box<JoinGroupResponse>),
    Sync(Call, SyncGroupResponse),
}

impl Group {
    /// Whether a member may act in this generation.
    pub(crate) fn admit(&self, member_id: &str, instance_id: Option<&str>, generation: i32) -> Result<(), i16> {
        if let Some(instance_id) = instance_id {
            let holder = self.members.iter().find(|(_, member)| member.instance_id.as_deref() == Some(instance_id));
            if holder.is_some_and(|(id, _)| id != member_id) {
                return Err(code::FENCED_INSTANCE_ID);
            }
        }
        if !self.members.contains_key(member_id) {
            return Err(code::UNKNOWN_MEMBER_ID);
        }
        if generation != self.generation {
            return Err(code::ILLEGAL_GENERATION);
        }
        Ok(())
    }

    /// A sign of life.
    pub(crate) fn touch(&mut self, member_id: &str, now: Duration) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.session_ends = now + member.session_timeout;
        }
    }

    /// Whether offsets may be committed: by a member of this generation, or by anybody while there are no members (generation −1).
    pub(crate) fn admit_commit(&self, member_id: &str, instance_id: Option<&str>, generation: i32) -> Result<(), i16> {
        if generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        if self.members.is_empty() && self.generation == 0 {
            return Err(code::ILLEGAL_GENERATION);
        }
        self.admit(member_id, instance_id, generation)?;
        if self.state == State::CompletingRebalance { Err(code::REBALANCE_IN_PROGRESS) } else { Ok(()) }
    }

    /// Takes note of offsets, from a commit or from a transaction that committed.
    pub(crate) fn commit(&mut self, offsets: impl IntoIterator<Item = ((String, i32), Committed)>) {
        for (partition, committed) in offsets {
            let offset = committed.offset;
            let before = self.offsets.insert(partition, committed);
            self.put_back += u64::from(before.is_some_and(|before| before.offset > offset));
        }
    }

    /// Whether a transaction that is still open has an offset for this partition.
    pub(crate) fn is_unstable(&self, topic: &str, partition: i32) -> bool {
        self.pending.values().any(|offsets| offsets.contains_key(&(topic.to_owned(), partition)))
    }

    fn next_timeout(&self) -> Option<Duration> {
        // Those who wait to join or to be assigned are alive while they wait.
        let waits = |member: &&Member| member.joining.is_none() && member.syncing.is_none();
        let sessions = self.members.values().filter(waits).map(|member| member.session_ends).min();
        let delay = (self.state == State::PreparingRebalance && self.all_joined()).then_some(self.not_before);
        let promises = self.promised.values().copied().min();
        [sessions, self.rebalance_ends, delay, promises].into_iter().flatten().min()
    }

    pub(crate) fn all_joined(&self) -> bool {
        self.promised.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    fn expire(&mut self, now: Duration) -> Vec<Answered> {
        let mut answers = Vec::new();
        self.promised.retain(|_, until| *until > now);
        let is_silent = |member: &Member| member.joining.is_none() && member.syncing.is_none() && member.session_ends <= now;
        let silent: BTreeSet<String> = self.members.iter().filter(|(_, member)| is_silent(member)).map(|(id, _)| id.clone()).collect();
        self.expelled += silent.len() as u64;
        for member_id in silent {
            answers.extend(self.remove(now, &member_id));
        }
        answers.extend(self.try_complete(now));
        answers
    }
}

/// All groups, by id.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_id: BTreeMap<String, Group>,
}

impl Groups {
    pub(crate) fn get(&self, group_id: &str) -> Option<&Group> {
        self.by_id.get(group_id)
    }

    pub(crate) fn get_mut(&mut self, group_id: &str) -> Option<&mut Group> {
        self.by_id.get_mut(group_id)
    }

    pub(crate) fn get_or_create(&mut self, group_id: &str) -> &mut Group {
        self.by_id.entry(group_id.to_owned()).or_default()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &Group)> {
        self.by_id.iter()
    }

    pub(crate) fn remove(&mut self, group_id: &str) {
        self.by_id.remove(group_id);
    }
}

impl Cluster {
    /// Whether this broker coordinates the group.
    pub(crate) fn coordinates(&mut self, call: &Call, group_id: &str) -> Result<(), i16> {
        if group_id.is_empty() {
            return Err(code::INVALID_GROUP_ID);
        }
        self.admit_to_seat(call, GROUP, group_id)
    }

    /// Hands out answers that members waited for.
    pub(crate) fn deliver(&mut self, answers: Vec<Answered>) {
        for answer in answers {
            let (call, reply) = match answer {
                Answered::Join(call, response) => {
                    let reply = super::api::join_group::encode(&call, *response);
                    (call, reply)
                }
                Answered::Sync(call, response) => {
                    let reply = super::api::sync_group::encode(&call, response);
                    (call, reply)
                }
            };
            if let Reply::Now(frame) = reply {
                self.complete(&call, frame);
            }
        }
    }

    /// When a group next has something to do by itself: never while its coordinator is dead or frozen.
    pub(crate) fn next_group_timeout(&self) -> Option<Duration> {
        let one = |(id, group): (&String, &Group)| Some(group.next_timeout()?.max(self.acts_from(GROUP, id)?));
        self.groups.by_id.iter().filter_map(one).min()
    }

    pub(crate) fn expire_group_timers(&mut self) {
        let now = self.now;
        let acts = |id: &&String| self.acts_from(GROUP, id).is_some_and(|from| from <= now);
        let acting: Vec<String> = self.groups.by_id.keys().filter(acts).cloned().collect();
        let mut answers = Vec::new();
        for id in acting {
            if let Some(group) = self.groups.get_mut(&id) {
                answers.extend(group.expire(now));
            }
        }
        self.deliver(answers);
    }

    /// What a group committed for a partition.
    pub fn committed(&self, group_id: &str, topic: &str, partition: i32) -> Option<i64> {
        let group = self.groups.get(group_id)?;
        group.offsets.get(&(topic.to_owned(), partition)).map(|committed| committed.offset)
    }

    /// A group's generation; a rebalance that came to its end counts it up.
    pub fn generation(&self, group_id: &str) -> Option<i32> {
        self.groups.get(group_id).map(|group| group.generation)
    }

    /// How many members a group put out: silent for too long, or not back in time for a rebalance.
    pub fn members_expelled(&self, group_id: &str) -> u64 {
        self.groups.get(group_id).map_or(0, |group| group.expelled)
    }

    /// How often a commit put one of a group's offsets back.
    pub fn commits_put_back(&self, group_id: &str) -> u64 {
        self.groups.get(group_id).map_or(0, |group| group.put_back)
    }

    /// A group's state and how many members it has.
    pub fn group_state(&self, group_id: &str) -> Option<(State, usize)> {
        self.groups.get(group_id).map(|group| (group.state, group.members.len()))
    }
}
