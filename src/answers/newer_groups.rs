//! Groups whose coordinator assigns (KIP-848, KIP-932, KIP-1071): this broker does not coordinate them.
//!
//! Invariant: no answer assigns anything. Deliberately absent: what a share group's member asks of leaders (`share`).

use super::groups::NO_OPERATIONS;
use super::turn::Turn;
use crate::wire::Malformed;

/// Every version of these APIs is flexible.
const FLEXIBLE: i16 = 0;

/// Kafka: `ConsumerGroupHeartbeatRequest.getErrorResponse`, `ShareGroupHeartbeatRequest.getErrorResponse`: one layout.
pub(super) fn heartbeat(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    top_level(turn);
    turn.null_string(); // member
    turn.i32(0); // member epoch
    turn.i32(0); // heartbeat interval
    turn.null_structure(); // assignment
    Ok(())
}

/// Kafka: `ConsumerGroupDescribeRequest.getErrorResponse`, `ShareGroupDescribeRequest.getErrorResponse`: one layout, as long as a group
/// has no members.
pub(super) fn describe(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(0);
    turn.each_value(|turn| {
        described(turn)?;
        turn.empty_string(); // assignor
        turn.empty(); // members
        turn.i32(NO_OPERATIONS);
        Ok(())
    })
}

/// Up to where the kinds of groups differ.
fn described(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.code();
    turn.null_string(); // message
    turn.echo_string()?;
    turn.empty_string(); // state
    turn.i32(0); // group epoch
    turn.i32(0); // assignment epoch
    Ok(())
}

/// Kafka: `StreamsGroupHeartbeatRequest.getErrorResponse`. Status is the one array here that is empty and not null.
pub(super) fn streams_heartbeat(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    top_level(turn);
    turn.empty_string(); // member
    turn.i32(0); // member epoch
    turn.i32(0); // heartbeat interval
    if !turn.from(1) {
        turn.i32(0); // acceptable recovery lag
    }
    turn.i32(0); // interval of task offsets
    turn.i64_from(1, -1); // acceptable recovery lag
    turn.empty(); // status
    turn.null_array(FLEXIBLE); // active tasks
    turn.null_array(FLEXIBLE); // standby tasks
    turn.null_array(FLEXIBLE); // warm-up tasks
    if turn.from(1) {
        turn.i8(0); // whether the topology is asked for
    }
    turn.i32(0); // epoch of endpoints
    turn.null_array(FLEXIBLE); // endpoints
    Ok(())
}

/// Kafka: `StreamsGroupDescribeRequest.getErrorResponse`.
pub(super) fn streams_describe(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(0);
    turn.each_value(|turn| {
        described(turn)?;
        turn.null_structure(); // topology
        turn.empty(); // members
        turn.i32(NO_OPERATIONS);
        if turn.from(1) {
            turn.null_structure(); // the topology's description
            turn.i8(0); // its status
            turn.null_string(); // assignor
        }
        Ok(())
    })
}

/// Kafka: `StreamsGroupTopologyDescriptionUpdateRequest.getErrorResponse`.
pub(super) fn streams_topology_update(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    top_level(turn);
    Ok(())
}

/// Kafka: `DescribeShareGroupOffsetsRequest.getErrorResponse`: at each group, without topics.
pub(super) fn describe_share_offsets(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(0);
    turn.each(|turn| {
        turn.echo_string()?;
        turn.skip_each(|turn| {
            turn.skip_string()?; // topic
            turn.skip_numbers(4)
        })?;
        turn.empty(); // topics
        turn.code();
        turn.null_string(); // message
        Ok(())
    })
}

/// Kafka: `DeleteShareGroupOffsetsRequest.getErrorResponse`: at the top, without topics.
pub(super) fn delete_share_offsets(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    top_level(turn);
    turn.empty(); // topics
    Ok(())
}

/// Kafka: `AlterShareGroupOffsetsRequest.getErrorResponse`.
pub(super) fn alter_share_offsets(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    top_level(turn);
    turn.empty(); // topics
    Ok(())
}

fn top_level(turn: &mut Turn<'_, '_, '_>) {
    turn.no_throttle_from(0);
    turn.code();
    turn.null_string(); // message
}
