//! A broker with its address, as it stands in every response that has one: node id, host, port, in this order.
//!
//! Deliberately absent: which fields follow; the files of the APIs say that.

use super::{Malformed, Reader, Span};

/// Tag of NodeEndpoints (KIP-951) in a Produce response (10 and up) and a Fetch response (16 and up).
pub const NODE_ENDPOINTS_TAG: u32 = 0;

/// A broker as a response names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeEntry<'a> {
    pub node: i32,
    pub host: &'a [u8],
    pub port: i32,
    /// `None`: null, or the version has none.
    pub rack: Option<&'a [u8]>,
    /// Node id, host and port.
    pub node_host_port: Span,
    /// Behind the port; empty where the version has none.
    pub rack_span: Span,
    /// The whole element, its tagged fields included.
    pub whole: Span,
}

impl<'a> NodeEntry<'a> {
    /// Node id 4, host at least 1, port 4.
    pub const SMALLEST_BYTES: usize = 9;

    /// Host and port alone, which are adjacent.
    pub fn host_port(&self) -> Span {
        Span { start: self.node_host_port.start + 4, end: self.node_host_port.end }
    }

    /// Node id, host and port; the caller reads on, and sets `whole`.
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<NodeEntry<'a>, Malformed> {
        let start = reader.position();
        let node = reader.i32()?;
        let host = reader.string()?;
        let port = reader.i32()?;
        let node_host_port = reader.span_from(start);
        let rack_span = reader.span_from(reader.position());
        Ok(NodeEntry { node, host, port, rack: None, node_host_port, rack_span, whole: node_host_port })
    }

    /// The same with a rack behind it.
    pub(super) fn read_with_rack(reader: &mut Reader<'a>) -> Result<NodeEntry<'a>, Malformed> {
        let mut entry = NodeEntry::read(reader)?;
        entry.rack = reader.nullable_string()?;
        entry.rack_span = reader.span_from(entry.node_host_port.end);
        Ok(entry)
    }

    /// Ends the element with its tagged fields, which nothing here looks into.
    pub(super) fn end(&mut self, reader: &mut Reader<'a>) -> Result<(), Malformed> {
        reader.skip_tagged_fields()?;
        self.whole = reader.span_from(self.node_host_port.start);
        Ok(())
    }
}

/// The array of leaders' addresses that KIP-951 puts behind the partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoints<'a> {
    /// Count and elements.
    pub whole: Span,
    pub nodes: Vec<NodeEntry<'a>>,
}

impl<'a> NodeEndpoints<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<NodeEndpoints<'a>, Malformed> {
        let start = reader.position();
        let count = reader.array(NodeEntry::SMALLEST_BYTES)?;
        let mut nodes = Vec::with_capacity(count.len);
        for _ in 0..count.len {
            let mut entry = NodeEntry::read_with_rack(reader)?;
            entry.end(reader)?;
            nodes.push(entry);
        }
        Ok(NodeEndpoints { whole: reader.span_from(start), nodes })
    }
}

/// A partition's leader as an error's hint names it (KIP-951).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderHint<'a> {
    pub topic: TopicRef<'a>,
    pub partition: i32,
    pub error: i16,
    pub leader: i32,
    pub leader_epoch: i32,
}

/// A topic by name or, in newer versions, by id (KIP-516).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicRef<'a> {
    Name(&'a [u8]),
    Id([u8; 16]),
}
