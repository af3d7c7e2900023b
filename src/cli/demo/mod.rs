//! `evenkeel demo`: brokers leave a simulated cluster, and a client that cannot be changed feels it, or not: once straight, once through
//! the proxy; in one process, over real sockets of the loopback interface.
//!
//! Invariant: it ends well only if, through the proxy, every acknowledged record lies in the log once and in order, and the client heard
//! of no broker's real address. Deliberately absent: shortcuts; what the proxy cannot do shows.

mod judge;
mod page;
mod picture;
mod progress;
mod story;
mod table;
mod ways;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use tokio::time::Instant;

use self::judge::{Verdict, judge};
use self::progress::Lines;
use self::story::{Chapter, Scenario};
use self::table::Row;
use self::ways::{Relayed, Travelled, Way};
use super::{Outcome, complain, logging};
use crate::config::{Log, LogFormat};
use crate::sim::client::legacy::load::Options;
use crate::sim::cluster::Options as ClusterOptions;
use crate::sim::profile::Profile;

const DEFAULT_PAGE: &str = "evenkeel-demo.html";

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The client is a model: the producer of franz-go (kgo) 1.17.0 by its rules (idempotent, acks=all, metadata at most every 5 s, and so on). \
The clusters are simulated, with Kafka's wire format over real sockets. The session timeout after which a dead broker is given up is 2 s \
here; Kafka's default is 9 s.

Exit codes: 0 if, through Evenkeel, no acknowledged record was lost, duplicated or reordered and no broker's real address got out; \
1 otherwise; 2 a wrong command line.")]
pub struct Args {
    /// Which departure to show
    #[arg(long, value_enum, default_value_t = Choice::All)]
    scenario: Choice,

    /// Records per second to produce
    #[arg(long, value_name = "RECORDS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,

    /// Which Kafka release's versions the brokers serve: from 3.7 on refusals name the new leader, which helps this client
    #[arg(long, value_enum, default_value_t = Release::V3_6)]
    kafka: Release,

    /// What the clusters' ids and the client's jitter are made from
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Where to write the picture and the table as a page of its own; `none` for nowhere [default: evenkeel-demo.html, with --json none]
    #[arg(long, value_name = "PATH")]
    html: Option<PathBuf>,

    /// Where to write the picture alone, as SVG
    #[arg(long, value_name = "PATH")]
    svg: Option<PathBuf>,

    /// What to log on standard error
    #[arg(long, value_name = "LEVEL", default_value = "error")]
    log: String,

