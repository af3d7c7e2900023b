//! What a share group's member asks of a partition's leader (KIP-932): each partition has another one, or the session is not known.
//!
//! Invariant: acknowledgements that came with a fetch are answered with the code as well, never as if they had been taken.
//! Deliberately absent: leader hints; what a share group asks of its coordinator (`newer_groups`).

use super::turn::Turn;
use crate::wire::Malformed;

/// Kafka: `ShareFetchResponse.partitionResponse` in the form of `KafkaApis.processShareFetchResponse`.
pub(super) fn fetch(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.skip_string()?; // group
    turn.skip_string()?; // member
    turn.skip(4 * 4)?; // session epoch, longest wait, fewest bytes, most bytes
    turn.skip(4 + 4)?; // most records, batch size
    turn.skip_from(2, 1 + 1)?; // how to acquire, whether to renew

    turn.no_throttle_from(0);
    turn.no_code();
    turn.null_string(); // message
    turn.i32(0); // acquisition lock timeout
    turn.each(|turn| {
        turn.echo_topic_id()?;
        turn.each(|turn| {
            turn.echo_i32()?;
            let acknowledgements = turn.skip_each(acknowledgement)?;
            turn.code();
            turn.null_string(); // message
            if acknowledgements == 0 {
                turn.no_code();
            } else {
                turn.code();
            }
            turn.null_string(); // message on the acknowledgements
            no_leader(turn);
            turn.empty(); // records
            turn.empty(); // acquired
            Ok(())
        })
    })?;
    turn.empty(); // nodes
    Ok(())
}

/// Kafka: `ShareAcknowledgeResponse.partitionResponse` in the form of `KafkaApis.processShareAcknowledgeResponse`.
pub(super) fn acknowledge(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.skip_string()?; // group
    turn.skip_string()?; // member
    turn.skip(4)?; // session epoch
    turn.skip_from(2, 1)?; // whether to renew

    turn.no_throttle_from(0);
    turn.no_code();
    turn.null_string(); // message
    turn.i32_from(2, 0); // acquisition lock timeout
    turn.each(|turn| {
        turn.echo_topic_id()?;
        turn.each(|turn| {
            turn.echo_i32()?;
            turn.skip_each(acknowledgement)?;
            turn.code();
            turn.null_string(); // message
            no_leader(turn);
            Ok(())
        })
    })?;
    turn.empty(); // nodes
    Ok(())
}

/// Kafka: `ShareFetchRequest.getErrorResponse`.
pub(super) fn fetch_session_not_found(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    session_not_found(turn, 1)
}

/// Kafka: `ShareAcknowledgeRequest.getErrorResponse`.
pub(super) fn acknowledge_session_not_found(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    session_not_found(turn, 2)
}

fn session_not_found(turn: &mut Turn<'_, '_, '_>, first_with_timeout: i16) -> Result<(), Malformed> {
    turn.no_throttle_from(0);
    turn.code();
    turn.null_string(); // message
    turn.i32_from(first_with_timeout, 0); // acquisition lock timeout
    turn.empty(); // topics
    turn.empty(); // nodes
    Ok(())
}

fn acknowledgement(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.skip(8 + 8)?; // first offset, last offset
    turn.skip_numbers(1) // their types
}

/// A client takes a leader and an epoch of 0, the schema's defaults, for node 0; -1 is for none.
fn no_leader(turn: &mut Turn<'_, '_, '_>) {
    turn.i32(-1);
    turn.i32(-1);
    turn.end_structure();
}
