//! The DescribeCluster response (KIP-700), versions 0 to 2.
//!
//! Deliberately absent: whether a broker is fenced (version 2, KIP-1073); a fenced one has an address like any other.

use super::metadata::Controller;
use super::node::NodeEntry;
use super::{ApiKey, Count, Malformed};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeClusterResponse<'a> {
    /// 1: brokers, 2: controllers (KIP-919); 1 in version 0.
    pub endpoint_type: i8,
    pub cluster_id: &'a [u8],
    pub controller: Controller,
    pub broker_count: Count,
    pub brokers: Vec<NodeEntry<'a>>,
}

pub const LAST_VERSION: i16 = 2;

impl<'a> DescribeClusterResponse<'a> {
    /// Parses a whole frame.
    pub fn parse(frame: &'a [u8], version: i16) -> Result<DescribeClusterResponse<'a>, Malformed> {
        let mut reader = super::response_body(frame, ApiKey::DESCRIBE_CLUSTER, version, LAST_VERSION)?;
        let reader = &mut reader;
        let _throttle_time_ms = reader.i32()?;
        let _error = reader.i16()?;
        let _message = reader.nullable_string()?;
        let endpoint_type = if version >= 1 { reader.i8()? } else { 1 };
        let cluster_id = reader.string()?;
        let controller_start = reader.position();
        let controller = Controller { node: reader.i32()?, span: reader.span_from(controller_start) };
        let broker_count = reader.array(NodeEntry::SMALLEST_BYTES)?;
        let mut brokers = Vec::with_capacity(broker_count.len);
        for _ in 0..broker_count.len {
            let mut broker = NodeEntry::read_with_rack(reader)?;
            if version >= 2 {
                let _is_fenced = reader.i8()?;
            }
            broker.end(reader)?;
            brokers.push(broker);
        }
        let _cluster_authorized_operations = reader.i32()?;
        reader.skip_tagged_fields()?;
        Ok(DescribeClusterResponse { endpoint_type, cluster_id, controller, broker_count, brokers })
    }
}
