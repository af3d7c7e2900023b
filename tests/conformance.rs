//! Real clients through Evenkeel's binary against a real Kafka, each through the scenario of `tests/clients/README.md`.
//!
//! By default each client runs against one of the two Kafka versions; with `EVENKEEL_CONFORMANCE=full`, against both.
//! `EVENKEEL_CONFORMANCE_DIRECT=1` leaves the proxy out: it tells a client's own failure from ours.
//! Invariant: a run passes only if the client was told, and connected to, addresses of the proxy alone.

mod real;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use real::clients::{CLIENTS, Client, Run, by_name};
use real::guard::{Guarded, Launch};
use real::kafka::RealKafka;
use real::outcome::{Outcome, table};
use real::proxy::Proxy;
use real::{api_versions, install, say};

/// One cluster at a time: the machine is small.
static CLUSTER: Mutex<()> = Mutex::new(());

const BROKERS: u16 = 3;
/// Which clients run against which version by default: each against one.
const WITH_4_4_0: &[&str] = &["franz-go-1.17.0", "kafka-go-0.4.51", "java-2.8.2", "librdkafka-2.16.0", "kafkajs-2.2.4"];
const WITH_3_6_2: &[&str] = &["franz-go-1.15.4", "sarama-1.61.1", "java-4.4.0", "aiokafka-0.14.0"];
/// The client that is quickest through the scenario.
const QUICKEST: &str = "franz-go-1.17.0";

fn logs(version: &str) -> PathBuf {
    install::target().join("conformance").join(version)
}

/// Everything that speaks against a run; empty if it is good.
fn complaints(client: &Client, run: &Run, kafka: &RealKafka, proxy: Option<&Proxy>) -> Vec<String> {
    let mut complaints = run.outcome.complaints(client.lacks);
    complaints.extend(run.trouble.clone());
    if run.outcome.told.is_empty() {
        complaints.push("it reported no address that it was told".to_owned());
    }
    if let Some(proxy) = proxy {
        let addresses = run.outcome.told.iter().chain(&run.outcome.dialled);
        complaints.extend(addresses.filter(|address| !proxy.owns(address)).map(|address| format!("it learnt or dialled {address}")));
        let reached = kafka.broker_ports().into_iter().filter(|port| run.remote_ports.contains(port));
        complaints.extend(reached.map(|port| format!("it was connected to a real broker at port {port}")));
    }
    complaints
}

fn conformance(version: &str, representative: &[&str]) -> Result<()> {
    let _one_at_a_time = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let full = std::env::var("EVENKEEL_CONFORMANCE").is_ok_and(|wish| wish == "full");
    let direct = std::env::var_os("EVENKEEL_CONFORMANCE_DIRECT").is_some();
    let kafka = RealKafka::start(version, BROKERS)?;
    say(&format!("Kafka {version} is up with {BROKERS} brokers"));
    let logs = logs(version);
    let proxy =
        if direct { None } else { Some(Proxy::start(env!("CARGO_BIN_EXE_evenkeel"), &kafka.bootstrap(), &logs.join("evenkeel.log"))?) };
    let bootstrap = proxy.as_ref().map_or_else(|| kafka.bootstrap(), Proxy::bootstrap);

    let mut outcomes: Vec<(String, Outcome)> = Vec::new();
    let mut failures = Vec::new();
    for client in CLIENTS.iter().filter(|client| full || representative.contains(&client.name)) {
        let run = client.run(&bootstrap, &logs)?;
        let complaints = complaints(client, &run, &kafka, proxy.as_ref());
        say(&format!(
            "Kafka {version}, {}: {} after {:.1} s",
            client.name,
            if complaints.is_empty() { "ok" } else { "FAILED" },
            run.took.as_secs_f64()
        ));
        failures.extend(complaints.iter().map(|complaint| format!("{}: {complaint}", client.name)));
        outcomes.push((client.name.to_owned(), run.outcome));
    }
    if let Some(proxy) = &proxy {
        fs::write(logs.join("metrics.txt"), proxy.metrics()?)?;
    }
    let way = if direct { "direct" } else { "through Evenkeel" };
    let steps = table(&format!("Kafka {version}, {way}"), &outcomes);
    let versions = api_versions::table(&format!("API versions at Kafka {version}, {way}"), &api_versions::read(&kafka.logs())?);
    fs::write(logs.join("steps.md"), &steps)?;
    fs::write(logs.join("api-versions.md"), &versions)?;
    say(&steps);
    if !failures.is_empty() {
        let proxy_log = proxy.as_ref().map(Proxy::log_tail).unwrap_or_default();
        bail!("{}\n{proxy_log}{}", failures.join("\n"), kafka.log_tails());
    }
    proxy.map_or(Ok(()), Proxy::stop)
}

