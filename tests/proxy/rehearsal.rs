//! Departures as operators see them, in earnest and rehearsed.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use evenkeel::sim::batch::encode;
use evenkeel::sim::tcp::SimCluster;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, InitProducerIdRequest, ProduceRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Record, TimestampType};
use serde_json::Value;

use crate::rig::{Client, Proxy, SOON, three_brokers};

const ALLOWED: &str = "admin: {rehearsal: true}";

/// One idempotent producer, one partition, one request at a time, on one connection.
struct Producer {
    client: Client,
    id: i64,
    sent: i32,
}

impl Producer {
    async fn at(proxy: &Proxy, broker: i32) -> Producer {
        let mut client = Client::connect(proxy.node(broker as u16)).await;
        let id = client.ask(3, &InitProducerIdRequest::default().with_transaction_timeout_ms(60_000)).await.producer_id.0;
        Producer { client, id, sent: 0 }
    }

    /// Acknowledged at the offset that follows, on the same connection as ever.
    async fn produce(&mut self) {
        let record = Record {
            transactional: false,
            control: false,
            partition_leader_epoch: -1,
            producer_id: self.id,
            producer_epoch: 0,
            timestamp_type: TimestampType::Creation,
            offset: 0,
            sequence: self.sent,
            timestamp: 1_700_000_000_000,
            delete_horizon: false,
            key: None,
            value: Some("value".into()),
            headers: Default::default(),
        };
        let partition = PartitionProduceData::default().with_index(0).with_records(Some(encode(&[record])));
        let topic =
            TopicProduceData::default().with_name(TopicName(StrBytes::from_static_str("orders"))).with_partition_data(vec![partition]);
        let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic]);
        let answer = self.client.ask(9, &request).await;
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (0, i64::from(self.sent)));
        self.sent += 1;
    }

    async fn produce_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.produce().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn with_topic() -> (SimCluster, i32) {
    let cluster = three_brokers().await;
    cluster.control(|cluster| cluster.create_topic("orders", 1));
    let (leader, _) = cluster.control(|cluster| cluster.leader("orders", 0)).expect("a leader");
    (cluster, leader)
}

async fn rehearsing(cluster: &SimCluster) -> Proxy {
    let proxy = Proxy::start_with(&cluster.bootstrap(), ALLOWED, &[]);
    proxy.until_ready().await;
    proxy
}

fn rehearse(proxy: &Proxy, broker: i32, arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin!("evenkeel"));
    command.env_clear().args(["rehearse", "--admin", &format!("localhost:{}", proxy.admin), "--broker", &broker.to_string()]);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Its exit code, standard output and standard error.
