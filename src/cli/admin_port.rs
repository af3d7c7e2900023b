//! Asking a running Evenkeel through its admin port.

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;

/// An answer's body is not read further than this.
const LARGEST_BODY_BYTES: usize = 64 * 1024;

pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Answer {
    pub fn first_line(&self) -> String {
        String::from_utf8_lossy(&self.body).lines().next().unwrap_or("nothing more").to_owned()
    }
}

pub async fn ask(admin: &str, method: Method, path: &str) -> anyhow::Result<Answer> {
    let stream = tokio::net::TcpStream::connect(admin).await.with_context(|| format!("nothing answers at {admin}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.with_context(|| format!("{admin} does not speak HTTP"))?;
    // Its errors reach the request below.
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(header::HOST, admin).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.with_context(|| format!("http://{admin}{path}"))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LARGEST_BODY_BYTES).collect().await;
    Ok(Answer { status, body: body.map(|body| body.to_bytes()).unwrap_or_default() })
}
