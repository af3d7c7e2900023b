//! A bounded cursor over one whole frame that nobody has checked yet.
//!
//! Invariant: every length and count is held against the bytes that are left before it is used or handed out.
//! Deliberately absent: partial frames (see `head` and `skim`); copies of what is read.

use super::Span;

/// Bytes that do not fit the message's definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}, at byte {at}")]
pub struct Malformed {
    pub what: &'static str,
    /// Counted from the frame's first byte.
    pub at: u32,
}

/// An array's count and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Not more than fit into what is left of the frame. A null array counts as empty.
    pub len: usize,
    pub span: Span,
}

/// The tagged fields at the end of a structure (KIP-482).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaggedFields {
    pub count: Count,
    /// The field that was asked for.
    pub found: Option<TaggedField>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaggedField {
    /// Tag, length and value.
    pub whole: Span,
    /// The value alone.
    pub value: Span,
}

/// Reads a frame from behind its length prefix. Spans and positions count from the frame's first byte.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    flexible: bool,
}

impl<'a> Reader<'a> {
    /// Over a whole frame, from behind its length prefix. In a flexible version (KIP-482) strings, byte arrays and arrays are compact.
    ///
    /// # Errors
    /// The length prefix is not that of `frame`.
    pub fn new(frame: &'a [u8], flexible: bool) -> Result<Reader<'a>, Malformed> {
        let mut reader = Reader { bytes: frame, at: 0, flexible };
        let body_bytes = reader.i32()?;
        match u32::try_from(body_bytes) {
            Ok(body_bytes) if frame.len() as u64 == u64::from(body_bytes) + 4 => Ok(reader),
            _ => Err(Malformed { what: "the length prefix is not the frame's length", at: 0 }),
        }
    }

    /// Over a part of the same frame, a tagged field's value for one.
    pub fn within(&self, span: Span) -> Reader<'a> {
        let end = (span.end as usize).min(self.bytes.len());
        Reader { bytes: self.bytes.get(..end).unwrap_or_default(), at: span.start as usize, flexible: self.flexible }
    }

