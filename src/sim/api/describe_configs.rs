//! DescribeConfigs 1–4: what was given at a topic's creation, and a few of a broker's settings.
//!
//! Invariant: a broker describes itself only. Deliberately not here: defaults, synonyms, documentation.

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{DescribeConfigsResourceResult, DescribeConfigsResult};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

use super::{Api, Call, Reply, text};
use crate::sim::cluster::Cluster;
use crate::sim::code;

pub(crate) struct DescribeConfigs;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn configs(cluster: &Cluster, call: &Call, resource: &DescribeConfigsResource) -> Result<Vec<(String, String)>, i16> {
    match resource.resource_type {
        TOPIC => {
            let topic = cluster.topics.get(resource.resource_name.as_str()).ok_or(code::UNKNOWN_TOPIC_OR_PARTITION)?;
            let mut found = topic.configs.clone();
            found.entry("cleanup.policy".to_owned()).or_insert("delete".to_owned());
            Ok(found.into_iter().collect())
        }
        BROKER if resource.resource_name.as_str() == call.broker.to_string() => {
            let partitions = cluster.options.default_partitions.to_string();
            let creates = cluster.options.auto_create_topics.to_string();
            Ok(vec![("auto.create.topics.enable".to_owned(), creates), ("num.partitions".to_owned(), partitions)])
        }
        _ => Err(code::INVALID_REQUEST),
    }
}

fn result(resource: DescribeConfigsResource, found: Result<Vec<(String, String)>, i16>) -> DescribeConfigsResult {
    let wants = |name: &str| resource.configuration_keys.as_ref().is_none_or(|keys| keys.iter().any(|key| key.as_str() == name));
    let result =
        DescribeConfigsResult::default().with_resource_type(resource.resource_type).with_resource_name(resource.resource_name.clone());
    match found {
        Err(error_code) => result.with_error_code(error_code),
        Ok(configs) => {
            let wanted = configs.into_iter().filter(|(name, _)| wants(name));
            let configs =
                wanted.map(|(name, value)| DescribeConfigsResourceResult::default().with_name(text(&name)).with_value(Some(text(&value))));
            result.with_configs(configs.collect())
        }
    }
}

impl Api for DescribeConfigs {
    type Request = DescribeConfigsRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: DescribeConfigsRequest) -> Reply {
        let one = |resource: DescribeConfigsResource| {
            let found = configs(cluster, call, &resource);
            result(resource, found)
        };
        let results = request.resources.into_iter().map(one).collect();
        call.reply(&DescribeConfigsResponse::default().with_results(results))
    }

    fn refuse(_: &mut Cluster, call: &Call, request: DescribeConfigsRequest, error_code: i16) -> Reply {
        let results = request.resources.into_iter().map(|resource| result(resource, Err(error_code)));
        call.reply(&DescribeConfigsResponse::default().with_results(results.collect()))
    }
}
