//! Legs that are lost, brokers that are silent: what was on them, and where it goes.
//!
//! A request whose last byte was not written was not applied (a broker acts on whole frames only). One that was written may have been
//! applied: an idempotent batch is sent again, its broker knows it; a plain one by `Detours::ambiguous`.

use std::time::{Duration, Instant};

use super::{Core, Port, Surroundings, Unreachable, Waiting};
use crate::cluster::NodeId;
use crate::session::gate::Key;
use crate::session::leg::{Leg, LegState, Outstanding, Share};
use crate::session::produce::{Part, PartState, Refused};
use crate::session::request::Body;
use crate::session::treatment::Reach;
use crate::session::{Action, Ambiguous, CloseReason, DepartureSign, DetourStart, LegId, Note};
use crate::wire::ApiKey;

/// A request whose connection was lost so often, after it was written each time, may be why: then its client learns of it.
const LOSSES_MAX: u32 = 8;
/// The same for requests that any broker may answer: each loss is another broker's, and counts thrice if the request was written.
const RESENT_MAX: u32 = 9;
/// A broker that has closed so often on batches with `acks=0`, though the view went on to name it: it is the client's turn.
const DOUBTS_MAX: u32 = 32;

impl Core {
    pub(super) fn lose_leg(&mut self, now: Instant, id: LegId, written_bytes: u64, sign: DepartureSign, around: &Surroundings<'_>) {
        let is_home = self.home.id == id;
        let leg = if is_home {
            self.renew_home(now)
        } else {
            let Some(at) = self.legs.iter().position(|leg| leg.id == id) else { return };
            self.legs.swap_remove(at)
        };
        let node = leg.node();
        let was_opening = matches!(leg.state, LegState::Opening(_));
        self.doubted.extend(node.filter(|_| leg.has_unanswered).map(|node| (node, None)));
        let was_used = !leg.outstanding.is_empty() || leg.has_unanswered;
        if let Some(node) = node.filter(|_| was_opening || was_used || sign != DepartureSign::Closed) {
            self.note(Note::Departure { node, sign });
            self.want_broker(node, around);
        }
        if let Some(node) = node.filter(|_| was_opening) {
            self.back_off_from(now, node);
        }
        if is_home {
            if was_opening {
                self.home_failures = self.home_failures.saturating_add(1);
            }
            self.lose_home(now, &leg, around);
            if self.waiting == Some(Waiting::Home) {
                self.resume();
            }
        }
        self.lose_unanswered(now, &leg);
        if self.closed {
            return;
        }
        for lost in leg.outstanding.iter().flat_map(Outstanding::shares) {
            self.lose_request(now, &leg, lost, lost.end <= written_bytes, around);
        }
        if is_home && was_opening && node.is_none() && !leg.outstanding.is_empty() {
            // Nobody at all could be reached.
            self.close(CloseReason::UpstreamConnectFailed);
        }
    }

    /// Ends a leg from our side: what can still be kept from its broker must not arrive there.
    fn drop_leg(&mut self, now: Instant, id: LegId, written_bytes: u64, sign: DepartureSign, around: &Surroundings<'_>) {
        self.actions.push_back(Action::DropLeg(id));
        self.lose_leg(now, id, written_bytes, sign, around);
    }

    /// Batches with `acks=0` that were on the leg. On one that never was a connection all are lost, which only a closed client can say.
    /// On others the last ones may have been refused, which a broker says by closing: those that follow wait for a fresh view.
    fn lose_unanswered(&mut self, now: Instant, leg: &Leg) {
        if !leg.has_unanswered || self.closed {
            return;
        }
        self.doubts += 1;
        if matches!(leg.state, LegState::Opening(_)) || self.doubts > DOUBTS_MAX {
            return self.close(CloseReason::Undeliverable);
        }
        self.enter_slow_path(now);
    }

    fn lose_home(&mut self, now: Instant, leg: &Leg, around: &Surroundings<'_>) {
        let reason = if matches!(leg.state, LegState::Up(_)) { CloseReason::UpstreamClosed } else { CloseReason::UpstreamConnectFailed };
        if self.logged_in || leg.outstanding.iter().any(|lost| lost.number == 0) || self.relays_what_is_lost(leg.id) {
            return self.close(reason);
        }
        if let Port::Node(node) = self.port
            && (leg.node() == Some(node) || leg.node().is_none())
        {
            self.distrust = true;
        }
        self.enter_slow_path(now);
        self.open_all_of(leg, around);
    }

