//! What a history is made of, rolled before it begins: topology, bounds, clients, and when something happens.
//!
//! Invariant: from `heals_at` on nothing goes wrong any more. Deliberately absent: what happens; that is rolled when its time comes.

use std::time::Duration;

use super::dice::Dice;
use crate::session::{Ambiguous, Detours, Limits};
use crate::sim::profile::Profile;

/// Microseconds since the history's start.
pub type Time = u64;
pub const MS: Time = 1_000;
pub const S: Time = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Idempotent,
    Transactional,
}

#[derive(Clone, Debug)]
pub struct ClientPlan {
    pub kind: Kind,
    pub acks: i16,
    pub produce_version: i16,
    pub metadata_version: i16,
    /// Requests in flight per connection.
    pub depth: usize,
    pub lanes_per_request: usize,
    pub timeout_ms: i32,
    pub batches_per_lane: usize,
    /// The longest pause between two batches.
    pub pause: Time,
    /// Of its first batches, so many percent go to a broker that it only guesses to be the leader.
    pub guesses_percent: u32,
    pub asks_versions: bool,
    /// It does not read a connection for a while, now and then.
    pub dozes: bool,
    /// It goes on over another connection while one has something unanswered that is on the move.
    pub replaces: bool,
    pub record_bytes: usize,
}

pub struct Plan {
    pub brokers: i32,
    pub partitions: i32,
    pub profiles: Vec<Profile>,
    pub replication_factor: i16,
    pub detours: Detours,
    pub limits: Limits,
    pub gate_bytes: usize,
    pub clients: Vec<ClientPlan>,
    pub faults_at: Vec<Time>,
    pub heals_at: Time,
    /// The longest way of a byte between two processes.
    pub latency: Time,
    pub refresh_interval: Time,
}

impl Plan {
    pub fn roll(dice: &mut Dice) -> Plan {
        let brokers = dice.between(2, 5) as i32;
        let mixed = dice.chance(15);
        let generation = if dice.chance(30) { Profile::V3_6 } else { Profile::V4 };
        let profiles: Vec<Profile> = (0..brokers)
            .map(|_| match mixed && dice.chance(50) {
                true if generation == Profile::V4 => Profile::V3_6,
                true => Profile::V4,
                false => generation,
            })
            .collect();
        let newest = if profiles.contains(&Profile::V3_6) { 9 } else { 13 };
        let window = *[20 * MS, 100 * MS, 500 * MS, 2 * S].get(dice.below(4)).unwrap_or(&S);
        let heals_at = window + dice.between(50 * MS, 2 * S);
        let faults = dice.between(1, 7) as usize;
        let mut faults_at: Vec<Time> = (0..faults).map(|_| 5 * MS + dice.between(0, window)).collect();
        faults_at.sort_unstable();
        let clients = dice.between(1, 3) as usize;
        let ms = |from: u64, to: u64, dice: &mut Dice| Duration::from_millis(dice.between(from, to));
        let is_tight = dice.chance(10);
        Plan {
            brokers,
            partitions: dice.between(1, 6) as i32,
            replication_factor: dice.between(2, 3) as i16,
            detours: Detours {
                // Less than any client's patience: before, nobody looks at what goes the fast way.
                suspect_after: ms(100, 600, dice),
                backoff_min: ms(2, 20, dice),
                backoff_max: ms(50, 500, dice),
                hold_mixed: ms(100, 1000, dice),
                linger: if dice.chance(50) { ms(20, 400, dice) } else { ms(1000, 30_000, dice) },
                metadata_hold: if dice.chance(20) { Duration::ZERO } else { ms(10, 500, dice) },
                passing: ms(100, 1000, dice),
                ambiguous: if dice.chance(90) { Ambiguous::Resend } else { Ambiguous::Fail },
                patience: None,
            },
            limits: Limits {
                max_slots: if is_tight { dice.between(1, 4) as usize } else { 1024 },
                max_parked_bytes: 64 * 1024,
                max_rewrite_bytes: 1 << 20,
                max_request_bytes: 1 << 20,
                max_response_bytes: 1 << 20,
                max_head_bytes: 4096,
                max_kept_bytes: if is_tight { dice.between(100, 2000) as usize } else { 1 << 24 },
            },
            gate_bytes: if is_tight && dice.chance(50) { dice.between(100, 4000) as usize } else { 1 << 28 },
            clients: (0..clients).map(|_| ClientPlan::roll(dice, newest, window)).collect(),
            faults_at,
            heals_at,
            latency: *[200, MS, 3 * MS].get(dice.below(3)).unwrap_or(&MS),
            refresh_interval: dice.between(5, 50) * MS,
            profiles,
        }
    }
}

impl ClientPlan {
    fn roll(dice: &mut Dice, newest: i16, window: Time) -> ClientPlan {
        let kind = match dice.below(100) {
            0..50 => Kind::Idempotent,
            50..80 => Kind::Plain,
            _ => Kind::Transactional,
        };
        let acks = match kind {
            Kind::Plain if dice.chance(15) => 0,
            Kind::Plain if dice.chance(40) => 1,
            _ => -1,
        };
        let newest = if kind == Kind::Transactional { newest.min(11) } else { newest };
        let versions: Vec<i16> = [3, 7, 8, 9, 10, 11, 12, 13].into_iter().filter(|version| *version <= newest).collect();
        let batches_per_lane = dice.between(2, 10) as usize;
        ClientPlan {
            kind,
            acks,
            produce_version: dice.pick(&versions).unwrap_or(9),
            metadata_version: dice.pick(&[1, 5, 7, 9, 12]).unwrap_or(9),
            depth: if kind == Kind::Transactional { 1 } else { dice.between(1, 5) as usize },
            lanes_per_request: dice.between(1, 6) as usize,
            // Shorter ones are not held to (`produce::patience`).
            timeout_ms: dice.between(1200, 6000) as i32,
            batches_per_lane,
            pause: (2 * window / batches_per_lane as u64).clamp(MS, 400 * MS),
            guesses_percent: if dice.chance(25) { 30 } else { 0 },
            asks_versions: dice.chance(50),
            dozes: dice.chance(20),
            replaces: kind == Kind::Idempotent && dice.chance(40),
            record_bytes: dice.between(0, 120) as usize,
        }
    }
}
