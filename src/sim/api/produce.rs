//! Produce 3–13: append, with the broker's idempotence checks and leader hints.
//!
//! Source: Kafka's `ReplicaManager.appendRecords`, `UnifiedLog`, `DelayedProduce`; KIP-951 for the hints. Invariant: a batch is appended
//! whole or not at all. Deliberately not here: `min.insync.replicas`, quotas, log-append time.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::produce_response::{LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{BrokerId, ProduceRequest, ProduceResponse};
use uuid::Uuid;

use super::{Api, Call, Reply, text, topic_name};
use crate::sim::batch;
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::producer_state::Verdict;
use crate::sim::waiting::{Kind, Waiting};

pub(crate) struct Produce;

/// What became of one partition's batch.
#[derive(Clone, Debug)]
struct Appended {
    topic: String,
    topic_id: Uuid,
    partition: i32,
    error_code: i16,
    base_offset: i64,
    log_start_offset: i64,
    /// The high watermark that acks=all waits for, and the epoch under which it was appended; none once `error_code` is final.
    required: Option<(i64, i32)>,
}

/// A produce request with acks=all whose followers are held back.
#[derive(Clone, Debug)]
pub(crate) struct ProduceWait {
    parts: Vec<Appended>,
}

impl Api for Produce {
    type Request = ProduceRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: ProduceRequest) -> Reply {
        let transactional_id = request.transactional_id.as_ref().map(|id| id.to_string());
        let mut parts = Vec::new();
        for topic in &request.topic_data {
            for partition in &topic.partition_data {
                let mut part = part_of(cluster, call, topic.name.to_string(), topic.topic_id, partition.index);
                if part.error_code == code::NONE && !matches!(request.acks, -1..=1) {
                    part.error_code = code::INVALID_REQUIRED_ACKS;
                }
                if part.error_code == code::NONE {
                    let records = partition.records.clone().unwrap_or_default();
                    append(cluster, call, &mut part, &records, transactional_id.as_deref());
                }
                parts.push(part);
            }
        }
        if request.acks == 0 {
            let failed = parts.iter().any(|part| part.error_code != code::NONE);
            // With acks=0 a closed connection is the broker's only way to say no.
            return if failed { Reply::Close } else { Reply::Nothing };
        }
        let mut wait = ProduceWait { parts };
        if request.acks == -1 && wait.is_short(cluster) {
            let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
            let kind = Kind::Produce(Box::new(wait));
            cluster.waiting.push(Waiting { call: call.clone(), deadline: cluster.now + timeout, kind });
            return Reply::Later;
        }
        respond(cluster, call, &wait.parts)
    }

    fn refuse(cluster: &mut Cluster, call: &Call, request: ProduceRequest, error_code: i16) -> Reply {
        if request.acks == 0 {
            return Reply::Close;
        }
        let mut parts = Vec::new();
        for topic in &request.topic_data {
            for partition in &topic.partition_data {
                let part = part_of(cluster, call, topic.name.to_string(), topic.topic_id, partition.index);
                parts.push(Appended { error_code, ..part });
            }
        }
        respond(cluster, call, &parts)
    }
}

impl ProduceWait {
    /// Whether followers are still awaited. What is decided stays decided: a partition that reached its followers answers 0 even if its
    /// leader moves while others wait. One that lost its leader keeps its offset: it was appended, and may be lost or not.
    fn is_short(&mut self, cluster: &Cluster) -> bool {
        for part in &mut self.parts {
            if let Some(error_code) = decided(cluster, part) {
                part.error_code = error_code;
                part.required = None;
            }
        }
        self.parts.iter().any(|part| part.required.is_some())
    }

    /// The answer, once nothing is short of followers any more or time is up.
    pub(crate) fn answer(&mut self, cluster: &mut Cluster, call: &Call, is_over: bool) -> Reply {
        if self.is_short(cluster) && !is_over {
            return Reply::Later;
        }
        for part in self.parts.iter_mut().filter(|part| part.required.is_some()) {
            part.error_code = code::REQUEST_TIMED_OUT;
        }
        respond(cluster, call, &self.parts)
    }
}

/// The error code of a partition that need not wait any longer (`DelayedProduce.tryComplete`).
fn decided(cluster: &Cluster, part: &Appended) -> Option<i16> {
    let Some((required, epoch)) = part.required else { return Some(part.error_code) };
    match cluster.topics.partition(&part.topic, part.partition) {
        None => Some(code::UNKNOWN_TOPIC_OR_PARTITION),
        Some(partition) if partition.leader_epoch != epoch => Some(code::NOT_LEADER_OR_FOLLOWER),
        Some(partition) => (partition.log.high_watermark() >= required).then_some(code::NONE),
    }
}

