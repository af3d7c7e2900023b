//! Sessions over real sockets, with a scripted broker behind them.

use std::sync::Mutex;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::cluster::{Broker, LearnLimits, MetadataObservation, NodeId, Source, learn};
use crate::metrics::Metrics;
use crate::rewrite::Advertised;
use crate::session::{CloseReason, Port};
use crate::transport;

const SOON: Duration = Duration::from_secs(10);
const MIB: usize = 1024 * 1024;

struct Ports;

impl Addresses for Ports {
    fn advertised(&self, node: NodeId) -> Option<Advertised> {
        Some(Advertised { host: "localhost".into(), port: 20_000 + node.0 as u16 })
    }
}

struct FixedCluster {
    view: Mutex<Arc<View>>,
    generations: watch::Sender<u64>,
    observed: Mutex<Vec<Observation>>,
    bootstrap: Vec<Endpoint>,
}

impl Cluster for FixedCluster {
    fn view(&self) -> Arc<View> {
        self.view.lock().unwrap().clone()
    }

    fn generations(&self) -> watch::Receiver<u64> {
        self.generations.subscribe()
    }

    fn observe(&self, observation: Observation) {
        self.observed.lock().unwrap().push(observation);
    }

    fn refresh(&self) {}

    fn bootstrap(&self) -> &[Endpoint] {
        &self.bootstrap
    }
}

fn view_of(brokers: &[(i32, u16)]) -> Arc<View> {
    let brokers = brokers
        .iter()
        .map(|(id, port)| Broker { id: NodeId(*id), endpoint: Endpoint { host: "127.0.0.1".into(), port: *port }, rack: None })
        .collect();
    let (cluster_id, controller, topics) = (None, None, Vec::new());
    let news = MetadataObservation { source: Source::Own, version: 12, cluster_id, controller, brokers, topics };
    Arc::new(learn(&View::default(), Instant::now(), &Observation::Metadata(news), &LearnLimits::default()).view.unwrap())
}

/// A proxy with one session port, for broker 1, and that broker's listener.
struct Rig {
    environment: Arc<Environment>,
    cluster: Arc<FixedCluster>,
    drain: watch::Sender<bool>,
    broker: TcpListener,
    front: TcpListener,
}

impl Rig {
    async fn new() -> Rig {
        Rig::with(|_| {}).await
    }

    async fn with(adjust: impl FnOnce(&mut Environment)) -> Rig {
        let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cluster = Arc::new(FixedCluster {
            view: Mutex::new(view_of(&[(1, broker.local_addr().unwrap().port())])),
            generations: watch::Sender::new(1),
            observed: Mutex::default(),
            bootstrap: Vec::new(),
        });
        let (drain, draining) = watch::channel(false);
        let mut environment = Environment {
            settings: Settings {
                max_queued_bytes: 256 * 1024,
                handshake_timeout: Duration::from_secs(10),
                idle_timeout: Duration::from_secs(60),
                half_close_timeout: Duration::from_secs(5),
            },
            limits: Arc::new(Limits {
                max_slots: 64,
                max_parked_bytes: 64 * 1024,
                max_rewrite_bytes: 1 << 20,
                max_request_bytes: 100 << 20,
                max_response_bytes: 100 << 20,
                max_head_bytes: 4096,
            }),
            unknown_apis: UnknownApis::Hide,
            connector: Connector::new(transport::Settings {
                connect_timeout: Duration::from_secs(5),
                keepalive: Duration::from_secs(60),
                user_timeout: None,
            }),
            cluster: cluster.clone(),
            addresses: Arc::new(Ports),
            counting: Counting::new(Metrics::new()),
            diagnosis: Diagnosis::default(),
            draining,
        };
        adjust(&mut environment);
        Rig { environment: Arc::new(environment), cluster, drain, broker, front }
    }

    /// A client's socket, and the session that serves it.
    async fn client(&self) -> (TcpStream, JoinHandle<CloseReason>) {
        let client = TcpStream::connect(self.front.local_addr().unwrap()).await.unwrap();
        let (socket, peer) = self.front.accept().await.unwrap();
        let accepted = Accepted { socket, peer, port: Port::Node(NodeId(1)), local_port: 0 };
        (client, tokio::spawn(run(self.environment.clone(), accepted)))
    }

    async fn broker_side(&self) -> TcpStream {
        timeout(SOON, self.broker.accept()).await.expect("the session opens its leg").unwrap().0
    }

