//! A measured load: records produced at a steady rate to every partition, consumed again, and every one of them accounted for.
//!
//! Invariant: latency counts from the moment at which a record was due, not from when the producer got round to it. Deliberately not here:
//! faults; whoever runs the cluster or the proxy makes them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hdrhistogram::Histogram;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{Record, TimestampType};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batch;
use super::client::{Batch, ClientError, Delivery, Directory, Lane, ProducerIdentity, consume};
use super::tally::Tally;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Created if it is not there. It should be new: what others wrote counts as foreign.
    pub topic: String,
    /// Its partitions.
    pub partitions: i32,
    /// Records per second over all partitions.
    pub records_per_second: u32,
    /// A record's value; at least 28 bytes.
    pub record_bytes: usize,
    /// How long to produce.
    pub duration: Duration,
    /// Batches in flight per partition, 1 to 5.
    pub depth: usize,
    /// A request without an answer after this is given up, and its connection with it.
    pub request_timeout: Duration,
    /// How long, after the last record, may be waited for acknowledgements and then for consumption.
    pub drain: Duration,
    /// How often progress is told.
    pub progress_interval: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            topic: "evenkeel-demo".to_owned(),
            partitions: 6,
            records_per_second: 1_000,
            record_bytes: 100,
            duration: Duration::from_secs(10),
            depth: 5,
            request_timeout: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            progress_interval: Duration::from_millis(250),
        }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Since the start.
    pub elapsed: Duration,
    /// Records given to the producer.
    pub sent: u64,
    /// Records acknowledged.
    pub acked: u64,
    /// Distinct records consumed.
    pub consumed: u64,
    /// Failures that the client saw, whether or not it overcame them.
    pub errors: u64,
    /// The worst latency, in microseconds, of what was acknowledged since progress was last told.
    pub latency_max_us: u64,
}

/// Latency from due to acknowledged, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Median.
    pub p50_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// 99.9th percentile.
    pub p999_us: u64,
    /// The worst.
    pub max_us: u64,
}

/// How it went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Records given to the producer.
    pub sent: u64,
    /// Records acknowledged.
    pub acked: u64,
    /// Distinct records consumed.
    pub consumed: u64,
    /// Acknowledged and never consumed.
    pub lost: u64,
    /// Consumed more than once, each extra time counted.
    pub duplicated: u64,
    /// Whose first appearance came behind a later record of the same producer and partition.
    pub reordered: u64,
    /// Records that were not of this run.
    pub foreign: u64,
    /// Records that the producer gave up: refused for good, or not acknowledged when time was up.
    pub failed: u64,
    /// Times that a lane had to send again.
    pub retries: u64,
    /// Failures that the client saw, whether or not it overcame them.
    pub errors: u64,
    /// The first few of them.
    pub error_samples: Vec<String>,
    /// From due to acknowledged.
    pub latency: Latency,
    /// Every broker address that the client was ever told.
    pub told: BTreeSet<String>,
}

impl Report {
    /// Nothing lost, duplicated, out of order, foreign or failed.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.reordered == 0 && self.foreign == 0 && self.failed == 0
    }
}

/// What all tasks of a run write into.
struct Account {
    tally: Tally,
    latency: Histogram<u64>,
    latency_max_us: u64,
    retries: u64,
    errors: u64,
    error_samples: Vec<String>,
}

#[derive(Clone)]
struct Shared {
    account: Arc<Mutex<Account>>,
    directory: Arc<Directory>,
    options: Arc<Options>,
    identity: ProducerIdentity,
    started: Instant,
    /// The last record has been made; what is not settled when `given_up` comes, is failed.
    given_up: CancellationToken,
}

impl Shared {
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_error(&self, error: String) {
        const SAMPLES: usize = 10;
        let mut account = self.account();
        account.errors += 1;
        if account.error_samples.len() < SAMPLES {
            account.error_samples.push(error);
        }
    }
}

/// Runs a load through `bootstrap` (`host:port`, separated by commas).
pub async fn run(bootstrap: &str, options: Options, mut progress: impl FnMut(&Progress) + Send) -> Result<Report, ClientError> {
    let directory = Arc::new(Directory::new(bootstrap, &options.topic, options.request_timeout));
    directory.refresh().await?;
    directory.create_topic(options.partitions).await?;
    let identity = directory.producer_identity().await?;
    let account = Account {
        tally: Tally::new(options.partitions),
        latency: empty_histogram(),
        latency_max_us: 0,
        retries: 0,
        errors: 0,
        error_samples: Vec::new(),
    };
    let shared = Shared {
        account: Arc::new(Mutex::new(account)),
        directory,
        options: Arc::new(options),
        identity,
        started: Instant::now(),
        given_up: CancellationToken::new(),
    };
    let mut consumers = JoinSet::new();
    let mut producers = JoinSet::new();
    for partition in 0..shared.options.partitions {
        consumers.spawn(consume_partition(shared.clone(), partition));
        producers.spawn(produce_partition(shared.clone(), partition));
    }
    let produce_until = shared.started + shared.options.duration + shared.options.drain;
    let mut ticks = tokio::time::interval(shared.options.progress_interval.max(Duration::from_millis(1)));
    loop {
        tokio::select! {
            joined = producers.join_next() => if joined.is_none() { break },
            _ = ticks.tick() => progress(&snapshot(&shared)),
            () = tokio::time::sleep_until(produce_until) => shared.given_up.cancel(),
        }
    }
    let consume_until = Instant::now() + shared.options.drain;
    while Instant::now() < consume_until && !shared.account().tally.is_complete() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        progress(&snapshot(&shared));
    }
    consumers.shutdown().await;
    progress(&snapshot(&shared));
    Ok(report(&shared))
}

