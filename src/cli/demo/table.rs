//! The demo's last word in the terminal: one row per departure and way.
//!
//! Invariant: every number that is judged is in it. Deliberately absent: colours, which a pipe would keep.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

use super::judge::Verdict;
use super::story::Chapter;

/// A chapter, and what came of it on both ways.
pub struct Row<'a> {
    pub chapter: &'a Chapter,
    pub direct: &'a Verdict,
    pub proxied: &'a Verdict,
}

pub const HEADINGS: [&str; 9] = ["", "", "max", "p99.9", "p50", "errors", "lost", "duplicated", "reordered"];

pub fn table(rows: &[Row<'_>]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_BORDERS_ONLY_CONDENSED);
    table.set_header(HEADINGS);
    for row in rows {
        table.add_row(cells(row.chapter.scenario.title(), "direct", row.direct));
        table.add_row(cells("", "through Evenkeel", row.proxied));
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

pub fn cells(title: &str, way: &str, verdict: &Verdict) -> [String; 9] {
    let micros = |us: u64| time(Duration::from_micros(us));
    let counts = [verdict.errors, verdict.lost, verdict.duplicated, verdict.reordered].map(|count| count.to_string());
    let [errors, lost, duplicated, reordered] = counts;
    let [max, p999, p50] = [verdict.max_us, verdict.p999_us, verdict.p50_us].map(micros);
    [title.to_owned(), way.to_owned(), max, p999, p50, errors, lost, duplicated, reordered]
}

/// Three digits at most, in the unit that fits.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s >= 9.995 => format!("{s:.1} s"),
        s if s >= 0.9995 => format!("{s:.2} s"),
        s if s >= 0.00995 => format!("{:.0} ms", s * 1e3),
        s => format!("{:.1} ms", s * 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_fits() {
        let shown = [0, 40, 1_240, 9_940, 9_960, 38_000, 999_600, 4_634_000, 12_345_000].map(|us| time(Duration::from_micros(us)));
        assert_eq!(shown, ["0.0 ms", "0.0 ms", "1.2 ms", "9.9 ms", "10 ms", "38 ms", "1.00 s", "4.63 s", "12.3 s"]);
    }
}
