//! The head of a frame: what can be decided before its body has arrived.

use super::ApiKey;

/// A range of bytes, counted from the frame's first byte (its length prefix).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

/// The head of a request. Numbers and offsets only; strings stay in the buffer that it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub api: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    /// The whole frame, its 4-byte length prefix included.
    pub frame_bytes: u32,
    /// `None`: a null client id.
    pub client_id: Option<Span>,
    /// Where the request's body begins (behind the header's tagged fields).
    pub body_at: u32,
    /// Only for Produce.
    pub produce: Option<ProduceHead>,
}

/// What a produce request says before its topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProduceHead {
    pub transactional_id: Option<Span>,
    pub acks: i16,
    pub timeout_ms: i32,
}

/// The first 8 bytes of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The whole frame, its 4-byte length prefix included.
    pub frame_bytes: u32,
    pub correlation_id: i32,
}

#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// The whole frame, its length prefix included.
    pub max_frame_bytes: u32,
    /// How far into the frame a head may reach.
    pub max_head_bytes: u32,
}

/// A protocol that is not Kafka's, recognised by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// A TLS ClientHello (record type 22, version 3.x).
    Tls,
    /// An HTTP method, or a response line.
    Http,
    /// SSH, a PROXY protocol line, and the like.
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("this looks like {0:?}, not Kafka's protocol")]
    Stranger(Stranger),
    #[error("a frame of {len} bytes is over the limit of {max} bytes")]
    FrameTooLarge { len: i64, max: u32 },
    #[error("a frame of {len} bytes cannot hold a header")]
    FrameTooSmall { len: i64 },
    #[error("the request's header does not fit into {max} bytes")]
    HeadTooLarge { max: u32 },
    #[error("the request's header is malformed: {what}")]
    Malformed { what: &'static str },
}

/// Parses the head of the request whose length prefix is at `buffer[0]`. `Ok(None)`: more bytes are needed.
///
/// Reads at most `max_head_bytes`; `buffer` may hold less or more than the frame.
pub fn parse_head(_buffer: &[u8], _limits: &HeadLimits) -> Result<Option<Head>, HeadError> {
    Ok(None)
}

/// Parses the head of the response whose length prefix is at `buffer[0]`. `Ok(None)`: more bytes are needed.
pub fn parse_response_head(_buffer: &[u8], _max_frame_bytes: u32) -> Result<Option<ResponseHead>, HeadError> {
    Ok(None)
}
