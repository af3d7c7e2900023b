//! The two members of a group: one client's program, twice.
//!
//! What they print is described in `tests/clients/README.md`.
//! Invariant: a member that ends by itself is lost, and no reason to end the run.
//! Not here: judging what they printed.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::judge::{Assignment, Delivery, Member};
use crate::departures::PARTITIONS;
use crate::departures::program::Program;
use crate::departures::tried::NEWER_PROTOCOL;
use crate::real::clients::{Client, ConsumeOptions};

/// Some libraries back off for seconds while both join at once.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(90);
const POLL_EVERY: Duration = Duration::from_millis(20);
/// A program ends itself after that, which is no member lost.
const PROGRAM_TIME_MAX: Duration = Duration::from_secs(295);
const NAMES: [&str; 2] = ["a", "b"];

/// Whose group it is.
#[derive(Clone, Copy)]
pub struct Group {
    pub client: &'static Client,
    /// Told to use the newer protocol of groups; else it is what it is by default.
    pub newer_protocol: bool,
}

impl Group {
    pub fn name(&self) -> String {
        format!("{}{}", self.client.name, if self.newer_protocol { NEWER_PROTOCOL } else { "" })
    }
}

pub struct Members {
    started: Instant,
    running: Vec<Running>,
    /// The highest offset that anybody was delivered, by partition.
    reached: BTreeMap<i32, i64>,
}

struct Running {
    program: Program,
    member: Member,
    done: Option<(u64, u64, bool)>,
}

impl Members {
    /// Starts both; what they print is kept under `logs`.
    pub fn start(subject: Group, bootstrap: &str, topic: &str, group: &str, logs: &Path) -> Result<Self> {
        let Group { client, newer_protocol } = subject;
        let running = NAMES.map(|member| {
            let command = client.consume_command(bootstrap, &ConsumeOptions { topic, group, member, newer_protocol })?;
            let program = Program::start(format!("member {member} of {}", client.name), command, logs, &format!("member-{member}"))?;
            Ok(Running { program, member: Member::default(), done: None })
        });
        let running = running.into_iter().collect::<Result<_>>()?;
        Ok(Self { started: Instant::now(), running, reached: BTreeMap::new() })
    }

    /// Until each has a part of the partitions, and is delivered something of all that it has.
    pub fn wait_until_settled(&mut self) -> Result<()> {
        let until = Instant::now() + SETTLE_TIME_MAX;
        loop {
            self.read()?;
            if self.are_settled() {
                break;
            }
            for one in &mut self.running {
                if one.program.ended()?.is_some() || Instant::now() > until {
                    let (name, complaints) = (&one.program.name, one.program.complaints());
                    bail!("{name} gets nowhere: {:?}, {:?}\n{complaints}", one.member.assignments, one.member.errors);
                }
            }
            sleep(POLL_EVERY);
        }
        self.running.iter().try_for_each(|one| one.program.unname_input())
    }

    fn are_settled(&self) -> bool {
        let mut all: Vec<i32> = Vec::new();
        for one in &self.running {
            let Some(last) = one.member.assignments.last().filter(|last| !last.partitions.is_empty()) else { return false };
            let newest = one.member.deliveries.iter().filter(|delivery| delivery.at_ms >= last.at_ms);
            let newest: Vec<i32> = newest.map(|delivery| delivery.partition).collect();
            if !last.partitions.iter().all(|partition| newest.contains(partition)) {
                return false;
            }
            all.extend(&last.partitions);
        }
        all.sort_unstable();
        all == (0..i32::from(PARTITIONS)).collect::<Vec<i32>>()
    }

    /// Whether they were delivered everything up to these offsets, or at least what follows; waits for it, at most so long.
    pub fn reach(&mut self, offsets: &BTreeMap<i32, i64>, at_most: Duration) -> Result<bool> {
        let until = Instant::now() + at_most;
        loop {
            self.read()?;
            if offsets.iter().all(|(partition, offset)| self.reached.get(partition) >= Some(offset)) {
                return Ok(true);
            }
            if Instant::now() > until {
                return Ok(false);
            }
            sleep(POLL_EVERY);
        }
    }

    /// Stops both; everything that they said.
    pub fn stop(mut self) -> Result<Vec<Member>> {
        ensure!(self.started.elapsed() < PROGRAM_TIME_MAX, "the run took longer than the programs go on");
        for one in &mut self.running {
            one.member.ended = one.program.ended()?.is_some();
            one.program.ask_to_stop()?;
        }
        let mut statuses = Vec::new();
        for one in &mut self.running {
            statuses.push(one.program.wait_for_end()?);
        }
        self.read()?;
        for (one, status) in self.running.iter_mut().zip(statuses) {
            let name = &one.program.name;
            let Some((delivered, errors, closed)) = one.done else {
                ensure!(one.member.ended, "{name} did not say that it is done, {status:?}\n{}", one.program.complaints());
                continue;
            };
            let listed = one.member.deliveries.len() as u64;
            ensure!(delivered == listed, "{name} says that it was delivered {delivered} records, and listed {listed}");
            (one.member.errors_told, one.member.closed) = (errors, closed);
        }
        Ok(self.running.into_iter().map(|one| one.member).collect())
    }

    fn read(&mut self) -> Result<()> {
        for one in &mut self.running {
            let before = one.member.deliveries.len();
            for line in one.program.lines()? {
                take(&mut one.member, &mut one.done, &line);
            }
            for delivery in &one.member.deliveries[before..] {
                let highest = self.reached.entry(delivery.partition).or_insert(delivery.offset);
                *highest = delivery.offset.max(*highest);
            }
        }
        Ok(())
    }
}

fn take(member: &mut Member, done: &mut Option<(u64, u64, bool)>, line: &Value) {
    member.deliveries.extend(line["records"].as_array().into_iter().flatten().filter_map(delivery));
    if let Some(at_ms) = line["at"].as_f64() {
        if let Some(partitions) = line["assigned"].as_array() {
            let partitions = partitions.iter().filter_map(|partition| i32::try_from(partition.as_i64()?).ok()).collect();
            let member_id = line["member_id"].as_str().map(str::to_owned);
            member.assignments.push(Assignment { partitions, at_ms, member_id });
        }
        if line["lost"].as_bool() == Some(true) {
            member.lost_at_ms.push(at_ms);
        }
        if let Some(error) = line["error"].as_str() {
            member.errors.push((at_ms, error.to_owned()));
        }
    }
    if line["done"].as_bool() == Some(true) {
        let told = (line["delivered"].as_u64(), line["errors"].as_u64(), line["closed"].as_bool());
        if let (Some(delivered), Some(errors), Some(closed)) = told {
            *done = Some((delivered, errors, closed));
        }
    }
}

fn delivery(line: &Value) -> Option<Delivery> {
    let [number, partition, offset, at_ms] = line.as_array()?.as_slice() else { return None };
    Some(Delivery {
        number: number.as_u64()?,
        partition: i32::try_from(partition.as_i64()?).ok()?,
        offset: offset.as_i64()?,
        at_ms: at_ms.as_f64()?,
    })
}
