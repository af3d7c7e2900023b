//! A client's program under constant load: started, watched, told to stop.
//!
//! What it prints is described in `tests/clients/README.md`.
//! Invariant: it ends in a bounded time, and with the test process.
//! Not here: judging what it printed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::acks::Ack;
use super::judge::Told;
use super::{KEYS, PARTITIONS, RATE};
use crate::real::clients::{Client, LoadOptions};
use crate::real::guard::{Guarded, Launch, tail};

const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// The programs wait for what is outstanding for 20 s.
const STOP_TIME_MAX: Duration = Duration::from_secs(40);
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
    process: Guarded,
    /// Its standard input. Opened for reading too, so that opening waits for nobody.
    input: File,
    input_name: PathBuf,
    output: File,
    unread: Vec<u8>,
    stderr: PathBuf,
    ready: bool,
    done: Option<(u64, u64, u64)>,
    told: Told,
}

impl Load {
    /// Starts it; what it prints is kept under `logs`.
    pub fn start(subject: Subject, bootstrap: &str, topic: &str, logs: &Path) -> Result<Self> {
        let Subject { client, idempotent } = subject;
        fs::create_dir_all(logs)?;
        let (fifo, stdout, stderr) = (logs.join("client.in"), logs.join("client.out"), logs.join("client.err"));
        if fifo.exists() {
            fs::remove_file(&fifo)?;
        }
        let made = Command::new("mkfifo").arg(&fifo).status().context("running mkfifo")?;
        ensure!(made.success(), "mkfifo {}: {made}", fifo.display());
        let input = File::options().read(true).write(true).open(&fifo)?;
        // The guard keeps a program's standard input for itself; a shell in between takes the pipe's name.
        let mut command = ["sh", "-c", r#"in=$1; shift; exec "$@" <"$in""#, "sh"].map(Into::into).to_vec();
        command.push(fifo.clone().into());
        let options = LoadOptions {
            topic,
            partitions: u32::from(PARTITIONS),
            records_per_second: RATE,
            keys: KEYS,
            idempotence: if idempotent { Some(true) } else { None },
        };
        command.extend(client.load_command(bootstrap, &options)?);
        let name = format!("load of {}", client.name);
        let process = Guarded::start(&Launch { name, command, nice: 0, stdout: stdout.clone(), stderr: stderr.clone() })?;
        let output = File::open(&stdout)?;
        Ok(Self { process, input, input_name: fifo, output, unread: Vec::new(), stderr, ready: false, done: None, told: Told::default() })
    }

    pub fn wait_until_ready(&mut self) -> Result<()> {
        let until = Instant::now() + READY_TIME_MAX;
        while !self.ready {
            self.read()?;
            if self.process.ended()?.is_some() || Instant::now() > until {
                bail!("{} does not become ready: {:?}\n{}", self.process.name, self.told.reasons, tail(&self.stderr, 20, |_| true));
            }
            sleep(POLL_EVERY);
        }
        // The program has it open by now, and a pipe that is left lying about blocks whoever reads it.
        fs::remove_file(&self.input_name)?;
        Ok(())
    }

    /// Whether every partition's records flow again: a record that was due after that time is acknowledged in each.
    pub fn flows_since(&mut self, at_ms: f64) -> Result<bool> {
        self.read()?;
        if let Some(status) = self.process.ended()? {
            bail!("{} ended with {status}\n{}", self.process.name, tail(&self.stderr, 20, |_| true));
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
        self.input.write_all(b"stop\n")?;
        let status = self.process.wait(STOP_TIME_MAX)?;
        self.read()?;
        let errors = || tail(&self.stderr, 20, |_| true);
        let Some((sent, acked, errors_told)) = self.done else {
            bail!("{} did not say that it is done, status {status:?}\n{}", self.process.name, errors());
        };
        ensure!(status.is_some_and(|status| status.success()), "{} ended with {status:?}\n{}", self.process.name, errors());
        let listed = self.told.acks.len() as u64;
        ensure!(acked == listed, "{} says that it got {acked} acknowledgements, and listed {listed}", self.process.name);
        self.told.sent = sent;
        self.told.errors = errors_told;
        Ok(self.told)
    }

    fn read(&mut self) -> Result<()> {
        self.output.read_to_end(&mut self.unread)?;
        let Some(end) = self.unread.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let whole: Vec<u8> = self.unread.drain(..=end).collect();
        for line in String::from_utf8_lossy(&whole).lines() {
            let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
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
        latency_ms: latency_ms.as_f64()?,
        at_ms: at_ms.as_f64()?,
    })
}
