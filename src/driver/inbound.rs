//! What has been read from one socket and not moved on yet.
//!
//! Frames that go the same way are moved together: `decide` only counts bytes, `take_decided` splits them off in one piece, without a
//! copy.
//!
//! Invariant: at most one read's worth lies here, except where a frame is to be read whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncRead;

/// A session's first read, and an idle one's.
const MIN_READ_BYTES: usize = 4 * 1024;
const MAX_READ_BYTES: usize = 256 * 1024;
/// Pieces up to this size are copied rather than split off.
const COPY_MAX_BYTES: usize = MIN_READ_BYTES / 2;

/// Where in the stream of frames we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moving {
    /// At a frame's first byte.
    Head,
    Relay {
        left: usize,
    },
    /// As `Relay`, and kept.
    RelayKeep {
        left: usize,
    },
    Read {
        total: usize,
    },
    Discard {
        left: usize,
    },
}

#[derive(Debug)]
pub struct Inbound {
    buffer: BytesMut,
    decided: usize,
    read_bytes: usize,
    pub moving: Moving,
}

impl Inbound {
    pub fn new() -> Inbound {
        Inbound { buffer: BytesMut::new(), decided: 0, read_bytes: MIN_READ_BYTES, moving: Moving::Head }
    }

    /// One read. `Ok(0)`: the peer sends no more.
    pub fn poll_fill<R: AsyncRead + Unpin>(&mut self, cx: &mut Context<'_>, socket: &mut R) -> Poll<io::Result<usize>> {
        let want = match self.moving {
            Moving::Read { total } => total.saturating_sub(self.buffer.len()).max(MIN_READ_BYTES),
            _ => self.read_bytes,
        };
        self.buffer.reserve(want);
        let read = ready!(tokio_util::io::poll_read_buf(Pin::new(socket), cx, &mut self.buffer))?;
        // Grow while reads fill what they are given (fewer system calls for large frames), shrink when they no longer do.
        if read >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 2).min(MAX_READ_BYTES);
        } else if read < self.read_bytes / 4 {
            self.read_bytes = (self.read_bytes / 2).max(MIN_READ_BYTES);
        }
        Poll::Ready(Ok(read))
    }

    /// What has not been decided on yet.
    pub fn undecided(&self) -> &[u8] {
        self.buffer.get(self.decided..).unwrap_or_default()
    }

    /// Of what has not been decided on, up to `count` bytes, to be changed in place.
    pub fn undecided_mut(&mut self, count: usize) -> &mut [u8] {
        let end = self.buffer.len().min(self.decided + count);
        self.buffer.get_mut(self.decided..end).unwrap_or_default()
    }

    /// The next `count` bytes, or as many as are there, go the way of those decided on before. Returns how many.
    pub fn decide(&mut self, count: usize) -> usize {
        let count = count.min(self.buffer.len() - self.decided);
        self.decided += count;
        count
    }

    /// The last `count` of the bytes decided on.
    pub fn decided_tail(&self, count: usize) -> &[u8] {
        self.buffer.get(self.decided.saturating_sub(count)..self.decided).unwrap_or_default()
    }

    /// The bytes decided on, in one piece.
    pub fn take_decided(&mut self) -> Option<Bytes> {
        if self.decided == 0 {
            return None;
        }
        let decided = std::mem::take(&mut self.decided);
        if decided > COPY_MAX_BYTES {
            return Some(self.buffer.split_to(decided).freeze());
        }
        // Split off, a few bytes would keep a whole read buffer alive, and the next read would need another one.
        let bytes = Bytes::copy_from_slice(self.buffer.get(..decided).unwrap_or_default());
        self.buffer.advance(decided);
        Some(bytes)
    }

    /// The next `count` bytes, if they are all there. Only with nothing decided on.
    pub fn take(&mut self, count: usize) -> Option<Bytes> {
        (self.decided == 0 && self.buffer.len() >= count).then(|| self.buffer.split_to(count).freeze())
    }

    /// Drops up to `count` bytes. Returns how many. Only with nothing decided on.
    pub fn discard(&mut self, count: usize) -> usize {
        if self.decided != 0 {
            return 0;
        }
        let count = count.min(self.buffer.len());
        self.buffer.advance(count);
        count
    }

    /// Gives an empty buffer's memory back: what an idle connection costs.
    pub fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn fill(inbound: &mut Inbound, socket: &mut (impl AsyncRead + Unpin)) -> usize {
        std::future::poll_fn(|cx| inbound.poll_fill(cx, socket)).await.unwrap()
    }

    #[tokio::test]
    async fn frames_of_one_way_leave_in_one_piece() {
        let (mut far, mut near) = tokio::io::duplex(1024);
        far.write_all(b"aaabbbbcc").await.unwrap();
        let mut inbound = Inbound::new();
        assert_eq!(fill(&mut inbound, &mut near).await, 9);
        assert_eq!(inbound.decide(3), 3);
        assert_eq!(inbound.decide(4), 4);
        assert_eq!(inbound.undecided(), b"cc");
        assert_eq!(inbound.take(2), None, "something is decided on");
        assert_eq!(inbound.take_decided().unwrap(), &b"aaabbbb"[..]);
        assert_eq!(inbound.take_decided(), None);
        assert_eq!(inbound.decide(10), 2, "no more than there is");
        inbound.release();
        assert_eq!(inbound.take_decided().unwrap(), &b"cc"[..]);
    }

    #[tokio::test]
    async fn reads_grow_with_what_comes_and_shrink_again() {
        let (mut far, mut near) = tokio::io::duplex(2 * MAX_READ_BYTES);
        let mut inbound = Inbound::new();
        for _ in 0..20 {
            far.write_all(&vec![0; 2 * MAX_READ_BYTES]).await.unwrap();
            while inbound.undecided().len() < 2 * MAX_READ_BYTES {
                fill(&mut inbound, &mut near).await;
            }
            inbound.discard(2 * MAX_READ_BYTES);
        }
        assert!(inbound.read_bytes >= MAX_READ_BYTES / 2, "{}", inbound.read_bytes);
        for _ in 0..20 {
            far.write_all(b"x").await.unwrap();
            fill(&mut inbound, &mut near).await;
            inbound.discard(1);
        }
        assert_eq!(inbound.read_bytes, MIN_READ_BYTES);
    }
}
