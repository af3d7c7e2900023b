//! Which denials each API has, in which versions, and who writes them.
//!
//! Invariant: up to the highest version that is served, no version is missing behind the first one that is there. Deliberately absent:
//! versions 0 of the share APIs, an early access of Kafka 4.0 that no later client or broker speaks.

use super::turn::Turn;
use super::{AnswerError, Denial};
use crate::wire::{ApiKey, Malformed};

pub(super) struct Row {
    pub(super) api: ApiKey,
    pub(super) denial: Denial,
    /// The first version that has a place for it.
    pub(super) first: i16,
    /// The last version whose layout is known.
    pub(super) last: i16,
    pub(super) write: Write,
}

type Write = fn(&mut Turn<'_, '_, '_>) -> Result<(), Malformed>;

/// The row for such a request.
pub(super) fn row(api: ApiKey, version: i16, denial: Denial) -> Result<&'static Row, AnswerError> {
    match TABLE.iter().find(|row| row.api == api && row.denial == denial) {
        Some(row) if (row.first..=row.last).contains(&version) => Ok(row),
        Some(_) => Err(AnswerError::Version { api, version, denial }),
        None => Err(AnswerError::NeverSaid { api, denial }),
    }
}

const fn leader(api: ApiKey, first: i16, last: i16, write: Write) -> Row {
    Row { api, denial: Denial::NotLeader, first, last, write }
}

const fn coordinator(api: ApiKey, first: i16, last: i16, write: Write) -> Row {
    Row { api, denial: Denial::NotCoordinator, first, last, write }
}

const fn session(api: ApiKey, denial: Denial, first: i16, last: i16, write: Write) -> Row {
    Row { api, denial, first, last, write }
}

/// Layouts as of Kafka's message definitions of 4.4.0; versions that 4.0 removed, of 2.8.2.
pub(super) static TABLE: [Row; 35] = {
    use super::{fetch, groups, leaders, newer_groups, share, transactions};
    [
        leader(ApiKey::FETCH, 0, 18, fetch::not_leader),
        session(ApiKey::FETCH, Denial::FetchSessionNotFound, 7, 18, fetch::session_not_found),
        leader(ApiKey::LIST_OFFSETS, 0, 11, leaders::list_offsets),
        leader(ApiKey::DELETE_RECORDS, 0, 2, leaders::delete_records),
        leader(ApiKey::OFFSET_FOR_LEADER_EPOCH, 0, 4, leaders::offset_for_leader_epoch),
        leader(ApiKey::DESCRIBE_PRODUCERS, 0, 0, leaders::describe_producers),
        leader(ApiKey::SHARE_FETCH, 1, 2, share::fetch),
        session(ApiKey::SHARE_FETCH, Denial::ShareSessionNotFound, 1, 2, share::fetch_session_not_found),
        leader(ApiKey::SHARE_ACKNOWLEDGE, 1, 2, share::acknowledge),
        session(ApiKey::SHARE_ACKNOWLEDGE, Denial::ShareSessionNotFound, 1, 2, share::acknowledge_session_not_found),
        coordinator(ApiKey::OFFSET_COMMIT, 0, 10, groups::offset_commit),
        coordinator(ApiKey::OFFSET_FETCH, 0, 10, groups::offset_fetch),
        coordinator(ApiKey::JOIN_GROUP, 0, 9, groups::join_group),
        coordinator(ApiKey::HEARTBEAT, 0, 4, groups::heartbeat),
        coordinator(ApiKey::LEAVE_GROUP, 0, 5, groups::leave_group),
        coordinator(ApiKey::SYNC_GROUP, 0, 5, groups::sync_group),
        coordinator(ApiKey::DESCRIBE_GROUPS, 0, 6, groups::describe_groups),
        coordinator(ApiKey::DELETE_GROUPS, 0, 3, groups::delete_groups),
        coordinator(ApiKey::OFFSET_DELETE, 0, 0, groups::offset_delete),
        coordinator(ApiKey::INIT_PRODUCER_ID, 0, 6, transactions::init_producer_id),
        coordinator(ApiKey::ADD_PARTITIONS_TO_TXN, 0, 5, transactions::add_partitions_to_txn),
        coordinator(ApiKey::ADD_OFFSETS_TO_TXN, 0, 4, transactions::add_offsets_to_txn),
        coordinator(ApiKey::END_TXN, 0, 5, transactions::end_txn),
        coordinator(ApiKey::TXN_OFFSET_COMMIT, 0, 6, transactions::txn_offset_commit),
        coordinator(ApiKey::DESCRIBE_TRANSACTIONS, 0, 0, transactions::describe_transactions),
        coordinator(ApiKey::CONSUMER_GROUP_HEARTBEAT, 0, 1, newer_groups::heartbeat),
        coordinator(ApiKey::CONSUMER_GROUP_DESCRIBE, 0, 1, newer_groups::describe),
        coordinator(ApiKey::SHARE_GROUP_HEARTBEAT, 1, 1, newer_groups::heartbeat),
        coordinator(ApiKey::SHARE_GROUP_DESCRIBE, 1, 1, newer_groups::describe),
        coordinator(ApiKey::STREAMS_GROUP_HEARTBEAT, 0, 1, newer_groups::streams_heartbeat),
        coordinator(ApiKey::STREAMS_GROUP_DESCRIBE, 0, 1, newer_groups::streams_describe),
        coordinator(ApiKey::DESCRIBE_SHARE_GROUP_OFFSETS, 0, 1, newer_groups::describe_share_offsets),
        coordinator(ApiKey::ALTER_SHARE_GROUP_OFFSETS, 0, 0, newer_groups::alter_share_offsets),
        coordinator(ApiKey::DELETE_SHARE_GROUP_OFFSETS, 0, 0, newer_groups::delete_share_offsets),
        coordinator(ApiKey::STREAMS_GROUP_TOPOLOGY_DESCRIPTION_UPDATE, 0, 0, newer_groups::streams_topology_update),
    ]
};
