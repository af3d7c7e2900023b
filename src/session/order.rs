//! The order of responses: a client gets them in the order of its requests, whichever leg they come from.
//!
//! ```text
//!  Waiting ──begin (only the first)──▶ Streaming ──finish──▶ gone
//!     └────park──▶ Parked ──pop_parked (once it is the first)──▶ gone
//! ```
//!
//! Invariant: slots leave in the order in which they came, each once. Deliberately absent: legs, and which response may be parked.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::wire::ApiKey;

/// The session's n-th request that is answered, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(u64);

/// A request that waits for its response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub correlation_id: i32,
    pub api: ApiKey,
    pub version: i16,
    pub sent_at: Instant,
}

#[derive(Debug)]
enum State {
    Waiting,
    Streaming,
    Parked(Bytes),
}

/// The ring of slots.
#[derive(Debug, Default)]
pub struct ResponseOrder {
    slots: VecDeque<(Slot, State)>,
    /// The id of the first slot in the ring.
    first: u64,
    parked_bytes: usize,
}

impl ResponseOrder {
    pub fn push(&mut self, slot: Slot) -> SlotId {
        self.slots.push_back((slot, State::Waiting));
        SlotId(self.first + self.slots.len() as u64 - 1)
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of responses that wait for an earlier one.
    pub fn parked_bytes(&self) -> usize {
        self.parked_bytes
    }

    /// Whether a whole response waits for an earlier one.
    pub fn has_parked(&self) -> bool {
        self.parked_bytes > 0
    }

    pub fn get(&self, id: SlotId) -> Option<&Slot> {
        self.index(id).map(|index| &self.slots[index].0)
    }

    /// Whether `id` is the newest slot.
    pub fn is_last(&self, id: SlotId) -> bool {
        !self.slots.is_empty() && id.0 + 1 == self.first + self.slots.len() as u64
    }

    /// Whether `id`'s response is the next one that the client expects.
    pub fn is_next(&self, id: SlotId) -> bool {
        id.0 == self.first && !self.slots.is_empty()
    }

    /// The response of the next slot begins to stream. False, and nothing happens, if it is not the next, or has a response already.
    pub fn begin(&mut self, id: SlotId) -> bool {
        match self.slots.front_mut() {
            Some((_, state @ State::Waiting)) if id.0 == self.first => {
                *state = State::Streaming;
                true
            }
            _ => false,
        }
    }

    /// The streaming response has ended. False, and nothing happens, if none was streaming.
    pub fn finish(&mut self) -> bool {
        if !matches!(self.slots.front(), Some((_, State::Streaming))) {
            return false;
        }
        self.slots.pop_front();
        self.first += 1;
        true
    }

    /// Keeps a whole response until its turn; [`pop_parked`](Self::pop_parked) gives it back, at once if its turn has come.
    /// False, and nothing happens, if the slot has a response already or is unknown.
    pub fn park(&mut self, id: SlotId, frame: Bytes) -> bool {
        let Some(index) = self.index(id) else { return false };
        let (_, state) = &mut self.slots[index];
        if !matches!(state, State::Waiting) {
            return false;
        }
        self.parked_bytes += frame.len();
        *state = State::Parked(frame);
        true
    }

    /// The next response, if it is there whole.
    pub fn pop_parked(&mut self) -> Option<Bytes> {
        if !matches!(self.slots.front(), Some((_, State::Parked(_)))) {
            return None;
        }
        let Some((_, State::Parked(frame))) = self.slots.pop_front() else { return None };
        self.first += 1;
        self.parked_bytes -= frame.len();
        Some(frame)
    }

    fn index(&self, id: SlotId) -> Option<usize> {
        let index = usize::try_from(id.0.checked_sub(self.first)?).ok()?;
        (index < self.slots.len()).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slot(n: i32) -> Slot {
        Slot { correlation_id: n, api: ApiKey::METADATA, version: 0, sent_at: Instant::now() }
    }

    #[test]
    fn a_response_out_of_turn_waits_for_the_earlier_one() {
        let mut order = ResponseOrder::default();
        let (a, b) = (order.push(slot(1)), order.push(slot(2)));
        assert!(order.park(b, Bytes::from_static(b"second")));
        assert_eq!(order.pop_parked(), None);
        assert!(!order.begin(b), "not its turn");
        assert!(order.begin(a));
        assert_eq!(order.pop_parked(), None, "the first is still streaming");
        assert!(order.finish());
        assert_eq!(order.pop_parked(), Some(Bytes::from_static(b"second")));
        assert!(order.is_empty());
        assert_eq!(order.parked_bytes(), 0);
    }

    #[test]
    fn no_slot_is_answered_twice() {
        let mut order = ResponseOrder::default();
        let a = order.push(slot(1));
        assert!(order.park(a, Bytes::from_static(b"x")));
        assert!(!order.park(a, Bytes::from_static(b"y")));
        assert!(!order.begin(a));
        assert!(order.pop_parked().is_some());
        assert!(!order.park(a, Bytes::from_static(b"z")), "it is gone");
        assert!(!order.finish());
    }

    #[derive(Clone, Debug)]
    enum Operation {
        Push,
        /// Answer the n-th of the waiting slots, streamed if that is possible.
        Answer {
            nth: usize,
            stream: bool,
        },
        Finish,
    }

    fn operations() -> impl Strategy<Value = Vec<Operation>> {
        let one = prop_oneof![
            3 => Just(Operation::Push),
            3 => (0usize..8, any::<bool>()).prop_map(|(nth, stream)| Operation::Answer { nth, stream }),
            2 => Just(Operation::Finish),
        ];
        proptest::collection::vec(one, 0..200)
    }

    proptest! {
        #[test]
        fn responses_leave_in_request_order_each_once(operations in operations()) {
            let mut order = ResponseOrder::default();
            let mut unanswered: Vec<(SlotId, i32)> = Vec::new();
            let mut parked_bytes = 0;
            let (mut pushed, mut left) = (0, Vec::new());
            let mut streaming = None;
            for operation in operations {
                match operation {
                    Operation::Push => {
                        unanswered.push((order.push(slot(pushed)), pushed));
                        pushed += 1;
                    }
                    Operation::Answer { nth, stream } if nth < unanswered.len() => {
                        let (id, n) = unanswered[nth];
                        if stream {
                            let began = order.begin(id);
                            prop_assert_eq!(began, order.is_next(id) && streaming.is_none());
                            if began {
                                streaming = Some(n);
                                unanswered.remove(nth);
                            }
                        } else {
                            prop_assert!(order.park(id, Bytes::copy_from_slice(&n.to_be_bytes())));
                            parked_bytes += 4;
                            unanswered.remove(nth);
                        }
                    }
                    Operation::Answer { .. } => {}
                    Operation::Finish => {
                        prop_assert_eq!(order.finish(), streaming.is_some());
                        left.extend(streaming.take());
                    }
                }
                while let Some(frame) = order.pop_parked() {
                    parked_bytes -= 4;
                    left.push(i32::from_be_bytes(frame[..].try_into().unwrap()));
                }
                prop_assert_eq!(order.parked_bytes(), parked_bytes);
                prop_assert_eq!(order.len() + left.len(), pushed as usize);
                prop_assert_eq!(&left, &(0..left.len() as i32).collect::<Vec<_>>());
            }
        }
    }
}
