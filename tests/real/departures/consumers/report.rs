//! Consumers' runs as a table, and what of it misses what is demanded of the proxy.
//!
//! Invariant: what no client can help is judged beside the same client's direct runs, where there are any; else it is not to be at all.
//! Not here: running.

use comfy_table::Table;

use super::judge::GroupVerdict;
use crate::departures::events::Event;
use crate::departures::tried::{Outcome, Role, Row, Tried, rows, table_of};

type GroupRow<'a> = Row<'a, GroupVerdict>;
type Count = fn(&GroupVerdict) -> u64;

fn groups(runs: &[Tried]) -> Vec<GroupRow<'_>> {
    rows(runs, Role::Consumer, |outcome| match outcome {
        Outcome::Consumed(verdict) => Some(verdict),
        _ => None,
    })
}

/// The worst run of a count.
fn worst(row: &GroupRow, of: Count) -> u64 {
    row.judged.iter().map(|verdict| of(verdict)).max().unwrap_or(0)
}

/// Whether the worst run is slower than the proxy is held to. A planned departure is to be no event at all; of a crash, the time without a
/// leader is the cluster's.
fn is_slow(row: &GroupRow) -> bool {
    let (of, max_ms): (fn(&GroupVerdict) -> f64, f64) = match row.first.event {
        Event::Drain | Event::Restart => (|verdict| verdict.group.max_ms, 300.0),
        Event::Kill => (|verdict| verdict.excess_ms, 500.0),
        Event::Stop => (|verdict| verdict.excess_ms, 1_000.0),
    };
    row.spread(of).is_some_and(|spread| spread.worst > max_ms)
}

fn misses_of(row: &GroupRow, direct: Option<&GroupRow>) -> Vec<String> {
    let mut misses = Vec::new();
    if row.failed > 0 {
        misses.push(format!("{} runs failed", row.failed));
    }
    if is_slow(row) {
        misses.push("worst delay".to_owned());
    }
    let none: [(&str, Count); 8] = [
        ("skipped", |verdict| verdict.integrity.skipped),
        ("undelivered", |verdict| verdict.integrity.undelivered),
        ("reordered", |verdict| verdict.integrity.reordered),
        ("members lost", |verdict| verdict.integrity.members_lost),
        ("errors", |verdict| verdict.integrity.errors),
        ("committed beyond", |verdict| verdict.integrity.committed_beyond),
        ("commits back", |verdict| verdict.integrity.commits_back),
        ("unclosed", |verdict| verdict.integrity.unclosed),
    ];
    misses.extend(none.iter().filter(|(_, of)| row.sum(of) > 0).map(|(what, _)| (*what).to_owned()));
    let no_more_than_direct: [(&str, Count); 3] = [
        ("rebalances", |verdict| verdict.integrity.rebalances),
        ("redelivered", |verdict| verdict.integrity.redelivered),
        ("uncommitted", |verdict| verdict.integrity.uncommitted),
    ];
    for (what, of) in no_more_than_direct {
        if worst(row, of) > direct.map_or(0, |direct| worst(direct, of)) {
            misses.push(what.to_owned());
        }
    }
    misses
}

fn direct_of<'a, 'b>(row: &GroupRow, direct: &'b [GroupRow<'a>]) -> Option<&'b GroupRow<'a>> {
    let first = row.first;
    direct.iter().find(|other| {
        let other = other.first;
        other.way == "direct" && (&other.kafka, other.name(), other.event) == (&first.kafka, first.name(), first.event)
    })
}

/// What misses what is demanded, over all rows that went through the proxy; `kept` are all runs that there are.
pub fn misses(runs: &[Tried], kept: &[Tried]) -> Vec<String> {
    let (rows, direct) = (groups(runs), groups(kept));
    let through = rows.iter().filter(|row| !row.is_direct());
    through.flat_map(|row| misses_of(row, direct_of(row, &direct)).into_iter().map(|miss| row.named(&miss))).collect()
}

/// Delays in milliseconds, median / worst over the runs; counts over all runs.
pub fn table(runs: &[Tried], kept: &[Tried]) -> Table {
    let mut table = table_of(&[
        "excess ms",
        "max ms",
        "p99.9 ms",
        "p50 ms",
        "limit's max ms",
        "records",
        "skipped",
        "undelivered",
        "redelivered",
        "reordered",
        "rebalances",
        "members lost",
        "errors",
        "committed beyond",
        "commits back",
        "uncommitted",
        "misses",
    ]);
    let direct = groups(kept);
    for row in groups(runs) {
        let sum = |of: fn(&GroupVerdict) -> u64| row.sum(of).to_string();
        let misses = if row.is_direct() && row.failed == 0 { String::new() } else { misses_of(&row, direct_of(&row, &direct)).join(", ") };
        let measured = [
            row.cell(|verdict| verdict.excess_ms),
            row.cell(|verdict| verdict.group.max_ms),
            row.cell(|verdict| verdict.group.p999_ms),
            row.cell(|verdict| verdict.group.p50_ms),
            row.cell(|verdict| verdict.limit.max_ms),
            sum(|verdict| verdict.integrity.written),
            sum(|verdict| verdict.integrity.skipped),
            sum(|verdict| verdict.integrity.undelivered),
            sum(|verdict| verdict.integrity.redelivered),
            sum(|verdict| verdict.integrity.reordered),
            sum(|verdict| verdict.integrity.rebalances),
            sum(|verdict| verdict.integrity.members_lost),
            sum(|verdict| verdict.integrity.errors),
            sum(|verdict| verdict.integrity.committed_beyond),
            sum(|verdict| verdict.integrity.commits_back),
            sum(|verdict| verdict.integrity.uncommitted),
            misses,
        ];
        table.add_row(row.head().into_iter().chain(measured));
    }
    table
}
