//! SaslHandshake 0–1: no mechanism is enabled.
//!
//! Invariant: always error 33. Deliberately not here: any login.

use kafka_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};

use super::{Api, Call, Reply};
use crate::sim::cluster::Cluster;
use crate::sim::code;

pub(crate) struct SaslHandshake;

impl Api for SaslHandshake {
    type Request = SaslHandshakeRequest;

    fn handle(cluster: &mut Cluster, call: &Call, request: SaslHandshakeRequest) -> Reply {
        Self::refuse(cluster, call, request, code::UNSUPPORTED_SASL_MECHANISM)
    }

    fn refuse(_: &mut Cluster, call: &Call, _: SaslHandshakeRequest, error_code: i16) -> Reply {
        call.reply(&SaslHandshakeResponse::default().with_error_code(error_code))
    }
}
