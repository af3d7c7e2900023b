//! Taking brokers' addresses out of a response while it streams: those that stand behind all its records, so that a response of any
//! size needs no buffer.
//!
//! Invariant: the frame keeps its length, and every byte before the addresses. However the frame is cut into chunks, the same bytes
//! leave. Deliberately absent: looking into records; putting virtual addresses in (they would not fit in place: none is told, which
//! clients take as "ask for metadata").

use super::node::NODE_ENDPOINTS_TAG;
use super::{ApiKey, Malformed};

/// What a response of one version consists of, as far as its end can be found by it. All of these versions are flexible.
#[derive(Debug)]
enum Field {
    /// Fields of fixed size, that many bytes together.
    Fixed(u32),
    /// A compact string, byte array or records.
    Sized,
    Array(&'static [Field]),
    /// Tagged fields that stay as they are.
    Tags,
    /// Tagged fields of which NodeEndpoints is struck out (KIP-951).
    TagsWithEndpoints,
    /// The NodeEndpoints of ShareFetch, which are no tagged field, and with them the rest of the frame.
    Endpoints,
}

use Field::{Array, Endpoints, Fixed, Sized, Tags, TagsWithEndpoints};

/// Fetch 16 to 18: from the length prefix on.
static FETCH: [Field; 5] = [Fixed(8), Tags, Fixed(10), Array(&FETCH_TOPIC), TagsWithEndpoints];
static FETCH_TOPIC: [Field; 3] = [Fixed(16), Array(&FETCH_PARTITION), Tags];
/// Index, error and three offsets; aborted transactions; preferred replica; records.
static FETCH_PARTITION: [Field; 5] = [Fixed(30), Array(&ABORTED), Fixed(4), Sized, Tags];
static ABORTED: [Field; 2] = [Fixed(16), Tags];

/// ShareFetch 0, and from version 1 with the acquisition lock's timeout.
static SHARE_FETCH_0: [Field; 6] = [Fixed(8), Tags, Fixed(6), Sized, Array(&SHARE_TOPIC), Endpoints];
static SHARE_FETCH: [Field; 7] = [Fixed(8), Tags, Fixed(6), Sized, Fixed(4), Array(&SHARE_TOPIC), Endpoints];
static SHARE_TOPIC: [Field; 3] = [Fixed(16), Array(&SHARE_PARTITION), Tags];
/// Index, error and message; acknowledge error and message; leader; records; acquired records.
static SHARE_PARTITION: [Field; 9] = [Fixed(6), Sized, Fixed(2), Sized, Fixed(8), Tags, Sized, Array(&ACQUIRED), Tags];
static ACQUIRED: [Field; 2] = [Fixed(18), Tags];

/// Response, topics, partitions, and arrays in partitions.
const DEEPEST: usize = 4;

/// A tag that no message defines; one byte.
const FILLER_TAG: u8 = 0x7f;

/// One streamed response. Feed it the frame from its first byte, in chunks of any size, before they are written.
#[derive(Debug)]
pub struct EndpointSkimmer {
    frame_bytes: u32,
    position: u32,
    levels: [Level; DEEPEST],
    depth: usize,
    step: Step,
    struck: bool,
}

/// A list of fields that is being walked, and how often again after this time.
#[derive(Clone, Copy, Debug)]
struct Level {
    fields: &'static [Field],
    next: usize,
    more: u32,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Whatever the next field is.
    Field,
    Skip(u32),
    Number {
        of: Number,
        value: u32,
        shift: u32,
    },
    /// A tagged field's value, then that many more fields.
    Value {
        left: u32,
        tags: TagsLeft,
        blank: bool,
    },
    /// A substitute's head, from this of its bytes on; zeros behind it.
    Substitute {
        head: [u8; 12],
        next: usize,
    },
}

/// What a variable-length number counts.
#[derive(Clone, Copy, Debug)]
enum Number {
    Size,
    Count(&'static [Field]),
    Tags { strike: bool },
    Tag(TagsLeft),
    ValueSize { tags: TagsLeft, blank: bool },
}

#[derive(Clone, Copy, Debug)]
struct TagsLeft {
    fields: u32,
    strike: bool,
}

fn layout(api: ApiKey, version: i16) -> Option<&'static [Field]> {
    match (api, version) {
        (ApiKey::FETCH, 16..=18) => Some(&FETCH),
        (ApiKey::SHARE_FETCH, 0) => Some(&SHARE_FETCH_0),
        (ApiKey::SHARE_FETCH, 1..=2) => Some(&SHARE_FETCH),
        _ => None,
    }
}

impl EndpointSkimmer {
    /// For a frame of that size (length prefix included). `None`: this version has no addresses behind its records, or its layout is
    /// not known.
    pub fn new(api: ApiKey, version: i16, frame_bytes: u32) -> Option<EndpointSkimmer> {
        let fields = layout(api, version)?;
        let mut levels = [Level { fields: &[], next: 0, more: 0 }; DEEPEST];
        levels[0].fields = fields;
        Some(EndpointSkimmer { frame_bytes, position: 0, levels, depth: 1, step: Step::Field, struck: false })
    }

