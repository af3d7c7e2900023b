//! A producer that learns nothing: it was told once who leads, and goes on writing there whatever happens.
//!
//! Every record is a number, counted up; a batch holds one. What it must never see: an error, an end, an answer out of turn.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use evenkeel::sim::batch::encode;
use evenkeel::sim::frame::decode_response;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, ProduceRequest, ProduceResponse, TopicName, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Record, TimestampType};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::rig::Client;

/// Requests without an answer.
const DEPTH: usize = 3;
const INTERVAL: Duration = Duration::from_millis(10);

#[derive(Clone, Debug)]
pub struct Way {
    pub version: i16,
    pub acks: i16,
    /// `None`: plain.
    pub producer: Option<i64>,
    pub transactional_id: Option<String>,
    pub topic: String,
    pub topic_id: Uuid,
}

#[derive(Debug, Default)]
pub struct Written {
    /// Numbers from 0 that were sent.
    pub sent: u64,
    /// How many of them, from the first, were acknowledged.
    pub acked: u64,
    pub errors: Vec<String>,
    pub slowest: Duration,
}

/// It writes until told to stop, and then waits for what it is owed.
pub struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Written>,
}

impl Writer {
    pub fn start(address: SocketAddr, way: Way) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write(address, way, stop.clone()));
        Writer { stop, task }
    }

    pub async fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the writer ends")
    }
}

async fn write(address: SocketAddr, way: Way, stop: Arc<AtomicBool>) -> Written {
    let mut client = Client::connect(address).await;
    let mut written = Written::default();
    let mut unanswered: VecDeque<(i32, Instant)> = VecDeque::new();
    loop {
        let is_over = stop.load(Ordering::Relaxed) || !written.errors.is_empty();
        if is_over && unanswered.is_empty() {
            return written;
        }
        if !is_over {
            let Ok(correlation_id) = client.try_send(way.version, &request(&way, written.sent)).await else {
                written.errors.push("the connection ended".into());
                continue;
            };
            written.sent += 1;
            if way.acks != 0 {
                unanswered.push_back((correlation_id, Instant::now()));
            }
        }
        if unanswered.len() >= DEPTH || is_over {
            let Some((expected, sent_at)) = unanswered.pop_front() else { continue };
            let Some(frame) = client.receive_frame().await else {
                written.errors.push("the connection ended".into());
                unanswered.clear();
                continue;
            };
            let (correlation_id, answer) = decode_response::<ProduceResponse>(ApiKey::Produce, way.version, &frame).expect("decodes");
            assert_eq!(correlation_id, expected, "answers come in turn");
            match answer.responses[0].partition_responses[0].error_code {
                0 => written.acked += 1,
                error => written.errors.push(format!("error {error} for {}", written.acked)),
            }
            written.slowest = written.slowest.max(sent_at.elapsed());
        }
        if !is_over {
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

pub fn request(way: &Way, number: u64) -> ProduceRequest {
    let record = Record {
        transactional: way.transactional_id.is_some(),
        control: false,
        partition_leader_epoch: -1,
        producer_id: way.producer.unwrap_or(-1),
        producer_epoch: if way.producer.is_some() { 0 } else { -1 },
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: if way.producer.is_some() { number as i32 } else { -1 },
        timestamp: 0,
        delete_horizon: false,
        key: None,
        value: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
        headers: Default::default(),
    };
    let partition = PartitionProduceData::default().with_index(0).with_records(Some(encode(&[record])));
    let mut topic = TopicProduceData::default().with_partition_data(vec![partition]);
    if way.version >= 13 {
        topic.topic_id = way.topic_id;
    } else {
        topic.name = TopicName(StrBytes::from_string(way.topic.clone()));
    }
    ProduceRequest::default()
        .with_transactional_id(way.transactional_id.clone().map(|id| TransactionalId(StrBytes::from_string(id))))
        .with_acks(way.acks)
        .with_timeout_ms(15_000)
        .with_topic_data(vec![topic])
}
