//! On 127.0.0.1, with ports that the system gives.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::metrics::Metrics;
use crate::rewrite::Addresses;
use crate::transport;

const PATIENCE: Duration = Duration::from_secs(5);

fn plan(ports: &[(i32, u16)], overflow: Option<RangeInclusive<u16>>) -> Plan {
    Plan {
        bootstrap: SocketAddr::from(([127, 0, 0, 1], 0)),
        advertised_host: "kafka.local".into(),
        ports: ports.iter().map(|(node, port)| (NodeId(*node), *port)).collect::<BTreeMap<_, _>>(),
        overflow,
        max_connections: 100,
    }
}

/// Consecutive ports that were free a moment ago, below the range that the system gives to connections.
fn free_range(len: u16) -> RangeInclusive<u16> {
    for _ in 0..200 {
        let first = fastrand::u16(10_000..30_000);
        let range = first..=first + len - 1;
        if range.clone().all(|port| StdListener::bind(("127.0.0.1", port)).is_ok()) {
            return range;
        }
    }
    panic!("no {len} free ports in a row");
}

struct Channel(mpsc::UnboundedSender<(VirtualBroker, TcpStream, ConnectionPermit)>);

impl Accept for Channel {
    fn accept(&self, to: VirtualBroker, stream: TcpStream, _peer: SocketAddr, permit: ConnectionPermit) {
        let _ = self.0.send((to, stream, permit));
    }
}

struct Serving {
    ports: Arc<Ports>,
    bootstrap: SocketAddr,
    metrics: Metrics,
    shutdown: CancellationToken,
    accepted: mpsc::UnboundedReceiver<(VirtualBroker, TcpStream, ConnectionPermit)>,
    task: JoinHandle<()>,
}

fn serving(plan: &Plan) -> Serving {
    let metrics = Metrics::new();
    let bound = bind(plan, &metrics).unwrap();
    let (sender, accepted) = mpsc::unbounded_channel();
    let transport = transport::Settings {
        connect_timeout: PATIENCE,
        keepalive: PATIENCE,
        user_timeout: Some(PATIENCE),
        connects_per_second_per_broker: 50,
    };
    let shutdown = CancellationToken::new();
    let (ports, bootstrap) = (bound.ports().clone(), bound.bootstrap());
    let task = tokio::spawn(serve(bound, Arc::new(Channel(sender)), transport, metrics.clone(), shutdown.clone()));
    Serving { ports, bootstrap, metrics, shutdown, accepted, task }
}

impl Serving {
    async fn accepted(&mut self) -> (VirtualBroker, TcpStream, ConnectionPermit) {
        timeout(PATIENCE, self.accepted.recv()).await.expect("a connection is accepted in time").expect("the loop lives")
    }
}

async fn connect(port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect(("127.0.0.1", port)).await
}

#[tokio::test]
async fn each_port_is_its_virtual_brokers() {
    let mut serving = serving(&plan(&[(7, 0), (8, 0)], None));
    let told = serving.ports.advertised(NodeId(8)).unwrap();
    assert_eq!(&*told.host, "kafka.local");
    let _eight = connect(told.port).await.unwrap();
    let (to, stream, _permit) = serving.accepted().await;
    assert_eq!(to, VirtualBroker::Node(NodeId(8)));
    assert!(stream.nodelay().unwrap(), "a small answer must not wait for an acknowledgement");
    assert_eq!(socket2::SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(PATIENCE));
    let _seven = connect(serving.ports.advertised(NodeId(7)).unwrap().port).await.unwrap();
    assert_eq!(serving.accepted().await.0, VirtualBroker::Node(NodeId(7)));
    let _bootstrap = TcpStream::connect(serving.bootstrap).await.unwrap();
    assert_eq!(serving.accepted().await.0, VirtualBroker::Bootstrap);
    assert_eq!(serving.metrics.virtual_brokers.get(), 2);
}

#[test]
fn all_ports_that_cannot_be_bound_are_named_at_once() {
    let held = [StdListener::bind("127.0.0.1:0").unwrap(), StdListener::bind("127.0.0.1:0").unwrap()];
    let [one, two] = [&held[0], &held[1]].map(|held| held.local_addr().unwrap().port());
    let errors = bind(&plan(&[(1, one), (2, 0), (3, two)], None), &Metrics::new()).unwrap_err();
    let nodes: Vec<_> = errors.0.iter().map(|error| (error.virtual_broker, error.address.port())).collect();
    assert_eq!(nodes, [(VirtualBroker::Node(NodeId(1)), one), (VirtualBroker::Node(NodeId(3)), two)]);
    assert!(errors.to_string().contains(&format!("127.0.0.1:{two}, the port of node id 3")), "{errors}");
    drop(held);
}

