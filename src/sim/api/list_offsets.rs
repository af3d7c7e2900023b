//! ListOffsets 1–10: earliest, latest, largest timestamp, first at or after a time.
//!
//! Source: Kafka's `ReplicaManager.fetchOffset`, `Partition.fetchOffsetForTimestamp`; KIP-207, KIP-734. Invariant: a consumer gets an
//! offset from the partition's leader only.
//! Deliberately not here: tiered storage (its latest offset is −1, its earliest local one the earliest).

use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;

pub(crate) struct ListOffsets;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const LARGEST_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const DEBUGGING_REPLICA: i32 = -2;

/// What is found: (offset, timestamp, leader epoch).
type Found = (i64, i64, i32);

impl Api for ListOffsets {
    type Request = ListOffsetsRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: ListOffsetsRequest) -> Reply {
        let is_read_committed = request.isolation_level == 1;
        let asker = Asker { replica_id: request.replica_id.0, is_read_committed };
        answer(call, &request, |topic, index, epoch, timestamp| find(cluster, call, asker, (topic, index), epoch, timestamp))
    }

    fn refuse(_: &mut Cluster, call: &Call, request: ListOffsetsRequest, error_code: i16) -> Reply {
        answer(call, &request, |_, _, _, _| Err(error_code))
    }
}

fn answer(call: &Call, request: &ListOffsetsRequest, look: impl Fn(&str, i32, i32, i64) -> Result<Found, i16>) -> Reply {
    let mut response = ListOffsetsResponse::default();
    for topic in &request.topics {
        let mut answer = ListOffsetsTopicResponse::default().with_name(topic.name.clone());
        for asked in &topic.partitions {
            let found = look(topic.name.as_str(), asked.partition_index, asked.current_leader_epoch, asked.timestamp);
            let mut partition = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            match found {
                Ok((offset, timestamp, epoch)) => {
                    partition.offset = offset;
                    partition.timestamp = timestamp;
                    if call.version >= 4 {
                        partition.leader_epoch = epoch;
                    }
                }
                Err(error_code) => partition.error_code = error_code,
            }
            answer.partitions.push(partition);
        }
        response.topics.push(answer);
    }
    call.reply(&response)
}

#[derive(Clone, Copy)]
struct Asker {
    /// −2: somebody who debugs, whom any replica answers.
    replica_id: i32,
    is_read_committed: bool,
}

fn find(cluster: &Cluster, call: &Call, asker: Asker, (topic, index): (&str, i32), epoch: i32, timestamp: i64) -> Result<Found, i16> {
    let partition = cluster.topics.partition(topic, index).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    if asker.replica_id == DEBUGGING_REPLICA {
        partition.admit_reader(call.broker, epoch)?
    } else {
        partition.admit(call.broker, epoch)?
    };
    let log = &partition.log;
    let limit = if asker.is_read_committed { log.last_stable_offset() } else { log.high_watermark() };
    // Behind an election, what the former leader had committed is not known before the followers have fetched.
    let is_unknown = partition.epoch_start_offset > log.high_watermark();
    let unavailable = if call.version >= 5 { code::OFFSET_NOT_AVAILABLE } else { code::LEADER_NOT_AVAILABLE };
    let found = match timestamp {
        LATEST if is_unknown => return Err(unavailable),
        LATEST => (limit, -1, partition.leader_epoch),
        EARLIEST | EARLIEST_LOCAL => (log.start_offset(), -1, log.epoch_at(log.start_offset())),
        LATEST_TIERED => (-1, -1, -1),
        by_time => {
            let found = if by_time == LARGEST_TIMESTAMP { log.latest_timestamp() } else { log.first_since(by_time, i64::MAX) };
            match found.filter(|(offset, _)| *offset < limit) {
                Some((offset, at)) => (offset, at, log.epoch_at(offset)),
                None if is_unknown => return Err(unavailable),
                None => (-1, -1, -1),
            }
        }
    };
    Ok(found)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};

    use super::super::topic_name;
    use super::*;
    use crate::sim::bench::{Bench, Made};

    #[test]
    fn each_kind_of_offset_is_found_under_the_current_epoch_only() {
        let mut bench = Bench::new();
        bench.cluster.create_topic("t", 1);
        let conn = bench.connect(0);
        // Two batches of three records, at 1,000 to 1,002 ms each.
        bench.produce(conn, "t", 0, Made::plain(3));
        bench.produce(conn, "t", 0, Made::plain(3));
        bench.cluster.move_leader("t", 0, 1);
        let conn = bench.connect(1);
        let mut find = |timestamp: i64, epoch: i32| {
            let partition = ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(epoch);
            let topic = ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
            let response = bench.ask(conn, 7, &ListOffsetsRequest::default().with_topics(vec![topic]));
            let part = &response.topics[0].partitions[0];
            (part.error_code, part.offset, part.timestamp)
        };
        assert_eq!(find(EARLIEST, 1), (code::NONE, 0, -1));
        assert_eq!(find(LATEST, 1), (code::NONE, 6, -1));
        assert_eq!(find(1_001, -1), (code::NONE, 1, 1_001));
        assert_eq!(find(LARGEST_TIMESTAMP, -1), (code::NONE, 2, 1_002));
        assert_eq!(find(5_000, -1), (code::NONE, -1, -1));
        assert_eq!(find(LATEST, 0).0, code::FENCED_LEADER_EPOCH);
        assert_eq!(find(LATEST, 2).0, code::UNKNOWN_LEADER_EPOCH);
    }

    #[test]
    fn behind_an_election_the_latest_offset_is_not_available_before_followers_have_fetched() {
        let mut bench = Bench::new();
        bench.cluster.create_assigned_topic("t", vec![vec![0, 1]]);
        let conn = bench.connect(0);
        bench.cluster.hold_replication("t", 0, true);
        bench.ask(conn, 9, &Bench::produce_request("t", 0, 1, Made::plain(3)));
        bench.cluster.move_leader("t", 0, 1);
        let (old, new) = (conn, bench.connect(1));
        let mut find = |conn, version: i16, timestamp: i64, replica: i32| {
            let partition = ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(-1);
            let topic = ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
            let request = ListOffsetsRequest::default().with_replica_id(replica.into()).with_topics(vec![topic]);
            let response = bench.ask(conn, version, &request);
            (response.topics[0].partitions[0].error_code, response.topics[0].partitions[0].offset)
        };
        assert_eq!(find(new, 5, LATEST, -1), (code::OFFSET_NOT_AVAILABLE, -1));
        assert_eq!(find(new, 4, LATEST, -1), (code::LEADER_NOT_AVAILABLE, -1));
        assert_eq!(find(new, 5, 1_000, -1), (code::OFFSET_NOT_AVAILABLE, -1));
        assert_eq!(find(new, 5, EARLIEST, -1), (code::NONE, 0));
        assert_eq!(find(old, 5, EARLIEST, -1), (code::NOT_LEADER_OR_FOLLOWER, -1));
        assert_eq!(find(old, 5, EARLIEST, DEBUGGING_REPLICA), (code::NONE, 0));
        bench.cluster.hold_replication("t", 0, false);
        let topic = ListOffsetsPartition::default().with_timestamp(LATEST).with_current_leader_epoch(-1);
        let topic = ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(vec![topic]);
        assert_eq!(bench.ask(new, 5, &ListOffsetsRequest::default().with_topics(vec![topic])).topics[0].partitions[0].offset, 3);
    }
}