/// Up to ten minutes, to three digits.
fn empty_histogram() -> Histogram<u64> {
    const TEN_MINUTES_US: u64 = 600_000_000;
    Histogram::new_with_bounds(1, TEN_MINUTES_US, 3).unwrap_or_else(|_| unreachable!("constant bounds are valid"))
}

fn snapshot(shared: &Shared) -> Progress {
    let mut account = shared.account();
    Progress {
        elapsed: shared.started.elapsed(),
        sent: account.tally.sent(),
        acked: account.tally.acked(),
        consumed: account.tally.consumed(),
        errors: account.errors,
        latency_max_us: std::mem::take(&mut account.latency_max_us),
    }
}

fn report(shared: &Shared) -> Report {
    let account = shared.account();
    let tally = &account.tally;
    Report {
        sent: tally.sent(),
        acked: tally.acked(),
        consumed: tally.consumed(),
        lost: tally.lost(),
        duplicated: tally.duplicated(),
        reordered: tally.reordered(),
        foreign: tally.foreign(),
        failed: tally.sent() - tally.acked(),
        retries: account.retries,
        errors: account.errors,
        error_samples: account.error_samples.clone(),
        latency: Latency {
            p50_us: account.latency.value_at_quantile(0.5),
            p99_us: account.latency.value_at_quantile(0.99),
            p999_us: account.latency.value_at_quantile(0.999),
            max_us: account.latency.max(),
        },
        told: shared.directory.told(),
    }
}

async fn consume_partition(shared: Shared, partition: i32) {
    const MAX_WAIT: Duration = Duration::from_millis(100);
    let producer_id = shared.identity.producer_id;
    let consumed = |record: super::client::Consumed| {
        let stamp = Stamp::read(&record.value).filter(|stamp| stamp.producer_id == producer_id && stamp.partition == partition);
        shared.account().tally.consume(partition, stamp.map(|stamp| stamp.counter));
    };
    consume(shared.directory.clone(), partition, MAX_WAIT, consumed, |error| shared.note_error(error.to_string())).await;
}

/// What each record carries: whose it is, and when it was due.
struct Stamp {
    producer_id: i64,
    partition: i32,
    counter: u64,
    due_us: u64,
}

impl Stamp {
    const BYTES: usize = 28;

    fn read(value: &Bytes) -> Option<Stamp> {
        let mut value = value.clone();
        if value.len() < Self::BYTES {
            return None;
        }
        Some(Stamp { producer_id: value.get_i64(), partition: value.get_i32(), counter: value.get_u64(), due_us: value.get_u64() })
    }

    fn write(&self, record_bytes: usize) -> Bytes {
        let mut value = BytesMut::with_capacity(record_bytes.max(Self::BYTES));
        value.put_i64(self.producer_id);
        value.put_i32(self.partition);
        value.put_u64(self.counter);
        value.put_u64(self.due_us);
        value.resize(record_bytes.max(Self::BYTES), b'.');
        value.freeze()
    }
}

/// Makes one partition's records when they are due.
struct Source {
    partition: i32,
    interval: Duration,
    total: u64,
    made: u64,
}

impl Source {
    fn due(&self, counter: u64) -> Duration {
        Duration::from_secs_f64(self.interval.as_secs_f64() * counter as f64)
    }

    /// A batch of what is due by now, or none.
    fn batch(&mut self, shared: &Shared) -> Option<Batch> {
        const MAX_RECORDS: usize = 500;
        let now = shared.started.elapsed();
        let mut records = Vec::new();
        let first = self.made;
        while self.made < self.total && self.due(self.made) <= now && records.len() < MAX_RECORDS {
            let index = self.made - first;
            records.push(self.record(shared, self.made, i64::try_from(index).unwrap_or(i64::MAX)));
            self.made += 1;
        }
        if records.is_empty() {
            return None;
        }
        Some(Batch { bytes: batch::encode(&records), number: first, records: self.made - first })
    }

