//! Departures of brokers of a real Kafka under every client, producers or the consumers of a group, through Evenkeel or, with `--direct`,
//! without.
//!
//!     cargo bench --bench departures -- --client franz-go-1.17.0 --event drain --runs 5 --role consumer
//!
//! Prints a table as Markdown; it, every run's numbers and the logs are kept under `target/departures/`. Runs are added to
//! `runs.jsonl` there, so that a long measurement may be made in parts; `--table` puts it together.
//! Invariant: it ends with an error if anything that went through the proxy misses what is demanded of it.
//! Not here: how a run goes, see `tests/real/departures/`.

#[path = "../../tests/real/departures/mod.rs"]
mod departures;
#[path = "../../tests/real/mod.rs"]
mod real;

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use departures::bed::{Bed, Way};
use departures::consumers;
use departures::consumers::judge::GroupVerdict;
use departures::consumers::members::Group;
use departures::events::Event;
use departures::judge::Verdict;
use departures::load::Subject;
use departures::report;
use departures::tried::{Outcome, Role, Tried};
use real::clients::{Client, ConsumeOptions, LoadOptions, with_load};
use real::{install, say};

const KAFKAS: [&str; 2] = ["3.6.2", "4.4.0"];
const RUNS: &str = "runs.jsonl";

#[derive(Debug, Parser)]
struct Arguments {
    /// Only this client; may be given several times
    #[arg(long)]
    client: Vec<String>,
    /// What a client is there for
    #[arg(long, value_enum, default_value_t = Role::Producer)]
    role: Role,
    /// Only this event; may be given several times
    #[arg(long, value_enum)]
    event: Vec<Event>,
    /// Runs of each client and event
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Only this version of Kafka; may be given several times
    #[arg(long)]
    kafka: Vec<String>,
    /// Producers are told to be idempotent; else they are what they are by default
    #[arg(long)]
    idempotent: bool,
    /// Groups are those of KIP-848; else what they are by default. Java 4 and Kafka 4 have them
    #[arg(long)]
    newer_protocol: bool,
    /// Without the proxy
    #[arg(long)]
    direct: bool,
    /// No client: two limit probes beside each other, to see by how much a limit may be off
    #[arg(long)]
    probes: bool,
    /// Run nothing: the table of all runs that are kept
    #[arg(long)]
    table: bool,
    /// What `cargo bench` passes
    #[arg(long, hide = true)]
    bench: bool,
}

fn logs() -> PathBuf {
    install::target().join("departures")
}

fn clients(names: &[String]) -> Result<Vec<&'static Client>> {
    if names.is_empty() {
        return Ok(with_load().collect());
    }
    let known: Vec<&str> = with_load().map(|client| client.name).collect();
    let by_name = |name: &String| with_load().find(|client| client.name == name);
    names.iter().map(|name| by_name(name).with_context(|| format!("no client {name}; there are {}", known.join(", ")))).collect()
}

fn describe(verdict: &Verdict) -> String {
    let integrity = &verdict.integrity;
    let bad = [
        ("errors", integrity.errors),
        ("unanswered", integrity.unanswered),
        ("lost", integrity.lost),
        ("duplicated", integrity.duplicated),
        ("reordered", integrity.reordered),
    ];
    let bad: Vec<String> = bad.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!(", {count} {what}")).collect();
    format!(
        "max {:.0} ms, the probe's {:.0}, excess {:+.0}, slowest in partition {} until {:.1} s after the event's start{} {:?}",
        verdict.client.max_ms,
        verdict.probe.max_ms,
        verdict.excess_ms,
        verdict.slowest.0,
        verdict.slowest.1 / 1e3,
        bad.concat(),
        verdict.reasons
    )
}

fn describe_group(verdict: &GroupVerdict) -> String {
    let integrity = &verdict.integrity;
    let counts = [
        ("skipped", integrity.skipped),
        ("undelivered", integrity.undelivered),
        ("redelivered", integrity.redelivered),
        ("reordered", integrity.reordered),
        ("rebalances", integrity.rebalances),
        ("members lost", integrity.members_lost),
        ("errors", integrity.errors),
        ("partitions committed beyond", integrity.committed_beyond),
        ("commits back", integrity.commits_back),
        ("uncommitted", integrity.uncommitted),
        ("unclosed", integrity.unclosed),
    ];
    let counts: Vec<String> = counts.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!(", {count} {what}")).collect();
    format!(
        "broker {} left; max {:.0} ms, p99.9 {:.0}, p50 {:.1}, the limit's {:.0}, excess {:+.0}, slowest in partition {} {:.1} s after the event's start{} {:?}",
        verdict.broker,
        verdict.group.max_ms,
        verdict.group.p999_ms,
        verdict.group.p50_ms,
        verdict.limit.max_ms,
        verdict.excess_ms,
        verdict.slowest.0,
        verdict.slowest.1 / 1e3,
        counts.concat(),
        verdict.reasons
    )
}

fn kept() -> Result<Vec<Tried>> {
    let kept = fs::read_to_string(logs().join(RUNS)).context("no run is kept")?;
    Ok(kept.lines().map(serde_json::from_str).collect::<Result<Vec<Tried>, _>>()?)
}

fn compare_probes(kafka: &str, events: &[Event], runs: usize) -> Result<()> {
    let mut bed = Bed::start(kafka, &logs())?;
    for event in events {
        for _ in 0..runs {
            let [one, other] = bed.compare_probes(*event)?;
            let difference = (one.max_ms - other.max_ms).abs();
            println!("Kafka {kafka}, {}: {:.0} and {:.0} ms, {difference:.0} apart", event.name(), one.max_ms, other.max_ms);
        }
    }
    Ok(())
}