    /// One JSON object on standard output instead of progress and a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Choice {
    /// Scale-in, restart and crash, one after the other
    All,
    /// A broker's leaders are moved away one by one, then it is removed
    ScaleIn,
    /// A broker hands its leaders over, stops, comes back, and leads again
    Restart,
    /// A broker's process dies; the cluster finds out after its session timeout
    Crash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Release {
    #[value(name = "3.6")]
    V3_6,
    #[value(name = "4.1")]
    V4,
}

/// How the demo went; with `--json`, printed as it is.
#[derive(Debug, Serialize)]
struct Summary {
    ok: bool,
    client: &'static str,
    rate: u32,
    seed: u64,
    scenarios: Vec<Told>,
    /// Records in either log that nobody sent.
    foreign: u64,
    /// Refusals and lost connections that the client met, whether or not it overcame them.
    direct_failures: u64,
    proxied_failures: u64,
    relayed: Option<Relayed>,
}

#[derive(Debug, Serialize)]
struct Told {
    scenario: Scenario,
    leaderless_ms: u64,
    direct: Verdict,
    proxied: Verdict,
}

/// All that a picture or a table is made from.
struct Performance {
    chapters: Vec<Chapter>,
    direct: Travelled,
    proxied: Travelled,
    summary: Summary,
    rate: u32,
}

pub fn main(args: &Args) -> Outcome {
    let told = perform(args).and_then(|performance| tell(args, &performance).map(|()| performance.summary.ok));
    match told {
        Ok(true) => Outcome::Done,
        Ok(false) => Outcome::Failed,
        Err(error) => {
            complain(&error);
            Outcome::Failed
        }
    }
}

fn perform(args: &Args) -> anyhow::Result<Performance> {
    logging::start(&Log { format: LogFormat::Text, filter: args.log.clone() })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(run(args))
}

async fn run(args: &Args) -> anyhow::Result<Performance> {
    let chapters = story::chapters(args.scenario.scenarios());
    let profile = if args.kafka == Release::V3_6 { Profile::V3_6 } else { Profile::V4 };
    let cluster = ClusterOptions { seed: args.seed, brokers: story::BROKERS, profile, ..ClusterOptions::default() };
    let load = Options {
        topic: story::TOPIC.to_owned(),
        partitions: story::PARTITIONS,
        records_per_second: args.rate,
        duration: chapters.last().map_or(Duration::ZERO, |last| last.until),
        seed: args.seed,
        ..Options::default()
    };
    let (direct, proxied) = tokio::try_join!(Way::direct(&cluster, &load), Way::proxied(&cluster, &load))?;
    let lines = Lines::new(args.json, &chapters);
    // A moment for both to reach their starting line.
    let origin = Instant::now() + Duration::from_millis(50);
    let travelled = tokio::try_join!(
        direct.travel(&chapters, origin, |progress| {
            lines.story.tell(progress.elapsed);
            lines.direct.show(progress);
        }),
        proxied.travel(&chapters, origin, |progress| lines.proxied.show(progress)),
    );
    lines.clear();
    let ((direct, _), (proxied, relayed)) = travelled?;
    let summary = summarise(args, &chapters, &direct, &proxied, relayed);
    Ok(Performance { chapters, direct, proxied, summary, rate: args.rate })
}

fn summarise(args: &Args, chapters: &[Chapter], direct: &Travelled, proxied: &Travelled, relayed: Option<Relayed>) -> Summary {
    let (direct_verdicts, direct_foreign) = judge(chapters, direct);
    let (proxied_verdicts, foreign) = judge(chapters, proxied);
    let is_clean = foreign == 0 && proxied_verdicts.iter().all(|verdict| verdict.is_clean() && verdict.records > verdict.errors);
    let told = chapters.iter().zip(direct_verdicts.into_iter().zip(proxied_verdicts)).map(|(chapter, (direct, proxied))| Told {
        scenario: chapter.scenario,
        leaderless_ms: chapter.leaderless.map_or(0, |(from, until)| u64::try_from((until - from).as_millis()).unwrap_or(0)),
        direct,
        proxied,
    });
    Summary {
        ok: is_clean && relayed.as_ref().is_some_and(|relayed| relayed.addresses_leaked.is_empty()),
        client: "a model of franz-go 1.17.0",
        rate: args.rate,
        seed: args.seed,
        scenarios: told.collect(),
        foreign: foreign + direct_foreign,
        direct_failures: direct.report.failures,
        proxied_failures: proxied.report.failures,
        relayed,
    }
}

fn tell(args: &Args, performance: &Performance) -> anyhow::Result<()> {
    let summary = &performance.summary;
    if args.json {
        println!("{}", serde_json::json!(summary));
    } else {
        println!("{}", table::table(&performance.rows()));
        println!("{}", page::in_words(&performance.chapters));
        for leaked in summary.relayed.iter().flat_map(|relayed| &relayed.addresses_leaked) {
            println!("FAILED: the client was told a broker's real address: {leaked}");
        }
        if !summary.ok {
            println!("FAILED: through Evenkeel, something was lost, duplicated, reordered or told that should not be");
        }
    }
    let picture = picture::svg(&performance.picture());
    let mut written = Vec::new();
    if let Some(path) = &args.svg {
        write(path, &picture)?;
        written.push(path.as_path());
    }
    match &args.html {
        Some(path) if path.as_os_str() == "none" => {}
        Some(path) => {
            write(path, &page::html(performance, &picture))?;
            written.push(path);
        }
        None if args.json => {}
        None => match write(Path::new(DEFAULT_PAGE), &page::html(performance, &picture)) {
            Ok(()) => written.push(Path::new(DEFAULT_PAGE)),
            // Nobody asked for it in particular.
            Err(error) => eprintln!("evenkeel: no picture: {error:#}"),
        },
    }
    if !args.json && !written.is_empty() {
        let written: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
        println!("\nThe picture: {}", written.join(", "));
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

impl Choice {
    fn scenarios(self) -> &'static [Scenario] {
        match self {
            Choice::All => &Scenario::ALL,
            Choice::ScaleIn => &[Scenario::ScaleIn],
            Choice::Restart => &[Scenario::Restart],
            Choice::Crash => &[Scenario::Crash],
        }
    }
}

impl Performance {
    fn rows(&self) -> Vec<Row<'_>> {
        let told = self.chapters.iter().zip(&self.summary.scenarios);
        told.map(|(chapter, told)| Row { chapter, direct: &told.direct, proxied: &told.proxied }).collect()
    }

    fn picture(&self) -> picture::Picture<'_> {
        picture::Picture {
            rows: self.rows(),
            direct: &self.direct.report.samples,
            proxied: &self.proxied.report.samples,
            records_per_second: self.rate,
        }
    }
}
