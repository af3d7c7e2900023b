//! Groups of the classic protocol and committed offsets: this broker does not coordinate them.
//!
//! Invariant: the code stands where the version has it: at the top, at each group, or at each partition. Deliberately absent: groups of
//! the newer protocols; offsets committed in a transaction.

use super::turn::Turn;
use crate::wire::Malformed;

/// Kafka: `OffsetCommitRequest.getErrorResponse`: at each partition.
pub(super) fn offset_commit(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.skip_string()?; // group
    turn.skip_from(1, 4)?; // generation
    turn.skip_string_from(1)?; // member
    turn.skip_string_from(7)?; // instance
    if matches!(turn.version, 2..=4) {
        turn.skip(8)?; // retention
    }
    turn.no_throttle_from(3);
    turn.each(|turn| {
        turn.echo_topic(10)?;
        turn.each(|turn| {
            turn.echo_i32()?;
            turn.skip(8)?; // offset
            turn.skip_from(6, 4)?; // leader epoch
            if turn.version == 1 {
                turn.skip(8)?; // timestamp
            }
            turn.skip_string()?; // metadata
            turn.code();
            Ok(())
        })
    })
}

/// Kafka: `OffsetFetchResponse.groupError`, `OffsetFetchResponse.Builder`: at each partition below 2, at the top below 8, then at each
/// group; from 2 on without partitions.
pub(super) fn offset_fetch(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(3);
    match turn.version {
        ..2 => {
            turn.skip_string()?; // group
            turn.each(|turn| {
                turn.echo_string()?;
                turn.each_value(|turn| {
                    turn.echo_i32()?;
                    turn.i64(-1); // offset
                    turn.empty_string(); // metadata
                    turn.code();
                    Ok(())
                })
            })
        }
        2..8 => {
            turn.empty();
            turn.code();
            Ok(())
        }
        8.. => turn.each(|turn| {
            turn.echo_string()?;
            turn.skip_string_from(9)?; // member
            turn.skip_from(9, 4)?; // member epoch
            turn.skip_each(|turn| {
                if turn.from(10) {
                    turn.skip(16)?
                } else {
                    turn.skip_string()?
                }
                turn.skip_numbers(4)
            })?;
            turn.empty(); // topics
            turn.code();
            Ok(())
        }),
    }
}

/// Kafka: `JoinGroupRequest.getErrorResponse`, but with the member's id as it came, as `GroupCoordinator.handleJoinGroup` has it (up to
/// 3.x; `GroupCoordinatorService` leaves it empty): a client that takes it over must not lose its own. (`JoinGroupResponse` writes a null
/// protocol as an empty one below 7.)
pub(super) fn join_group(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.skip_string()?; // group
    turn.skip(4)?; // session timeout
    turn.skip_from(1, 4)?; // rebalance timeout

    turn.no_throttle_from(2);
    turn.code();
    turn.i32(-1); // generation
    if turn.from(7) {
        turn.null_string(); // protocol type
        turn.null_string(); // protocol
    } else {
        turn.empty_string(); // protocol
    }
    turn.empty_string(); // leader
    if turn.from(9) {
        turn.i8(0); // whether to skip the assignment
    }
    turn.echo_string()?; // member
    turn.empty(); // members
    Ok(())
}

/// Kafka: `SyncGroupRequest.getErrorResponse`.
pub(super) fn sync_group(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(1);
    turn.code();
    turn.null_string_from(5); // protocol type
    turn.null_string_from(5); // protocol
    turn.empty(); // assignment
    Ok(())
}

/// Kafka: `HeartbeatRequest.getErrorResponse`.
pub(super) fn heartbeat(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(1);
    turn.code();
    Ok(())
}

/// Kafka: `LeaveGroupRequest.getErrorResponse`: at the top, without members.
pub(super) fn leave_group(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(1);
    turn.code();
    if turn.from(3) {
        turn.empty(); // members
    }
    Ok(())
}

/// Kafka: `DescribeGroupsRequest.getErrorResponse`: at each group, before its id.
pub(super) fn describe_groups(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(1);
    turn.each_value(|turn| {
        turn.code();
        turn.null_string_from(6); // message
        turn.echo_string()?;
        turn.empty_string(); // state
        turn.empty_string(); // protocol type
        turn.empty_string(); // protocol
        turn.empty(); // members
        turn.i32_from(3, NO_OPERATIONS);
        Ok(())
    })
}

/// What stands for authorized operations that nobody asked for.
pub(super) const NO_OPERATIONS: i32 = i32::MIN;

/// Kafka: `DeleteGroupsRequest.getErrorResponse`: at each group.
pub(super) fn delete_groups(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(0);
    turn.each_value(|turn| {
        turn.echo_string()?;
        turn.code();
        turn.null_string_from(3); // message
        Ok(())
    })
}

/// Kafka: `OffsetDeleteRequest.getErrorResponse`: at the top, before the throttle time, without partitions.
pub(super) fn offset_delete(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.code();
    turn.no_throttle_from(0);
    turn.empty(); // topics
    Ok(())
}
