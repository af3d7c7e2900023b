//! The probe's connection for producing to one broker, as every client has it: one for all partitions there.
//!
//! Invariant: at most `IN_FLIGHT_MAX` requests are unanswered, and each takes along everything that waits when it is written.
//! Not here: trying again. After an error it is closed, and whoever waits for it hears so.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::real::admin::topic_name;
use crate::real::connection::{answer, frame, frame_bytes};

/// The last version before leader hints in answers: the probe has metadata for that.
const PRODUCE_VERSION: i16 = 9;
const PRODUCE_TIMEOUT_MS: i32 = 30_000;
const ALL_REPLICAS: i16 = -1;
/// As the Java client and franz-go have it.
const IN_FLIGHT_MAX: usize = 5;

pub struct Pipe {
    queue: mpsc::UnboundedSender<Waiting>,
}

struct Waiting {
    partition: u16,
    batch: Bytes,
    /// Closed by whoever has given the batch up, here.
    answered: oneshot::Sender<Written>,
}

/// What a broker says of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub error_code: i16,
    /// Of its first record, if there is no error.
    pub base_offset: i64,
}

impl Pipe {
    pub fn open(port: u16, topic: String) -> Self {
        let (queue, waiting) = mpsc::unbounded_channel();
        // What it fails with shows in what it does not answer.
        tokio::spawn(carry(port, topic, waiting));
        Self { queue }
    }

    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// What became of the batch. Whoever drops this gives the batch up.
    pub async fn write(&self, partition: u16, batch: Bytes) -> Result<Written> {
        let (answered, answer) = oneshot::channel();
        self.queue.send(Waiting { partition, batch, answered }).ok().context("the connection is closed")?;
        answer.await.context("the connection was closed")
    }
}

async fn carry(port: u16, topic: String, mut queue: mpsc::UnboundedReceiver<Waiting>) -> Result<()> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let (answers, mut bodies) = mpsc::channel(IN_FLIGHT_MAX);
    // Ends with this one.
    let mut reading = JoinSet::new();
    reading.spawn(read(reader, answers));
    let mut in_flight: VecDeque<(i32, Vec<Waiting>)> = VecDeque::new();
    let mut correlation_id = 0;
    loop {
        tokio::select! {
            biased;
            body = bodies.recv() => {
                let body = body.context("the broker closed")?;
                let (asked, waited) = in_flight.pop_front().context("an answer to nothing")?;
                let response = answer::<ProduceRequest>(PRODUCE_VERSION, asked, body)?;
                let told: Vec<_> = response.responses.into_iter().flat_map(|topic| topic.partition_responses).collect();
                for waiting in waited {
                    let Some(partition) = told.iter().find(|told| told.index == i32::from(waiting.partition)) else {
                        bail!("an answer without the partition");
                    };
                    let _ = waiting.answered.send(Written { error_code: partition.error_code, base_offset: partition.base_offset });
                }
            }
            waiting = queue.recv(), if in_flight.len() < IN_FLIGHT_MAX => {
                let Some(waiting) = waiting else { return Ok(()) };
                let mut together = vec![waiting];
                while let Ok(more) = queue.try_recv() {
                    together.push(more);
                }
                // Given up meanwhile; what is left has one batch of a partition, since none has two that are not.
                together.retain(|waiting| !waiting.answered.is_closed());
                if together.is_empty() {
                    continue;
                }
                writer.write_all(&frame(PRODUCE_VERSION, correlation_id, &request(&topic, &together))?).await?;
                in_flight.push_back((correlation_id, together));
                correlation_id += 1;
            }
        }
    }
}

async fn read(mut reader: OwnedReadHalf, answers: mpsc::Sender<Bytes>) -> Result<()> {
    loop {
        let mut length = [0; 4];
        reader.read_exact(&mut length).await?;
        let mut body = vec![0; frame_bytes(length)?];
        reader.read_exact(&mut body).await?;
        answers.send(body.into()).await?;
    }
}

fn request(topic: &str, together: &[Waiting]) -> ProduceRequest {
    let data = together
        .iter()
        .map(|waiting| PartitionProduceData::default().with_index(i32::from(waiting.partition)).with_records(Some(waiting.batch.clone())));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(data.collect());
    ProduceRequest::default().with_acks(ALL_REPLICAS).with_timeout_ms(PRODUCE_TIMEOUT_MS).with_topic_data(vec![topic])
}
