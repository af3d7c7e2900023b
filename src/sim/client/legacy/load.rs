//! A steady load through the model, over sockets: records numbered per partition, and of each when it was due and when acknowledged.
//!
//! Invariant: latency counts from the moment at which a record was due, not from when there was room for it. Deliberately not here:
//! consuming; whoever owns the cluster reads its log back.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::sockets::{Event, Sockets};
use super::{Action, Core, Rules};
use crate::sim::client::{ClientError, Directory};

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Created if it is not there; it should be new.
    pub topic: String,
    /// Its partitions.
    pub partitions: i32,
    /// Records per second, to the partitions in turn.
    pub records_per_second: u32,
    /// A record's value; at least [`Stamp::BYTES`].
    pub record_bytes: usize,
    /// How long to produce.
    pub duration: Duration,
    /// How long, after that, is waited for acknowledgements.
    pub drain: Duration,
    /// The client's rules.
    pub rules: Rules,
    /// What its jitter is made from.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            topic: "evenkeel-demo".to_owned(),
            partitions: 12,
            records_per_second: 1_000,
            record_bytes: 100,
            duration: Duration::from_secs(10),
            drain: Duration::from_secs(15),
            rules: Rules::default(),
            seed: 0,
        }
    }
}

/// What each record's value begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The partition that it was meant for.
    pub partition: i32,
    /// Its number there.
    pub number: u64,
}

impl Stamp {
    /// Its length.
    pub const BYTES: usize = 12;

    /// Reads it off a record's value.
    pub fn read(value: &Bytes) -> Option<Stamp> {
        let mut value = value.clone();
        (value.len() >= Self::BYTES).then(|| Stamp { partition: value.get_i32(), number: value.get_u64() })
    }

    pub(super) fn write(self, record_bytes: usize) -> Bytes {
        let mut value = BytesMut::with_capacity(record_bytes.max(Self::BYTES));
        value.put_i32(self.partition);
        value.put_u64(self.number);
        value.resize(record_bytes.max(Self::BYTES), b'.');
        value.freeze()
    }
}

/// One record's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was due, since the start of the load.
    pub due: Duration,
    /// When it was acknowledged; never, if it was given up or time was up.
    pub acknowledged: Option<Duration>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Since the start.
    pub elapsed: Duration,
    /// Records that were due.
    pub sent: u64,
    /// Records acknowledged.
    pub acknowledged: u64,
    /// How long the oldest record that is not acknowledged has waited.
    pub waiting: Duration,
}

/// How it went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// By partition, by number.
    pub samples: Vec<Vec<Sample>>,
    /// Records that the application saw fail, with Kafka's code.
    pub given_up: Vec<(i32, u64, i16)>,
    /// Refusals and lost connections that the client met, whether or not it overcame them.
    pub failures: u64,
    /// Every broker address that the client was ever told.
    pub told: BTreeSet<String>,
}

/// A producer that is ready: the topic is there, and its metadata known.
pub struct Ready {
    core: Core,
    sockets: Sockets,
    events: mpsc::Receiver<Event>,
    /// The core's time begins here.
    epoch: Instant,
    options: Options,
}

/// Creates the topic, and a producer that knows its leaders.
pub async fn prepare(bootstrap: &str, options: Options) -> Result<Ready, ClientError> {
    const SETUP_TIMEOUT: Duration = Duration::from_secs(10);
    let directory = Directory::new(bootstrap, &options.topic, SETUP_TIMEOUT);
    directory.refresh().await?;
    directory.create_topic(options.partitions).await?;
    let identity = directory.producer_identity().await?;
    let core = Core::new(options.rules.clone(), options.seed);
    let (sockets, events) = Sockets::new(bootstrap, identity, directory.told(), &options);
    let mut ready = Ready { core, sockets, events, epoch: Instant::now(), options };
    let deadline = ready.epoch + SETUP_TIMEOUT;
    ready.core.on_timeout(Duration::ZERO);
    while ready.core.partitions() < usize::try_from(ready.options.partitions).unwrap_or(0) {
        ready.sockets.carry_out(&mut ready.core, &mut |_| {});
        let timer = ready.core.next_timeout().map_or(deadline, |at| ready.epoch + at);
        tokio::select! {
            event = ready.events.recv() => if let Some(event) = event { event.tell(&mut ready.core, ready.epoch.elapsed()) },
            () = tokio::time::sleep_until(timer.min(deadline)) => ready.core.on_timeout(ready.epoch.elapsed()),
        }
        if Instant::now() >= deadline {
            return Err(ClientError::TimedOut { address: bootstrap.to_owned() });
        }
    }
    Ok(ready)
}

