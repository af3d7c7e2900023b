//! What else is asked of a partition's leader: each partition has another one.
//!
//! Invariant: the code stands at each partition, in every version. Deliberately absent: Fetch and share groups.

use super::turn::Turn;
use crate::wire::Malformed;

/// Kafka: `ListOffsetsRequest.getErrorResponse`; version 0 has a list of offsets for one offset.
pub(super) fn list_offsets(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.skip(4)?; // replica id
    turn.skip_from(2, 1)?; // isolation level
    turn.no_throttle_from(2);
    turn.each(|turn| {
        turn.echo_string()?;
        turn.each(|turn| {
            turn.echo_i32()?;
            turn.skip_from(4, 4)?; // current leader epoch
            turn.skip(8)?; // timestamp

            turn.code();
            if turn.from(1) {
                turn.i64(-1); // timestamp
                turn.i64(-1); // offset
            } else {
                turn.skip(4)?; // how many offsets
                turn.empty();
            }
            turn.i32_from(4, -1); // leader epoch
            Ok(())
        })
    })
}

/// Kafka: `OffsetsForLeaderEpochRequest.getErrorResponse`. The code stands before the partition.
pub(super) fn offset_for_leader_epoch(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.skip_from(3, 4)?; // replica id
    turn.no_throttle_from(2);
    turn.each(|turn| {
        turn.echo_string()?;
        turn.each(|turn| {
            turn.code();
            turn.echo_i32()?;
            turn.skip_from(2, 4)?; // current leader epoch
            turn.skip(4)?; // leader epoch
            turn.i32_from(1, -1); // leader epoch
            turn.i64(-1); // end offset
            Ok(())
        })
    })
}

/// Kafka: `DeleteRecordsRequest.getErrorResponse`. The code stands last.
pub(super) fn delete_records(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(0);
    turn.each(|turn| {
        turn.echo_string()?;
        turn.each(|turn| {
            turn.echo_i32()?;
            turn.skip(8)?; // offset
            turn.i64(-1); // low watermark
            turn.code();
            Ok(())
        })
    })
}

/// Kafka: `DescribeProducersRequest.getErrorResponse`.
pub(super) fn describe_producers(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(0);
    turn.each(|turn| {
        turn.echo_string()?;
        turn.each_value(|turn| {
            turn.echo_i32()?;
            turn.code();
            turn.null_string(); // message
            turn.empty(); // producers
            Ok(())
        })
    })
}
