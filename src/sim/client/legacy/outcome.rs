//! What a produce request's end does to its partitions (kgo: `handleReqResp`, `handleReqClientErr`, `handleRetryBatches`).
//!
//! Invariant: only a partition's first batch is settled; anything behind it that failed goes again with it. Deliberately not here: waiting.

use std::collections::BTreeSet;
use std::time::Duration;

use super::core::Core;
use super::exchange::{Action, Answer, Failure, PartAnswer};
use super::learn::Move;
use super::sink::{InFlight, Sent};
use crate::sim::code;

/// kgo gives a topic's records up when it was unknown more often than this in a row.
const UNKNOWN_FAILURES_MAX: u32 = 4;

/// What to do about a batch that is not settled.
struct Retry {
    again: Vec<Sent>,
    moved: BTreeSet<i32>,
    round: u32,
    needs_metadata: bool,
}

impl Core {
    pub(super) fn conclude(&mut self, now: Duration, node: i32, over: InFlight) {
        let InFlight { sent, backoff_round, result, .. } = over;
        match result {
            Some(Ok(answer)) => self.answered(now, node, &sent, &answer),
            Some(Err(failure)) => {
                self.failures += 1;
                // A connection that ended says nothing about who leads: the same broker is tried again.
                let needs_metadata = failure != Failure::Ended;
                let retry = Retry { again: sent.clone(), moved: BTreeSet::new(), round: backoff_round, needs_metadata };
                self.retry(now, node, &retry);
            }
            None => {}
        }
        for part in &sent {
            let Some(buffer) = self.buffer_mut(part.partition) else { continue };
            buffer.landed();
            let next = (buffer.in_flight == 0 && buffer.has_more()).then_some(buffer.node);
            if let Some(next) = next {
                self.drain(now, next);
            }
        }
        self.drain(now, node);
    }

    fn answered(&mut self, now: Duration, node: i32, sent: &[Sent], answer: &Answer) {
        if let Some(sink) = self.sinks.get_mut(&node) {
            sink.answered(answer.version, &self.rules);
        }
        let mut retry = Retry { again: Vec::new(), moved: BTreeSet::new(), round: 0, needs_metadata: true };
        for part in sent {
            let said = answer.parts.iter().find(|said| said.partition == part.partition);
            // A partition that is not answered is sent again, too.
            let missing = PartAnswer { partition: part.partition, error_code: code::UNKNOWN_TOPIC_OR_PARTITION, leader: (-1, -1) };
            if self.judge(*part, said.unwrap_or(&missing), answer, &mut retry.moved) {
                retry.again.push(*part);
            }
        }
        if retry.again.is_empty() {
            return;
        }
        self.failures += 1;
        if !retry.moved.is_empty() {
            let leaders = answer.parts.iter().filter(|said| retry.moved.contains(&said.partition));
            let leaders = leaders.map(|said| (said.partition, said.leader)).collect();
            self.moves.push(Move { brokers: answer.brokers.clone(), leaders });
        }
        self.retry(now, node, &retry);
    }

    /// Whether the batch has to go again.
    fn judge(&mut self, part: Sent, said: &PartAnswer, answer: &Answer, moved: &mut BTreeSet<i32>) -> bool {
        let Some(buffer) = self.buffer_mut(part.partition) else { return false };
        if !buffer.is_first(part.batch_id) {
            return false;
        }
        buffer.ok_on_sink = false;
        let names_leader = answer.version >= 10 && !answer.brokers.is_empty() && said.leader.0 >= 0 && said.leader.1 >= 0;
        if said.error_code == code::NOT_LEADER_OR_FOLLOWER && names_leader {
            buffer.failing = true;
            moved.insert(part.partition);
            return true;
        }
        buffer.unknown_failures = if said.error_code == code::UNKNOWN_TOPIC_OR_PARTITION { buffer.unknown_failures + 1 } else { 0 };
        let is_unknown_for_good = buffer.unknown_failures > UNKNOWN_FAILURES_MAX;
        match said.error_code {
            code::NONE | DUPLICATE_SEQUENCE => {
                buffer.ok_on_sink = true;
                if let Some(batch) = buffer.finish_first() {
                    self.forget_buffered(batch.count);
                    self.actions.push_back(Action::Acknowledged { partition: part.partition, first: batch.first, count: batch.count });
                }
                false
            }
            retriable if is_retriable(retriable) && !is_unknown_for_good => true,
            code::OUT_OF_ORDER_SEQUENCE | code::UNKNOWN_PRODUCER_ID | code::INVALID_PRODUCER_EPOCH => {
                // kgo raises its epoch and starts sequences anew, which the application is not told unless it asked to be.
                self.wants_new_epoch = true;
                true
            }
            fatal => {
                self.give_up(part.partition, fatal);
                false
            }
        }
    }

    pub(super) fn give_up(&mut self, partition: i32, error_code: i16) {
        let Some(buffer) = self.buffer_mut(partition) else { return };
        for batch in buffer.fail_all() {
            self.forget_buffered(batch.count);
            self.actions.push_back(Action::GaveUp { partition, first: batch.first, count: batch.count, error_code });
        }
    }

    fn retry(&mut self, now: Duration, node: i32, retry: &Retry) {
        let (mut wants_metadata, mut wants_backoff) = (false, false);
        for part in &retry.again {
            let Some(buffer) = self.buffer_mut(part.partition).filter(|buffer| buffer.is_first(part.batch_id)) else { continue };
            buffer.rewind();
            if retry.moved.contains(&part.partition) {
                continue;
            }
            if retry.needs_metadata {
                // It stays so even if metadata moved the partition meanwhile: the race that 1.17.1 mends.
                buffer.failing = true;
                wants_metadata = true;
            }
            wants_backoff |= !retry.needs_metadata;
        }
        if wants_metadata {
            self.schedule.trigger(now, true, &self.rules);
        } else if wants_backoff {
            if let Some(sink) = self.sinks.get_mut(&node) {
                sink.want_backoff(retry.round);
            }
            self.drain(now, node);
        }
    }
}

const DUPLICATE_SEQUENCE: i16 = 46;

/// kgo's `kerr.IsRetriable`, as far as a produce answer may say it; 2 (corrupt) is excepted where it is used.
fn is_retriable(error_code: i16) -> bool {
    const RETRIABLE: [i16; 11] = [3, 5, 6, 7, 9, 13, 19, 20, 56, 74, 75];
    RETRIABLE.contains(&error_code)
}
