//! One run: a group of two members and the probe that writes for them, an event under them, and the cluster made whole again.
//!
//! Invariant: the broker that leaves coordinates the group and leads partitions.
//! Not here: what runs there are, and what is good enough.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::commits::{CommitWatch, committed, coordinator};
use super::judge::{GroupVerdict, Seen, judge};
use super::members::{Group, Members};
use crate::departures::acks::{Span, now_ms};
use crate::departures::bed::{Bed, Way};
use crate::departures::events::{Event, beside, restore};
use crate::departures::probe::{Part, Probe};
use crate::departures::{PARTITIONS, RATE};
use crate::real::proxy::Proxy;

const PROBE_TIME_MAX: Duration = Duration::from_secs(30);
/// Longer than it takes every library to commit by itself; the window begins one second before the event.
const BEFORE: Duration = Duration::from_secs(7);
/// How long a group may take to flow again; then the run goes on, and its delays tell.
const FLOW_TIME_MAX: Duration = Duration::from_secs(60);
/// Records go on after the cluster is over it: a member may yet stumble over what it knows from before.
const AFTER: Duration = Duration::from_secs(8);
/// How long the last records may take.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(30);
/// How far a group that keeps up is behind at the most, and how long it may take to get there.
const BEHIND_MAX: Duration = Duration::from_secs(1);
const KEEP_UP_TIME_MAX: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(20);
/// Groups that are asked for until one is coordinated where it should be.
const GROUPS_MAX: usize = 48;

impl Bed {
    /// After an error the cluster is in a state that nobody knows: start another.
    pub fn run_consumers(&mut self, group: Group, event: Event, way: Way) -> Result<GroupVerdict> {
        let number = self.runs;
        self.runs += 1;
        let topic = format!("departures-{number}");
        let logs = self.logs.join(format!(
            "consumer-{}-{}-{}-{number}",
            group.name().replace(", ", "-").replace(' ', "-"),
            event.name(),
            way.name().to_lowercase()
        ));
        fs::create_dir_all(&logs)?;
        let outcome = self.measure_consumers(group, event, way, &topic, number, &logs);
        fs::write(logs.join("brokers.log"), self.kafka.log_tails())?;
        let verdict = outcome.with_context(|| format!("{}, {}, logs in {}", group.name(), event.name(), logs.display()))?;
        restore(&mut self.kafka, &topic)?;
        fs::write(logs.join("verdict.json"), serde_json::to_string_pretty(&verdict)?)?;
        Ok(verdict)
    }

    fn measure_consumers(
        &mut self,
        subject: Group,
        event: Event,
        way: Way,
        topic: &str,
        number: usize,
        logs: &Path,
    ) -> Result<GroupVerdict> {
        self.create_topic(topic)?;
        let ports = self.kafka.addresses();
        let group = self.group(number)?;
        let proxy = match way {
            Way::Direct => None,
            Way::Evenkeel(binary) => Some(Proxy::start(binary, &self.kafka.bootstrap(), &logs.join("evenkeel.log"))?),
        };
        let bootstrap = proxy.as_ref().map_or_else(|| self.kafka.bootstrap(), Proxy::bootstrap);
        let probe = Probe::start(ports.clone(), topic, PARTITIONS, RATE, Part::WriteAndRead)?;
        let warm_until = Instant::now() + PROBE_TIME_MAX;
        while !probe.is_warm() {
            ensure!(Instant::now() < warm_until, "the limit probe does not get its first records through");
            sleep(POLL_EVERY);
        }
        let mut members = Members::start(subject, &bootstrap, topic, &group, logs)?;
        members.wait_until_settled()?;
        wait_until_it_keeps_up(&mut members, &probe)?;
        let commits = CommitWatch::start(ports.clone(), &group, topic)?;
        sleep(BEFORE);

        let broker = coordinator(&ports, &group)?;
        let picture = beside(&self.kafka, broker)?.picture()?;
        let leads = picture.partitions.iter().any(|partition| partition.topic == topic && partition.leader == broker);
        ensure!(leads, "broker {broker} coordinates {group}, and leads no partition of {topic}");
        let from_ms = now_ms();
        event.happen(&mut self.kafka, broker)?;
        let event = Span { from_ms, to_ms: now_ms() };
        members.reach(&probe.acknowledged_since(event.to_ms, PROBE_TIME_MAX)?, FLOW_TIME_MAX)?;
        sleep(AFTER);

        let probed = probe.stop()?;
        members.reach(&probed.last_offsets(), CATCH_UP_TIME_MAX)?;
        let members = members.stop()?;
        let commits_back = commits.stop()?;
        let committed = committed(&ports, &group, topic)?;
        if let Some(proxy) = proxy {
            fs::write(logs.join("metrics.txt"), proxy.metrics()?)?;
            proxy.stop()?;
        }
        let seen = Seen { event, broker, probed: &probed, members: &members, committed: &committed, commits_back };
        judge(&seen).context("nothing was delivered around the event, or the limit probe read nothing")
    }

    /// A group of its own for each run. Each broker in turn coordinates it, as far as it coordinates any.
    fn group(&self, number: usize) -> Result<String> {
        let ports = self.kafka.addresses();
        let brokers = self.kafka.broker_ids();
        let wanted = brokers[number % brokers.len()];
        let name = |index: usize| format!("departures-{number}-{index}");
        for index in 0..GROUPS_MAX {
            if coordinator(&ports, &name(index))? == wanted {
                return Ok(name(index));
            }
        }
        Ok(name(0))
    }
}

/// Else the delays around the event would be those of a queue from before it.
fn wait_until_it_keeps_up(members: &mut Members, probe: &Probe) -> Result<()> {
    let until = Instant::now() + KEEP_UP_TIME_MAX;
    loop {
        let asked = Instant::now();
        if members.reach(&probe.last_offsets(), KEEP_UP_TIME_MAX)? && asked.elapsed() < BEHIND_MAX {
            return Ok(());
        }
        ensure!(Instant::now() < until, "the group does not keep up with {RATE} records/s although nothing happens: is the machine busy?");
    }
}
