//! Connections to brokers and from clients: resolve, connect, socket options; TLS and SASL come here.
//!
//! Deliberately absent: which broker to connect to.

use std::time::Duration;

/// How upstream connections are made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// One attempt: name resolution and all addresses of the name together.
    pub connect_timeout: Duration,
    /// TCP keepalive, both sides.
    pub keepalive: Duration,
}