    /// Whether there is a skimmer for this version.
    pub fn knows(api: ApiKey, version: i16) -> bool {
        layout(api, version).is_some()
    }

    /// Whether addresses have been taken out.
    pub fn struck(&self) -> bool {
        self.struck
    }

    /// Walks on over the frame's next bytes, and blanks those that name brokers.
    ///
    /// # Errors
    /// The frame does not fit its layout: the rest of it must not be relayed. So it is if its end is reached before the layout's, and
    /// if bytes follow.
    pub fn advance(&mut self, chunk: &mut [u8]) -> Result<(), Malformed> {
        let mut rest = chunk;
        loop {
            if self.next_field()? {
                return if rest.is_empty() { Ok(()) } else { self.malformed("bytes follow the response's last field") };
            }
            if rest.is_empty() {
                return if self.left() == 0 { self.malformed("the frame ends within the response") } else { Ok(()) };
            }
            let taken = self.step(rest)?;
            self.position += taken as u32;
            rest = rest.get_mut(taken..).unwrap_or_default();
        }
    }

    fn malformed<T>(&self, what: &'static str) -> Result<T, Malformed> {
        Err(Malformed { what, at: self.position })
    }

    /// Bytes of the frame behind the position.
    fn left(&self) -> u32 {
        self.frame_bytes - self.position
    }

    /// Goes on to the next field that has bytes. True: there is none, the response is whole.
    fn next_field(&mut self) -> Result<bool, Malformed> {
        while matches!(self.step, Step::Field | Step::Skip(0)) {
            let Some(level) = self.depth.checked_sub(1).and_then(|top| self.levels.get_mut(top)) else { return Ok(true) };
            let Some(field) = level.fields.get(level.next) else {
                if level.more > 0 {
                    level.more -= 1;
                    level.next = 0;
                } else {
                    self.depth -= 1;
                }
                continue;
            };
            level.next += 1;
            self.step = match field {
                Fixed(bytes) => self.skip(*bytes)?,
                Sized => number(Number::Size),
                Array(fields) => number(Number::Count(fields)),
                Tags => number(Number::Tags { strike: false }),
                TagsWithEndpoints => number(Number::Tags { strike: true }),
                Endpoints => Step::Substitute { head: self.substitute()?, next: 0 },
            };
        }
        Ok(false)
    }

    fn skip(&self, bytes: u32) -> Result<Step, Malformed> {
        if bytes > self.left() { self.malformed("a length is over what is left of the frame") } else { Ok(Step::Skip(bytes)) }
    }

    /// Takes some of the bytes, of which there is at least one.
    fn step(&mut self, bytes: &mut [u8]) -> Result<usize, Malformed> {
        if bytes.len() as u64 > u64::from(self.left()) {
            return self.malformed("more bytes than the frame has");
        }
        match self.step {
            Step::Field => Ok(0),
            Step::Skip(left) => {
                let taken = bytes.len().min(left as usize);
                self.step = Step::Skip(left - taken as u32);
                Ok(taken)
            }
            Step::Value { left, tags, blank } => {
                let taken = bytes.len().min(left as usize);
                if blank && let Some(value) = bytes.get_mut(..taken) {
                    value.fill(0);
                }
                let left = left - taken as u32;
                self.step = if left > 0 { Step::Value { left, tags, blank } } else { tag_or_end(tags) };
                Ok(taken)
            }
            Step::Substitute { head, next } => self.substitute_step(bytes, head, next),
            Step::Number { of, value, shift } => {
                let Some(byte) = bytes.first_mut() else { return Ok(0) };
                if shift == 28 && *byte > 0x0f {
                    return self.malformed("a variable-length number is over 32 bits");
                }
                let value = value | u32::from(*byte & 0x7f) << shift;
                if *byte & 0x80 != 0 {
                    self.step = Step::Number { of, value, shift: shift + 7 };
                } else {
                    self.step = self.number_read(of, value, shift, byte)?;
                }
                Ok(1)
            }
        }
    }

