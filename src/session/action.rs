//! What the core says: verdicts on one frame, and actions beside it.

use std::time::Instant;

use bytes::Bytes;

use super::gate::Member;
use super::note::Note;
use crate::cluster::{Endpoint, NodeId, Observation, Want};
use crate::wire::{ApiKey, HeadError, Stranger};

/// One life of an upstream connection of one session: a leg that is opened again has another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LegId(pub u32);

impl LegId {
    /// The first home leg (to the broker of the session's port), which most sessions have to their end.
    pub const HOME: LegId = LegId(0);
}

/// What becomes of a request whose head has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestVerdict {
    /// Its bytes go to that leg as they come.
    Relay(LegId),
    /// The same, and its bytes are kept: handed to `on_request_kept` in place of `on_request_end`. If the leg is gone before its last
    /// byte has come, the rest is only kept.
    RelayKeep(LegId),
    /// It is to be read whole and handed to `on_request_frame`.
    Read,
    /// Leave it where it is, and the client unread, until `Action::Resume`; then ask again.
    Wait,
    /// Drop its bytes: the core has answered it.
    Discard,
    /// Close the client; the reason is also queued as `Action::Close`.
    Refuse,
}

/// What becomes of a response whose head has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseVerdict {
    /// Its bytes go to the client as they come; `on_response_end` when the last one has been moved.
    Relay(Answer),
    /// As `Relay`, through a `wire::EndpointSkimmer`, which takes out the brokers' addresses behind its records.
    Skim(Answer),
    /// It is to be read whole and handed to `on_response_frame`.
    Read(Answer),
    /// Leave it where it is, and the leg unread, until `Action::ResumeLeg`; then ask again.
    HoldLeg,
    /// It answers nothing that was asked. The client is closed; the reason is also queued as `Action::Close`.
    Violation,
}

/// Which request a response answers: for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub api: ApiKey,
    pub version: i16,
    pub sent_at: Instant,
}

/// Where a leg may connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `None`: a bootstrap address, whose node id is not known.
    pub node: Option<NodeId>,
    pub endpoint: Endpoint,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect this leg to the first of these that answers, in this order of preference.
    Open { leg: LegId, targets: Vec<Target> },
    /// Write out what is queued for this leg, then close it.
    CloseLeg(LegId),
    /// Close this leg, and whatever of it can still be kept from its broker must not arrive there: it goes elsewhere.
    DropLeg(LegId),
    /// Queue these bytes for the leg.
    Send { leg: LegId, frame: Bytes },
    /// Queue these bytes for the client.
    Respond(Bytes),
    /// Read the client again.
    Resume,
    /// Read that leg again.
    ResumeLeg(LegId),
    /// The view may learn from this.
    Learn(Observation),
    /// The view seems to be stale: ask for a fresh one, and say `on_fresh` with this number when there was an answer.
    Refresh { token: u64, wants: Vec<Want> },
    /// These other sessions may go on: say `on_gate` to them.
    Wake(Vec<Member>),
    /// A broker that the cluster does not list is being used by a client.
    DepartedUsed(NodeId),
    /// Something happened that is counted.
    Note(Note),
    /// A response of this API was rewritten.
    Rewrote(ApiKey),
    /// Write out what is queued on both sides, then close everything.
    Close(CloseReason),
}

/// What became of a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegEvent {
    /// Its connect is under way: it had to wait for its turn.
    Connecting,
    /// Connected to the target of this index.
    Opened(usize),
    /// None of the targets could be connected to.
    Failed,
    /// The broker closed it, or it broke. `written_bytes`: of all that was queued for it, what the kernel has taken (with TLS: what has
    /// left the TLS layer).
    Closed { written_bytes: u64 },
}

