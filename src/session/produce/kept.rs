//! A request's frame, kept because it may have to be sent again.

use bytes::{Bytes, BytesMut};

/// The pieces in which the frame went through, none of them copied unless it was small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pieces: Vec<Bytes>,
}

impl Kept {
    pub fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.pieces.push(piece);
        }
    }

    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    #[cfg(test)]
    pub fn without_first_piece(mut self) -> Kept {
        if self.pieces.len() > 1 {
            self.pieces.remove(0);
        }
        self
    }

    /// The whole frame in one piece; copied only where it came in several.
    pub fn into_frame(mut self) -> Bytes {
        if self.pieces.len() == 1 {
            return self.pieces.pop().unwrap_or_default();
        }
        let mut frame = BytesMut::with_capacity(self.len());
        self.pieces.iter().for_each(|piece| frame.extend_from_slice(piece));
        frame.freeze()
    }
}

impl From<Bytes> for Kept {
    fn from(frame: Bytes) -> Kept {
        Kept { pieces: vec![frame] }
    }
}
