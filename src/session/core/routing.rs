//! Sending what is ready to whoever leads it: requests in the order of their arrival, cut by leader, each batch when its turn has come.
//!
//! A request whose parts are all ready for one leader goes whole, as the very bytes that came. A detour never uses the home leg while a
//! client's request is being relayed on it, and takes it only for whole requests to the home broker: then the fast path is near again.

use std::time::Instant;

use super::home::Home;
use super::joining::{Joint, join};
use super::{Core, Port, Surroundings};
use crate::cluster::NodeId;
use crate::rewrite::split_produce;
use crate::session::gate::Follows;
use crate::session::leg::LegState;
use crate::session::produce::{Fate, Opened, PartState, Refused};
use crate::session::request::Body;
use crate::session::treatment::Reach;
use crate::session::{Action, CloseReason, DetourStart, LegId, Note, Target};
use crate::wire::ApiKey;

/// Produce requests that a leg has unanswered, as far as it is up to the slow path. A broker works on one request of a connection at a
/// time, so that more would only wait there instead of here: beyond recall, and one by one.
pub(super) const WINDOW: usize = 4;

impl Core {
    /// Everything that can be sent is sent.
    pub(super) fn route(&mut self, now: Instant, around: &Surroundings<'_>) {
        let mut joints = Vec::new();
        for number in self.numbers_of(|body| matches!(body, Body::Opened(opened) if opened.has_unsent())) {
            if self.closed {
                return;
            }
            let Some(mut opened) = self.lend(number) else { continue };
            self.route_one(now, number, &mut opened, &mut joints, around);
            self.put_back(number, opened);
        }
        for joint in joints {
            self.send_joint(now, joint, around);
        }
    }

