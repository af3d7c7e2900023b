//! A real Kafka cluster on loopback: brokers 1 to N, and a controller apart from them, so that any broker may go.
//!
//! Invariant: data and logs are in a scratch directory that goes with the cluster.
//! Not here: anything that speaks the protocol; clients do that.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::guard::{Guarded, Launch, Scratch, tail};
use super::{install, ports};

const CONTROLLER_ID: i32 = 100;
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qk";
const FORMAT_TIME_MAX: Duration = Duration::from_secs(60);
const START_TIME_MAX: Duration = Duration::from_secs(120);
const STOP_TIME_MAX: Duration = Duration::from_secs(30);
/// Brokers are less urgent than clients and the proxy, whose latency is what tests look at.
const NICE: u8 = 5;
const TAIL_LINES: usize = 40;
/// The mark of a request log's line.
pub const REQUEST_MARK: &str = "Completed request:";

struct Node {
    port: u16,
    properties: PathBuf,
    log: PathBuf,
    process: Option<Guarded>,
}

/// Whether brokers write a line for each request: what tests look into, and what costs time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestLog {
    On,
    Off,
}

/// What a cluster is to be like.
pub struct Setup<'a> {
    pub brokers: u16,
    pub request_log: RequestLog,
    /// Properties of every broker, beside and over those that each cluster has.
    pub properties: &'a [(&'a str, &'a str)],
}

pub struct RealKafka {
    pub version: String,
    request_log: RequestLog,
    jars: PathBuf,
    nodes: BTreeMap<i32, Node>,
    scratch: Scratch,
}

impl RealKafka {
    /// Installs, formats and starts a cluster, and returns when every broker serves.
    pub fn start(version: &str, brokers: u16) -> Result<Self> {
        Self::start_with(version, brokers, RequestLog::On)
    }

    pub fn start_with(version: &str, brokers: u16, request_log: RequestLog) -> Result<Self> {
        Self::start_as(version, &Setup { brokers, request_log, properties: &[] })
    }

    pub fn start_as(version: &str, setup: &Setup) -> Result<Self> {
        let (brokers, request_log) = (setup.brokers, setup.request_log);
        let jars = install::jars(&install::root().join("tests/kafka/pom.xml"), version, &install::target().join("kafka").join(version))?;
        let scratch = Scratch::new()?;
        let first_port = ports::consecutive(brokers + 1)?;
        let mut nodes = BTreeMap::new();
        for index in 0..=brokers {
            let id = if index == 0 { CONTROLLER_ID } else { i32::from(index) };
            let port = first_port + index;
            let properties = scratch.path().join(format!("{id}.properties"));
            let mut text = configuration(id, port, first_port, brokers, &scratch.path().join(format!("data-{id}")));
            // Of a property that is there twice, Kafka takes the last.
            text.extend(setup.properties.iter().map(|(name, value)| format!("{name}={value}\n")));
            fs::write(&properties, text)?;
            nodes.insert(id, Node { port, properties, log: scratch.path().join(format!("{id}.log")), process: None });
        }
        let mut cluster = Self { version: version.to_owned(), request_log, jars, nodes, scratch };
        cluster.format()?;
        let ids: Vec<i32> = cluster.nodes.keys().copied().collect();
        for id in &ids {
            cluster.launch(*id)?;
        }
        for id in cluster.broker_ids() {
            cluster.wait_until_ready(id)?;
        }
        Ok(cluster)
    }

    pub fn broker_ids(&self) -> Vec<i32> {
        self.nodes.keys().copied().filter(|id| *id != CONTROLLER_ID).collect()
    }

