//! What a client's program printed, and tables of it.
//!
//! Invariant: a step that a program left out counts as failed.
//! Not here: running the programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::Value;

/// The scenario, in the order of the tables; `tests/clients/README.md` says what each step does.
pub const STEPS: [&str; 18] = [
    "create_topic",
    "produce_none",
    "produce_none_idempotent",
    "produce_gzip",
    "produce_gzip_idempotent",
    "produce_snappy",
    "produce_snappy_idempotent",
    "produce_lz4",
    "produce_lz4_idempotent",
    "produce_zstd",
    "produce_zstd_idempotent",
    "group_rebalance",
    "commit_resume",
    "seek_by_time",
    "transaction",
    "list_groups",
    "describe_cluster",
    "delete_topic",
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepResult {
    Passed,
    Unsupported(String),
    Failed(String),
}

/// One program's run through the scenario.
#[derive(Debug, Default)]
pub struct Outcome {
    pub steps: BTreeMap<String, StepResult>,
    pub told: BTreeSet<String>,
    pub dialled: BTreeSet<String>,
}

impl Outcome {
    /// Takes a program's output; lines that are none of ours are passed over.
    pub fn parse(output: &str) -> Self {
        let mut outcome = Self::default();
        for line in output.lines() {
            let Ok(Value::Object(line)) = serde_json::from_str::<Value>(line) else { continue };
            let text = |key: &str| line.get(key).and_then(Value::as_str).map(str::to_owned);
            let addresses =
                |key: &str| line.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
            if let Some(step) = text("step") {
                let result = match (text("unsupported"), line.get("ok").and_then(Value::as_bool)) {
                    (Some(reason), _) => StepResult::Unsupported(reason),
                    (None, Some(true)) => StepResult::Passed,
                    _ => StepResult::Failed(text("detail").unwrap_or_default()),
                };
                outcome.steps.insert(step, result);
            }
            outcome.told.extend(addresses("told"));
            outcome.dialled.extend(addresses("dialled"));
        }
        outcome
    }

    /// Everything that is wrong, given the steps that the library is known to lack.
    pub fn complaints(&self, lacks: &[&str]) -> Vec<String> {
        let mut complaints: Vec<String> = STEPS
            .into_iter()
            .filter_map(|step| match (self.steps.get(step), lacks.contains(&step)) {
                (Some(StepResult::Passed), false) | (Some(StepResult::Unsupported(_)), true) => None,
                (Some(StepResult::Passed), true) => Some(format!("{step}: passed, but is listed as lacking")),
                (Some(StepResult::Unsupported(reason)), false) => {
                    Some(format!("{step}: unsupported ({reason}), but not listed as lacking"))
                }
                (Some(StepResult::Failed(detail)), _) => Some(format!("{step}: {detail}")),
                (None, _) => Some(format!("{step}: never reported")),
            })
            .collect();
        let others = self.steps.iter().filter(|(step, _)| !STEPS.contains(&step.as_str()));
        complaints.extend(others.map(|(step, result)| format!("{step}: {result:?}")));
        complaints
    }
}

/// Clients by steps.
pub fn table(title: &str, outcomes: &[(String, Outcome)]) -> String {
    let mut text = format!("\n{title}\n\n| step |");
    for (client, _) in outcomes {
        let _ = write!(text, " {client} |");
    }
    let _ = write!(text, "\n|---|{}\n", "---|".repeat(outcomes.len()));
    for step in STEPS {
        let _ = write!(text, "| {step} |");
        for (_, outcome) in outcomes {
            let cell = match outcome.steps.get(step) {
                Some(StepResult::Passed) => "ok",
                Some(StepResult::Unsupported(_)) => "unsupported",
                Some(StepResult::Failed(_)) => "FAILED",
                None => "MISSING",
            };
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}
