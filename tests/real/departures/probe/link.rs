//! A connection of the probe to one broker.
//!
//! Invariant: after an error, or an answer that nobody waited for to the end, it is dropped and never used again.
//! Not here: time limits, which are the caller's.

use std::net::Ipv4Addr;

use anyhow::Result;
use kafka_protocol::protocol::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::real::connection::{answer, frame, frame_bytes};

pub struct Link {
    stream: TcpStream,
    next_correlation_id: i32,
}

impl Link {
    pub async fn open(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, next_correlation_id: 0 })
    }

    pub async fn ask<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id += 1;
        self.stream.write_all(&frame(version, correlation_id, request)?).await?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).await?;
        let mut body = vec![0; frame_bytes(length)?];
        self.stream.read_exact(&mut body).await?;
        answer::<R>(version, correlation_id, body.into())
    }
}
