//! Transactions: this broker does not coordinate them, or not the group that offsets are committed for.
//!
//! Invariant: no answer gives a producer id out. Deliberately absent: WriteTxnMarkers, which coordinators send to leaders.

use super::turn::Turn;
use crate::wire::Malformed;

/// Kafka: `InitProducerIdRequest.getErrorResponse`.
pub(super) fn init_producer_id(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(0);
    turn.code();
    no_producer(turn);
    if turn.from(6) {
        no_producer(turn); // that of a transaction under way
    }
    Ok(())
}

/// Kafka: `AddPartitionsToTxnRequest.getErrorResponse` below 4: at each partition. From 4 on, which brokers speak among themselves, as
/// `AddPartitionsToTxnResponse.resultForTransaction` has it: at each partition of each transaction.
pub(super) fn add_partitions_to_txn(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(0);
    if turn.from(4) {
        turn.no_code();
        return turn.each(|turn| {
            turn.echo_string()?; // transactional id
            turn.skip(8 + 2 + 1)?; // producer id, epoch, whether to verify only
            partitions(turn)
        });
    }
    turn.skip_string()?; // transactional id
    turn.skip(8 + 2)?; // producer id, epoch
    partitions(turn)
}

fn partitions(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.each(|turn| {
        turn.echo_string()?;
        turn.each_value(|turn| {
            turn.echo_i32()?;
            turn.code();
            Ok(())
        })
    })
}

/// Kafka: `AddOffsetsToTxnRequest.getErrorResponse`.
pub(super) fn add_offsets_to_txn(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(0);
    turn.code();
    Ok(())
}

/// Kafka: `EndTxnRequest.getErrorResponse`; the producer id from 5 on is that of the next transaction (KIP-890).
pub(super) fn end_txn(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(0);
    turn.code();
    if turn.from(5) {
        no_producer(turn);
    }
    Ok(())
}

/// Kafka: `TxnOffsetCommitRequest.getErrorResponse`: at each partition.
pub(super) fn txn_offset_commit(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.skip_string()?; // transactional id
    turn.skip_string()?; // group
    turn.skip(8 + 2)?; // producer id, epoch
    turn.skip_from(3, 4)?; // generation
    turn.skip_string_from(3)?; // member
    turn.skip_string_from(3)?; // instance
    turn.no_throttle_from(0);
    turn.each(|turn| {
        turn.echo_topic(6)?;
        turn.each(|turn| {
            turn.echo_i32()?;
            turn.skip(8)?; // offset
            turn.skip_from(2, 4)?; // leader epoch
            turn.skip_string()?; // metadata
            turn.code();
            Ok(())
        })
    })
}

/// Kafka: `DescribeTransactionsRequest.getErrorResponse`: at each transaction, before its id; the rest stays at 0.
pub(super) fn describe_transactions(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(0);
    turn.each_value(|turn| {
        turn.code();
        turn.echo_string()?;
        turn.empty_string(); // state
        turn.i32(0); // timeout
        turn.i64(0); // start time
        turn.i64(0); // producer id
        turn.i16(0); // producer epoch
        turn.empty(); // topics
        Ok(())
    })
}

fn no_producer(turn: &mut Turn<'_, '_, '_>) {
    turn.i64(-1);
    turn.i16(-1);
}
