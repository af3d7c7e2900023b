//! A broker departs, in whichever way, while producers that learn nothing write to its port: they see no error, and nothing is lost,
//! doubled or out of order.
//!
//! Each writer has a topic of its own, led by broker 2. Left out: idempotent batches with `acks=0`, which no client sends, and of which the
//! first one that a closing broker swallows makes the rest of its sequence unacceptable.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evenkeel::sim::broker::Hang;
use evenkeel::sim::cluster::Options;
use evenkeel::sim::fault::{Fault, Rule, Verdict};
use evenkeel::sim::profile::Profile;
use evenkeel::sim::tcp::SimCluster;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::{AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, ProducerId, TopicName, TransactionalId};
use kafka_protocol::protocol::StrBytes;

use crate::rig::{Client, Proxy, SOON, three_brokers};
use crate::writer::{Way, Writer, Written};

const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const MS: Duration = Duration::from_millis(1);

struct Scene {
    cluster: SimCluster,
    proxy: Proxy,
    writers: Vec<(Way, Writer)>,
}

/// What a departure may do to what was on the wire.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// Each batch was applied, or it was not.
    Clear,
    /// Connections are lost with requests on them: plain batches may be there twice.
    Ambiguous,
}

fn topic(cluster: &SimCluster, name: &str) -> uuid::Uuid {
    cluster.control(|cluster| {
        cluster.create_assigned_topic(name, vec![vec![2, 0, 1]]);
        cluster.image().topics[name].id
    })
}

fn text(of: &str) -> StrBytes {
    StrBytes::from_string(of.to_owned())
}

impl Scene {
    async fn of(cluster: SimCluster) -> Scene {
        let proxy = Proxy::before(&cluster).await;
        Scene { cluster, proxy, writers: Vec::new() }
    }

    fn write(&mut self, version: i16, acks: i16, producer: Option<i64>, transactional_id: Option<String>) -> String {
        let name = format!("v{version}-{acks}-{}", self.writers.len());
        let topic_id = topic(&self.cluster, &name);
        let way = Way { version, acks, producer, transactional_id, topic: name.clone(), topic_id };
        self.writers.push((way.clone(), Writer::start(self.proxy.node(2), way)));
        name
    }

    /// Every version, acks and kind of producer.
    async fn writes_in_all_ways(&mut self) {
        for version in 3..=13 {
            for acks in [1, -1, 0] {
                self.write(version, acks, None, None);
            }
            for acks in [1, -1] {
                self.write(version, acks, Some(5000 + i64::from(version) * 10 + i64::from(acks)), None);
            }
            self.write_transactionally(version).await;
        }
        tokio::time::sleep(500 * MS).await;
    }

    /// A few of them.
    async fn writes(&mut self) {
        for version in [3, 9, 12, 13] {
            self.write(version, -1, None, None);
            self.write(version, -1, Some(5000 + i64::from(version)), None);
        }
        tokio::time::sleep(500 * MS).await;
    }

