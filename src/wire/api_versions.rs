//! ApiVersions: the response, versions 0 to 4, and who asks, from the request, versions 3 and 4 (KIP-511).
//!
//! Deliberately absent: features, which nothing here needs.

use super::{ApiKey, Count, Head, Malformed, Reader, Span};

/// UNSUPPORTED_VERSION.
pub const UNSUPPORTED_VERSION: i16 = 35;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiVersionsResponse {
    pub error: i16,
    /// Whether the body is flexible. Not always what the request's version says: see `parse`.
    pub flexible: bool,
    pub count: Count,
    pub ranges: Vec<ApiRange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiRange {
    pub api: ApiKey,
    pub min: i16,
    pub max: i16,
    pub max_span: Span,
    pub whole: Span,
}

pub const LAST_VERSION: i16 = 4;

impl ApiVersionsResponse {
    /// Parses a whole frame. A broker that lacks the version that was asked for answers UNSUPPORTED_VERSION in version 0, whose layout
    /// is then the frame's (KIP-511).
    pub fn parse(frame: &[u8], version: i16) -> Result<ApiVersionsResponse, Malformed> {
        super::known_version(version, LAST_VERSION)?;
        let mut reader = Reader::new(frame, false)?;
        let _correlation_id = reader.i32()?;
        let error = reader.i16()?;
        let version = if error == UNSUPPORTED_VERSION { 0 } else { version };
        let flexible = ApiKey::API_VERSIONS.is_flexible(version);
        let mut reader = reader.with_flexible(flexible);

        let count = reader.array(6)?;
        let mut ranges = Vec::with_capacity(count.len);
        for _ in 0..count.len {
            let start = reader.position();
            let api = ApiKey(reader.i16()?);
            let min = reader.i16()?;
            let max_start = reader.position();
            let max = reader.i16()?;
            let max_span = reader.span_from(max_start);
            reader.skip_tagged_fields()?;
            ranges.push(ApiRange { api, min, max, max_span, whole: reader.span_from(start) });
        }
        if version >= 1 {
            let _throttle_time_ms = reader.i32()?;
        }
        reader.skip_tagged_fields()?;
        Ok(ApiVersionsResponse { error, flexible, count, ranges })
    }
}

/// The client library, as it calls itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientSoftware<'a> {
    pub name: &'a [u8],
    pub version: &'a [u8],
}

impl<'a> ClientSoftware<'a> {
    /// From a whole ApiVersions request. `None` below version 3, which does not say.
    pub fn parse(frame: &'a [u8], head: &Head) -> Result<Option<ClientSoftware<'a>>, Malformed> {
        if head.api != ApiKey::API_VERSIONS || !head.api.is_flexible(head.version) {
            return Ok(None);
        }
        super::known_version(head.version, LAST_VERSION)?;
        let mut reader = Reader::new(frame, true)?.within(Span { start: head.body_at, end: head.frame_bytes });
        let software = ClientSoftware { name: reader.string()?, version: reader.string()? };
        reader.skip_tagged_fields()?;
        Ok(Some(software))
    }
}
