//! ListOffsets 1–10: earliest, latest, largest timestamp, first at or after a time.
//!
//! Source: Kafka's `Partition.fetchOffsetForTimestamp`; KIP-734. Invariant: an offset is only given by the partition's leader.
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

/// What is found: (offset, timestamp, leader epoch).
type Found = (i64, i64, i32);

impl Api for ListOffsets {
    type Request = ListOffsetsRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: ListOffsetsRequest) -> Reply {
        let is_read_committed = request.isolation_level == 1;
        answer(call, &request, |topic, index, epoch, timestamp| find(cluster, call, is_read_committed, (topic, index), epoch, timestamp))
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

fn find(
    cluster: &Cluster,
    call: &Call,
    is_read_committed: bool,
    (topic, index): (&str, i32),
    epoch: i32,
    timestamp: i64,
) -> Result<Found, i16> {
    let partition = cluster.topics.partition(topic, index).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    partition.admit(call.broker, epoch)?;
    let log = &partition.log;
    let limit = if is_read_committed { log.last_stable_offset() } else { log.high_watermark() };
    let found = match timestamp {
        LATEST => (limit, -1, partition.leader_epoch),
        EARLIEST | EARLIEST_LOCAL => (log.start_offset(), -1, log.epoch_at(log.start_offset())),
        LATEST_TIERED => (-1, -1, -1),
        LARGEST_TIMESTAMP => log.latest_timestamp().map_or((-1, -1, -1), |(offset, at)| (offset, at, log.epoch_at(offset))),
        since => log.first_since(since, limit).map_or((-1, -1, -1), |(offset, at)| (offset, at, log.epoch_at(offset))),
    };
    Ok(found)
}
