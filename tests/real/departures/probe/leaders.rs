//! Who leads: the newest that any broker tells, and asking for it.
//!
//! Invariant: a partition's leader epoch never goes backwards.
//! Not here: a leader that is gone and has no successor; the last one stays until then.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Shared;
use super::link::Link;
use crate::real::admin::{METADATA_VERSION, metadata_of};

const ASK_EVERY_UNSETTLED: Duration = Duration::from_millis(10);
const ASK_EVERY_SETTLED: Duration = Duration::from_secs(1);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    pub broker: i32,
    pub epoch: i32,
}

/// By partition; none is known at first.
pub struct Leaders {
    known: watch::Sender<Vec<Option<Leader>>>,
}

impl Leaders {
    pub fn new(partitions: u16) -> Self {
        Self { known: watch::Sender::new(vec![None; usize::from(partitions)]) }
    }

    pub fn watch(&self) -> watch::Receiver<Vec<Option<Leader>>> {
        self.known.subscribe()
    }

    fn learn(&self, told: &[(usize, Leader)]) {
        self.known.send_if_modified(|known| {
            let mut modified = false;
            for (index, leader) in told {
                let Some(slot) = known.get_mut(*index) else { continue };
                if slot.is_none_or(|slot| slot.epoch < leader.epoch) {
                    modified = true;
                    *slot = Some(*leader);
                }
            }
            modified
        });
    }
}

/// Asks one broker: every 10 ms while anything is unsettled, else every second. One request at a time.
pub async fn keep_asking(shared: Arc<Shared>, port: u16) {
    let request = metadata_of(&shared.topic);
    let mut link = None;
    loop {
        let asked = Instant::now();
        // A broker that is dead refuses; one that is silent costs this task its time limit, and no other task anything.
        let asking = async {
            let mut link = match link.take() {
                Some(link) => link,
                None => Link::open(port).await?,
            };
            let response = link.ask(METADATA_VERSION, &request).await?;
            anyhow::Ok((link, response))
        };
        if let Ok(Ok((used, response))) = timeout(ANSWER_TIME_MAX, asking).await {
            link = Some(used);
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            let told = partitions.filter(|partition| partition.leader_id.0 >= 0).filter_map(|partition| {
                let leader = Leader { broker: partition.leader_id.0, epoch: partition.leader_epoch };
                Some((usize::try_from(partition.partition_index).ok()?, leader))
            });
            shared.leaders.learn(&told.collect::<Vec<_>>());
        }
        let alarm = shared.alarm.notified();
        if shared.is_settled() {
            tokio::select! {
                () = alarm => {}
                () = sleep(ASK_EVERY_SETTLED) => {}
            }
        }
        sleep_until(asked + ASK_EVERY_UNSETTLED).await;
    }
}