    /// A request is on its way to that leg, byte by byte, and is not kept.
    fn relays_what_is_lost(&self, leg: LegId) -> bool {
        self.relaying_to == Some(leg) && self.keeping.is_none()
    }

    /// As `open_all`, for requests that were on a leg which is gone already.
    fn open_all_of(&mut self, leg: &Leg, around: &Surroundings<'_>) {
        let numbers: Vec<u64> = leg.outstanding.iter().filter(|lost| lost.api == ApiKey::PRODUCE).map(|lost| lost.number).collect();
        for number in numbers {
            self.open_request(number, None, around);
        }
    }

    fn lose_request(&mut self, now: Instant, leg: &Leg, lost: Share<'_>, was_written: bool, around: &Surroundings<'_>) {
        let node = leg.node();
        match self.request_mut(lost.number).map(|request| &mut request.body) {
            // Answered at its deadline, or not whole yet: then it goes on when its last byte has come.
            None | Some(Body::Whole { frame: None, .. } | Body::Lent) => {}
            Some(Body::Whole { .. }) => self.go_elsewhere(now, lost.number, was_written, around),
            Some(Body::Opened(_)) => {
                let Some(mut opened) = self.lend(lost.number) else { return };
                self.begin_detour(now, &mut opened, if self.home.is_down() { DetourStart::HomeLost } else { DetourStart::LegLost });
                opened.last_trouble = Some(now);
                for (ordinal, part) in opened.parts.iter_mut().enumerate() {
                    let was_on_it = match lost.parts {
                        Some(parts) => parts.contains(&ordinal) && part.is_sent_with(leg.id, lost.end),
                        // Opened a moment ago, with its leg gone.
                        None => part.is_sent_with(leg.id, lost.end) || matches!(part.state, PartState::Ready) && part.times_sent == 0,
                    };
                    if was_on_it {
                        part.times_sent = part.times_sent.max(1);
                        self.lose_part(now, lost.number, part, node, was_written, around);
                    }
                }
                self.put_back(lost.number, opened);
            }
        }
    }

    fn lose_part(
        &mut self,
        now: Instant,
        number: u64,
        part: &mut Part,
        node: Option<NodeId>,
        was_written: bool,
        around: &Surroundings<'_>,
    ) {
        let epoch = match part.state {
            PartState::Sent { epoch, .. } => epoch,
            _ => super::opening::epoch_at(&part.key, node, around),
        };
        if was_written {
            part.may_be_applied = true;
            #[cfg(test)]
            if crate::session::mutation::is_on(crate::session::mutation::Mutation::ForgetAmbiguity) {
                part.may_be_applied = false;
            }
            part.losses += 1;
            if part.losses > LOSSES_MAX {
                self.close(CloseReason::UpstreamClosed);
            } else if !part.is_idempotent && self.detours.ambiguous == Ambiguous::Fail {
                self.close(CloseReason::AmbiguousProduce);
            }
        }
        self.gate.back(&part.key, number);
        let refused = Refused { node: node.unwrap_or(NodeId(-1)), epoch, by_silence: true };
        self.ask_for(now, part, Some(refused), around);
    }

    /// A request that any broker may answer, or a produce request whose leg was lost before its last byte had come.
    pub(super) fn go_elsewhere(&mut self, now: Instant, number: u64, was_written: bool, around: &Surroundings<'_>) {
        let slot = self.slot_of(number);
        let failures = self.home_failures;
        let wait = (!was_written && failures > 0).then(|| self.back_off(failures - 1));
        let Some(request) = self.request_mut(number) else { return };
        let Body::Whole { head, frame: Some(frame), resent, stranded } = &mut request.body else { return };
        let head = *head;
        let was_stranded = std::mem::take(stranded);
        if head.api == ApiKey::PRODUCE {
            if !self.open_request(number, None, around) {
                self.close(CloseReason::UpstreamClosed);
            }
            return;
        }
        // What found nobody was counted then, and not again when it goes out at last.
        *resent += if was_stranded {
            0
        } else if was_written {
            3
        } else {
            1
        };
        let (too_often, frame) = (*resent > RESENT_MAX, frame.clone().into_frame());
        let Some(slot) = slot.filter(|_| !too_often) else { return self.close(CloseReason::UpstreamClosed) };
        if let Some(wait) = wait.filter(|_| self.home.is_down()) {
            // Not at once, again and again, while there is nobody.
            if let Some(Body::Whole { stranded, .. }) = self.request_mut(number).map(|request| &mut request.body) {
                *stranded = true;
            }
            self.stranded_until = Some(self.stranded_until.map_or(now + wait, |due| due.max(now + wait)));
            return;
        }
        if self.home_for(now, Reach::Any, around) != super::home::Home::Ready {
            return self.close(CloseReason::UpstreamConnectFailed);
        }
        let bytes = frame.len();
        self.put_on_leg(now, self.home.id, (number, slot, &head), bytes, None);
        self.note(Note::Resent { bytes });
        self.send(self.home.id, frame);
    }

