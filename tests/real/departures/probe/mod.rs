//! The limit probe: what the cluster itself allows. It writes into the very partitions that the client writes into, as many
//! records a second, straight to the brokers.
//!
//! The same partitions, not a topic of its own with the same leaders: a leader moves for both at the same moment. Its records bear
//! a key of their own, by which reading back passes over them.
//! It has one connection to each broker, as every client has: a broker works on one request of a connection at a time, and what waits
//! there behind a stuck one no client can hasten. While anything is unsettled every broker is asked for metadata every 10 ms, on
//! other connections, and the newest leader is tried at once.
//! Beside its writers it may have readers: the limit of what a consumer could have. They have a connection for each partition.
//! Invariant: no broker, dead or silent, keeps a partition waiting once another is known to lead it.
//! Not here: idempotence. The probe may write a record twice: it is known by its number where it was acknowledged, and by its offset
//! where it is read.

mod leaders;
mod link;
mod partition;
mod pipe;
mod reader;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use self::leaders::Leaders;
use self::pipe::Pipe;
use super::acks::{Ack, now_ms};

/// What marks the probe's records.
pub const PROBE_KEY: &[u8] = b"limit-probe";
/// How long it tries to get rid of its last records.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(20);
/// How long its readers may take to get to the last of them.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(5);
const CATCH_UP_POLL_EVERY: Duration = Duration::from_millis(10);

/// What the probe is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The limit of a producer.
    Write,
    /// The records that consumers read, and the limit of a consumer.
    WriteAndRead,
}

/// A record that the probe's own readers got.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Read {
    pub partition: i32,
    pub offset: i64,
    pub at_ms: f64,
}

/// What the probe wrote and read.
#[derive(Clone, Debug, Default)]
pub struct Probed {
    pub acks: Vec<Ack>,
    pub reads: Vec<Read>,
}

impl Probed {
    /// The last offset that was acknowledged, by partition.
    pub fn last_offsets(&self) -> BTreeMap<i32, i64> {
        let mut last = BTreeMap::new();
        for (partition, offset) in self.acks.iter().filter_map(|ack| Some((ack.partition, ack.offset?))) {
            let last = last.entry(partition).or_insert(offset);
            *last = offset.max(*last);
        }
        last
    }
}

pub struct Probe {
    thread: Option<JoinHandle<Result<()>>>,
    shared: Arc<Shared>,
}

/// What the probe's tasks know of each other.
struct Shared {
    ports: BTreeMap<i32, u16>,
    topic: String,
    partitions: u16,
    rate: u32,
    started: Instant,
    started_ms: f64,
    leaders: Leaders,
    unsettled: AtomicUsize,
    /// Something became unsettled.
    alarm: Notify,
    part: Part,
    probed: Mutex<Probed>,
    pipes: Mutex<BTreeMap<i32, Arc<Pipe>>>,
    stopping: CancellationToken,
}

/// As long as one of these lives, metadata is asked for as fast as allowed.
struct Unsettled<'a>(&'a Shared);

