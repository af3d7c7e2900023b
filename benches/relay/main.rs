//! What the relay costs: the same load at a stub cluster directly, through Evenkeel, and through HAProxy in TCP mode where that is
//! installed; medians of interleaved rounds.
//!
//!     cargo bench --bench relay
//!     cargo bench --bench relay -- --evenkeel before=/path/to/one --evenkeel after=/path/to/another --only 'depth 32'
//!
//! Absolute values move with the machine; compare within one run. Not here: real brokers and clients, see `real_client`.

mod frames;
mod load;
#[path = "../../tests/real/mod.rs"]
mod real;
mod stub;
#[path = "../usage.rs"]
mod usage;
mod ways;

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use frames::Ask;
use load::{Client, Shape};
use stub::Stub;
use usage::median;
use ways::{Open, Way};

const KB: usize = 1024;
const NEW_CONNECTIONS: usize = 1_000;
const IDLE_CONNECTIONS: usize = 2_000;
const SETTLE: Duration = Duration::from_millis(300);

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each load runs in each round, in milliseconds
    #[arg(long, default_value_t = 1_000)]
    millis: u64,
    /// Only loads whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// NAME=BINARY: compare these builds instead of the one just made
    #[arg(long, value_parser = named_binary)]
    evenkeel: Vec<(String, PathBuf)>,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    bench: bool,
}

fn named_binary(text: &str) -> Result<(String, PathBuf), String> {
    text.split_once('=').map(|(name, path)| (name.to_owned(), path.into())).ok_or_else(|| "not NAME=BINARY".to_owned())
}

struct Load {
    name: &'static str,
    shape: Shape,
    /// What a request moves.
    bytes: usize,
}

fn loads() -> Vec<Load> {
    let load = |name, ask, connections, depth, bytes| Load { name, shape: Shape { ask, connections, depth }, bytes };
    let produce = |version, record_bytes| Ask::Produce { version, record_bytes };
    vec![
        load("produce 1 KB, depth 1", produce(9, KB), 1, 1, KB),
        load("produce 1 KB, depth 32", produce(9, KB), 4, 32, KB),
        // From version 10 on, responses may name brokers and are read.
        load("produce 12 1 KB, depth 32", produce(12, KB), 4, 32, KB),
        load("produce 16 KB", produce(9, 16 * KB), 1, 1, 16 * KB),
        load("produce 100 KB", produce(9, 100 * KB), 1, 1, 100 * KB),
        load("produce 900 KB", produce(9, 900 * KB), 1, 1, 900 * KB),
        load("fetch 1 MB", Ask::Fetch { version: 12 }, 1, 1, KB * KB),
    ]
}

/// One load on one way in one round.
struct Measured {
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_ms_per_thousand: f64,
}

fn measure(load: &Load, way: &Open, lasting: Duration) -> Result<Measured> {
    let cpu = way.cpu();
    let outcome = load::run(&way.addresses, load.shape, lasting).with_context(|| format!("{}, {}", load.name, way.name))?;
    let cpu = way.cpu() - cpu;
    let quantile = |quantile| outcome.latency_ns.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Measured {
        per_second: outcome.per_second(),
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        cpu_ms_per_thousand: cpu.as_secs_f64() * 1e6 / outcome.requests as f64,
    })
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let stub = Stub::start()?;
    let logs = real::install::target().join("bench-relay");
    let mut ways = vec![Way::Direct];
    if arguments.evenkeel.is_empty() {
        ways.push(Way::Evenkeel { name: "Evenkeel".to_owned(), binary: env!("CARGO_BIN_EXE_evenkeel").into() });
    }
    ways.extend(arguments.evenkeel.iter().map(|(name, binary)| Way::Evenkeel { name: name.clone(), binary: binary.clone() }));
    if Way::haproxy_is_installed() {
        ways.push(Way::HaProxy);
    } else {
        println!("HAProxy is not installed, so it is not compared.");
    }
    let open = ways.iter().map(|way| way.open(&stub, &logs)).collect::<Result<Vec<_>>>()?;
    if arguments.only.is_none() {
        connections(&open, &arguments)?;
    }
    relaying(&open, &arguments)
}

