//! The slow path as such: when it is taken and left, whom it asks, and its steps in their order.

use std::time::{Duration, Instant};

use super::routing::WINDOW;
use super::{Core, Port, Surroundings};
use crate::cluster::{NodeId, Want, WantedTopic};
use crate::session::gate::{Key, Member, TopicKey};
use crate::session::leg::Leg;
use crate::session::produce::{Opened, Part, PartState, Refused};
use crate::session::request::{Body, Request};
use crate::session::{Action, DetourStart, Note};

/// Refreshes that change nothing, before a batch is tried again without another.
const ASKED_ENOUGH: u32 = 2;
/// Before the slow path is looked at again, where nothing has moved.
const BRIEFLY: Duration = Duration::from_secs(1);

impl Core {
    /// Whether a produce request may not simply be relayed.
    #[inline]
    pub(super) fn must_look_into_produce(&mut self, now: Instant, around: &Surroundings<'_>) -> bool {
        // A login cannot be repeated for a client yet: another leg would be nobody's.
        if self.logged_in {
            return false;
        }
        if self.home.outstanding.len() >= WINDOW && self.home.is_stuck(now) {
            // What comes waits here, where it can be put together, and can still go elsewhere.
            let until = *self.slow_until.get_or_insert(now + BRIEFLY);
            self.slow_due.get_or_insert(until);
        }
        self.slow_until.is_some() || self.gate.is_moving() || !self.home_serves(around) || self.has_unsent()
    }

    /// Whether a batch waits here, which nothing may pass.
    fn has_unsent(&self) -> bool {
        let is_unsent = |request: &Request| matches!(&request.body, Body::Opened(opened) if opened.has_unsent());
        self.slow_due.is_some() && self.requests.iter().any(is_unsent)
    }

    pub(super) fn enter_slow_path(&mut self, now: Instant) {
        let until = now + self.detours.linger;
        self.slow_until = Some(until);
        self.slow_due.get_or_insert(until);
    }

    pub(super) fn begin_detour(&mut self, now: Instant, opened: &mut Opened, start: DetourStart) {
        if opened.detoured_at.is_none() {
            opened.detoured_at = Some(now);
            self.note(Note::DetourStarted(start));
        }
    }

    /// Every step of the slow path that can be taken now. Called at the end of whatever may have made one possible.
    pub(super) fn go_on(&mut self, now: Instant, around: &Surroundings<'_>) {
        if self.closed {
            return;
        }
        self.send_stranded(now, around);
        self.give_up_sends(now, around);
        self.route(now, around);
        self.cut_overdue(now, around);
        self.flush_wants();
        self.answer_done(now, around);
        if self.held_ending.is_some() {
            self.end_transaction_if_clear(now, around);
        }
        if !self.held_metadata.is_empty() {
            self.release_metadata(now, around, false);
        }
        self.leave_slow_path(now);
        self.schedule();
    }

    fn leave_slow_path(&mut self, now: Instant) {
        let is_open = |request: &Request| matches!(request.body, Body::Opened(_));
        let is_idle = |leg: &Leg| leg.outstanding.is_empty();
        let is_needed = self.requests.iter().any(is_open) || !self.legs.iter().all(is_idle);
        if self.slow_until.is_some_and(|until| now >= until) {
            // A request that went the fast way now would pass those that are open.
            self.slow_until = is_needed.then(|| now + BRIEFLY.min(self.detours.linger));
        }
        if self.slow_until.is_some() || self.legs.is_empty() || is_needed {
            return;
        }
        self.given_up.clear();
        self.unreachable.clear();
        self.doubted.clear();
        self.doubts = 0;
        for leg in std::mem::take(&mut self.legs) {
            self.actions.push_back(Action::CloseLeg(leg.id));
        }
    }

    fn schedule(&mut self) {
        let mut due = self.slow_until;
        for request in &self.requests {
            if let Body::Opened(opened) = &request.body {
                let retries = opened.parts.iter().filter(|part| matches!(part.state, PartState::Ready)).filter_map(|part| part.not_before);
                let soonest = retries.chain([self.answered_by(opened)]).min();
                due = due.into_iter().chain(soonest).min();
            }
        }
        due = due.into_iter().chain(self.held_metadata.iter().filter_map(|held| held.until)).chain(self.stranded_until).min();
        self.slow_due = due;
    }

