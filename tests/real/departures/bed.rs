//! One run: a client and the limit probe side by side, an event under them, and the cluster made whole again.
//!
//! Invariant: each run has a topic and, where it goes through the proxy, a proxy of its own; only the cluster is used again.
//! Not here: what runs there are, and what is good enough.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::acks::{Latencies, Span, now_ms};
use super::events::{Event, beside, restore};
use super::judge::{Verdict, judge};
use super::load::{Load, Subject};
use super::probe::{Part, Probe};
use super::readback::read_back;
use super::{PARTITIONS, RATE};
use crate::real::admin::{Picture, spread_replicas};
use crate::real::kafka::{RealKafka, RequestLog, Setup};
use crate::real::proxy::Proxy;

const BROKERS: u16 = 4;
/// Without it the wait for followers, which no client can shorten, hides what is a client's own.
const PROPERTIES: &[(&str, &str)] = &[("replica.fetch.backoff.ms", "20")];
const TOPIC_TIME_MAX: Duration = Duration::from_secs(30);
/// Under load before the event; the window begins one second before it.
const BEFORE: Duration = Duration::from_secs(2);
/// Records go on after the cluster is over it: a client may yet stumble over what it knows from before.
const AFTER: Duration = Duration::from_secs(5);
/// How long a client may take to flow again; then the run goes on, and its latencies tell.
const FLOW_TIME_MAX: Duration = Duration::from_secs(40);
const POLL_EVERY: Duration = Duration::from_millis(20);

/// A cluster and what is run on it.
pub struct Bed {
    pub(super) kafka: RealKafka,
    pub(super) runs: usize,
    pub(super) logs: PathBuf,
}

/// How a client gets to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way<'a> {
    Direct,
    /// Through this binary of Evenkeel.
    Evenkeel(&'a str),
}

impl Way<'_> {
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Evenkeel(_) => "Evenkeel",
        }
    }
}

impl Bed {
    /// Starts a cluster; what its runs leave behind is kept under `logs`.
    pub fn start(version: &str, logs: &Path) -> Result<Self> {
        let kafka = RealKafka::start_as(version, &Setup { brokers: BROKERS, request_log: RequestLog::Off, properties: PROPERTIES })?;
        Ok(Self { kafka, runs: 0, logs: logs.join(version) })
    }

    /// After an error the cluster is in a state that nobody knows: start another.
    pub fn run(&mut self, subject: Subject, event: Event, way: Way) -> Result<Verdict> {
        let number = self.runs;
        self.runs += 1;
        let topic = format!("departures-{number}");
        let name = subject.name().replace(", ", "-");
        let logs = self.logs.join(format!("{name}-{}-{}-{number}", event.name(), way.name().to_lowercase()));
        fs::create_dir_all(&logs)?;
        // Each broker in turn is the one that leaves.
        let brokers = self.kafka.broker_ids();
        let broker = brokers[number % brokers.len()];
        let outcome = self.measure(subject, event, way, &topic, broker, &logs);
        fs::write(logs.join("brokers.log"), self.kafka.log_tails())?;
        let verdict = outcome.with_context(|| format!("{name}, {}, logs in {}", event.name(), logs.display()))?;
        restore(&mut self.kafka, &topic)?;
        fs::write(logs.join("verdict.json"), serde_json::to_string_pretty(&verdict)?)?;
        Ok(verdict)
    }

    fn measure(&mut self, subject: Subject, event: Event, way: Way, topic: &str, broker: i32, logs: &Path) -> Result<Verdict> {
        self.create_topic(topic)?;
        let proxy = match way {
            Way::Direct => None,
            Way::Evenkeel(binary) => Some(Proxy::start(binary, &self.kafka.bootstrap(), &logs.join("evenkeel.log"))?),
        };
        let bootstrap = proxy.as_ref().map_or_else(|| self.kafka.bootstrap(), Proxy::bootstrap);
        let probe = Probe::start(self.kafka.addresses(), topic, PARTITIONS, RATE, Part::Write)?;
        let mut load = Load::start(subject, &bootstrap, topic, logs)?;
        load.wait_until_ready()?;
        let warm_until = Instant::now() + TOPIC_TIME_MAX;
        while !probe.is_warm() {
            ensure!(Instant::now() < warm_until, "the limit probe does not get its first records through");
            sleep(POLL_EVERY);
        }
        sleep(BEFORE);

        let from_ms = now_ms();
        event.happen(&mut self.kafka, broker)?;
        let span = Span { from_ms, to_ms: now_ms() };
        let flow_until = Instant::now() + FLOW_TIME_MAX;
        while !load.flows_since(span.to_ms)? && Instant::now() < flow_until {
            sleep(POLL_EVERY);
        }
        sleep(AFTER);

        let told = load.stop()?;
        let probed = probe.stop()?;
        if let Some(proxy) = proxy {
            fs::write(logs.join("metrics.txt"), proxy.metrics()?)?;
            proxy.stop()?;
        }
        let picture = beside(&self.kafka, broker)?.picture()?;
        let written = read_back(topic, &picture.partitions, &self.kafka.addresses())?;
        judge(span, &told, &probed.acks, &written).context("the client or the limit probe got nothing through around the event")
    }

    /// What two probes beside each other make of an event: by how much a limit may be off.
    pub fn compare_probes(&mut self, event: Event) -> Result<[Latencies; 2]> {
        let number = self.runs;
        self.runs += 1;
        let topic = format!("departures-{number}");
        let brokers = self.kafka.broker_ids();
        let broker = brokers[number % brokers.len()];
        self.create_topic(&topic)?;
        let probes = [(); 2].map(|()| Probe::start(self.kafka.addresses(), &topic, PARTITIONS, RATE, Part::Write));
        let [one, other] = probes;
        let (one, other) = (one?, other?);
        sleep(BEFORE + BEFORE);
        let from_ms = now_ms();
        event.happen(&mut self.kafka, broker)?;
        let window = Span { from_ms, to_ms: now_ms() };
        sleep(AFTER);
        let (one, other) = (one.stop()?, other.stop()?);
        restore(&mut self.kafka, &topic)?;
        let of = |acks: &[_]| Latencies::of(&window.touched_by(acks)).context("a probe got nothing through");
        Ok([of(&one.acks)?, of(&other.acks)?])
    }

    pub(super) fn create_topic(&self, topic: &str) -> Result<()> {
        let brokers = self.kafka.broker_ids();
        let mut admin = beside(&self.kafka, -1)?;
        admin.create_topic(topic, &spread_replicas(&brokers, usize::from(PARTITIONS)))?;
        let mine = |picture: &Picture| {
            let partitions = picture.partitions.iter().filter(|partition| partition.topic == topic);
            partitions.filter(|partition| partition.leader >= 0).count() == usize::from(PARTITIONS) && picture.is_in_sync()
        };
        for broker in brokers {
            super::events::at(&self.kafka, broker)?.wait_until("the topic is there", TOPIC_TIME_MAX, mine)?;
        }
        Ok(())
    }
}
