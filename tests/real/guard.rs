//! Child processes that end with the test process, however that ends.
//!
//! Each runs in a process group of its own, under a shell that holds a pipe from the test process: at the
//! pipe's end, which the kernel brings about also on SIGKILL, the shell kills the whole group.
//! Invariant: only groups started here are signalled.
//! Not here: restarts; whoever needs one starts a new process.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

const POLL: Duration = Duration::from_millis(20);
const TAIL_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// `$@` is the command. SIGTERM to the group reaches the command; the shell stays for its exit status.
const GUARD: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
child=$!
( trap '' TERM; read -r _; kill -KILL 0 ) <&3 3<&- >/dev/null 2>&1 &
watcher=$!
exec 3<&- </dev/null
trap : TERM
while :; do
    wait "$child"; status=$?
    kill -0 "$child" 2>/dev/null || break
done
kill -KILL "$watcher" 2>/dev/null
kill -TERM 0
exit "$status"
"#;

/// What to start, and where its output goes.
pub struct Launch {
    pub name: String,
    pub command: Vec<OsString>,
    /// 0 to 19; more is less urgent.
    pub nice: u8,
    pub stdout: PathBuf,
    pub stderr: PathBuf,
}

/// A running command with all that it starts.
pub struct Guarded {
    pub name: String,
    child: Child,
    lifeline: Option<ChildStdin>,
    ended: Option<ExitStatus>,
}

impl Guarded {
    pub fn start(launch: &Launch) -> Result<Self> {
        let mut command = Command::new("nice");
        command.args(["-n", &launch.nice.to_string(), "sh", "-c", GUARD, "sh"]).args(&launch.command);
        // Settings meant for the tests, or for a proxy of the caller's own, are not for these processes.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("EVENKEEL_")) {
            command.env_remove(name);
        }
        command.stdin(Stdio::piped()).process_group(0);
        command.stdout(create(&launch.stdout)?);
        if launch.stderr == launch.stdout {
            command.stderr(File::options().append(true).open(&launch.stdout)?);
        } else {
            command.stderr(create(&launch.stderr)?);
        }
        let mut child = command.spawn().with_context(|| format!("starting {}", launch.name))?;
        let lifeline = child.stdin.take();
        Ok(Self { name: launch.name.clone(), child, lifeline, ended: None })
    }

    /// The process ids of the command and all that it started.
    pub fn pids(&self) -> Vec<u32> {
        let group = self.child.id().to_string();
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .filter(|pid| {
                // The name in parentheses may hold spaces; the group is the third field after it.
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(2)) == Some(group.as_str())
            })
            .collect()
    }

    /// The command's exit status, once it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Waits for the end of the command, at most so long.
    pub fn wait(&mut self, at_most: Duration) -> Result<Option<ExitStatus>> {
        let until = Instant::now() + at_most;
        while self.ended()?.is_none() && Instant::now() < until {
            sleep(POLL);
        }
        Ok(self.ended)
    }

    /// Asks the command to end.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Signals the processes of this name alone. The shells that guard them must go on: a stopped one ends nothing.
    pub fn signal_program(&self, signal: &str, program: &str) -> Result<()> {
        let named = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == program);
        let pids: Vec<String> = self.pids().iter().filter(|pid| named(pid)).map(u32::to_string).collect();
        ensure!(!pids.is_empty(), "{}: no process named {program} to send SIG{signal} to", self.name);
        let status = Command::new("sh").args(["-c", &format!("kill -s {signal} -- {}", pids.join(" "))]).status()?;
        ensure!(status.success(), "{}: SIG{signal} to {pids:?}: {status}", self.name);
        Ok(())
    }

    /// Ends the command and all that it started, at once.
    pub fn kill(&mut self) {
        self.signal("KILL");
        self.cut_lifeline();
        if let Ok(status) = self.child.wait() {
            self.ended = Some(status);
        }
    }

    /// What happens when the test process dies: the kernel closes its end of the pipe.
    pub fn cut_lifeline(&mut self) {
        self.lifeline = None;
    }

    fn signal(&self, signal: &str) {
        if self.ended.is_none() {
            let _ = Command::new("sh").args(["-c", &format!("kill -s {signal} -- -{}", self.child.id())]).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

fn create(path: &Path) -> Result<File> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    File::create(path).with_context(|| format!("creating {}", path.display()))
}

/// The last lines of a log that `wanted` lets through.
pub fn tail(path: &Path, lines_max: usize, wanted: impl Fn(&str) -> bool) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
        file.read_to_end(&mut bytes)
    });
    if let Err(error) = read {
        return format!("{}: {error}", path.display());
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().filter(|line| wanted(line)).collect();
    lines[lines.len().saturating_sub(lines_max)..].join("\n")
}

/// A directory for the life of this value or of the test process, in memory where there is such a place: syncing a busy
/// disk costs 60 ms and more. A shell at the end of a pipe removes it.
pub struct Scratch {
    path: PathBuf,
    _lifeline: Option<ChildStdin>,
}

impl Scratch {
    pub fn new() -> Result<Self> {
        let mut named = tempfile::Builder::new();
        named.prefix("evenkeel-kafka-");
        let path = named.tempdir_in("/dev/shm").or_else(|_| named.tempdir())?.keep();
        let mut janitor = Command::new("sh")
            .args(["-c", r#"read -r _; sleep 1; rm -rf -- "$1""#, "sh"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        Ok(Self { path, _lifeline: janitor.stdin.take() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}
