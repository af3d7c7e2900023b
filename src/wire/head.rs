//! The head of a frame: what can be decided before its body has arrived.
//!
//! Invariant: the same bytes give the same head, however they were cut on arrival; nothing is allocated.
//! Deliberately absent: bodies, except for what stands before a produce request's topics.

use super::ApiKey;
use super::reader::uvarint_of;

/// A range of bytes, counted from the frame's first byte (its length prefix).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    /// The bytes of `frame` that it covers; `None`: it reaches out of the frame.
    pub fn of(self, frame: &[u8]) -> Option<&[u8]> {
        frame.get(self.start as usize..self.end as usize)
    }
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
pub fn parse_head(buffer: &[u8], limits: &HeadLimits) -> Result<Option<Head>, HeadError> {
    let Some(frame_bytes) = frame_bytes(buffer, limits.max_frame_bytes, SMALLEST_REQUEST_BYTES)? else { return Ok(None) };
    let reach = frame_bytes.min(limits.max_head_bytes) as usize;
    let mut cursor = HeadCursor { bytes: buffer.get(..reach).unwrap_or(buffer), at: 4 };
    match cursor.head(frame_bytes) {
        Ok(head) => Ok(Some(head)),
        Err(Stop::Malformed(what)) => Err(HeadError::Malformed { what }),
        Err(Stop::Beyond(end)) if end > u64::from(frame_bytes) => Err(HeadError::Malformed { what: "it is longer than its frame" }),
        Err(Stop::Beyond(end)) if end > reach as u64 => Err(HeadError::HeadTooLarge { max: limits.max_head_bytes }),
        Err(Stop::Beyond(_)) => Ok(None),
    }
}

/// Parses the head of the response whose length prefix is at `buffer[0]`. `Ok(None)`: more bytes are needed.
pub fn parse_response_head(buffer: &[u8], max_frame_bytes: u32) -> Result<Option<ResponseHead>, HeadError> {
    let Some(frame_bytes) = frame_bytes(buffer, max_frame_bytes, SMALLEST_RESPONSE_BYTES)? else { return Ok(None) };
    let Some(&[a, b, c, d]) = buffer.get(4..8) else { return Ok(None) };
    Ok(Some(ResponseHead { frame_bytes, correlation_id: i32::from_be_bytes([a, b, c, d]) }))
}

/// API key, version, correlation id: header version 0.
const SMALLEST_REQUEST_BYTES: i32 = 8;
/// The correlation id.
const SMALLEST_RESPONSE_BYTES: i32 = 4;

