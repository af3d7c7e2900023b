//! A client's program that produces a constant load: started, watched, told to stop.
//!
//! What it prints is described in `tests/clients/README.md`.
//! Invariant: what it says at its end agrees with what it printed before, or the run fails.
//! Not here: judging what it printed.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::acks::Ack;
use super::judge::Told;
use super::program::Program;
use super::{KEYS, PARTITIONS, RATE};
use crate::real::clients::{Client, LoadOptions};

const READY_TIME_MAX: Duration = Duration::from_secs(60);
const POLL_EVERY: Duration = Duration::from_millis(20);
const REASONS_MAX: usize = 5;

/// Whose load it is.
#[derive(Clone, Copy)]
pub struct Subject {
    pub client: &'static Client,
    /// Told to be idempotent; else it is what it is by default.
    pub idempotent: bool,
}

impl Subject {
    pub fn name(&self) -> String {
        format!("{}{}", self.client.name, if self.idempotent { ", idempotent" } else { "" })
    }
}

pub struct Load {
    program: Program,
    ready: bool,
    done: Option<(u64, u64, u64)>,
    told: Told,
}

impl Load {
    /// Starts it; what it prints is kept under `logs`.
    pub fn start(subject: Subject, bootstrap: &str, topic: &str, logs: &Path) -> Result<Self> {
        let Subject { client, idempotent } = subject;
        let options = LoadOptions {
            topic,
            partitions: u32::from(PARTITIONS),
            records_per_second: RATE,
            keys: KEYS,
            idempotence: if idempotent { Some(true) } else { None },
        };
        let command = client.load_command(bootstrap, &options)?;
        let program = Program::start(format!("load of {}", client.name), command, logs, "client")?;
        Ok(Self { program, ready: false, done: None, told: Told::default() })
    }

    pub fn wait_until_ready(&mut self) -> Result<()> {
        let until = Instant::now() + READY_TIME_MAX;
        while !self.ready {
            self.read()?;
            if self.program.ended()?.is_some() || Instant::now() > until {
                bail!("{} does not become ready: {:?}\n{}", self.program.name, self.told.reasons, self.program.complaints());
            }
            sleep(POLL_EVERY);
        }
        self.program.unname_input()
    }

    /// Whether every partition's records flow again: a record that was due after that time is acknowledged in each.
    pub fn flows_since(&mut self, at_ms: f64) -> Result<bool> {
        self.read()?;
        if let Some(status) = self.program.ended()? {
            bail!("{} ended with {status}\n{}", self.program.name, self.program.complaints());
        }
        let mut flowing = vec![false; usize::from(PARTITIONS)];
        for ack in self.told.acks.iter().rev().take_while(|ack| ack.at_ms >= at_ms) {
            if ack.at_ms - ack.latency_ms >= at_ms
                && let Some(flows) = usize::try_from(ack.partition).ok().and_then(|partition| flowing.get_mut(partition))
            {
                *flows = true;
            }
        }
        Ok(flowing.into_iter().all(|flows| flows))
    }

    /// Stops it; everything that it said.
    pub fn stop(mut self) -> Result<Told> {
        self.program.ask_to_stop()?;
        let status = self.program.wait_for_end()?;
        self.read()?;
        let name = &self.program.name;
        let Some((sent, acked, errors_told)) = self.done else {
            bail!("{name} did not say that it is done, status {status:?}\n{}", self.program.complaints());
        };
        ensure!(status.is_some_and(|status| status.success()), "{name} ended with {status:?}\n{}", self.program.complaints());
        let listed = self.told.acks.len() as u64;
        ensure!(acked == listed, "{name} says that it got {acked} acknowledgements, and listed {listed}");
        self.told.sent = sent;
        self.told.errors = errors_told;
        Ok(self.told)
    }

    fn read(&mut self) -> Result<()> {
        for line in self.program.lines()? {
            self.take(&line);
        }
        Ok(())
    }

    fn take(&mut self, line: &Value) {
        self.ready |= line["ready"].as_bool() == Some(true);
        self.told.acks.extend(line["acks"].as_array().into_iter().flatten().filter_map(ack));
        if let Some(error) = line["error"].as_str()
            && self.told.reasons.len() < REASONS_MAX
        {
            self.told.reasons.push(error.to_owned());
        }
        if line["done"].as_bool() == Some(true) {
            let count = |name: &str| line[name].as_u64();
            self.done = count("sent").zip(count("acked")).zip(count("errors")).map(|((sent, acked), errors)| (sent, acked, errors));
        }
    }
}

fn ack(line: &Value) -> Option<Ack> {
    let [number, partition, latency_ms, at_ms] = line.as_array()?.as_slice() else { return None };
    Some(Ack {
        number: number.as_u64()?,
        partition: i32::try_from(partition.as_i64()?).ok()?,
        offset: None,
        latency_ms: latency_ms.as_f64()?,
        at_ms: at_ms.as_f64()?,
    })
}