/// Why a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// It sent FIN, and everything asked before was answered.
    ClientClosed,
    /// Its connection broke.
    ClientGone,
    /// It sent FIN, and the answers to what it had asked took too long.
    HalfCloseTimeout,
    /// No whole request head within the handshake's time.
    HandshakeTimeout,
    Idle,
    Refused(Refusal),
    /// The broker closed its connection, and something was lost that cannot be sent again.
    UpstreamClosed,
    UpstreamConnectFailed,
    /// A plain batch may have been applied, and the configuration leaves that to the client (`departures.ambiguous_produce: fail`).
    AmbiguousProduce,
    /// Batches with `acks=0` cannot be brought to their leaders: a closed connection is their only signal.
    Undeliverable,
    /// The port's broker is not listed by the cluster.
    BrokerNotListed,
    /// Nothing is known of the cluster yet, and it took too long.
    NoView,
    /// The broker now lives elsewhere, and this client has logged in at the old place.
    BrokerMoved,
    /// A response that answers nothing, or does not parse.
    UpstreamViolation,
    /// A response over a limit, named as in the configuration.
    ResponseTooLarge(&'static str),
    Drained,
}

impl CloseReason {
    /// The limit in the configuration that was reached, by its name there.
    pub fn limit(self) -> Option<&'static str> {
        match self {
            CloseReason::ResponseTooLarge(limit) => Some(limit),
            CloseReason::Refused(Refusal::Head(HeadError::FrameTooLarge { .. })) => Some("request_bytes"),
            CloseReason::Refused(Refusal::Head(HeadError::HeadTooLarge { .. })) => Some("head_bytes"),
            _ => None,
        }
    }

    /// Its broker is gone, and something could not be carried elsewhere.
    pub fn is_for_want_of_a_broker(self) -> bool {
        matches!(
            self,
            CloseReason::UpstreamClosed
                | CloseReason::UpstreamConnectFailed
                | CloseReason::AmbiguousProduce
                | CloseReason::Undeliverable
                | CloseReason::BrokerNotListed
                | CloseReason::BrokerMoved
        )
    }

    /// A metric's label.
    pub fn as_str(self) -> &'static str {
        match self {
            CloseReason::ClientClosed => "client_closed",
            CloseReason::ClientGone => "client_gone",
            CloseReason::HalfCloseTimeout => "half_close_timeout",
            CloseReason::HandshakeTimeout => "handshake_timeout",
            CloseReason::Idle => "idle",
            CloseReason::Refused(_) => "bad_client",
            CloseReason::UpstreamClosed => "upstream_closed",
            CloseReason::UpstreamConnectFailed => "upstream_connect_failed",
            CloseReason::AmbiguousProduce => "ambiguous_produce",
            CloseReason::Undeliverable => "undeliverable",
            CloseReason::BrokerNotListed => "broker_not_listed",
            CloseReason::NoView => "no_view",
            CloseReason::BrokerMoved => "broker_moved",
            CloseReason::UpstreamViolation => "upstream_violation",
            CloseReason::ResponseTooLarge(_) => "response_too_large",
            CloseReason::Drained => "drained",
        }
    }
}

/// What a client sent that no broker would have answered either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Head(HeadError),
    #[error("API key {0} is not served through this proxy: it is for brokers among themselves, or unknown here (see unknown_apis)")]
    UnknownApi(i16),
    #[error("{} version {version} is above {max}, the highest that this proxy serves", api.name())]
    UnsupportedVersion { api: ApiKey, version: i16, max: i16 },
    #[error("SaslHandshake version 0 (tokens without Kafka's framing) is not supported")]
    RawSasl,
    #[error("the request does not parse: {0}")]
    Malformed(&'static str),
}

impl Refusal {
    /// A metric's label.
    pub fn kind(self) -> &'static str {
        match self {
            Refusal::Head(HeadError::Stranger(Stranger::Tls)) => "tls",
            Refusal::Head(HeadError::Stranger(Stranger::Http)) => "http",
            Refusal::Head(HeadError::Stranger(Stranger::Text)) => "text",
            Refusal::Head(HeadError::FrameTooLarge { .. }) => "frame_too_large",
            Refusal::Head(HeadError::HeadTooLarge { .. }) => "head_too_large",
            Refusal::Head(_) | Refusal::Malformed(_) => "malformed",
            Refusal::UnknownApi(_) => "unknown_api",
            Refusal::UnsupportedVersion { .. } => "unsupported_version",
            Refusal::RawSasl => "raw_sasl",
        }
    }
}
