//! What a run was worth: latency beside the probe's, and what became of each record.
//!
//! Invariant: order is judged by each record's first appearance, so that a duplicate alone is no reordering.
//! Not here: what is good enough.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::acks::{Ack, Latencies, Span};

/// What a client's program said at its end.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub acks: Vec<Ack>,
    pub sent: u64,
    /// Records that were given up, and the first reasons.
    pub errors: u64,
    pub reasons: Vec<String>,
}

/// How the topic holds against what the client was told.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Integrity {
    pub sent: u64,
    pub acknowledged: u64,
    pub errors: u64,
    /// Neither acknowledged nor given up when the program ended.
    pub unanswered: u64,
    /// Acknowledged, and not in the topic.
    pub lost: u64,
    /// Appearances beyond the first.
    pub duplicated: u64,
    /// Records that first appear behind a later one of the same partition.
    pub reordered: u64,
}

/// `topic` holds the client's record numbers of each partition in the order of offsets.
pub fn integrity(told: &Told, topic: &BTreeMap<i32, Vec<u64>>) -> Integrity {
    let (mut duplicated, mut reordered) = (0, 0);
    let mut there: HashMap<u64, i32> = HashMap::new();
    for (partition, numbers) in topic {
        let mut highest = None;
        for number in numbers {
            if there.insert(*number, *partition).is_some() {
                duplicated += 1;
                continue;
            }
            if highest.is_some_and(|highest| *number < highest) {
                reordered += 1;
            }
            highest = highest.max(Some(*number));
        }
    }
    let acknowledged: HashSet<u64> = told.acks.iter().map(|ack| ack.number).collect();
    let lost = told.acks.iter().filter(|ack| there.get(&ack.number) != Some(&ack.partition)).count();
    let answered = acknowledged.len() as u64 + told.errors;
    Integrity {
        sent: told.sent,
        acknowledged: acknowledged.len() as u64,
        errors: told.errors,
        unanswered: told.sent.saturating_sub(answered),
        lost: lost as u64,
        duplicated,
        reordered,
    }
}

/// One run, judged.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Verdict {
    /// From one second before the event to ten seconds after.
    pub window: Span,
    pub client: Latencies,
    pub probe: Latencies,
    /// The client's maximum less the probe's.
    pub excess_ms: f64,
    pub integrity: Integrity,
    pub reasons: Vec<String>,
    /// The partition of the client's slowest record, and when that was acknowledged, in milliseconds after the event's start.
    pub slowest: (i32, f64),
}

const BEFORE_MS: f64 = 1_000.0;
const AFTER_MS: f64 = 10_000.0;

/// None if either was silent in the window.
pub fn judge(event: Span, told: &Told, probe: &[Ack], topic: &BTreeMap<i32, Vec<u64>>) -> Option<Verdict> {
    let window = event.wider(BEFORE_MS, AFTER_MS);
    let acks = window.touched_by(&told.acks);
    let client = Latencies::of(&acks)?;
    let probe = Latencies::of(&window.touched_by(probe))?;
    let slowest = acks.iter().max_by(|a, b| a.latency_ms.total_cmp(&b.latency_ms))?;
    Some(Verdict {
        window,
        client,
        probe,
        excess_ms: client.max_ms - probe.max_ms,
        integrity: integrity(told, topic),
        reasons: told.reasons.clone(),
        slowest: (slowest.partition, slowest.at_ms - event.from_ms),
    })
}
