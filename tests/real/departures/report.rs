//! Producers' runs as a table, and what of it misses what is demanded of the proxy.
//!
//! Invariant: a run that failed is a row's run all the same; it is never left out.
//! Not here: running.

use comfy_table::Table;

use super::events::Event;
use super::judge::Verdict;
use super::tried::{Outcome, Role, Row, Tried, rows, table_of};

/// Those that are idempotent by default: they never write a record twice.
const IDEMPOTENT: &[&str] = &["franz-go-1.15.4", "franz-go-1.17.0", "franz-go-1.22.2", "java-4.4.0"];
/// Sends batches of a partition concurrently, so that it reorders by itself.
const REORDERS: &[&str] = &["kafkajs-2.2.4"];

fn misses_of(row: &Row<'_, Verdict>) -> Vec<String> {
    let mut misses = Vec::new();
    if row.failed > 0 {
        misses.push(format!("{} runs failed", row.failed));
    }
    if let Some(excess) = row.spread(|verdict| verdict.excess_ms) {
        let (median_max, worst_max) = excess_limits_ms(row.first.event);
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
    none("errors", row.sum(|verdict| verdict.integrity.errors));
    none("unanswered", row.sum(|verdict| verdict.integrity.unanswered));
    none("lost", row.sum(|verdict| verdict.integrity.lost));
    if row.first.idempotent || IDEMPOTENT.contains(&row.first.client.as_str()) {
        none("duplicated", row.sum(|verdict| verdict.integrity.duplicated));
    }
    if !REORDERS.contains(&row.first.client.as_str()) {
        none("reordered", row.sum(|verdict| verdict.integrity.reordered));
    }
    misses
}

/// What the proxy is held to: the median's and the worst run's excess.
fn excess_limits_ms(event: Event) -> (Option<f64>, f64) {
    match event {
        Event::Drain | Event::Restart => (Some(100.0), 300.0),
        Event::Kill => (Some(300.0), 1_000.0),
        Event::Stop => (None, 1_000.0),
    }
}

fn producers(runs: &[Tried]) -> Vec<Row<'_, Verdict>> {
    rows(runs, Role::Producer, |outcome| match outcome {
        Outcome::Judged(verdict) => Some(verdict),
        _ => None,
    })
}

/// What misses what is demanded, over all rows that went through the proxy.
pub fn misses(runs: &[Tried]) -> Vec<String> {
    let rows = producers(runs);
    let through = rows.iter().filter(|row| !row.is_direct());
    through.flat_map(|row| misses_of(row).into_iter().map(|miss| row.named(&miss))).collect()
}

/// Latencies in milliseconds, median / worst over the runs.
pub fn table(runs: &[Tried]) -> Table {
    let mut table = table_of(&[
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
    for row in producers(runs) {
        let sum = |of: fn(&Verdict) -> u64| row.sum(of).to_string();
        let misses = if row.is_direct() && row.failed == 0 { String::new() } else { misses_of(&row).join(", ") };
        let measured = [
            row.cell(|verdict| verdict.excess_ms),
            row.cell(|verdict| verdict.client.max_ms),
            row.cell(|verdict| verdict.client.p999_ms),
            row.cell(|verdict| verdict.client.p50_ms),
            row.cell(|verdict| verdict.probe.max_ms),
            sum(|verdict| verdict.integrity.sent),
            sum(|verdict| verdict.integrity.errors),
            sum(|verdict| verdict.integrity.unanswered),
            sum(|verdict| verdict.integrity.lost),
            sum(|verdict| verdict.integrity.duplicated),
            sum(|verdict| verdict.integrity.reordered),
            misses,
        ];
        table.add_row(row.head().into_iter().chain(measured));
    }
    table
}
