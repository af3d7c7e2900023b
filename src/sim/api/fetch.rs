//! Fetch 4–18: sessions, long poll, both isolation levels, epoch fencing, leader hints.
//!
//! Source: Kafka's `ReplicaManager.fetchMessages`, `DelayedFetch`, `FetchSession`. Invariant: an answer holds whole batches only (a broker
//! may cut the last one). Deliberately not here: followers' fetches, preferred replicas, diverging epochs.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProducerId};
use uuid::Uuid;

use super::{Api, Call, Reply, text, topic_name};
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::fetch_session::{FetchKey, Plan, Told, Wanted};
use crate::sim::waiting::{Kind, Waiting};

pub(crate) struct Fetch;

/// A fetch, as it is tried and tried again until it has enough bytes.
#[derive(Clone, Debug)]
pub(crate) struct FetchWait {
    plan: Plan,
    is_read_committed: bool,
    min_bytes: usize,
    max_bytes: usize,
}

/// What a partition has to give.
struct Read {
    topic: String,
    data: PartitionData,
    told: Option<Told>,
    bytes: usize,
}

impl Api for Fetch {
    type Request = FetchRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: FetchRequest) -> Reply {
        let by_id = call.version >= 13;
        let (asked, forgotten) = (asked(&request, by_id), forgotten(&request, by_id));
        let Some(broker) = cluster.brokers.get_mut(&call.broker) else { return Reply::Close };
        // Sessions came with version 7; what a version has no room for reads as (0, −1): none.
        let plan = match broker.sessions.plan(request.session_id, request.session_epoch, by_id, asked, &forgotten) {
            Ok(plan) => plan,
            Err(error_code) => return call.reply(&FetchResponse::default().with_error_code(error_code)),
        };
        let wait = FetchWait {
            plan,
            is_read_committed: request.isolation_level == 1,
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0),
            max_bytes: usize::try_from(request.max_bytes).unwrap_or(0),
        };
        let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        match wait.answer(cluster, call, max_wait.is_zero()) {
            Reply::Later => {
                let deadline = cluster.now + max_wait;
                cluster.waiting.push(Waiting { call: call.clone(), deadline, kind: Kind::Fetch(Box::new(wait)) });
                Reply::Later
            }
            reply => reply,
        }
    }

    fn refuse(cluster: &mut Cluster, call: &Call, request: FetchRequest, error_code: i16) -> Reply {
        let is_session_error = matches!(error_code, code::FETCH_SESSION_ID_NOT_FOUND | code::INVALID_FETCH_SESSION_EPOCH);
        if is_session_error {
            return call.reply(&FetchResponse::default().with_error_code(error_code));
        }
        let reads = asked(&request, call.version >= 13).into_iter().map(|(key, _)| {
            let topic = resolve(cluster, &key).unwrap_or_default();
            (key.clone(), failed(topic, &key, error_code))
        });
        let reads = reads.collect();
        respond(cluster, call, 0, reads)
    }
}

impl FetchWait {
    /// The answer, if there is enough to say or time is up.
    pub(crate) fn answer(&self, cluster: &mut Cluster, call: &Call, is_over: bool) -> Reply {
        let mut budget = self.max_bytes;
        let mut bytes = 0;
        let mut has_error = false;
        let mut reads = Vec::new();
        for (key, wanted) in &self.plan.partitions {
            let read = self.read(cluster, call, key, wanted, budget, bytes == 0);
            has_error |= read.data.error_code != code::NONE;
            bytes += read.bytes;
            budget = budget.saturating_sub(read.bytes);
            reads.push((key.clone(), read));
        }
        if !(is_over || has_error || bytes >= self.min_bytes || self.plan.partitions.is_empty()) {
            return Reply::Later;
        }
        if self.plan.is_incremental {
            self.drop_old_news(cluster, call, &mut reads);
        }
        if let Some(broker) = cluster.brokers.get_mut(&call.broker) {
            reads.iter().for_each(|(key, read)| broker.sessions.note(self.plan.session_id, key, read.told));
        }
        respond(cluster, call, self.plan.session_id, reads)
    }

    fn drop_old_news(&self, cluster: &Cluster, call: &Call, reads: &mut Vec<(FetchKey, Read)>) {
        let Some(broker) = cluster.brokers.get(&call.broker) else { return };
        reads.retain(|(key, read)| match read.told {
            Some(told) => read.bytes > 0 || broker.sessions.is_news(self.plan.session_id, key, told),
            None => true,
        });
    }