    async fn write_transactionally(&mut self, version: i16) {
        let name = format!("v{version}--1-{}", self.writers.len());
        topic(&self.cluster, &name);
        // Its coordinator is not the broker that departs.
        let id = (0..).map(|n| format!("tx-{version}-{n}"));
        let id = id.into_iter().find(|id| self.coordinator(id) != 2).expect("one of many");
        let mut coordinator = Client::connect(self.proxy.node(self.coordinator(&id) as u16)).await;
        let transactional_id = TransactionalId(text(&id));
        let init =
            InitProducerIdRequest::default().with_transactional_id(Some(transactional_id.clone())).with_transaction_timeout_ms(60_000);
        let identity = coordinator.ask(4, &init).await;
        assert_eq!(identity.error_code, 0);
        let topics = vec![AddPartitionsToTxnTopic::default().with_name(TopicName(text(&name))).with_partitions(vec![0])];
        let add = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id)
            .with_v3_and_below_producer_id(identity.producer_id)
            .with_v3_and_below_producer_epoch(identity.producer_epoch)
            .with_v3_and_below_topics(topics);
        let added = coordinator.ask(3, &add).await;
        assert_eq!(added.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code, 0);
        self.write(version, -1, Some(identity.producer_id.0), Some(id));
    }

    fn coordinator(&self, transactional_id: &str) -> i32 {
        self.cluster.control(|cluster| cluster.coordinator_of(1, transactional_id)).expect("a coordinator")
    }

    fn topics(&self) -> Vec<String> {
        self.writers.iter().map(|(way, _)| way.topic.clone()).collect()
    }

    /// Writers go on for a while; then all that they wrote is looked for.
    async fn ends(self, loss: Loss) {
        tokio::time::sleep(1500 * MS).await;
        let mut wrong = Vec::new();
        for (way, writer) in self.writers {
            let written = writer.stop().await;
            if let Some(id) = way.transactional_id.clone().filter(|_| written.errors.is_empty()) {
                let at = self.cluster.control(|cluster| cluster.coordinator_of(1, &id)).expect("a coordinator");
                let end = EndTxnRequest::default()
                    .with_transactional_id(TransactionalId(text(&id)))
                    .with_producer_id(ProducerId(way.producer.expect("its id")))
                    .with_committed(true);
                let ended = Client::connect(self.proxy.node(at as u16)).await.ask(3, &end).await;
                assert_eq!(ended.error_code, 0, "{way:?}");
            }
            wrong.extend(judge(&self.cluster, &way, &written, loss).await.err().map(|what| format!("{what} {way:?} {written:?}")));
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(self.cluster.control(|cluster| cluster.unexpected().to_vec()).is_empty());
    }
}

async fn judge(cluster: &SimCluster, way: &Way, written: &Written, loss: Loss) -> Result<(), String> {
    if !written.errors.is_empty() {
        return Err("it saw errors:".into());
    }
    if written.sent < 20 {
        return Err("it hardly wrote:".into());
    }
    let deadline = Instant::now() + SOON;
    let mut there = numbers(cluster, &way.topic);
    // Nobody says when the last of these is there.
    while way.acks == 0 && there.last() != Some(&(written.sent - 1)) && Instant::now() < deadline {
        tokio::time::sleep(20 * MS).await;
        there = numbers(cluster, &way.topic);
    }
    let mut seen = BTreeSet::new();
    let firsts: Vec<u64> = there.iter().copied().filter(|number| seen.insert(*number)).collect();
    if !firsts.is_sorted() {
        return Err("out of order:".into());
    }
    if firsts.len() < there.len() && (way.producer.is_some() || loss == Loss::Clear || way.acks == 0) {
        return Err(format!("{} are there twice:", there.len() - firsts.len()));
    }
    let is_complete = match way.acks {
        0 => firsts.last() == Some(&(written.sent - 1)),
        _ => firsts == (0..written.sent).collect::<Vec<_>>() && written.acked == written.sent,
    };
    if is_complete { Ok(()) } else { Err(format!("{} of {} are there:", firsts.len(), written.sent)) }
}