    fn route_one(&mut self, now: Instant, number: u64, opened: &mut Opened, joints: &mut Vec<Joint>, around: &Surroundings<'_>) {
        let mut targets: Vec<(NodeId, Vec<usize>)> = Vec::new();
        let is_unanswered = opened.acks() == 0;
        for ordinal in 0..opened.parts.len() {
            let Some(part) = opened.parts.get_mut(ordinal) else { continue };
            if !part.is_unsent() {
                continue;
            }
            if self.gate.is_cancelled(&part.key, number) {
                self.finish_unsettled(now, number, opened, ordinal);
                continue;
            }
            if !matches!(part.state, PartState::Ready) || part.not_before.is_some_and(|at| now < at) {
                continue;
            }
            part.not_before = None;
            let key = part.key.line();
            match super::results::leader_now(&part.key, around) {
                Some((node, _)) if !self.serves_version(node, opened.head.version, around) => {
                    self.finish_unsettled(now, number, opened, ordinal);
                }
                Some((node, epoch)) if is_unanswered && part.refused.is_none() && self.doubted.contains_key(&node) => {
                    self.ask_for(now, part, Some(Refused { node, epoch, by_silence: true }), around);
                    if let PartState::Asking(token) = part.state {
                        self.doubted.entry(node).and_modify(|asked| *asked = asked.or(Some(token)));
                    }
                }
                Some((node, _)) => aim(&mut targets, node, ordinal),
                None if part.times_sent == 0 && self.given_up.get(&key).is_some_and(Option::is_none) => {
                    self.finish_unsettled(now, number, opened, ordinal);
                }
                None => match self.home.node().filter(|_| part.times_sent == 0 && part.attempts > 0 && self.home_serves(around)) {
                    // The cluster was asked and did not say: the client meant this one, which knows what to answer.
                    Some(home) => aim(&mut targets, home, ordinal),
                    None => {
                        self.ask_for(now, part, None, around);
                        self.begin_detour(now, opened, DetourStart::Routed);
                    }
                },
            }
        }
        for (node, parts) in targets {
            self.send_to(now, number, opened, node, parts, joints, around);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "what goes, and where to")]
    fn send_to(
        &mut self,
        now: Instant,
        number: u64,
        opened: &mut Opened,
        node: NodeId,
        parts: Vec<usize>,
        joints: &mut Vec<Joint>,
        around: &Surroundings<'_>,
    ) {
        let is_whole = parts.len() == opened.parts.len();
        let leg = match self.home_leg_to(now, node, around).filter(|_| is_whole) {
            Some(home) => Some(home),
            None => {
                self.begin_detour(now, opened, DetourStart::Routed);
                self.enter_slow_path(now);
                self.detour_leg_to(now, node, around)
            }
        };
        let Some(leg) = leg else {
            let due = self.unreachable.get(&node).map(|known| known.not_before).filter(|due| now < *due);
            for ordinal in parts {
                let Some(part) = opened.parts.get_mut(ordinal) else { continue };
                part.not_before = due;
                if due.is_none() {
                    // It is the home broker, and not listed: nobody tells when it can be tried again.
                    let refused = part.refused;
                    self.ask_for(now, part, refused, around);
                }
            }
            return;
        };
        let is_home = leg == self.home.id;
        let is_unanswered = opened.acks() == 0;
        let (is_connected, in_window) =
            self.leg(leg).map_or((false, 0), |leg| (matches!(leg.state, LegState::Up(_)), leg.outstanding.len()));
        // If the connection comes to nothing, nobody would tell that what nobody answers went with it.
        if is_unanswered && !is_connected || !is_unanswered && in_window >= WINDOW {
            return;
        }
        let at = joints.iter().position(|joint| joint.leg == leg);
        let joins = !is_unanswered && in_window + 1 == WINDOW;
        if let Some(at) = at.filter(|_| !joins) {
            self.send_joint(now, joints.swap_remove(at), around);
        }
        let joint = at.filter(|_| joins).and_then(|at| joints.get(at));
        let parts = match joint {
            Some(joint) => self.joinable(joint, opened, parts, is_home),
            None => parts,
        };
        if parts.is_empty() {
            return;
        }
        let Some(place) = self.leg(leg).map(|leg| leg.place) else { return };
        let mut going = Vec::with_capacity(parts.len());
        for ordinal in parts {
            let Some(part) = opened.parts.get_mut(ordinal) else { continue };
            let is_proven = self.leg(leg).is_some_and(|leg| leg.proven.contains(&part.key.line()));
            #[cfg(test)]
            let is_proven = is_proven || crate::session::mutation::is_on(crate::session::mutation::Mutation::TrustUnproven);
            let follows = match (is_proven, is_home) {
                (true, _) => Follows::All,
                (false, true) => Follows::Unmoved,
                (false, false) => Follows::Nothing,
            };
            match self.gate.go(&part.key, number, place, follows) {
                Some(event) => {
                    #[cfg(test)]
                    if crate::session::mutation::is_on(crate::session::mutation::Mutation::SettleOnDelivery) {
                        self.gate.settle(&part.key, number);
                    }
                    part.sent_event = event;
                    if let Some(since) = part.gate_since.take() {
                        self.actions.push_back(Action::Note(Note::GateWait(now.saturating_duration_since(since))));
                    }
                    going.push(ordinal);
                }
                None => {
                    part.gate_since.get_or_insert(now);
                }
            }
        }
        if going.len() < opened.parts.len() {
            self.begin_detour(now, opened, DetourStart::Gate);
        }
        if going.is_empty() {
            return;
        }
        if !joins {
            return self.put_parts(now, number, opened, leg, node, going, around);
        }
        join(joints, leg, node, number, opened, going);
    }

    /// They are on the leg from now on. Says whether any of them has been sent before.
    pub(super) fn mark_sent(
        &mut self,
        opened: &mut Opened,
        leg: LegId,
        node: NodeId,
        end: u64,
        going: &[usize],
        around: &Surroundings<'_>,
    ) -> bool {
        let mut is_again = false;
        for ordinal in going {
            let Some(part) = opened.parts.get_mut(*ordinal) else { continue };
            let epoch = super::opening::epoch_at(&part.key, Some(node), around);
            part.state = PartState::Sent { leg, node: Some(node), epoch, end };
            part.not_before = None;
            is_again |= part.times_sent > 0;
            part.times_sent = part.times_sent.saturating_add(1);
            if part.may_be_applied {
                let idempotent = part.is_idempotent;
                self.actions.push_back(Action::Note(Note::AmbiguousResend { idempotent }));
            }
        }
        if opened.detoured_at.is_some() {
            self.note(Note::Attempt);
        }
        is_again
    }

