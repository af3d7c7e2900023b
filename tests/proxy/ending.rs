//! SIGTERM, SIGINT, and a second one.

use std::time::Duration;

use evenkeel::sim::fault::{Fault, Rule};
use kafka_protocol::messages::MetadataRequest;
use tokio::net::TcpStream;

use crate::rig::{Client, Proxy, three_brokers};

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_finish_and_nothing_new_begins() {
    for signal in ["TERM", "INT"] {
        let cluster = three_brokers().await;
        let mut proxy = Proxy::before(&cluster).await;
        let mut idle = Client::connect(proxy.node(0)).await;
        idle.brokers().await;
        let mut busy = Client::connect(proxy.node(1)).await;
        busy.brokers().await;
        let request = MetadataRequest::default().with_topics(Some(Vec::new()));
        cluster.control(|cluster| cluster.inject(Rule::new(Fault::Delay(Duration::from_millis(700))).on_broker(1)));
        busy.send(7, &request).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        proxy.signal(signal);
        assert!(idle.is_ended().await, "nothing is owed to it");
        assert!(proxy.get("/readyz").await.contains("draining"));
        assert!(TcpStream::connect(proxy.bootstrap()).await.is_err(), "no new connection is taken");
        assert!(busy.receive::<MetadataRequest>(7).await.is_some(), "the answer that was owed");
        assert!(busy.is_ended().await);
        drop((busy, idle));
        assert_eq!(proxy.ends().await, Some(0), "{signal}\n{}", proxy.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_in_time_though_a_broker_is_silent() {
    let cluster = three_brokers().await;
    let mut proxy = Proxy::start_with(&cluster.bootstrap(), "timeouts: {drain: 500ms}", &[]);
    proxy.until_ready().await;
    let mut client = Client::connect(proxy.node(1)).await;
    client.brokers().await;
    cluster.control(|cluster| cluster.inject(Rule::new(Fault::Silence).on_broker(1)));
    client.send(7, &MetadataRequest::default().with_topics(Some(Vec::new()))).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.signal("TERM");
    assert_eq!(proxy.ends().await, Some(0));
    assert!(proxy.log().contains("closing what is left"), "{}", proxy.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let cluster = three_brokers().await;
    let mut proxy = Proxy::before(&cluster).await;
    let mut client = Client::connect(proxy.node(1)).await;
    client.brokers().await;
    cluster.control(|cluster| cluster.inject(Rule::new(Fault::Silence).on_broker(1)));
    client.send(7, &MetadataRequest::default().with_topics(Some(Vec::new()))).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    proxy.signal("TERM");
    tokio::time::sleep(Duration::from_millis(300)).await;
    proxy.signal("TERM");
    let code = proxy.ends().await;
    assert!(code != Some(0), "it did not drain: {code:?}");
}