    /// The same place in the same bytes, read as a flexible version or not.
    pub fn with_flexible(self, flexible: bool) -> Reader<'a> {
        Reader { flexible, ..self }
    }

    /// Where the next read begins.
    pub fn position(&self) -> u32 {
        self.at as u32
    }

    /// From `start` to where the next read begins.
    pub fn span_from(&self, start: u32) -> Span {
        Span { start, end: self.position() }
    }

    pub fn is_flexible(&self) -> bool {
        self.flexible
    }

    fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The last `len` bytes that were read.
    pub(super) fn span_behind(&self, len: usize) -> Span {
        Span { start: self.at.saturating_sub(len) as u32, end: self.position() }
    }

    pub(super) fn malformed<T>(&self, what: &'static str) -> Result<T, Malformed> {
        Err(Malformed { what, at: self.at as u32 })
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        match self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>()) {
            Some(taken) => {
                self.at += N;
                Ok(*taken)
            }
            None => self.malformed("the frame ends within a number"),
        }
    }

    /// The next `len` bytes.
    pub fn raw(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        match self.bytes.get(self.at..).and_then(|rest| rest.get(..len)) {
            Some(taken) => {
                self.at += len;
                Ok(taken)
            }
            None => self.malformed("a length is over what is left of the frame"),
        }
    }

    pub fn i8(&mut self) -> Result<i8, Malformed> {
        self.take().map(i8::from_be_bytes)
    }

    pub fn i16(&mut self) -> Result<i16, Malformed> {
        self.take().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Malformed> {
        self.take().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.take().map(i64::from_be_bytes)
    }

    pub fn uuid(&mut self) -> Result<[u8; 16], Malformed> {
        self.take()
    }

    /// An unsigned variable-length number of at most 32 bits.
    pub fn uvarint(&mut self) -> Result<u32, Malformed> {
        match uvarint_of(|| self.take().map(|[byte]| byte))? {
            Some(value) => Ok(value),
            None => self.malformed("a variable-length number is over 32 bits"),
        }
    }

    /// A string that may be null. Its bytes as they are: Kafka's own reader does not insist on UTF-8.
    pub fn nullable_string(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let len = if self.flexible { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i16()?) };
        self.of_nullable_length(len)
    }

    /// A string that must not be null.
    pub fn string(&mut self) -> Result<&'a [u8], Malformed> {
        match self.nullable_string()? {
            Some(string) => Ok(string),
            None => self.malformed("a string is null"),
        }
    }

    /// A byte array, or records, that may be null.
    pub fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let len = if self.flexible { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i32()?) };
        self.of_nullable_length(len)
    }

    fn of_nullable_length(&mut self, len: i64) -> Result<Option<&'a [u8]>, Malformed> {
        match len {
            -1 => Ok(None),
            len => match usize::try_from(len) {
                Ok(len) => self.raw(len).map(Some),
                Err(_) => self.malformed("a length is negative"),
            },
        }
    }

    /// An array's count, where each element takes at least `element_bytes` (a caller may reserve room by it).
    pub fn array(&mut self, element_bytes: usize) -> Result<Count, Malformed> {
        let start = self.position();
        let len = if self.flexible { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i32()?) };
        let len = match usize::try_from(len) {
            Ok(len) => len,
            Err(_) if len == -1 => 0,
            Err(_) => return self.malformed("an array's count is negative"),
        };
        self.bounded(start, len, element_bytes)
    }

    /// Skips an array of elements of one fixed size, without tagged fields.
    pub fn skip_array(&mut self, element_bytes: usize) -> Result<(), Malformed> {
        let count = self.array(element_bytes)?;
        self.raw(count.len * element_bytes).map(|_| ())
    }

    fn bounded(&self, start: u32, len: usize, element_bytes: usize) -> Result<Count, Malformed> {
        if len.checked_mul(element_bytes.max(1)).is_none_or(|bytes| bytes > self.remaining()) {
            return self.malformed("an array's count is over what is left of the frame");
        }
        Ok(Count { len, span: self.span_from(start) })
    }

    /// Skips a structure's tagged fields; in a version that is not flexible there are none.
    pub fn skip_tagged_fields(&mut self) -> Result<(), Malformed> {
        if self.flexible {
            self.tagged_fields(None)?;
        }
        Ok(())
    }

    /// Skips a structure's tagged fields, and says where the one with `tag` lies. Only in flexible versions.
    ///
    /// # Errors
    /// That tag stands there twice, besides what any read may run into.
    pub fn tagged_fields(&mut self, tag: Option<u32>) -> Result<TaggedFields, Malformed> {
        let start = self.position();
        let len = self.uvarint()? as usize;
        let count = self.bounded(start, len, 2)?;
        let mut found = None;
        for _ in 0..len {
            let start = self.position();
            let this = self.uvarint()?;
            let len = self.uvarint()? as usize;
            let value_start = self.position();
            self.raw(len)?;
            if Some(this) == tag {
                let field = TaggedField { whole: self.span_from(start), value: self.span_from(value_start) };
                if found.replace(field).is_some() {
                    return self.malformed("a tagged field stands twice");
                }
            }
        }
        Ok(TaggedFields { count, found })
    }
}

#[cfg(test)]
#[path = "tests/reader.rs"]
mod tests;

/// An unsigned variable-length number out of bytes as they come; `None`: it is over 32 bits.
#[inline]
pub(super) fn uvarint_of<E>(mut next: impl FnMut() -> Result<u8, E>) -> Result<Option<u32>, E> {
    let mut value = 0u32;
    for shift in [0, 7, 14, 21, 28] {
        let byte = next()?;
        if shift == 28 && byte > 0x0f {
            break;
        }
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(Some(value));
        }
    }
    Ok(None)
}
