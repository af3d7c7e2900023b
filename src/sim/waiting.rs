//! Requests that wait inside a broker: a fetch for bytes, a produce with acks=all for the high watermark,
//! a delete for its followers.
//!
//! Invariant: every wait ends, at its deadline at the latest. Deliberately not here: JoinGroup and SyncGroup, which wait in `group`.

use std::time::Duration;

use super::api::delete_records::DeleteWait;
use super::api::fetch::FetchWait;
use super::api::produce::ProduceWait;
use super::api::{Call, Reply};
use super::cluster::Cluster;

/// A request that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) call: Call,
    pub(crate) deadline: Duration,
    pub(crate) kind: Kind,
}

/// What it waits for.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Fetch(Box<FetchWait>),
    Produce(Box<ProduceWait>),
    DeleteRecords(Box<DeleteWait>),
}

impl Cluster {
    /// Looks again at everything that waits.
    pub(crate) fn recheck_waiting(&mut self) {
        for mut waiting in std::mem::take(&mut self.waiting) {
            if !self.is_awaited(&waiting.call) {
                continue;
            }
            if self.brokers.get(&waiting.call.broker).is_some_and(|broker| broker.hang.is_some()) {
                self.waiting.push(waiting);
                continue;
            }
            let is_over = waiting.deadline <= self.now;
            let reply = match &mut waiting.kind {
                Kind::Fetch(wait) => wait.answer(self, &waiting.call, is_over),
                Kind::Produce(wait) => wait.answer(self, &waiting.call, is_over),
                Kind::DeleteRecords(wait) => wait.answer(self, &waiting.call, is_over),
            };
            match reply {
                Reply::Now(frame) => self.complete(&waiting.call, frame),
                Reply::Close => self.close(waiting.call.conn),
                Reply::Later | Reply::Nothing => self.waiting.push(waiting),
            }
        }
    }
}
