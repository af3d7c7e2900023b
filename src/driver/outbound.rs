//! What waits to be written to one socket.
//!
//! Invariant: chunks leave in the order in which they came, and what is queued is counted, so that the other side's reading can stop.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use prometheus::Histogram;
use tokio::io::AsyncWrite;

/// How many chunks one `writev` takes.
const MAX_SLICES: usize = 16;
/// What a queued piece costs besides its bytes: its entry, and the allocator's share.
const CHUNK_BYTES: usize = 128;
/// Frames up to this size are copied together, where others wait before them: cheaper than a slice of `writev` for each.
const JOINED_MAX_BYTES: usize = 512;
/// What is allocated for them at once.
const TAIL_BYTES: usize = 4 * 1024;

#[derive(Debug)]
struct Chunk {
    bytes: Bytes,
    read_at: Instant,
}

#[derive(Debug)]
pub struct Outbound {
    chunks: VecDeque<Chunk>,
    /// Small frames behind the chunks, and when the first of them was read.
    tail: BytesMut,
    tail_read_at: Instant,
    queued_bytes: usize,
    written_bytes: u64,
    abandoned: bool,
    added_latency: Histogram,
}

impl Outbound {
    pub fn new(added_latency: Histogram) -> Outbound {
        Outbound {
            chunks: VecDeque::new(),
            tail: BytesMut::new(),
            tail_read_at: Instant::now(),
            queued_bytes: 0,
            written_bytes: 0,
            abandoned: false,
            added_latency,
        }
    }

    /// `read_at`: when the other side gave these bytes.
    pub fn push(&mut self, bytes: Bytes, read_at: Instant) {
        if bytes.is_empty() || self.abandoned {
            return;
        }
        let others_wait = self.queued_bytes > 0;
        self.queued_bytes += bytes.len();
        if others_wait && bytes.len() <= JOINED_MAX_BYTES {
            if self.tail.is_empty() {
                self.tail.reserve(TAIL_BYTES);
                self.tail_read_at = read_at;
            }
            self.tail.extend_from_slice(&bytes);
        } else {
            self.seal_tail();
            self.chunks.push_back(Chunk { bytes, read_at });
        }
    }

    /// What has been joined becomes a chunk.
    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            let bytes = std::mem::take(&mut self.tail).freeze();
            self.chunks.push_back(Chunk { bytes, read_at: self.tail_read_at });
        }
    }

    /// Drops what is queued and what will be: the socket takes no more.
    pub fn abandon(&mut self) {
        self.abandoned = true;
        self.chunks = VecDeque::new();
        self.tail = BytesMut::new();
        self.queued_bytes = 0;
    }

    /// What is queued, as far as memory goes: the bytes, and what each piece of them costs besides.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes + self.chunks.len() * CHUNK_BYTES
    }

    /// Of all that was ever pushed, in its order, so many bytes has the socket taken.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Writes until nothing is queued. `Ready` with the bytes written; `Pending` leaves the rest queued.
    pub fn poll_flush<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, socket: &mut W) -> Poll<io::Result<()>> {
        self.seal_tail();
        while let Some(first) = self.chunks.front() {
            let written = if self.chunks.len() == 1 {
                ready!(Pin::new(&mut *socket).poll_write(cx, &first.bytes))?
            } else {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let mut count = 0;
                for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
                    *slice = IoSlice::new(&chunk.bytes);
                    count += 1;
                }
                ready!(Pin::new(&mut *socket).poll_write_vectored(cx, &slices[..count]))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut written: usize) {
        self.queued_bytes -= written;
        self.written_bytes += written as u64;
        let now = Instant::now();
        while let Some(chunk) = self.chunks.front_mut() {
            if written < chunk.bytes.len() {
                chunk.bytes.advance(written);
                return;
            }
            written -= chunk.bytes.len();
            self.added_latency.observe(now.saturating_duration_since(chunk.read_at).as_secs_f64());
            self.chunks.pop_front();
        }
        if self.chunks.capacity() > 4 * MAX_SLICES {
            self.chunks = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::HistogramOpts;
    use tokio::io::AsyncReadExt;

    use super::*;

    fn outbound() -> Outbound {
        Outbound::new(Histogram::with_opts(HistogramOpts::new("test_seconds", "Test.")).unwrap())
    }

    #[tokio::test]
    async fn many_small_chunks_leave_whole_and_in_order_through_a_narrow_socket() {
        let (mut near, mut far) = tokio::io::duplex(7);
        let mut queue = outbound();
        let mut expected = Vec::new();
        for n in 0..100u8 {
            let chunk: Vec<u8> = (0..n % 13).map(|i| n.wrapping_add(i)).collect();
            expected.extend_from_slice(&chunk);
            queue.push(chunk.into(), Instant::now());
        }
        assert!(queue.queued_bytes() >= expected.len());
        let reader = tokio::spawn(async move {
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.unwrap();
            got
        });
        std::future::poll_fn(|cx| queue.poll_flush(cx, &mut near)).await.unwrap();
        assert_eq!(queue.queued_bytes(), 0);
        drop(near);
        assert_eq!(reader.await.unwrap(), expected);
    }

    #[tokio::test]
    async fn each_chunk_is_measured_once() {
        let mut queue = outbound();
        queue.push(Bytes::from_static(b"abc"), Instant::now());
        queue.push(Bytes::from_static(&[0; JOINED_MAX_BYTES + 1]), Instant::now());
        let mut sink = tokio::io::sink();
        std::future::poll_fn(|cx| queue.poll_flush(cx, &mut sink)).await.unwrap();
        assert_eq!(queue.added_latency.get_sample_count(), 2);
    }

    #[tokio::test]
    async fn small_frames_behind_others_leave_together_and_in_order() {
        let mut queue = outbound();
        let mut expected = Vec::new();
        for (n, len) in (0u8..).zip([3, 5, JOINED_MAX_BYTES, JOINED_MAX_BYTES + 1, 4, 6, 1]) {
            expected.extend(std::iter::repeat_n(n, len));
            queue.push(vec![n; len].into(), Instant::now());
        }
        assert!(queue.queued_bytes() >= expected.len());
        let mut got = Vec::new();
        std::future::poll_fn(|cx| queue.poll_flush(cx, &mut got)).await.unwrap();
        assert_eq!(got, expected);
        assert_eq!(queue.queued_bytes(), 0);
        // The first, what could be joined behind it, the large one, what could be joined behind that.
        assert_eq!(queue.added_latency.get_sample_count(), 4);
    }
}
