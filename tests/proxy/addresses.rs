//! No client is told a real address, in whatever version it asks.

use std::collections::BTreeSet;

use evenkeel::sim::batch::encode;
use evenkeel::sim::fault::{Fault, Rule};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, DescribeClusterRequest, FindCoordinatorRequest, MetadataRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Record, TimestampType};

use crate::rig::{Client, Proxy, three_brokers};

#[tokio::test(flavor = "multi_thread")]
async fn metadata_in_every_version_names_virtual_brokers_only() {
    let cluster = three_brokers().await;
    cluster.control(|cluster| cluster.create_topic("orders", 6));
    let proxy = Proxy::before(&cluster).await;
    for address in [proxy.bootstrap(), proxy.node(1)] {
        let mut client = Client::connect(address).await;
        for version in 0..=13 {
            let topic = MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_static_str("orders"))));
            let answer = client.ask(version, &MetadataRequest::default().with_topics(Some(vec![topic]))).await;
            let told: BTreeSet<_> = answer.brokers.iter().map(|b| (b.node_id.0, b.host.to_string(), b.port)).collect();
            let expected = (0..3).map(|id| (id, "127.0.0.1".to_owned(), i32::from(proxy.port) + 1 + id)).collect();
            assert_eq!(told, expected, "Metadata v{version}");
            assert_eq!(answer.topics[0].partitions.len(), 6, "Metadata v{version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn coordinators_in_every_version_are_virtual_brokers() {
    let cluster = three_brokers().await;
    let proxy = Proxy::before(&cluster).await;
    let mut client = Client::connect(proxy.bootstrap()).await;
    for version in 0..=6 {
        let key = StrBytes::from_static_str("group");
        let request = if version < 4 {
            FindCoordinatorRequest::default().with_key(key)
        } else {
            FindCoordinatorRequest::default().with_coordinator_keys(vec![key])
        };
        let answer = client.ask(version, &request).await;
        let told = match answer.coordinators.first() {
            Some(found) => (found.node_id.0, found.port),
            None => (answer.node_id.0, answer.port),
        };
        assert_eq!(told.1, i32::from(proxy.port) + 1 + told.0, "FindCoordinator v{version}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_described_by_virtual_brokers() {
    let cluster = three_brokers().await;
    let proxy = Proxy::before(&cluster).await;
    let mut client = Client::connect(proxy.bootstrap()).await;
    for version in 0..=2 {
        let answer = client.ask(version, &DescribeClusterRequest::default().with_endpoint_type(1)).await;
        assert_eq!(answer.brokers.len(), 3, "DescribeCluster v{version}: {answer:?}");
        for broker in &answer.brokers {
            assert_eq!(broker.port, i32::from(proxy.port) + 1 + broker.broker_id.0, "DescribeCluster v{version}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_for_the_old_leader_is_brought_to_the_new_one() {
    let cluster = three_brokers().await;
    cluster.control(|cluster| cluster.create_topic("orders", 1));
    let proxy = Proxy::before(&cluster).await;
    let (leader, _) = cluster.control(|cluster| cluster.leader("orders", 0)).expect("a leader");
    let next = (leader + 1) % 3;
    cluster.control(|cluster| cluster.move_leader("orders", 0, next));
    let mut client = Client::connect(proxy.node(leader as u16)).await;
    for (written, version) in (0..).zip(3..=12) {
        let partition = PartitionProduceData::default().with_index(0).with_records(Some(encode(&[one_record()])));
        let topic =
            TopicProduceData::default().with_name(TopicName(StrBytes::from_static_str("orders"))).with_partition_data(vec![partition]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic]);
        let answer = client.ask(version, &request).await;
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, written), "Produce v{version}");
        assert!(answer.node_endpoints.is_empty(), "Produce v{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn api_versions_promise_only_what_can_be_kept() {
    let cluster = three_brokers().await;
    let proxy = Proxy::before(&cluster).await;
    let mut client = Client::connect(proxy.bootstrap()).await;
    for version in 0..=4 {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("test"))
            .with_client_software_version(StrBytes::from_static_str("1"));
        let answer = client.ask(version, &request).await;
        assert_eq!(answer.error_code, 0, "ApiVersions v{version}");
        let range = |key| answer.api_keys.iter().find(|api| api.api_key == key).map(|api| (api.min_version, api.max_version));
        assert_eq!(range(1), Some((4, 15)), "Fetch is clamped, its minimum is not touched");
        assert_eq!(range(18), Some((0, 4)));
        assert_eq!(range(0), Some((0, 13)));
    }
    // A version that we do not speak is answered as a broker does: error 35, in version 0, with what can be asked instead (KIP-511).
    use tokio::io::AsyncWriteExt;
    client.socket.write_all(&[0, 0, 0, 14, 0, 18, 0, 9, 0, 0, 0, 77, 0xff, 0xff, 0, 1, 1, 0]).await.expect("is taken");
    let frame = client.receive_frame().await.expect("an answer");
    assert_eq!(&frame[..], [0, 0, 0, 77, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kafkas_own_errors_pass_as_they_are() {
    let cluster = three_brokers().await;
    let proxy = Proxy::before(&cluster).await;
    cluster.control(|cluster| cluster.inject(Rule::new(Fault::Error(29)).on_api(3).times(1)));
    let mut client = Client::connect(proxy.bootstrap()).await;
    let topic = MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_static_str("none"))));
    let answer = client.ask(9, &MetadataRequest::default().with_topics(Some(vec![topic.clone()]))).await;
    let first = answer.topics.first().map(|topic| topic.error_code);
    let answer = client.ask(9, &MetadataRequest::default().with_topics(Some(vec![topic]))).await;
    assert_eq!((first, answer.topics[0].error_code), (Some(29), 3));
}

fn one_record() -> Record {
    Record {
        transactional: false,
        control: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence: -1,
        timestamp: 1_700_000_000_000,
        delete_horizon: false,
        key: None,
        value: Some("value".into()),
        headers: Default::default(),
    }
}
