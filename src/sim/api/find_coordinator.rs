//! FindCoordinator 0–6, for groups (0) and transactional ids (1).
//!
//! Invariant: a broker whose metadata is fresh names the one whose group and transaction APIs do not answer 16. Deliberately not here:
//! share groups.

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};

use super::{Api, Call, Reply, text};
use crate::sim::cluster::Cluster;
use crate::sim::code;

pub(crate) struct FindCoordinator;

impl Api for FindCoordinator {
    type Request = FindCoordinatorRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: FindCoordinatorRequest) -> Reply {
        let found = keys(call, &request).into_iter().map(|key| locate(cluster, call, request.key_type, &key)).collect();
        respond(call, found)
    }

    fn refuse(_: &mut Cluster, call: &Call, request: FindCoordinatorRequest, error_code: i16) -> Reply {
        respond(call, keys(call, &request).iter().map(|key| missing(key, error_code)).collect())
    }
}

fn keys(call: &Call, request: &FindCoordinatorRequest) -> Vec<String> {
    if call.version < 4 {
        return vec![request.key.to_string()];
    }
    request.coordinator_keys.iter().map(|key| key.to_string()).collect()
}

/// From what this broker knows of the cluster, like metadata: it may name who has left, or nobody (`KafkaApis.getCoordinator`).
fn locate(cluster: &mut Cluster, call: &Call, key_type: i8, key: &str) -> Coordinator {
    if !matches!(key_type, 0 | 1) {
        return missing(key, code::INVALID_REQUEST);
    }
    // A key that is younger than what the broker knows is looked up as it is: in Kafka its partition was there before it.
    let now = cluster.coordinator_of(key_type, key);
    let image = cluster.image_at(call.broker);
    let told = image.coordinators.get(&(key_type, key.to_owned())).copied().or(now);
    let Some(broker) = told.and_then(|id| image.brokers.iter().find(|broker| broker.id == id)) else {
        return missing(key, code::COORDINATOR_NOT_AVAILABLE);
    };
    Coordinator::default()
        .with_key(text(key))
        .with_node_id(BrokerId(broker.id))
        .with_host(text(&broker.host))
        .with_port(i32::from(broker.port))
}

fn missing(key: &str, error_code: i16) -> Coordinator {
    Coordinator::default().with_key(text(key)).with_node_id(BrokerId(-1)).with_port(-1).with_error_code(error_code)
}

fn respond(call: &Call, found: Vec<Coordinator>) -> Reply {
    let response = FindCoordinatorResponse::default();
    if call.version >= 4 {
        return call.reply(&response.with_coordinators(found));
    }
    let one = found.into_iter().next().unwrap_or_default();
    let mut response = response.with_error_code(one.error_code).with_node_id(one.node_id).with_host(one.host).with_port(one.port);
    if call.version >= 1 {
        response.error_message = one.error_message;
    }
    call.reply(&response)
}
