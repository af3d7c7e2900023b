//! One request and its response over a connection that is lent for it.
//!
//! Invariant: a response takes memory as it arrives, never by what its length prefix says. Deliberately absent: what the bytes mean,
//! and time limits, which are the caller's.

use std::future::Future;
use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::transport::Connection;
use crate::wire::{HeadError, parse_response_head};

/// A response of ours, its length prefix included. Metadata of 10,000 partitions is below 1 MiB.
const RESPONSE_BYTES_MAX: u32 = 32 << 20;
const READ_BYTES: usize = 16 << 10;

#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("the broker closed the connection")]
    Closed,
    #[error("what came is no response: {0}")]
    Head(#[from] HeadError),
    #[error("the response to request {expected} says that it answers {got}")]
    Correlation { expected: i32, got: i32 },
}

/// Something that carries one request of ours to a broker: a connection of discovery's own, or a leg that a session lends.
pub trait Exchange: Send {
    /// `request` is a whole frame whose correlation id is `correlation_id`; so is what comes back.
    fn exchange(&mut self, request: Bytes, correlation_id: i32) -> impl Future<Output = Result<Bytes, ExchangeError>> + Send;
}

impl Exchange for Connection {
    async fn exchange(&mut self, request: Bytes, correlation_id: i32) -> Result<Bytes, ExchangeError> {
        self.write_all(&request).await?;
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        let head = loop {
            if let Some(head) = parse_response_head(&buffer, RESPONSE_BYTES_MAX)? {
                break head;
            }
            read_some(self, &mut buffer).await?;
        };
        if head.correlation_id != correlation_id {
            return Err(ExchangeError::Correlation { expected: correlation_id, got: head.correlation_id });
        }
        let frame_bytes = head.frame_bytes as usize;
        while buffer.len() < frame_bytes {
            read_some(self, &mut buffer).await?;
        }
        // Nothing was asked for beyond it; what a broker sends all the same is caught as a wrong correlation id.
        Ok(buffer.split_to(frame_bytes).freeze())
    }
}

async fn read_some(connection: &mut Connection, buffer: &mut BytesMut) -> Result<(), ExchangeError> {
    buffer.reserve(READ_BYTES);
    match connection.read_buf(buffer).await? {
        0 => Err(ExchangeError::Closed),
        _ => Ok(()),
    }
}
