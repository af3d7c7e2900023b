//! Virtual brokers follow the cluster.

use std::time::{Duration, Instant};

use evenkeel::sim::profile::Profile;

use crate::rig::{Client, Proxy, SOON, three_brokers};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_brokers_port_answers_before_a_client_hears_of_it() {
    let cluster = three_brokers().await;
    let proxy = Proxy::before(&cluster).await;
    let mut client = Client::connect(proxy.bootstrap()).await;
    client.brokers().await;
    cluster.control(|cluster| {
        cluster.add_broker(7, None, Profile::V4);
        cluster.add_broker(1007, None, Profile::V4);
    });
    let told = client.brokers().await.brokers;
    assert_eq!(told.len(), 5);
    for broker in told {
        let mut there = Client::connect(([127, 0, 0, 1], broker.port as u16).into()).await;
        assert_eq!(there.brokers().await.brokers.len(), 5, "broker {}", broker.node_id.0);
        if broker.node_id.0 == 7 {
            assert_eq!(broker.port, i32::from(proxy.port) + 8);
        }
    }
    assert_eq!(cluster.control(|cluster| cluster.connections_accepted(1007)), 2, "its own, and one of discovery's for its versions");
    assert!(proxy.log().contains("listen.node_ids"), "the overflow port is named as such\n{}", proxy.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_id_at_another_address_stays_the_same_virtual_broker() {
    let cluster = three_brokers().await;
    let proxy = Proxy::before(&cluster).await;
    let before = cluster.address(1);
    cluster.control(|cluster| cluster.readdress_broker(1));
    assert_ne!(cluster.address(1), before);
    let answered = cluster.control(|cluster| cluster.requests_of(1, 3));
    // Any answer tells of the move.
    Client::connect(proxy.node(0)).await.brokers().await;
    let mut moved = Client::connect(proxy.node(1)).await;
    moved.brokers().await;
    assert!(cluster.control(|cluster| cluster.requests_of(1, 3)) > answered);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_bootstrap_addresses_and_names_that_do_not_resolve_cost_little() {
    let cluster = three_brokers().await;
    let upstream = format!("127.0.0.1:1,no-such-host.invalid:9092,127.0.0.1:2,{}", cluster.address(0).expect("up"));
    let started = Instant::now();
    let proxy = Proxy::start(&upstream);
    proxy.until_ready().await;
    assert!(started.elapsed() < SOON);
    assert_eq!(Client::connect(proxy.bootstrap()).await.brokers().await.brokers.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_without_the_cluster_says_why_it_is_not_ready_and_serves_once_it_is() {
    let cluster = three_brokers().await;
    let upstream = cluster.bootstrap();
    for broker in 0..3 {
        cluster.control(|cluster| cluster.refuse_connections(broker, true));
    }
    let proxy = Proxy::start(&upstream);
    let answer = proxy.get("/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("no broker has answered"), "{answer}");
    assert!(proxy.get("/healthz").await.starts_with("HTTP/1.1 200"));
    // A client that knows its broker's port already: it waits for the first view.
    let mut early = Client::connect(proxy.node(1)).await;
    early.send(7, &kafka_protocol::messages::MetadataRequest::default().with_topics(Some(Vec::new()))).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    for broker in 0..3 {
        cluster.control(|cluster| cluster.refuse_connections(broker, false));
    }
    proxy.until_ready().await;
    let answer = early.receive::<kafka_protocol::messages::MetadataRequest>(7).await.expect("an answer in the end");
    assert_eq!(answer.brokers.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_broker_closes_its_clients_as_it_would_directly() {
    let cluster = three_brokers().await;
    let proxy = Proxy::before(&cluster).await;
    let mut there = Client::connect(proxy.node(2)).await;
    there.brokers().await;
    let mut elsewhere = Client::connect(proxy.node(0)).await;
    elsewhere.brokers().await;
    cluster.control(|cluster| cluster.remove_broker(2));
    assert!(there.is_ended().await);
    let deadline = Instant::now() + SOON;
    while elsewhere.brokers().await.brokers.len() != 2 {
        assert!(Instant::now() < deadline);
    }
    // The port stays; who comes there is closed.
    let mut late = Client::connect(proxy.node(2)).await;
    late.send(7, &kafka_protocol::messages::MetadataRequest::default().with_topics(Some(Vec::new()))).await;
    assert!(late.is_ended().await);
    let status = proxy.status().await;
    assert_eq!(status["cluster"]["brokers"].as_array().map(Vec::len), Some(2), "{status}");
}
