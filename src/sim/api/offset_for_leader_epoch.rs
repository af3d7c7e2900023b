//! OffsetForLeaderEpoch 2–4: where an epoch ended (KIP-320).
//!
//! Invariant: fenced like a fetch. Deliberately not here: followers' questions.

use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;

pub(crate) struct OffsetForLeaderEpoch;

fn answer(call: &Call, request: &OffsetForLeaderEpochRequest, look: impl Fn(&str, i32, i32, i32) -> Result<(i32, i64), i16>) -> Reply {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let found = look(topic.topic.as_str(), asked.partition, asked.current_leader_epoch, asked.leader_epoch);
            let end = EpochEndOffset::default().with_partition(asked.partition);
            match found {
                Ok((epoch, end_offset)) => end.with_leader_epoch(epoch).with_end_offset(end_offset),
                Err(error_code) => end.with_leader_epoch(-1).with_end_offset(-1).with_error_code(error_code),
            }
        });
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
    });
    call.reply(&OffsetForLeaderEpochResponse::default().with_topics(topics.collect()))
}

impl Api for OffsetForLeaderEpoch {
    type Request = OffsetForLeaderEpochRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: OffsetForLeaderEpochRequest) -> Reply {
        answer(call, &request, |topic, index, current, wanted| {
            let partition = cluster.topics.partition(topic, index).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
            partition.admit(call.broker, current)?;
            Ok(partition.log.end_of_epoch(wanted, partition.leader_epoch).unwrap_or((-1, -1)))
        })
    }

    fn refuse(_: &mut Cluster, call: &Call, request: OffsetForLeaderEpochRequest, error_code: i16) -> Reply {
        answer(call, &request, |_, _, _, _| Err(error_code))
    }
}
