//! How a group of the classic protocol gets from one generation to the next.
//!
//! ```text
//! Empty ──join──▶ PreparingRebalance ──all joined, or time is up──▶ CompletingRebalance ──leader syncs──▶ Stable
//!                        ▲                                                  │                               │
//!                        └───────────── join, leave, silence ◀──────────────┴───────────────────────────────┘
//! ```
//!
//! Invariant: a generation begins when all members joined, or those that did not are out. Deliberately not here: static members that keep
//! their assignment over a restart (their return starts a rebalance).

use std::time::Duration;

use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupResponse, SyncGroupRequest, SyncGroupResponse};

use super::api::{Call, text};
use super::code;
use super::group::{Answered, Group, Member, State};

/// A join, as its request says it.
pub(crate) struct Joining {
    pub(crate) member_id: String,
    pub(crate) protocol_type: String,
    pub(crate) member: Member,
}

fn refused(call: Call, member_id: &str, error_code: i16) -> Vec<Answered> {
    let response = JoinGroupResponse::default().with_error_code(error_code).with_generation_id(-1).with_member_id(text(member_id));
    vec![Answered::Join(call, Box::new(response))]
}

impl Group {
    /// A member joins or joins again. `fresh_id` is its id if it has none yet.
    pub(crate) fn join(&mut self, now: Duration, call: Call, joining: Joining, fresh_id: String, initial_delay: Duration) -> Vec<Answered> {
        let Joining { member_id, protocol_type, mut member } = joining;
        let is_static = member.instance_id.is_some();
        let holder = self.members.iter().find(|(_, known)| is_static && known.instance_id == member.instance_id).map(|(id, _)| id.clone());
        let mut answers = Vec::new();
        let member_id = match (member_id.is_empty(), holder) {
            (true, Some(old)) => {
                answers.extend(self.replace(&old));
                fresh_id
            }
            (true, None) if !is_static && call.version >= 4 => {
                // KIP-394: an id first, so that a client that vanishes leaves no ghost.
                self.promised.insert(fresh_id.clone(), now + member.session_timeout);
                return refused(call, &fresh_id, code::MEMBER_ID_REQUIRED);
            }
            (true, None) => fresh_id,
            (false, Some(holder)) if holder != member_id => return refused(call, &member_id, code::FENCED_INSTANCE_ID),
            (false, _) if self.members.contains_key(&member_id) || self.promised.contains_key(&member_id) => member_id,
            (false, _) => return refused(call, &member_id, code::UNKNOWN_MEMBER_ID),
        };
        if !self.is_compatible(&member_id, &protocol_type, &member) {
            answers.extend(refused(call, &member_id, code::INCONSISTENT_GROUP_PROTOCOL));
            return answers;
        }
        self.promised.remove(&member_id);
        let before = self.members.get(&member_id);
        let is_unchanged = before.is_some_and(|before| before.protocols == member.protocols);
        let is_settled = match self.state {
            State::CompletingRebalance => is_unchanged,
            State::Stable => is_unchanged && member_id != self.leader,
            State::Empty | State::PreparingRebalance => false,
        };
        if is_settled {
            // A repeated join of the running generation: an earlier answer was lost.
            self.touch(&member_id, now);
            answers.push(Answered::Join(call, Box::new(self.joined(&member_id))));
            return answers;
        }
        member.assignment = before.map(|before| before.assignment.clone()).unwrap_or_default();
        member.session_ends = now + member.session_timeout;
        member.joining = Some(call);
        self.protocol_type = protocol_type;
        self.members.insert(member_id, member);
        if self.state != State::PreparingRebalance {
            let delay = if self.state == State::Empty { initial_delay } else { Duration::ZERO };
            answers.extend(self.prepare(now, delay));
        }
        answers.extend(self.try_complete(now));
        answers
    }

    /// A static member came back under a new id: the old one is fenced.
    fn replace(&mut self, old: &str) -> Vec<Answered> {
        let Some(member) = self.members.remove(old) else { return Vec::new() };
        let mut answers = Vec::new();
        if let Some(call) = member.joining {
            answers.extend(refused(call, old, code::FENCED_INSTANCE_ID));
        }
        if let Some(call) = member.syncing {
            answers.push(Answered::Sync(call, SyncGroupResponse::default().with_error_code(code::FENCED_INSTANCE_ID)));
        }
        answers
    }

    fn is_compatible(&self, member_id: &str, protocol_type: &str, member: &Member) -> bool {
        let mut others = self.members.iter().filter(|(id, _)| *id != member_id).map(|(_, other)| other).peekable();
        if others.peek().is_none() {
            return !member.protocols.is_empty();
        }
        let others: Vec<&Member> = others.collect();
        let is_common = |name: &String| others.iter().all(|other| other.protocols.iter().any(|(known, _)| known == name));
        self.protocol_type == protocol_type && member.protocols.iter().any(|(name, _)| is_common(name))
    }

    fn prepare(&mut self, now: Duration, delay: Duration) -> Vec<Answered> {
        self.state = State::PreparingRebalance;
        let longest = self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default();
        self.not_before = now + delay;
        self.rebalance_ends = Some(now + longest.max(delay));
        let waiting = self.members.values_mut().filter_map(|member| member.syncing.take());
        let told = |call| Answered::Sync(call, SyncGroupResponse::default().with_error_code(code::REBALANCE_IN_PROGRESS));
        waiting.map(told).collect()
    }

