//! The real clients: which there are, how each is built, what each library lacks, running one, and the commands of its loads.
//!
//! Invariant: a client runs in a bounded time, watched from outside.
//! Not here: the scenario and the loads; each program under `tests/clients/` carries them out in its own language.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::guard::{Guarded, Launch, tail};
use super::install;
use super::outcome::Outcome;
use super::sockets::SocketWatch;

const CLIENT_TIME_MAX: Duration = Duration::from_secs(180);
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

enum Program {
    Go { dir: &'static str, modfile: &'static str },
    Java { version: &'static str },
    Python { script: &'static str, load: &'static str, consume: &'static str },
    Node { dir: &'static str },
}

pub struct Client {
    pub name: &'static str,
    program: Program,
    /// The steps that the library has no means for.
    pub lacks: &'static [&'static str],
}

const NO_IDEMPOTENCE: &[&str] = &[
    "produce_none_idempotent",
    "produce_gzip_idempotent",
    "produce_snappy_idempotent",
    "produce_lz4_idempotent",
    "produce_zstd_idempotent",
    "transaction",
];
const GZIP_AND_SNAPPY_ONLY: &[&str] = &["produce_lz4", "produce_lz4_idempotent", "produce_zstd", "produce_zstd_idempotent"];

const LIBRDKAFKA: Program = Program::Python { script: "librdkafka.py", load: "librdkafka_load.py", consume: "librdkafka_consume.py" };
const AIOKAFKA: Program = Program::Python { script: "aiokafka_client.py", load: "aiokafka_load.py", consume: "aiokafka_consume.py" };

pub const CLIENTS: [Client; 9] = [
    Client { name: "franz-go-1.15.4", program: Program::Go { dir: "franz-go", modfile: "go-1.15.4.mod" }, lacks: &[] },
    Client { name: "franz-go-1.17.0", program: Program::Go { dir: "franz-go", modfile: "go-1.17.0.mod" }, lacks: &[] },
    Client { name: "sarama-1.61.1", program: Program::Go { dir: "sarama", modfile: "go.mod" }, lacks: &[] },
    Client { name: "kafka-go-0.4.51", program: Program::Go { dir: "kafka-go", modfile: "go.mod" }, lacks: NO_IDEMPOTENCE },
    Client { name: "java-2.8.2", program: Program::Java { version: "2.8.2" }, lacks: &[] },
    Client { name: "java-4.4.0", program: Program::Java { version: "4.4.0" }, lacks: &[] },
    Client { name: "librdkafka-2.16.0", program: LIBRDKAFKA, lacks: &[] },
    Client { name: "aiokafka-0.14.0", program: AIOKAFKA, lacks: &[] },
    Client { name: "kafkajs-2.2.4", program: Program::Node { dir: "kafkajs" }, lacks: GZIP_AND_SNAPPY_ONLY },
];

/// For the loads alone: the version with the published fix of the stall.
const FRANZ_GO_CURRENT: Client =
    Client { name: "franz-go-1.22.2", program: Program::Go { dir: "franz-go", modfile: "go-1.22.2.mod" }, lacks: &[] };

/// What a load is; `tests/clients/README.md` says what its program prints and how it is stopped.
pub struct LoadOptions<'a> {
    pub topic: &'a str,
    pub partitions: u32,
    pub records_per_second: u32,
    pub keys: u32,
    /// None: as the library does without being told.
    pub idempotence: Option<bool>,
}

/// A member of a consumer group under load; its program is described there too.
pub struct ConsumeOptions<'a> {
    pub topic: &'a str,
    pub group: &'a str,
    pub member: &'a str,
    /// The groups of KIP-848; else those that the library has by default. Java 4 alone has the choice.
    pub newer_protocol: bool,
}

/// A job that copies a topic in transactions; its program is described there too.
pub struct CopyOptions<'a> {
    pub from: &'a str,
    pub to: &'a str,
    pub group: &'a str,
    pub transactional_id: &'a str,
    pub records_per_transaction: u32,
    /// It ends by itself when so many are copied. None: it goes on until it is stopped.
    pub records: Option<u64>,
}

/// What a program is started for.
#[derive(Clone, Copy)]
enum Purpose {
    Scenario,
    Load,
    Consume,
    Copy,
}

/// What one run brought, from the program and from outside.
pub struct Run {
    pub outcome: Outcome,
    pub remote_ports: BTreeSet<u16>,
    /// Why it is no good, whatever the steps say.
    pub trouble: Option<String>,
    pub took: Duration,
}

impl Client {
    /// Builds it where that is needed: the command up to the bootstrap servers.
    pub fn install(&self) -> Result<Vec<OsString>> {
        self.install_for(Purpose::Scenario)
    }

    /// Builds it where that is needed: the whole command that produces a load. It reads `stop` from its standard input, and stops at
    /// its end too.
    pub fn load_command(&self, bootstrap: &str, load: &LoadOptions<'_>) -> Result<Vec<OsString>> {
        let mut command = self.install_for(Purpose::Load)?;
        let [partitions, rate, keys] = [load.partitions, load.records_per_second, load.keys].map(|number| number.to_string());
        command.extend([bootstrap, "--load", "--topic", load.topic, "--partitions", &partitions].map(OsString::from));
        command.extend(["--rate", &rate, "--keys", &keys, "--out", "json"].map(OsString::from));
        command.extend(load.idempotence.map(|idempotent| OsString::from(if idempotent { "--idempotent" } else { "--plain" })));
        Ok(command)
    }

