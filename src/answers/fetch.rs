//! Fetch: each partition has another leader, or the session is not known.
//!
//! Invariant: no answer opens or keeps a fetch session. Deliberately absent: leader hints (KIP-951), which a broker adds from version 16
//! on where it knows the leader.

use super::turn::Turn;
use crate::wire::Malformed;

/// Partitions carry ids for names (KIP-516).
const TOPIC_IDS: i16 = 13;
const FLEXIBLE: i16 = 12;

/// Kafka: `FetchResponse.partitionResponse` in the form of `KafkaApis.handleFetchRequest`, which leaves AbortedTransactions null. The top
/// level says nothing, as there: `FetchRequest.getErrorResponse` would put the code there as well, and from version 13 on only there.
pub(super) fn not_leader(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    if !turn.from(15) {
        turn.skip(4)?; // replica id
    }
    turn.skip(4 + 4)?; // longest wait, fewest bytes
    turn.skip_from(3, 4)?; // most bytes
    turn.skip_from(4, 1)?; // isolation level
    turn.skip_from(7, 4 + 4)?; // session id, epoch

    turn.no_throttle_from(1);
    if turn.from(7) {
        turn.no_code();
        turn.i32(0); // no session
    }
    turn.each(|turn| {
        turn.echo_topic(TOPIC_IDS)?;
        turn.each(|turn| {
            turn.echo_i32()?;
            turn.skip_from(9, 4)?; // current leader epoch
            turn.skip(8)?; // offset
            turn.skip_from(12, 4)?; // last fetched epoch
            turn.skip_from(5, 8)?; // log start offset
            turn.skip(4)?; // most bytes

            turn.code();
            turn.i64(-1); // high watermark
            turn.i64_from(4, -1); // last stable offset
            turn.i64_from(5, -1); // log start offset
            if turn.from(4) {
                turn.null_array(FLEXIBLE); // aborted transactions
            }
            turn.i32_from(11, -1); // preferred replica
            turn.empty(); // records
            Ok(())
        })
    })
}

/// Kafka: `SessionErrorContext.updateAndGenerateResponseData`: no session, no partitions.
pub(super) fn session_not_found(turn: &mut Turn<'_, '_, '_>) -> Result<(), Malformed> {
    turn.no_throttle_from(1);
    turn.code();
    turn.i32(0);
    turn.empty();
    Ok(())
}
