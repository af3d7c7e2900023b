//! Runs as a table, and what of it misses what is demanded of the proxy.
//!
//! Invariant: a run that failed is a row's run all the same; it is never left out.
//! Not here: running.

use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use super::events::Event;
use super::judge::Verdict;

/// Those that are idempotent by default: they never write a record twice.
const IDEMPOTENT: &[&str] = &["franz-go-1.15.4", "franz-go-1.17.0", "franz-go-1.22.2", "java-4.4.0"];
/// Sends batches of a partition concurrently, so that it reorders by itself.
const REORDERS: &[&str] = &["kafkajs-2.2.4"];

/// One run that was tried.
#[derive(Debug, Deserialize, Serialize)]
pub struct Tried {
    pub kafka: String,
    pub client: String,
    /// Told to be idempotent.
    pub idempotent: bool,
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
    Failed(String),
}

impl Tried {
    fn name(&self) -> String {
        format!("{}{}", self.client, if self.idempotent { ", idempotent" } else { "" })
    }
}

/// The runs of one Kafka version, client, event and way.
struct Row<'a> {
    first: &'a Tried,
    judged: Vec<&'a Verdict>,
    failed: usize,
}

fn rows(runs: &[Tried]) -> Vec<Row<'_>> {
    let mut rows: Vec<Row> = Vec::new();
    for run in runs {
        let same = |row: &&mut Row| {
            let first = row.first;
            (&first.kafka, first.name(), first.event, &first.way) == (&run.kafka, run.name(), run.event, &run.way)
        };
        if rows.iter_mut().find(same).is_none() {
            rows.push(Row { first: run, judged: Vec::new(), failed: 0 });
        }
        let Some(row) = rows.iter_mut().find(same) else { continue };
        match &run.outcome {
            Outcome::Judged(verdict) => row.judged.push(verdict),
            Outcome::Failed(_) => row.failed += 1,
        }
    }
    rows
}

/// The middle one and the highest.
struct Spread {
    median: f64,
    worst: f64,
}

impl Row<'_> {
    fn spread(&self, of: impl Fn(&Verdict) -> f64) -> Option<Spread> {
        let mut values: Vec<f64> = self.judged.iter().map(|verdict| of(verdict)).collect();
        values.sort_by(f64::total_cmp);
        let worst = *values.last()?;
        let (lower, upper) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Spread { median: f64::midpoint(lower, upper), worst })
    }

    fn sum(&self, of: impl Fn(&Verdict) -> u64) -> u64 {
        self.judged.iter().map(|verdict| of(verdict)).sum()
    }

    fn misses(&self) -> Vec<String> {
        let mut misses = Vec::new();
        if self.failed > 0 {
            misses.push(format!("{} runs failed", self.failed));
        }
        if let Some(excess) = self.spread(|verdict| verdict.excess_ms) {
            let (median_max, worst_max) = excess_limits_ms(self.first.event);
            if median_max.is_some_and(|max| excess.median > max) {
                misses.push("median excess".to_owned());
            }
            if excess.worst > worst_max {
                misses.push("worst excess".to_owned());
            }
        }
        let mut none = |what: &str, count: u64| {
            if count > 0 {
                misses.push(what.to_owned());
            }
        };
        none("errors", self.sum(|verdict| verdict.integrity.errors));
        none("unanswered", self.sum(|verdict| verdict.integrity.unanswered));
        none("lost", self.sum(|verdict| verdict.integrity.lost));
        if self.first.idempotent || IDEMPOTENT.contains(&self.first.client.as_str()) {
            none("duplicated", self.sum(|verdict| verdict.integrity.duplicated));
        }
        if !REORDERS.contains(&self.first.client.as_str()) {
            none("reordered", self.sum(|verdict| verdict.integrity.reordered));
        }
        misses
    }
}

/// What the proxy is held to: the median's and the worst run's excess.
fn excess_limits_ms(event: Event) -> (Option<f64>, f64) {
    match event {
        Event::Drain | Event::Restart => (Some(100.0), 300.0),
        Event::Kill => (Some(300.0), 1_000.0),
        Event::Stop => (None, 1_000.0),
    }
}

/// What misses what is demanded, over all rows that went through the proxy.
pub fn misses(runs: &[Tried]) -> Vec<String> {
    let rows = rows(runs);
    let through = rows.iter().filter(|row| row.first.way != "direct");
    let named = through.flat_map(|row| {
        let name = row.first.name();
        row.misses().into_iter().map(move |miss| format!("Kafka {}, {name}, {}: {miss}", row.first.kafka, row.first.event.name()))
    });
    named.collect()
}

/// Latencies in milliseconds, median / worst over the runs.
pub fn table(runs: &[Tried]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "Kafka",
        "client",
        "event",
        "way",
        "runs",
        "excess ms",
        "max ms",
        "p99.9 ms",
        "p50 ms",
        "probe's max ms",
        "records",
        "errors",
        "unanswered",
        "lost",
        "duplicated",
        "reordered",
        "misses",
    ]);
    for column in table.column_iter_mut().skip(4).take(12) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for row in rows(runs) {
        let first = row.first;
        let spread = |of: fn(&Verdict) -> f64| {
            row.spread(of).map_or_else(String::new, |spread| format!("{:.0} / {:.0}", spread.median, spread.worst))
        };
        let sum = |of: fn(&Verdict) -> u64| row.sum(of).to_string();
        let all = row.judged.len() + row.failed;
        let misses = if first.way == "direct" && row.failed == 0 { String::new() } else { row.misses().join(", ") };
        table.add_row([
            first.kafka.clone(),
            first.name(),
            first.event.name().to_owned(),
            first.way.clone(),
            if row.failed == 0 { all.to_string() } else { format!("{all}, {} failed", row.failed) },
            spread(|verdict| verdict.excess_ms),
            spread(|verdict| verdict.client.max_ms),
            spread(|verdict| verdict.client.p999_ms),
            spread(|verdict| verdict.client.p50_ms),
            spread(|verdict| verdict.probe.max_ms),
            sum(|verdict| verdict.integrity.sent),
            sum(|verdict| verdict.integrity.errors),
            sum(|verdict| verdict.integrity.unanswered),
            sum(|verdict| verdict.integrity.lost),
            sum(|verdict| verdict.integrity.duplicated),
            sum(|verdict| verdict.integrity.reordered),
            misses,
        ]);
    }
    table
}
