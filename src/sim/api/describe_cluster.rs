//! DescribeCluster 0–2.
//!
//! Invariant: it lists what Metadata lists; with version 2 and on request also brokers that are fenced. Deliberately not here:
//! controllers' endpoints and authorised operations.

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};

use super::{Api, Call, Reply, text};
use crate::sim::CLUSTER_ID;
use crate::sim::cluster::Cluster;

pub(crate) struct DescribeCluster;

/// Only brokers' endpoints are known here; 2 would be controllers'.
const BROKERS: i8 = 1;
const MISMATCHED_ENDPOINT_TYPE: i16 = 114;

impl Api for DescribeCluster {
    type Request = DescribeClusterRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: DescribeClusterRequest) -> Reply {
        if call.version >= 1 && request.endpoint_type != BROKERS {
            return Self::refuse(cluster, call, request, MISMATCHED_ENDPOINT_TYPE);
        }
        let image = cluster.image_at(call.broker);
        let listed = image.brokers.iter().map(|broker| {
            DescribeClusterBroker::default()
                .with_broker_id(BrokerId(broker.id))
                .with_host(text(&broker.host))
                .with_port(i32::from(broker.port))
                .with_rack(broker.rack.as_deref().map(text))
        });
        let mut brokers: Vec<DescribeClusterBroker> = listed.collect();
        if call.version >= 2 && request.include_fenced_brokers {
            for broker in cluster.brokers.values().filter(|broker| !broker.listed) {
                let fenced = DescribeClusterBroker::default()
                    .with_broker_id(BrokerId(broker.id))
                    .with_host(text(&broker.host))
                    .with_port(i32::from(broker.port));
                brokers.push(fenced.with_rack(broker.rack.as_deref().map(text)).with_is_fenced(true));
            }
        }
        let response = DescribeClusterResponse::default().with_cluster_id(text(CLUSTER_ID)).with_brokers(brokers);
        call.reply(&response.with_controller_id(BrokerId(image.controller)))
    }

    fn refuse(_: &mut Cluster, call: &Call, _: DescribeClusterRequest, error_code: i16) -> Reply {
        call.reply(&DescribeClusterResponse::default().with_error_code(error_code).with_cluster_id(text(CLUSTER_ID)))
    }
}