    /// Builds it where that is needed: the whole command of one member of a group. It is stopped as a load is.
    pub fn consume_command(&self, bootstrap: &str, consume: &ConsumeOptions<'_>) -> Result<Vec<OsString>> {
        let mut command = self.install_for(Purpose::Consume)?;
        command.extend([bootstrap, "--consume", "--topic", consume.topic, "--group", consume.group].map(OsString::from));
        command.extend(["--member", consume.member, "--out", "json"].map(OsString::from));
        if consume.newer_protocol {
            command.extend(["--group-protocol", "consumer"].map(OsString::from));
        }
        Ok(command)
    }

    /// Builds it where that is needed: the whole command of a copy job, which Java and franz-go have. It is stopped as a load is.
    pub fn copy_command(&self, bootstrap: &str, copy: &CopyOptions<'_>) -> Result<Vec<OsString>> {
        let mut command = self.install_for(Purpose::Copy)?;
        command.extend([bootstrap, "--copy", "--topic", copy.from, "--to", copy.to, "--group", copy.group].map(OsString::from));
        let per_transaction = copy.records_per_transaction.to_string();
        command.extend(["--transactional-id", copy.transactional_id, "--per-transaction", &per_transaction].map(OsString::from));
        command.extend(copy.records.map(|records| ["--records".into(), records.to_string().into()]).into_iter().flatten());
        command.extend(["--out", "json"].map(OsString::from));
        Ok(command)
    }

    fn install_for(&self, purpose: Purpose) -> Result<Vec<OsString>> {
        let sources = install::root().join("tests/clients");
        let built = install::target().join("clients");
        Ok(match self.program {
            Program::Go { dir, .. } if matches!(purpose, Purpose::Copy) && dir != "franz-go" => bail!("{} has no copy job", self.name),
            Program::Go { dir, modfile } => vec![install::go_program(&sources.join(dir), modfile, &built.join(self.name))?.into()],
            Program::Java { version } => {
                let jars = install::jars(&sources.join("java/pom.xml"), version, &built.join(self.name).join("lib"))?;
                let classes = install::java_classes(&sources.join("java/src"), &jars, &built.join(self.name).join("classes"))?;
                let class_path = std::env::join_paths([classes, jars.join("*")])?;
                let mut command = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"].map(OsString::from).to_vec();
                let main = match purpose {
                    Purpose::Scenario => "Conformance",
                    Purpose::Load => "Load",
                    Purpose::Consume => "Consume",
                    Purpose::Copy => "Copy",
                };
                command.extend([class_path, main.into()]);
                command
            }
            Program::Python { script, load, consume } => {
                let script = match purpose {
                    Purpose::Scenario => script,
                    Purpose::Load => load,
                    Purpose::Consume => consume,
                    Purpose::Copy => bail!("{} has no copy job", self.name),
                };
                let interpreter = install::python(&sources.join("python/requirements.txt"), &built.join("python"))?;
                vec![interpreter.into(), "-B".into(), sources.join("python").join(script).into()]
            }
            Program::Node { dir } => {
                let main = match purpose {
                    Purpose::Scenario => "main.js",
                    Purpose::Load => "load.js",
                    Purpose::Consume => "consume.js",
                    Purpose::Copy => bail!("{} has no copy job", self.name),
                };
                vec!["node".into(), install::node_program(&sources.join(dir), main, &built.join(self.name))?.into()]
            }
        })
    }

    /// Runs it against the bootstrap servers; what it prints is kept under `logs`.
    pub fn run(&self, bootstrap: &str, logs: &Path) -> Result<Run> {
        let mut command = self.install()?;
        command.extend([bootstrap, "--out", "json"].map(OsString::from));
        let stdout = logs.join(format!("{}.out", self.name));
        let stderr = logs.join(format!("{}.err", self.name));
        let started = Instant::now();
        let mut process =
            Guarded::start(&Launch { name: self.name.to_owned(), command, nice: 0, stdout: stdout.clone(), stderr: stderr.clone() })?;
        let mut watch = SocketWatch::default();
        while process.ended()?.is_none() && started.elapsed() < CLIENT_TIME_MAX {
            watch.sample(&process.pids());
            sleep(SAMPLE_EVERY);
        }
        let took = started.elapsed();
        let trouble = match process.ended()? {
            Some(status) if status.success() => None,
            Some(status) => Some(format!("it ended with {status}")),
            None => Some(format!("it was not done after {CLIENT_TIME_MAX:?}")),
        };
        process.kill();
        if watch.remote_ports.is_empty() {
            bail!(
                "{}: no connection seen in {} samples, so the watch was blind\n{}",
                self.name,
                watch.samples,
                tail(&stderr, 20, |_| true)
            );
        }
        let trouble = trouble.map(|trouble| format!("{trouble}\n{}", tail(&stderr, 20, |_| true)));
        Ok(Run { outcome: Outcome::parse(&fs::read_to_string(&stdout)?), remote_ports: watch.remote_ports, trouble, took })
    }
}

pub fn by_name(name: &str) -> Option<&'static Client> {
    CLIENTS.iter().find(|client| client.name == name)
}

/// Every client that can produce and consume a load.
pub fn with_load() -> impl Iterator<Item = &'static Client> {
    CLIENTS.iter().chain([&FRANZ_GO_CURRENT])
}
