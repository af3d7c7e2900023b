//! Addresses and versions in responses: what a client may see of the cluster. One file per API.
//!
//! Invariant: what a rewrite does not concern keeps its bytes. Deliberately absent: IO, and any decision about where to send things.

use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::{Endpoint, NodeId, Observation, View};
use crate::wire::ApiKey;

/// Where clients reach a virtual broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    pub host: Arc<str>,
    pub port: u16,
}

/// The virtual brokers' addresses.
pub trait Addresses: Send + Sync {
    /// The address of `node`'s virtual broker, whose port listens by the time this returns. `None`: no port is left for it.
    fn advertised(&self, node: NodeId) -> Option<Advertised>;
}

/// What a rewrite needs to know besides the response itself.
pub struct Context<'a> {
    pub addresses: &'a dyn Addresses,
    pub view: &'a View,
    /// The broker that answered, where that is known (on the bootstrap port only its address may be).
    pub from_node: Option<NodeId>,
    pub from_endpoint: Option<&'a Endpoint>,
    pub unknown_apis: UnknownApis,
}

/// What becomes of API keys that this build does not know: they may carry addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownApis {
    /// Not listed in ApiVersions; a request that comes all the same closes the connection, as at a broker.
    #[default]
    Hide,
    Pass,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} v{version}: {what}", api.name())]
pub struct RewriteError {
    pub api: ApiKey,
    pub version: i16,
    pub what: &'static str,
}

/// A rewritten response.
#[derive(Debug)]
pub struct Rewritten {
    /// The whole frame with its length prefix; the very same `Bytes` where nothing had to change.
    pub frame: Bytes,
    /// What the cluster said, with its real addresses.
    pub observation: Option<Observation>,
}

/// Whether responses of this API and version name brokers or versions, and so must be read whole and rewritten.
pub fn concerns(_api: ApiKey, _version: i16) -> bool {
    false
}

/// Rewrites one whole response. `frame` begins with its length prefix; `version` is the request's.
pub fn response(_api: ApiKey, _version: i16, frame: &Bytes, _context: &Context<'_>) -> Result<Rewritten, RewriteError> {
    Ok(Rewritten { frame: frame.clone(), observation: None })
}