fn relaying(ways: &[Open], arguments: &Arguments) -> Result<()> {
    let lasting = Duration::from_millis(arguments.millis);
    let mut table = table(&["load", "way", "per second", "x direct", "MB/s", "p50 us", "p99 us", "CPU ms per 1,000"]);
    for load in loads().iter().filter(|load| arguments.only.as_ref().is_none_or(|only| load.name.contains(only.as_str()))) {
        // One list per way.
        let mut rounds: Vec<Vec<Measured>> = ways.iter().map(|_| Vec::new()).collect();
        for _ in 0..arguments.rounds {
            for (way, measured) in ways.iter().zip(&mut rounds) {
                measured.push(measure(load, way, lasting)?);
            }
        }
        for (way, measured) in ways.iter().zip(&rounds) {
            let of = |value: fn(&Measured) -> f64| median(measured.iter().map(value));
            let direct = rounds.first().into_iter().flatten();
            let ratio = median(measured.iter().zip(direct).map(|(here, direct)| here.per_second / direct.per_second));
            let per_second = of(|measured| measured.per_second);
            let one_at_a_time = load.shape.depth == 1;
            table.add_row([
                load.name.to_owned(),
                way.name.clone(),
                format!("{per_second:.0}"),
                format!("{ratio:.2}"),
                format!("{:.0}", per_second * load.bytes as f64 / 1e6),
                if one_at_a_time { format!("{:.1}", of(|measured| measured.p50_us)) } else { String::new() },
                if one_at_a_time { format!("{:.1}", of(|measured| measured.p99_us)) } else { String::new() },
                if way.has_process() { format!("{:.2}", of(|measured| measured.cpu_ms_per_thousand)) } else { String::new() },
            ]);
        }
    }
    println!("\nMedians of {} interleaved rounds of {lasting:?}; a stub cluster on loopback.\n\n{table}", arguments.rounds);
    Ok(())
}

fn connections(ways: &[Open], arguments: &Arguments) -> Result<()> {
    let ask = Ask::Produce { version: 9, record_bytes: KB };
    let mut memory = Vec::new();
    sleep(SETTLE);
    for way in ways {
        let at_start = way.resident_bytes();
        let mut idle = Vec::new();
        if way.has_process() {
            for index in 0..IDLE_CONNECTIONS {
                let mut client = Client::connect(way.addresses[index % way.addresses.len()], ask)?;
                client.rest();
                idle.push(client);
            }
            sleep(SETTLE);
        }
        let grown = way.resident_bytes().saturating_sub(at_start);
        memory.push((at_start, grown as f64 / IDLE_CONNECTIONS as f64));
    }
    let mut rates: Vec<Vec<f64>> = ways.iter().map(|_| Vec::new()).collect();
    for _ in 0..arguments.rounds {
        for (way, rates) in ways.iter().zip(&mut rates) {
            rates.push(load::connection_rate(&way.addresses, ask, NEW_CONNECTIONS)?);
        }
    }
    let mut table = table(&["way", "first answer ms", "MB at start", "KB per idle connection", "new connections/s", "x direct"]);
    for ((way, (at_start, each)), rates_here) in ways.iter().zip(memory).zip(&rates) {
        let direct = rates.first().into_iter().flatten();
        let ratio = median(rates_here.iter().zip(direct).map(|(here, direct)| here / direct));
        let of_process = |text: String| if way.has_process() { text } else { String::new() };
        table.add_row([
            way.name.clone(),
            of_process(format!("{:.0}", way.first_answer_after.as_secs_f64() * 1e3)),
            of_process(format!("{:.1}", at_start as f64 / 1e6)),
            of_process(format!("{:.1}", each / 1e3)),
            format!("{:.0}", median(rates_here.iter().copied())),
            format!("{ratio:.2}"),
        ]);
    }
    println!(
        "\n{IDLE_CONNECTIONS} idle connections after a request each; {NEW_CONNECTIONS} new ones one by one, with a request each.\n\n{table}"
    );
    Ok(())
}