/// Whose runs they are.
#[derive(Clone, Copy)]
enum Measured {
    Producer(Subject),
    Consumer(Group),
}

impl Measured {
    fn name(self) -> String {
        match self {
            Self::Producer(subject) => subject.name(),
            Self::Consumer(group) => format!("{}, consumers", group.name()),
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let events = if arguments.event.is_empty() { Event::value_variants().to_vec() } else { arguments.event.clone() };
    let kafkas = if arguments.kafka.is_empty() { KAFKAS.map(str::to_owned).to_vec() } else { arguments.kafka.clone() };
    let clients = clients(&arguments.client)?;
    ensure!(arguments.role == Role::Producer || !arguments.idempotent, "--idempotent is for producers");
    ensure!(arguments.role == Role::Consumer || !arguments.newer_protocol, "--newer-protocol is for consumers");
    let way = if arguments.direct { Way::Direct } else { Way::Evenkeel(env!("CARGO_BIN_EXE_evenkeel")) };
    fs::create_dir_all(logs())?;
    if arguments.table {
        return tell(&kept()?);
    }
    if arguments.probes {
        return kafkas.iter().try_for_each(|kafka| compare_probes(kafka, &events, arguments.runs));
    }
    // All at the beginning: installing costs the machine more than a cluster can bear beside it.
    for client in &clients {
        match arguments.role {
            Role::Producer => {
                let nothing = LoadOptions { topic: "", partitions: 0, records_per_second: 0, keys: 0, idempotence: None };
                client.load_command("", &nothing)?
            }
            Role::Consumer => client.consume_command("", &ConsumeOptions { topic: "", group: "", member: "", newer_protocol: false })?,
        };
    }
    let mut lines = fs::File::options().create(true).append(true).open(logs().join(RUNS))?;
    let mut tried = Vec::new();
    for kafka in &kafkas {
        let mut bed = None;
        for round in 1..=arguments.runs {
            for event in &events {
                for client in &clients {
                    let subject = match arguments.role {
                        Role::Producer => Measured::Producer(Subject { client, idempotent: arguments.idempotent }),
                        Role::Consumer => Measured::Consumer(Group { client, newer_protocol: arguments.newer_protocol }),
                    };
                    let outcome = run(&mut bed, kafka, subject, *event, way);
                    let said = match &outcome {
                        Outcome::Judged(verdict) => describe(verdict),
                        Outcome::Consumed(verdict) => describe_group(verdict),
                        Outcome::Failed(why) => format!("FAILED: {why}"),
                    };
                    say(&format!(
                        "{round}/{}, Kafka {kafka}, {}, {}, {}: {said}",
                        arguments.runs,
                        subject.name(),
                        event.name(),
                        way.name()
                    ));
                    let run = Tried {
                        role: arguments.role,
                        kafka: kafka.clone(),
                        client: client.name.to_owned(),
                        idempotent: arguments.idempotent,
                        newer_protocol: arguments.newer_protocol,
                        event: *event,
                        way: way.name().to_owned(),
                        outcome,
                    };
                    writeln!(lines, "{}", serde_json::to_string(&run)?)?;
                    tried.push(run);
                }
            }
        }
    }
    tell(&tried)
}

fn tell(tried: &[Tried]) -> Result<()> {
    let kept = kept()?;
    let mut text = String::new();
    if tried.iter().any(|run| run.role == Role::Producer) {
        let note = "Milliseconds; median / worst over the runs. Excess: the client's maximum less the limit probe's in the same run.";
        text += &format!("{note}\n\n{}\n", report::table(tried));
    }
    if tried.iter().any(|run| run.role == Role::Consumer) {
        let note = "Consumers: milliseconds from a record's acknowledgement to its delivery; median / worst over the runs. Excess: the group's \
                    maximum less that of the limit probe's readers in the same run. The broker that left coordinated the group and led partitions.";
        text += &format!("\n{note}\n\n{}\n", consumers::report::table(tried, &kept));
    }
    fs::write(logs().join("table.md"), &text)?;
    println!("\n{text}");
    let misses = [report::misses(tried), consumers::report::misses(tried, &kept)].concat();
    ensure!(misses.is_empty(), "missed:\n{}", misses.join("\n"));
    Ok(())
}

/// In the same cluster as before, unless a run failed in that.
fn run(bed: &mut Option<Bed>, kafka: &str, subject: Measured, event: Event, way: Way) -> Outcome {
    let tried = (|| {
        let mut fresh = match bed.take() {
            Some(bed) => bed,
            None => {
                let mut bed = Bed::start(kafka, &logs())?;
                // A cluster's first departure finds its code uncompiled: seconds, that are nobody's.
                let [warm, _] = bed.compare_probes(Event::Drain)?;
                say(&format!("Kafka {kafka} is up and warm; the limit probe alone had {:.0} ms", warm.max_ms));
                if let Measured::Consumer(group) = subject {
                    // The same for what coordinates groups.
                    bed.run_consumers(group, Event::Drain, way)?;
                }
                bed
            }
        };
        let outcome = match subject {
            Measured::Producer(subject) => Outcome::Judged(fresh.run(subject, event, way)?),
            Measured::Consumer(group) => Outcome::Consumed(fresh.run_consumers(group, event, way)?),
        };
        *bed = Some(fresh);
        anyhow::Ok(outcome)
    })();
    tried.unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")))
}