fn part_of(cluster: &Cluster, call: &Call, name: String, id: Uuid, index: i32) -> Appended {
    let by_id = call.version >= 13;
    let found = if by_id { cluster.topics.name_of(&id).map(str::to_owned) } else { Some(name) };
    let error_code = match &found {
        None => code::UNKNOWN_TOPIC_ID,
        Some(name) if cluster.topics.partition(name, index).is_none() => code::UNKNOWN_TOPIC_OR_PARTITION,
        Some(_) => code::NONE,
    };
    Appended {
        topic: found.unwrap_or_default(),
        topic_id: id,
        partition: index,
        error_code,
        base_offset: -1,
        log_start_offset: -1,
        required: None,
    }
}

fn append(cluster: &mut Cluster, call: &Call, part: &mut Appended, records: &Bytes, transactional_id: Option<&str>) {
    part.error_code = match try_append(cluster, call, part, records, transactional_id) {
        Ok(()) => code::NONE,
        Err(error_code) => error_code,
    };
}

fn try_append(cluster: &mut Cluster, call: &Call, part: &mut Appended, records: &Bytes, transactional_id: Option<&str>) -> Result<(), i16> {
    const ZSTD: i16 = 4;
    let now = cluster.now;
    let header = batch::read_produced(records)?;
    if header.compression() == ZSTD && call.version < 7 {
        return Err(code::UNSUPPORTED_COMPRESSION_TYPE);
    }
    let coordinator = transactional_id.map_or(Ok(()), |id| cluster.transaction_coordinator_answers(id));
    let partition = cluster.topics.partition_mut(&part.topic, part.partition).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    partition.admit(call.broker, -1)?;
    part.log_start_offset = partition.log.start_offset();
    let verdict = partition.producers_at(call.broker).judge(&header);
    let base_offset = match verdict {
        Verdict::Duplicate { base_offset } => base_offset,
        Verdict::Refuse(error_code) => return Err(error_code),
        Verdict::Append => {
            let is_open = partition.log.ongoing_since(header.producer_id).is_some();
            if !header.is_transactional() && is_open {
                return Err(code::INVALID_TXN_STATE);
            }
            let is_first_known = !is_open && !partition.producers_at(call.broker).has_batches(header.producer_id);
            if header.is_transactional() && call.version >= 12 && is_first_known && header.base_sequence != 0 {
                // The second transaction protocol expects 0 where nothing is known (KIP-890).
                return Err(code::OUT_OF_ORDER_SEQUENCE);
            }
            if header.is_transactional() && !is_open {
                // The first batch of a transaction here is asked about at the coordinator; from version 12 on, it adds the partition
                // (KIP-890). What only time can mend is told as 19 (`ReplicaManager.handleProduceAppend`).
                let transactional_id = transactional_id.ok_or(code::INVALID_TXN_STATE)?;
                let key = (part.topic.as_str(), part.partition);
                let admitted =
                    coordinator.and_then(|()| cluster.transactions.admit_batch(now, transactional_id, &header, key, call.version >= 12));
                admitted.map_err(|error_code| if is_passing(error_code) { code::NOT_ENOUGH_REPLICAS } else { error_code })?;
            }
            let epoch = partition.leader_epoch;
            let base_offset = partition.log.append(records, header.clone(), epoch);
            if !partition.replication_held {
                partition.log.commit();
            }
            cluster.dirty = true;
            base_offset
        }
    };
    part.base_offset = base_offset;
    part.required = Some((base_offset + i64::from(header.last_offset_delta) + 1, partition.leader_epoch));
    Ok(())
}

fn is_passing(error_code: i16) -> bool {
    const COORDINATORS: [i16; 4] =
        [code::NETWORK_EXCEPTION, code::COORDINATOR_LOAD_IN_PROGRESS, code::COORDINATOR_NOT_AVAILABLE, code::CONCURRENT_TRANSACTIONS];
    COORDINATORS.contains(&error_code)
}