    fn count(&self, counter: &prometheus::IntCounterVec, label: &str) -> u64 {
        counter.with_label_values(&[label]).get()
    }
}

async fn ends(session: JoinHandle<CloseReason>) -> CloseReason {
    timeout(SOON, session).await.expect("the session ends").unwrap()
}

fn frame(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i32(body.len() as i32);
    frame.put_slice(body);
    frame.freeze()
}

/// Heartbeat v0, which nobody looks into, of this many bytes.
fn request(correlation_id: i32, bytes: usize) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i16(12);
    body.put_i16(0);
    body.put_i32(correlation_id);
    body.put_i16(4);
    body.put_slice(b"test");
    body.resize(body.len().max(bytes), b'.');
    frame(&body)
}

/// Produce v3 without an answer.
fn unanswered(correlation_id: i32) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i16(0);
    body.put_i16(3);
    body.put_i32(correlation_id);
    body.put_i16(-1);
    body.put_i16(-1);
    body.put_i16(0);
    body.put_i32(1000);
    body.put_i32(0);
    frame(&body)
}

fn response(correlation_id: i32, bytes: usize) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i32(correlation_id);
    body.resize(bytes.max(4), b'r');
    frame(&body)
}

async fn read(socket: &mut TcpStream, bytes: usize) -> Vec<u8> {
    let mut buffer = vec![0; bytes];
    timeout(SOON, socket.read_exact(&mut buffer)).await.expect("bytes come").expect("the connection holds");
    buffer
}

async fn read_to_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut buffer = Vec::new();
    timeout(SOON, socket.read_to_end(&mut buffer)).await.expect("the connection ends").unwrap();
    buffer
}

