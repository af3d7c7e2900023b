//! franz-go 1.17.0 under a steady load: starting it, commanding it, reading what it reports.
//!
//! Invariant: the program ends when its standard input does, so it never outlives the test process.
//! Not here: judging (`verdict`). The program is `tests/clients/franz-go-sequences`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use crate::real::install;

const POLL: Duration = Duration::from_millis(2);
/// Longer than the program itself waits for what is unsettled.
const END_TIME_MAX: Duration = Duration::from_secs(40);

/// What is produced, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub keyed: bool,
    pub records_per_second: u32,
}

/// A record that was acknowledged or given up.
#[derive(Clone, Debug, Deserialize)]
pub struct Settled {
    pub record: u64,
    pub partition: i32,
    #[serde(rename = "us")]
    pub latency_us: u64,
    pub error: Option<String>,
}

/// The program's last line.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct End {
    pub sent: u64,
    pub unsettled: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Settled(Settled),
    End(End),
}

/// What it has reported so far.
#[derive(Default)]
struct Report {
    settled: Vec<Settled>,
    end: Option<End>,
    trouble: Option<String>,
}

pub struct Client {
    child: Child,
    commands: ChildStdin,
    report: Arc<Mutex<Report>>,
}

impl Client {
    pub fn start(bootstrap: &str, topic: &str, load: Load) -> Result<Client> {
        let mut command = Command::new(program()?);
        command.args(["-bootstrap", bootstrap, "-topic", topic, "-rate", &load.records_per_second.to_string()]);
        if load.keyed {
            command.arg("-keyed");
        }
        // For whoever looks into a sequence that does not do what it should.
        if std::env::var_os("EVENKEEL_SEQUENCES_DEBUG").is_some() {
            command.arg("-debug");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting franz-go")?;
        let (commands, output) = child.stdin.take().zip(child.stdout.take()).context("pipes")?;
        let report = Arc::new(Mutex::new(Report::default()));
        let kept = report.clone();
        thread::spawn(move || read(output, &kept));
        Ok(Client { child, commands, report })
    }

    /// Waits until so many records are acknowledged.
    pub fn until_acknowledged(&self, records: usize, at_most: Duration) -> Result<()> {
        let until = Instant::now() + at_most;
        while self.report().settled.iter().filter(|settled| settled.error.is_none()).count() < records {
            if Instant::now() > until {
                bail!("{records} records were not acknowledged in {at_most:?}: {:?}", self.report().settled.last());
            }
            sleep(POLL);
        }
        Ok(())
    }

    /// It asks for metadata at once.
    pub fn refresh(&mut self) -> Result<()> {
        self.command("refresh")
    }

    /// Stops the load, and waits until all of it is settled or given up.
    pub fn stop(mut self) -> Result<(Vec<Settled>, End)> {
        self.command("stop")?;
        let until = Instant::now() + END_TIME_MAX;
        loop {
            let mut report = self.report();
            if let Some(trouble) = &report.trouble {
                bail!("franz-go: {trouble}");
            }
            if let Some(end) = report.end {
                return Ok((std::mem::take(&mut report.settled), end));
            }
            drop(report);
            if Instant::now() > until {
                bail!("franz-go does not end");
            }
            sleep(POLL);
        }
    }

    fn command(&mut self, command: &str) -> Result<()> {
        writeln!(self.commands, "{command}").context("franz-go has ended")
    }

    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Follows the program's output to its end.
fn read(output: ChildStdout, report: &Mutex<Report>) {
    for line in BufReader::new(output).lines() {
        let line = line.context("reading").and_then(|line| {
            let parsed = serde_json::from_str::<Line>(&line);
            parsed.with_context(|| format!("an unexpected line: {line}"))
        });
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        match line {
            Ok(Line::Settled(settled)) => report.settled.push(settled),
            Ok(Line::End(end)) => report.end = Some(end),
            Err(error) => report.trouble = Some(format!("{error:#}")),
        }
    }
    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
    if report.end.is_none() && report.trouble.is_none() {
        report.trouble = Some("it ended without a last line".to_owned());
    }
}

/// The program, built once per process.
fn program() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || {
        let sources = install::root().join("tests/clients/franz-go-sequences");
        install::go_program(&sources, "go.mod", &install::target().join("clients/franz-go-sequences")).map_err(|error| format!("{error:#}"))
    };
    BUILT.get_or_init(build).clone().map_err(|error| anyhow!(error))
}
