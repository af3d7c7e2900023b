//! OffsetFetch 1–9: one group up to version 7, several from 8 on.
//!
//! Invariant: a partition without a commit answers −1 and no error. Deliberately not here: version 10 with topic ids.

use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};

use super::{Api, Call, Reply, text, topic_name};
use crate::sim::cluster::Cluster;
use crate::sim::code;
use crate::sim::group::Group;

pub(crate) struct OffsetFetch;

/// Topics with their partitions, as they were asked for.
type Asked = Vec<(String, Vec<i32>)>;

fn all_of(group: Option<&Group>) -> Asked {
    let mut all: Asked = Vec::new();
    for (topic, partition) in group.into_iter().flat_map(|group| group.offsets.keys()) {
        match all.last_mut().filter(|(last, _)| last == topic) {
            Some((_, partitions)) => partitions.push(*partition),
            None => all.push((topic.clone(), vec![*partition])),
        }
    }
    all
}

fn look(group: Option<&Group>, asked: Option<Asked>, needs_stable: bool) -> Vec<OffsetFetchResponseTopics> {
    let asked = asked.unwrap_or_else(|| all_of(group));
    let one = |(topic, partitions): (String, Vec<i32>)| {
        let partitions = partitions.into_iter().map(|index| {
            let answer = OffsetFetchResponsePartitions::default().with_partition_index(index).with_metadata(Some(text("")));
            let unknown = answer.clone().with_committed_offset(-1).with_committed_leader_epoch(-1);
            let Some(group) = group else { return unknown };
            if needs_stable && group.is_unstable(&topic, index) {
                return unknown.with_error_code(code::UNSTABLE_OFFSET_COMMIT);
            }
            match group.offsets.get(&(topic.clone(), index)) {
                None => unknown,
                Some(committed) => answer
                    .with_committed_offset(committed.offset)
                    .with_committed_leader_epoch(committed.leader_epoch)
                    .with_metadata(Some(text(&committed.metadata))),
            }
        });
        let partitions = partitions.collect();
        OffsetFetchResponseTopics::default().with_name(topic_name(&topic)).with_partitions(partitions)
    };
    asked.into_iter().map(one).collect()
}

/// The shape up to version 7.
fn flat(topics: Vec<OffsetFetchResponseTopics>) -> Vec<OffsetFetchResponseTopic> {
    let one = |topic: OffsetFetchResponseTopics| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(partition.committed_leader_epoch)
                .with_metadata(partition.metadata)
                .with_error_code(partition.error_code)
        });
        OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    };
    topics.into_iter().map(one).collect()
}

impl Api for OffsetFetch {
    type Request = OffsetFetchRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: OffsetFetchRequest) -> Reply {
        if call.version < 8 {
            let group_id = request.group_id.to_string();
            if let Err(error_code) = cluster.coordinates(call, &group_id) {
                return Self::refuse(cluster, call, request, error_code);
            }
            let asked = request
                .topics
                .map(|topics| topics.into_iter().map(|topic| (topic.name.to_string(), topic.partition_indexes)).collect::<Asked>());
            let found = look(cluster.groups.get(&group_id), asked, request.require_stable);
            return call.reply(&OffsetFetchResponse::default().with_topics(flat(found)));
        }
        let mut response = OffsetFetchResponse::default();
        for group in request.groups {
            let group_id = group.group_id.to_string();
            let mut answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
            match cluster.coordinates(call, &group_id) {
                Err(error_code) => answer.error_code = error_code,
                Ok(()) => {
                    let asked = group
                        .topics
                        .map(|topics| topics.into_iter().map(|topic| (topic.name.to_string(), topic.partition_indexes)).collect::<Asked>());
                    answer.topics = look(cluster.groups.get(&group_id), asked, request.require_stable);
                }
            }
            response.groups.push(answer);
        }
        call.reply(&response)
    }

    fn refuse(_: &mut Cluster, call: &Call, request: OffsetFetchRequest, error_code: i16) -> Reply {
        if call.version < 8 {
            // Version 1 has no error of its own: each partition says it.
            let topics = request.topics.unwrap_or_default().into_iter().map(|topic| {
                let partitions = topic.partition_indexes.into_iter().map(|index| {
                    let partition = OffsetFetchResponsePartition::default().with_partition_index(index).with_committed_offset(-1);
                    partition.with_metadata(Some(text(""))).with_error_code(error_code)
                });
                OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
            });
            let response = OffsetFetchResponse::default().with_topics(topics.collect());
            return call.reply(&if call.version >= 2 { response.with_error_code(error_code) } else { response });
        }
        let one = |group: kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup| {
            OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_error_code(error_code)
        };
        call.reply(&OffsetFetchResponse::default().with_groups(request.groups.into_iter().map(one).collect()))
    }
}