#[tokio::test]
async fn requests_and_responses_pass_byte_for_byte_however_they_are_cut() {
    let rig = Rig::new().await;
    let (mut client, session) = rig.client().await;
    let requests: Vec<u8> = (0..20).flat_map(|n| request(n, 10 + 400 * n as usize)).collect();
    for piece in requests.chunks(777) {
        client.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut broker = rig.broker_side().await;
    assert!(read(&mut broker, requests.len()).await == requests);
    let responses: Vec<u8> = (0..20).flat_map(|n| response(n, 4 + 300 * n as usize)).collect();
    for piece in responses.chunks(1111) {
        broker.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(read(&mut client, responses.len()).await == responses);
    assert_eq!(rig.count(&rig.environment.counting.metrics.requests, "Heartbeat"), 20);
    drop(client);
    assert_eq!(ends(session).await, CloseReason::ClientClosed);
    assert_eq!(rig.environment.counting.metrics.requests_in_flight.get(), 0);
}

#[tokio::test]
async fn a_large_response_waits_for_a_slow_client_without_lying_in_memory() {
    let rig = Rig::new().await;
    let (mut client, _session) = rig.client().await;
    client.write_all(&request(1, 0)).await.unwrap();
    let mut broker = rig.broker_side().await;
    read(&mut broker, request(1, 0).len()).await;
    let response = response(1, 64 * MIB);
    let whole = response.clone();
    let writer = tokio::spawn(async move {
        let mut written = 0;
        while written < whole.len() {
            match timeout(Duration::from_millis(300), broker.write(&whole[written..])).await {
                Ok(n) => written += n.unwrap(),
                Err(_) => break,
            }
        }
        (broker, written)
    });
    let (mut broker, written) = writer.await.unwrap();
    // What the kernel's socket buffers take besides is not ours; it is a few MiB at most.
    assert!(written < 32 * MIB, "{written} bytes went somewhere while nobody read");
    assert!(rig.count(&rig.environment.counting.metrics.limit_hits, "queued_bytes") > 0);
    let rest = response.slice(written..);
    let writer = tokio::spawn(async move { broker.write_all(&rest).await.map(|()| broker) });
    assert!(read(&mut client, response.len()).await == response);
    writer.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_large_request_waits_for_a_slow_broker_without_lying_in_memory() {
    let rig = Rig::new().await;
    let (mut client, _session) = rig.client().await;
    client.write_all(&request(1, 0)).await.unwrap();
    let _broker = rig.broker_side().await;
    let large = request(2, 64 * MIB);
    let mut written = 0;
    while let Ok(n) = timeout(Duration::from_millis(300), client.write(&large[written..])).await {
        written += n.unwrap();
    }
    assert!(written < 32 * MIB, "{written} bytes went somewhere while nobody read");
    assert!(rig.count(&rig.environment.counting.metrics.limit_hits, "queued_bytes") > 0);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_is_not_read_from_is_noticed() {
    let rig = Rig::with(|environment| environment.settings.half_close_timeout = Duration::from_millis(200)).await;
    let (mut client, session) = rig.client().await;
    let more_than_slots: Vec<u8> = (0..1000).flat_map(|n| request(n, 0)).collect();
    client.write_all(&more_than_slots).await.unwrap();
    let _silent = rig.broker_side().await;
    drop(client);
    assert_eq!(ends(session).await, CloseReason::HalfCloseTimeout);
}

#[tokio::test]
async fn what_was_sent_before_a_fin_still_reaches_the_broker() {
    let rig = Rig::new().await;
    let (mut client, session) = rig.client().await;
    let frames: Vec<u8> = (0..100).flat_map(unanswered).collect();
    client.write_all(&frames).await.unwrap();
    drop(client);
    let mut broker = rig.broker_side().await;
    assert!(read_to_end(&mut broker).await == frames);
    drop(broker);
    assert_eq!(ends(session).await, CloseReason::ClientClosed);
}

#[tokio::test]
async fn a_half_closed_client_still_gets_its_responses() {
    let rig = Rig::new().await;
    let (mut client, session) = rig.client().await;
    client.write_all(&request(1, 0)).await.unwrap();
    client.shutdown().await.unwrap();
    let mut broker = rig.broker_side().await;
    read(&mut broker, request(1, 0).len()).await;
    broker.write_all(&response(1, 5000)).await.unwrap();
    assert!(read_to_end(&mut client).await == response(1, 5000));
    drop(broker);
    assert_eq!(ends(session).await, CloseReason::ClientClosed);
}

#[tokio::test]
async fn a_broker_that_closes_closes_its_client_after_its_last_answer() {
    let rig = Rig::new().await;
    let (mut client, session) = rig.client().await;
    client.write_all(&request(1, 0)).await.unwrap();
    client.write_all(&request(2, 0)).await.unwrap();
    let mut broker = rig.broker_side().await;
    read(&mut broker, 2 * request(1, 0).len()).await;
    broker.write_all(&response(1, 50)).await.unwrap();
    drop(broker);
    assert!(read_to_end(&mut client).await == response(1, 50));
    drop(client);
    assert_eq!(ends(session).await, CloseReason::UpstreamClosed);
}

#[tokio::test]
async fn a_broker_that_refuses_closes_its_client() {
    let rig = Rig::new().await;
    let (mut client, session) = rig.client().await;
    let Rig { broker, .. } = rig;
    drop(broker);
    client.write_all(&request(1, 0)).await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"");
    drop(client);
    assert_eq!(ends(session).await, CloseReason::UpstreamConnectFailed);
}

#[tokio::test]
async fn no_leg_is_opened_for_a_client_that_asks_nothing() {
    let rig = Rig::with(|environment| environment.settings.handshake_timeout = Duration::from_millis(200)).await;
    let (mut client, session) = rig.client().await;
    assert_eq!(read_to_end(&mut client).await, b"");
    drop(client);
    assert_eq!(ends(session).await, CloseReason::HandshakeTimeout);
    let (mut client, session) = rig.client().await;
    client.write_all(&request(1, 0)[..7]).await.unwrap();
    assert_eq!(read_to_end(&mut client).await, b"");
    drop(client);
    assert_eq!(ends(session).await, CloseReason::HandshakeTimeout);
    assert!(timeout(Duration::from_millis(50), rig.broker.accept()).await.is_err());
}

#[tokio::test]
async fn a_stranger_is_named_and_closed() {
    let rig = Rig::new().await;
    let cases: [(&[u8], &str); 4] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "tls"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "http"),
        (b"\x7f\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x00", "frame_too_large"),
        (b"\x00\x00\x00\x02\x00\x00", "malformed"),
    ];
    for (bytes, kind) in cases {
        let (mut client, session) = rig.client().await;
        client.write_all(bytes).await.unwrap();
        assert_eq!(read_to_end(&mut client).await, b"", "{kind}");
        drop(client);
        assert_eq!(ends(session).await.as_str(), "bad_client", "{kind}");
        assert_eq!(rig.count(&rig.environment.counting.metrics.bad_clients, kind), 1, "{kind}");
    }
}

#[tokio::test]
async fn draining_lets_requests_in_flight_finish() {
    let rig = Rig::new().await;
    let (mut client, session) = rig.client().await;
    client.write_all(&request(1, 0)).await.unwrap();
    let mut broker = rig.broker_side().await;
    read(&mut broker, request(1, 0).len()).await;
    rig.drain.send(true).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    client.write_all(&request(2, 0)).await.unwrap();
    broker.write_all(&response(1, 9)).await.unwrap();
    assert!(read_to_end(&mut client).await == response(1, 9));
    assert_eq!(read_to_end(&mut broker).await, b"", "the second request was not taken");
    drop((client, broker));
    assert_eq!(ends(session).await, CloseReason::Drained);
}

#[tokio::test]
async fn a_full_ring_of_slots_delays_and_loses_nothing() {
    let rig = Rig::new().await;
    let (mut client, _session) = rig.client().await;
    let requests: Vec<u8> = (0..1000).flat_map(|n| request(n, 0)).collect();
    client.write_all(&requests).await.unwrap();
    let mut broker = rig.broker_side().await;
    let one = request(0, 0).len();
    let answering = tokio::spawn(async move {
        for n in 0..1000 {
            let got = read(&mut broker, one).await;
            assert!(got == request(n, 0), "request {n}");
            broker.write_all(&response(n, 20)).await.unwrap();
        }
        broker
    });
    for n in 0..1000 {
        let expected = response(n, 20);
        assert!(read(&mut client, expected.len()).await == expected, "response {n}");
    }
    answering.await.unwrap();
    assert!(rig.count(&rig.environment.counting.metrics.limit_hits, "slots_per_session") > 0);
}

#[tokio::test]
async fn a_broker_at_a_new_address_is_reached_there_by_the_same_client() {
    let rig = Rig::new().await;
    let (mut client, _session) = rig.client().await;
    client.write_all(&request(1, 0)).await.unwrap();
    let mut old = rig.broker_side().await;
    read(&mut old, request(1, 0).len()).await;
    old.write_all(&response(1, 9)).await.unwrap();
    read(&mut client, response(1, 9).len()).await;

    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    *rig.cluster.view.lock().unwrap() = view_of(&[(1, elsewhere.local_addr().unwrap().port())]);
    rig.cluster.generations.send(2).unwrap();
    assert_eq!(read_to_end(&mut old).await, b"", "the old leg is closed");
    client.write_all(&request(2, 0)).await.unwrap();
    let (mut new, _) = timeout(SOON, elsewhere.accept()).await.unwrap().unwrap();
    assert!(read(&mut new, request(2, 0).len()).await == request(2, 0));
    new.write_all(&response(2, 9)).await.unwrap();
    assert!(read(&mut client, response(2, 9).len()).await == response(2, 9));
}

#[tokio::test]
async fn a_coordinators_address_is_rewritten_and_unknown_tags_stay() {
    let rig = Rig::new().await;
    let (mut client, _session) = rig.client().await;
    // FindCoordinator v4: key type 0, keys ["g"], no tags.
    let mut body = BytesMut::new();
    body.put_slice(&[0, 10, 0, 4, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 2, 2, b'g', 0]);
    client.write_all(&frame(&body)).await.unwrap();
    let mut broker = rig.broker_side().await;
    read(&mut broker, body.len() + 4).await;
    let answer = |host: &[u8], port: i32| {
        let mut body = BytesMut::new();
        // Correlation id, tags, throttle time, one coordinator: key, node id.
        body.put_slice(&[0, 0, 0, 7, 0, 0, 0, 0, 0, 2, 2, b'g', 0, 0, 0, 3]);
        body.put_u8(host.len() as u8 + 1);
        body.put_slice(host);
        body.put_i32(port);
        // Error, no message, tags of the coordinator and of the response: an unknown one, which must stay.
        body.put_slice(&[0, 0, 0, 0, 1, 99, 3, b'a', b'b', b'c']);
        frame(&body)
    };
    broker.write_all(&answer(b"real.example", 9092)).await.unwrap();
    let expected = answer(b"localhost", 20_003);
    assert_eq!(read(&mut client, expected.len()).await, expected);
}

#[tokio::test]
async fn passing_metadata_is_learned_with_its_real_addresses() {
    use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
    use kafka_protocol::messages::{BrokerId, MetadataResponse};
    use kafka_protocol::protocol::{Encodable, StrBytes};

    let rig = Rig::new().await;
    let (mut client, _session) = rig.client().await;
    // Metadata v7: no topics, no auto-creation.
    client.write_all(&frame(&[0, 3, 0, 7, 0, 0, 0, 8, 0xff, 0xff, 0, 0, 0, 0, 0])).await.unwrap();
    let mut broker = rig.broker_side().await;
    read(&mut broker, 19).await;
    let listed =
        MetadataResponseBroker::default().with_node_id(BrokerId(5)).with_host(StrBytes::from_static_str("real.example")).with_port(9092);
    let mut body = BytesMut::new();
    body.put_i32(8);
    MetadataResponse::default().with_brokers(vec![listed]).encode(&mut body, 7).unwrap();
    broker.write_all(&frame(&body)).await.unwrap();
    let length = read(&mut client, 4).await;
    let answer = read(&mut client, u32::from_be_bytes(length.try_into().unwrap()) as usize).await;
    assert!(answer.windows(9).any(|window| window == b"localhost"));
    assert!(!answer.windows(12).any(|window| window == b"real.example"));
    let observed = rig.cluster.observed.lock().unwrap();
    let [Observation::Metadata(news)] = &observed[..] else { panic!("{observed:?}") };
    assert_eq!((news.source, &*news.brokers[0].endpoint.host), (Source::Passing, "real.example"));
}

#[tokio::test]
async fn a_large_share_fetch_streams_and_tells_no_real_address() {
    use kafka_protocol::messages::share_fetch_response::{NodeEndpoint, PartitionData, ShareFetchableTopicResponse};
    use kafka_protocol::messages::{BrokerId, ShareFetchResponse};
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

    let rig = Rig::new().await;
    let (mut client, _session) = rig.client().await;
    let endpoint = NodeEndpoint::default().with_node_id(BrokerId(5)).with_host(StrBytes::from_static_str("real.example")).with_port(9092);
    for records in [1_000, 3 * MIB] {
        // ShareFetch v1; whatever it asks.
        client.write_all(&frame(&[0, 78, 0, 1, 0, 0, 0, 8, 0xff, 0xff, 0, 0])).await.unwrap();
        let mut broker = rig.broker_side().await;
        read(&mut broker, 16).await;
        let mut body = BytesMut::new();
        body.put_slice(&[0, 0, 0, 8, 0]);
        let partition = PartitionData::default().with_records(Some(vec![b'x'; records].into()));
        let topic = ShareFetchableTopicResponse::default().with_partitions(vec![partition]);
        let sent = ShareFetchResponse::default().with_responses(vec![topic]).with_node_endpoints(vec![endpoint.clone()]);
        sent.encode(&mut body, 1).unwrap();
        broker.write_all(&frame(&body)).await.unwrap();
        let length = read(&mut client, 4).await;
        let answer = read(&mut client, u32::from_be_bytes(length.try_into().unwrap()) as usize).await;
        assert!(!answer.windows(12).any(|window| window == b"real.example"), "{records} bytes of records");
        let got = ShareFetchResponse::decode(&mut Bytes::from(answer).slice(5..), 1).unwrap();
        assert_eq!(got.responses[0].partitions[0].records, sent.responses[0].partitions[0].records);
        drop(broker);
        client = rig.client().await.0;
    }
}

#[tokio::test]
async fn a_response_over_a_limit_closes_the_client_and_is_counted() {
    let narrow = |environment: &mut Environment| {
        let limits = Arc::make_mut(&mut environment.limits);
        (limits.max_rewrite_bytes, limits.max_response_bytes) = (2_000, 3_000);
    };
    // Metadata v0 is rewritten, Heartbeat is not.
    for (request, bytes, limit) in
        [(frame(&[0, 3, 0, 0, 0, 0, 0, 1, 0xff, 0xff]), 2_100, "rewrite_bytes"), (request(1, 0), 3_100, "response_bytes")]
    {
        let rig = Rig::with(narrow).await;
        let (mut client, session) = rig.client().await;
        client.write_all(&request).await.unwrap();
        let mut broker = rig.broker_side().await;
        broker.write_all(&response(1, bytes)).await.unwrap();
        assert_eq!(read_to_end(&mut client).await, b"", "{limit}");
        drop((client, broker));
        assert_eq!(ends(session).await, CloseReason::ResponseTooLarge(limit));
        assert_eq!(rig.count(&rig.environment.counting.metrics.limit_hits, limit), 1);
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_on_both_sides_but_not_one_that_waits() {
    let rig = Rig::with(|environment| environment.settings.idle_timeout = Duration::from_millis(300)).await;
    let (mut client, session) = rig.client().await;
    client.write_all(&request(1, 0)).await.unwrap();
    let mut broker = rig.broker_side().await;
    read(&mut broker, request(1, 0).len()).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    broker.write_all(&response(1, 9)).await.unwrap();
    assert!(read_to_end(&mut client).await == response(1, 9), "the answer, and then the end");
    assert_eq!(read_to_end(&mut broker).await, b"");
    drop((client, broker));
    assert_eq!(ends(session).await, CloseReason::Idle);
}

#[tokio::test]
async fn a_pipelining_client_whose_writes_end_within_a_head_is_not_stuck() {
    let rig = Rig::with(|environment| environment.settings.handshake_timeout = Duration::from_millis(400)).await;
    let (mut client, session) = rig.client().await;
    let all: Vec<u8> = (0..20).flat_map(|n| request(n, 0)).collect();
    let one = request(0, 0).len();
    let mut at = 0;
    for n in 0..15 {
        let to = n * one + 6;
        if client.write_all(&all[at..to]).await.is_err() {
            break;
        }
        at = to;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!session.is_finished(), "closed after {n} steps: {:?}", ends(session).await);
    }
}

#[tokio::test]
async fn a_broker_that_moved_while_a_request_was_in_flight_is_followed_afterwards() {
    let rig = Rig::new().await;
    let (mut client, _session) = rig.client().await;
    client.write_all(&request(1, 0)).await.unwrap();
    let mut old = rig.broker_side().await;
    read(&mut old, request(1, 0).len()).await;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    *rig.cluster.view.lock().unwrap() = view_of(&[(1, elsewhere.local_addr().unwrap().port())]);
    rig.cluster.generations.send(2).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    old.write_all(&response(1, 9)).await.unwrap();
    read(&mut client, response(1, 9).len()).await;
    client.write_all(&request(2, 0)).await.unwrap();
    timeout(Duration::from_secs(2), elsewhere.accept()).await.expect("the next request goes to the new place").unwrap();
}

#[tokio::test]
async fn small_reads_do_not_pin_a_read_buffer_each() {
    let rss = || -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    // A leg that stays opening: a listener whose backlog is full.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    silent.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    silent.listen(0).unwrap();
    let address = silent.local_addr().unwrap().as_socket().unwrap();
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(tokio::spawn(TcpStream::connect(address)));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let rig = Rig::new().await;
    *rig.cluster.view.lock().unwrap() = view_of(&[(1, address.port())]);
    let (mut client, _session) = rig.client().await;
    client.set_nodelay(true).unwrap();
    let large = request(1, MIB);
    let before = rss();
    let begun = Instant::now();
    client.write_all(&large[..64]).await.unwrap();
    let mut sent = 64;
    while sent < 60_000 && begun.elapsed() < Duration::from_secs(4) {
        client.write_all(&large[sent..sent + 1]).await.unwrap();
        sent += 1;
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
    let grown = rss().saturating_sub(before);
    assert!(grown < 4 * MIB, "{sent} bytes cost {grown} bytes");
}

#[tokio::test]
async fn what_was_answered_before_the_broker_closed_waits_for_a_client_that_pauses() {
    let rig = Rig::new().await;
    socket2::SockRef::from(&rig.front).set_send_buffer_size(32 * 1024).unwrap();
    socket2::SockRef::from(&rig.front).set_recv_buffer_size(32 * 1024).unwrap();
    let (mut client, session) = rig.client().await;
    socket2::SockRef::from(&client).set_recv_buffer_size(16 * 1024).unwrap();
    client.write_all(&request(1, 0)).await.unwrap();
    let mut broker = rig.broker_side().await;
    read(&mut broker, request(1, 0).len()).await;
    let whole = response(1, 250 * 1024);
    let sent = whole.clone();
    let writing = tokio::spawn(async move {
        broker.write_all(&sent).await.unwrap();
        broker.shutdown().await.unwrap();
        broker
    });
    // The application handles a batch for eight seconds and does not read meanwhile.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let mut got = Vec::new();
    let _ = timeout(Duration::from_secs(20), client.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got.len(), whole.len());
    drop(writing);
    drop(session);
}