fn numbers(cluster: &SimCluster, topic: &str) -> Vec<u64> {
    let records = cluster.control(|cluster| cluster.records(topic, 0));
    let number = |value: bytes::Bytes| u64::from_be_bytes(value[..].try_into().expect("a number"));
    records.into_iter().filter(|record| !record.is_control).filter_map(|record| record.value).map(number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn leaders_move_under_every_kind_of_producer() {
    let mut scene = Scene::of(three_brokers().await).await;
    scene.writes_in_all_ways().await;
    for next in [0, 1, 2, 1] {
        for topic in scene.topics() {
            scene.cluster.control(|cluster| cluster.move_leader(&topic, 0, next));
        }
        tokio::time::sleep(300 * MS).await;
    }
    scene.ends(Loss::Clear).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_under_every_kind_of_producer() {
    let mut scene = Scene::of(three_brokers().await).await;
    scene.writes_in_all_ways().await;
    scene.cluster.control(|cluster| cluster.stop_broker(2));
    scene.ends(Loss::Ambiguous).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain() {
    let mut scene = Scene::of(three_brokers().await).await;
    scene.writes().await;
    scene.cluster.control(|cluster| cluster.drain_broker(2));
    tokio::time::sleep(300 * MS).await;
    scene.cluster.control(|cluster| cluster.remove_broker(2));
    scene.ends(Loss::Ambiguous).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_stop_and_a_return() {
    let mut scene = Scene::of(three_brokers().await).await;
    scene.writes().await;
    for _ in 0..2 {
        scene.cluster.control(|cluster| cluster.stop_broker(2));
        tokio::time::sleep(700 * MS).await;
        scene.cluster.control(|cluster| cluster.start_broker(2));
        tokio::time::sleep(300 * MS).await;
        for topic in scene.topics() {
            scene.cluster.control(|cluster| cluster.move_leader(&topic, 0, 2));
        }
        tokio::time::sleep(500 * MS).await;
    }
    let before = scene.cluster.control(|cluster| cluster.requests_of(2, PRODUCE));
    tokio::time::sleep(500 * MS).await;
    assert!(scene.cluster.control(|cluster| cluster.requests_of(2, PRODUCE)) > before + 20, "it is used again");
    scene.ends(Loss::Ambiguous).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_that_the_cluster_notices_later() {
    let mut scene = Scene::of(three_brokers().await).await;
    scene.writes().await;
    scene.cluster.control(|cluster| cluster.crash_broker(2));
    tokio::time::sleep(800 * MS).await;
    scene.cluster.control(|cluster| cluster.fence_broker(2));
    scene.ends(Loss::Ambiguous).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_is_left_once_the_cluster_gives_it_up() {
    for hang in [Hang::Reading, Hang::NotReading] {
        let mut scene = Scene::of(three_brokers().await).await;
        scene.writes().await;
        scene.cluster.control(|cluster| cluster.hang_broker(2, hang));
        tokio::time::sleep(1500 * MS).await;
        scene.cluster.control(|cluster| cluster.fence_broker(2));
        let fenced = Instant::now();
        // What piled up there is carried out, and refused: it leads nothing any more.
        tokio::time::sleep(2000 * MS).await;
        scene.cluster.control(|cluster| cluster.thaw_broker(2));
        scene.ends(Loss::Ambiguous).await;
        assert!(fenced.elapsed() < SOON);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_at_another_address() {
    let mut scene = Scene::of(three_brokers().await).await;
    scene.writes().await;
    for _ in 0..2 {
        scene.cluster.control(|cluster| cluster.readdress_broker(2));
        tokio::time::sleep(700 * MS).await;
    }
    scene.ends(Loss::Ambiguous).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_another_machine_takes_over() {
    let mut scene = Scene::of(three_brokers().await).await;
    scene.writes().await;
    let before = scene.cluster.address(2);
    scene.cluster.control(|cluster| {
        cluster.remove_broker(2);
        cluster.add_broker(2, None, Profile::V4);
        cluster.readdress_broker(2);
    });
    assert_ne!(scene.cluster.address(2), before);
    scene.ends(Loss::Ambiguous).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_of_two_generations_in_a_rolling_upgrade() {
    let cluster = SimCluster::start(Options { profile: Profile::V3_6, ..Options::default() }).await.expect("it starts");
    let mut scene = Scene::of(cluster).await;
    for version in [3, 7, 9] {
        scene.write(version, -1, None, None);
        scene.write(version, -1, Some(5000 + i64::from(version)), None);
    }
    tokio::time::sleep(500 * MS).await;
    for broker in [2, 0, 1] {
        scene.cluster.control(|cluster| cluster.stop_broker(broker));
        tokio::time::sleep(500 * MS).await;
        scene.cluster.control(|cluster| {
            cluster.set_profile(broker, Profile::V4);
            cluster.start_broker(broker);
        });
        tokio::time::sleep(500 * MS).await;
        for topic in scene.topics() {
            scene.cluster.control(|cluster| cluster.move_leader(&topic, 0, broker));
        }
        tokio::time::sleep(500 * MS).await;
    }
    scene.ends(Loss::Ambiguous).await;
}

/// Moments at which the proxy itself asked for metadata.
fn watch_metadata(cluster: &SimCluster) -> Arc<Mutex<Vec<Instant>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = seen.clone();
    cluster.control(|cluster| {
        cluster.hook(move |exchange, _| {
            // Behind key, version and correlation id stands the client id.
            let is_ours = exchange.frame.get(10..).is_some_and(|rest| rest.starts_with(b"evenkeel"));
            if exchange.api_key == METADATA && is_ours {
                notes.lock().unwrap().push(Instant::now());
            }
            Verdict::Pass
        });
    });
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_refuses_everything_is_asked_at_a_rate_that_does_not_grow() {
    let mut scene = Scene::of(three_brokers().await).await;
    let metadata = watch_metadata(&scene.cluster);
    scene.writes().await;
    let writers = scene.writers.len() as u64;
    let rule = scene.cluster.control(|cluster| cluster.inject(Rule::new(Fault::Error(6)).on_api(PRODUCE)));
    let asked = |scene: &Scene| scene.cluster.control(|cluster| (0..3).map(|id| cluster.requests_of(id, PRODUCE)).sum::<u64>());
    tokio::time::sleep(2000 * MS).await;
    let mut rounds = Vec::new();
    for _ in 0..4 {
        let (before, metadata_before) = (asked(&scene), metadata.lock().unwrap().len());
        tokio::time::sleep(2000 * MS).await;
        rounds.push((asked(&scene) - before, metadata.lock().unwrap().len() - metadata_before));
    }
    for (produce, metadata) in &rounds {
        // At the longest back-off, half of it by chance: four per second at most.
        assert!(*produce <= writers * 10 && *produce > 0, "{rounds:?} of {writers} writers");
        assert!(*metadata <= 2 * 20 + 2, "{rounds:?}");
    }
    scene.cluster.control(|cluster| cluster.lift(rule));
    scene.ends(Loss::Clear).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_and_one_departure_cost_the_cluster_little() {
    const SESSIONS: usize = 200;
    let mut scene = Scene::of(three_brokers().await).await;
    let metadata = watch_metadata(&scene.cluster);
    let name = scene.write(9, -1, None, None);
    let mut clients = Vec::new();
    for number in 0..SESSIONS as u64 {
        let mut client = Client::connect(scene.proxy.node(2)).await;
        let way = Way { version: 9, acks: -1, producer: None, transactional_id: None, topic: name.clone(), topic_id: uuid::Uuid::nil() };
        client.ask(9, &crate::writer::request(&way, number)).await;
        clients.push((client, way));
    }
    // All of them have a request on the wire.
    scene.cluster.control(|cluster| cluster.inject(Rule::new(Fault::Silence).on_api(PRODUCE).on_broker(2)));
    for (client, way) in &mut clients {
        client.send(9, &crate::writer::request(way, 7)).await;
    }
    tokio::time::sleep(200 * MS).await;
    let connected = scene.cluster.control(|cluster| cluster.connections_accepted(0) + cluster.connections_accepted(1));
    let departed = Instant::now();
    scene.cluster.control(|cluster| cluster.stop_broker(2));
    for (client, _) in &mut clients {
        let answer = client.receive::<kafka_protocol::messages::ProduceRequest>(9).await.expect("an answer");
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
    let took = departed.elapsed();
    let asked = metadata.lock().unwrap().iter().filter(|at| **at >= departed && **at < departed + 1000 * MS).count();
    let connects = scene.cluster.control(|cluster| cluster.connections_accepted(0) + cluster.connections_accepted(1)) - connected;
    assert!(asked <= 2 + 1, "{asked} metadata requests in the first second, the slow poll among them");
    let bound = 2.0 * 50.0 * (took.as_secs_f64() + 1.0) + 10.0;
    assert!((connects as f64) < bound && connects >= SESSIONS as u64, "{connects} connects in {took:?}");
    let (_, writer) = scene.writers.pop().expect("the writer");
    assert!(writer.stop().await.errors.is_empty());
}
