//! Administration of a real cluster without starting a JVM for each step.
//!
//! Invariant: an error code that is none of the expected ones is an error here.
//! Not here: when a step is due, and which broker to ask; one that is frozen answers nobody.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreateTopicsRequest, DeleteTopicsRequest, ElectLeadersRequest,
    ListPartitionReassignmentsRequest, MetadataRequest, TopicName, UnregisterBrokerRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::connection::Connection;

const STEP_TIME_MAX_MS: i32 = 30_000;
const POLL_EVERY: Duration = Duration::from_millis(50);
/// Versions that Kafka 3.6 and 4.4 both speak, and that name topics.
pub const METADATA_VERSION: i16 = 12;
const CREATE_TOPICS_VERSION: i16 = 7;
const DELETE_TOPICS_VERSION: i16 = 6;
const REASSIGN_VERSION: i16 = 0;
const LIST_REASSIGNMENTS_VERSION: i16 = 0;
const ELECT_LEADERS_VERSION: i16 = 2;
const UNREGISTER_VERSION: i16 = 0;

/// A partition as one broker tells it.
#[derive(Clone, Debug)]
pub struct Partition {
    pub topic: String,
    pub index: i32,
    /// −1: none.
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

/// The cluster as one broker tells it: its live brokers, and the partitions of all topics.
#[derive(Clone, Debug)]
pub struct Picture {
    pub brokers: BTreeSet<i32>,
    pub partitions: Vec<Partition>,
}

impl Picture {
    /// Whether the broker is not listed and leads nothing, and everything has a leader.
    pub fn is_without(&self, broker: i32) -> bool {
        !self.brokers.contains(&broker) && self.partitions.iter().all(|partition| partition.leader >= 0 && partition.leader != broker)
    }

    pub fn is_in_sync(&self) -> bool {
        self.partitions.iter().all(|partition| partition.leader >= 0 && partition.in_sync.len() == partition.replicas.len())
    }

    pub fn is_led_as_preferred(&self) -> bool {
        self.partitions.iter().all(|partition| Some(&partition.leader) == partition.replicas.first())
    }
}

/// Asks one broker, which passes on what is the controller's.
pub struct Admin {
    connection: Connection,
}

impl Admin {
    pub fn open(port: u16) -> Result<Self> {
        Ok(Self { connection: Connection::open(port)? })
    }

    pub fn create_topic(&mut self, name: &str, replicas: &[Vec<i32>]) -> Result<()> {
        let assignments = replicas.iter().zip(0..).map(|(replicas, index)| {
            CreatableReplicaAssignment::default().with_partition_index(index).with_broker_ids(broker_ids(replicas))
        });
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(assignments.collect());
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(STEP_TIME_MAX_MS);
        let response = self.connection.ask(CREATE_TOPICS_VERSION, &request)?;
        response.topics.iter().try_for_each(|topic| accept(topic.error_code, &[], || format!("creating topic {name}")))
    }

    pub fn delete_topic(&mut self, name: &str) -> Result<()> {
        let topic = DeleteTopicState::default().with_name(Some(topic_name(name)));
        let request = DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(STEP_TIME_MAX_MS);
        let response = self.connection.ask(DELETE_TOPICS_VERSION, &request)?;
        response.responses.iter().try_for_each(|topic| accept(topic.error_code, &[], || format!("deleting topic {name}")))
    }

