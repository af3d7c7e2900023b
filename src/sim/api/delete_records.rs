//! DeleteRecords 0–2: the log start moves, batch by batch, and followers are waited for.
//!
//! Source: Kafka's `ReplicaManager.deleteRecords`, `DelayedDeleteRecords`, `Partition.deleteRecordsOnLeader`. Invariant: never beyond the
//! high watermark, and only at the leader. Deliberately not here: topics that compaction keeps from it.

use std::time::Duration;

use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::{Api, Call, Reply, topic_name};
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::waiting::{Kind, Waiting};

pub(crate) struct DeleteRecords;

/// What became of one partition; a delete that followers have yet to follow is not `is_done`.
#[derive(Clone, Debug)]
struct Part {
    topic: String,
    index: i32,
    error_code: i16,
    low_watermark: i64,
    is_done: bool,
}

/// A request whose followers are held back.
#[derive(Clone, Debug)]
pub(crate) struct DeleteWait {
    parts: Vec<Part>,
}

fn delete(cluster: &mut Cluster, call: &Call, topic: &str, index: i32, offset: i64) -> Result<i64, i16> {
    let partition = cluster.topics.partition_mut(topic, index).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
    partition.admit(call.broker, -1)?;
    let high_watermark = partition.log.high_watermark();
    let before = if offset == -1 { high_watermark } else { offset };
    if before < 0 || before > high_watermark {
        return Err(code::OFFSET_OUT_OF_RANGE);
    }
    partition.log.delete_before(before);
    Ok(partition.log.start_offset())
}

fn parts(request: DeleteRecordsRequest, mut each: impl FnMut(&str, i32, i64) -> Result<i64, i16>) -> Vec<Part> {
    let mut parts = Vec::new();
    for topic in request.topics {
        for asked in topic.partitions {
            let done = each(topic.name.as_str(), asked.partition_index, asked.offset);
            parts.push(Part {
                topic: topic.name.to_string(),
                index: asked.partition_index,
                error_code: done.err().unwrap_or(code::NONE),
                low_watermark: done.unwrap_or(-1),
                is_done: done.is_err(),
            });
        }
    }
    parts
}

fn respond(call: &Call, parts: &[Part]) -> Reply {
    let mut response = DeleteRecordsResponse::default();
    for part in parts {
        if response.topics.last().is_none_or(|last: &DeleteRecordsTopicResult| last.name.as_str() != part.topic) {
            response.topics.push(DeleteRecordsTopicResult::default().with_name(topic_name(&part.topic)));
        }
        let result = DeleteRecordsPartitionResult::default().with_partition_index(part.index).with_error_code(part.error_code);
        if let Some(topic) = response.topics.last_mut() {
            topic.partitions.push(result.with_low_watermark(part.low_watermark));
        }
    }
    call.reply(&response)
}

impl DeleteWait {
    /// The answer, once all followers deleted as well, their partition lost its leader, or time is up.
    pub(crate) fn answer(&mut self, cluster: &Cluster, call: &Call, is_over: bool) -> Reply {
        for part in self.parts.iter_mut().filter(|part| !part.is_done) {
            let known = cluster.topics.partition(&part.topic, part.index);
            let (error_code, is_done) = match known {
                None => (code::UNKNOWN_TOPIC_OR_PARTITION, true),
                Some(partition) if partition.leader != Some(call.broker) => (code::NOT_LEADER_OR_FOLLOWER, true),
                Some(partition) if !partition.replication_held => (code::NONE, true),
                Some(_) => (code::REQUEST_TIMED_OUT, is_over),
            };
            (part.error_code, part.is_done) = (error_code, is_done);
            if is_done && error_code != code::NONE {
                part.low_watermark = -1;
            }
        }
        if self.parts.iter().all(|part| part.is_done) { respond(call, &self.parts) } else { Reply::Later }
    }
}

impl Api for DeleteRecords {
    type Request = DeleteRecordsRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: DeleteRecordsRequest) -> Reply {
        let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
        let mut wait = DeleteWait { parts: parts(request, |topic, index, offset| delete(cluster, call, topic, index, offset)) };
        let reply = wait.answer(cluster, call, timeout.is_zero());
        if matches!(reply, Reply::Later) {
            let kind = Kind::DeleteRecords(Box::new(wait));
            cluster.waiting.push(Waiting { call: call.clone(), deadline: cluster.now + timeout, kind });
        }
        reply
    }

    fn refuse(_: &mut Cluster, call: &Call, request: DeleteRecordsRequest, error_code: i16) -> Reply {
        respond(call, &parts(request, |_, _, _| Err(error_code)))
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};

    use super::*;
    use crate::sim::bench::{Bench, Made};

    fn request(offset: i64) -> DeleteRecordsRequest {
        let partition = DeleteRecordsPartition::default().with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
        DeleteRecordsRequest::default().with_timeout_ms(1_000).with_topics(vec![topic])
    }

    fn told(response: &DeleteRecordsResponse) -> (i16, i64) {
        let part = &response.topics[0].partitions[0];
        (part.error_code, part.low_watermark)
    }

    #[test]
    fn the_leader_deletes_and_waits_for_its_followers() {
        let mut bench = Bench::new();
        bench.cluster.create_assigned_topic("t", vec![vec![0, 1]]);
        let conn = bench.connect(0);
        for _ in 0..4 {
            bench.produce(conn, "t", 0, Made::plain(2));
        }
        let other = bench.connect(1);
        assert_eq!(told(&bench.ask(other, 2, &request(2))), (code::NOT_LEADER_OR_FOLLOWER, -1));
        assert_eq!(told(&bench.ask(conn, 2, &request(2))), (code::NONE, 2));
        assert_eq!(told(&bench.ask(conn, 2, &request(9))), (code::OFFSET_OUT_OF_RANGE, -1));
        bench.cluster.hold_replication("t", 0, true);
        bench.send(conn, 2, &request(4));
        bench.pass(Duration::from_millis(999));
        assert!(bench.answer::<DeleteRecordsRequest>(conn, 2).is_none());
        bench.pass(Duration::from_millis(1));
        assert_eq!(told(&bench.answer::<DeleteRecordsRequest>(conn, 2).expect("time is up")), (code::REQUEST_TIMED_OUT, -1));
        bench.send(conn, 2, &request(6));
        bench.cluster.move_leader("t", 0, 1);
        assert_eq!(told(&bench.answer::<DeleteRecordsRequest>(conn, 2).expect("the move answers")), (code::NOT_LEADER_OR_FOLLOWER, -1));
    }
}
