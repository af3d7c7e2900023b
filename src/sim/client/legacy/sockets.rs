//! The model's connections: per broker one for producing, one for questions, as kgo has them.
//!
//! Invariant: produce requests to a broker are written in the order in which the model made them, and each is answered by one event.
//! Deliberately not here: any decision; a dropped SYN takes as long as the system's connect, at most five seconds (kgo: ten).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse};
use kafka_protocol::records::{Record, TimestampType};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::exchange::{Action, Answer, Broker, Exchanged, Failure, Part, PartAnswer, PartitionSeen, Seen, Target};
use super::load::{Options, Stamp};
use super::{Core, Rules};
use crate::sim::api::topic_name;
use crate::sim::batch;
use crate::sim::client::connection::Awaited;
use crate::sim::client::{ClientError, Connection, Introduction, ProducerIdentity};

/// The model is treated as the client whose rules it follows.
const INTRODUCTION: Introduction = Introduction { client_id: "kgo", software_name: "kgo", software_version: "1.17.0" };
/// What kgo 1.17.0 asks for.
const METADATA_VERSION_MAX: i16 = 12;
/// More than a sink has in flight.
const QUEUED: usize = 64;

/// What the sockets have to say.
#[derive(Debug)]
pub(super) enum Event {
    Produced(u64, Exchanged),
    Metadata(Result<Seen, Failure>),
    Brokers(Result<Vec<Broker>, Failure>),
}

impl Event {
    pub(super) fn tell(self, core: &mut Core, now: Duration) {
        match self {
            Event::Produced(token, result) => core.on_produced(now, token, result),
            Event::Metadata(answer) => core.on_metadata(now, answer),
            Event::Brokers(answer) => core.on_brokers(now, answer),
        }
    }
}

struct Job {
    token: u64,
    request: ProduceRequest,
}

struct Writer {
    jobs: mpsc::Sender<Job>,
    _ends_with_us: DropGuard,
}

/// What all tasks share.
#[derive(Clone)]
struct Shared {
    events: mpsc::Sender<Event>,
    told: Arc<Mutex<BTreeSet<String>>>,
    /// By broker, for questions.
    askers: Arc<Mutex<BTreeMap<Target, Arc<Connection>>>>,
    rules: Arc<Rules>,
    topic: Arc<str>,
}

pub(super) struct Sockets {
    shared: Shared,
    bootstrap: Vec<String>,
    identity: ProducerIdentity,
    options: Options,
    writers: BTreeMap<i32, Writer>,
}

impl Sockets {
    pub(super) fn new(
        bootstrap: &str,
        identity: ProducerIdentity,
        told: BTreeSet<String>,
        options: &Options,
    ) -> (Sockets, mpsc::Receiver<Event>) {
        let (events, received) = mpsc::channel(QUEUED);
        let shared = Shared {
            events,
            told: Arc::new(Mutex::new(told)),
            askers: Arc::default(),
            rules: Arc::new(options.rules.clone()),
            topic: options.topic.as_str().into(),
        };
        let bootstrap = bootstrap.split(',').map(|address| address.trim().to_owned()).filter(|address| !address.is_empty()).collect();
        (Sockets { shared, bootstrap, identity, options: options.clone(), writers: BTreeMap::new() }, received)
    }