#[tokio::test]
async fn an_unplanned_id_has_a_port_that_listens_at_once_and_for_good() {
    let range = free_range(3);
    let mut serving = serving(&plan(&[(1, 0)], Some(range.clone())));
    let first = serving.ports.advertised(NodeId(500)).unwrap();
    let _client = connect(first.port).await.expect("it listens by the time it is advertised");
    assert_eq!(serving.accepted().await.0, VirtualBroker::Node(NodeId(500)));
    let second = serving.ports.advertised(NodeId(600)).unwrap();
    assert_eq!((first.port, second.port), (*range.start(), *range.start() + 1));
    assert_eq!(serving.ports.advertised(NodeId(500)), Some(first), "and keeps it");
    assert_eq!(serving.ports.advertised(NodeId(-1)), None, "a negative id is no broker");
    let overflow: Vec<_> = serving.ports.all().iter().map(|port| (port.node.0, port.overflow)).collect();
    assert_eq!(overflow, [(1, false), (500, true), (600, true)]);
    assert_eq!(serving.metrics.virtual_brokers.get(), 3);
}

#[tokio::test]
async fn a_taken_port_of_the_range_is_passed_over_and_an_empty_range_counted() {
    let range = free_range(3);
    let _taken = StdListener::bind(("127.0.0.1", *range.start())).unwrap();
    let serving = serving(&plan(&[], Some(range.clone())));
    let port = |node| serving.ports.advertised(NodeId(node)).map(|told| told.port);
    assert_eq!([port(1), port(2), port(3)], [Some(range.start() + 1), Some(range.start() + 2), None]);
    assert_eq!(port(1), Some(range.start() + 1));
    assert_eq!(serving.metrics.limit_hits.with_label_values(&["overflow_ports"]).get(), 1);
}

#[test]
fn without_a_range_an_unplanned_id_has_no_port() {
    let metrics = Metrics::new();
    let bound = bind(&plan(&[], None), &metrics).unwrap();
    assert_eq!(bound.ports().advertised(NodeId(4)), None);
    assert_eq!(metrics.limit_hits.with_label_values(&["overflow_ports"]).get(), 1);
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_at_once_and_a_free_place_is_used_again() {
    let mut plan = plan(&[], None);
    plan.max_connections = 1;
    let mut serving = serving(&plan);
    let _first = TcpStream::connect(serving.bootstrap).await.unwrap();
    let (_, _stream, permit) = serving.accepted().await;
    let mut second = TcpStream::connect(serving.bootstrap).await.unwrap();
    let read = timeout(PATIENCE, second.read(&mut [0])).await.expect("it is closed in time");
    assert!(matches!(read, Ok(0) | Err(_)));
    assert_eq!(serving.metrics.accepts_refused.with_label_values(&["max_connections"]).get(), 1);
    drop(permit);
    let _third = TcpStream::connect(serving.bootstrap).await.unwrap();
    serving.accepted().await;
}

#[tokio::test]
async fn shutdown_closes_the_listening_sockets_and_leaves_connections() {
    let range = free_range(2);
    let mut serving = serving(&plan(&[(1, 0)], Some(range)));
    let planned = serving.ports.advertised(NodeId(1)).unwrap().port;
    let overflow = serving.ports.advertised(NodeId(2)).unwrap().port;
    let mut client = connect(planned).await.unwrap();
    let (_, stream, _permit) = serving.accepted().await;
    serving.shutdown.cancel();
    timeout(PATIENCE, &mut serving.task).await.expect("it ends in time").unwrap();
    for port in [planned, overflow, serving.bootstrap.port()] {
        assert!(connect(port).await.is_err(), "{port} still listens");
    }
    assert_eq!(serving.ports.advertised(NodeId(3)), None, "no port is opened any more");
    assert!(timeout(Duration::from_millis(50), client.read(&mut [0])).await.is_err(), "an accepted connection lives on");
    drop(stream);
}
