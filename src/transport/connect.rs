//! One attempt to reach an endpoint: all addresses of its name, one after the other, with a head start each.
//!
//! Invariant: an attempt ends within `connect_timeout`. Deliberately absent: repeating it, and caching what a name resolved to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

use super::{ConnectBudget, Connection, Settings, prepare, staggered};
use crate::cluster::Endpoint;

/// Of the addresses that a name has.
const ADDRESSES_MAX: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{endpoint}: the name does not resolve: {source}")]
    Resolve { endpoint: Endpoint, source: io::Error },
    #[error("{endpoint}: connection refused")]
    Refused { endpoint: Endpoint, source: io::Error },
    #[error("{endpoint}: no connection within {after:?}")]
    Timeout { endpoint: Endpoint, after: Duration },
    #[error("{endpoint}: too many connects to it at once; no turn within {after:?}")]
    Budget { endpoint: Endpoint, after: Duration },
    #[error("{endpoint}: unreachable: {source}")]
    Unreachable { endpoint: Endpoint, source: io::Error },
    #[error("{endpoint}: {source}")]
    Other { endpoint: Endpoint, source: io::Error },
}

impl ConnectError {
    /// One of a few words, fit for a metric's label.
    pub fn reason(&self) -> &'static str {
        match self {
            ConnectError::Resolve { .. } => "resolve",
            ConnectError::Refused { .. } => "refused",
            ConnectError::Timeout { .. } => "timeout",
            ConnectError::Budget { .. } => "budget",
            ConnectError::Unreachable { .. } => "unreachable",
            ConnectError::Other { .. } => "other",
        }
    }

    pub fn endpoint(&self) -> &Endpoint {
        match self {
            ConnectError::Resolve { endpoint, .. }
            | ConnectError::Refused { endpoint, .. }
            | ConnectError::Timeout { endpoint, .. }
            | ConnectError::Budget { endpoint, .. }
            | ConnectError::Unreachable { endpoint, .. }
            | ConnectError::Other { endpoint, .. } => endpoint,
        }
    }

    fn of(endpoint: &Endpoint, source: io::Error, settings: &Settings) -> ConnectError {
        let endpoint = endpoint.clone();
        match source.kind() {
            io::ErrorKind::ConnectionRefused => ConnectError::Refused { endpoint, source },
            io::ErrorKind::TimedOut => ConnectError::Timeout { endpoint, after: settings.connect_timeout },
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
                ConnectError::Unreachable { endpoint, source }
            }
            _ => ConnectError::Other { endpoint, source },
        }
    }
}

/// Makes connections to brokers. Cloning shares the settings and the budget.
#[derive(Clone, Debug)]
pub struct Connector {
    settings: Arc<Settings>,
    budget: Arc<ConnectBudget>,
}

impl Connector {
    pub fn new(settings: Settings) -> Connector {
        let budget = Arc::new(ConnectBudget::new(settings.connects_per_second_per_broker));
        Connector { settings: Arc::new(settings), budget }
    }

    pub fn budget(&self) -> &ConnectBudget {
        &self.budget
    }

    /// Resolves the endpoint's name and connects to the first of its addresses that answers, when it is its turn.
    ///
    /// # Errors
    /// Of the last address that failed; `Timeout` or `Budget` after `connect_timeout`.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, ConnectError> {
        self.connect_in_turn(endpoint, || ()).await
    }

    /// As `connect`; `begin` is called when its turn has come.
    ///
    /// # Errors
    /// As `connect`.
    pub async fn connect_in_turn(&self, endpoint: &Endpoint, begin: impl FnOnce()) -> Result<Connection, ConnectError> {
        let after = self.settings.connect_timeout;
        let deadline = Instant::now() + after;
        let turn = timeout_at(deadline, self.budget.ordered(endpoint)).await;
        turn.map_err(|_| ConnectError::Budget { endpoint: endpoint.clone(), after })?;
        begin();
        self.connect_until(endpoint, deadline).await
    }

    /// As `connect`, without waiting for a turn: for the few connections that all others wait for.
    ///
    /// # Errors
    /// Of the last address that failed; `Timeout` after `connect_timeout`.
    pub async fn connect_ahead(&self, endpoint: &Endpoint) -> Result<Connection, ConnectError> {
        self.budget.ahead(endpoint);
        self.connect_until(endpoint, Instant::now() + self.settings.connect_timeout).await
    }

    async fn connect_until(&self, endpoint: &Endpoint, deadline: Instant) -> Result<Connection, ConnectError> {
        let settings = &*self.settings;
        let late = || ConnectError::Timeout { endpoint: endpoint.clone(), after: settings.connect_timeout };
        let addresses = timeout_at(deadline, resolve(endpoint)).await.map_err(|_| late())?;
        let addresses = addresses.map_err(|source| ConnectError::Resolve { endpoint: endpoint.clone(), source })?;
        let connected = timeout_at(deadline, first_of(addresses)).await.map_err(|_| late())?;
        let stream = connected.map_err(|source| ConnectError::of(endpoint, source, settings))?;
        prepare(&stream, settings).map_err(|source| ConnectError::of(endpoint, source, settings))?;
        Ok(stream)
    }
}