    pub(super) fn told(&self) -> BTreeSet<String> {
        self.shared.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does what the model wants; what became of records goes to `settled`.
    pub(super) fn carry_out(&mut self, core: &mut Core, settled: &mut dyn FnMut(Action)) {
        while let Some(action) = core.poll() {
            match action {
                Action::Produce { token, broker, address, epoch_bumps, parts } => self.produce(token, broker, address, epoch_bumps, &parts),
                Action::AskMetadata(target) => self.ask(core, target, true),
                Action::AskBrokers(target) => self.ask(core, target, false),
                Action::Close { broker } => {
                    self.writers.remove(&broker);
                    self.shared.askers.lock().unwrap_or_else(PoisonError::into_inner).remove(&Target::Broker(broker));
                }
                Action::Acknowledged { .. } | Action::GaveUp { .. } => settled(action),
            }
        }
    }

    fn produce(&mut self, token: u64, broker: i32, address: String, epoch_bumps: i16, parts: &[Part]) {
        let data = parts.iter().map(|part| {
            let bytes = batch::encode(&self.records(part, epoch_bumps));
            PartitionProduceData::default().with_index(part.partition).with_records(Some(bytes))
        });
        let topic = TopicProduceData::default().with_name(topic_name(&self.shared.topic)).with_partition_data(data.collect());
        let timeout_ms = i32::try_from(self.shared.rules.produce_timeout.as_millis()).unwrap_or(i32::MAX);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(timeout_ms).with_topic_data(vec![topic]);
        let writer = self.writers.entry(broker).or_insert_with(|| {
            let (jobs, queue) = mpsc::channel(QUEUED);
            let ended = CancellationToken::new();
            tokio::spawn(write_requests(self.shared.clone(), address, queue, ended.clone()));
            Writer { jobs, _ends_with_us: ended.drop_guard() }
        });
        if writer.jobs.try_send(Job { token, request }).is_err() {
            let events = self.shared.events.clone();
            tokio::spawn(async move { events.send(Event::Produced(token, Err(Failure::Ended))).await });
        }
    }

    fn records(&self, part: &Part, epoch_bumps: i16) -> Vec<Record> {
        let partitions = u64::try_from(self.options.partitions).unwrap_or(1);
        let record = |index: u64| {
            let number = part.first + index;
            let made = number * partitions + u64::try_from(part.partition).unwrap_or(0);
            Record {
                transactional: false,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: -1,
                producer_id: self.identity.producer_id,
                producer_epoch: self.identity.epoch.saturating_add(epoch_bumps),
                timestamp_type: TimestampType::Creation,
                offset: i64::try_from(index).unwrap_or(i64::MAX),
                sequence: i32::try_from((i64::from(part.sequence) + i64::try_from(index).unwrap_or(0)) % (1 << 31)).unwrap_or(0),
                timestamp: i64::try_from(self.options.due(made).as_millis()).unwrap_or(i64::MAX),
                key: None,
                value: Some(Stamp { partition: part.partition, number }.write(self.options.record_bytes)),
                headers: IndexMap::new(),
            }
        };
        (0..part.count).map(record).collect()
    }

    fn ask(&self, core: &Core, target: Target, topics: bool) {
        let address = match target {
            Target::Broker(broker) => core.address_of(broker),
            Target::Bootstrap(number) => self.bootstrap.get(number % self.bootstrap.len().max(1)).map(String::as_str),
        };
        let (address, shared) = (address.unwrap_or_default().to_owned(), self.shared.clone());
        tokio::spawn(async move {
            let answer = shared.metadata(target, &address, topics).await;
            let answer = answer.map_err(|error| failure_of(&error));
            let event = match answer {
                Ok(answer) if topics => Event::Metadata(Ok(shared.seen(&answer))),
                Ok(answer) => Event::Brokers(Ok(shared.seen(&answer).brokers)),
                Err(failure) if topics => Event::Metadata(Err(failure)),
                Err(failure) => Event::Brokers(Err(failure)),
            };
            // Nobody may listen any more.
            let _ = shared.events.send(event).await;
        });
    }
}

fn failure_of(error: &ClientError) -> Failure {
    match error {
        ClientError::Connect { .. } => Failure::Refused,
        _ => Failure::Ended,
    }
}

impl Shared {
    fn note_told(&self, broker: &Broker) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(broker.address.clone());
    }

    fn request_timeout(&self) -> Duration {
        self.rules.produce_timeout + self.rules.timeout_overhead
    }

