//! What a broker says of produce requests: which results are for the client, which mean that the batch has to go elsewhere.

use std::time::Instant;

use bytes::Bytes;

use super::{Core, Port, Surroundings};
use crate::cluster::NodeId;
use crate::rewrite::RewriteError;
use crate::session::gate::TopicKey;
use crate::session::leg::{Outstanding, Share};
use crate::session::produce::{Fate, Opened, PartState, Refused, Verdict, classify};
use crate::session::request::Body;
use crate::session::{Action, Ambiguous, DetourStart, LegId, Note};
use crate::wire::produce::{ProduceResult, ProduceResults, all_ok};
use crate::wire::{ApiKey, Malformed};

impl Core {
    /// The answer to a produce request that is kept, or to parts of one.
    pub(super) fn on_produced(
        &mut self,
        now: Instant,
        leg: LegId,
        answered: &Outstanding,
        frame: Bytes,
        around: &Surroundings<'_>,
    ) -> Result<(), RewriteError> {
        let (number, version) = (answered.number, answered.version);
        let malformed = |error: Malformed| RewriteError { api: ApiKey::PRODUCE, version, what: error.what };
        let is_whole = match self.request(number).map(|request| &request.body) {
            // The client has been answered at its deadline: this comes too late.
            None if answered.also.is_empty() => {
                #[cfg(test)]
                if crate::session::mutation::is_on(crate::session::mutation::Mutation::AnswerLate) {
                    self.actions.push_back(Action::Respond(frame));
                }
                return Ok(());
            }
            Some(Body::Whole { .. }) => true,
            None | Some(Body::Opened(_) | Body::Lent) => false,
        };
        if is_whole {
            let is_ok = all_ok(&frame, version).map_err(malformed)?;
            if is_ok || !self.needs_detour(&frame, version).map_err(malformed)? {
                let frame = if is_ok { frame } else { self.rewritten(now, ApiKey::PRODUCE, version, frame, around)? };
                self.forget(number);
                self.order.park(answered.slot, frame);
                return Ok(());
            }
            self.enter_slow_path(now);
            // Its leg has it no more among what is unanswered, and yet it is what was sent there.
            let sent_on = Some((leg, answered.end));
            #[cfg(test)]
            let sent_on = sent_on.filter(|_| !crate::session::mutation::is_on(crate::session::mutation::Mutation::OpenAsUnsent));
            self.open_request(number, sent_on, around);
            self.open_all(around);
        }
        if answered.also.is_empty() && !matches!(self.request(number).map(|request| &request.body), Some(Body::Opened(_))) {
            // It could not be opened, so that it is for the client as it is.
            let frame = self.rewritten(now, ApiKey::PRODUCE, version, frame, around)?;
            self.forget(number);
            self.order.park(answered.slot, frame);
            return Ok(());
        }
        // For the leader hints; what goes to the client is made of the broker's own bytes.
        self.rewritten(now, ApiKey::PRODUCE, version, frame.clone(), around)?;
        for share in answered.shares() {
            let Some(mut opened) = self.lend(share.number) else { continue };
            let result = self.judge_all(now, leg, share, &mut opened, &frame, around);
            self.put_back(share.number, opened);
            result?;
        }
        self.go_on(now, around);
        Ok(())
    }

    /// Whether a response to a request on the fast path has anything that is not for the client.
    fn needs_detour(&self, frame: &Bytes, version: i16) -> Result<bool, Malformed> {
        if self.logged_in {
            return Ok(false);
        }
        let results = ProduceResults::parse(frame, version)?;
        let is_busy = self.slow_until.is_some() || self.gate.is_moving();
        Ok(results.results.iter().any(|result| match classify(result.error, result.base_offset) {
            Verdict::Final => false,
            Verdict::Moved | Verdict::MovedAfterAppend => true,
            Verdict::Passing | Verdict::OutOfOrder => is_busy,
        }))
    }

