//! One run: a simulated cluster, the binary before it or not, the client under load, a script, a verdict.
//!
//! Invariant: a run shares nothing with another one but the machine.
//! Not here: the scripts.

use std::path::PathBuf;
use std::str::from_utf8;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use evenkeel::sim::cluster::{Cluster, Options};
use evenkeel::sim::fault::{Exchange, Verdict as Answer};
use evenkeel::sim::tcp::SimCluster;
use tokio::runtime::{Builder, Runtime};

use super::catalogue::Sequence;
use super::client::{Client, Load};
use super::verdict::Verdict;
use crate::real::install;
use crate::real::proxy::Proxy;

pub const TOPIC: &str = "sequence";
pub const PARTITIONS: i32 = 6;
pub const BROKERS: i32 = 3;

const WARM_RECORDS: usize = 60;
const WARM_TIME_MAX: Duration = Duration::from_secs(20);
/// The client fetched its metadata when it started. A departure this much later finds them fresh, so that the client, left alone, waits
/// for most of its five seconds.
const METADATA_AGE: Duration = Duration::from_millis(500);
/// How long the load goes on after the script.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// What the client connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Direct,
    Proxy { binary: &'static str },
}

impl Way {
    pub fn name(self) -> &'static str {
        match self {
            Way::Direct => "direct",
            Way::Proxy { .. } => "proxy",
        }
    }
}

/// What a script acts on. Fields end in this order: the sockets before the runtime that drives them.
pub struct Stage {
    client: Client,
    proxy: Option<Proxy>,
    cluster: SimCluster,
    runtime: Runtime,
}

impl Stage {
    fn set(sequence: &Sequence, way: Way, log: &str) -> Result<Stage> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let options = Options { brokers: BROKERS, ..sequence.options() };
        let cluster = runtime.block_on(SimCluster::start(options))?;
        cluster.control(|cluster| cluster.create_topic(TOPIC, PARTITIONS));
        let proxy = match way {
            Way::Direct => None,
            Way::Proxy { binary } => Some(start_proxy(binary, &cluster.bootstrap(), log)?),
        };
        let bootstrap = proxy.as_ref().map_or_else(|| cluster.bootstrap(), Proxy::bootstrap);
        let client = Client::start(&bootstrap, TOPIC, sequence.load)?;
        Ok(Stage { client, proxy, cluster, runtime })
    }

    fn warm_up(&self, load: Load) -> Result<()> {
        let started = Instant::now();
        let records = WARM_RECORDS.min(load.records_per_second as usize);
        self.client.until_acknowledged(records, WARM_TIME_MAX)?;
        sleep(METADATA_AGE.saturating_sub(started.elapsed()));
        Ok(())
    }

    /// Looks at the cluster, or commands it.
    pub fn control<T>(&self, command: impl FnOnce(&mut Cluster) -> T) -> T {
        self.cluster.control(command)
    }

    /// Commands the cluster so much later; the script goes on.
    pub fn later(&self, delay: Duration, command: impl FnOnce(&mut Cluster) + Send + 'static) {
        self.cluster.control(|cluster| cluster.at(cluster.now() + delay, command));
    }

    /// The client asks for metadata.
    pub fn refresh(&mut self) -> Result<()> {
        self.client.refresh()
    }

    /// The first request that `wanted` picks is answered as `answer` says. What is returned hears of it.
    pub fn once(
        &self,
        wanted: impl Fn(&Exchange) -> bool + Send + 'static,
        answer: impl FnOnce(&mut Cluster) -> Answer + Send + 'static,
    ) -> Receiver<()> {
        let (tell, told) = channel();
        let mut answer = Some(answer);
        self.cluster.control(|cluster| {
            cluster.hook(move |exchange, cluster| {
                if answer.is_none() || !wanted(exchange) {
                    return Answer::Pass;
                }
                let _ = tell.send(());
                answer.take().map_or(Answer::Pass, |answer| answer(cluster))
            });
        });
        told
    }

    fn end(self) -> Result<(Verdict, String)> {
        sleep(AFTERWARDS);
        let (settled, end) = self.client.stop()?;
        let numbers = |partition| -> Result<Vec<u64>> {
            let records = self.cluster.control(|cluster| cluster.records(TOPIC, partition));
            let number = |value: &[u8]| from_utf8(value).ok()?.parse().ok();
            records.iter().map(|record| record.value.as_deref().and_then(number).context("a record without a number")).collect()
        };
        let logs = (0..PARTITIONS).map(numbers).collect::<Result<Vec<_>>>()?;
        let strange = self.cluster.control(|cluster| cluster.unexpected().to_vec());
        ensure!(strange.is_empty(), "the cluster could make nothing of {strange:?}");
        let proxy_log = self.proxy.as_ref().map(Proxy::log_tail).unwrap_or_default();
        drop((self.proxy, self.cluster));
        self.runtime.shutdown_background();
        Ok((Verdict::new(&settled, end, &logs), proxy_log))
    }
}

/// One after the other: two that start at the same moment might pick the same free ports.
fn start_proxy(binary: &str, upstream: &str, log: &str) -> Result<Proxy> {
    static STARTING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    Proxy::start(binary, upstream, &logs().join(log))
}

fn logs() -> PathBuf {
    install::target().join("sequences")
}

/// Plays the sequence once. The second answer is the end of the proxy's log, which is kept under the name `lane`.
pub fn run(sequence: &Sequence, way: Way, lane: &str) -> Result<(Verdict, String)> {
    let played = || {
        let mut stage = Stage::set(sequence, way, &format!("{}-{lane}.log", sequence.name))?;
        stage.warm_up(sequence.load)?;
        (sequence.play)(&mut stage)?;
        stage.end()
    };
    let (verdict, proxy_log) = played().with_context(|| format!("{}, {}", sequence.name, way.name()))?;
    let all = !sequence.load.keyed || verdict.partitions.len() == PARTITIONS as usize;
    ensure!(all, "{}, {}: only partitions {:?} were written", sequence.name, way.name(), verdict.partitions);
    Ok((verdict, proxy_log))
}
