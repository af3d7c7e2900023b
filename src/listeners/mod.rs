//! Virtual brokers: which node id has which port, binding, accepting, accept limits.
//!
//! Invariant: a port that was handed out for a node id belongs to that id for the life of the process, and listens.
//! Deliberately absent: what happens on an accepted connection.

mod accept;
mod ports;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

pub use accept::{Accept, ConnectionPermit, serve};
pub use ports::{BindError, BindErrors, Bound, Port, Ports, bind};

use crate::cluster::NodeId;

/// Which ports to bind, and what clients are told of them. Validated by `config`: no port twice, no id twice.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The bootstrap listener. Virtual brokers bind the same IP address.
    pub bootstrap: SocketAddr,
    /// The host that clients are told.
    pub advertised_host: Arc<str>,
    /// All bound at start. Ranges (`bootstrap.port() + 1 + id`, or from a first port of their own) and explicit pairs, flattened.
    pub ports: BTreeMap<NodeId, u16>,
    /// For ids outside `ports`: first free port, bound when the id is first heard of. `None`: no overflow range.
    pub overflow: Option<RangeInclusive<u16>>,
    pub max_connections: usize,
}

/// What a listener stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VirtualBroker {
    Bootstrap,
    Node(NodeId),
}

impl std::fmt::Display for VirtualBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            VirtualBroker::Bootstrap => f.write_str("bootstrap"),
            VirtualBroker::Node(node) => node.fmt(f),
        }
    }
}
