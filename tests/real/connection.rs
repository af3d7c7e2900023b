//! One blocking connection to a broker: a request and its response at a time, in the kafka-protocol crate's types.
//!
//! Invariant: nothing waits without a limit.
//! Not here: choosing versions; whoever asks names one that every Kafka of the tests speaks.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

const CLIENT_ID: &str = "evenkeel-tests";
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
/// All records of a partition of ours fit.
pub const FRAME_BYTES_MAX: usize = 128 << 20;

pub struct Connection {
    stream: TcpStream,
    next_correlation_id: i32,
}

impl Connection {
    pub fn open(port: u16) -> Result<Self> {
        Self::open_within(port, ANSWER_TIME_MAX)
    }

    /// With a limit of the caller's own on how long an answer may take.
    pub fn open_within(port: u16, answer_time_max: Duration) -> Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIME_MAX).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(answer_time_max))?;
        stream.set_write_timeout(Some(answer_time_max))?;
        Ok(Self { stream, next_correlation_id: 0 })
    }

    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        self.stream.write_all(&frame(version, correlation_id, request)?)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).with_context(|| format!("waiting for the answer to API {}", R::KEY))?;
        let mut body = vec![0; frame_bytes(length)?];
        self.stream.read_exact(&mut body)?;
        answer::<R>(version, correlation_id, body.into())
    }
}

/// A request as it goes over the wire, length prefix included.
pub fn frame<R: Request>(version: i16, correlation_id: i32, request: &R) -> Result<Bytes> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str(CLIENT_ID)));
    let mut body = BytesMut::new();
    header.encode(&mut body, R::header_version(version))?;
    request.encode(&mut body, version).with_context(|| format!("encoding a request of API {} version {version}", R::KEY))?;
    let mut out = BytesMut::with_capacity(4 + body.len());
    out.put_u32(u32::try_from(body.len())?);
    out.extend_from_slice(&body);
    Ok(out.freeze())
}

/// What a length prefix says, if that is plausible.
pub fn frame_bytes(prefix: [u8; 4]) -> Result<usize> {
    let bytes = u32::from_be_bytes(prefix) as usize;
    ensure!(bytes <= FRAME_BYTES_MAX, "a response of {bytes} bytes");
    Ok(bytes)
}

/// A response without its length prefix.
pub fn answer<R: Request>(version: i16, correlation_id: i32, mut body: Bytes) -> Result<R::Response> {
    let header = ResponseHeader::decode(&mut body, R::Response::header_version(version))?;
    ensure!(header.correlation_id == correlation_id, "the answer to {correlation_id} says that it answers {}", header.correlation_id);
    R::Response::decode(&mut body, version).with_context(|| format!("decoding a response of API {} version {version}", R::KEY))
}
