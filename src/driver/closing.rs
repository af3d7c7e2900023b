//! Closing a connection without taking back what was written on it.
//!
//! A socket closed with unread bytes sends RST, and an RST may destroy what the peer has received and not read yet: responses that a
//! drained client is owed, produce requests with `acks=0` that a broker has not taken up. So: write out, send FIN, then read and drop
//! until the peer closes too, or for a bounded time.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::outbound::Outbound;

/// How long the peer may take to read what is queued for it.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the peer may take to close its side.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// How much of what it still sends is read and dropped.
const LINGER_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Ends the connection; errors have no one left to hear of them.
pub async fn close_gracefully(mut socket: TcpStream, mut queue: Outbound) {
    let flushed = timeout(FLUSH_TIMEOUT, std::future::poll_fn(|cx| queue.poll_flush(cx, &mut socket))).await;
    if !matches!(flushed, Ok(Ok(()))) || socket.shutdown().await.is_err() {
        return;
    }
    let drop_the_rest = async {
        let mut scratch = vec![0; 16 * 1024];
        let mut dropped = 0;
        while let Ok(read @ 1..) = socket.read(&mut scratch).await {
            dropped += read;
            if dropped > LINGER_MAX_BYTES {
                break;
            }
        }
    };
    let _ = timeout(LINGER_TIMEOUT, drop_the_rest).await;
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use prometheus::{Histogram, HistogramOpts};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_was_queued_arrives_though_the_peer_has_sent_bytes_that_nobody_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (socket, _) = listener.accept().await.unwrap();
        peer.write_all(&[7; 100_000]).await.unwrap();
        let mut queue = Outbound::new(Histogram::with_opts(HistogramOpts::new("test_seconds", "Test.")).unwrap());
        let response = vec![9; 1_000_000];
        queue.push(response.clone().into(), Instant::now());
        let closing = tokio::spawn(close_gracefully(socket, queue));
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut got = Vec::new();
        peer.read_to_end(&mut got).await.unwrap();
        assert!(got == response);
        drop(peer);
        closing.await.unwrap();
    }
}
