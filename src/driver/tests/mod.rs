//! Sessions over real sockets, with a scripted broker behind them.

mod bounds;
mod ending;
mod relaying;

use std::sync::Mutex;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::cluster::{Broker, LearnLimits, MetadataObservation, Source, learn};
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

    fn changes(&self) -> watch::Receiver<u64> {
        self.generations.subscribe()
    }

    fn suspect(&self) {}

    fn refresh(&self, _wants: Vec<Want>) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        Box::pin(std::future::ready(true))
    }

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
                max_kept_bytes: 16 << 20,
            }),
            detours: Arc::default(),
            gate: Arc::new(Gate::new(256 << 20)),
            nudges: Nudges::default(),
            unknown_apis: UnknownApis::Hide,
            masks: Masks::default(),
            connector: Connector::new(transport::Settings {
                connect_timeout: Duration::from_secs(5),
                keepalive: Duration::from_secs(60),
                user_timeout: None,
                connects_per_second_per_broker: 50,
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
