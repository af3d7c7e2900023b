//! Acknowledged records, and what their latencies say of a stretch of time.
//!
//! Invariant: latency counts from when a record was due, not from when a stuck client got round to it.
//! Not here: whether the records are where they should be, see `readback`.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// One acknowledged record. Its number is its place in the order in which the program sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ack {
    pub number: u64,
    pub partition: i32,
    /// Where it is, if whoever wrote it says so.
    pub offset: Option<i64>,
    pub latency_ms: f64,
    /// When it was acknowledged, in milliseconds since 1970.
    pub at_ms: f64,
}

/// A stretch of time, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Span {
    pub from_ms: f64,
    pub to_ms: f64,
}

impl Span {
    /// The records of which some part of their way fell into it.
    pub fn touched_by(&self, acks: &[Ack]) -> Vec<Ack> {
        acks.iter().copied().filter(|ack| ack.at_ms >= self.from_ms && ack.at_ms - ack.latency_ms <= self.to_ms).collect()
    }

    pub fn wider(&self, before_ms: f64, after_ms: f64) -> Self {
        Self { from_ms: self.from_ms - before_ms, to_ms: self.to_ms + after_ms }
    }
}

/// The milliseconds since 1970.
pub fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Latencies {
    pub records: usize,
    pub p50_ms: f64,
    pub p999_ms: f64,
    pub max_ms: f64,
}

impl Latencies {
    /// None of no records: a client that is silent is not one that is quick.
    pub fn of(acks: &[Ack]) -> Option<Self> {
        let mut latencies: Vec<f64> = acks.iter().map(|ack| ack.latency_ms).collect();
        latencies.sort_by(f64::total_cmp);
        // The smallest value that at least this share does not exceed.
        let at = |share: f64| latencies.get(((latencies.len() as f64 * share).ceil() as usize).saturating_sub(1)).copied();
        Some(Self { records: latencies.len(), p50_ms: at(0.5)?, p999_ms: at(0.999)?, max_ms: latencies.last().copied()? })
    }
}
