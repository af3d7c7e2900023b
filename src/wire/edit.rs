//! Replacing parts of a frame: everything that no edit names keeps its bytes.
//!
//! Invariant: edits ascend and do not overlap, and the length prefix that leaves is that of the frame that leaves.
//! Deliberately absent: what the bytes mean.

use bytes::Bytes;

use super::Span;

/// Why edits could not be applied. All three are our own mistakes or a configured host name of absurd length, never the peer's doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    #[error("edits overlap, are out of order, or lie outside the frame")]
    Misplaced,
    #[error("a string of {0} bytes cannot be encoded")]
    StringTooLong(usize),
    #[error("the edited frame would be over 2 GiB")]
    FrameTooLarge,
}

/// An ordered list of replacements in one frame.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    edits: Vec<Edit>,
    /// The replacements' bytes, one behind the other.
    replacements: Vec<u8>,
    failure: Option<EditError>,
}

#[derive(Clone, Copy, Debug)]
struct Edit {
    span: Span,
    /// Where its replacement ends in `replacements`; it begins where the one before it ends.
    replacement_end: usize,
}

impl Edits {
    pub fn new() -> Edits {
        Edits::default()
    }

    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Replaces `span` by what `write` writes. Spans come in ascending order; the length prefix is not for the caller.
    pub fn replace(&mut self, span: Span, flexible: bool, write: impl FnOnce(&mut Writer<'_>)) {
        let last_end = self.edits.last().map_or(4, |last| last.span.end);
        if span.start < last_end || span.end < span.start {
            self.failure.get_or_insert(EditError::Misplaced);
        }
        write(&mut Writer { out: &mut self.replacements, flexible, failure: &mut self.failure });
        self.edits.push(Edit { span, replacement_end: self.replacements.len() });
    }

    /// Takes `span` out.
    pub fn remove(&mut self, span: Span) {
        self.replace(span, false, |_| ());
    }

    /// The edited frame, in one buffer of exactly its size; the very same `Bytes` where there are no edits.
    pub fn apply(&self, frame: &Bytes) -> Result<Bytes, EditError> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if self.edits.is_empty() {
            return Ok(frame.clone());
        }
        let removed: usize = self.edits.iter().map(|edit| (edit.span.end - edit.span.start) as usize).sum();
        let kept = frame.len().checked_sub(removed).ok_or(EditError::Misplaced)?;
        let edited_bytes = kept + self.replacements.len();
        let body_bytes = edited_bytes.checked_sub(4).ok_or(EditError::Misplaced)?;
        let body_bytes = i32::try_from(body_bytes).map_err(|_| EditError::FrameTooLarge)?;

        let mut out = Vec::with_capacity(edited_bytes);
        out.extend_from_slice(&body_bytes.to_be_bytes());
        let (mut from, mut replacement_start) = (4, 0);
        for edit in &self.edits {
            out.extend_from_slice(frame.get(from..edit.span.start as usize).ok_or(EditError::Misplaced)?);
            out.extend_from_slice(&self.replacements[replacement_start..edit.replacement_end]);
            from = edit.span.end as usize;
            replacement_start = edit.replacement_end;
        }
        out.extend_from_slice(frame.get(from..).ok_or(EditError::Misplaced)?);
        debug_assert_eq!(out.len(), edited_bytes);
        Ok(Bytes::from(out))
    }
}

/// A frame of our own: its length prefix, and what `write` writes behind it.
pub fn new_frame(flexible: bool, write: impl FnOnce(&mut Writer<'_>)) -> Result<Bytes, EditError> {
    let (mut out, mut failure) = (vec![0; 4], None);
    write(&mut Writer { out: &mut out, flexible, failure: &mut failure });
    if let Some(failure) = failure {
        return Err(failure);
    }
    let body_bytes = i32::try_from(out.len() - 4).map_err(|_| EditError::FrameTooLarge)?;
    out[..4].copy_from_slice(&body_bytes.to_be_bytes());
    Ok(Bytes::from(out))
}

/// Writes fields.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    flexible: bool,
    failure: &'a mut Option<EditError>,
}

impl Writer<'_> {
    pub fn i16(&mut self, value: i16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Bytes that are encoded already.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    pub fn string(&mut self, value: &str) {
        // Kafka reads a compact string's length into 16 bits' worth as well.
        match i16::try_from(value.len()) {
            Ok(len) if self.flexible => self.uvarint(len as u32 + 1),
            Ok(len) => self.i16(len),
            Err(_) => {
                self.failure.get_or_insert(EditError::StringTooLong(value.len()));
                return;
            }
        }
        self.out.extend_from_slice(value.as_bytes());
    }

    pub fn nullable_string(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.string(value),
            None if self.flexible => self.uvarint(0),
            None => self.i16(-1),
        }
    }

    /// An array's count.
    pub fn count(&mut self, len: usize) {
        let Ok(len) = i32::try_from(len) else {
            self.failure.get_or_insert(EditError::FrameTooLarge);
            return;
        };
        if self.flexible { self.uvarint(len as u32 + 1) } else { self.i32(len) }
    }

    /// A structure without tagged fields ends; nothing where the version is not flexible.
    pub fn no_tagged_fields(&mut self) {
        if self.flexible {
            self.uvarint(0);
        }
    }

    /// A length, then what `write` writes, as a tagged field's value stands.
    pub fn sized(&mut self, write: impl FnOnce(&mut Writer<'_>)) {
        let mut value = Vec::new();
        write(&mut Writer { out: &mut value, flexible: self.flexible, failure: self.failure });
        match u32::try_from(value.len()) {
            Ok(len) => self.uvarint(len),
            Err(_) => {
                self.failure.get_or_insert(EditError::FrameTooLarge);
            }
        }
        self.out.extend_from_slice(&value);
    }
}

#[cfg(test)]
#[path = "tests/edit.rs"]
mod tests;
