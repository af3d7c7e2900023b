//! One request being read and its answer being written, side by side: most of an answer repeats its request.
//!
//! Invariant: an element of the answer is written only where one of the request is read, and each of those takes a byte at least.
//! Deliberately absent: layouts; each API's file has its own.

use crate::wire::{Malformed, Reader, Writer};

type Read = Result<(), Malformed>;

pub(super) struct Turn<'a, 'w, 'o> {
    pub(super) version: i16,
    code: i16,
    frame: &'a [u8],
    request: Reader<'a>,
    answer: &'w mut Writer<'o>,
}

impl<'a, 'w, 'o> Turn<'a, 'w, 'o> {
    pub(super) fn new(version: i16, code: i16, frame: &'a [u8], request: Reader<'a>, answer: &'w mut Writer<'o>) -> Turn<'a, 'w, 'o> {
        Turn { version, code, frame, request, answer }
    }

    /// Whether this is version `first` or a later one.
    pub(super) fn from(&self, first: i16) -> bool {
        self.version >= first
    }
}

/// Reading past what the answer does not repeat.
impl Turn<'_, '_, '_> {
    pub(super) fn skip(&mut self, bytes: usize) -> Read {
        self.request.raw(bytes).map(|_| ())
    }

    /// Numbers that stand there from version `first` on.
    pub(super) fn skip_from(&mut self, first: i16, bytes: usize) -> Read {
        if self.from(first) { self.skip(bytes) } else { Ok(()) }
    }

    pub(super) fn skip_string(&mut self) -> Read {
        self.request.nullable_string().map(|_| ())
    }

    pub(super) fn skip_string_from(&mut self, first: i16) -> Read {
        if self.from(first) { self.skip_string() } else { Ok(()) }
    }

    /// An array of numbers.
    pub(super) fn skip_numbers(&mut self, each_bytes: usize) -> Read {
        self.request.skip_array(each_bytes)
    }

    /// An array of structures; how many there were.
    pub(super) fn skip_each(&mut self, mut element: impl FnMut(&mut Self) -> Read) -> Result<usize, Malformed> {
        let count = self.request.array(1)?;
        for _ in 0..count.len {
            element(self)?;
            self.request.skip_tagged_fields()?;
        }
        Ok(count.len)
    }
}

/// What the answer repeats, in the bytes that came.
impl Turn<'_, '_, '_> {
    fn echo(&mut self, read: impl FnOnce(&mut Self) -> Read) -> Read {
        let start = self.request.position();
        read(self)?;
        self.answer.raw(self.request.span_from(start).of(self.frame).unwrap_or_default());
        Ok(())
    }

    pub(super) fn echo_string(&mut self) -> Read {
        self.echo(|turn| turn.request.string().map(|_| ()))
    }

    pub(super) fn echo_i32(&mut self) -> Read {
        self.echo(|turn| turn.skip(4))
    }

    pub(super) fn echo_topic_id(&mut self) -> Read {
        self.echo(|turn| turn.skip(16))
    }

    /// A topic's name, or from version `first_with_ids` on its id.
    pub(super) fn echo_topic(&mut self, first_with_ids: i16) -> Read {
        if self.from(first_with_ids) { self.echo_topic_id() } else { self.echo_string() }
    }

    /// Structures there, structures here.
    pub(super) fn each(&mut self, mut element: impl FnMut(&mut Self) -> Read) -> Read {
        self.each_value(|turn| {
            element(turn)?;
            turn.request.skip_tagged_fields()
        })
    }

    /// Bare strings or numbers there, structures here.
    pub(super) fn each_value(&mut self, mut element: impl FnMut(&mut Self) -> Read) -> Read {
        let count = self.request.array(1)?;
        self.answer.count(count.len);
        for _ in 0..count.len {
            element(self)?;
            self.answer.no_tagged_fields();
        }
        Ok(())
    }
}

/// What is the answer's own.
impl Turn<'_, '_, '_> {
    /// What is denied.
    pub(super) fn code(&mut self) {
        self.answer.i16(self.code);
    }

    /// No error at this level: it stands further in.
    pub(super) fn no_code(&mut self) {
        self.answer.i16(0);
    }

    pub(super) fn no_throttle_from(&mut self, first: i16) {
        self.i32_from(first, 0);
    }

    pub(super) fn i8(&mut self, value: i8) {
        self.answer.raw(&value.to_be_bytes());
    }

    pub(super) fn i16(&mut self, value: i16) {
        self.answer.i16(value);
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.answer.i32(value);
    }

    pub(super) fn i32_from(&mut self, first: i16, value: i32) {
        if self.from(first) {
            self.i32(value);
        }
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.answer.i64(value);
    }

    pub(super) fn i64_from(&mut self, first: i16, value: i64) {
        if self.from(first) {
            self.i64(value);
        }
    }

    pub(super) fn null_string(&mut self) {
        self.answer.nullable_string(None);
    }

    pub(super) fn null_string_from(&mut self, first: i16) {
        if self.from(first) {
            self.null_string();
        }
    }

    pub(super) fn empty_string(&mut self) {
        self.answer.string("");
    }

    /// An array without elements. Bytes and records without any are written alike.
    pub(super) fn empty(&mut self) {
        self.answer.count(0);
    }

    /// Only in versions that are not flexible is it written otherwise than a null string.
    pub(super) fn null_array(&mut self, flexible_from: i16) {
        if self.from(flexible_from) { self.answer.uvarint(0) } else { self.answer.i32(-1) }
    }

    /// A structure within another that may be null.
    pub(super) fn null_structure(&mut self) {
        self.i8(-1);
    }

    /// A structure that is no array's element ends.
    pub(super) fn end_structure(&mut self) {
        self.answer.no_tagged_fields();
    }
}
