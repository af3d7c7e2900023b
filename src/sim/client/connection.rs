//! One connection of the client: pipelined requests, answers matched in order.
//!
//! Invariant: an answer whose correlation id is not the oldest outstanding one ends the connection. Deliberately not here: reconnecting.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest};
use kafka_protocol::protocol::{Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::ClientError;
use crate::sim::code;
use crate::sim::frame::{self, MAX_FRAME_BYTES};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How a client introduces itself.
#[derive(Clone, Copy, Debug)]
pub struct Introduction {
    /// In the head of every request.
    pub client_id: &'static str,
    /// In ApiVersions.
    pub software_name: &'static str,
    /// In ApiVersions.
    pub software_version: &'static str,
}

impl Default for Introduction {
    fn default() -> Introduction {
        Introduction { client_id: "evenkeel-load", software_name: "evenkeel-load", software_version: env!("CARGO_PKG_VERSION") }
    }
}

/// See the module.
pub struct Connection {
    address: String,
    client_id: &'static str,
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    outstanding: Arc<Outstanding>,
    next_correlation_id: AtomicI32,
    versions: BTreeMap<i16, (i16, i16)>,
    request_timeout: Duration,
    ended: CancellationToken,
    _ends_with_us: DropGuard,
}

#[derive(Default)]
struct Outstanding {
    queue: Mutex<VecDeque<(i32, oneshot::Sender<Bytes>)>>,
}

/// An answer that is still to come.
pub struct Awaited<R> {
    address: String,
    api: ApiKey,
    version: i16,
    answer: oneshot::Receiver<Bytes>,
    got: Option<Result<Bytes, ClientError>>,
    deadline: Instant,
    ended: CancellationToken,
    request: std::marker::PhantomData<fn() -> R>,
}

impl Connection {
    /// Connects and asks which versions are served there.
    pub async fn open(address: &str, request_timeout: Duration) -> Result<Connection, ClientError> {
        Self::open_as(Introduction::default(), address, request_timeout).await
    }

    /// The same, under another name.
    pub async fn open_as(introduction: Introduction, address: &str, request_timeout: Duration) -> Result<Connection, ClientError> {
        let failed = |reason: String| ClientError::Connect { address: address.to_owned(), reason };
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        let stream = connecting.map_err(|_| failed("no answer in time".to_owned()))?.map_err(|error| failed(error.to_string()))?;
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        let outstanding = Arc::new(Outstanding::default());
        let ended = CancellationToken::new();
        tokio::spawn(read_answers(reader, outstanding.clone(), ended.clone()));
        let mut connection = Connection {
            address: address.to_owned(),
            client_id: introduction.client_id,
            writer: tokio::sync::Mutex::new(writer),
            outstanding,
            next_correlation_id: AtomicI32::new(0),
            versions: BTreeMap::new(),
            request_timeout,
            _ends_with_us: ended.clone().drop_guard(),
            ended,
        };
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(introduction.software_name))
            .with_client_software_version(StrBytes::from_static_str(introduction.software_version));
        let response = connection.send_versioned(3, &request).await?.wait().await?;
        if response.error_code != code::NONE {
            return Err(ClientError::Kafka { code: response.error_code, doing: "asking for API versions" });
        }
        connection.versions = response.api_keys.iter().map(|key| (key.api_key, (key.min_version, key.max_version))).collect();
        Ok(connection)
    }

    /// Where it goes.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether it ended, from either side.
    pub fn is_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// The highest version of an API that both sides have, up to `at_most`.
    pub fn version(&self, api: ApiKey, at_most: i16) -> Result<i16, ClientError> {
        let known = api.valid_versions();
        let chosen = self.versions.get(&(api as i16)).map(|(min, max)| (*min.max(&known.min), (*max).min(known.max).min(at_most)));
        match chosen {
            Some((min, max)) if min <= max => Ok(max),
            _ => Err(ClientError::NoVersion { address: self.address.clone(), api_key: api as i16 }),
        }
    }

    /// Writes a request of this version; the answer is awaited apart, so that more can follow it.
    pub async fn send_versioned<R: Request>(&self, version: i16, request: &R) -> Result<Awaited<R>, ClientError> {
        let closed = || ClientError::Closed { address: self.address.clone() };
        let frame_error = |source| ClientError::Frame { address: self.address.clone(), source };
        let api = ApiKey::try_from(R::KEY).map_err(|()| frame_error(frame::FrameError::UnknownApi(R::KEY)))?;
        let (answered, answer) = oneshot::channel();
        let mut writer = self.writer.lock().await;
        let correlation_id = self.next_correlation_id.fetch_add(1, Ordering::Relaxed);
        let body = frame::encode_request(api, version, correlation_id, self.client_id, request).map_err(frame_error)?;
        let mut out = BytesMut::with_capacity(4 + body.len());
        out.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
        out.extend_from_slice(&body);
        self.outstanding.lock().push_back((correlation_id, answered));
        if self.is_ended() {
            return Err(closed());
        }
        let wrote = tokio::select! {
            wrote = writer.write_all(&out) => wrote.is_ok(),
            () = self.ended.cancelled() => false,
        };
        if !wrote {
            self.ended.cancel();
            return Err(closed());
        }
        Ok(Awaited {
            address: self.address.clone(),
            api,
            version,
            answer,
            got: None,
            deadline: Instant::now() + self.request_timeout,
            ended: self.ended.clone(),
            request: std::marker::PhantomData,
        })
    }

    /// Asks, in the highest version up to `at_most`, and waits for the answer.
    pub async fn ask<R: Request>(&self, at_most: i16, request: &R) -> Result<R::Response, ClientError> {
        let api = ApiKey::try_from(R::KEY).map_err(|()| ClientError::NoVersion { address: self.address.clone(), api_key: R::KEY })?;
        self.send_versioned(self.version(api, at_most)?, request).await?.wait().await
    }
}