    /// A number's last byte, not yet counted in the position, is there.
    fn number_read(&mut self, of: Number, value: u32, shift: u32, last_byte: &mut u8) -> Result<Step, Malformed> {
        let left = self.left() - 1;
        match of {
            Number::Size => match value.saturating_sub(1) {
                size if size > left => self.malformed("a length is over what is left of the frame"),
                size => Ok(Step::Skip(size)),
            },
            Number::Count(fields) => {
                let count = value.saturating_sub(1);
                if count > left {
                    return self.malformed("an array's count is over what is left of the frame");
                }
                if let Some(more) = count.checked_sub(1) {
                    // The layouts above are `DEEPEST` deep.
                    let Some(level) = self.levels.get_mut(self.depth) else { return self.malformed("arrays are nested too deep") };
                    *level = Level { fields, next: 0, more };
                    self.depth += 1;
                }
                Ok(Step::Field)
            }
            Number::Tags { .. } if value > left => self.malformed("there are more tagged fields than bytes"),
            Number::Tags { strike } => Ok(tag_or_end(TagsLeft { fields: value, strike })),
            Number::Tag(tags) => {
                let blank = tags.strike && value == NODE_ENDPOINTS_TAG;
                if blank {
                    if shift != 0 {
                        return self.malformed("a tag is written longer than it is");
                    }
                    *last_byte = FILLER_TAG;
                    self.struck = true;
                }
                Ok(number(Number::ValueSize { tags, blank }))
            }
            Number::ValueSize { .. } if value > left => self.malformed("a length is over what is left of the frame"),
            Number::ValueSize { tags, .. } if value == 0 => Ok(tag_or_end(tags)),
            Number::ValueSize { tags, blank } => Ok(Step::Value { left: value, tags, blank }),
        }
    }

    /// What replaces the endpoints and all behind them, up to its zeros: an empty array, and one tagged field that fills the frame. A
    /// second, empty one comes before it where the other's length would have to be written longer than it is.
    fn substitute(&self) -> Result<[u8; 12], Malformed> {
        const SECOND_FILLER: [u8; 2] = [FILLER_TAG - 1, 0];
        for extra in [&[][..], &SECOND_FILLER[..]] {
            let before = 1 + 1 + extra.len() as u32 + 1; // the array, the count of tags, the extra one, the tag
            for length_bytes in 1..=5 {
                let Some(value_bytes) = self.left().checked_sub(before + length_bytes) else { continue };
                let length = uvarint(value_bytes);
                if length.1 as u32 == length_bytes {
                    let mut head = [0; 12];
                    let fields = 1 + (extra.len() as u8) / 2;
                    let parts = [1, fields].into_iter().chain(extra.iter().copied()).chain([FILLER_TAG]).chain(length.0);
                    head.iter_mut().zip(parts).for_each(|(to, byte)| *to = byte);
                    return Ok(head);
                }
            }
        }
        // Too short for any endpoint: nothing but an empty array can follow, and that needs no substitute.
        Ok([0; 12])
    }

    fn substitute_step(&mut self, bytes: &mut [u8], head: [u8; 12], next: usize) -> Result<usize, Malformed> {
        if next == 0 && bytes.first() == Some(&1) {
            // An empty array stays, and so do the tagged fields behind it.
            self.step = number(Number::Tags { strike: false });
            return Ok(1);
        }
        if head[0] == 0 {
            return self.malformed("the frame ends within the response");
        }
        self.struck = true;
        let heads = head.iter().skip(next).copied().chain(std::iter::repeat(0));
        bytes.iter_mut().zip(heads).for_each(|(to, byte)| *to = byte);
        let taken = bytes.len();
        let whole = taken as u32 == self.left();
        self.step = if whole { Step::Field } else { Step::Substitute { head, next: next.saturating_add(taken) } };
        Ok(taken)
    }
}

fn number(of: Number) -> Step {
    Step::Number { of, value: 0, shift: 0 }
}

fn tag_or_end(tags: TagsLeft) -> Step {
    match tags.fields.checked_sub(1) {
        Some(fields) => number(Number::Tag(TagsLeft { fields, ..tags })),
        None => Step::Field,
    }
}

/// A variable-length number's bytes and how many they are.
fn uvarint(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    for (index, byte) in bytes.iter_mut().enumerate() {
        if value < 0x80 {
            *byte = value as u8;
            return (bytes, index + 1);
        }
        *byte = (value as u8 & 0x7f) | 0x80;
        value >>= 7;
    }
    (bytes, 5)
}

#[cfg(test)]
#[path = "tests/skim.rs"]
mod tests;
