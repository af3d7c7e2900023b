//! Asking who coordinates what.
//!
//! A client that asks makes the cluster create the topic behind its kind (`__consumer_offsets`), and so do we; but what sessions want
//! coordinators for, a client has asked for before.
//!
//! Invariant: what an answer says counts only for keys that it was asked for. Deliberately absent: connections, and when to ask.

use std::collections::BTreeMap;

use kafka_protocol::messages::FindCoordinatorRequest;
use kafka_protocol::protocol::StrBytes;

use super::exchange::Exchange;
use super::requests::{AskError, CORRELATION_ID, Ranges, encode};
use super::wants::{Keys, Takes};
use crate::cluster::{CoordinatorKind, CoordinatorObservation};
use crate::wire::ApiKey;
use crate::wire::find_coordinator::{FindCoordinatorResponse, LAST_VERSION};

const API: ApiKey = ApiKey::FIND_COORDINATOR;

/// The version to ask a broker in that serves `ranges`; `None`: it has none that we know.
pub(super) fn served_version(ranges: &Ranges) -> Option<i16> {
    let (_, range) = ranges.iter().find(|(key, _)| *key == API)?;
    let version = range.max.min(LAST_VERSION);
    (version >= range.min.max(0)).then_some(version)
}

/// One request per kind, or one per key, one behind the other.
pub(super) async fn ask_coordinators(
    connection: &mut impl Exchange,
    takes: Takes,
    keys: &Keys,
) -> Result<Vec<CoordinatorObservation>, AskError> {
    let Some(version) = takes.coordinators else { return Ok(Vec::new()) };
    let mut of_kinds: BTreeMap<CoordinatorKind, Vec<&str>> = BTreeMap::new();
    for (kind, key) in keys {
        of_kinds.entry(*kind).or_default().push(key);
    }
    let mut named = Vec::new();
    for (kind, keys) in of_kinds {
        for keys in keys.chunks(if takes.keys_together() { keys.len() } else { 1 }) {
            named.extend(ask_once(connection, version, kind, keys).await?);
        }
    }
    Ok(named)
}

async fn ask_once(
    connection: &mut impl Exchange,
    version: i16,
    kind: CoordinatorKind,
    keys: &[&str],
) -> Result<Vec<CoordinatorObservation>, AskError> {
    let text = |key: &&str| StrBytes::from_string((*key).to_owned());
    let mut body = FindCoordinatorRequest::default().with_key_type(kind.key_type());
    if version >= 4 {
        body.coordinator_keys = keys.iter().map(text).collect();
    } else {
        body.key = keys.first().map(text).unwrap_or_default();
    }
    let frame = connection.exchange(encode(API, version, &body)?, CORRELATION_ID).await?;
    let response = FindCoordinatorResponse::parse(&frame, version).map_err(|source| AskError::Malformed { api: API, version, source })?;
    let asked: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
    Ok(CoordinatorObservation::of_response(kind, &asked, &response))
}
