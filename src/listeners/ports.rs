//! Binding: the planned ports at start, those of the overflow range when a node id is first heard of.
//!
//! Invariant: what `advertised` returns listens already. Deliberately absent: accepting.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;

use super::{Plan, VirtualBroker};
use crate::cluster::NodeId;
use crate::metrics::Metrics;
use crate::rewrite::{Addresses, Advertised};

/// Connections that wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

#[derive(Debug, thiserror::Error)]
#[error("{address}, the port of {of}: {source}", of = Whose(*virtual_broker))]
pub struct BindError {
    pub virtual_broker: VirtualBroker,
    pub address: SocketAddr,
    pub source: io::Error,
}

struct Whose(VirtualBroker);

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            VirtualBroker::Bootstrap => f.write_str("the bootstrap listener"),
            VirtualBroker::Node(node) => write!(f, "node id {node}"),
        }
    }
}

/// Every port of the plan that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("{} of the planned ports cannot be bound:{}", .0.len(), lines(.0))]
pub struct BindErrors(pub Vec<BindError>);

fn lines(errors: &[BindError]) -> String {
    errors.iter().map(|error| format!("\n  {error}")).collect()
}

/// One virtual broker's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    pub node: NodeId,
    pub port: u16,
    /// From the overflow range: another copy of the proxy may give this node another port.
    pub overflow: bool,
}

/// A listening socket on its way to the accept loops.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) virtual_broker: VirtualBroker,
    pub(super) listener: TcpListener,
}

/// All planned ports, listening; `serve` accepts on them.
#[derive(Debug)]
pub struct Bound {
    pub(super) ports: Arc<Ports>,
    pub(super) planned: Vec<Listening>,
    pub(super) late: mpsc::UnboundedReceiver<Listening>,
    pub(super) max_connections: usize,
    bootstrap: SocketAddr,
}

impl Bound {
    pub fn ports(&self) -> &Arc<Ports> {
        &self.ports
    }

    /// Where the bootstrap listener is; its port is the system's choice if the plan said 0.
    pub fn bootstrap(&self) -> SocketAddr {
        self.bootstrap
    }
}

/// Binds the bootstrap port and all planned ports.
///
/// # Errors
/// Every port that could not be bound, at once; then none listens.
pub fn bind(plan: &Plan, metrics: &Metrics) -> Result<Bound, BindErrors> {
    let mut planned = Vec::with_capacity(plan.ports.len() + 1);
    let mut errors = Vec::new();
    let mut assigned = BTreeMap::new();
    let ip = plan.bootstrap.ip();
    let nodes = plan.ports.iter().map(|(node, port)| (VirtualBroker::Node(*node), SocketAddr::new(ip, *port)));
    for (virtual_broker, address) in [(VirtualBroker::Bootstrap, plan.bootstrap)].into_iter().chain(nodes) {
        match listen(address).and_then(|listener| Ok((listener.local_addr()?.port(), listener))) {
            Ok((port, listener)) => {
                if let VirtualBroker::Node(node) = virtual_broker {
                    assigned.insert(node, Port { node, port, overflow: false });
                }
                planned.push(Listening { virtual_broker, listener });
            }
            Err(source) => errors.push(BindError { virtual_broker, address, source }),
        }
    }
    if !errors.is_empty() {
        return Err(BindErrors(errors));
    }
    let bootstrap = planned.first().and_then(|first| first.listener.local_addr().ok()).unwrap_or(plan.bootstrap);
    metrics.virtual_brokers.set(i64::try_from(assigned.len()).unwrap_or(i64::MAX));
    let (to_accept, late) = mpsc::unbounded_channel();
    let state = State { assigned, overflow_left: plan.overflow.clone() };
    let ports = Ports {
        ip,
        advertised_host: plan.advertised_host.clone(),
        state: Mutex::new(state),
        // Bounded by the overflow range: each of its ports passes once.
        to_accept,
        metrics: metrics.clone(),
        warned_of_overflow: AtomicBool::new(false),
        warned_of_exhaustion: AtomicBool::new(false),
    };
    Ok(Bound { ports: Arc::new(ports), planned, late, max_connections: plan.max_connections, bootstrap })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted proxy takes its ports again while old connections linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The virtual brokers' ports: fixed ones, and a range for node ids that the plan does not have.
#[derive(Debug)]
pub struct Ports {
    ip: IpAddr,
    advertised_host: Arc<str>,
    state: Mutex<State>,
    to_accept: mpsc::UnboundedSender<Listening>,
    metrics: Metrics,
    warned_of_overflow: AtomicBool,
    warned_of_exhaustion: AtomicBool,
}

#[derive(Debug)]
struct State {
    assigned: BTreeMap<NodeId, Port>,
    /// Ports that nobody has tried yet.
    overflow_left: Option<RangeInclusive<u16>>,
}

impl Ports {
    /// Every virtual broker's port, by node id.
    pub fn all(&self) -> Vec<Port> {
        self.state().assigned.values().copied().collect()
    }

    pub fn advertised_host(&self) -> &Arc<str> {
        &self.advertised_host
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn port(&self, node: NodeId) -> Option<u16> {
        if node.0 < 0 {
            return None;
        }
        let mut state = self.state();
        if let Some(known) = state.assigned.get(&node) {
            return Some(known.port);
        }
        let port = self.bind_overflow(&mut state, node)?;
        state.assigned.insert(node, Port { node, port, overflow: true });
        self.metrics.virtual_brokers.inc();
        Some(port)
    }

    /// Binds the first port of the range that is free. One that another process has is not tried again; one that could not be bound for
    /// want of something else, such as file descriptors, is the next one's first choice.
    fn bind_overflow(&self, state: &mut State, node: NodeId) -> Option<u16> {
        while let Some(untried) = state.overflow_left.as_mut().filter(|range| !RangeInclusive::is_empty(range)) {
            let port = *untried.start();
            let address = SocketAddr::new(self.ip, port);
            match listen(address) {
                Ok(listener) => {
                    untried.next();
                    let listening = Listening { virtual_broker: VirtualBroker::Node(node), listener };
                    // Nobody accepts any more: the proxy is going down.
                    self.to_accept.send(listening).ok()?;
                    self.say_overflow(node, port);
                    return Some(port);
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {
                    untried.next();
                    tracing::debug!(%address, %error, "a port of the overflow range is taken");
                }
                Err(error) => {
                    tracing::error!(%address, %error, node_id = node.0, "no port can be bound for this broker now");
                    return None;
                }
            }
        }
        self.metrics.limit_hits.with_label_values(&["overflow_ports"]).inc();
        if !self.warned_of_exhaustion.swap(true, Ordering::Relaxed) {
            tracing::error!(
                node_id = node.0,
                "no port is left for this broker, so clients are not told of it: widen listen.node_ids or listen.overflow_ports"
            );
        }
        None
    }

    fn say_overflow(&self, node: NodeId, port: u16) {
        if self.warned_of_overflow.swap(true, Ordering::Relaxed) {
            tracing::info!(node_id = node.0, port, "a broker outside listen.node_ids has a port of the overflow range");
        } else {
            tracing::warn!(
                node_id = node.0,
                port,
                "a broker's node id is outside listen.node_ids; it has a port of the overflow range, which other copies of the proxy, \
                 or this one after a restart, may give to another broker: add the id to listen.node_ids"
            );
        }
    }
}

impl Addresses for Ports {
    fn advertised(&self, node: NodeId) -> Option<Advertised> {
        self.port(node).map(|port| Advertised { host: self.advertised_host.clone(), port })
    }
}