    fn record(&self, shared: &Shared, counter: u64, index: i64) -> Record {
        let due_us = u64::try_from(self.due(counter).as_micros()).unwrap_or(u64::MAX);
        let stamp = Stamp { producer_id: shared.identity.producer_id, partition: self.partition, counter, due_us };
        Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: shared.identity.producer_id,
            producer_epoch: shared.identity.epoch,
            timestamp_type: TimestampType::Creation,
            offset: index,
            sequence: i32::try_from(counter % (1 << 31)).unwrap_or(0),
            timestamp: i64::try_from(due_us / 1_000).unwrap_or(i64::MAX),
            key: None,
            value: Some(stamp.write(shared.options.record_bytes)),
            headers: IndexMap::new(),
        }
    }
}

async fn produce_partition(shared: Shared, partition: i32) {
    let options = &shared.options;
    let per_second = f64::from(options.records_per_second.max(1)) / f64::from(options.partitions.max(1));
    let total = (options.duration.as_secs_f64() * per_second).round() as u64;
    let mut source = Source { partition, interval: Duration::from_secs_f64(1.0 / per_second), total, made: 0 };
    let mut lane = Lane::new(shared.directory.clone(), partition, options.depth, options.request_timeout);
    while (source.made < total || lane.unsettled() > 0) && !shared.given_up.is_cancelled() {
        while lane.has_room() {
            let Some(batch) = source.batch(&shared) else { break };
            shared.account().tally.send(partition, batch.records);
            lane.push(batch);
        }
        lane.send().await;
        let has_more = source.made < total && lane.has_room();
        let next_due = shared.started + source.due(source.made);
        tokio::select! {
            () = lane.oldest_ready() => settle(&shared, &mut lane, &source).await,
            () = tokio::time::sleep_until(next_due), if has_more => {}
            () = shared.given_up.cancelled() => break,
        }
    }
    shared.account().retries += lane.retries();
}

async fn settle(shared: &Shared, lane: &mut Lane, source: &Source) {
    match lane.settle_oldest().await {
        Ok(Delivery::Acknowledged(batch)) => {
            let now = shared.started.elapsed();
            let mut account = shared.account();
            account.tally.acknowledge(source.partition, batch.number, batch.records);
            for counter in batch.number..batch.number + batch.records {
                let latency_us = u64::try_from(now.saturating_sub(source.due(counter)).as_micros()).unwrap_or(u64::MAX);
                account.latency.saturating_record(latency_us);
                account.latency_max_us = account.latency_max_us.max(latency_us);
            }
        }
        Ok(Delivery::Refused(_, error_code)) => shared.note_error(format!("partition {}: error code {error_code}", source.partition)),
        Err(error) => shared.note_error(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::cluster::Options as ClusterOptions;
    use crate::sim::fault::{Fault, Rule};
    use crate::sim::tcp::SimCluster;

    fn short() -> Options {
        Options {
            duration: Duration::from_millis(600),
            records_per_second: 2_000,
            request_timeout: Duration::from_secs(2),
            progress_interval: Duration::from_millis(50),
            ..Options::default()
        }
    }

    #[tokio::test]
    async fn a_quiet_cluster_loses_nothing_and_names_only_its_brokers() -> anyhow::Result<()> {
        let sim = SimCluster::start(ClusterOptions::default()).await?;
        let mut told_progress = 0;
        let report = run(&sim.bootstrap(), short(), |_| told_progress += 1).await?;
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.sent, report.consumed, report.errors), (1_200, 1_200, 0), "{report:?}");
        assert!(told_progress > 5);
        assert_eq!(report.told.iter().cloned().collect::<Vec<_>>().join(","), sorted(&sim.bootstrap()));
        assert!(sim.control(|cluster| cluster.unexpected().to_vec()).is_empty());
        Ok(())
    }

    fn sorted(bootstrap: &str) -> String {
        bootstrap.split(',').map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
    }

    #[tokio::test]
    async fn nothing_is_lost_twice_or_out_of_order_while_leaders_move_and_answers_are_dropped() -> anyhow::Result<()> {
        let sim = SimCluster::start(ClusterOptions::default()).await?;
        sim.control(|cluster| {
            let at = |ms| cluster.now() + Duration::from_millis(ms);
            let (dropped, moved, removed) = (at(100), at(200), at(350));
            cluster.at(dropped, |cluster| {
                cluster.inject(Rule::new(Fault::DropAnswer).on_api(0).times(3));
            });
            cluster.at(moved, |cluster| cluster.move_leader("evenkeel-demo", 0, 1));
            cluster.at(removed, |cluster| cluster.remove_broker(2));
        });
        let report = run(&sim.bootstrap(), short(), |_| {}).await?;
        assert!(report.is_clean(), "{report:?}");
        assert!(report.retries > 0 && report.sent == 1_200, "{report:?}");
        Ok(())
    }
}
