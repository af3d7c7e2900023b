//! What a partition's result in a produce response means for us: may it go to the client, was the batch applied, where to next.
//!
//! Sources: Kafka's `ReplicaManager.appendRecords` and `DelayedProduce`: an append that is refused at once has base offset −1; one that
//! lost its leader after it was appended locally keeps its offset.

/// Kafka's error codes (`Errors`).
pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
pub const LEADER_NOT_AVAILABLE: i16 = 5;
pub const NOT_LEADER_OR_FOLLOWER: i16 = 6;
pub const NOT_ENOUGH_REPLICAS: i16 = 19;
pub const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
pub const KAFKA_STORAGE_ERROR: i16 = 56;
pub const UNKNOWN_TOPIC_ID: i16 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// For the client.
    Final,
    /// Not applied; another broker leads now, or will.
    Moved,
    /// Appended by a leader that lost its leadership before the followers had it: it may be lost or not.
    MovedAfterAppend,
    /// Not applied; a state that passes soon near a departure, and is the client's business otherwise.
    Passing,
    /// Not applied: the sequence does not follow what this leader has. Whose fault that is, the gate knows.
    OutOfOrder,
}

pub fn classify(error: i16, base_offset: i64) -> Verdict {
    match error {
        NOT_LEADER_OR_FOLLOWER if base_offset >= 0 => Verdict::MovedAfterAppend,
        NOT_LEADER_OR_FOLLOWER | KAFKA_STORAGE_ERROR | LEADER_NOT_AVAILABLE => Verdict::Moved,
        UNKNOWN_TOPIC_OR_PARTITION | UNKNOWN_TOPIC_ID | NOT_ENOUGH_REPLICAS => Verdict::Passing,
        OUT_OF_ORDER_SEQUENCE_NUMBER => Verdict::OutOfOrder,
        _ => Verdict::Final,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_tells_a_refused_append_from_a_lost_leader() {
        assert_eq!(classify(NOT_LEADER_OR_FOLLOWER, -1), Verdict::Moved);
        assert_eq!(classify(NOT_LEADER_OR_FOLLOWER, 0), Verdict::MovedAfterAppend);
    }

    #[test]
    fn what_speaks_of_data_or_rights_is_for_the_client() {
        // Timed out, too large, not authorised, duplicate, fenced, unknown producer, not enough replicas after append.
        for error in [0, 7, 10, 29, 46, 47, 59, 90, 20, -1] {
            assert_eq!(classify(error, -1), Verdict::Final, "{error}");
        }
    }
}
