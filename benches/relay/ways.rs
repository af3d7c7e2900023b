//! The ways from the load to the stub: direct, through Evenkeel, through HAProxy where it is installed.
//!
//! Invariant: a way that is handed out has answered a request.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::frames::Ask;
use super::load::Client;
use super::real::guard::{Guarded, Launch, tail};
use super::real::ports;
use super::stub::Stub;
use super::usage;

const NODE_IDS: u16 = 10;
const OVERFLOW_PORTS: u16 = 100;
const START_TIME_MAX: Duration = Duration::from_secs(10);
const ANSWER_POLL: Duration = Duration::from_millis(2);

#[derive(Clone, Debug)]
pub enum Way {
    Direct,
    Evenkeel { name: String, binary: PathBuf },
    HaProxy,
}

/// A way that answers.
pub struct Open {
    pub name: String,
    /// Node N's address on this way is at N.
    pub addresses: Vec<SocketAddr>,
    /// From the process's start to its first answer.
    pub first_answer_after: Duration,
    process: Option<(Guarded, String)>,
}

impl Way {
    pub fn haproxy_is_installed() -> bool {
        Command::new("haproxy").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    pub fn name(&self) -> &str {
        match self {
            Way::Direct => "direct",
            Way::Evenkeel { name, .. } => name,
            Way::HaProxy => "HAProxy",
        }
    }

    /// Starts what it needs and waits for the first answer. `dir` takes logs and configurations.
    pub fn open(&self, stub: &Stub, dir: &Path) -> Result<Open> {
        let log = dir.join(format!("{}.log", self.name()));
        let name = self.name().to_owned();
        let (command, addresses, process_name) = match self {
            Way::Direct => {
                return Ok(Open { name, addresses: stub.addresses.clone(), first_answer_after: Duration::ZERO, process: None });
            }
            Way::Evenkeel { binary, .. } => {
                let first = ports::consecutive(2 + NODE_IDS + OVERFLOW_PORTS)?;
                let listen = format!("127.0.0.1:{}", first + 1);
                let admin = format!("127.0.0.1:{first}");
                let node_ids = format!("0-{}", NODE_IDS - 1);
                let upstream = stub.upstream();
                let mut command = vec![binary.clone().into_os_string()];
                command.extend(
                    ["run", "--upstream", &upstream, "--listen", &listen, "--node-ids", &node_ids, "--admin", &admin].map(Into::into),
                );
                // What is measured is how fast connections can be made, not how many may be. A build from before the limit goes without.
                let file = dir.join("evenkeel.yaml");
                fs::write(&file, format!("upstream: {{bootstrap: \"{upstream}\"}}\nlimits: {{connects_per_second_per_broker: 100000}}\n"))?;
                let mut check = Command::new(binary);
                check.arg("check").arg("--config").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
                if check.status().is_ok_and(|status| status.success()) {
                    command.extend(["--config".into(), file.into_os_string()]);
                }
                // The kernel keeps 15 bytes of a program's name.
                let file_name: String = binary.file_name().unwrap_or_default().to_string_lossy().chars().take(15).collect();
                (command, local(first + 2, stub.addresses.len()), file_name)
            }
            Way::HaProxy => {
                let addresses = local(ports::consecutive(u16::try_from(stub.addresses.len())?)?, stub.addresses.len());
                let file = dir.join("haproxy.cfg");
                fs::write(&file, haproxy_configuration(&addresses, stub))?;
                (vec!["haproxy".into(), "-db".into(), "-f".into(), file.into()], addresses, "haproxy".to_owned())
            }
        };
        let started = Instant::now();
        let mut process = Guarded::start(&Launch { name: name.clone(), command, nice: 0, stdout: log.clone(), stderr: log.clone() })?;
        let ask = Ask::Produce { version: 9, record_bytes: 1024 };
        while let Err(error) = Client::connect(addresses[0], ask) {
            if process.ended()?.is_some() || started.elapsed() > START_TIME_MAX {
                bail!("{name} does not answer: {error:#}\n{}", tail(&log, 20, |_| true));
            }
            sleep(ANSWER_POLL);
        }
        Ok(Open { name, addresses, first_answer_after: started.elapsed(), process: Some((process, process_name)) })
    }
}

impl Open {
    pub fn cpu(&self) -> Duration {
        self.process.as_ref().map_or(Duration::ZERO, |(process, name)| usage::cpu(&process.pids(), name))
    }

    pub fn resident_bytes(&self) -> u64 {
        self.process.as_ref().map_or(0, |(process, name)| resident_bytes(&process.pids(), name))
    }

    pub fn has_process(&self) -> bool {
        self.process.is_some()
    }
}

fn local(first_port: u16, count: usize) -> Vec<SocketAddr> {
    (first_port..).take(count).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect()
}

fn haproxy_configuration(addresses: &[SocketAddr], stub: &Stub) -> String {
    let mut text =
        "global\n  maxconn 5000\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 10m\n  timeout server 10m\n".to_owned();
    for (node, (address, broker)) in addresses.iter().zip(&stub.addresses).enumerate() {
        text.push_str(&format!("listen node{node}\n  bind {address}\n  server broker{node} {broker}\n"));
    }
    text
}

/// Resident memory, in bytes.
fn resident_bytes(pids: &[u32], name: &str) -> u64 {
    let kilobytes = usage::named(pids, name).filter_map(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok())
    });
    kilobytes.sum::<u64>() * 1024
}
