//! A cluster that answers at once and with the same bytes: what is measured is not the broker.
//!
//! Invariant: one thread serves all connections of all brokers, on every way alike.
//! Not here: any state. Records are counted by nobody.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::frames::{self, IN_RESPONSE, REQUEST_START_BYTES};

const BROKERS: u16 = 3;
const READ_BYTES: usize = 256 * 1024;
const FETCH_BYTES: usize = 1024 * 1024;
const BACKLOG: u32 = 4096;

pub struct Stub {
    /// Node N's address is at N.
    pub addresses: Vec<SocketAddr>,
}

type Answers = HashMap<(i16, i16), Bytes>;

impl Stub {
    /// Serves from a thread of its own until the process ends.
    pub fn start() -> Result<Stub> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        {
            let _entered = runtime.enter();
            for _ in 0..BROKERS {
                let socket = TcpSocket::new_v4()?;
                socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
                let listener = socket.listen(BACKLOG)?;
                addresses.push(listener.local_addr()?);
                listeners.push(listener);
            }
        }
        let brokers: Vec<(i32, u16)> = (0..).zip(addresses.iter().map(SocketAddr::port)).collect();
        let mut answers = Answers::new();
        for (api, max) in frames::SERVED {
            for version in 0..=*max {
                // The crate no longer encodes the oldest ones, which nobody here asks for.
                if let Ok(answer) = frames::response(*api, version, &brokers, FETCH_BYTES) {
                    answers.insert((*api as i16, version), answer);
                }
            }
        }
        let answers = Arc::new(answers);
        std::thread::Builder::new().name("stub".to_owned()).spawn(move || {
            runtime.block_on(async move {
                for listener in listeners {
                    let answers = answers.clone();
                    tokio::spawn(async move {
                        while let Ok((socket, _)) = listener.accept().await {
                            tokio::spawn(serve(socket, answers.clone()));
                        }
                    });
                }
                std::future::pending::<()>().await;
            });
        })?;
        Ok(Stub { addresses })
    }

    pub fn upstream(&self) -> String {
        self.addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",")
    }
}

async fn serve(socket: TcpStream, answers: Arc<Answers>) {
    if let Err(error) = converse(socket, &answers).await {
        eprintln!("stub: {error:#}");
    }
}

async fn converse(mut socket: TcpStream, answers: &Answers) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut buffer = BytesMut::new();
    let mut out = Vec::new();
    // The request under way: what is owed for it, and how many of its bytes are still to come.
    let mut under_way: Option<(&Bytes, i32, usize)> = None;
    loop {
        socket.readable().await?;
        buffer.reserve(READ_BYTES);
        match socket.read_buf(&mut buffer).await {
            Ok(1..) => {}
            // Whoever ends a run resets connections.
            Ok(0) | Err(_) => return Ok(()),
        }
        loop {
            if let Some((answer, correlation_id, left)) = under_way {
                let skipped = left.min(buffer.len());
                buffer.advance(skipped);
                if skipped < left {
                    under_way = Some((answer, correlation_id, left - skipped));
                    break;
                }
                frames::append(&mut out, answer, IN_RESPONSE, correlation_id);
                under_way = None;
            }
            if buffer.len() < REQUEST_START_BYTES {
                break;
            }
            let [api_high, api_low, version_high, version_low] = frames::number(&buffer, 4).to_be_bytes();
            let api = i16::from_be_bytes([api_high, api_low]);
            let version = i16::from_be_bytes([version_high, version_low]);
            let answer = answers.get(&(api, version)).with_context(|| format!("{:?} {version} is not served", ApiKey::try_from(api)))?;
            let frame_bytes = 4 + usize::try_from(frames::number(&buffer, 0))?;
            under_way = Some((answer, frames::number(&buffer, 8), frame_bytes));
        }
        if socket.write_all(&out).await.is_err() {
            return Ok(());
        }
        out.clear();
        if out.capacity() > READ_BYTES {
            out.shrink_to(READ_BYTES);
        }
    }
}
