//! Departures of brokers of a real Kafka: what the judge makes of what it is given, and two clients through Evenkeel's binary, drain and
//! SIGKILL, at each Kafka version once.
//!
//! `EVENKEEL_DEPARTURES_DIRECT=1` leaves the proxy out: it tells a client's own failure from ours.
//! Invariant: the margins are wide. The machine is small and busy; `make departures` measures.
//! Not here: other clients and events, which `make departures` has.

#[path = "departures/consumers.rs"]
mod consumers;
#[path = "real/departures/mod.rs"]
mod departures;
mod real;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use departures::acks::{Ack, Latencies, Span};
use departures::bed::{Bed, Way};
use departures::events::Event;
use departures::judge::{Integrity, Told, Verdict, integrity, judge};
use departures::load::Subject;
use departures::report::{misses, table};
use departures::tried::{Outcome, Role, Tried};
use real::clients::by_name;
use real::{install, say};

const CLIENTS: [&str; 2] = ["franz-go-1.17.0", "librdkafka-2.16.0"];
const EVENTS: [Event; 2] = [Event::Drain, Event::Kill];
const KAFKAS: [&str; 2] = ["3.6.2", "4.4.0"];
/// A client left to itself stalls for 5 s; the proxy is held to far less by `make departures`.
const EXCESS_MAX_MS: f64 = 4_000.0;
/// The same for a client that keeps hundreds of small requests in flight: what queued up in a crash is answered one by one.
const EXCESS_MAX_QUEUED_MS: f64 = 8_000.0;
/// Whose producer is idempotent by default. Of the others, a direct connection lets some records pass each other when leaders move.
const KEEPS_ORDER: &str = "franz-go-1.17.0";

fn complaints(client: &str, verdict: &Verdict) -> Vec<String> {
    let Integrity { errors, unanswered, lost, reordered, .. } = verdict.integrity;
    let reordered = if client == KEEPS_ORDER { reordered } else { 0 };
    let counted = [("errors", errors), ("unanswered", unanswered), ("lost", lost), ("reordered", reordered)];
    let mut complaints: Vec<String> =
        counted.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}")).collect();
    let excess_max_ms = if client == KEEPS_ORDER { EXCESS_MAX_MS } else { EXCESS_MAX_QUEUED_MS };
    if verdict.excess_ms >= excess_max_ms {
        let (client, probe) = (verdict.client.max_ms, verdict.probe.max_ms);
        complaints.push(format!("{client:.0} ms where the cluster itself allows {probe:.0}"));
    }
    complaints.extend(verdict.reasons.clone());
    complaints
}

#[test]
fn a_departing_broker_is_a_non_event() -> Result<()> {
    let direct = std::env::var_os("EVENKEEL_DEPARTURES_DIRECT").is_some();
    let way = if direct { Way::Direct } else { Way::Evenkeel(env!("CARGO_BIN_EXE_evenkeel")) };
    let named = CLIENTS.iter().map(|name| by_name(name).with_context(|| format!("{name} is not among the clients")));
    let clients = named.collect::<Result<Vec<_>>>()?;
    let mut failures = Vec::new();
    for kafka in KAFKAS {
        let mut bed = Bed::start(kafka, &install::target().join("departures-representative"))?;
        say(&format!("Kafka {kafka} is up"));
        for client in &clients {
            for event in EVENTS {
                let verdict = bed.run(Subject { client, idempotent: false }, event, way)?;
                let name = format!("Kafka {kafka}, {}, {}, {}", client.name, event.name(), way.name());
                let complaints = complaints(client.name, &verdict);
                say(&format!("{name}: excess {:+.0} ms {complaints:?}", verdict.excess_ms));
                failures.extend(complaints.iter().map(|complaint| format!("{name}: {complaint}")));
            }
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("\n")) }
}

/// Record `number` of partition 0, due at second `number` and acknowledged `latency_ms` later.
fn ack(number: u64, latency_ms: f64) -> Ack {
    Ack { number, partition: 0, offset: None, latency_ms, at_ms: number as f64 * 1e3 + latency_ms }
}

fn told(numbers: &[u64]) -> Told {
    Told { acks: numbers.iter().map(|number| ack(*number, 5.0)).collect(), sent: numbers.len() as u64, errors: 0, reasons: Vec::new() }
}

fn in_partition_0(numbers: &[u64]) -> BTreeMap<i32, Vec<u64>> {
    BTreeMap::from([(0, numbers.to_vec())])
}

fn judged(told: &Told, topic: &[u64]) -> (u64, u64, u64) {
    let integrity = integrity(told, &in_partition_0(topic));
    (integrity.lost, integrity.duplicated, integrity.reordered)
}

