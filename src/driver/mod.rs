//! Carries out what the session core decides: sockets, buffers, timers, back-pressure; and counts.
//!
//! One task per session moves both directions. What is read on one side goes, undivided and uncopied, to the queue of the other;
//! where a queue is over `max_queued_bytes`, the reading that feeds it stops.
//!
//! Invariant: per connection at most one read's worth plus `max_queued_bytes` lies in memory, save frames that the core reads whole
//! (bounded by its own limits). Deliberately absent: any rule about where a request goes or what a response means.

mod closing;
mod counting;
mod diagnosis;
mod inbound;
mod leg;
mod noting;
mod nudges;
mod outbound;
mod session;
mod signals;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use counting::Counting;
pub use diagnosis::Diagnosis;
pub use nudges::Nudges;
pub use session::{Accepted, run};

use crate::cluster::{Endpoint, NodeId, Observation, View, Want};
use crate::rewrite::{Addresses, Masks, UnknownApis};
use crate::session::{Detours, Gate, Limits, Note};
use crate::transport::Connector;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes that wait to be written, per connection, before the other side is no longer read from.
    pub max_queued_bytes: usize,
    /// From a connection's start, or from a frame's first byte, to its whole head.
    pub handshake_timeout: Duration,
    /// Nothing in flight and nothing read for so long: close. Above the brokers' own `connections.max.idle.ms`, so that they decide.
    pub idle_timeout: Duration,
    /// After a client's FIN: how long its outstanding responses may take.
    pub half_close_timeout: Duration,
}

/// The cluster as sessions see it: the view, whom to tell what passing answers say, and how to ask for a fresh view.
pub trait Cluster: Send + Sync {
    fn view(&self) -> Arc<View>;
    /// Changes with every view whose brokers differ from those of the one before, and when a rehearsal begins or ends.
    fn generations(&self) -> watch::Receiver<u64>;
    /// Changes with every view, topics' leaders included.
    fn changes(&self) -> watch::Receiver<u64>;
    fn observe(&self, observation: Observation);
    /// Something was wrong with what the view said, and nobody waits for it to be put right. Returns at once.
    fn suspect(&self);
    /// Asks at once, as far as the pace of asking allows; `true` when a request that was written after this call and covers `wants`
    /// has been answered, or as soon as the view meets all of them, whoever taught it; `false` when no broker answered. Who drops the
    /// future withdraws nothing that is under way.
    fn refresh(&self, wants: Vec<Want>) -> Pin<Box<dyn Future<Output = bool> + Send>>;
    /// A client has used the port of a broker that has departed.
    fn departed_used(&self, _node: NodeId) {}
    /// What the core says happened, once it is counted.
    fn noticed(&self, _note: &Note) {}
    /// A connection to this broker was made.
    fn reached(&self, _node: NodeId) {}
    /// The broker that a rehearsal has treated as departed: no home leg leads to it.
    fn rehearsed(&self) -> Option<NodeId> {
        None
    }
    /// What a session met of a rehearsal.
    fn met(&self, _rehearsed: Met) {}
    fn bootstrap(&self) -> &[Endpoint];
}

/// What a rehearsal does to sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// Its home leg, open or about to be, was cut.
    Cut,
    /// None was made.
    Refused,
    /// Its client is closed while one goes on, since something could not be carried elsewhere.
    ClientClosed,
}

/// What all sessions of a process share.
pub struct Environment {
    pub settings: Settings,
    pub limits: Arc<Limits>,
    pub detours: Arc<Detours>,
    pub gate: Arc<Gate>,
    pub nudges: Nudges,
    pub unknown_apis: UnknownApis,
    pub masks: Masks,
    pub connector: Connector,
    pub cluster: Arc<dyn Cluster>,
    pub addresses: Arc<dyn Addresses>,
    pub counting: Counting,
    pub diagnosis: Diagnosis,
    /// Turns true when no new requests are to be taken.
    pub draining: watch::Receiver<bool>,
}