    #[allow(clippy::too_many_arguments, reason = "what goes, and where to")]
    pub(super) fn put_parts(
        &mut self,
        now: Instant,
        number: u64,
        opened: &mut Opened,
        leg: LegId,
        node: NodeId,
        going: Vec<usize>,
        around: &Surroundings<'_>,
    ) {
        let frame = if going.len() == opened.parts.len() {
            opened.frame.clone()
        } else {
            match split_produce(&opened.frame, &opened.head, &opened.request, &|ordinal| going.binary_search(&ordinal).is_ok()) {
                Ok(frame) => frame,
                // It was parsed by the same rules; only a frame beyond all bounds comes here.
                Err(_) => return self.close(CloseReason::UpstreamViolation),
            }
        };
        let is_answered = opened.acks() != 0;
        let end = self.leg(leg).map_or(0, |leg| leg.given_bytes) + frame.len() as u64;
        let is_again = self.mark_sent(opened, leg, node, end, &going, around);
        let bytes = frame.len();
        if is_again {
            self.note(Note::Resent { bytes });
        }
        if let Some(slot) = self.slot_of(number).filter(|_| is_answered) {
            let parts = (leg != self.home.id).then_some(going);
            self.put_on_leg(now, leg, (number, slot, &opened.head), bytes, parts);
        } else {
            // Nobody answers it; what becomes of it shows only if the leg closes.
            if let Some(leg) = self.leg_mut(leg) {
                leg.given_bytes += bytes as u64;
                leg.has_unanswered = true;
            }
            for ordinal in going {
                self.finish(now, number, opened, ordinal, Fate::Made { error: 0 });
            }
        }
        self.send(leg, frame);
    }

    /// The home leg, if it leads to that broker and nothing is being relayed on it.
    fn home_leg_to(&mut self, now: Instant, node: NodeId, around: &Surroundings<'_>) -> Option<LegId> {
        if self.relaying_to == Some(self.home.id) {
            return None;
        }
        if self.home.is_down() && self.port == Port::Node(node) && !self.distrust && !self.logged_in {
            return (self.home_for(now, Reach::Itself, around) == Home::Ready).then_some(self.home.id);
        }
        (self.home.node() == Some(node)).then_some(self.home.id)
    }

    /// The detour's leg to that broker, opened if need be. `None`: it could not be connected to, and it is too early to try again.
    fn detour_leg_to(&mut self, now: Instant, node: NodeId, around: &Surroundings<'_>) -> Option<LegId> {
        if let Some(leg) = self.legs.iter().find(|leg| leg.node() == Some(node)) {
            return Some(leg.id);
        }
        if self.unreachable.get(&node).is_some_and(|known| now < known.not_before) {
            return None;
        }
        let endpoint = around.view.brokers.get(&node)?.endpoint.clone();
        let targets = vec![Target { node: Some(node), endpoint }];
        let mut leg = self.new_leg(now);
        let id = leg.id;
        leg.state = LegState::Opening(targets.clone());
        self.legs.push(leg);
        self.actions.push_back(Action::Open { leg: id, targets });
        Some(id)
    }

    /// A version that the broker lacks would make it close the connection: in a rolling upgrade brokers differ.
    fn serves_version(&self, node: NodeId, version: i16, around: &Surroundings<'_>) -> bool {
        let range = around.view.versions_of(node).and_then(|versions| versions.range(ApiKey::PRODUCE));
        range.is_none_or(|range| (range.min..=range.max).contains(&version))
    }
}

/// One more part for the broker.
fn aim(targets: &mut Vec<(NodeId, Vec<usize>)>, node: NodeId, part: usize) {
    match targets.iter_mut().find(|(known, _)| *known == node) {
        Some((_, parts)) => parts.push(part),
        None => targets.push((node, vec![part])),
    }
}
