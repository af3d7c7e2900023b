//! Runs that were tried, and the rows that they make: those of one Kafka version, client, event and way.
//!
//! Invariant: a run that failed is a row's run all the same; it is never left out.
//! Not here: what is good enough.

use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use super::consumers::judge::GroupVerdict;
use super::events::Event;
use super::judge::Verdict;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A producer under constant load
    #[default]
    Producer,
    /// Two members of a consumer group
    Consumer,
}

/// A table whose rows begin with `Row::head`. `measured`: the other columns, of which the last says what was missed.
pub fn table_of(measured: &[&str]) -> Table {
    let mut table = Table::new();
    let head = ["Kafka", "client", "event", "way", "runs"];
    table.load_preset(presets::ASCII_MARKDOWN).set_header(head.iter().chain(measured));
    for column in table.column_iter_mut().skip(head.len() - 1).take(measured.len()) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// What a client's name is followed by.
pub const NEWER_PROTOCOL: &str = ", newer protocol";

/// One run that was tried.
#[derive(Debug, Deserialize, Serialize)]
pub struct Tried {
    /// What was kept before there were consumers does not say so.
    #[serde(default)]
    pub role: Role,
    pub kafka: String,
    pub client: String,
    /// Told to be idempotent.
    pub idempotent: bool,
    /// Told to use the newer protocol of groups.
    #[serde(default)]
    pub newer_protocol: bool,
    pub event: Event,
    pub way: String,
    /// The verdict, or why there is none.
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Judged(Verdict),
    /// The same for a group.
    Consumed(GroupVerdict),
    Failed(String),
}

impl Tried {
    pub fn name(&self) -> String {
        let idempotent = if self.idempotent { ", idempotent" } else { "" };
        let newer_protocol = if self.newer_protocol { NEWER_PROTOCOL } else { "" };
        format!("{}{idempotent}{newer_protocol}", self.client)
    }
}

/// A row, with the verdicts of one role.
pub struct Row<'a, V> {
    pub first: &'a Tried,
    pub judged: Vec<&'a V>,
    pub failed: usize,
}

/// The middle one and the highest.
pub struct Spread {
    pub median: f64,
    pub worst: f64,
}

pub fn rows<V>(runs: &[Tried], role: Role, verdict: impl Fn(&Outcome) -> Option<&V>) -> Vec<Row<'_, V>> {
    let mut rows: Vec<Row<V>> = Vec::new();
    for run in runs.iter().filter(|run| run.role == role) {
        let same = |row: &&mut Row<V>| {
            let first = row.first;
            (&first.kafka, first.name(), first.event, &first.way) == (&run.kafka, run.name(), run.event, &run.way)
        };
        if rows.iter_mut().find(same).is_none() {
            rows.push(Row { first: run, judged: Vec::new(), failed: 0 });
        }
        let Some(row) = rows.iter_mut().find(same) else { continue };
        match verdict(&run.outcome) {
            Some(verdict) => row.judged.push(verdict),
            None => row.failed += 1,
        }
    }
    rows
}

impl<V> Row<'_, V> {
    pub fn spread(&self, of: impl Fn(&V) -> f64) -> Option<Spread> {
        let mut values: Vec<f64> = self.judged.iter().map(|verdict| of(verdict)).collect();
        values.sort_by(f64::total_cmp);
        let worst = *values.last()?;
        let (lower, upper) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Spread { median: f64::midpoint(lower, upper), worst })
    }

    pub fn sum(&self, of: impl Fn(&V) -> u64) -> u64 {
        self.judged.iter().map(|verdict| of(verdict)).sum()
    }

    /// The first cells of every table: whose runs these are, and how many.
    pub fn head(&self) -> [String; 5] {
        let all = self.judged.len() + self.failed;
        let runs = if self.failed == 0 { all.to_string() } else { format!("{all}, {} failed", self.failed) };
        [self.first.kafka.clone(), self.first.name(), self.first.event.name().to_owned(), self.first.way.clone(), runs]
    }

    /// A cell: median / worst, in whole milliseconds.
    pub fn cell(&self, of: impl Fn(&V) -> f64) -> String {
        self.spread(of).map_or_else(String::new, |spread| format!("{:.0} / {:.0}", spread.median, spread.worst))
    }

    /// Nothing is demanded of a client that is left to itself, but that its runs do not fail.
    pub fn is_direct(&self) -> bool {
        self.first.way == "direct"
    }

    /// Whose miss it is.
    pub fn named(&self, miss: &str) -> String {
        let role = if self.first.role == Role::Consumer { ", consumers" } else { "" };
        format!("Kafka {}, {}{role}, {}: {miss}", self.first.kafka, self.first.name(), self.first.event.name())
    }
}
