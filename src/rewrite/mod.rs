//! Addresses and versions in responses: what a client may see of the cluster. One file per API.
//!
//! Invariant: what a rewrite does not concern keeps its bytes. Deliberately absent: IO, clocks, and any decision about where to send things.

mod api_versions;
mod describe_cluster;
mod find_coordinator;
mod join_produce;
mod masks;
mod merge_produce;
mod metadata;
mod nodes;
mod produce;
mod share_acknowledge;
mod share_fetch;
mod split_produce;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

pub use self::api_versions::unsupported_api_versions;
pub use self::join_produce::{Share, join_produce, may_join};
pub use self::masks::{Masked, MaskedErrors, Masks};
pub use self::merge_produce::{Merge, Merged, merge_produce, virtual_endpoints};
pub use self::split_produce::split_produce;
use crate::cluster::{Endpoint, NodeId, Observation, View};
use crate::wire::{ApiKey, EditError, Malformed};

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
    pub now: Instant,
    pub masks: Masks,
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
    pub masked: Masked,
}

impl Rewritten {
    /// Nothing was masked.
    fn new(frame: Bytes, observation: Option<Observation>) -> Rewritten {
        Rewritten { frame, observation, masked: Masked::default() }
    }
}

/// Whether responses of this API and version name brokers or versions, and so must be read whole and rewritten.
///
/// It is so too for versions that are newer than what `response` can rewrite: they fail there, rather than pass with real addresses.
#[inline]
pub fn concerns(api: ApiKey, version: i16) -> bool {
    match api {
        ApiKey::METADATA | ApiKey::FIND_COORDINATOR | ApiKey::DESCRIBE_CLUSTER | ApiKey::API_VERSIONS => true,
        ApiKey::SHARE_FETCH | ApiKey::SHARE_ACKNOWLEDGE => true,
        ApiKey::PRODUCE => version >= crate::wire::produce::FIRST_VERSION_WITH_HINTS,
        ApiKey::FETCH => version >= FIRST_FETCH_WITH_ENDPOINTS,
        _ => false,
    }
}

/// The first Fetch version whose response names brokers (KIP-951), behind the records. ApiVersions is clamped below it.
const FIRST_FETCH_WITH_ENDPOINTS: i16 = 16;

/// Rewrites one whole response. `frame` begins with its length prefix; `version` is the request's.
///
/// # Errors
/// The frame does not fit the version's layout, or the layout is not known. What came must not be relayed then: it may carry addresses.
pub fn response(api: ApiKey, version: i16, frame: &Bytes, context: &Context<'_>) -> Result<Rewritten, RewriteError> {
    let rewritten = match api {
        ApiKey::METADATA => metadata::rewrite(version, frame, context),
        ApiKey::FIND_COORDINATOR => find_coordinator::rewrite(version, frame, context),
        ApiKey::DESCRIBE_CLUSTER => describe_cluster::rewrite(version, frame, context),
        ApiKey::API_VERSIONS => api_versions::rewrite(version, frame, context),
        ApiKey::PRODUCE if concerns(api, version) => produce::rewrite(version, frame, context),
        ApiKey::SHARE_FETCH => share_fetch::rewrite(version, frame, context),
        ApiKey::SHARE_ACKNOWLEDGE => share_acknowledge::rewrite(version, frame, context),
        ApiKey::FETCH if concerns(api, version) => Err(Failure("this version names brokers behind its records")),
        _ => Ok(Rewritten::new(frame.clone(), None)),
    };
    rewritten.map_err(|Failure(what)| RewriteError { api, version, what })
}

/// A rewrite's failure, before the API and version that it happened to are added.
#[derive(Debug)]
struct Failure(&'static str);

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Failure(malformed.what)
    }
}

impl From<EditError> for Failure {
    fn from(error: EditError) -> Self {
        Failure(match error {
            EditError::Misplaced => "its parts overlap",
            EditError::StringTooLong(_) => "an advertised host name is too long",
            EditError::FrameTooLarge => "it would grow over 2 GiB",
        })
    }
}

#[cfg(test)]
mod tests;
