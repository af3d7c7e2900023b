//! The wire sequences of `tests/sequences`, many times each, through the proxy and if asked for direct: the worst latencies, in a table.
//!
//!     make sequences ARGS="--runs 100"
//!     make sequences ARGS="--runs 20 --way both --only refused --only stale_leader"
//!
//! Invariant: a run that could not be judged ends the whole thing; no row leaves one out.
//! Not here: what is played and how it is judged; the tests and this share that.

#[path = "../../tests/real/mod.rs"]
mod real;

#[path = "../../tests/sequences/catalogue.rs"]
mod catalogue;
#[path = "../../tests/sequences/client.rs"]
mod client;
#[path = "../../tests/sequences/script.rs"]
mod script;
#[path = "../../tests/sequences/stage.rs"]
mod stage;
#[path = "../../tests/sequences/verdict.rs"]
mod verdict;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use catalogue::{Direct, SEQUENCES, Sequence};
use clap::{Parser, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use real::{install, say};
use stage::{Way, run};
use verdict::Verdict;

/// What a departure may cost beyond the sequence's own window.
const ALLOWANCE: Duration = Duration::from_millis(100);
/// From here on, a latency is the client's metadata interval and no retry.
const STALL: Duration = Duration::from_secs(2);

#[derive(Debug, Parser)]
struct Arguments {
    /// Runs of each sequence
    #[arg(long, default_value_t = 100)]
    runs: usize,
    #[arg(long, value_enum, default_value_t = Ways::Proxy)]
    way: Ways,
    /// Names of sequences; all, if none is given
    #[arg(long)]
    only: Vec<String>,
    /// Runs at the same time; they wait most of the time
    #[arg(long, default_value_t = 2)]
    parallel: usize,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Ways {
    Proxy,
    Direct,
    Both,
}

impl Arguments {
    fn ways(&self) -> Vec<Way> {
        let proxy = Way::Proxy { binary: env!("CARGO_BIN_EXE_evenkeel") };
        match self.way {
            Ways::Proxy => vec![proxy],
            Ways::Direct => vec![Way::Direct],
            Ways::Both => vec![Way::Direct, proxy],
        }
    }

    fn sequences(&self) -> Result<Vec<&'static Sequence>> {
        let names: Vec<&str> = SEQUENCES.iter().map(|sequence| sequence.name).collect();
        if let Some(unknown) = self.only.iter().find(|name| !names.contains(&name.as_str())) {
            bail!("there is no sequence {unknown}, only {}", names.join(", "));
        }
        Ok(SEQUENCES.into_iter().filter(|sequence| self.only.is_empty() || self.only.iter().any(|name| name == sequence.name)).collect())
    }
}

/// All runs of a way, by sequence. Every sequence has its turn before any has its next.
fn play(sequences: &[&'static Sequence], way: Way, arguments: &Arguments) -> Result<Vec<Vec<Verdict>>> {
    let next = AtomicUsize::new(0);
    let total = sequences.len() * arguments.runs;
    let worker = |lane: usize| -> Result<Vec<(usize, Verdict)>> {
        let mut verdicts = Vec::new();
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= total {
                return Ok(verdicts);
            }
            let index = turn % sequences.len();
            match run(sequences[index], way, &format!("bench-{lane}")) {
                Ok((verdict, _)) => verdicts.push((index, verdict)),
                Err(error) => {
                    // The others end too.
                    next.store(total, Ordering::Relaxed);
                    return Err(error);
                }
            }
            if index + 1 == sequences.len() {
                say(&format!("{}: {} of {} rounds", way.name(), turn / sequences.len() + 1, arguments.runs));
            }
        }
    };
    let mut by_sequence = vec![Vec::new(); sequences.len()];
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..arguments.parallel.max(1)).map(|lane| scope.spawn(move || worker(lane))).collect();
        for lane in lanes {
            for (index, verdict) in lane.join().map_err(|_| anyhow!("a run panicked"))?? {
                by_sequence[index].push(verdict);
            }
        }
        Ok(by_sequence)
    })
}

fn milliseconds(latency: Duration) -> String {
    format!("{:.0}", latency.as_secs_f64() * 1e3)
}

fn row(sequence: &Sequence, verdicts: &[Verdict]) -> Vec<String> {
    let mut latencies: Vec<Duration> = verdicts.iter().map(|verdict| verdict.latency_max).collect();
    latencies.sort();
    let over = |limit: Duration| latencies.iter().filter(|latency| **latency > limit).count().to_string();
    let runs = |of: &dyn Fn(&Verdict) -> u64| verdicts.iter().filter(|verdict| of(verdict) > 0).count().to_string();
    let sum = |of: &dyn Fn(&Verdict) -> u64| verdicts.iter().map(of).sum::<u64>().to_string();
    vec![
        sequence.name.to_owned(),
        milliseconds(sequence.window),
        verdicts.len().to_string(),
        milliseconds(latencies.get(latencies.len() / 2).copied().unwrap_or_default()),
        milliseconds(latencies.last().copied().unwrap_or_default()),
        over(sequence.window + ALLOWANCE),
        over(STALL),
        runs(&Verdict::error_count),
        sum(&|verdict| verdict.lost + verdict.unsettled),
        sum(&|verdict| verdict.duplicated),
        sum(&|verdict| verdict.reordered),
    ]
}

fn table(sequences: &[&Sequence], verdicts: &[Vec<Verdict>]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "sequence",
        "window ms",
        "runs",
        "median of the worst ms",
        "worst",
        "runs over window + 100 ms",
        "over 2 s",
        "with errors",
        "records lost",
        "duplicated",
        "reordered",
    ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for (sequence, verdicts) in sequences.iter().zip(verdicts) {
        table.add_row(row(sequence, verdicts));
    }
    table
}

/// Runs through the proxy that broke its promise; direct runs that did not show what they must.
fn failures(sequences: &[&Sequence], verdicts: &[Vec<Verdict>], way: Way) -> Vec<String> {
    let mut failures = Vec::new();
    for (sequence, verdicts) in sequences.iter().zip(verdicts) {
        let is_good = |verdict: &Verdict| match way {
            Way::Proxy { .. } => verdict.latency_max <= sequence.window + ALLOWANCE && verdict.harm().is_empty(),
            Way::Direct => sequence.direct == Direct::Varies || sequence.is_shown_by(verdict),
        };
        let bad = verdicts.iter().filter(|verdict| !is_good(verdict)).count();
        if bad > 0 {
            failures.push(format!("{}, {}: {bad} of {} runs", sequence.name, way.name(), verdicts.len()));
        }
    }
    failures
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let sequences = arguments.sequences()?;
    let mut failures_of_all = Vec::new();
    for way in arguments.ways() {
        let started = Instant::now();
        let verdicts = play(&sequences, way, &arguments)?;
        let through = if way == Way::Direct { "direct" } else { "through Evenkeel" };
        let table = table(&sequences, &verdicts);
        let text = format!("franz-go 1.17.0, {through}: of each run, the record that took longest.\n\n{table}\n");
        let file = install::target().join("sequences").join(format!("{}.md", way.name()));
        fs::create_dir_all(install::target().join("sequences"))?;
        fs::write(&file, &text)?;
        println!("\n{text}");
        say(&format!("{}, after {:.0} s", file.display(), started.elapsed().as_secs_f64()));
        failures_of_all.extend(failures(&sequences, &verdicts, way));
    }
    ensure!(failures_of_all.is_empty(), "not as it should be:\n{}", failures_of_all.join("\n"));
    Ok(())
}