impl<R: Request> Awaited<R> {
    /// Waits until the answer is there, or will never be. Waiting may be broken off and taken up again.
    pub async fn ready(&mut self) {
        if self.got.is_some() {
            return;
        }
        let closed = || ClientError::Closed { address: self.address.clone() };
        let got = tokio::select! {
            biased;
            answer = &mut self.answer => answer.map_err(|_| closed()),
            () = self.ended.cancelled() => Err(closed()),
            () = tokio::time::sleep_until(self.deadline) => {
                // One that takes too long ends the connection, as clients do.
                self.ended.cancel();
                Err(ClientError::TimedOut { address: self.address.clone() })
            }
        };
        self.got = Some(got);
    }

    /// The answer.
    pub async fn wait(mut self) -> Result<R::Response, ClientError> {
        self.ready().await;
        let closed = ClientError::Closed { address: self.address.clone() };
        let frame = self.got.unwrap_or(Err(closed))?;
        let decoded = frame::decode_response::<R::Response>(self.api, self.version, &frame);
        decoded.map(|(_, body)| body).map_err(|source| ClientError::Frame { address: self.address, source })
    }
}

impl Outstanding {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(i32, oneshot::Sender<Bytes>)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read_answers(mut reader: OwnedReadHalf, outstanding: Arc<Outstanding>, ended: CancellationToken) {
    loop {
        let frame = tokio::select! {
            () = ended.cancelled() => break,
            frame = read_frame(&mut reader) => frame,
        };
        let Some(frame) = frame else { break };
        let oldest = outstanding.lock().pop_front();
        let answered = frame.first_chunk::<4>().map(|id| i32::from_be_bytes(*id));
        match oldest {
            Some((correlation_id, waiting)) if answered == Some(correlation_id) => drop(waiting.send(frame)),
            _ => break,
        }
    }
    ended.cancel();
    outstanding.lock().clear();
}

async fn read_frame(reader: &mut OwnedReadHalf) -> Option<Bytes> {
    let length = usize::try_from(reader.read_i32().await.ok()?).ok().filter(|length| *length <= MAX_FRAME_BYTES)?;
    let mut frame = BytesMut::new();
    let mut limited = reader.take(u64::try_from(length).ok()?);
    while frame.len() < length {
        frame.reserve((length - frame.len()).min(1 << 20));
        if limited.read_buf(&mut frame).await.ok()? == 0 {
            return None;
        }
    }
    Some(frame.freeze())
}