/// What comes of a run.
struct Account {
    origin: Instant,
    report: Report,
    progress: Progress,
    /// By partition, the first record that may still be open.
    oldest: Vec<usize>,
}

impl Ready {
    /// Produces from `origin` on; `tell` hears of the progress ten times a second.
    pub async fn run(self, origin: Instant, tell: impl FnMut(&Progress) + Send) -> Report {
        const TICK: Duration = Duration::from_millis(100);
        let Ready { mut core, mut sockets, mut events, epoch, options } = self;
        let mut tell = tell;
        let partitions = u64::try_from(options.partitions).unwrap_or(1).max(1);
        let mut account = Account::new(origin, usize::try_from(partitions).unwrap_or(1));
        let due = |made: u64| options.due(made);
        let total = (options.duration.as_secs_f64() * f64::from(options.records_per_second)) as u64;
        let end = origin + options.duration + options.drain;
        let mut made = 0;
        let mut ticks = tokio::time::interval_at(origin, TICK);
        loop {
            while made < total && !core.is_full() && origin + due(made) <= Instant::now() {
                let partition = i32::try_from(made % partitions).unwrap_or(0);
                account.made(partition, due(made));
                core.push(epoch.elapsed(), partition, made / partitions);
                made += 1;
            }
            sockets.carry_out(&mut core, &mut |action| account.settle(&action));
            if (made == total && core.buffered() == 0) || Instant::now() >= end {
                break;
            }
            let next_due = (made < total && !core.is_full()).then(|| origin + due(made));
            let next_timer = core.next_timeout().map(|at| epoch + at);
            let wake = [next_due, next_timer].into_iter().flatten().min().unwrap_or(end).min(end);
            tokio::select! {
                event = events.recv() => if let Some(event) = event { event.tell(&mut core, epoch.elapsed()) },
                _ = ticks.tick() => tell(&account.progress()),
                () = tokio::time::sleep_until(wake) => core.on_timeout(epoch.elapsed()),
            }
        }
        tell(&account.progress());
        Report { failures: core.failures(), told: sockets.told(), ..account.report }
    }
}

impl Options {
    /// When the record is due that is made behind `made` others.
    pub(super) fn due(&self, made: u64) -> Duration {
        Duration::from_secs_f64(made as f64 / f64::from(self.records_per_second.max(1)))
    }
}

impl Account {
    fn new(origin: Instant, partitions: usize) -> Account {
        let report = Report { samples: vec![Vec::new(); partitions], ..Report::default() };
        Account { origin, report, progress: Progress::default(), oldest: vec![0; partitions] }
    }

    fn samples_mut(&mut self, partition: i32) -> Option<&mut Vec<Sample>> {
        self.report.samples.get_mut(usize::try_from(partition).ok()?)
    }

    fn made(&mut self, partition: i32, due: Duration) {
        self.progress.sent += 1;
        if let Some(samples) = self.samples_mut(partition) {
            samples.push(Sample { due, acknowledged: None });
        }
    }

    fn settle(&mut self, action: &Action) {
        match *action {
            Action::Acknowledged { partition, first, count } => {
                let now = self.origin.elapsed();
                self.progress.acknowledged += count;
                let first = usize::try_from(first).unwrap_or(usize::MAX);
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                let Some(samples) = self.samples_mut(partition) else { return };
                samples.iter_mut().skip(first).take(count).for_each(|sample| sample.acknowledged = Some(now));
            }
            Action::GaveUp { partition, first, count, error_code } => {
                self.report.given_up.extend((first..first + count).map(|number| (partition, number, error_code)));
            }
            _ => {}
        }
    }

