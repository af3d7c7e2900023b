//! A client's program: started, read line by line, told to stop.
//!
//! Invariant: it ends in a bounded time, and with the test process.
//! Not here: what the lines say.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::real::guard::{Guarded, Launch, tail};

/// The programs wait for what is outstanding, or close themselves, for 20 s.
const STOP_TIME_MAX: Duration = Duration::from_secs(40);
const STDERR_LINES_MAX: usize = 20;

pub struct Program {
    pub name: String,
    process: Guarded,
    /// Its standard input. Opened for reading too, so that opening waits for nobody.
    input: File,
    input_name: PathBuf,
    output: File,
    unread: Vec<u8>,
    stderr: PathBuf,
}

impl Program {
    /// What it prints is kept under `logs`, in files of this name.
    pub fn start(name: String, command: Vec<OsString>, logs: &Path, files: &str) -> Result<Self> {
        fs::create_dir_all(logs)?;
        let [fifo, stdout, stderr] = ["in", "out", "err"].map(|end| logs.join(format!("{files}.{end}")));
        if fifo.exists() {
            fs::remove_file(&fifo)?;
        }
        let made = Command::new("mkfifo").arg(&fifo).status().context("running mkfifo")?;
        ensure!(made.success(), "mkfifo {}: {made}", fifo.display());
        let input = File::options().read(true).write(true).open(&fifo)?;
        // The guard keeps a program's standard input for itself; a shell in between takes the pipe's name.
        let mut through = ["sh", "-c", r#"in=$1; shift; exec "$@" <"$in""#, "sh"].map(OsString::from).to_vec();
        through.push(fifo.clone().into());
        through.extend(command);
        let launch = Launch { name: name.clone(), command: through, nice: 0, stdout: stdout.clone(), stderr: stderr.clone() };
        let process = Guarded::start(&launch)?;
        Ok(Self { name, process, input, input_name: fifo, output: File::open(&stdout)?, unread: Vec::new(), stderr })
    }

    /// Once it has said something it has its input open, and a pipe that is left lying about blocks whoever reads it.
    pub fn unname_input(&self) -> Result<()> {
        Ok(fs::remove_file(&self.input_name)?)
    }

    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.process.ended()
    }

    /// The lines that it has printed since the last call.
    pub fn lines(&mut self) -> Result<Vec<Value>> {
        self.output.read_to_end(&mut self.unread)?;
        let Some(end) = self.unread.iter().rposition(|byte| *byte == b'\n') else { return Ok(Vec::new()) };
        let whole: Vec<u8> = self.unread.drain(..=end).collect();
        Ok(String::from_utf8_lossy(&whole).lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    pub fn ask_to_stop(&mut self) -> Result<()> {
        Ok(self.input.write_all(b"stop\n")?)
    }

    /// None: it has not ended in the time that it has for that.
    pub fn wait_for_end(&mut self) -> Result<Option<ExitStatus>> {
        self.process.wait(STOP_TIME_MAX)
    }

    /// The last that it said on its standard error.
    pub fn complaints(&self) -> String {
        tail(&self.stderr, STDERR_LINES_MAX, |_| true)
    }
}
