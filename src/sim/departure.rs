//! How a broker leaves, leaderships and coordinators together, and how long each step takes.
//!
//! ```text
//! Drain               leaders, coordinators ─▶ nobody ──handover──▶ others (coordinators: loading)
//! ControlledShutdown  the same, and ──stopping──▶ the process ends, unlisted
//! Kill, Freeze        the process is dead or stands still ──notice──▶ fenced: as Drain, and unlisted
//! ```
//!
//! Source: Kafka's `BrokerLifecycleManager`, `ReplicationControlManager.handleBrokerFenced`, `handleBrokerInControlledShutdown`.
//! Invariant: with all windows zero, a departure is over when the command returns. Deliberately not here: reassignment
//! (`Cluster::remove_broker`) and coming back (`Cluster::start_broker`, `Cluster::thaw_broker`).

use std::time::Duration;

use super::broker::Hang;
use super::cluster::Cluster;
use super::image::Image;

/// How long what follows from a departure takes, in virtual time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Nobody leads or coordinates what the broker had. The old leaders answer 6, the old coordinators 16; metadata has no leader.
    pub handover: Duration,
    /// A new coordinator reads its log and answers 14.
    pub loading: Duration,
    /// Every broker's Metadata and FindCoordinator tell the cluster as it was before.
    pub old_news: Duration,
    /// From a transaction's prepare to its markers; meanwhile 51.
    pub markers: Duration,
    /// How long a broker in controlled shutdown runs on once it has given everything away.
    pub stopping: Duration,
    /// How long the controller takes to notice a dead or frozen broker (Kafka: `broker.session.timeout.ms`, there 9 s).
    pub notice: Duration,
}

/// Ways to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// Everything moves away; the broker stays up and listed.
    Drain,
    /// SIGTERM: everything moves away, then the process ends.
    ControlledShutdown,
    /// SIGKILL.
    Kill,
    /// SIGSTOP, or a host that stands still.
    Freeze(Hang),
}

impl Cluster {
    /// From now on, changes take this long.
    pub fn set_windows(&mut self, windows: Windows) {
        self.windows = windows;
    }

    /// A broker leaves, within the windows in force.
    pub fn depart(&mut self, id: i32, leaving: Leaving) {
        let (now, windows) = (self.now, self.windows);
        match leaving {
            Leaving::Drain => self.drain_broker(id),
            Leaving::ControlledShutdown => {
                self.drain_broker(id);
                self.at(now + windows.handover + windows.stopping, move |cluster| cluster.stop_broker(id));
            }
            Leaving::Kill => {
                self.crash_broker(id);
                // One that came back within its session was never missed.
                let is_dead = move |cluster: &Cluster| cluster.broker(id).is_some_and(|broker| !broker.running);
                self.at(now + windows.notice, move |cluster| {
                    if is_dead(cluster) {
                        cluster.fence_broker(id)
                    }
                });
            }
            Leaving::Freeze(hang) => {
                self.hang_broker(id, hang);
                let is_frozen = move |cluster: &Cluster| cluster.broker(id).is_some_and(|broker| broker.hang.is_some());
                self.at(now + windows.notice, move |cluster| {
                    if is_frozen(cluster) {
                        cluster.fence_broker(id)
                    }
                });
            }
        }
        self.settle();
    }

    /// What brokers tell of the cluster lags behind what is about to change.
    pub(crate) fn tell_old_news(&mut self) {
        let (now, old_news) = (self.now, self.windows.old_news);
        if !old_news.is_zero() {
            let image = self.image();
            self.old_news.retain(|(until, _)| *until > now);
            self.old_news.push((now + old_news, image));
        }
    }

    /// The cluster as brokers know it: as it was, where their news are old.
    pub(crate) fn known_image(&self) -> Image {
        let still_told = self.old_news.iter().find(|(until, _)| *until > self.now);
        still_told.map_or_else(|| self.image(), |(_, image)| image.clone())
    }

    /// `leaving` leads this partition no more; `next` does, once the handover is over.
    pub(crate) fn hand_partition_over(
        &mut self,
        topic: &str,
        partition: i32,
        leaving: i32,
        next: fn(&Cluster, &str, i32, i32) -> Option<i32>,
    ) {
        let chosen = next(self, topic, partition, leaving);
        let handover = self.windows.handover;
        if handover.is_zero() || chosen.is_none() {
            return self.change_leader(topic, partition, chosen);
        }
        self.change_leader(topic, partition, None);
        let epoch = self.topics.partition(topic, partition).map(|known| known.leader_epoch);
        let topic = topic.to_owned();
        self.at(self.now + handover, move |cluster| {
            // Whatever else happened to the partition meanwhile stands.
            if cluster.topics.partition(&topic, partition).map(|known| known.leader_epoch) == epoch {
                let chosen = next(cluster, &topic, partition, leaving);
                cluster.change_leader(&topic, partition, chosen);
            }
        });
    }
}
