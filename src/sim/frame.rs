//! Frames at their edge: a request's head, a response's head, and the way between bytes and the kafka-protocol crate's types.
//!
//! Invariant: a frame here never includes its four-byte length prefix. Deliberately not here: any use of our own `wire` module, whose
//! mistakes the simulation is there to show. The crate trusts array lengths: feed it loopback tests' bytes, not a stranger's.

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

/// The largest frame that a simulated broker reads, in bytes (Kafka: `socket.request.max.bytes`).
pub const MAX_FRAME_BYTES: usize = 100 * 1024 * 1024;

/// Why bytes are not a frame of the protocol.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than a request's fixed fields.
    #[error("a frame of {0} bytes is shorter than a request's head")]
    Short(usize),
    /// A key that the crate does not know.
    #[error("unknown API key {0}")]
    UnknownApi(i16),
    /// The crate could not read or write a message.
    #[error("API {api_key} version {version}: {reason}")]
    Message {
        /// The API's key.
        api_key: i16,
        /// The version that was asked for.
        version: i16,
        /// What the crate says.
        reason: String,
    },
}

/// The fixed fields of a request: they parse for every key and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Which API.
    pub api_key: i16,
    /// Which version of it.
    pub version: i16,
    /// Repeated in the response.
    pub correlation_id: i32,
}

/// Reads the fixed fields of a request.
pub fn head(frame: &Bytes) -> Result<RequestHead, FrameError> {
    if frame.len() < 8 {
        return Err(FrameError::Short(frame.len()));
    }
    let mut fixed = frame.slice(..8);
    Ok(RequestHead { api_key: fixed.get_i16(), version: fixed.get_i16(), correlation_id: fixed.get_i32() })
}

fn message_error(api_key: i16, version: i16, reason: impl std::fmt::Display) -> FrameError {
    FrameError::Message { api_key, version, reason: reason.to_string() }
}

/// Decodes a request: its header and its body as `T`, in the version that the head names.
pub fn decode_request<T: Decodable>(frame: &Bytes) -> Result<(RequestHeader, T), FrameError> {
    let head = head(frame)?;
    let api = ApiKey::try_from(head.api_key).map_err(|()| FrameError::UnknownApi(head.api_key))?;
    let mut bytes = frame.clone();
    let fail = |reason: String| message_error(head.api_key, head.version, reason);
    let header = RequestHeader::decode(&mut bytes, api.request_header_version(head.version)).map_err(|e| fail(e.to_string()))?;
    let body = T::decode(&mut bytes, head.version).map_err(|e| fail(e.to_string()))?;
    Ok((header, body))
}

/// Encodes a request of `version` with `client_id`.
pub fn encode_request<T: Encodable + HeaderVersion>(
    api: ApiKey,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    body: &T,
) -> Result<Bytes, FrameError> {
    let header = RequestHeader::default()
        .with_request_api_key(api as i16)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_string(client_id.to_owned())));
    let mut out = BytesMut::new();
    let fail = |reason: String| message_error(api as i16, version, reason);
    header.encode(&mut out, T::header_version(version)).map_err(|e| fail(e.to_string()))?;
    body.encode(&mut out, version).map_err(|e| fail(e.to_string()))?;
    Ok(out.freeze())
}

/// Encodes a response to a request of `api` and `version`.
pub fn encode_response<T: Encodable>(api: ApiKey, version: i16, correlation_id: i32, body: &T) -> Result<Bytes, FrameError> {
    let mut out = BytesMut::new();
    let fail = |reason: String| message_error(api as i16, version, reason);
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    header.encode(&mut out, api.response_header_version(version)).map_err(|e| fail(e.to_string()))?;
    body.encode(&mut out, version).map_err(|e| fail(e.to_string()))?;
    Ok(out.freeze())
}

/// Decodes a response to a request of `api` and `version`: its correlation id and its body.
pub fn decode_response<T: Decodable>(api: ApiKey, version: i16, frame: &Bytes) -> Result<(i32, T), FrameError> {
    let mut bytes = frame.clone();
    let fail = |reason: String| message_error(api as i16, version, reason);
    let header = ResponseHeader::decode(&mut bytes, api.response_header_version(version)).map_err(|e| fail(e.to_string()))?;
    let body = T::decode(&mut bytes, version).map_err(|e| fail(e.to_string()))?;
    Ok((header.correlation_id, body))
}