fn respond(cluster: &Cluster, call: &Call, parts: &[Appended]) -> Reply {
    let mut response = ProduceResponse::default();
    let mut hinted = BTreeSet::new();
    for part in parts {
        let mut answer = PartitionProduceResponse::default()
            .with_index(part.partition)
            .with_error_code(part.error_code)
            .with_base_offset(part.base_offset)
            .with_log_start_offset(part.log_start_offset);
        let deserves_hint = call.version >= 10 && part.error_code == code::NOT_LEADER_OR_FOLLOWER;
        if let Some((leader, epoch)) = cluster.leader_hint(&part.topic, part.partition).filter(|_| deserves_hint) {
            answer.current_leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(leader)).with_leader_epoch(epoch);
            hinted.insert(leader);
        }
        let known = response.responses.last().is_some_and(|last: &TopicProduceResponse| {
            if call.version >= 13 { last.topic_id == part.topic_id } else { last.name.as_str() == part.topic }
        });
        if !known {
            let topic = TopicProduceResponse::default();
            let by_id = call.version >= 13;
            response.responses.push(if by_id { topic.with_topic_id(part.topic_id) } else { topic.with_name(topic_name(&part.topic)) });
        }
        if let Some(topic) = response.responses.last_mut() {
            topic.partition_responses.push(answer);
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
    use kafka_protocol::messages::DeleteTopicsRequest;

    use super::*;
    use crate::sim::bench::{Bench, Made};

    fn bench() -> Bench {
        let mut bench = Bench::new();
        bench.cluster.create_topic("t", 3);
        bench
    }

    #[test]
    fn a_duplicate_is_answered_with_its_first_offset_and_stored_once() {
        let mut bench = bench();
        let conn = bench.connect(0);
        assert_eq!(bench.produce(conn, "t", 0, Made::idempotent(5, 0, 3)).base_offset, 0);
        assert_eq!(bench.produce(conn, "t", 0, Made::idempotent(5, 3, 2)).base_offset, 3);
        let again = bench.produce(conn, "t", 0, Made::idempotent(5, 0, 3));
        assert_eq!((again.error_code, again.base_offset), (code::NONE, 0));
        assert_eq!(bench.produce(conn, "t", 0, Made::idempotent(5, 9, 1)).error_code, code::OUT_OF_ORDER_SEQUENCE);
        let seen: Vec<i32> = bench.cluster.records("t", 0).iter().map(|record| record.sequence).collect();
        assert_eq!(seen, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn an_older_duplicate_is_out_of_order_after_restart_and_failover() {
        let mut bench = bench();
        let conn = bench.connect(0);
        bench.produce(conn, "t", 0, Made::idempotent(5, 0, 1));
        bench.produce(conn, "t", 0, Made::idempotent(5, 1, 1));
        bench.cluster.restart_broker(0);
        bench.cluster.move_leader("t", 0, 0);
        let conn = bench.connect(0);
        assert_eq!(bench.produce(conn, "t", 0, Made::idempotent(5, 1, 1)).error_code, code::NONE);
        assert_eq!(bench.produce(conn, "t", 0, Made::idempotent(5, 0, 1)).error_code, code::OUT_OF_ORDER_SEQUENCE);
        // A follower that never restarted still knows it.
        bench.cluster.move_leader("t", 0, 2);
        let conn = bench.connect(2);
        assert_eq!(bench.produce(conn, "t", 0, Made::idempotent(5, 0, 1)).error_code, code::NONE);
    }

    #[test]
    fn the_old_leader_says_where_to_go_from_version_10() {
        let mut bench = bench();
        bench.cluster.move_leader("t", 0, 1);
        let conn = bench.connect(0);
        let response = bench.ask(conn, 10, &Bench::produce_request("t", 0, -1, Made::plain(1)));
        let part = &response.responses[0].partition_responses[0];
        assert_eq!((part.error_code, part.base_offset), (code::NOT_LEADER_OR_FOLLOWER, -1));
        assert_eq!((part.current_leader.leader_id.0, part.current_leader.leader_epoch), (1, 1));
        assert_eq!(response.node_endpoints.iter().map(|node| node.node_id.0).collect::<Vec<_>>(), [1]);
        bench.cluster.options.hints_list_all_brokers = true;
        let told = bench.ask(conn, 10, &Bench::produce_request("t", 0, -1, Made::plain(1)));
        assert_eq!(told.node_endpoints.iter().map(|node| node.node_id.0).collect::<Vec<_>>(), [0, 1, 2]);
        let silent = bench.ask(conn, 9, &Bench::produce_request("t", 0, -1, Made::plain(1)));
        assert!(silent.node_endpoints.is_empty());
    }

    #[test]
    fn acks_0_has_no_answer_and_an_error_closes() {
        let mut bench = bench();
        let conn = bench.connect(0);
        bench.send(conn, 9, &Bench::produce_request("t", 0, 0, Made::plain(1)));
        assert!(bench.answer::<ProduceRequest>(conn, 9).is_none() && !bench.is_closed(conn));
        assert_eq!(bench.cluster.records("t", 0).len(), 1);
        bench.send(conn, 9, &Bench::produce_request("t", 1, 0, Made::plain(1)));
        assert!(bench.is_closed(conn));
    }

    #[test]
    fn acks_all_waits_for_followers_and_a_lost_leader_keeps_the_offset() {
        let mut bench = bench();
        bench.cluster.hold_replication("t", 0, true);
        let conn = bench.connect(0);
        bench.send(conn, 9, &Bench::produce_request("t", 0, -1, Made::plain(2)));
        assert!(bench.answer::<ProduceRequest>(conn, 9).is_none());
        bench.cluster.move_leader("t", 0, 1);
        let answer = bench.answer::<ProduceRequest>(conn, 9).expect("the move answers");
        let part = &answer.responses[0].partition_responses[0];
        assert_eq!((part.error_code, part.base_offset), (code::NOT_LEADER_OR_FOLLOWER, 0));
    }

    #[test]
    fn what_reached_its_followers_stays_acknowledged_while_another_partition_waits() {
        let mut bench = bench();
        bench.cluster.move_leader("t", 1, 0);
        bench.cluster.hold_replication("t", 0, true);
        let conn = bench.connect(0);
        let mut request = Bench::produce_request("t", 0, -1, Made::plain(2));
        let second = Bench::produce_request("t", 1, -1, Made::plain(1)).topic_data.remove(0).partition_data.remove(0);
        request.topic_data[0].partition_data.push(second);
        bench.send(conn, 9, &request);
        bench.cluster.move_leader("t", 1, 2);
        assert!(bench.answer::<ProduceRequest>(conn, 9).is_none());
        bench.cluster.hold_replication("t", 0, false);
        let answer = bench.answer::<ProduceRequest>(conn, 9).expect("the followers answer");
        let codes: Vec<i16> = answer.responses[0].partition_responses.iter().map(|part| part.error_code).collect();
        assert_eq!(codes, [code::NONE, code::NONE]);
    }

    #[test]
    fn a_topic_deleted_while_its_batch_waits_is_unknown() {
        let mut bench = bench();
        bench.cluster.hold_replication("t", 0, true);
        let conn = bench.connect(0);
        bench.send(conn, 9, &Bench::produce_request("t", 0, -1, Made::plain(2)));
        let admin = bench.connect(1);
        bench.ask(admin, 5, &DeleteTopicsRequest::default().with_topic_names(vec![topic_name("t")]));
        let answer = bench.answer::<ProduceRequest>(conn, 9).expect("the deletion answers");
        let part = &answer.responses[0].partition_responses[0];
        assert_eq!((part.error_code, part.base_offset), (code::UNKNOWN_TOPIC_OR_PARTITION, 0));
    }

    #[test]
    fn acks_all_times_out_as_appended() {
        let mut bench = bench();
        bench.cluster.hold_replication("t", 0, true);
        let conn = bench.connect(0);
        bench.send(conn, 9, &Bench::produce_request("t", 0, -1, Made::plain(2)));
        bench.pass(Duration::from_secs(1));
        let answer = bench.answer::<ProduceRequest>(conn, 9).expect("time is up");
        assert_eq!(answer.responses[0].partition_responses[0].error_code, code::REQUEST_TIMED_OUT);
        assert_eq!(bench.cluster.records("t", 0).len(), 2);
    }

    #[test]
    fn a_broken_batch_is_refused() {
        let mut bench = bench();
        let conn = bench.connect(0);
        let mut request = Bench::produce_request("t", 0, -1, Made::plain(1));
        let records = request.topic_data[0].partition_data[0].records.take().expect("records");
        let mut broken = records.to_vec();
        *broken.last_mut().expect("bytes") ^= 1;
        request.topic_data[0].partition_data[0].records = Some(Bytes::from(broken));
        let response = bench.ask(conn, 9, &request);
        assert_eq!(response.responses[0].partition_responses[0].error_code, code::CORRUPT_MESSAGE);
    }
}
