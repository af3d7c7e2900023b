//! The probe's writing to one partition.
//!
//! Invariant: one batch in flight; what became due meanwhile is in the next. A batch is abandoned where another broker leads at a
//! higher epoch, and only there: else its answer decides.
//! Not here: order and duplicates, which mean nothing in the probe's own records.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::leaders::Leader;
use super::{PROBE_KEY, Shared};

const VALUE_BYTES: usize = 100;
/// A batch that is out for longer makes the probe ask who leads.
const SUSPICIOUS_AFTER: Duration = Duration::from_millis(50);
const AGAIN_AFTER: Duration = Duration::from_millis(10);

struct Writer {
    shared: Arc<Shared>,
    index: u16,
    leaders: watch::Receiver<Vec<Option<Leader>>>,
}

enum Attempt {
    /// With the offset of its first record.
    Acknowledged(i64),
    /// It is worth trying again at once: another broker leads, or the connection had been closed since its last use.
    Stale,
    Failed,
    /// No trying again helps.
    Refused(ResponseError),
}

pub async fn keep_writing(shared: Arc<Shared>, index: u16) -> Result<()> {
    let leaders = shared.leaders.watch();
    let mut writer = Writer { index, leaders, shared: shared.clone() };
    let mut next = u64::from(index);
    loop {
        tokio::select! {
            () = sleep_until(shared.due(next)) => {}
            () = shared.stopping.cancelled() => return Ok(()),
        }
        let first = next;
        while shared.due(next) <= Instant::now() {
            next += u64::from(shared.partitions);
        }
        let due: Vec<u64> = (first..next).step_by(usize::from(shared.partitions)).collect();
        let base_offset = writer.write(batch(&due)?).await?;
        due.iter().zip(base_offset..).for_each(|(number, offset)| shared.acknowledged(index, *number, offset));
    }
}

impl Writer {
    /// Until it is acknowledged: the offset of its first record.
    async fn write(&mut self, batch: Bytes) -> Result<i64> {
        let shared = self.shared.clone();
        let mut unsettled = None;
        loop {
            match self.attempt(&batch).await {
                Attempt::Acknowledged(base_offset) => return Ok(base_offset),
                Attempt::Refused(error) => bail!("the limit probe's batch for partition {} is refused: {error:?}", self.index),
                Attempt::Stale => {}
                Attempt::Failed => {
                    unsettled.get_or_insert_with(|| shared.unsettle());
                    tokio::select! {
                        () = sleep(AGAIN_AFTER) => {}
                        _ = self.leaders.changed() => {}
                    }
                }
            }
        }
    }

    async fn attempt(&mut self, batch: &Bytes) -> Attempt {
        let index = usize::from(self.index);
        let leader = self.leaders.borrow_and_update().get(index).copied().flatten();
        let Some((leader, port)) = leader.and_then(|leader| Some((leader, *self.shared.ports.get(&leader.broker)?))) else {
            return Attempt::Failed;
        };
        let (pipe, is_reused) = self.shared.pipe(leader.broker, port);
        let exchange = pipe.write(self.index, batch.clone());
        let shared = self.shared.clone();
        let mut unsettled = None;
        let suspicious = sleep(SUSPICIOUS_AFTER);
        tokio::pin!(exchange, suspicious);
        loop {
            tokio::select! {
                exchanged = &mut exchange => return match exchanged {
                    Ok(written) => match ResponseError::try_from_code(written.error_code) {
                        None => Attempt::Acknowledged(written.base_offset),
                        Some(error) if error.is_retriable() => Attempt::Failed,
                        Some(error) => Attempt::Refused(error),
                    },
                    Err(_) if is_reused => Attempt::Stale,
                    Err(_) => Attempt::Failed,
                },
                Ok(()) = self.leaders.changed() => {
                    let newest = self.leaders.borrow_and_update().get(index).copied().flatten();
                    if newest.is_some_and(|newest| newest.epoch > leader.epoch && newest.broker != leader.broker) {
                        return Attempt::Stale;
                    }
                }
                () = &mut suspicious, if unsettled.is_none() => unsettled = Some(shared.unsettle()),
            }
        }
    }
}

fn batch(numbers: &[u64]) -> Result<Bytes> {
    let records: Vec<Record> = numbers.iter().zip(0..).map(|(number, offset)| record(*number, offset)).collect();
    let mut out = BytesMut::new();
    RecordBatchEncoder::encode(&mut out, &records, &RecordEncodeOptions { version: 2, compression: Compression::None })?;
    Ok(out.freeze())
}

fn record(number: u64, offset: i32) -> Record {
    let mut value = format!("{number:011} ").into_bytes();
    value.resize(VALUE_BYTES, b'x');
    Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset: i64::from(offset),
        // The encoder takes the first one's for the batch's, and starts another batch where they do not go up by one.
        sequence: NO_SEQUENCE + offset,
        timestamp: super::now_ms() as i64,
        key: Some(Bytes::from_static(PROBE_KEY)),
        value: Some(value.into()),
        headers: IndexMap::new(),
    }
}