    /// The next generation begins, if everybody is there or time is up.
    pub(crate) fn try_complete(&mut self, now: Duration) -> Vec<Answered> {
        if self.state != State::PreparingRebalance {
            return Vec::new();
        }
        let is_over = self.rebalance_ends.is_some_and(|ends| ends <= now);
        let is_complete = self.all_joined() && self.not_before <= now;
        if !is_over && !is_complete {
            return Vec::new();
        }
        let before = self.members.len();
        self.members.retain(|_, member| member.joining.is_some());
        self.expelled += (before - self.members.len()) as u64;
        self.rebalance_ends = None;
        self.generation += 1;
        if self.members.is_empty() {
            self.state = State::Empty;
            self.store();
            return Vec::new();
        }
        self.state = State::CompletingRebalance;
        if !self.members.contains_key(&self.leader) {
            self.leader = self.members.keys().next().cloned().unwrap_or_default();
        }
        self.protocol = self.elect_protocol();
        let ids: Vec<String> = self.members.keys().cloned().collect();
        let mut answers = Vec::new();
        for member_id in ids {
            let response = self.joined(&member_id);
            let Some(member) = self.members.get_mut(&member_id) else { continue };
            member.session_ends = now + member.session_timeout;
            member.assignment = bytes::Bytes::new();
            if let Some(call) = member.joining.take() {
                answers.push(Answered::Join(call, Box::new(response)));
            }
        }
        answers
    }

    /// Each member votes for the first of its protocols that all have.
    fn elect_protocol(&self) -> String {
        let has = |member: &Member, name: &str| member.protocols.iter().any(|(known, _)| known == name);
        let is_common = |name: &str| self.members.values().all(|member| has(member, name));
        let mut votes: Vec<(String, usize)> = Vec::new();
        for member in self.members.values() {
            let Some((choice, _)) = member.protocols.iter().find(|(name, _)| is_common(name)) else { continue };
            match votes.iter_mut().find(|(name, _)| name == choice) {
                Some((_, count)) => *count += 1,
                None => votes.push((choice.clone(), 1)),
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name).unwrap_or_default()
    }

    fn joined(&self, member_id: &str) -> JoinGroupResponse {
        let mut response = JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_type(Some(text(&self.protocol_type)))
            .with_protocol_name(Some(text(&self.protocol)))
            .with_leader(text(&self.leader))
            .with_member_id(text(member_id));
        if member_id == self.leader {
            let members = self.members.iter().map(|(id, member)| {
                JoinGroupResponseMember::default()
                    .with_member_id(text(id))
                    .with_group_instance_id(member.instance_id.as_deref().map(text))
                    .with_metadata(member.metadata(&self.protocol))
            });
            response.members = members.collect();
        }
        response
    }

    /// A member asks for its assignment; the leader brings everybody's.
    pub(crate) fn sync(&mut self, now: Duration, call: Call, request: &SyncGroupRequest) -> Vec<Answered> {
        let member_id = request.member_id.as_str();
        let told = |call, error_code| vec![Answered::Sync(call, SyncGroupResponse::default().with_error_code(error_code))];
        if let Err(error_code) = self.admit(member_id, request.group_instance_id.as_deref(), request.generation_id) {
            return told(call, error_code);
        }
        self.touch(member_id, now);
        match self.state {
            State::Empty => told(call, code::UNKNOWN_MEMBER_ID),
            State::PreparingRebalance => told(call, code::REBALANCE_IN_PROGRESS),
            State::Stable => {
                let response = self.synced(member_id);
                vec![Answered::Sync(call, response)]
            }
            State::CompletingRebalance => {
                if let Some(member) = self.members.get_mut(member_id) {
                    member.syncing = Some(call);
                }
                if member_id == self.leader { self.assign(now, request) } else { Vec::new() }
            }
        }
    }

    fn assign(&mut self, now: Duration, request: &SyncGroupRequest) -> Vec<Answered> {
        for given in &request.assignments {
            if let Some(member) = self.members.get_mut(given.member_id.as_str()) {
                member.assignment = given.assignment.clone();
            }
        }
        self.state = State::Stable;
        self.store();
        let mut answers = Vec::new();
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for member_id in ids {
            let response = self.synced(&member_id);
            let Some(member) = self.members.get_mut(&member_id) else { continue };
            member.session_ends = now + member.session_timeout;
            if let Some(call) = member.syncing.take() {
                answers.push(Answered::Sync(call, response));
            }
        }
        answers
    }

    fn synced(&self, member_id: &str) -> SyncGroupResponse {
        let assignment = self.members.get(member_id).map(|member| member.assignment.clone()).unwrap_or_default();
        SyncGroupResponse::default()
            .with_protocol_type(Some(text(&self.protocol_type)))
            .with_protocol_name(Some(text(&self.protocol)))
            .with_assignment(assignment)
    }

    /// A member is out: it left, or was silent for too long.
    pub(crate) fn remove(&mut self, now: Duration, member_id: &str) -> Vec<Answered> {
        let mut answers = Vec::new();
        if let Some(member) = self.members.remove(member_id) {
            if let Some(call) = member.joining {
                answers.extend(refused(call, member_id, code::UNKNOWN_MEMBER_ID));
            }
            if let Some(call) = member.syncing {
                answers.push(Answered::Sync(call, SyncGroupResponse::default().with_error_code(code::UNKNOWN_MEMBER_ID)));
            }
        }
        if matches!(self.state, State::Stable | State::CompletingRebalance) {
            answers.extend(self.prepare(now, Duration::ZERO));
        }
        answers.extend(self.try_complete(now));
        answers
    }
}