    /// All topics.
    pub fn picture(&mut self) -> Result<Picture> {
        let response = self.connection.ask(METADATA_VERSION, &MetadataRequest::default().with_topics(None))?;
        let partitions = response.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| Partition {
                topic: topic.name.as_ref().map(|name| name.to_string()).unwrap_or_default(),
                index: partition.partition_index,
                leader: partition.leader_id.0,
                replicas: ids(&partition.replica_nodes),
                in_sync: ids(&partition.isr_nodes),
            })
        });
        Ok(Picture { brokers: response.brokers.iter().map(|broker| broker.node_id.0).collect(), partitions: partitions.collect() })
    }

    /// Starts moving partitions: each to the replicas that are named for it.
    pub fn reassign(&mut self, moves: &[(String, i32, Vec<i32>)]) -> Result<()> {
        let mut topics: Vec<ReassignableTopic> = Vec::new();
        for (topic, index, replicas) in moves {
            let partition = ReassignablePartition::default().with_partition_index(*index).with_replicas(Some(broker_ids(replicas)));
            match topics.iter_mut().find(|known| known.name.as_str() == topic) {
                Some(known) => known.partitions.push(partition),
                None => topics.push(ReassignableTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition])),
            }
        }
        let request = AlterPartitionReassignmentsRequest::default().with_timeout_ms(STEP_TIME_MAX_MS).with_topics(topics);
        let response = self.connection.ask(REASSIGN_VERSION, &request)?;
        accept(response.error_code, &[], || "reassigning partitions".to_owned())?;
        let mut partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        partitions.try_for_each(|partition| accept(partition.error_code, &[], || format!("reassigning {}", partition.partition_index)))
    }

    /// How many partitions are being moved.
    pub fn reassigning(&mut self) -> Result<usize> {
        let request = ListPartitionReassignmentsRequest::default().with_timeout_ms(STEP_TIME_MAX_MS).with_topics(None);
        let response = self.connection.ask(LIST_REASSIGNMENTS_VERSION, &request)?;
        accept(response.error_code, &[], || "listing reassignments".to_owned())?;
        Ok(response.topics.iter().map(|topic| topic.partitions.len()).sum())
    }

    /// Gives each of these partitions to the first of its replicas.
    pub fn elect_preferred_leaders(&mut self, topic: &str, partitions: i32) -> Result<()> {
        let of_topic = TopicPartitions::default().with_topic(topic_name(topic)).with_partitions((0..partitions).collect());
        let request = ElectLeadersRequest::default()
            .with_election_type(0)
            .with_topic_partitions(Some(vec![of_topic]))
            .with_timeout_ms(STEP_TIME_MAX_MS);
        let response = self.connection.ask(ELECT_LEADERS_VERSION, &request)?;
        accept(response.error_code, &[], || "electing preferred leaders".to_owned())?;
        let mut results = response.replica_election_results.iter().flat_map(|topic| &topic.partition_result);
        results.try_for_each(|result| {
            accept(result.error_code, &[ResponseError::ElectionNotNeeded], || format!("electing a leader for {}", result.partition_id))
        })
    }

    pub fn unregister(&mut self, broker: i32) -> Result<()> {
        let response = self.connection.ask(UNREGISTER_VERSION, &UnregisterBrokerRequest::default().with_broker_id(BrokerId(broker)))?;
        accept(response.error_code, &[], || format!("unregistering broker {broker}"))
    }

    /// Looks until what is seen is right, at most so long.
    pub fn wait_until(&mut self, what: &str, at_most: Duration, right: impl Fn(&Picture) -> bool) -> Result<Picture> {
        let until = Instant::now() + at_most;
        loop {
            let picture = self.picture()?;
            if right(&picture) {
                return Ok(picture);
            }
            ensure!(Instant::now() < until, "not within {at_most:?}: {what}; {picture:?}");
            sleep(POLL_EVERY);
        }
    }

    pub fn wait_until_moved(&mut self, at_most: Duration) -> Result<()> {
        let until = Instant::now() + at_most;
        loop {
            let moving = self.reassigning()?;
            if moving == 0 {
                return Ok(());
            }
            ensure!(Instant::now() < until, "{moving} partitions are still being moved after {at_most:?}");
            sleep(POLL_EVERY);
        }
    }
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

/// A metadata request for one topic.
pub fn metadata_of(topic: &str) -> MetadataRequest {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
    MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false)
}

fn broker_ids(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().copied().map(BrokerId).collect()
}

fn ids(brokers: &[BrokerId]) -> Vec<i32> {
    brokers.iter().map(|broker| broker.0).collect()
}

fn accept(code: i16, expected: &[ResponseError], doing: impl Fn() -> String) -> Result<()> {
    match ResponseError::try_from_code(code) {
        None => Ok(()),
        Some(error) if expected.contains(&error) => Ok(()),
        Some(error) => bail!("{}: {error:?}", doing()),
    }
}

/// The replicas of each partition in turn, three of the brokers, every broker the first of as many.
pub fn spread_replicas(brokers: &[i32], partitions: usize) -> Vec<Vec<i32>> {
    (0..partitions).map(|index| (0..brokers.len().min(3)).map(|replica| brokers[(index + replica) % brokers.len()]).collect()).collect()
}

/// The replicas of a partition with one broker replaced by one that has none of it.
pub fn without(replicas: &[i32], broker: i32, brokers: &[i32]) -> Result<Vec<i32>> {
    let other = brokers.iter().copied().find(|id| *id != broker && !replicas.contains(id));
    let other = other.with_context(|| format!("no broker is left to take the place of {broker} among {replicas:?}"))?;
    Ok(replicas.iter().map(|id| if *id == broker { other } else { *id }).collect())
}
