//! What a group was worth in one run: from acknowledgement to delivery, and what became of each record and each member.
//!
//! Invariant: a record is known by where it is. That it may be in the topic twice is nobody's fault but the probe's.
//! Not here: what is good enough.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::departures::acks::{Ack, Latencies, Span};
use crate::departures::probe::Probed;

/// A record that a member was delivered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delivery {
    pub number: u64,
    pub partition: i32,
    pub offset: i64,
    pub at_ms: f64,
}

/// All that a member has from then on.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    pub partitions: Vec<i32>,
    pub at_ms: f64,
    pub member_id: Option<String>,
}

/// What a member's program said.
#[derive(Clone, Debug, Default)]
pub struct Member {
    pub deliveries: Vec<Delivery>,
    pub assignments: Vec<Assignment>,
    /// When its library said that it had lost its place in the group.
    pub lost_at_ms: Vec<f64>,
    /// The errors that it listed, and how many there were.
    pub errors: Vec<(f64, String)>,
    pub errors_told: u64,
    /// Before it was told to stop.
    pub ended: bool,
    pub closed: bool,
}

/// One run, as it was seen.
pub struct Seen<'a> {
    pub event: Span,
    /// Leads, and coordinates the group.
    pub broker: i32,
    pub probed: &'a Probed,
    pub members: &'a [Member],
    /// At the end, by partition.
    pub committed: &'a BTreeMap<i32, i64>,
    /// How often a committed offset was seen to go back.
    pub commits_back: u64,
}

/// All of it since the event's start, but for what was not delivered, committed and closed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct GroupIntegrity {
    pub written: u64,
    /// Acknowledged and never delivered, although a later record of the partition was.
    pub skipped: u64,
    /// Acknowledged, and not delivered by the end.
    pub undelivered: u64,
    /// Deliveries beyond the first.
    pub redelivered: u64,
    /// First deliveries of a record behind a later one of its partition.
    pub reordered: u64,
    /// Assignments of the member that had most of them.
    pub rebalances: u64,
    /// How often a member that had its place lost it: the library said so, or its id became another, or its program ended.
    pub members_lost: u64,
    pub errors: u64,
    /// Partitions whose committed offset is behind a record that nobody was delivered.
    pub committed_beyond: u64,
    pub commits_back: u64,
    /// Delivered records that are not committed, although the group ended in peace.
    pub uncommitted: u64,
    /// Members that could not close.
    pub unclosed: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct GroupVerdict {
    /// From one second before the event to ten seconds after.
    pub window: Span,
    pub broker: i32,
    /// From acknowledgement to delivery.
    pub group: Latencies,
    /// The same for the probe's own readers.
    pub limit: Latencies,
    /// The group's maximum less the limit's.
    pub excess_ms: f64,
    pub integrity: GroupIntegrity,
    pub reasons: Vec<String>,
    /// The slowest record's partition, and when it was delivered, in milliseconds after the event's start.
    pub slowest: (i32, f64),
}

const BEFORE_MS: f64 = 1_000.0;
const AFTER_MS: f64 = 10_000.0;
const REASONS_MAX: usize = 5;

/// None if nothing was delivered or read in the window.
pub fn judge(seen: &Seen<'_>) -> Option<GroupVerdict> {
    let window = seen.event.wider(BEFORE_MS, AFTER_MS);
    let read = seen.probed.reads.iter().map(|read| (read.partition, read.offset, read.at_ms));
    let delivered = in_order(seen.members).into_iter().map(|delivery| (delivery.partition, delivery.offset, delivery.at_ms));
    let limit = Latencies::of(&window.touched_by(&delays(&seen.probed.acks, read)))?;
    let delays = window.touched_by(&delays(&seen.probed.acks, delivered));
    let group = Latencies::of(&delays)?;
    let slowest = delays.iter().max_by(|a, b| a.latency_ms.total_cmp(&b.latency_ms))?;
    let reasons = seen.members.iter().flat_map(|member| &member.errors).filter(|(at_ms, _)| *at_ms >= seen.event.from_ms);
    let mut reasons: Vec<String> = reasons.map(|(_, reason)| reason.clone()).collect();
    let mut known = HashSet::new();
    reasons.retain(|reason| known.insert(reason.clone()));
    reasons.truncate(REASONS_MAX);
    Some(GroupVerdict {
        window,
        broker: seen.broker,
        group,
        limit,
        excess_ms: group.max_ms - limit.max_ms,
        integrity: integrity(seen),
        reasons,
        slowest: (slowest.partition, slowest.at_ms - seen.event.from_ms),
    })
}

