//! Virtual brokers follow the cluster.

use std::time::{Duration, Instant};

use evenkeel::sim::fault::{Fault, Verdict};
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
async fn a_departed_brokers_port_and_its_sockets_stay_and_others_answer_there() {
    let cluster = three_brokers().await;
    let proxy = Proxy::before(&cluster).await;
    let mut there = Client::connect(proxy.node(2)).await;
    there.brokers().await;
    cluster.control(|cluster| cluster.remove_broker(2));
    let deadline = Instant::now() + SOON;
    while proxy.status().await["cluster"]["brokers"].as_array().map(Vec::len) != Some(2) {
        assert!(Instant::now() < deadline, "{}", proxy.status().await);
        there.brokers().await;
    }
    there.brokers().await;
    let mut late = Client::connect(proxy.node(2)).await;
    late.brokers().await;
    assert_eq!(proxy.status().await["cluster"]["brokers"].as_array().map(Vec::len), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn before_a_cluster_that_demands_a_login_clients_teach_what_discovery_cannot_ask() {
    let cluster = three_brokers().await;
    // Only the test's client is let in: a broker closes on Metadata from whoever has not logged in.
    cluster.control(|cluster| {
        cluster.hook(|exchange, _| {
            let let_in = exchange.api_key != 3 || exchange.frame.windows(11).any(|window| window == b"test-client");
            if let_in { Verdict::Pass } else { Verdict::Inflict(Fault::Close) }
        });
    });
    let proxy = Proxy::start_with(&cluster.bootstrap(), "timeouts: {handshake: 2s}", &[]);
    // It comes back to a node's port after the proxy was restarted, and never asks the bootstrap port.
    let mut returning = Client::connect(proxy.node(1)).await;
    assert_eq!(returning.brokers().await.brokers.len(), 3);
    let answered = cluster.control(|cluster| cluster.requests_of(2, 3));
    Client::connect(proxy.node(2)).await.brokers().await;
    assert!(cluster.control(|cluster| cluster.requests_of(2, 3)) > answered, "from then on, each port is its broker's");
    let deadline = Instant::now() + SOON;
    while !proxy.get("/readyz").await.contains("demand a login") {
        assert!(Instant::now() < deadline, "{}", proxy.get("/readyz").await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = |cluster: &mut evenkeel::sim::cluster::Cluster| (0..3).map(|broker| cluster.requests_of(broker, 3)).sum::<u64>();
    let before = cluster.control(asked);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(cluster.control(asked) <= before + 6, "it does not knock all the time");
}
