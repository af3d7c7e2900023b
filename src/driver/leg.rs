//! One upstream connection's sockets and buffers.

use std::pin::Pin;

use tokio::net::TcpStream;

use super::inbound::Inbound;
use super::outbound::Outbound;
use crate::session::LegId;
use crate::wire::{ApiKey, EndpointSkimmer};

/// The index of the target that answered, and the connection; `None`: none did.
pub type Opening = Pin<Box<dyn Future<Output = Option<(usize, TcpStream)>> + Send>>;

pub enum Socket {
    Opening(Opening),
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
    pub fn new(id: LegId, opening: Opening, outbound: Outbound) -> Leg {
        Leg { id, socket: Socket::Opening(opening), inbound: Inbound::new(), outbound, skimmer: None, held: false }
    }
}