    fn progress(&mut self) -> Progress {
        let now = self.origin.elapsed();
        let mut waiting = Duration::ZERO;
        for (samples, oldest) in self.report.samples.iter().zip(&mut self.oldest) {
            while samples.get(*oldest).is_some_and(|sample| sample.acknowledged.is_some()) {
                *oldest += 1;
            }
            waiting = waiting.max(samples.get(*oldest).map_or(Duration::ZERO, |sample| now.saturating_sub(sample.due)));
        }
        self.progress.elapsed = now;
        self.progress.waiting = waiting;
        self.progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::cluster::Options as ClusterOptions;
    use crate::sim::profile::Profile;
    use crate::sim::tcp::SimCluster;

    fn short() -> Options {
        Options { records_per_second: 600, partitions: 6, duration: Duration::from_millis(900), ..Options::default() }
    }

    /// What lies in the log, by partition.
    fn logged(sim: &SimCluster, partition: i32) -> Vec<Stamp> {
        let records = sim.control(|cluster| cluster.records("evenkeel-demo", partition));
        records.iter().filter_map(|record| Stamp::read(record.value.as_ref()?)).collect()
    }

    fn assert_all_there_in_order(sim: &SimCluster, report: &Report) {
        for (partition, samples) in report.samples.iter().enumerate() {
            let partition = i32::try_from(partition).expect("small");
            let expected: Vec<Stamp> = (0..samples.len() as u64).map(|number| Stamp { partition, number }).collect();
            assert_eq!(logged(sim, partition), expected, "partition {partition}");
            assert!(samples.iter().all(|sample| sample.acknowledged.is_some_and(|at| at >= sample.due)));
        }
    }

    #[tokio::test]
    async fn a_quiet_cluster_takes_every_record_once_and_in_order() -> anyhow::Result<()> {
        let sim = SimCluster::start(ClusterOptions { profile: Profile::V3_6, ..ClusterOptions::default() }).await?;
        let ready = prepare(&sim.bootstrap(), short()).await?;
        let mut told = 0;
        let report = ready.run(Instant::now(), |_| told += 1).await;
        assert_eq!(report.samples.iter().map(Vec::len).sum::<usize>(), 540);
        assert_all_there_in_order(&sim, &report);
        assert!(told > 3 && report.failures == 0 && report.given_up.is_empty());
        assert_eq!(report.told.len(), 3);
        assert!(sim.control(|cluster| cluster.unexpected().to_vec()).is_empty());
        assert!(sim.control(|cluster| (0..3).all(|broker| cluster.requests().contains_key(&(broker, 0, 9)))), "Produce 9");
        Ok(())
    }

    #[tokio::test]
    async fn a_connection_that_ends_and_leaders_that_move_cost_time_and_nothing_else() -> anyhow::Result<()> {
        let sim = SimCluster::start(ClusterOptions::default()).await?;
        let rules = Rules { metadata_min_age: Duration::from_millis(300), ..Rules::default() };
        let ready = prepare(&sim.bootstrap(), Options { rules, ..short() }).await?;
        sim.control(|cluster| {
            let at = |ms| cluster.now() + Duration::from_millis(ms);
            let (moved, cut, removed) = (at(150), at(300), at(500));
            cluster.at(moved, |cluster| cluster.move_leader("evenkeel-demo", 0, 1));
            cluster.at(cut, |cluster| cluster.close_connections(1));
            cluster.at(removed, |cluster| cluster.remove_broker(2));
        });
        let report = ready.run(Instant::now(), |_| {}).await;
        assert_all_there_in_order(&sim, &report);
        assert!(report.failures > 0 && report.given_up.is_empty());
        Ok(())
    }
}
