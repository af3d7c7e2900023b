//! A consumer group as its coordinator tells it: who that is, and what is committed.
//!
//! Invariant: an error that passes is none here, but `None`; any other is an error.
//! Not here: being a member of a group; clients are.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, bail};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{FindCoordinatorRequest, GroupId, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;

use super::connection::Connection;

/// The last versions that ask for one group.
const FIND_COORDINATOR_VERSION: i16 = 3;
const OFFSET_FETCH_VERSION: i16 = 7;
/// A broker that is silent is not waited for: another may tell.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
const KEY_IS_GROUP: i8 = 0;

/// The broker that coordinates the group, as the one at this port says; asking creates the topic of offsets.
pub fn coordinator(port: u16, group: &str) -> Result<Option<i32>> {
    let request = FindCoordinatorRequest::default().with_key(StrBytes::from_string(group.to_owned())).with_key_type(KEY_IS_GROUP);
    let response = Connection::open_within(port, ANSWER_TIME_MAX)?.ask(FIND_COORDINATOR_VERSION, &request)?;
    Ok(passing(response.error_code)?.then_some(response.node_id.0))
}

/// What the coordinator at this port has as committed, by partition, where there is anything.
pub fn committed(port: u16, group: &str, topic: &str) -> Result<Option<BTreeMap<i32, i64>>> {
    let group = GroupId(StrBytes::from_string(group.to_owned()));
    let request = OffsetFetchRequest::default().with_group_id(group).with_topics(None).with_require_stable(true);
    let response = Connection::open_within(port, ANSWER_TIME_MAX)?.ask(OFFSET_FETCH_VERSION, &request)?;
    if !passing(response.error_code)? {
        return Ok(None);
    }
    let mut offsets = BTreeMap::new();
    for partition in response.topics.iter().filter(|told| told.name.as_str() == topic).flat_map(|told| &told.partitions) {
        if !passing(partition.error_code)? {
            return Ok(None);
        }
        if partition.committed_offset >= 0 {
            offsets.insert(partition.partition_index, partition.committed_offset);
        }
    }
    Ok(Some(offsets))
}

/// Whether it is no error; false where the same question may be answered later, or elsewhere.
fn passing(code: i16) -> Result<bool> {
    match ResponseError::try_from_code(code) {
        None => Ok(true),
        Some(error) if error.is_retriable() => Ok(false),
        Some(error) => bail!("asking for a group: {error:?}"),
    }
}