/// Each record that was acknowledged and got, with the time between; none where it was got before its writer knew of it.
fn delays(acks: &[Ack], got: impl Iterator<Item = (i32, i64, f64)>) -> Vec<Ack> {
    let mut first: HashMap<(i32, i64), f64> = HashMap::new();
    for (partition, offset, at_ms) in got {
        first.entry((partition, offset)).or_insert(at_ms);
    }
    let delay = |ack: &Ack| {
        let at_ms = *first.get(&(ack.partition, ack.offset?))?;
        Some(Ack { latency_ms: (at_ms - ack.at_ms).max(0.0), at_ms, ..*ack })
    };
    acks.iter().filter_map(delay).collect()
}

/// All members' deliveries by time; each member's own stay in its order.
fn in_order(members: &[Member]) -> Vec<Delivery> {
    let mut all: Vec<Delivery> = members.iter().flat_map(|member| member.deliveries.iter().copied()).collect();
    all.sort_by(|a, b| a.at_ms.total_cmp(&b.at_ms));
    all
}

pub fn integrity(seen: &Seen<'_>) -> GroupIntegrity {
    let since = seen.event.from_ms;
    let deliveries = in_order(seen.members);
    let mut first: HashMap<(i32, i64), u64> = HashMap::new();
    let mut highest: BTreeMap<i32, i64> = BTreeMap::new();
    let (mut redelivered, mut reordered) = (0, 0);
    for delivery in &deliveries {
        let is_late = delivery.at_ms >= since;
        if first.contains_key(&(delivery.partition, delivery.offset)) {
            redelivered += u64::from(is_late);
            continue;
        }
        first.insert((delivery.partition, delivery.offset), delivery.number);
        let highest = highest.entry(delivery.partition).or_insert(delivery.offset);
        reordered += u64::from(is_late && delivery.offset < *highest);
        *highest = delivery.offset.max(*highest);
    }
    let written: Vec<(i32, i64, u64)> = seen.probed.acks.iter().filter_map(|ack| Some((ack.partition, ack.offset?, ack.number))).collect();
    let is_missing = |(partition, offset, number): &&(i32, i64, u64)| first.get(&(*partition, *offset)) != Some(number);
    let is_passed_over = |(partition, offset, _): &&(i32, i64, u64)| highest.get(partition).is_some_and(|highest| offset <= highest);
    let (skipped, undelivered): (Vec<_>, Vec<_>) = written.iter().filter(is_missing).partition(is_passed_over);
    let committed = |partition: i32| seen.committed.get(&partition).copied().unwrap_or(0);
    let is_beyond = |(partition, committed): &(&i32, &i64)| {
        let delivered = highest.get(partition).map_or(0, |highest| highest + 1);
        **committed > delivered || skipped.iter().any(|(of, offset, _)| of == *partition && offset < *committed)
    };
    let members = seen.members;
    GroupIntegrity {
        written: written.len() as u64,
        skipped: skipped.len() as u64,
        undelivered: undelivered.len() as u64,
        redelivered,
        reordered,
        rebalances: members.iter().map(|member| assigned_since(member, since).count() as u64).max().unwrap_or(0),
        members_lost: members.iter().map(|member| lost(member, since)).sum(),
        errors: members.iter().map(|member| errors(member, since)).sum(),
        committed_beyond: seen.committed.iter().filter(is_beyond).count() as u64,
        commits_back: seen.commits_back,
        uncommitted: first.keys().filter(|(partition, offset)| *offset >= committed(*partition)).count() as u64,
        unclosed: members.iter().filter(|member| !member.closed).count() as u64,
    }
}

fn assigned_since(member: &Member, since_ms: f64) -> impl Iterator<Item = &Assignment> {
    member.assignments.iter().filter(move |assignment| assignment.at_ms >= since_ms)
}

/// A library says again and again that it is lost while it is out: that counts once. And one that says so may get another id, too: the two
/// are not counted twice.
fn lost(member: &Member, since_ms: f64) -> u64 {
    let assigned_between =
        |from_ms: f64, to_ms: f64| member.assignments.iter().any(|assignment| assignment.at_ms >= from_ms && assignment.at_ms < to_ms);
    let since = member.lost_at_ms.iter().filter(|at_ms| **at_ms >= since_ms);
    let mut told = 0;
    let mut last = f64::MIN;
    for at_ms in since {
        told += u64::from(assigned_between(last, *at_ms));
        last = *at_ms;
    }
    let before = member.assignments.iter().rev().find(|assignment| assignment.at_ms < since_ms);
    let ids: Vec<&String> =
        before.into_iter().chain(assigned_since(member, since_ms)).filter_map(|assignment| assignment.member_id.as_ref()).collect();
    let changed = ids.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
    told.max(changed) + u64::from(member.ended)
}

/// Those that were not listed came last.
fn errors(member: &Member, since_ms: f64) -> u64 {
    let listed = member.errors.iter().filter(|(at_ms, _)| *at_ms >= since_ms).count();
    listed as u64 + member.errors_told.saturating_sub(member.errors.len() as u64)
}
