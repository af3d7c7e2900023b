//! The end of a detour: all parts settled, or the client's patience at its end; one answer out of what every broker said.

use std::time::Instant;

use bytes::Bytes;

use super::{Core, Surroundings};
use crate::rewrite::{Merge, Merged, RewriteError, merge_produce, virtual_endpoints};
use crate::session::gate::Key;
use crate::session::leg::LegState;
use crate::session::produce::{Fate, Opened, Part, PartState, Verdict, classify};
use crate::session::request::Body;
use crate::session::{CloseReason, DetourEnd, LegId, Note, SlotId};
use crate::wire::ApiKey;
use crate::wire::produce::ProduceResults;

impl Core {
    /// The part's fate is known: whoever waited for it in line may go on.
    pub(super) fn finish(&mut self, now: Instant, number: u64, opened: &mut Opened, ordinal: usize, fate: Fate) {
        let Some(part) = opened.parts.get_mut(ordinal) else { return };
        part.state = PartState::Done(part.told(fate));
        opened.first_done.get_or_insert(now);
        let wake = self.gate.settle(&part.key, number);
        self.wake(wake);
    }

    /// The part gets no answer any more: its client is told the true retriable error.
    pub(super) fn finish_unsettled(&mut self, now: Instant, number: u64, opened: &mut Opened, ordinal: usize) {
        let Some(error) = opened.parts.get(ordinal).map(Part::unsettled_error) else { return };
        self.finish(now, number, opened, ordinal, Fate::Made { error });
    }

    /// Requests whose client will not wait longer: what is open gets the true retriable error.
    pub(super) fn cut_overdue(&mut self, now: Instant, around: &Surroundings<'_>) {
        let overdue = |body: &Body| matches!(body, Body::Opened(opened) if !opened.is_done() && now >= self.answered_by(opened));
        for number in self.numbers_of(overdue) {
            let Some(mut opened) = self.lend(number) else { continue };
            if opened.acks() == 0 {
                self.close(CloseReason::Undeliverable);
            }
            self.note(Note::DeadlineMissed);
            for ordinal in 0..opened.parts.len() {
                let Some(part) = opened.parts.get(ordinal).filter(|part| !part.is_done()) else { continue };
                let line = part.key.clone();
                let leader = super::results::leader_now(&line, around);
                self.given_up.insert(line.line(), leader);
                self.finish_unsettled(now, number, &mut opened, ordinal);
                self.cut_behind(now, number, &line);
            }
            opened.was_cut = true;
            self.put_back(number, opened);
        }
    }

    /// What waits behind a batch that its client has to send again must not go before it: a leader without state for the producer
    /// would take it for the first.
    fn cut_behind(&mut self, now: Instant, number: u64, key: &Key) {
        let behind: Vec<u64> = self.requests.iter().map(|request| request.number).filter(|later| *later > number).collect();
        for later in behind {
            let Some(mut opened) = self.lend(later) else { continue };
            for ordinal in 0..opened.parts.len() {
                if opened.parts.get(ordinal).is_some_and(|part| part.key == *key && part.is_unsent()) {
                    self.finish_unsettled(now, later, &mut opened, ordinal);
                }
            }
            self.put_back(later, opened);
        }
    }

    /// When the client is answered at the latest: its own deadline or, once some parts are settled and the others wait for more than a
    /// broker's answer, soon after that.
    pub(super) fn answered_by(&self, opened: &Opened) -> Instant {
        let Some(first) = opened.first_done else { return opened.deadline };
        // Its broker may take its time on purpose: acks=all waits until a dead follower is given up.
        let is_well = |id: LegId| self.leg(id).is_some_and(|leg| matches!(leg.state, LegState::Up(_)));
        let is_answering = |part: &Part| matches!(part.state, PartState::Sent { leg, .. } if is_well(leg));
        if opened.parts.iter().any(is_answering) {
            return opened.deadline;
        }
        opened.deadline.min(first.max(opened.last_trouble.unwrap_or(first)) + self.detours.hold_mixed)
    }

    /// Answers every request whose parts are all settled.
    pub(super) fn answer_done(&mut self, now: Instant, around: &Surroundings<'_>) {
        for number in self.numbers_of(|body| matches!(body, Body::Opened(opened) if opened.is_done())) {
            let Some(opened) = self.lend(number) else { continue };
            let slot = self.slot_of(number);
            #[cfg(test)]
            let slot = if crate::session::mutation::is_on(crate::session::mutation::Mutation::WrongSlot) {
                self.requests.iter().rev().find_map(|request| request.slot)
            } else {
                slot
            };
            self.forget(number);
            if let Some(since) = opened.detoured_at {
                let held = now.saturating_duration_since(since);
                self.note(Note::DetourEnded { end: opened.end(), held });
            }
            let Some(slot) = slot else { continue };
            self.answer_one(now, slot, &opened, around);
        }
    }