/// The addresses of the endpoint's name, in random order, so that many proxies do not all choose the first.
async fn resolve(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<SocketAddr> = lookup_host((&*endpoint.host, endpoint.port)).await?.take(ADDRESSES_MAX).collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
    }
    fastrand::shuffle(&mut addresses);
    Ok(addresses)
}

async fn first_of(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    if let [only] = addresses[..] {
        return connect_one(only).await;
    }
    let mut last_error = io::Error::from(io::ErrorKind::NotFound);
    staggered(addresses.into_iter().map(connect_one), |error| last_error = error).await.ok_or(last_error)
}

async fn connect_one(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::super::stagger::HEAD_START;
    use super::*;

    fn connector(connect_timeout: Duration) -> Connector {
        Connector::new(Settings {
            connect_timeout,
            keepalive: Duration::from_secs(60),
            user_timeout: Some(Duration::from_secs(30)),
            connects_per_second_per_broker: 50,
        })
    }

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.into(), port }
    }

    #[tokio::test]
    async fn connects_by_name_and_sets_the_options() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = connector(Duration::from_secs(5)).connect(&endpoint("localhost", port)).await.unwrap();
        assert!(stream.nodelay().unwrap());
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(30)));
    }

    #[tokio::test]
    async fn says_why_it_could_not() {
        let closed = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().port()
        };
        let connector = connector(Duration::from_secs(5));
        let refused = connector.connect(&endpoint("127.0.0.1", closed)).await.unwrap_err();
        assert_eq!(refused.reason(), "refused");
        assert!(refused.to_string().starts_with(&format!("127.0.0.1:{closed}: connection refused")), "{refused}");
        let unresolved = connector.connect(&endpoint("no-such-broker.invalid", 9092)).await.unwrap_err();
        assert_eq!(unresolved.reason(), "resolve");
    }

    #[tokio::test]
    async fn over_the_budget_a_connect_waits_for_its_turn_and_no_longer_than_it_may() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let broker = endpoint("127.0.0.1", listener.local_addr().unwrap().port());
        let connector = Connector::new(Settings { connects_per_second_per_broker: 2, ..*connector(Duration::from_millis(300)).settings });
        let mut held = Vec::new();
        for _ in 0..2 {
            held.push(connector.connect(&broker).await.unwrap());
        }
        let refused = connector.connect(&broker).await.unwrap_err();
        assert_eq!(refused.reason(), "budget");
        assert!(refused.to_string().contains("too many connects"), "{refused}");
        held.push(connector.connect_ahead(&broker).await.unwrap());
        assert_eq!(connector.budget().delayed(), 1);
    }

    #[tokio::test]
    async fn a_dead_address_of_a_name_does_not_hide_a_live_one() {
        let listener = TcpListener::bind("127.0.0.3:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        let dead = SocketAddr::new([127, 0, 0, 2].into(), live.port());
        let stream = first_of(vec![dead, live]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live);
        let error = first_of(vec![dead, dead]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn a_silent_address_of_a_name_holds_up_the_next_only_for_its_head_start() {
        // A listener whose backlog is full leaves connection requests unanswered.
        let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        silent.listen(0).unwrap();
        let silent_address = silent.local_addr().unwrap().as_socket().unwrap();
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(tokio::spawn(connect_one(silent_address)));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let live = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live_address = live.local_addr().unwrap();
        let begun = Instant::now();
        let stream = first_of(vec![silent_address, live_address]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live_address);
        assert!(begun.elapsed() >= HEAD_START && begun.elapsed() < HEAD_START * 5, "{:?}", begun.elapsed());

        let error = connector(Duration::from_millis(200))
            .connect(&endpoint("127.0.0.1", silent_address.port()))
            .await
            .expect_err("its backlog is full");
        assert_eq!(error.reason(), "timeout");
    }
}