impl Shared {
    fn unsettle(&self) -> Unsettled<'_> {
        self.unsettled.fetch_add(1, Ordering::Relaxed);
        self.alarm.notify_waiters();
        Unsettled(self)
    }

    /// The connection to this broker, and whether it was there before.
    fn pipe(&self, broker: i32, port: u16) -> (Arc<Pipe>, bool) {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        match pipes.get(&broker).filter(|pipe| !pipe.is_closed()) {
            Some(pipe) => (pipe.clone(), true),
            None => {
                let pipe = Arc::new(Pipe::open(port, self.topic.clone()));
                pipes.insert(broker, pipe.clone());
                (pipe, false)
            }
        }
    }

    fn is_settled(&self) -> bool {
        self.unsettled.load(Ordering::Relaxed) == 0
    }

    /// When the probe's record of this number is due.
    fn due(&self, number: u64) -> Instant {
        self.started + Duration::from_secs_f64(number as f64 / f64::from(self.rate))
    }

    fn acknowledged(&self, partition: u16, number: u64, offset: i64) {
        let now = Instant::now();
        let ack = Ack {
            number,
            partition: i32::from(partition),
            offset: Some(offset),
            latency_ms: (now - self.due(number)).as_secs_f64() * 1e3,
            at_ms: self.unix_ms(now),
        };
        self.probed().acks.push(ack);
    }

    fn has_read(&self, partition: u16, offsets: &[i64]) {
        let at_ms = self.unix_ms(Instant::now());
        self.probed().reads.extend(offsets.iter().map(|offset| Read { partition: i32::from(partition), offset: *offset, at_ms }));
    }

    /// Whether everything that was acknowledged has been read.
    fn has_caught_up(&self) -> bool {
        let probed = self.probed();
        let reads: HashSet<_> = probed.reads.iter().map(|read| (read.partition, Some(read.offset))).collect();
        probed.acks.iter().all(|ack| reads.contains(&(ack.partition, ack.offset)))
    }

    fn unix_ms(&self, at: Instant) -> f64 {
        self.started_ms + (at - self.started).as_secs_f64() * 1e3
    }

    fn probed(&self) -> MutexGuard<'_, Probed> {
        self.probed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        self.0.unsettled.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Probe {
    /// Starts writing, from a thread of its own.
    pub fn start(ports: BTreeMap<i32, u16>, topic: &str, partitions: u16, rate: u32, part: Part) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::new(Shared {
            ports,
            topic: topic.to_owned(),
            partitions,
            rate,
            started: Instant::now(),
            started_ms: now_ms(),
            leaders: Leaders::new(partitions),
            unsettled: AtomicUsize::new(0),
            alarm: Notify::new(),
            part,
            probed: Mutex::default(),
            pipes: Mutex::default(),
            stopping: CancellationToken::new(),
        });
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new().name("limit-probe".to_owned()).spawn(move || runtime.block_on(run(shared)))?
        };
        Ok(Self { thread: Some(thread), shared })
    }

    /// Whether each partition has acknowledged a record.
    pub fn is_warm(&self) -> bool {
        let mut warm: Vec<i32> = self.shared.probed().acks.iter().map(|ack| ack.partition).collect();
        warm.sort_unstable();
        warm.dedup();
        warm.len() == usize::from(self.shared.partitions)
    }

    /// The last offset that was acknowledged until now, by partition.
    pub fn last_offsets(&self) -> BTreeMap<i32, i64> {
        self.shared.probed().last_offsets()
    }

    /// The first offset that each partition acknowledged after that time; waits until there is one.
    pub fn acknowledged_since(&self, at_ms: f64, at_most: Duration) -> Result<BTreeMap<i32, i64>> {
        let until = std::time::Instant::now() + at_most;
        loop {
            let mut first = BTreeMap::new();
            for ack in self.shared.probed().acks.iter().filter(|ack| ack.at_ms >= at_ms) {
                first.extend(ack.offset.filter(|_| !first.contains_key(&ack.partition)).map(|offset| (ack.partition, offset)));
            }
            if first.len() == usize::from(self.shared.partitions) {
                return Ok(first);
            }
            ensure!(std::time::Instant::now() < until, "after the event only {} partitions acknowledge anything", first.len());
            std::thread::sleep(CATCH_UP_POLL_EVERY);
        }
    }

    /// Stops writing, and returns what was acknowledged, and read.
    pub fn stop(mut self) -> Result<Probed> {
        self.shared.stopping.cancel();
        let thread = self.thread.take().context("stopped twice")?;
        thread.join().map_err(|_| anyhow!("the limit probe panicked"))??;
        Ok(std::mem::take(&mut *self.shared.probed()))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.shared.stopping.cancel();
    }
}

async fn run(shared: Arc<Shared>) -> Result<()> {
    let mut askers = JoinSet::new();
    for port in shared.ports.values() {
        askers.spawn(leaders::keep_asking(shared.clone(), *port));
    }
    let mut writers = JoinSet::new();
    for index in 0..shared.partitions {
        writers.spawn(partition::keep_writing(shared.clone(), index));
    }
    let mut readers = JoinSet::new();
    if shared.part == Part::WriteAndRead {
        for index in 0..shared.partitions {
            readers.spawn(reader::keep_reading(shared.clone(), index));
        }
    }
    shared.stopping.cancelled().await;
    tokio::time::timeout(SETTLE_TIME_MAX, async {
        while let Some(written) = writers.join_next().await {
            written.context("a task of the limit probe")??;
        }
        Ok(())
    })
    .await
    .unwrap_or_else(|_| Err(anyhow!("the limit probe could not settle its records in {SETTLE_TIME_MAX:?}")))?;
    let until = Instant::now() + CATCH_UP_TIME_MAX;
    while !readers.is_empty() && !shared.has_caught_up() && Instant::now() < until {
        sleep(CATCH_UP_POLL_EVERY).await;
    }
    // A reader ends by itself only at what nothing helps against.
    while let Some(read) = readers.try_join_next() {
        read.context("a task of the limit probe")??;
    }
    Ok(())
}
