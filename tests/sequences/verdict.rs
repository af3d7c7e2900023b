//! What one run of a sequence brought, judged by what the client reported and what lies in the cluster's logs.
//!
//! Invariant: nothing is taken on the client's word alone; an acknowledged record counts only if its log has it.
//! Not here: what is acceptable for which sequence (`catalogue`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::client::{End, Settled};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub sent: u64,
    /// From the call to the acknowledgement or error, of the record for which it took longest.
    pub latency_max: Duration,
    /// Records that the client gave up, by its error.
    pub errors: BTreeMap<String, u64>,
    /// Records that were neither acknowledged nor given up.
    pub unsettled: u64,
    /// Acknowledged, and in no log.
    pub lost: u64,
    /// In the logs more than once, each extra time counted.
    pub duplicated: u64,
    /// Whose first appearance in its partition is behind a later record's.
    pub reordered: u64,
    /// Partitions with an acknowledged record.
    pub partitions: BTreeSet<i32>,
}

impl Verdict {
    /// `logs`: the records of each partition, in order.
    pub fn new(settled: &[Settled], end: End, logs: &[Vec<u64>]) -> Verdict {
        let mut verdict = Verdict { sent: end.sent, unsettled: end.unsettled, ..Verdict::default() };
        let mut seen = BTreeSet::new();
        for log in logs {
            let mut newest = None;
            for record in log {
                if !seen.insert(*record) {
                    verdict.duplicated += 1;
                } else if newest.is_some_and(|newest| newest > *record) {
                    verdict.reordered += 1;
                } else {
                    newest = Some(*record);
                }
            }
        }
        for settled in settled {
            verdict.latency_max = verdict.latency_max.max(Duration::from_micros(settled.latency_us));
            if let Some(error) = &settled.error {
                *verdict.errors.entry(error.clone()).or_default() += 1;
                continue;
            }
            verdict.partitions.insert(settled.partition);
            if !seen.contains(&settled.record) {
                verdict.lost += 1;
            }
        }
        verdict
    }

    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Everything but latency that an idempotent producer may not suffer.
    pub fn harm(&self) -> Vec<String> {
        let mut harm: Vec<String> = self.errors.iter().map(|(error, count)| format!("{count} times: {error}")).collect();
        let counts =
            [(self.unsettled, "unsettled"), (self.lost, "lost"), (self.duplicated, "duplicated"), (self.reordered, "out of order")];
        harm.extend(counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} of {} {what}", self.sent)));
        harm
    }
}