async fn said(mut command: Command) -> (Option<i32>, String, String) {
    let ran = tokio::task::spawn_blocking(move || command.output().expect("starts")).await.expect("ends");
    told(&ran)
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

async fn until_departure(proxy: &Proxy, state: &str) -> Value {
    let deadline = Instant::now() + SOON;
    loop {
        let departures = proxy.status().await["departures"].clone();
        if departures[0]["state"] == state {
            return departures;
        }
        assert!(Instant::now() < deadline, "never {state}: {departures:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_goes_on_while_its_brokers_departure_is_rehearsed_and_all_is_as_before_afterwards() {
    let (cluster, leader) = with_topic().await;
    let proxy = rehearsing(&cluster).await;
    let mut producer = Producer::at(&proxy, leader).await;
    producer.produce_for(Duration::from_millis(200)).await;
    let before = producer.sent;
    assert_eq!(proxy.metric("evenkeel_detours_started_total", &[]).await, 0.0);

    let rehearsal = tokio::spawn(said(rehearse(&proxy, leader, &["--for", "2s", "--json"])));
    while !rehearsal.is_finished() {
        producer.produce().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (code, out, err) = rehearsal.await.expect("ends");
    assert_eq!(code, Some(0), "{err}");
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
    assert_eq!((&report["state"], &report["broker"]), (&Value::from("over"), &Value::from(leader)), "{report:#}");
    assert!(report["lasted_seconds"].as_f64().is_some_and(|lasted| lasted >= 2.0), "{report:#}");
    assert_eq!(report["connections_cut"], 1, "{report:#}");
    assert_eq!(report["connections_refused"], 0, "its answers over a detour do not make it trusted meanwhile: {report:#}");
    let masked = &report["masked"];
    let detours = masked["detours"].as_u64().expect("a number");
    assert!(detours > 0 && detours <= (producer.sent - before) as u64, "{report:#}");
    assert!(masked["acknowledged"].as_u64().is_some_and(|acknowledged| acknowledged + 1 >= detours), "{report:#}");
    for nothing in ["errors", "deadline_misses", "cancelled"] {
        assert_eq!(masked[nothing], 0, "{nothing}: {report:#}");
    }
    assert_eq!(report["clients_closed"], 0, "{report:#}");
    assert!(report["does_not_show"].as_str().is_some_and(|text| text.contains("leaders did not move")), "{report:#}");

    // Its own way again: what follows is no detour.
    producer.produce_for(Duration::from_millis(200)).await;
    let detours = proxy.metric("evenkeel_detours_started_total", &[]).await;
    producer.produce_for(Duration::from_millis(300)).await;
    assert_eq!(proxy.metric("evenkeel_detours_started_total", &[]).await, detours);
    assert_eq!(cluster.control(|cluster| cluster.records("orders", 0)).len(), producer.sent as usize, "each once");
    assert_eq!(proxy.metric("evenkeel_departures_total", &[]).await, 0.0, "none in earnest");
    let departures = until_departure(&proxy, "rehearsed").await;
    assert_eq!((&departures[0]["rehearsal"], &departures[0]["node_id"]), (&Value::from(true), &Value::from(leader)), "{departures:#}");
    assert_eq!(departures.as_array().map(Vec::len), Some(1), "{departures:#}");
    let log = proxy.log();
    for line in ["a rehearsal: the broker is treated as departed", "the rehearsal is over"] {
        assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
    }
    assert!(!log.contains("a broker departs"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_broker_itself_can_answer_is_felt_and_said_to_be() {
    let (cluster, leader) = with_topic().await;
    let proxy = rehearsing(&cluster).await;
    let mut asks = Client::connect(proxy.node(leader as u16)).await;
    let mut fetches = Client::connect(proxy.node(leader as u16)).await;
    asks.brokers().await;
    fetches.brokers().await;
    let begun = proxy.request("POST", &format!("/rehearsal?broker={leader}&for=60s")).await;
    assert!(begun.starts_with("HTTP/1.1 202 "), "{begun}");
    // Another answers in its stead what anybody may answer, and tells of it as ever.
    assert_eq!(asks.brokers().await.brokers.len(), 3);
    assert_eq!(proxy.status().await["cluster"]["brokers"].as_array().map(Vec::len), Some(3), "the view stays");
    let partition = FetchPartition::default().with_partition(0).with_partition_max_bytes(1024);
    let topic = FetchTopic::default().with_topic(TopicName(StrBytes::from_static_str("orders"))).with_partitions(vec![partition]);
    fetches.send(11, &FetchRequest::default().with_max_wait_ms(100).with_topics(vec![topic])).await;
    assert!(fetches.is_ended().await);
    for (broker, expected, text) in [(leader, 409, "is under way"), (9, 404, "the cluster lists no broker 9")] {
        let refused = proxy.request("POST", &format!("/rehearsal?broker={broker}&for=10s")).await;
        assert!(refused.starts_with(&format!("HTTP/1.1 {expected} ")) && refused.contains(text), "{refused}");
    }
    let over = proxy.request("DELETE", "/rehearsal").await;
    let (_, body) = over.split_once("\r\n\r\n").expect("a body");
    let report: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {over}"));
    assert_eq!(report["state"], "stopped", "{report:#}");
    assert_eq!(report["clients_closed"], 1, "{report:#}");
    assert!(report["connections_refused"].as_u64().is_some_and(|refused| refused >= 1), "{report:#}");
    let answered = cluster.control(|cluster| cluster.requests_of(leader, 3));
    Client::connect(proxy.node(leader as u16)).await.brokers().await;
    assert!(cluster.control(|cluster| cluster.requests_of(leader, 3)) > answered, "its port is its own again");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_a_rehearsal_and_its_report_follows() {
    let (cluster, leader) = with_topic().await;
    let proxy = rehearsing(&cluster).await;
    let child = rehearse(&proxy, leader, &["--for", "5m"]).spawn().expect("starts");
    until_departure(&proxy, "departed").await;
    // It looks for signals before it begins, so that this one is not too early.
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill");
    assert!(sent.success());
    let ran = tokio::task::spawn_blocking(move || child.wait_with_output().expect("ends")).await.expect("ends");
    let (code, out, err) = told(&ran);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with(&format!("Broker {leader} was treated as departed for ")) && out.contains("(stopped)"), "{out}");
    assert!(out.contains("What it does not show: "), "{out}");
    until_departure(&proxy, "rehearsed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rehearsals_are_off_unless_the_configuration_allows_them() {
    let cluster = three_brokers().await;
    let proxy = Proxy::before(&cluster).await;
    let (code, out, err) = said(rehearse(&proxy, 1, &["--for", "1s"])).await;
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("says 403: rehearsals are off: set admin.rehearsal: true"), "{err}");
    assert!(out.is_empty(), "{out}");
    let allowed = rehearsing(&cluster).await;
    for (arguments, text) in [(["--for", "6m"], "a rehearsal takes 1s to 5m"), (["--for", "500ms"], "a rehearsal takes 1s to 5m")] {
        let (code, _, err) = said(rehearse(&allowed, 1, &arguments)).await;
        assert_eq!(code, Some(1));
        assert!(err.contains(text), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_departure_and_a_return_are_one_line_each_and_a_timeline() {
    let (cluster, leader) = with_topic().await;
    let proxy = Proxy::before(&cluster).await;
    let mut producer = Producer::at(&proxy, leader).await;
    producer.produce_for(Duration::from_millis(100)).await;
    cluster.control(|cluster| cluster.stop_broker(leader));
    producer.produce_for(Duration::from_millis(500)).await;
    let departures = until_departure(&proxy, "departed").await;
    assert_eq!(departures[0]["node_id"], leader, "{departures:#}");
    assert_eq!(proxy.metric("evenkeel_departures_total", &[]).await, 1.0);
    assert_eq!(proxy.metric("evenkeel_brokers_departed", &[]).await, 1.0);
    cluster.control(|cluster| cluster.start_broker(leader));
    let deadline = Instant::now() + SOON;
    while proxy.metric("evenkeel_brokers_departed", &[]).await > 0.0 {
        // A client's answer tells of its return before the slow poll does.
        Client::connect(proxy.bootstrap()).await.brokers().await;
        assert!(Instant::now() < deadline, "{:#}", proxy.status().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let departures = until_departure(&proxy, "returned").await;
    let departure = &departures[0];
    let events: Vec<&str> = departure["timeline"].as_array().expect("a list").iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(events.last(), Some(&"returned"), "{departures:#}");
    assert!(events.contains(&"not_listed"), "{departures:#}");
    assert!(departure["masked"]["detours"].as_u64().is_some_and(|detours| detours > 0), "{departures:#}");
    assert!(departure["began_at"].as_str().is_some_and(|at| humantime::parse_rfc3339(at).is_ok()), "{departures:#}");
    let log = proxy.log();
    for line in ["a broker departs", "a broker has returned"] {
        assert_eq!(log.matches(line).count(), 1, "{line}: {log}");
    }
    assert!(!log.contains("a broker joined"), "{log}");
}