    fn read(&self, cluster: &Cluster, call: &Call, key: &FetchKey, wanted: &Wanted, budget: usize, is_first: bool) -> Read {
        let Some(topic) = resolve(cluster, key) else { return failed(String::new(), key, code::UNKNOWN_TOPIC_ID) };
        let Some(partition) = cluster.topics.partition(&topic, key.partition) else {
            return failed(topic, key, code::UNKNOWN_TOPIC_OR_PARTITION);
        };
        if let Err(error_code) = partition.admit(call.broker, wanted.current_leader_epoch) {
            return failed(topic, key, error_code);
        }
        let log = &partition.log;
        if wanted.offset < log.start_offset() || wanted.offset > log.end_offset() {
            return failed(topic, key, code::OFFSET_OUT_OF_RANGE);
        }
        let stable = log.last_stable_offset();
        let limit = if self.is_read_committed { stable } else { log.high_watermark() };
        let max_bytes = budget.min(usize::try_from(wanted.max_bytes).unwrap_or(0));
        let slice = log.read(wanted.offset, limit, max_bytes, is_first);
        let bytes = slice.records.len();
        let aborted = self.is_read_committed.then(|| {
            let found = log.aborted_between(wanted.offset, slice.end_offset).into_iter();
            let one = found.map(|aborted| {
                AbortedTransaction::default().with_producer_id(ProducerId(aborted.producer_id)).with_first_offset(aborted.first_offset)
            });
            one.collect()
        });
        let told = Told { high_watermark: log.high_watermark(), log_start_offset: log.start_offset(), last_stable_offset: stable };
        let data = PartitionData::default()
            .with_partition_index(key.partition)
            .with_high_watermark(told.high_watermark)
            .with_last_stable_offset(stable)
            .with_log_start_offset(told.log_start_offset)
            .with_aborted_transactions(aborted)
            .with_records(Some(slice.records));
        Read { topic, data, told: Some(told), bytes }
    }
}

fn key_of(topic: &str, topic_id: Uuid, partition: i32, by_id: bool) -> FetchKey {
    if by_id {
        FetchKey { topic: String::new(), topic_id, partition }
    } else {
        FetchKey { topic: topic.to_owned(), topic_id: Uuid::nil(), partition }
    }
}

fn asked(request: &FetchRequest, by_id: bool) -> Vec<(FetchKey, Wanted)> {
    let mut asked = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let wanted = Wanted {
                current_leader_epoch: partition.current_leader_epoch,
                offset: partition.fetch_offset,
                max_bytes: partition.partition_max_bytes,
            };
            asked.push((key_of(topic.topic.as_str(), topic.topic_id, partition.partition, by_id), wanted));
        }
    }
    asked
}

fn forgotten(request: &FetchRequest, by_id: bool) -> Vec<FetchKey> {
    let topics = request.forgotten_topics_data.iter();
    let keys = topics.flat_map(|topic| topic.partitions.iter().map(|index| key_of(topic.topic.as_str(), topic.topic_id, *index, by_id)));
    keys.collect()
}

fn resolve(cluster: &Cluster, key: &FetchKey) -> Option<String> {
    if key.topic.is_empty() { cluster.topics.name_of(&key.topic_id).map(str::to_owned) } else { Some(key.topic.clone()) }
}

fn failed(topic: String, key: &FetchKey, error_code: i16) -> Read {
    let data = PartitionData::default()
        .with_partition_index(key.partition)
        .with_error_code(error_code)
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_records(Some(bytes::Bytes::new()));
    Read { topic, data, told: None, bytes: 0 }
}

fn respond(cluster: &Cluster, call: &Call, session_id: i32, reads: Vec<(FetchKey, Read)>) -> Reply {
    let mut response = FetchResponse::default().with_session_id(session_id);
    let mut hinted = BTreeSet::new();
    for (key, mut read) in reads {
        let deserves_hint = matches!(read.data.error_code, code::NOT_LEADER_OR_FOLLOWER | code::FENCED_LEADER_EPOCH);
        let hint = cluster.leader_hint(&read.topic, key.partition).filter(|_| call.version >= 16 && deserves_hint);
        if let Some((leader, epoch)) = hint {
            read.data.current_leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(leader)).with_leader_epoch(epoch);
            hinted.insert(leader);
        }
        let same = |last: &FetchableTopicResponse| last.topic_id == key.topic_id && last.topic.as_str() == key.topic;
        if !response.responses.last().is_some_and(same) {
            let topic = FetchableTopicResponse::default().with_topic(topic_name(&key.topic)).with_topic_id(key.topic_id);
            response.responses.push(topic);
        }
        if let Some(topic) = response.responses.last_mut() {
            topic.partitions.push(read.data);
        }
    }
    for broker in hinted.into_iter().filter_map(|id| cluster.brokers.get(&id)) {
        let endpoint = NodeEndpoint::default()
            .with_node_id(BrokerId(broker.id))
            .with_host(text(&broker.host))
            .with_port(i32::from(broker.port))
            .with_rack(broker.rack.as_deref().map(text));
        response.node_endpoints.push(endpoint);
    }
    call.reply(&response)
}
