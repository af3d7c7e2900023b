//! The one table of which requests are looked into, which may be sent again, and which only their own broker can answer: every other is
//! relayed unread past its head.

use super::Refusal;
use crate::rewrite::UnknownApis;
use crate::wire::{ApiKey, Head};

/// What a request's head alone decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// The request passes unread; whether its response does is `rewrite::concerns`' to say, once that comes.
    Opaque,
    /// As `Opaque`, and any broker may answer it, twice if need be: it is kept until it is answered.
    Anywhere,
    /// ApiVersions 0–4: the request is read for the client's software (KIP-511), the response rewritten.
    ApiVersions,
    /// ApiVersions 5 and above: answered by the core with error 35 and the versions that we serve, as a broker that is too old does
    /// (Kafka: `ApiVersionsRequest.getErrorResponse`, KIP-511).
    ApiVersionsTooNew,
    /// Produce that is answered: kept until then.
    Produce,
    /// Produce with `acks=0`: no response follows.
    Unanswered,
    /// EndTxn, InitProducerId: while batches are on the move it is read, since a batch must not land behind an abort marker.
    EndsTransaction,
    Refuse(Refusal),
}

/// Which broker can answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Any.
    Any,
    /// The one that the client meant, as long as the cluster lists it; others have the true error (they do not lead, or coordinate).
    ItselfWhileListed,
    /// Only the one that the client meant: its state (fetch sessions, KIP-227), or facts about itself.
    Itself,
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
        ApiKey::PRODUCE => Treatment::Produce,
        ApiKey::METADATA | ApiKey::FIND_COORDINATOR | ApiKey::DESCRIBE_CLUSTER => Treatment::Anywhere,
        ApiKey::INIT_PRODUCER_ID | ApiKey::END_TXN => Treatment::EndsTransaction,
        _ => Treatment::Opaque,
    }
}

pub fn reach(api: ApiKey) -> Reach {
    match api {
        ApiKey::FETCH | ApiKey::SHARE_FETCH | ApiKey::SHARE_ACKNOWLEDGE => Reach::Itself,
        ApiKey::SASL_HANDSHAKE | ApiKey::SASL_AUTHENTICATE => Reach::Itself,
        ApiKey::LIST_GROUPS | ApiKey::LIST_TRANSACTIONS | ApiKey::DESCRIBE_PRODUCERS => Reach::Itself,
        ApiKey::DESCRIBE_CONFIGS | ApiKey::ALTER_CONFIGS | ApiKey::INCREMENTAL_ALTER_CONFIGS => Reach::Itself,
        ApiKey::ALTER_REPLICA_LOG_DIRS | ApiKey::DESCRIBE_LOG_DIRS => Reach::Itself,
        ApiKey::METADATA | ApiKey::FIND_COORDINATOR | ApiKey::DESCRIBE_CLUSTER | ApiKey::API_VERSIONS => Reach::Any,
        _ => Reach::ItselfWhileListed,
    }
}

/// What a client sends to the leader or the coordinator that it believes a broker to be. Metadata, descriptions and lists, which it may
/// ask of anyone, say nothing of that.
pub fn is_work(api: ApiKey) -> bool {
    // Produce to ListOffsets; offsets and groups; producers and transactions; groups of the newer protocols, share and streams.
    matches!(api.0, 0..=2 | 8 | 9 | 11..=14 | 22..=26 | 28 | 68 | 76 | 78 | 79 | 88)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_what_a_client_must_send_to_one_broker() {
        let work: Vec<&str> = (0..95).map(ApiKey).filter(|api| is_work(*api)).map(ApiKey::name).collect();
        assert_eq!(
            work,
            [
                "Produce",
                "Fetch",
                "ListOffsets",
                "OffsetCommit",
                "OffsetFetch",
                "JoinGroup",
                "Heartbeat",
                "LeaveGroup",
                "SyncGroup",
                "InitProducerId",
                "OffsetForLeaderEpoch",
                "AddPartitionsToTxn",
                "AddOffsetsToTxn",
                "EndTxn",
                "TxnOffsetCommit",
                "ConsumerGroupHeartbeat",
                "ShareGroupHeartbeat",
                "ShareFetch",
                "ShareAcknowledge",
                "StreamsGroupHeartbeat",
            ]
        );
    }
}