    fn answer_one(&mut self, now: Instant, slot: SlotId, opened: &Opened, around: &Surroundings<'_>) {
        let answer = match opened.only_response() {
            Some(whole) => self.rewritten(now, ApiKey::PRODUCE, opened.head.version, whole, around),
            None => self.merged(now, opened, around),
        };
        match answer {
            Ok(frame) => self.answer(now, slot, frame, around),
            Err(_) => self.close(CloseReason::UpstreamViolation),
        }
    }

    fn merged(&self, now: Instant, opened: &Opened, around: &Surroundings<'_>) -> Result<Bytes, RewriteError> {
        let results: Vec<Merged<'_>> = opened
            .parts
            .iter()
            .map(|part| match &part.state {
                PartState::Done(Fate::Said { response, whole, .. }) => Merged::Copied { frame: response, whole: *whole, error: None },
                PartState::Done(Fate::Made { error }) => Merged::Made { error: *error },
                _ => Merged::Made { error: part.unsettled_error() },
            })
            .collect();
        #[cfg(test)]
        let results = if crate::session::mutation::is_on(crate::session::mutation::Mutation::MergeInWrongOrder) {
            results.into_iter().rev().collect()
        } else {
            results
        };
        let endpoints = virtual_endpoints(&self.context(now, around));
        merge_produce(&Merge {
            version: opened.head.version,
            correlation_id: opened.head.correlation_id,
            request_frame: &opened.frame,
            request: &opened.request,
            results: &results,
            throttle_time_ms: opened.throttle_time_ms(),
            endpoints: endpoints.as_deref(),
        })
    }
}

impl Part {
    /// That the last send was refused says nothing of those before it: where one of them may have been applied, its client must not take
    /// the batch for not applied.
    fn told(&self, fate: Fate) -> Fate {
        let is_refused = |error| matches!(classify(error, -1), Verdict::Moved | Verdict::Passing);
        match fate {
            Fate::Said { error, .. } if self.may_be_applied && self.times_sent > 1 && is_refused(error) => {
                Fate::Made { error: self.unsettled_error() }
            }
            fate => fate,
        }
    }
}

impl Opened {
    pub fn has_unsent(&self) -> bool {
        self.parts.iter().any(Part::is_unsent)
    }

    /// The response that holds every part's result and nothing else.
    fn only_response(&self) -> Option<Bytes> {
        let is_ours_alone = !self.was_joined;
        #[cfg(test)]
        let is_ours_alone = is_ours_alone || crate::session::mutation::is_on(crate::session::mutation::Mutation::TellAll);
        if !is_ours_alone {
            return None;
        }
        let Some(PartState::Done(Fate::Said { response, .. })) = self.parts.first().map(|part| &part.state) else { return None };
        let is_same =
            |state: &PartState| matches!(state, PartState::Done(Fate::Said { response: other, .. }) if other.as_ptr() == response.as_ptr());
        self.parts.iter().all(|part| is_same(&part.state)).then(|| response.clone())
    }

    fn throttle_time_ms(&self) -> i32 {
        let mut longest = 0;
        let mut seen: Vec<*const u8> = Vec::new();
        for part in &self.parts {
            if let PartState::Done(Fate::Said { response, .. }) = &part.state
                && !seen.contains(&response.as_ptr())
            {
                seen.push(response.as_ptr());
                longest = longest.max(ProduceResults::parse(response, self.head.version).map_or(0, |results| results.throttle_time_ms));
            }
        }
        longest
    }

    fn end(&self) -> DetourEnd {
        let is_ok = |state: &PartState| matches!(state, PartState::Done(Fate::Said { error: 0, .. } | Fate::Made { error: 0 }));
        let is_made = |state: &PartState| matches!(state, PartState::Done(Fate::Made { error: 1.. }));
        if self.was_cut {
            DetourEnd::Deadline
        } else if self.parts.iter().all(|part| is_ok(&part.state)) {
            DetourEnd::Acknowledged
        } else if self.parts.iter().any(|part| is_made(&part.state)) {
            DetourEnd::Cancelled
        } else {
            DetourEnd::Errors
        }
    }
}