    async fn metadata(&self, target: Target, address: &str, topics: bool) -> Result<MetadataResponse, ClientError> {
        let known = self.askers.lock().unwrap_or_else(PoisonError::into_inner).get(&target).cloned();
        let connection = match known.filter(|known| !known.is_ended() && known.address() == address) {
            Some(connection) => connection,
            None => {
                let fresh = Arc::new(Connection::open_as(INTRODUCTION, address, self.request_timeout()).await?);
                self.askers.lock().unwrap_or_else(PoisonError::into_inner).insert(target, fresh.clone());
                fresh
            }
        };
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(&self.topic)));
        let request = MetadataRequest::default().with_topics(topics.then(|| vec![topic])).with_allow_auto_topic_creation(false);
        connection.ask(METADATA_VERSION_MAX, &request).await
    }

    fn seen(&self, answer: &MetadataResponse) -> Seen {
        let brokers = answer.brokers.iter().map(|broker| Broker {
            id: broker.node_id.0,
            address: format!("{}:{}", broker.host, broker.port),
            rack: broker.rack.as_ref().map(ToString::to_string),
        });
        let brokers: Vec<Broker> = brokers.collect();
        brokers.iter().for_each(|broker| self.note_told(broker));
        let topic = answer.topics.iter().find(|topic| topic.name.as_ref().is_some_and(|name| name.as_str() == &*self.topic));
        let partitions = topic.into_iter().flat_map(|topic| &topic.partitions).map(|partition| PartitionSeen {
            partition: partition.partition_index,
            error_code: partition.error_code,
            leader: partition.leader_id.0,
            epoch: partition.leader_epoch,
        });
        let mut partitions: Vec<PartitionSeen> = partitions.collect();
        partitions.sort_by_key(|partition| partition.partition);
        Seen { brokers, partitions }
    }

    fn answer(&self, version: i16, response: &ProduceResponse) -> Answer {
        let parts = response.responses.iter().flat_map(|topic| &topic.partition_responses).map(|part| PartAnswer {
            partition: part.index,
            error_code: part.error_code,
            leader: (part.current_leader.leader_id.0, part.current_leader.leader_epoch),
        });
        let brokers = response.node_endpoints.iter().map(|node| Broker {
            id: node.node_id.0,
            address: format!("{}:{}", node.host, node.port),
            rack: node.rack.as_ref().map(ToString::to_string),
        });
        let brokers: Vec<Broker> = brokers.collect();
        brokers.iter().for_each(|broker| self.note_told(broker));
        Answer { version, parts: parts.collect(), brokers }
    }
}

/// Writes one broker's produce requests until the model closes it.
async fn write_requests(shared: Shared, address: String, mut queue: mpsc::Receiver<Job>, ended: CancellationToken) {
    let mut connection: Option<Connection> = None;
    while let Some(Job { token, request }) = queue.recv().await {
        let sent = tokio::select! {
            biased;
            () = ended.cancelled() => Err(Failure::Ended),
            sent = write(&shared, &address, &mut connection, &request) => sent,
        };
        let (shared, ended) = (shared.clone(), ended.clone());
        match sent {
            Err(failure) => drop(shared.events.send(Event::Produced(token, Err(failure))).await),
            Ok((version, awaited)) => drop(tokio::spawn(async move {
                let answer = tokio::select! {
                    biased;
                    () = ended.cancelled() => Err(Failure::Ended),
                    answer = awaited.wait() => answer.map(|response| shared.answer(version, &response)).map_err(|error| failure_of(&error)),
                };
                let _ = shared.events.send(Event::Produced(token, answer)).await;
            })),
        }
    }
}

async fn write(
    shared: &Shared,
    address: &str,
    connection: &mut Option<Connection>,
    request: &ProduceRequest,
) -> Result<(i16, Awaited<ProduceRequest>), Failure> {
    if connection.as_ref().is_none_or(Connection::is_ended) {
        *connection = Some(connect(shared, address).await?);
    }
    let open = connection.as_ref().ok_or(Failure::Ended)?;
    let version = open.version(ApiKey::Produce, shared.rules.produce_version_max).map_err(|error| failure_of(&error))?;
    let awaited = open.send_versioned(version, request).await.map_err(|error| failure_of(&error))?;
    Ok((version, awaited))
}

/// A connection that ends in its first moments is tried once more (kgo: `retriedOnNewConnection`).
async fn connect(shared: &Shared, address: &str) -> Result<Connection, Failure> {
    let first = Connection::open_as(INTRODUCTION, address, shared.request_timeout()).await;
    let again = match first {
        Err(error) if failure_of(&error) == Failure::Ended => Connection::open_as(INTRODUCTION, address, shared.request_timeout()).await,
        other => other,
    };
    again.map_err(|error| failure_of(&error))
}
