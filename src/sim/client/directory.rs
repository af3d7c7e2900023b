//! What the client knows of the cluster: brokers, leaders, and the connections to them.
//!
//! Invariant: every address that a broker ever named is kept in `told`. Deliberately not here: any wisdom about which of two answers is
//! newer; like most clients, it believes the last one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{CreateTopicsRequest, MetadataRequest, MetadataResponse};

use super::{ClientError, Connection};
use crate::sim::api::topic_name;
use crate::sim::code;

/// Where a partition is led.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The broker's id.
    pub node_id: i32,
    /// The leader's epoch.
    pub epoch: i32,
}

#[derive(Default)]
struct Known {
    brokers: BTreeMap<i32, String>,
    leaders: BTreeMap<i32, Leader>,
    told: BTreeSet<String>,
    connections: BTreeMap<(i32, u64), Arc<Connection>>,
    /// Held while one is opened, so that two that need it do not open two.
    opening: BTreeMap<(i32, u64), Arc<tokio::sync::Mutex<()>>>,
}

/// See the module. It knows one topic.
pub struct Directory {
    bootstrap: Vec<String>,
    topic: String,
    request_timeout: Duration,
    known: Mutex<Known>,
}

impl Directory {
    /// Nothing is known yet but `bootstrap` (`host:port`, separated by commas).
    pub fn new(bootstrap: &str, topic: &str, request_timeout: Duration) -> Directory {
        let addresses = bootstrap.split(',').map(|address| address.trim().to_owned()).filter(|address| !address.is_empty());
        Directory { bootstrap: addresses.collect(), topic: topic.to_owned(), request_timeout, known: Mutex::new(Known::default()) }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Every broker address (`host:port`) that was ever named to this client.
    pub fn told(&self) -> BTreeSet<String> {
        self.lock().told.clone()
    }

    /// Notes an address that an answer named.
    pub fn note_told(&self, host: &str, port: i32) {
        self.lock().told.insert(format!("{host}:{port}"));
    }

    /// Who leads a partition, as far as is known.
    pub fn leader(&self, partition: i32) -> Option<Leader> {
        self.lock().leaders.get(&partition).cloned()
    }

    /// The partitions that are known.
    pub fn partitions(&self) -> Vec<i32> {
        self.lock().leaders.keys().copied().collect()
    }

    /// The connection to a broker that the purpose `lane` uses, opened if need be.
    pub async fn connection(&self, node_id: i32, lane: u64) -> Result<Arc<Connection>, ClientError> {
        let opening = self.lock().opening.entry((node_id, lane)).or_default().clone();
        let _only_one = opening.lock().await;
        let (open, address) = {
            let known = self.lock();
            (known.connections.get(&(node_id, lane)).cloned(), known.brokers.get(&node_id).cloned())
        };
        let Some(address) = address else {
            return Err(ClientError::Connect { address: format!("broker {node_id}"), reason: "it is not listed".to_owned() });
        };
        if let Some(open) = open.filter(|open| !open.is_ended() && open.address() == address) {
            return Ok(open);
        }
        let fresh = Arc::new(Connection::open(&address, self.request_timeout).await?);
        self.lock().connections.insert((node_id, lane), fresh.clone());
        Ok(fresh)
    }

    /// Asks for metadata: brokers that are known first, then the bootstrap addresses.
    pub async fn refresh(&self) -> Result<(), ClientError> {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(&self.topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
        let response = self.ask_anyone(|connection| {
            let request = request.clone();
            async move { connection.ask(12, &request).await }
        });
        self.learn(&response.await?);
        Ok(())
    }

    async fn ask_anyone<T, F>(&self, ask: impl Fn(Arc<Connection>) -> F) -> Result<T, ClientError>
    where
        F: Future<Output = Result<T, ClientError>>,
    {
        const METADATA_LANE: u64 = u64::MAX;
        let mut last = String::from("no address");
        let mut ids: Vec<i32> = self.lock().brokers.keys().copied().collect();
        fastrand::shuffle(&mut ids);
        for node_id in ids {
            let answer = match self.connection(node_id, METADATA_LANE).await {
                Ok(connection) => ask(connection).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error.to_string(),
            }
        }
        for address in &self.bootstrap {
            let answer = match Connection::open(address, self.request_timeout).await {
                Ok(connection) => ask(Arc::new(connection)).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error.to_string(),
            }
        }
        Err(ClientError::Unreachable { bootstrap: self.bootstrap.join(","), last })
    }

    fn learn(&self, response: &MetadataResponse) {
        let mut known = self.lock();
        known.brokers = response.brokers.iter().map(|broker| (broker.node_id.0, format!("{}:{}", broker.host, broker.port))).collect();
        let named: Vec<String> = known.brokers.values().cloned().collect();
        known.told.extend(named);
        let listed = known.brokers.clone();
        known.connections.retain(|(node_id, _), connection| listed.contains_key(node_id) && !connection.is_ended());
        for topic in response.topics.iter().filter(|topic| topic.name.as_ref().is_some_and(|name| name.as_str() == self.topic)) {
            for partition in topic.partitions.iter().filter(|partition| partition.leader_id.0 >= 0) {
                let leader = Leader { node_id: partition.leader_id.0, epoch: partition.leader_epoch };
                known.leaders.insert(partition.partition_index, leader);
            }
        }
    }

    /// Creates the topic unless it is there, and waits until all partitions have leaders.
    pub async fn create_topic(&self, partitions: i32) -> Result<(), ClientError> {
        const ATTEMPTS: u32 = 100;
        let topic =
            CreatableTopic::default().with_name(topic_name(&self.topic)).with_num_partitions(partitions).with_replication_factor(-1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5_000);
        let response = self.ask_anyone(|connection| {
            let request = request.clone();
            async move { connection.ask(7, &request).await }
        });
        let error_code = response.await?.topics.first().map_or(code::NONE, |topic| topic.error_code);
        if !matches!(error_code, code::NONE | code::TOPIC_ALREADY_EXISTS) {
            return Err(ClientError::Kafka { code: error_code, doing: "creating the topic" });
        }
        for _ in 0..ATTEMPTS {
            self.refresh().await?;
            if self.partitions().len() >= usize::try_from(partitions).unwrap_or(0) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(ClientError::Kafka { code: code::LEADER_NOT_AVAILABLE, doing: "waiting for the topic's leaders" })
    }

    /// A new idempotent producer's id and epoch.
    pub async fn producer_identity(&self) -> Result<super::ProducerIdentity, ClientError> {
        let request = kafka_protocol::messages::InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_transaction_timeout_ms(60_000)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let response = self.ask_anyone(|connection| {
            let request = request.clone();
            async move { connection.ask(4, &request).await }
        });
        let response = response.await?;
        if response.error_code != code::NONE {
            return Err(ClientError::Kafka { code: response.error_code, doing: "asking for a producer id" });
        }
        Ok(super::ProducerIdentity { producer_id: response.producer_id.0, epoch: response.producer_epoch })
    }

    /// Notes leader hints of an answer (KIP-951).
    pub fn hint(&self, partition: i32, leader: Leader) {
        let mut known = self.lock();
        let is_newer = known.leaders.get(&partition).is_none_or(|before| before.epoch < leader.epoch);
        if is_newer && known.brokers.contains_key(&leader.node_id) {
            known.leaders.insert(partition, leader);
        }
    }
}
