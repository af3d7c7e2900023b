//! Connections to brokers and from clients: resolve, connect, socket options; TLS and SASL come here.
//!
//! Invariant: nothing is remembered about an endpoint from one attempt to the next but how often it was connected to, so that a name
//! that did not resolve is asked for anew. Deliberately absent: which broker to connect to.

mod budget;
mod connect;
mod peer_gone;
mod socket;
mod stagger;

use std::time::Duration;

pub use budget::ConnectBudget;
pub use connect::{ConnectError, Connector};
pub use peer_gone::watch_peer_gone;
pub use socket::{drop_unsent, prepare};
pub use stagger::{staggered, staggered_by};

/// A connection, as sessions and discovery use it. One type for now; TLS makes it an enum of streams.
pub type Connection = tokio::net::TcpStream;

/// How upstream connections are made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// One attempt: name resolution and all addresses of the name together.
    pub connect_timeout: Duration,
    /// TCP keepalive, both sides.
    pub keepalive: Duration,
    /// How long written bytes may stay unacknowledged by the peer's TCP before the connection is closed (TCP_USER_TIMEOUT), both sides.
    /// `None`: the system's own limit.
    pub user_timeout: Option<Duration>,
    /// Connects to one broker's address, over all sessions and discovery; more wait for their turn.
    pub connects_per_second_per_broker: u32,
}
