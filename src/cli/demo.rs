//! `evenkeel demo`: a simulated cluster of three brokers, the proxy before it, and a producer and a consumer through it; in one process,
//! over real sockets of the loopback interface.
//!
//! Invariant: it ends well only if every record that was acknowledged arrived, once and in order, and no client heard of a broker's real
//! address. Deliberately absent: shortcuts; clients, proxy and brokers meet only over TCP.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, anyhow};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::oneshot;

use super::{Outcome, complain, logging};
use crate::config::{Config, Log, LogFormat};
use crate::metrics::Metrics;
use crate::proxy;
use crate::sim::cluster::Options as ClusterOptions;
use crate::sim::load;
use crate::sim::tcp::SimCluster;

const BROKERS: usize = 3;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Exit codes: 0 every record arrived, once and in order, and no broker's real address got out; 1 otherwise.")]
pub struct Args {
    /// How long to produce
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,

    /// Records per second to produce
    #[arg(long, value_name = "RECORDS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,

    /// What the simulated cluster's ids are made from
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// What to log on standard error; what goes wrong is also in the summary
    #[arg(long, value_name = "LEVEL", default_value = "error")]
    log: String,

    /// One JSON object on standard output instead of progress and a table
    #[arg(long)]
    json: bool,
}

/// How the demo went; with `--json`, printed as it is.
#[derive(Debug, Serialize)]
struct Summary {
    ok: bool,
    seconds: u64,
    seed: u64,
    produced: u64,
    acknowledged: u64,
    consumed: u64,
    lost: u64,
    duplicated: u64,
    out_of_order: u64,
    foreign: u64,
    failed: u64,
    retries: u64,
    errors: u64,
    error_samples: Vec<String>,
    /// From the moment at which a record was due to its acknowledgement.
    latency_p50_us: u64,
    latency_p99_us: u64,
    latency_max_us: u64,
    connections: u64,
    request_bytes: u64,
    response_bytes: u64,
    /// Addresses that the clients were told.
    addresses_told: BTreeSet<String>,
    /// Those among them that are not the proxy's.
    addresses_leaked: BTreeSet<String>,
}

pub fn main(args: &Args) -> Outcome {
    match demonstrate(args) {
        Ok(summary) => {
            if args.json {
                println!("{}", serde_json::json!(summary));
            } else {
                println!("{}", table(&summary));
            }
            if summary.ok { Outcome::Done } else { Outcome::Failed }
        }
        Err(error) => {
            complain(&error);
            Outcome::Failed
        }
    }
}

fn demonstrate(args: &Args) -> anyhow::Result<Summary> {
    logging::start(&Log { format: LogFormat::Text, filter: args.log.clone() })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let options = ClusterOptions { seed: args.seed, brokers: i32::try_from(BROKERS)?, ..ClusterOptions::default() };
        let cluster = SimCluster::start(options).await.context("cannot start the simulated cluster")?;
        let summary = through_the_proxy(args, &cluster.bootstrap()).await;
        cluster.shutdown().await;
        summary
    })
}

async fn through_the_proxy(args: &Args, upstream: &str) -> anyhow::Result<Summary> {
    let addresses = free_addresses(BROKERS + 1).context("no free ports")?;
    let config = config(upstream, &addresses)?;
    let metrics = Metrics::new();
    let (stop, stopped) = oneshot::channel::<()>();
    let (start, started) = oneshot::channel();
    let shutdown = async move { drop(stopped.await) };
    let tell = move |_| {
        // Nobody may wait for it any more.
        let _ = start.send(());
    };
    let mut running = tokio::spawn(proxy::run_with(config, metrics.clone(), shutdown, tell));
    tokio::select! {
        ended = &mut running => {
            ended.context("the proxy broke down")?.context("the proxy did not start")?;
            return Err(anyhow!("the proxy ended before it began"));
        }
        begun = started => begun.context("the proxy did not start")?,
    }

    let options = load::Options { records_per_second: args.rate, duration: Duration::from_secs(args.seconds), ..load::Options::default() };
    let bar = progress_bar(args);
    let bootstrap = addresses.first().map(ToString::to_string).unwrap_or_default();
    let report = load::run(&bootstrap, options, |progress| show(&bar, progress)).await;
    bar.finish_and_clear();
    let report = report.context("the load could not begin")?;
    let summary = summarise(args, &report, &addresses, &metrics);

    // The receiver lives as long as the proxy runs.
    let _ = stop.send(());
    running.await.context("the proxy broke down")??;
    Ok(summary)
}