    /// Requests that found nobody go out again.
    pub(super) fn send_stranded(&mut self, now: Instant, around: &Surroundings<'_>) {
        if self.stranded_until.is_none_or(|due| now < due) {
            return;
        }
        self.stranded_until = None;
        for number in self.numbers_of(|body| matches!(body, Body::Whole { stranded: true, .. })) {
            self.go_elsewhere(now, number, true, around);
        }
    }

    fn back_off_from(&mut self, now: Instant, node: NodeId) {
        let failures = self.unreachable.get(&node).map_or(0, |known| known.failures);
        let wait = self.back_off(failures);
        self.unreachable.insert(node, Unreachable { failures: failures.saturating_add(1), not_before: now + wait });
    }

    /// From `backoff_min`, doubling to `backoff_max`; half of it by chance.
    pub(super) fn back_off(&mut self, failures: u32) -> Duration {
        let doubled = self.detours.backoff_min.saturating_mul(1u32.checked_shl(failures).unwrap_or(u32::MAX));
        let share = 0.5 + 0.5 * (self.next_random() % 1024) as f64 / 1024.0;
        doubled.min(self.detours.backoff_max).mul_f64(share)
    }

    // Silence: a frozen broker still acknowledges at TCP's level, and only a newer epoch elsewhere unmasks it.

    /// When a leg has been silent for long enough to say so.
    pub(super) fn suspect_due(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        self.legs.iter().chain([&self.home]).filter_map(|leg| leg.suspect_at(self.detours.suspect_after)).min()
    }

    pub(super) fn suspect_silent_legs(&mut self, now: Instant, around: &Surroundings<'_>) {
        let suspect_after = self.detours.suspect_after;
        let is_silent = |leg: &Leg| leg.suspect_at(suspect_after).is_some_and(|due| now >= due);
        let silent: Vec<LegId> = [&self.home].into_iter().chain(&self.legs).filter(|leg| is_silent(leg)).map(|leg| leg.id).collect();
        for id in silent {
            let is_home = self.home.id == id;
            let (node, is_opening) = match self.leg_mut(id) {
                Some(leg) => {
                    leg.suspected_at = Some(now);
                    (leg.node(), matches!(leg.state, LegState::Opening(_)))
                }
                None => continue,
            };
            if let Some(node) = node {
                if !self.waits_for_followers(id) {
                    self.note(Note::Departure { node, sign: DepartureSign::Silent });
                }
                self.want_broker(node, around);
            }
            if is_home && is_opening && node.is_some() && self.home.outstanding.iter().all(|waiting| waiting.number != 0) {
                // Everything that waits for it can go elsewhere.
                self.drop_leg(now, id, 0, DepartureSign::Silent, around);
                continue;
            }
            if is_home {
                self.open_all(around);
            }
            self.want_what_is_on(id);
        }
        self.leave_silent_legs(now, around);
        self.flush_wants();
        self.go_on(now, around);
    }

    /// What its broker has had longest is a batch with `acks=all`: then the silence may as well be that of a dead follower. If it is its
    /// own, the view will tell.
    fn waits_for_followers(&self, id: LegId) -> bool {
        let oldest = self.leg(id).filter(|leg| matches!(leg.state, LegState::Up(_))).and_then(|leg| leg.outstanding.front());
        let head = oldest.and_then(|oldest| self.request(oldest.number)).and_then(|request| match &request.body {
            Body::Whole { head, .. } => head.produce,
            Body::Opened(opened) => opened.head.produce,
            Body::Lent => None,
        });
        head.is_some_and(|produce| produce.acks == -1)
    }

    /// Wants for every partition that is unanswered on the leg.
    fn want_what_is_on(&mut self, id: LegId) {
        let shares = self.leg(id).into_iter().flat_map(|leg| leg.outstanding.iter().flat_map(Outstanding::shares));
        let numbers: Vec<u64> = shares.map(|share| share.number).collect();
        for number in numbers {
            let Some(opened) = self.lend(number) else { continue };
            for part in &opened.parts {
                if let PartState::Sent { leg, node, epoch, .. } = part.state
                    && leg == id
                {
                    self.want_partition(&part.key, node, epoch);
                }
            }
            self.put_back(number, opened);
        }
    }

