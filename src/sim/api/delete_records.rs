//! DeleteRecords 0–2: the log start moves, batch by batch.
//!
//! Invariant: never beyond the high watermark. Deliberately not here: waiting for followers.

use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;

pub(crate) struct DeleteRecords;

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

fn respond(call: &Call, request: DeleteRecordsRequest, mut each: impl FnMut(&str, i32, i64) -> Result<i64, i16>) -> Reply {
    let mut response = DeleteRecordsResponse::default();
    for topic in request.topics {
        let mut result = DeleteRecordsTopicResult::default().with_name(topic.name.clone());
        for asked in topic.partitions {
            let part = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            result.partitions.push(match each(topic.name.as_str(), asked.partition_index, asked.offset) {
                Ok(low_watermark) => part.with_low_watermark(low_watermark),
                Err(error_code) => part.with_low_watermark(-1).with_error_code(error_code),
            });
        }
        response.topics.push(result);
    }
    call.reply(&response)
}

impl Api for DeleteRecords {
    type Request = DeleteRecordsRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: DeleteRecordsRequest) -> Reply {
        respond(call, request, |topic, index, offset| delete(cluster, call, topic, index, offset))
    }

    fn refuse(_: &mut Cluster, call: &Call, request: DeleteRecordsRequest, error_code: i16) -> Reply {
        respond(call, request, |_, _, _| Err(error_code))
    }
}