#[test]
fn lost_duplicated_and_reordered_records_are_counted() {
    assert_eq!(judged(&told(&[1, 2, 3]), &[1, 2, 3]), (0, 0, 0));
    assert_eq!(judged(&told(&[1, 2, 3]), &[1, 3]), (1, 0, 0), "2 is lost");
    assert_eq!(judged(&told(&[1, 2, 3]), &[1, 2, 3, 2, 3]), (0, 2, 0), "written again, the first appearances in order");
    assert_eq!(judged(&told(&[1, 2, 3]), &[2, 1, 3]), (0, 0, 1));
    assert_eq!(judged(&told(&[1, 2, 3]), &[3, 1, 2, 3]), (0, 1, 2));
    assert_eq!(judged(&told(&[1]), &[1, 2]), (0, 0, 0), "written without an acknowledgement: nobody was promised anything");
    let elsewhere = integrity(&told(&[1]), &BTreeMap::from([(0, vec![]), (1, vec![1])]));
    assert_eq!(elsewhere.lost, 1, "in another partition than the client was told");
}

#[test]
fn records_without_an_answer_are_counted() {
    let silent = Told { sent: 5, errors: 1, ..told(&[1, 2]) };
    let integrity = integrity(&silent, &in_partition_0(&[1, 2]));
    assert_eq!((integrity.acknowledged, integrity.errors, integrity.unanswered), (2, 1, 2));
}

#[test]
fn only_the_time_around_the_event_is_judged() -> Result<()> {
    let event = Span { from_ms: 20_000.0, to_ms: 30_000.0 };
    // Slow, but acknowledged before the window, and due after it; then one that is stuck from before the window's start.
    let client = [ack(1, 9_000.0), ack(41, 9_000.0), ack(18, 5_000.0), ack(25, 10.0)];
    let probe = [ack(1, 8_000.0), ack(25, 1_000.0), ack(26, 20.0)];
    let told = Told { acks: client.to_vec(), sent: 4, ..Told::default() };
    let verdict = judge(event, &told, &probe, &in_partition_0(&[1, 18, 25, 41])).context("not judged")?;
    assert_eq!((verdict.client.max_ms, verdict.probe.max_ms, verdict.excess_ms), (5_000.0, 1_000.0, 4_000.0));
    assert_eq!(verdict.client.records, 2);
    assert_eq!(complaints(KEEPS_ORDER, &verdict), ["5000 ms where the cluster itself allows 1000"]);
    assert!(judge(event, &told, &[], &BTreeMap::new()).is_none(), "a silent probe is no limit");
    Ok(())
}

#[test]
fn quantiles_are_those_of_the_sorted_latencies() -> Result<()> {
    let acks: Vec<Ack> = (1..=1_000).rev().map(|number| ack(number, number as f64)).collect();
    let latencies = Latencies::of(&acks).context("none")?;
    assert_eq!((latencies.p50_ms, latencies.p999_ms, latencies.max_ms), (500.0, 999.0, 1_000.0));
    assert!(Latencies::of(&[]).is_none());
    Ok(())
}

#[test]
fn the_table_has_every_run_and_names_what_is_missed() -> Result<()> {
    let event = Span { from_ms: 20_000.0, to_ms: 30_000.0 };
    let run = |latency_ms: f64, way: &str| {
        let told = Told { acks: vec![ack(25, latency_ms)], sent: 1, ..Told::default() };
        let verdict = judge(event, &told, &[ack(25, 100.0)], &in_partition_0(&[25])).context("not judged")?;
        let kafka = "3.6.2".to_owned();
        anyhow::Ok(Tried {
            role: Role::Producer,
            kafka,
            client: "franz-go-1.17.0".to_owned(),
            idempotent: false,
            newer_protocol: false,
            event: Event::Drain,
            way: way.to_owned(),
            outcome: Outcome::Judged(verdict),
        })
    };
    let good = [run(150.0, "Evenkeel")?, run(390.0, "Evenkeel")?, run(110.0, "Evenkeel")?];
    assert!(misses(&good).is_empty());
    let text = table(&good).to_string();
    assert!(text.contains(" 50 / 290 |"), "{text}");
    let bad = [run(250.0, "Evenkeel")?, run(5_000.0, "Evenkeel")?];
    let named = misses(&bad);
    assert_eq!(named, ["median excess", "worst excess"].map(|miss| format!("Kafka 3.6.2, franz-go-1.17.0, drain: {miss}")));
    assert!(misses(&[run(5_000.0, "direct")?]).is_empty(), "nobody is to be blamed for a client left to itself");
    let failed = Tried { outcome: Outcome::Failed("no cluster".to_owned()), ..run(150.0, "Evenkeel")? };
    let tried = [run(150.0, "Evenkeel")?, failed];
    assert_eq!(misses(&tried), ["Kafka 3.6.2, franz-go-1.17.0, drain: 1 runs failed"]);
    assert!(table(&tried).to_string().contains("2, 1 failed"));
    Ok(())
}