    /// Leaves legs whose broker has been silent for a while, and of which the view by now knows better.
    pub(super) fn leave_silent_legs(&mut self, now: Instant, around: &Surroundings<'_>) {
        self.leave_wrong_addresses(now, around);
        let suspects: Vec<LegId> = [&self.home]
            .into_iter()
            .chain(&self.legs)
            .filter(|leg| {
                leg.suspected_at.is_some()
                    && !leg.outstanding.is_empty()
                    && leg.oldest_sent_at().is_some_and(|since| now >= since + self.detours.suspect_after)
            })
            .map(|leg| leg.id)
            .collect();
        for id in suspects {
            let Some(leg) = self.leg(id) else { continue };
            let Some(node) = leg.node() else { continue };
            let is_unlisted = around.view.generation > 0 && !around.view.brokers.contains_key(&node);
            let has_moved = leg.outstanding.iter().any(|waiting| {
                waiting.shares().any(|share| self.has_moved(share.number, id, node, around))
                    || waiting.number != 0 && !waiting.shares().any(|share| self.is_waited_for(id, share))
            });
            if is_unlisted || has_moved {
                let written_bytes = if matches!(leg.state, LegState::Opening(_)) { 0 } else { u64::MAX };
                self.drop_leg(now, id, written_bytes, DepartureSign::Silent, around);
            }
        }
    }

    /// Leaves detours' legs that are being connected to where their broker is no more.
    fn leave_wrong_addresses(&mut self, now: Instant, around: &Surroundings<'_>) {
        let is_wrong = |leg: &&Leg| match &leg.state {
            LegState::Opening(targets) => targets.iter().all(|target| {
                target.node.is_some_and(|node| around.view.brokers.get(&node).is_none_or(|broker| broker.endpoint != target.endpoint))
            }),
            _ => false,
        };
        let wrong: Vec<LegId> = self.legs.iter().filter(is_wrong).map(|leg| leg.id).collect();
        for id in wrong {
            self.drop_leg(now, id, 0, DepartureSign::Refused, around);
        }
    }

    /// Whether the answer is still worth something: not if all of it has gone elsewhere, or was answered at its deadline.
    fn is_waited_for(&self, id: LegId, waiting: Share<'_>) -> bool {
        match self.request(waiting.number).map(|request| &request.body) {
            Some(Body::Opened(opened)) => opened.parts.iter().any(|part| part.is_sent_with(id, waiting.end)),
            Some(Body::Whole { .. } | Body::Lent) => true,
            None => false,
        }
    }

    /// Idempotent batches that wait for an answer of a broker which leads their partition no more go to the one that does, at once: if
    /// they were applied, it knows them. A late answer to the send that is given up is nobody's. Plain ones wait for the answer.
    pub(super) fn give_up_sends(&mut self, now: Instant, around: &Surroundings<'_>) {
        for number in self.numbers_of(|body| matches!(body, Body::Opened(_))) {
            let Some(mut opened) = self.lend(number) else { continue };
            let mut has_moved = false;
            for part in opened.parts.iter_mut().filter(|part| part.is_idempotent) {
                let PartState::Sent { node: Some(node), epoch, .. } = part.state else { continue };
                if !is_led_elsewhere(&part.key, node, epoch, around) {
                    continue;
                }
                has_moved = true;
                part.may_be_applied = true;
                part.refused = Some(Refused { node, epoch, by_silence: false });
                part.attempts = 0;
                part.state = PartState::Ready;
                self.gate.back(&part.key, number);
            }
            if has_moved {
                opened.last_trouble = Some(now);
                self.begin_detour(now, &mut opened, DetourStart::Moved);
                self.enter_slow_path(now);
            }
            self.put_back(number, opened);
        }
    }

    /// Whether a part that is on this leg is led elsewhere, under a newer epoch than it was sent under.
    fn has_moved(&self, number: u64, id: LegId, node: NodeId, around: &Surroundings<'_>) -> bool {
        let Some(Body::Opened(opened)) = self.request(number).map(|request| &request.body) else { return false };
        opened.parts.iter().any(|part| match part.state {
            PartState::Sent { leg, epoch, .. } if leg == id => is_led_elsewhere(&part.key, node, epoch, around),
            _ => false,
        })
    }
}

/// Whether the view has another leader than `node`, under a newer epoch than this one.
fn is_led_elsewhere(key: &Key, node: NodeId, epoch: i32, around: &Surroundings<'_>) -> bool {
    super::results::leader_now(key, around).is_some_and(|(leader, newer)| leader != node && newer > epoch)
}
