//! One upstream connection's sockets and buffers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::net::TcpStream;

use super::inbound::Inbound;
use super::outbound::Outbound;
use crate::session::LegId;
use crate::wire::{ApiKey, EndpointSkimmer};

/// The index of the target that answered, and the connection; `None`: none did.
pub type Opening = Pin<Box<dyn Future<Output = Option<(usize, TcpStream)>> + Send>>;

pub enum Socket {
    /// The flag turns true when it is its turn to connect; `None`: the core knows.
    Opening(Opening, Option<Arc<AtomicBool>>),
    Up(TcpStream),
}

pub struct Leg {
    pub id: LegId,
    pub socket: Socket,
    pub inbound: Inbound,
    pub outbound: Outbound,
    /// What the response that is being relayed passes through.
    pub skimmer: Option<(ApiKey, EndpointSkimmer)>,
    /// The core said `HoldLeg`: unread until it says otherwise.
    pub held: bool,
}

impl Leg {
    pub fn new(id: LegId, opening: Opening, connecting: Arc<AtomicBool>, outbound: Outbound) -> Leg {
        Leg { id, socket: Socket::Opening(opening, Some(connecting)), inbound: Inbound::new(), outbound, skimmer: None, held: false }
    }
}
