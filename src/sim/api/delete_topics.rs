//! DeleteTopics 1–6: by name, from version 6 on also by id.
//!
//! Invariant: a topic that is created anew has a new id and an empty log. Deliberately not here: delay; it is gone at once.

use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use uuid::Uuid;

use super::{Api, Call, Reply, topic_name};
use crate::sim::cluster::Cluster;
use crate::sim::code;

pub(crate) struct DeleteTopics;

fn asked(call: &Call, request: &DeleteTopicsRequest) -> Vec<(Option<String>, Uuid)> {
    if call.version < 6 {
        return request.topic_names.iter().map(|name| (Some(name.to_string()), Uuid::nil())).collect();
    }
    request.topics.iter().map(|topic| (topic.name.as_ref().map(|name| name.to_string()), topic.topic_id)).collect()
}

fn result(call: &Call, name: Option<&str>, id: Uuid, error_code: i16) -> DeletableTopicResult {
    let result = DeletableTopicResult::default().with_name(name.map(topic_name)).with_error_code(error_code);
    if call.version >= 6 { result.with_topic_id(id) } else { result }
}

impl Api for DeleteTopics {
    type Request = DeleteTopicsRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: DeleteTopicsRequest) -> Reply {
        let mut response = DeleteTopicsResponse::default();
        for (name, id) in asked(call, &request) {
            let found = name.clone().or_else(|| cluster.topics.name_of(&id).map(str::to_owned));
            let removed = found.as_deref().and_then(|name| cluster.topics.remove(name));
            cluster.dirty = true;
            response.responses.push(match removed {
                Some(topic) => result(call, Some(&topic.name), topic.id, code::NONE),
                None if name.is_some() => result(call, name.as_deref(), id, code::UNKNOWN_TOPIC_OR_PARTITION),
                None => result(call, None, id, code::UNKNOWN_TOPIC_ID),
            });
        }
        call.reply(&response)
    }

    fn refuse(_: &mut Cluster, call: &Call, request: DeleteTopicsRequest, error_code: i16) -> Reply {
        let results = asked(call, &request).into_iter().map(|(name, id)| result(call, name.as_deref(), id, error_code));
        call.reply(&DeleteTopicsResponse::default().with_responses(results.collect()))
    }
}
