//! One real client's produce and fetch against a real Kafka, directly and through Evenkeel, interleaved.
//!
//!     cargo bench --bench real_client
//!
//! The client is franz-go with its defaults (idempotent, acks from all), 1 KB records, three brokers with three replicas.
//! Invariant: each round has a topic of its own, and both ways take turns at being first.
//! Not here: departures of brokers; what a busy proxy costs at most, see `relay`.

#[path = "../../tests/real/mod.rs"]
mod real;
#[path = "../usage.rs"]
mod usage;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use real::kafka::{RealKafka, RequestLog};
use real::proxy::Proxy;
use real::{install, say};
use serde::Deserialize;
use usage::median;

const KAFKA: &str = "4.4.0";
const BROKERS: u16 = 3;
const RECORD_BYTES: f64 = 1024.0;

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Records per second of the paced run
    #[arg(long, default_value_t = 2_000)]
    rate: u64,
    /// Seconds of the paced run
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Records of the runs that go as fast as they can
    #[arg(long, default_value_t = 100_000)]
    records: u64,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the client prints.
#[derive(Debug, Deserialize)]
struct Outcome {
    seconds: f64,
    records: u64,
    out_of_order: u64,
    acked: Option<Spread>,
    end_to_end: Option<Spread>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Spread {
    p50_ms: f64,
    p99_ms: f64,
}

/// One step of one round.
struct Measured {
    outcome: Outcome,
    proxy_cpu: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Evenkeel,
}

/// In this order; `create` and `delete` are around them.
const STEPS: [(&str, &str); 3] = [("paced", "paced produce and consume"), ("produce", "produce"), ("fetch", "fetch")];
const WAYS: [(Way, &str); 2] = [(Way::Direct, "direct"), (Way::Evenkeel, "Evenkeel")];

struct Bench {
    client: std::path::PathBuf,
    kafka: RealKafka,
    proxy: Proxy,
    arguments: Arguments,
}

impl Bench {
    fn start(arguments: Arguments) -> Result<Bench> {
        let sources = install::root().join("tests/clients/franz-go-bench");
        let client = install::go_program(&sources, "go.mod", &install::target().join("clients/franz-go-bench"))?;
        say(&format!("starting Kafka {KAFKA} with {BROKERS} brokers"));
        let kafka = RealKafka::start_with(KAFKA, BROKERS, RequestLog::Off)?;
        let log = install::target().join("bench-real-client/evenkeel.log");
        let proxy = Proxy::start(env!("CARGO_BIN_EXE_evenkeel"), &kafka.bootstrap(), &log)?;
        Ok(Bench { client, kafka, proxy, arguments })
    }

    fn step(&self, way: Way, step: &str, topic: &str) -> Result<Measured> {
        let bootstrap = if way == Way::Direct { self.kafka.bootstrap() } else { self.proxy.bootstrap() };
        let paced = self.arguments.rate * self.arguments.seconds;
        let (records, rate) = if step == "paced" { (paced, self.arguments.rate) } else { (self.arguments.records, 0) };
        let cpu = usage::cpu(&self.proxy.pids(), "evenkeel");
        let output = Command::new(&self.client)
            .args([&bootstrap, step, topic, &records.to_string(), &rate.to_string()])
            .output()
            .with_context(|| format!("running {}", Path::new(&self.client).display()))?;
        let proxy_cpu = usage::cpu(&self.proxy.pids(), "evenkeel") - cpu;
        if !output.status.success() {
            bail!("{step}: {}\n{}{}", String::from_utf8_lossy(&output.stderr), self.proxy.log_tail(), self.kafka.log_tails());
        }
        let outcome: Outcome = serde_json::from_slice(&output.stdout)?;
        ensure!(outcome.out_of_order == 0, "{step}: {} records came out of order", outcome.out_of_order);
        Ok(Measured { outcome, proxy_cpu })
    }

    /// One way's steps, in the order of `STEPS`.
    fn round(&self, way: Way, topic: &str) -> Result<Vec<Measured>> {
        self.step(way, "create", topic)?;
        let measured = STEPS.iter().map(|(step, _)| self.step(way, step, topic)).collect();
        self.step(way, "delete", topic)?;
        measured
    }

    fn run(&self) -> Result<[Vec<Vec<Measured>>; 2]> {
        say("warming up");
        for (way, name) in WAYS {
            self.round(way, &format!("warm-up-{name}"))?;
        }
        let mut rounds = [Vec::new(), Vec::new()];
        for round in 0..self.arguments.rounds {
            for turn in 0..WAYS.len() {
                let index = (round + turn) % WAYS.len();
                let (way, name) = WAYS[index];
                say(&format!("round {} of {}, {name}", round + 1, self.arguments.rounds));
                rounds[index].push(self.round(way, &format!("round-{round}-{name}"))?);
            }
        }
        Ok(rounds)
    }
}

fn table(rounds: &[Vec<Vec<Measured>>; 2]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "step",
        "way",
        "records/s",
        "MB/s",
        "acked p50 ms",
        "p99",
        "end to end p50 ms",
        "p99",
        "proxy CPU ms per 1,000 records",
        "proxy CPU, % of a core",
    ]);
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for (index, (_, step)) in STEPS.iter().enumerate() {
        for ((way, name), rounds) in WAYS.iter().zip(rounds) {
            let of = |value: &dyn Fn(&Measured) -> Option<f64>| {
                let values: Vec<f64> = rounds.iter().filter_map(|round| value(round.get(index)?)).collect();
                (!values.is_empty()).then(|| median(values))
            };
            let text = |value: Option<f64>, digits: usize| value.map_or_else(String::new, |value| format!("{value:.digits$}"));
            let per_second = of(&|measured| Some(measured.outcome.records as f64 / measured.outcome.seconds));
            let cpu = |of_what: fn(&Outcome) -> f64| {
                let value = of(&|measured| Some(measured.proxy_cpu.as_secs_f64() / of_what(&measured.outcome)));
                value.filter(|_| *way == Way::Evenkeel)
            };
            table.add_row([
                (*step).to_owned(),
                (*name).to_owned(),
                text(per_second, 0),
                text(per_second.map(|per_second| per_second * RECORD_BYTES / 1e6), 1),
                text(of(&|measured| Some(measured.outcome.acked?.p50_ms)), 2),
                text(of(&|measured| Some(measured.outcome.acked?.p99_ms)), 2),
                text(of(&|measured| Some(measured.outcome.end_to_end?.p50_ms)), 2),
                text(of(&|measured| Some(measured.outcome.end_to_end?.p99_ms)), 2),
                text(cpu(|outcome| outcome.records as f64 / 1e6), 2),
                text(cpu(|outcome| outcome.seconds / 100.0), 1),
            ]);
        }
    }
    table
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let rounds = arguments.rounds;
    let bench = Bench::start(arguments)?;
    let table = table(&bench.run()?);
    println!("\nfranz-go 1.17.0 at Kafka {KAFKA}, {BROKERS} brokers; medians of {rounds} interleaved rounds.\n\n{table}");
    bench.proxy.stop()
}
