//! The probe's reading of one partition: what a consumer could have that knows of every new leader at once.
//!
//! Invariant: every record is read once, in the order of offsets. A fetch is abandoned where another broker leads at a higher epoch, and
//! only there: else its answer decides.
//! Not here: compressed records; the probe's own are not, and it alone writes where it reads.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Buf;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::FetchResponse;
use kafka_protocol::records::RecordBatchDecoder;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Shared;
use super::leaders::Leader;
use super::link::Link;
use crate::departures::readback::{FETCH_VERSION, Place, fetch_of};

const AGAIN_AFTER: Duration = Duration::from_millis(10);
const PARTITION_BYTES_MAX: i32 = 1 << 20;
/// A broker answers as soon as there is anything.
const WAIT_MAX_MS: i32 = 250;

struct Reader {
    shared: Arc<Shared>,
    index: u16,
    leaders: watch::Receiver<Vec<Option<Leader>>>,
    link: Option<(Leader, Link)>,
    next_offset: i64,
}

enum Attempt {
    Read,
    /// It is worth trying again at once: another broker leads, or the connection had been closed since its last use.
    Stale,
    Failed,
}

pub async fn keep_reading(shared: Arc<Shared>, index: u16) -> Result<()> {
    let leaders = shared.leaders.watch();
    let mut reader = Reader { shared: shared.clone(), index, leaders, link: None, next_offset: 0 };
    let mut unsettled = None;
    loop {
        match reader.read().await? {
            Attempt::Read => unsettled = None,
            Attempt::Stale => {}
            Attempt::Failed => {
                unsettled.get_or_insert_with(|| shared.unsettle());
                tokio::select! {
                    () = sleep(AGAIN_AFTER) => {}
                    _ = reader.leaders.changed() => {}
                }
            }
        }
    }
}

impl Reader {
    async fn read(&mut self) -> Result<Attempt> {
        let index = usize::from(self.index);
        let leader = self.leaders.borrow_and_update().get(index).copied().flatten();
        let Some((leader, port)) = leader.and_then(|leader| Some((leader, *self.shared.ports.get(&leader.broker)?))) else {
            return Ok(Attempt::Failed);
        };
        let kept = self.link.take().filter(|(to, _)| to.broker == leader.broker);
        let is_reused = kept.is_some();
        let place = Place { topic: &self.shared.topic, partition: i32::from(self.index), offset: self.next_offset };
        let request = fetch_of(place, PARTITION_BYTES_MAX, WAIT_MAX_MS);
        let exchange = async {
            let mut link = match kept {
                Some((_, link)) => link,
                None => Link::open(port).await?,
            };
            let response = link.ask(FETCH_VERSION, &request).await?;
            anyhow::Ok((link, response))
        };
        tokio::pin!(exchange);
        let exchanged = loop {
            tokio::select! {
                exchanged = &mut exchange => break exchanged,
                Ok(()) = self.leaders.changed() => {
                    let newest = self.leaders.borrow_and_update().get(index).copied().flatten();
                    if newest.is_some_and(|newest| newest.epoch > leader.epoch && newest.broker != leader.broker) {
                        return Ok(Attempt::Stale);
                    }
                }
            }
        };
        match exchanged {
            Ok((link, response)) => {
                self.link = Some((leader, link));
                self.take(response)
            }
            Err(_) if is_reused => Ok(Attempt::Stale),
            Err(_) => Ok(Attempt::Failed),
        }
    }

    fn take(&mut self, response: FetchResponse) -> Result<Attempt> {
        let told = response.responses.into_iter().flat_map(|topic| topic.partitions).next();
        let Some(data) = told else { bail!("a fetch of partition {} is answered without it", self.index) };
        match ResponseError::try_from_code(response.error_code).or_else(|| ResponseError::try_from_code(data.error_code)) {
            None => {}
            Some(error) if error.is_retriable() => return Ok(Attempt::Failed),
            Some(error) => bail!("reading partition {} at {}: {error:?}", self.index, self.next_offset),
        }
        let mut batches = data.records.unwrap_or_default();
        let mut offsets = Vec::new();
        while batches.has_remaining() {
            offsets.extend(RecordBatchDecoder::decode(&mut batches)?.records.iter().map(|record| record.offset));
        }
        // A batch is told whole, also where the middle of it is asked for.
        offsets.retain(|offset| *offset >= self.next_offset);
        self.next_offset = offsets.last().map_or(self.next_offset, |last| last + 1);
        self.shared.has_read(self.index, &offsets);
        Ok(Attempt::Read)
    }
}
