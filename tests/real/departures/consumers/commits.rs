//! What is committed, looked at again and again beside a run.
//!
//! Invariant: a look takes a bounded time, and one that fails tells nothing.
//! Not here: an offset that goes back for less than two looks; a coordinator that was silent may tell for a moment what was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::real::groups;

const LOOK_EVERY: Duration = Duration::from_millis(250);
const POLL_EVERY: Duration = Duration::from_millis(50);
const LAST_LOOK_TIME_MAX: Duration = Duration::from_secs(30);

pub struct CommitWatch {
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl CommitWatch {
    pub fn start(ports: BTreeMap<i32, u16>, group: &str, topic: &str) -> Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        let (stop, group, topic) = (stopping.clone(), group.to_owned(), topic.to_owned());
        let watch = move || {
            let mut steps = Steps::default();
            while !stop.load(Ordering::Relaxed) {
                if let Ok(Some(committed)) = look(&ports, &group, &topic) {
                    steps.take(&committed);
                }
                sleep(LOOK_EVERY);
            }
            steps.back
        };
        Ok(Self { stopping, thread: std::thread::Builder::new().name("commits".to_owned()).spawn(watch)? })
    }

    /// How often a partition's committed offset went back.
    pub fn stop(self) -> Result<u64> {
        self.stopping.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("watching the commits panicked"))
    }
}

/// Committed offsets as they go on.
#[derive(Debug, Default)]
pub struct Steps {
    highest: BTreeMap<i32, i64>,
    /// Seen below the highest once.
    below: BTreeMap<i32, bool>,
    pub back: u64,
}

impl Steps {
    pub fn take(&mut self, committed: &BTreeMap<i32, i64>) {
        for (partition, offset) in committed {
            let highest = self.highest.entry(*partition).or_insert(*offset);
            let below = self.below.entry(*partition).or_insert(false);
            if *offset >= *highest {
                (*highest, *below) = (*offset, false);
            } else if *below {
                self.back += 1;
                (*highest, *below) = (*offset, false);
            } else {
                *below = true;
            }
        }
    }
}

/// As soon as the coordinator tells.
pub fn committed(ports: &BTreeMap<i32, u16>, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>> {
    let until = Instant::now() + LAST_LOOK_TIME_MAX;
    loop {
        let looked = look(ports, group, topic);
        if let Ok(Some(committed)) = looked {
            return Ok(committed);
        }
        ensure!(Instant::now() < until, "nobody tells what {group} has committed: {looked:?}");
        sleep(POLL_EVERY);
    }
}

/// Who coordinates, as soon as anybody tells.
pub fn coordinator(ports: &BTreeMap<i32, u16>, group: &str) -> Result<i32> {
    let until = Instant::now() + LAST_LOOK_TIME_MAX;
    loop {
        if let Some(broker) = ask_for_coordinator(ports, group) {
            return Ok(broker);
        }
        ensure!(Instant::now() < until, "nobody tells who coordinates {group}");
        sleep(POLL_EVERY);
    }
}

fn look(ports: &BTreeMap<i32, u16>, group: &str, topic: &str) -> Result<Option<BTreeMap<i32, i64>>> {
    let Some(coordinator) = ask_for_coordinator(ports, group) else { return Ok(None) };
    groups::committed(*ports.get(&coordinator).context("a coordinator that is no broker")?, group, topic)
}

fn ask_for_coordinator(ports: &BTreeMap<i32, u16>, group: &str) -> Option<i32> {
    ports.values().find_map(|port| groups::coordinator(*port, group).ok().flatten())
}