    /// The part waits for a fresh view. `refused`: by whom it was refused, if by anybody. Has the cluster been asked twice and named that
    /// broker each time, then it has not heard of its leadership yet, and will: the cluster is asked on, at its own pace, and the batch
    /// is tried again beside that.
    pub(super) fn ask_for(&mut self, now: Instant, part: &mut Part, refused: Option<Refused>, around: &Surroundings<'_>) {
        if part.refused != refused {
            part.attempts = 0;
        }
        part.refused = refused;
        part.not_before = None;
        let (leader, epoch) = match super::results::leader_now(&part.key, around) {
            // The view knows better already.
            Some((node, epoch)) if refused.is_none_or(|by| by.is_surpassed_by(node, epoch)) => {
                part.state = PartState::Ready;
                return;
            }
            Some((node, epoch)) => (Some(node), epoch),
            None => (
                None,
                around.view.partition(super::opening::topic_ref(&part.key.topic), part.key.partition).map_or(-1, |known| known.epoch),
            ),
        };
        #[cfg(test)]
        if crate::session::mutation::is_on(crate::session::mutation::Mutation::AskNobody) {
            part.state = PartState::Ready;
            return;
        }
        let token = self.want_partition(&part.key, leader, epoch);
        if part.attempts < ASKED_ENOUGH || refused.is_none_or(|by| by.by_silence) {
            part.state = PartState::Asking(token);
            return;
        }
        let wait = self.back_off(part.attempts.saturating_mul(2));
        part.attempts = part.attempts.saturating_add(1);
        part.not_before = Some(now + wait);
        part.state = PartState::Ready;
    }

    /// The number of the refresh that will ask for the partition, which this leader does not serve at this epoch.
    pub(super) fn want_partition(&mut self, key: &Key, leader: Option<NodeId>, epoch: i32) -> u64 {
        let topic = match &key.topic {
            TopicKey::Name(name) => WantedTopic::Name(name.clone()),
            TopicKey::Id(id) => WantedTopic::Id(*id),
        };
        self.want(Some(key.topic.clone()), Want::Partition { topic, partition: key.partition, leader, epoch })
    }

    /// Notes a want down; returns the number of the refresh that will ask for it.
    fn want(&mut self, topic: Option<TopicKey>, want: Want) -> u64 {
        if let Some((_, token, wants)) = self.wants.iter_mut().find(|(known, _, _)| *known == topic) {
            wants.push(want);
            return *token;
        }
        let token = self.next_token;
        self.next_token += 1;
        self.wants.push((topic, token, vec![want]));
        token
    }

    pub(super) fn want_broker(&mut self, node: NodeId, around: &Surroundings<'_>) {
        if let Some(broker) = around.view.brokers.get(&node) {
            self.want(None, Want::Broker { node, endpoint: broker.endpoint.clone() });
        }
    }

    /// The list of brokers may be stale, and nothing in particular waits for it.
    pub(super) fn ask_for_brokers(&mut self, around: &Surroundings<'_>) {
        if let Port::Node(node) = self.port {
            self.want_broker(node, around);
        }
        if self.wants.is_empty() {
            self.actions.push_back(Action::Refresh { token: 0, wants: Vec::new() });
        }
        self.flush_wants();
    }

    pub(super) fn flush_wants(&mut self) {
        for (_, token, wants) in std::mem::take(&mut self.wants) {
            if !self.closed {
                self.actions.push_back(Action::Refresh { token, wants });
            }
        }
    }

    /// What became of the wants. `token`: an answer is there to the refresh of this number; `None`: the view has changed.
    pub(super) fn look_again(&mut self, now: Instant, token: Option<u64>, around: &Surroundings<'_>) {
        for number in self.numbers_of(|body| matches!(body, Body::Opened(_))) {
            let Some(mut opened) = self.lend(number) else { continue };
            for part in &mut opened.parts {
                self.look_again_at(now, part, token, around);
            }
            self.put_back(number, opened);
        }
    }

    fn look_again_at(&mut self, now: Instant, part: &mut Part, token: Option<u64>, around: &Surroundings<'_>) {
        let asking = match part.state {
            PartState::Asking(asking) => Some(asking),
            PartState::Ready if part.not_before.is_some() => None,
            _ => return,
        };
        let leader = super::results::leader_now(&part.key, around);
        let has_moved = leader.is_some_and(|(node, epoch)| part.refused.is_none_or(|by| by.is_surpassed_by(node, epoch)));
        if has_moved {
            part.state = PartState::Ready;
            part.not_before = None;
            part.attempts = 0;
        } else if token.is_some() && asking == token {
            // Nothing has changed: try again, later each time.
            let by_silence = part.refused.is_some_and(|by| by.by_silence);
            let wait = match (part.attempts, by_silence) {
                (0, true) => None,
                (attempts, true) => Some(self.back_off(attempts - 1)),
                (attempts, false) => Some(self.back_off(attempts.saturating_mul(2).saturating_add(1))),
            };
            part.attempts = part.attempts.saturating_add(1);
            part.not_before = wait.map(|wait| now + wait);
            part.state = PartState::Ready;
        }
    }

    pub(super) fn wake(&mut self, mut members: Vec<Member>) {
        members.retain(|member| *member != self.member);
        members.sort_unstable();
        members.dedup();
        if !members.is_empty() {
            self.actions.push_back(Action::Wake(members));
        }
    }
}
