//! From an accepted socket to a running session, and how many run where.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::driver::{Accepted, Environment, run};
use crate::listeners::{Accept, ConnectionPermit, VirtualBroker};
use crate::session::Port;

pub struct Sessions {
    environment: Arc<Environment>,
    tracker: TaskTracker,
    next_id: AtomicU64,
    /// Sessions of one virtual broker. Bounded by the ports there are.
    by_broker: Arc<Mutex<BTreeMap<VirtualBroker, u64>>>,
}

impl Sessions {
    pub fn new(environment: Arc<Environment>) -> Sessions {
        Sessions { environment, tracker: TaskTracker::new(), next_id: AtomicU64::new(1), by_broker: Arc::default() }
    }

    pub fn open(&self) -> usize {
        self.tracker.len()
    }

    pub fn of(&self, broker: VirtualBroker) -> u64 {
        self.by_broker.lock().unwrap_or_else(PoisonError::into_inner).get(&broker).copied().unwrap_or(0)
    }

    /// When no session is left. Only after accepting has stopped.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Accept for Sessions {
    fn accept(&self, to: VirtualBroker, socket: TcpStream, peer: SocketAddr, permit: ConnectionPermit) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let port = match to {
            VirtualBroker::Bootstrap => Port::Bootstrap,
            VirtualBroker::Node(node) => Port::Node(node),
        };
        // Only a socket that is dead already has none.
        let local_port = socket.local_addr().map_or(0, |address| address.port());
        let accepted = Accepted { socket, peer, port, local_port };
        let span = tracing::debug_span!("session", session = id, %peer, broker = %to);
        let environment = self.environment.clone();
        let counted = Counted::new(self.by_broker.clone(), to);
        let session = async move {
            run(environment, accepted).await;
            drop((permit, counted));
        };
        self.tracker.spawn(session.instrument(span));
    }
}

/// One session in the count of its virtual broker, however it ends.
struct Counted {
    by_broker: Arc<Mutex<BTreeMap<VirtualBroker, u64>>>,
    broker: VirtualBroker,
}

impl Counted {
    fn new(by_broker: Arc<Mutex<BTreeMap<VirtualBroker, u64>>>, broker: VirtualBroker) -> Counted {
        *by_broker.lock().unwrap_or_else(PoisonError::into_inner).entry(broker).or_default() += 1;
        Counted { by_broker, broker }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(count) = self.by_broker.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&self.broker) {
            *count = count.saturating_sub(1);
        }
    }
}