/// Addresses of the loopback interface that were free a moment ago.
fn free_addresses(count: usize) -> std::io::Result<Vec<SocketAddr>> {
    let held = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    held.iter().map(TcpListener::local_addr).collect()
}

fn config(upstream: &str, addresses: &[SocketAddr]) -> anyhow::Result<Config> {
    let (bootstrap, nodes) = addresses.split_first().context("no address to listen on")?;
    let ports: Vec<String> = nodes.iter().enumerate().map(|(node, address)| format!("{node}: {}", address.port())).collect();
    let yaml = format!(
        "upstream: {{bootstrap: '{upstream}'}}\n\
         listen: {{bootstrap: '{bootstrap}', node_ids: [], ports: {{{}}}, overflow_ports: none}}\n\
         admin: {{listen: none}}\n\
         timeouts: {{drain: 5s}}\n",
        ports.join(", ")
    );
    Ok(Config::from_yaml(&yaml, &[])?)
}

fn progress_bar(args: &Args) -> ProgressBar {
    if args.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(args.seconds * u64::from(args.rate)).with_style(style)
}

fn show(bar: &ProgressBar, progress: &load::Progress) {
    bar.set_position(progress.sent);
    bar.set_message(format!(
        "{} acknowledged, {} consumed, worst {}, {} errors",
        progress.acked,
        progress.consumed,
        milliseconds(progress.latency_max_us),
        progress.errors
    ));
}

fn summarise(args: &Args, report: &load::Report, addresses: &[SocketAddr], metrics: &Metrics) -> Summary {
    let own: BTreeSet<String> = addresses.iter().map(ToString::to_string).collect();
    let addresses_leaked: BTreeSet<String> = report.told.difference(&own).cloned().collect();
    Summary {
        ok: report.is_clean() && report.consumed > 0 && addresses_leaked.is_empty(),
        seconds: args.seconds,
        seed: args.seed,
        produced: report.sent,
        acknowledged: report.acked,
        consumed: report.consumed,
        lost: report.lost,
        duplicated: report.duplicated,
        out_of_order: report.reordered,
        foreign: report.foreign,
        failed: report.failed,
        retries: report.retries,
        errors: report.errors,
        error_samples: report.error_samples.clone(),
        latency_p50_us: report.latency.p50_us,
        latency_p99_us: report.latency.p99_us,
        latency_max_us: report.latency.max_us,
        connections: metrics.sessions_total.get(),
        request_bytes: metrics.relayed_bytes.with_label_values(&["request"]).get(),
        response_bytes: metrics.relayed_bytes.with_label_values(&["response"]).get(),
        addresses_told: report.told.clone(),
        addresses_leaked,
    }
}

fn table(summary: &Summary) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_BORDERS_ONLY_CONDENSED);
    let verdict = if summary.ok { "every record arrived, once and in order" } else { "FAILED" };
    let bytes = |bytes| bytesize::ByteSize(bytes).display().iec().to_string();
    let mut rows = vec![
        ("verdict", verdict.to_owned()),
        ("records produced", summary.produced.to_string()),
        ("acknowledged", summary.acknowledged.to_string()),
        ("consumed", summary.consumed.to_string()),
        ("lost", summary.lost.to_string()),
        ("duplicated", summary.duplicated.to_string()),
        ("out of order", summary.out_of_order.to_string()),
        ("not acknowledged", summary.failed.to_string()),
        ("errors that clients saw", summary.errors.to_string()),
        ("latency, half of them", milliseconds(summary.latency_p50_us)),
        ("latency, 99 in 100", milliseconds(summary.latency_p99_us)),
        ("latency, the worst", milliseconds(summary.latency_max_us)),
        ("client connections", summary.connections.to_string()),
        ("through the proxy to brokers", bytes(summary.request_bytes)),
        ("through the proxy to clients", bytes(summary.response_bytes)),
        ("addresses that clients were told", summary.addresses_told.iter().cloned().collect::<Vec<_>>().join(", ")),
    ];
    if !summary.addresses_leaked.is_empty() {
        rows.push(("of these not the proxy's", summary.addresses_leaked.iter().cloned().collect::<Vec<_>>().join(", ")));
    }
    rows.extend(summary.error_samples.iter().map(|sample| ("error", sample.clone())));
    for (what, value) in rows {
        table.add_row([what.to_owned(), value]);
    }
    if let Some(values) = table.column_mut(1) {
        values.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:03} ms", microseconds / 1000, microseconds % 1000)
}
