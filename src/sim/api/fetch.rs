//! Fetch 4–18: sessions, long poll, leader hints. What a partition gives is in `fetch_read`.
//!
//! Source: Kafka's `KafkaApis.handleFetchRequest`, `ReplicaManager.fetchMessages`, `DelayedFetch`, `FetchSession`. Invariant: a wait ends as
//! soon as any partition has an error, a diverging epoch or a better replica. Deliberately not here: fetches by followers, quotas.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use uuid::Uuid;

use super::fetch_read::{Read, Reader, failed};
use super::{Api, Call, Reply, text, topic_name};
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::fetch_session::{FetchKey, Plan, Wanted};
use crate::sim::topic::Topics;
use crate::sim::waiting::{Kind, Waiting};

pub(crate) struct Fetch;

/// A fetch, as it is tried and tried again until it has enough bytes.
#[derive(Clone, Debug)]
pub(crate) struct FetchWait {
    plan: Plan,
    reader: Reader,
    min_bytes: usize,
    max_bytes: usize,
}

impl Api for Fetch {
    type Request = FetchRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: FetchRequest) -> Reply {
        let by_id = call.version >= 13;
        let (asked, forgotten) = (asked(&request, by_id), forgotten(&request, by_id));
        let Some(broker) = cluster.brokers.get_mut(&call.broker) else { return Reply::Close };
        let topics = &cluster.topics;
        let name_of = |key: &FetchKey| resolve(topics, key);
        // Sessions came with version 7; what a version has no room for reads as (0, −1): none.
        let plan = match broker.sessions.plan(request.session_id, request.session_epoch, by_id, asked, &forgotten, name_of) {
            Ok(plan) => plan,
            Err(error_code) => return call.reply(&FetchResponse::default().with_error_code(error_code)),
        };
        let wait = FetchWait {
            plan,
            reader: Reader {
                broker: call.broker,
                is_read_committed: request.isolation_level == 1,
                // Whoever could name a rack may read from followers.
                any_replica: call.version >= 11,
                rack: request.rack_id.to_string(),
            },
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
            let topic = resolve(&cluster.topics, &key).unwrap_or_default();
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
        let mut is_urgent = false;
        let mut reads = Vec::new();
        for planned in &self.plan.partitions {
            let read = self.reader.read(cluster, planned, budget, bytes == 0);
            is_urgent |= read.is_urgent;
            bytes += read.bytes;
            budget = budget.saturating_sub(read.bytes);
            reads.push((planned.key.clone(), read));
        }
        if !(is_over || is_urgent || bytes >= self.min_bytes || self.plan.partitions.is_empty()) {
            return Reply::Later;
        }
        if let Some(broker) = cluster.brokers.get_mut(&call.broker) {
            if broker.sessions.was_overtaken(&self.plan) {
                let response = FetchResponse::default().with_session_id(self.plan.session_id);
                return call.reply(&response.with_error_code(code::INVALID_FETCH_SESSION_EPOCH));
            }
            let (sessions, id) = (&mut broker.sessions, self.plan.session_id);
            if self.plan.is_incremental {
                let is_news = |key: &FetchKey, read: &Read| read.told.is_none_or(|told| sessions.is_news(id, key, told));
                reads.retain(|(key, read)| read.is_urgent || read.bytes > 0 || is_news(key, read));
            }
            reads.iter().for_each(|(key, read)| sessions.note(id, key, read.told, self.plan.is_incremental && read.bytes > 0));
        }
        respond(cluster, call, self.plan.session_id, reads)
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
                last_fetched_epoch: partition.last_fetched_epoch,
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

fn resolve(topics: &Topics, key: &FetchKey) -> Option<String> {
    if key.topic.is_empty() { topics.name_of(&key.topic_id).map(str::to_owned) } else { Some(key.topic.clone()) }
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
    for broker in cluster.hint_endpoints(&hinted) {
        let endpoint = NodeEndpoint::default()
            .with_node_id(BrokerId(broker.id))
            .with_host(text(&broker.host))
            .with_port(i32::from(broker.port))
            .with_rack(broker.rack.as_deref().map(text));
        response.node_endpoints.push(endpoint);
    }
    call.reply(&response)
}