/// The whole frame's size, length prefix included, or `None` while even the prefix is incomplete.
#[inline]
fn frame_bytes(buffer: &[u8], max_frame_bytes: u32, smallest: i32) -> Result<Option<u32>, HeadError> {
    let Some(&prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
    let body_bytes = i32::from_be_bytes(prefix);
    let frame_bytes = i64::from(body_bytes) + 4;
    if frame_bytes > i64::from(max_frame_bytes) {
        return Err(match stranger(prefix) {
            Some(stranger) => HeadError::Stranger(stranger),
            None => HeadError::FrameTooLarge { len: frame_bytes, max: max_frame_bytes },
        });
    }
    if body_bytes < smallest {
        // Not `frame_bytes`: what stands in the prefix is what a reader of the log can find in a capture.
        return Err(HeadError::FrameTooSmall { len: i64::from(body_bytes) });
    }
    Ok(u32::try_from(frame_bytes).ok())
}

/// What a first four bytes that make no sensible length look like instead.
fn stranger(first: [u8; 4]) -> Option<Stranger> {
    const HTTP: [&[u8; 4]; 11] = [b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"CONN", b"PATC", b"TRAC", b"HTTP", b"PRI "];
    if first.starts_with(&[0x16, 0x03]) {
        Some(Stranger::Tls)
    } else if HTTP.contains(&&first) {
        Some(Stranger::Http)
    } else if first.iter().all(|byte| matches!(byte, b'\r' | b'\n' | b' '..=b'~')) {
        // SSH-, PROX(Y), the line breaks that a binary PROXY header begins with, or a person with a terminal.
        Some(Stranger::Text)
    } else {
        None
    }
}

/// Why a head could not be read on.
enum Stop {
    /// The next field ends at this byte of the frame, which is not among those that may be read (yet).
    Beyond(u64),
    Malformed(&'static str),
}

/// Reads a head's fields from the part of the frame that is there, and that a head may reach into.
struct HeadCursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl HeadCursor<'_> {
    #[inline]
    fn head(&mut self, frame_bytes: u32) -> Result<Head, Stop> {
        let [k0, k1, v0, v1, c0, c1, c2, c3] = self.take::<8>()?;
        let api = ApiKey(i16::from_be_bytes([k0, k1]));
        let version = i16::from_be_bytes([v0, v1]);
        if version < 0 {
            return Err(Stop::Malformed("its version is negative"));
        }
        let correlation_id = i32::from_be_bytes([c0, c1, c2, c3]);
        let header_version = api.request_header_version(version);
        let client_id = if header_version == 0 { None } else { self.nullable_string()? };
        if header_version >= 2 {
            self.skip_tagged_fields(frame_bytes)?;
        }
        let body_at = self.at as u32;
        let produce = if api == ApiKey::PRODUCE && version <= LAST_PRODUCE_VERSION { Some(self.produce(version)?) } else { None };
        Ok(Head { api, version, correlation_id, frame_bytes, client_id, body_at, produce })
    }

    #[inline]
    fn produce(&mut self, version: i16) -> Result<ProduceHead, Stop> {
        let transactional_id = match version {
            ..3 => None,
            3..9 => self.nullable_string()?,
            9.. => self.compact_nullable_string()?,
        };
        let [a0, a1, t0, t1, t2, t3] = self.take::<6>()?;
        Ok(ProduceHead { transactional_id, acks: i16::from_be_bytes([a0, a1]), timeout_ms: i32::from_be_bytes([t0, t1, t2, t3]) })
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(taken) => {
                self.at += N;
                Ok(*taken)
            }
            None => Err(Stop::Beyond(self.at as u64 + N as u64)),
        }
    }

    #[inline]
    fn skip(&mut self, len: u32) -> Result<Span, Stop> {
        let end = self.at as u64 + u64::from(len);
        if end > self.bytes.len() as u64 {
            return Err(Stop::Beyond(end));
        }
        let span = Span { start: self.at as u32, end: end as u32 };
        self.at = end as usize;
        Ok(span)
    }

    #[inline]
    fn nullable_string(&mut self) -> Result<Option<Span>, Stop> {
        match i16::from_be_bytes(self.take()?) {
            -1 => Ok(None),
            len => match u32::try_from(len) {
                Ok(len) => self.skip(len).map(Some),
                Err(_) => Err(Stop::Malformed("a string's length is negative")),
            },
        }
    }

    #[inline]
    fn compact_nullable_string(&mut self) -> Result<Option<Span>, Stop> {
        match self.uvarint()?.checked_sub(1) {
            None => Ok(None),
            Some(len) => self.skip(len).map(Some),
        }
    }

    #[inline]
    fn uvarint(&mut self) -> Result<u32, Stop> {
        uvarint_of(|| self.take().map(|[byte]| byte))?.ok_or(Stop::Malformed("a variable-length number is over 32 bits"))
    }

    fn skip_tagged_fields(&mut self, frame_bytes: u32) -> Result<(), Stop> {
        let fields = self.uvarint()?;
        // Each takes two bytes at least.
        if u64::from(fields) * 2 > u64::from(frame_bytes) {
            return Err(Stop::Malformed("it has more tagged fields than bytes"));
        }
        for _ in 0..fields {
            let _tag = self.uvarint()?;
            let len = self.uvarint()?;
            self.skip(len)?;
        }
        Ok(())
    }
}

/// The last version whose layout up to its topics is known.
const LAST_PRODUCE_VERSION: i16 = 13;

#[cfg(test)]
#[path = "tests/head.rs"]
mod tests;