    /// The real addresses of all brokers, whether they run or not.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.broker_ports().iter().map(|port| format!("127.0.0.1:{port}")).collect();
        addresses.join(",")
    }

    pub fn broker_ports(&self) -> Vec<u16> {
        self.broker_ids().iter().map(|id| self.nodes[id].port).collect()
    }

    /// Every broker's id and port on loopback.
    pub fn addresses(&self) -> BTreeMap<i32, u16> {
        self.nodes.iter().filter(|(id, _)| **id != CONTROLLER_ID).map(|(id, node)| (*id, node.port)).collect()
    }

    /// The files that hold the brokers' request logs.
    pub fn logs(&self) -> Vec<&Path> {
        self.broker_ids().iter().map(|id| self.nodes[id].log.as_path()).collect()
    }

    /// SIGKILL: the cluster learns of it when the broker's session has run out.
    pub fn kill(&mut self, id: i32) {
        if let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut()) {
            process.kill();
        }
    }

    /// SIGSTOP: it falls silent, and its sockets stay.
    pub fn freeze(&self, id: i32) -> Result<()> {
        self.signal(id, "STOP")
    }

    /// SIGCONT, after `freeze`.
    pub fn thaw(&self, id: i32) -> Result<()> {
        self.signal(id, "CONT")
    }

    fn signal(&self, id: i32, signal: &str) -> Result<()> {
        let process = self.nodes.get(&id).and_then(|node| node.process.as_ref()).context("no such node, or it does not run")?;
        process.signal_program(signal, "java")
    }

    /// SIGTERM: a controlled shutdown, waited for.
    pub fn stop(&mut self, id: i32) -> Result<()> {
        let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut()) else { return Ok(()) };
        process.terminate();
        if process.wait(STOP_TIME_MAX)?.is_none() {
            bail!("broker {id} still runs {STOP_TIME_MAX:?} after SIGTERM\n{}", self.log_tails());
        }
        Ok(())
    }

    pub fn is_running(&mut self, id: i32) -> Result<bool> {
        let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut()) else { return Ok(false) };
        Ok(process.ended()?.is_none())
    }

    /// Starts a broker that was stopped or killed, on its data and its port.
    pub fn restart(&mut self, id: i32) -> Result<()> {
        self.launch(id)?;
        self.wait_until_ready(id)
    }

    /// The last lines of each node's log, without the request log.
    pub fn log_tails(&self) -> String {
        let tails = self.nodes.iter().map(|(id, node)| {
            format!("--- Kafka {} node {id} ---\n{}\n", self.version, tail(&node.log, TAIL_LINES, |line| !line.contains(REQUEST_MARK)))
        });
        tails.collect()
    }

    fn format(&self) -> Result<()> {
        let mut formatting = Vec::new();
        for (id, node) in &self.nodes {
            let log = self.scratch.path().join(format!("{id}.format.log"));
            let arguments = ["format", "-t", CLUSTER_ID, "-c"].map(OsString::from).into_iter().chain([node.properties.clone().into()]);
            let command = self.java("kafka.tools.StorageTool", arguments);
            let launch = Launch { name: format!("format {id}"), command, nice: NICE, stdout: log.clone(), stderr: log.clone() };
            formatting.push((Guarded::start(&launch)?, log));
        }
        for (mut process, log) in formatting {
            match process.wait(FORMAT_TIME_MAX)? {
                Some(status) if status.success() => {}
                other => bail!("{} of Kafka {}: {other:?}\n{}", process.name, self.version, tail(&log, TAIL_LINES, |_| true)),
            }
        }
        Ok(())
    }

    fn launch(&mut self, id: i32) -> Result<()> {
        let node = self.nodes.get(&id).context("no such node")?;
        let command = self.java("kafka.Kafka", [node.properties.clone().into()]);
        let launch = Launch {
            name: format!("Kafka {} node {id}", self.version),
            command,
            nice: NICE,
            stdout: node.log.clone(),
            stderr: node.log.clone(),
        };
        let process = Guarded::start(&launch)?;
        if let Some(node) = self.nodes.get_mut(&id) {
            node.process = Some(process);
        }
        Ok(())
    }

    fn wait_until_ready(&mut self, id: i32) -> Result<()> {
        let until = Instant::now() + START_TIME_MAX;
        loop {
            let node = self.nodes.get_mut(&id).context("no such node")?;
            let ended = node.process.as_mut().map(Guarded::ended).transpose()?.flatten();
            // A broker says so when the controller has let it in; its port answers earlier.
            let started = fs::read_to_string(&node.log).unwrap_or_default().contains("Kafka Server started");
            if started && TcpStream::connect(("127.0.0.1", node.port)).is_ok() {
                return Ok(());
            }
            if ended.is_some() || Instant::now() > until {
                bail!("Kafka {} node {id} does not start, exit status {ended:?}\n{}", self.version, self.log_tails());
            }
            sleep(Duration::from_millis(100));
        }
    }

    fn java(&self, main: &str, arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
        let mut command: Vec<OsString> = [
            "java",
            "-Xmx384m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
        ]
        .map(OsString::from)
        .to_vec();
        if self.request_log == RequestLog::On {
            command.push("-Dorg.slf4j.simpleLogger.log.kafka.request.logger=debug".into());
        }
        command.push("-cp".into());
        command.push(self.jars.join("*").into());
        command.push(main.into());
        command.extend(arguments);
        command
    }
}

fn configuration(id: i32, port: u16, controller_port: u16, brokers: u16, data: &Path) -> String {
    let replicas = brokers.min(3);
    let in_sync = if replicas > 1 { replicas - 1 } else { 1 };
    let role = if id == CONTROLLER_ID {
        format!("process.roles=controller\nlisteners=CONTROLLER://127.0.0.1:{port}\n")
    } else {
        format!("process.roles=broker\nlisteners=PLAINTEXT://127.0.0.1:{port}\nadvertised.listeners=PLAINTEXT://127.0.0.1:{port}\n")
    };
    format!(
        "{role}node.id={id}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         controller.listener.names=CONTROLLER\n\
         controller.quorum.voters={CONTROLLER_ID}@127.0.0.1:{controller_port}\n\
         log.dirs={}\n\
         offsets.topic.replication.factor={replicas}\n\
         offsets.topic.num.partitions=12\n\
         transaction.state.log.replication.factor={replicas}\n\
         transaction.state.log.min.isr={in_sync}\n\
         transaction.state.log.num.partitions=12\n\
         min.insync.replicas={in_sync}\n\
         auto.create.topics.enable=false\n\
         group.initial.rebalance.delay.ms=0\n\
         replica.fetch.backoff.ms=20\n",
        data.display()
    )
}
