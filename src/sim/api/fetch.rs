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

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};

    use super::*;
    use crate::sim::bench::{Bench, Made};

    fn bench() -> Bench {
        let mut bench = Bench::new();
        // Each partition is led by broker 0.
        bench.cluster.create_assigned_topic("t", vec![vec![0, 1], vec![0, 1]]);
        bench
    }

    fn request(offsets: &[(i32, i64)]) -> FetchRequest {
        let partitions = offsets.iter().map(|(index, offset)| {
            let partition = FetchPartition::default().with_partition(*index).with_fetch_offset(*offset);
            partition.with_current_leader_epoch(-1).with_partition_max_bytes(1 << 20)
        });
        let topic = FetchTopic::default().with_topic(topic_name("t")).with_partitions(partitions.collect());
        let request = FetchRequest::default().with_max_bytes(1 << 20).with_min_bytes(1).with_session_epoch(-1);
        if offsets.is_empty() { request } else { request.with_topics(vec![topic]) }
    }

    fn parts(response: &FetchResponse) -> Vec<(i32, i16, bool)> {
        let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        partitions
            .map(|part| (part.partition_index, part.error_code, part.records.as_ref().is_some_and(|records| !records.is_empty())))
            .collect()
    }

    #[test]
    fn a_long_poll_waits_for_bytes_and_holds_up_nobody_else() {
        let mut bench = bench();
        let (waiting, other) = (bench.connect(0), bench.connect(0));
        bench.send(waiting, 11, &request(&[(0, 0)]).with_max_wait_ms(500));
        bench.pass(Duration::from_millis(499));
        assert!(bench.answer::<FetchRequest>(waiting, 11).is_none());
        bench.produce(other, "t", 0, Made::plain(1));
        let answer = bench.answer::<FetchRequest>(waiting, 11).expect("records end the wait");
        assert_eq!(parts(&answer), [(0, code::NONE, true)]);

        bench.send(waiting, 11, &request(&[(0, 1)]).with_max_wait_ms(500));
        bench.pass(Duration::from_millis(500));
        let answer = bench.answer::<FetchRequest>(waiting, 11).expect("time ends the wait");
        assert_eq!(parts(&answer), [(0, code::NONE, false)]);
    }

    #[test]
    fn a_move_ends_the_wait_with_6_and_a_hint_from_version_16() {
        let mut bench = bench();
        let conn = bench.connect(0);
        let mut by_id = request(&[(0, 0)]).with_max_wait_ms(500);
        by_id.topics[0].topic = topic_name("");
        by_id.topics[0].topic_id = bench.cluster.image().topics["t"].id;
        bench.send(conn, 16, &by_id);
        bench.cluster.move_leader("t", 0, 1);
        let answer = bench.answer::<FetchRequest>(conn, 16).expect("the move ends the wait");
        assert_eq!(parts(&answer), [(0, code::NOT_LEADER_OR_FOLLOWER, false)]);
        assert_eq!(answer.responses[0].partitions[0].current_leader.leader_id.0, 1);
        assert_eq!(answer.node_endpoints.len(), 1);
    }

    #[test]
    fn epochs_fence_both_ways() {
        let mut bench = bench();
        bench.cluster.move_leader("t", 0, 1);
        let conn = bench.connect(1);
        for (epoch, error_code) in [(0, code::FENCED_LEADER_EPOCH), (1, code::NONE), (2, code::UNKNOWN_LEADER_EPOCH)] {
            let mut asked = request(&[(0, 0)]);
            asked.topics[0].partitions[0].current_leader_epoch = epoch;
            assert_eq!(parts(&bench.ask(conn, 11, &asked)), [(0, error_code, false)]);
        }
    }

    #[test]
    fn a_session_leaves_out_what_did_not_change() {
        let mut bench = bench();
        let conn = bench.connect(0);
        let opened = bench.ask(conn, 11, &request(&[(0, 0), (1, 0)]).with_session_epoch(0));
        let session = opened.session_id;
        assert_ne!(session, 0);
        assert_eq!(parts(&opened).len(), 2);
        let next = |epoch: i32, asked: FetchRequest| asked.with_session_id(session).with_session_epoch(epoch);
        assert_eq!(parts(&bench.ask(conn, 11, &next(1, request(&[])))), []);
        bench.produce(conn, "t", 1, Made::plain(1));
        assert_eq!(parts(&bench.ask(conn, 11, &next(2, request(&[])))), [(1, code::NONE, true)]);
        assert_eq!(parts(&bench.ask(conn, 11, &next(3, request(&[(1, 1)])))), []);
        assert_eq!(bench.ask(conn, 11, &next(3, request(&[]))).error_code, code::INVALID_FETCH_SESSION_EPOCH);

        let forgotten = ForgottenTopic::default().with_topic(topic_name("t")).with_partitions(vec![0]);
        bench.ask(conn, 11, &next(4, request(&[])).with_forgotten_topics_data(vec![forgotten]));
        bench.cluster.move_leader("t", 0, 1);
        assert_eq!(parts(&bench.ask(conn, 11, &next(5, request(&[])))), []);

        bench.cluster.restart_broker(0);
        let conn = bench.connect(0);
        assert_eq!(bench.ask(conn, 11, &next(6, request(&[]))).error_code, code::FETCH_SESSION_ID_NOT_FOUND);
    }

    #[test]
    fn sizes_bound_an_answer_but_never_to_nothing() {
        let mut bench = bench();
        let conn = bench.connect(0);
        for _ in 0..3 {
            bench.produce(conn, "t", 0, Made::plain(1));
            bench.produce(conn, "t", 1, Made::plain(1));
        }
        let answer = bench.ask(conn, 11, &request(&[(0, 0), (1, 0)]).with_max_bytes(1));
        assert_eq!(parts(&answer), [(0, code::NONE, true), (1, code::NONE, false)]);
        assert_eq!(parts(&bench.ask(conn, 11, &request(&[(0, 4)]))), [(0, code::OFFSET_OUT_OF_RANGE, false)]);
    }
}
