//! Evenkeel's real binary in front of a cluster.
//!
//! Invariant: the test process's own environment settings of the proxy do not reach it.
//! Not here: a configuration file; the flags are what is tested.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::guard::{Guarded, Launch, tail};
use super::ports;

const NODE_IDS: u16 = 10;
const OVERFLOW_PORTS: u16 = 100;
const START_TIME_MAX: Duration = Duration::from_secs(30);
const STOP_TIME_MAX: Duration = Duration::from_secs(40);

pub struct Proxy {
    process: Guarded,
    first_port: u16,
    admin_port: u16,
    log: PathBuf,
}

impl Proxy {
    /// Starts it, and returns when it says that it is ready.
    pub fn start(binary: &str, upstream: &str, log: &Path) -> Result<Self> {
        // The admin port, the bootstrap port, one for each node id, and the overflow range behind them.
        let admin_port = ports::consecutive(2 + NODE_IDS + OVERFLOW_PORTS)?;
        let first_port = admin_port + 1;
        let listen = format!("127.0.0.1:{first_port}");
        let admin = format!("127.0.0.1:{admin_port}");
        let node_ids = format!("0-{}", NODE_IDS - 1);
        let arguments = [binary, "run", "--upstream", upstream, "--listen", &listen, "--node-ids", &node_ids, "--admin", &admin];
        let process = Guarded::start(&Launch {
            name: "evenkeel".to_owned(),
            command: arguments.map(Into::into).to_vec(),
            nice: 0,
            stdout: log.to_path_buf(),
            stderr: log.to_path_buf(),
        })?;
        let mut proxy = Self { process, first_port, admin_port, log: log.to_path_buf() };
        let until = Instant::now() + START_TIME_MAX;
        while !proxy.get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            if proxy.process.ended()?.is_some() || Instant::now() > until {
                bail!("the proxy does not become ready: {:?}\n{}", proxy.get("/readyz"), proxy.log_tail());
            }
            sleep(Duration::from_millis(50));
        }
        Ok(proxy)
    }

    /// The processes of its group: its own, and the shells that guard it.
    pub fn pids(&self) -> Vec<u32> {
        self.process.pids()
    }

    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.first_port)
    }

    /// The addresses that clients may learn and dial.
    pub fn owns(&self, address: &str) -> bool {
        let port = address.strip_prefix("127.0.0.1:").and_then(|port| port.parse().ok());
        port.is_some_and(|port| (self.first_port..=self.first_port + NODE_IDS).contains(&port))
    }

    pub fn metrics(&self) -> Result<String> {
        self.get("/metrics")
    }

    pub fn log_tail(&self) -> String {
        format!("--- evenkeel ---\n{}\n", tail(&self.log, 60, |_| true))
    }

    /// SIGTERM; it must drain and exit with 0.
    pub fn stop(mut self) -> Result<()> {
        self.process.terminate();
        match self.process.wait(STOP_TIME_MAX)? {
            Some(status) if status.success() => Ok(()),
            other => bail!("after SIGTERM the proxy ended with {other:?}\n{}", self.log_tail()),
        }
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.admin_port))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}
