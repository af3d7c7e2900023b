//! A consumer of one partition, from its start: fetch by fetch, through every change of leader.
//!
//! Invariant: records are handed over in offset order, each offset once per connection to the log. Deliberately not here: groups and
//! fetch sessions.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::records::RecordBatchDecoder;

use super::{ClientError, Directory};
use crate::sim::api::topic_name;
use crate::sim::code;

/// Names of topics end here: later versions know ids only.
const FETCH_VERSION_MAX: i16 = 12;
const BACKOFF: Duration = Duration::from_millis(50);

/// A record as it was consumed.
#[derive(Clone, Debug)]
pub struct Consumed {
    /// Its offset.
    pub offset: i64,
    /// Its value.
    pub value: Bytes,
}

/// Consumes a partition until it is dropped; failures are told to `failed` and tried again.
pub async fn consume(
    directory: Arc<Directory>,
    partition: i32,
    max_wait: Duration,
    mut consumed: impl FnMut(Consumed),
    mut failed: impl FnMut(&ClientError),
) {
    let mut offset = 0;
    loop {
        match fetch(&directory, partition, offset, max_wait).await {
            Ok(records) => {
                for record in records.into_iter().filter(|record| record.offset >= offset).collect::<Vec<_>>() {
                    offset = record.offset + 1;
                    consumed(record);
                }
            }
            Err(error) => {
                failed(&error);
                let _ = directory.refresh().await;
                tokio::time::sleep(BACKOFF).await;
            }
        }
    }
}

async fn fetch(directory: &Directory, partition: i32, offset: i64, max_wait: Duration) -> Result<Vec<Consumed>, ClientError> {
    const MAX_BYTES: i32 = 1 << 20;
    let no_leader = ClientError::Kafka { code: code::LEADER_NOT_AVAILABLE, doing: "looking for a leader" };
    let leader = directory.leader(partition).ok_or(no_leader)?;
    // A long poll would hold up others: each partition has its own connection.
    let lane = 1 + u64::from(partition.unsigned_abs());
    let connection = directory.connection(leader.node_id, lane).await?;
    let wanted = FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(leader.epoch)
        .with_fetch_offset(offset)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(MAX_BYTES);
    let topic = FetchTopic::default().with_topic(topic_name(directory.topic())).with_partitions(vec![wanted]);
    let request = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(1)
        .with_max_bytes(MAX_BYTES)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    let response = connection.ask(FETCH_VERSION_MAX, &request).await?;
    if response.error_code != code::NONE {
        return Err(ClientError::Kafka { code: response.error_code, doing: "fetching" });
    }
    let Some(part) = response.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next()) else {
        return Ok(Vec::new());
    };
    if part.error_code != code::NONE {
        return Err(ClientError::Kafka { code: part.error_code, doing: "fetching" });
    }
    let mut records = part.records.unwrap_or_default();
    let batches = RecordBatchDecoder::decode_all(&mut records).map_err(|error| ClientError::Frame {
        address: connection.address().to_owned(),
        source: crate::sim::frame::FrameError::Message { api_key: 1, version: FETCH_VERSION_MAX, reason: error.to_string() },
    })?;
    let data = batches.into_iter().flat_map(|batch| batch.records).filter(|record| !record.control);
    Ok(data.map(|record| Consumed { offset: record.offset, value: record.value.unwrap_or_default() }).collect())
}
