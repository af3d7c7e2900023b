//! The end of a transaction: a batch must not land behind its marker.
//!
//! EndTxn, or InitProducerId (which fences and aborts), for a producer that has batches on the move: what is not on a leg is not sent any
//! more, in all sessions; what is, is waited for, and only then does the request go on. Sent batches are settled at their deadline at the
//! latest, so that the wait is bounded by that.

use std::time::Instant;

use bytes::Bytes;

use super::{Core, Surroundings, Waiting};
use crate::session::SlotId;
use crate::wire::{self, ApiKey, Head};

#[derive(Debug)]
pub(super) struct HeldEnding {
    producer: i64,
    slot: SlotId,
    head: Head,
    frame: Bytes,
}

impl Core {
    pub(super) fn end_transaction(&mut self, now: Instant, slot: SlotId, head: Head, frame: Bytes, around: &Surroundings<'_>) {
        let producer = match head.api {
            ApiKey::END_TXN => wire::end_txn_producer_id(&frame, &head).ok(),
            _ => wire::init_producer_id(&frame, &head).ok().map(|init| init.producer_id),
        };
        match producer.filter(|producer| *producer >= 0) {
            Some(producer) => {
                // What went the fast way is in line, too: it may have to move yet.
                self.open_all(around);
                self.held_ending = Some(HeldEnding { producer, slot, head, frame });
                self.go_on(now, around);
            }
            // A first InitProducerId has no batches; what does not parse is the broker's to judge.
            None => self.send_whole(now, slot, &head, frame, around),
        }
    }

    pub(super) fn end_transaction_if_clear(&mut self, now: Instant, around: &Surroundings<'_>) {
        let Some(ending) = self.held_ending.take() else { return };
        let (is_clear, wake) = self.gate.end_transaction(ending.producer, self.member);
        #[cfg(test)]
        let is_clear = is_clear || crate::session::mutation::is_on(crate::session::mutation::Mutation::EndAtOnce);
        self.wake(wake);
        // Of this session, too.
        self.go_on(now, around);
        if is_clear || self.gate.end_transaction(ending.producer, self.member).0 {
            self.send_whole(now, ending.slot, &ending.head, ending.frame, around);
            if self.waiting == Some(Waiting::Ending) {
                self.resume();
            }
        } else {
            self.held_ending = Some(ending);
        }
    }
}
