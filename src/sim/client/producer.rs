//! An idempotent producer for one partition: batches in flight up to a depth, and all of them again, in order, when one fails.
//!
//! Invariant: a batch keeps its bytes and its sequence however often it is sent. Deliberately not here: making records (`load`), and giving
//! up on a retriable error; the caller's deadline does that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ApiKey, ProduceResponse};

use super::connection::Awaited;
use super::{ClientError, Directory, Leader};
use crate::sim::api::topic_name;
use crate::sim::code;

/// Back-off between attempts, doubling up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));
/// Names of topics end here: later versions know ids only.
const PRODUCE_VERSION_MAX: i16 = 12;

/// Who a producer is to the brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub epoch: i16,
}

/// An encoded batch for one partition.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The whole record batch.
    pub bytes: Bytes,
    /// For the caller: its first record's number.
    pub number: u64,
    /// How many records it has.
    pub records: u64,
}

/// What became of a batch.
#[derive(Debug)]
pub enum Delivery {
    /// Acknowledged by all replicas.
    Acknowledged(Batch),
    /// Refused for good with this error code.
    Refused(Batch, i16),
}

/// The producer's way to one partition.
pub struct Lane {
    directory: Arc<Directory>,
    partition: i32,
    timeout_ms: i32,
    waiting: VecDeque<Batch>,
    in_flight: VecDeque<(Batch, Awaited<ProduceRequest>)>,
    depth: usize,
    attempt: u32,
    retries: u64,
}

impl Lane {
    /// A lane with at most `depth` batches in flight (a broker remembers five per producer).
    pub fn new(directory: Arc<Directory>, partition: i32, depth: usize, timeout: Duration) -> Lane {
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let depth = depth.clamp(1, 5);
        Lane { directory, partition, timeout_ms, waiting: VecDeque::new(), in_flight: VecDeque::new(), depth, attempt: 0, retries: 0 }
    }

    /// Queues a batch behind the others.
    pub fn push(&mut self, batch: Batch) {
        self.waiting.push_back(batch);
    }

    /// Batches that are not settled.
    pub fn unsettled(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    /// How often batches had to be sent again.
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// Whether another batch could be sent at once.
    pub fn has_room(&self) -> bool {
        self.unsettled() < self.depth
    }

    /// Sends what may be sent. A failure is no error here: it shows when the answers are awaited.
    pub async fn send(&mut self) {
        while self.in_flight.len() < self.depth {
            let Some(batch) = self.waiting.pop_front() else { return };
            match self.write(&batch).await {
                Ok(awaited) => self.in_flight.push_back((batch, awaited)),
                Err(_) => {
                    self.waiting.push_front(batch);
                    if self.in_flight.is_empty() {
                        self.start_over().await;
                    }
                    return;
                }
            }
        }
    }

    async fn write(&self, batch: &Batch) -> Result<Awaited<ProduceRequest>, ClientError> {
        let no_leader = ClientError::Kafka { code: code::LEADER_NOT_AVAILABLE, doing: "looking for a leader" };
        let leader = self.directory.leader(self.partition).ok_or(no_leader)?;
        let connection = self.directory.connection(leader.node_id, 0).await?;
        let data = PartitionProduceData::default().with_index(self.partition).with_records(Some(batch.bytes.clone()));
        let topic = TopicProduceData::default().with_name(topic_name(self.directory.topic())).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(self.timeout_ms).with_topic_data(vec![topic]);
        connection.send_versioned(connection.version(ApiKey::Produce, PRODUCE_VERSION_MAX)?, &request).await
    }

    /// Waits until the oldest batch in flight has its answer; for ever, if there is none in flight. May be broken off.
    pub async fn oldest_ready(&mut self) {
        match self.in_flight.front_mut() {
            Some((_, awaited)) => awaited.ready().await,
            None => std::future::pending().await,
        }
    }

    /// Settles the oldest batch in flight, waiting for its answer. An error is no end: what failed is queued again. Not to be broken off.
    pub async fn settle_oldest(&mut self) -> Result<Delivery, ClientError> {
        let nothing = ClientError::Kafka { code: code::NONE, doing: "waiting for nothing" };
        let (batch, awaited) = self.in_flight.pop_front().ok_or(nothing)?;
        let answer = awaited.wait().await;
        let error = match answer.and_then(|response| self.verdict(&response)) {
            Ok(part) if part.error_code == code::NONE => {
                self.attempt = 0;
                return Ok(Delivery::Acknowledged(batch));
            }
            Ok(part) if is_final(part.error_code) => return Ok(Delivery::Refused(batch, part.error_code)),
            Ok(part) => ClientError::Kafka { code: part.error_code, doing: "producing" },
            Err(error) => error,
        };
        self.waiting.push_front(batch);
        self.start_over().await;
        Err(error)
    }

    fn verdict(&self, response: &ProduceResponse) -> Result<PartitionProduceResponse, ClientError> {
        response.node_endpoints.iter().for_each(|node| self.directory.note_told(node.host.as_str(), node.port));
        let missing = ClientError::Kafka { code: code::UNKNOWN_TOPIC_OR_PARTITION, doing: "reading an acknowledgement" };
        let part = response.responses.first().and_then(|topic| topic.partition_responses.first()).ok_or(missing)?;
        if part.current_leader.leader_id.0 >= 0 {
            let leader = Leader { node_id: part.current_leader.leader_id.0, epoch: part.current_leader.leader_epoch };
            self.directory.hint(self.partition, leader);
        }
        Ok(part.clone())
    }

    /// Everything that was in flight goes again, in order, after a look at the metadata. What the brokers have already, they know.
    async fn start_over(&mut self) {
        let mut again: VecDeque<Batch> = VecDeque::new();
        for (batch, awaited) in self.in_flight.drain(..) {
            // Awaited to its end: an answer that is still on its way must not overtake.
            let _ = awaited.wait().await;
            again.push_back(batch);
        }
        if let Some(refused) = self.waiting.pop_front() {
            again.push_front(refused);
        }
        while let Some(batch) = again.pop_back() {
            self.waiting.push_front(batch);
        }
        self.retries += 1;
        let backoff = BACKOFF.0.saturating_mul(1 << self.attempt.min(10)).min(BACKOFF.1);
        if self.attempt > 0 {
            tokio::time::sleep(backoff).await;
        }
        self.attempt = self.attempt.saturating_add(1);
        // Without a fresh answer the old one is tried again.
        let _ = self.directory.refresh().await;
    }
}

/// Error codes that sending again does not cure. 45 is one: all that was behind a failed batch is sent again with it, so it never comes
/// from our own order.
fn is_final(error_code: i16) -> bool {
    const RETRIABLE: [i16; 9] = [2, 3, 5, 6, 7, 13, 19, 20, 56];
    !RETRIABLE.contains(&error_code)
}