#[test]
fn clients_work_with_kafka_4_4_0() -> Result<()> {
    conformance("4.4.0", WITH_4_4_0)
}

#[test]
fn clients_work_with_kafka_3_6_2() -> Result<()> {
    conformance("3.6.2", WITH_3_6_2)
}

/// The proof that no client reaches a real broker is worth nothing unless it sees one that does.
#[test]
fn a_direct_connection_is_seen() -> Result<()> {
    let _one_at_a_time = CLUSTER.lock().unwrap_or_else(PoisonError::into_inner);
    let mut kafka = RealKafka::start("4.4.0", BROKERS)?;
    let Some(client) = by_name(QUICKEST) else { bail!("{QUICKEST} is not among the clients") };
    let run = client.run(&kafka.bootstrap(), &logs("direct"))?;
    ensure!(run.trouble.is_none(), "{:?} {:?}\n{}", run.trouble, run.outcome.complaints(client.lacks), kafka.log_tails());
    for port in kafka.broker_ports() {
        ensure!(run.remote_ports.contains(&port), "the watch did not see port {port}, only {:?}", run.remote_ports);
        let address = format!("127.0.0.1:{port}");
        ensure!(run.outcome.told.contains(&address), "the client did not report that it was told {address}");
        ensure!(run.outcome.dialled.contains(&address), "the client did not report that it dialled {address}");
    }
    // Only now, for a plain producer may write twice while leaders move: a broker that died and one that was stopped come back.
    kafka.kill(1);
    kafka.stop(2)?;
    kafka.restart(1)?;
    kafka.restart(2)
}

#[test]
fn every_client_is_taken_somewhere() {
    for client in &CLIENTS {
        let times = WITH_4_4_0.iter().chain(WITH_3_6_2).filter(|name| **name == client.name).count();
        assert_eq!(times, 1, "{} runs {times} times by default", client.name);
    }
    assert_eq!(WITH_4_4_0.len() + WITH_3_6_2.len(), CLIENTS.len());
}

fn nap(log: &Path) -> Result<Guarded> {
    // A child that ignores SIGTERM, with a child of its own.
    let command = ["sh", "-c", "trap '' TERM; sleep 300 & wait; sleep 300"].map(Into::into).to_vec();
    Guarded::start(&Launch { name: "nap".to_owned(), command, nice: 0, stdout: log.to_path_buf(), stderr: log.to_path_buf() })
}

fn all_gone(process: &Guarded, at_most: Duration) -> bool {
    let until = Instant::now() + at_most;
    while process.pids().iter().any(|pid| is_running(*pid)) {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    true
}

fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

#[test]
fn children_end_with_a_killed_test_process() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut process = nap(&dir.path().join("log"))?;
    ensure!(!all_gone(&process, Duration::from_millis(300)), "it does not run");
    process.cut_lifeline();
    ensure!(all_gone(&process, Duration::from_secs(5)), "still there: {:?}", process.pids());
    Ok(())
}

#[test]
fn children_end_when_told_to() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let log = dir.path().join("log");
    let mut process = Guarded::start(&Launch {
        name: "trap".to_owned(),
        command: ["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"].map(Into::into).to_vec(),
        nice: 0,
        stdout: log.clone(),
        stderr: log.clone(),
    })?;
    while fs::read_to_string(&log)?.is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    process.terminate();
    let status = process.wait(Duration::from_secs(5))?;
    ensure!(status.and_then(|status| status.code()) == Some(7), "it ended with {status:?}");
    ensure!(all_gone(&process, Duration::from_secs(5)), "still there: {:?}", process.pids());

    let mut process = nap(&log)?;
    ensure!(!all_gone(&process, Duration::from_millis(300)), "it does not run");
    process.kill();
    ensure!(all_gone(&process, Duration::from_secs(5)), "still there: {:?}", process.pids());
    Ok(())
}