    fn judge_all(
        &mut self,
        now: Instant,
        leg: LegId,
        answered: Share<'_>,
        opened: &mut Opened,
        frame: &Bytes,
        around: &Surroundings<'_>,
    ) -> Result<(), RewriteError> {
        let (number, version) = (answered.number, opened.head.version);
        let failed = |what| RewriteError { api: ApiKey::PRODUCE, version, what };
        let results = ProduceResults::parse(frame, version).map_err(|error| failed(error.what))?;
        let places = results.places(&opened.request, &opened.frame);
        for (ordinal, place) in places.iter().enumerate() {
            // Other parts of the request may be on the same leg, in another cut of it.
            let was_asked = answered.parts.is_none_or(|parts| parts.binary_search(&ordinal).is_ok());
            if !was_asked || !opened.parts.get(ordinal).is_some_and(|part| part.is_sent_with(leg, answered.end)) {
                continue;
            }
            let result = place.and_then(|place| results.results.get(place)).ok_or_else(|| failed("a partition that was asked lacks"))?;
            self.judge(now, leg, number, opened, ordinal, frame, result, around);
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "what is judged, and what it is judged by")]
    fn judge(
        &mut self,
        now: Instant,
        leg: LegId,
        number: u64,
        opened: &mut Opened,
        ordinal: usize,
        frame: &Bytes,
        result: &ProduceResult<'_>,
        around: &Surroundings<'_>,
    ) {
        let Some(part) = opened.parts.get_mut(ordinal) else { return };
        let PartState::Sent { node, epoch, .. } = part.state else { return };
        part.last_error = result.error;
        let verdict = classify(result.error, result.base_offset);
        let key = part.key.line();
        let gave_up = self.given_up.get(&key).is_some_and(|then| *then == leader_now(&part.key, around));
        let goes_elsewhere = match verdict {
            Verdict::Final => false,
            Verdict::Moved => !gave_up,
            Verdict::MovedAfterAppend => {
                part.may_be_applied = true;
                !gave_up && (part.is_idempotent || self.detours.ambiguous == Ambiguous::Resend)
            }
            Verdict::Passing => {
                let near = self.slow_until.is_some() && !gave_up;
                near && now < *part.passing_until.get_or_insert(now + self.detours.passing)
            }
            Verdict::OutOfOrder => {
                let overtook = !part.retried_out_of_order && self.gate.overtook(&part.key, number, part.sent_event);
                part.retried_out_of_order |= overtook;
                #[cfg(test)]
                let overtook = (overtook || crate::session::mutation::is_on(crate::session::mutation::Mutation::RetryOutOfOrder))
                    && !crate::session::mutation::is_on(crate::session::mutation::Mutation::PassOutOfOrder);
                overtook
            }
        };
        #[cfg(test)]
        if verdict == Verdict::MovedAfterAppend && crate::session::mutation::is_on(crate::session::mutation::Mutation::LostLeaderIsSuccess)
        {
            self.finish(now, number, opened, ordinal, Fate::Made { error: 0 });
            return;
        }
        if !goes_elsewhere {
            if result.error == 0 {
                self.given_up.remove(&key);
                self.trust(leg, key, node);
            }
            let fate = Fate::Said { response: frame.clone(), whole: result.whole, error: result.error };
            self.finish(now, number, opened, ordinal, fate);
            return;
        }
        if let Some(leg) = self.leg_mut(leg) {
            leg.proven.remove(&key);
        }
        self.actions.push_back(Action::Note(Note::MaskedError(result.error)));
        self.begin_detour(now, opened, DetourStart::Moved);
        opened.last_trouble = Some(now);
        self.enter_slow_path(now);
        self.open_all(around);
        let Some(part) = opened.parts.get_mut(ordinal) else { return };
        self.gate.back(&part.key, number);
        if verdict == Verdict::OutOfOrder {
            // Nobody has to be asked: it only has to come after what was before it.
            part.state = PartState::Ready;
            return;
        }
        let refused = Refused { node: node.unwrap_or(NodeId(-1)), epoch, by_silence: false };
        self.ask_for(now, part, Some(refused), around);
    }

    /// The broker has acknowledged a batch of this partition.
    fn trust(&mut self, id: LegId, key: (TopicKey, i32), node: Option<NodeId>) {
        let is_detour = id != self.home.id;
        let Some(leg) = self.leg_mut(id) else { return };
        leg.proven.insert(key);
        if is_detour && node.is_some_and(|node| self.port == Port::Node(node)) && self.distrust && !self.shunned {
            self.distrust = false;
            self.may_have_moved = true;
        }
    }
}

/// What the view says now, to tell later whether it has changed.
pub(super) fn leader_now(key: &crate::session::Key, around: &Surroundings<'_>) -> Option<(NodeId, i32)> {
    around.view.leader(super::opening::topic_ref(&key.topic), key.partition).map(|leader| (leader.node, leader.epoch))
}
