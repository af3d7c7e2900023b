//! The one table of which requests are looked into: every other is relayed unread past its head.

use super::Refusal;
use crate::rewrite::UnknownApis;
use crate::wire::{ApiKey, Head};

/// What a request's head alone decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// The request passes unread; whether its response does is `rewrite::concerns`' to say, once that comes.
    Opaque,
    /// ApiVersions 0–4: the request is read for the client's software (KIP-511), the response rewritten.
    ApiVersions,
    /// ApiVersions 5 and above: answered by the core with error 35 and the versions that we serve, as a broker that is too old does
    /// (Kafka: `ApiVersionsRequest.getErrorResponse`, KIP-511).
    ApiVersionsTooNew,
    /// Produce with `acks=0`: no response follows.
    Unanswered,
    Refuse(Refusal),
}

pub fn treatment(head: &Head, unknown_apis: UnknownApis) -> Treatment {
    let spec = match head.api.spec() {
        Some(spec) if !spec.between_servers => spec,
        None if unknown_apis == UnknownApis::Pass => return Treatment::Opaque,
        _ => return Treatment::Refuse(Refusal::UnknownApi(head.api.0)),
    };
    if head.version > spec.max_version || head.version < 0 {
        if head.api == ApiKey::API_VERSIONS && head.version > 0 {
            return Treatment::ApiVersionsTooNew;
        }
        return Treatment::Refuse(Refusal::UnsupportedVersion { api: head.api, version: head.version, max: spec.max_version });
    }
    match head.api {
        ApiKey::API_VERSIONS => Treatment::ApiVersions,
        ApiKey::SASL_HANDSHAKE if head.version == 0 => Treatment::Refuse(Refusal::RawSasl),
        ApiKey::PRODUCE if head.produce.is_some_and(|produce| produce.acks == 0) => Treatment::Unanswered,
        _ => Treatment::Opaque,
    }
}
