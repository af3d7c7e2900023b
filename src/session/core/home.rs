//! The home leg: to the broker of the session's port or, while that is not there, to a stand-in for what any broker may answer.
//!
//! ```text
//!            listed, trusted                       lost: distrusted
//!  Down ───────────────────────▶ itself ────────────────────────────────▶ Down
//!    │  departed, or distrusted and any broker will do                      ▲
//!    └─────────────────────────▶ a stand-in ── it is back, nothing open ────┘
//! ```
//! Trust returns with a detour's answer from that broker, with its return to the list, or with a request that only it can answer.

use std::time::Instant;

use super::{Core, Port, Surroundings, Waiting};
use crate::cluster::{NodeId, Observation};
use crate::session::leg::{Leg, LegState};
use crate::session::treatment::Reach;
use crate::session::{Action, CloseReason, LegId, Target};

/// Whether a request can be given to the home leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    Ready,
    Wait,
    Closed,
}

impl Core {
    pub(super) fn home_for(&mut self, now: Instant, reach: Reach, around: &Surroundings<'_>) -> Home {
        let node = match self.port {
            Port::Bootstrap => return self.bootstrap_home(now, around),
            Port::Node(node) => node,
        };
        let mut reach = reach;
        #[cfg(test)]
        if reach == Reach::ItselfWhileListed && crate::session::mutation::is_on(crate::session::mutation::Mutation::StandInForAll) {
            reach = Reach::Any;
        }
        let listed = around.view.brokers.get(&node).map(|broker| Target { node: Some(node), endpoint: broker.endpoint.clone() });
        if reach == Reach::ItselfWhileListed {
            reach = if listed.is_some() { Reach::Itself } else { Reach::Any };
        }
        if listed.is_none() && around.view.generation > 0 && !around.view.is_departed(node) {
            // After a restart of the proxy: to this client the broker exists, and it shall go on to.
            self.actions.push_back(Action::Learn(Observation::AskedFor(node)));
        }
        if !self.home.is_down() {
            return match listed {
                Some(_) if reach == Reach::Itself && self.home_is_stand_in() => self.leave_stand_in(now, around),
                None if reach == Reach::Itself && self.home_is_stand_in() => self.not_listed(around),
                _ => Home::Ready,
            };
        }
        match listed {
            Some(target) if reach == Reach::Itself || !self.distrust => self.open_home(now, vec![target]),
            _ if around.view.generation == 0 && self.without_view => return self.bootstrap_home(now, around),
            None if around.view.generation == 0 => {
                if !matches!(self.waiting, Some(Waiting::View { .. })) {
                    self.waiting = Some(Waiting::View { since: now });
                    self.ask_for_brokers(around);
                }
                return Home::Wait;
            }
            None if reach == Reach::Itself => return self.not_listed(around),
            listed => {
                let mut targets = self.bootstrap_targets(around);
                targets.retain(|target| target.node != Some(node));
                targets.extend(listed);
                if targets.is_empty() {
                    return self.not_listed(around);
                }
                self.open_home(now, targets);
            }
        }
        Home::Ready
    }

    fn bootstrap_home(&mut self, now: Instant, around: &Surroundings<'_>) -> Home {
        if self.home.is_down() {
            let targets = self.bootstrap_targets(around);
            self.open_home(now, targets);
        }
        Home::Ready
    }

    fn not_listed(&mut self, around: &Surroundings<'_>) -> Home {
        self.ask_for_brokers(around);
        self.close(CloseReason::BrokerNotListed);
        Home::Closed
    }

    /// The home broker is listed and only it can answer, but the leg leads elsewhere.
    fn leave_stand_in(&mut self, now: Instant, around: &Surroundings<'_>) -> Home {
        if !self.home.outstanding.is_empty() {
            self.waiting = Some(Waiting::Home);
            return Home::Wait;
        }
        self.close_home(now);
        self.home_for(now, Reach::Itself, around)
    }

    pub(super) fn open_home(&mut self, now: Instant, targets: Vec<Target>) {
        self.home.state = LegState::Opening(targets.clone());
        self.home.since = now;
        self.actions.push_back(Action::Open { leg: self.home.id, targets });
    }

    /// Puts a leg that is down in its place, and returns the one that was there.
    pub(super) fn renew_home(&mut self, now: Instant) -> Leg {
        let next = self.new_leg(now);
        std::mem::replace(&mut self.home, next)
    }

    pub(super) fn close_home(&mut self, now: Instant) {
        let leg = self.renew_home(now);
        if !leg.is_down() {
            self.actions.push_back(Action::CloseLeg(leg.id));
        }
    }

    /// It leads to another broker than the port's, or may.
    pub(super) fn home_is_stand_in(&self) -> bool {
        match self.port {
            Port::Bootstrap => false,
            Port::Node(node) => !self.home.is_down() && self.home.node() != Some(node) && !self.without_view,
        }
    }

    /// The home leg leads to the port's own broker, or can be opened to it with confidence: requests may go the fast way.
    pub(super) fn home_serves(&self, around: &Surroundings<'_>) -> bool {
        let Port::Node(node) = self.port else { return true };
        if around.view.generation == 0 || self.without_view {
            return true;
        }
        if self.home.is_down() { !self.distrust && around.view.brokers.contains_key(&node) } else { self.home.node() == Some(node) }
    }

    /// Every listed broker in an order of chance, so that many proxies do not all choose the same; without any, the configured
    /// addresses.
    fn bootstrap_targets(&mut self, around: &Surroundings<'_>) -> Vec<Target> {
        let mut targets: Vec<Target> =
            around.view.brokers.values().map(|broker| Target { node: Some(broker.id), endpoint: broker.endpoint.clone() }).collect();
        if targets.is_empty() {
            targets.extend(around.bootstrap.iter().map(|endpoint| Target { node: None, endpoint: endpoint.clone() }));
        }
        for last in (1..targets.len()).rev() {
            let other = self.next_random() as usize % (last + 1);
            targets.swap(last, other);
        }
        targets
    }

    /// The port's broker lives elsewhere now, or is back: the next request opens a leg to it, unless something is unresolved.
    pub(super) fn follow_broker(&mut self, now: Instant, around: &Surroundings<'_>) {
        let (Port::Node(node), Some(target)) = (self.port, self.home.target()) else { return };
        let broker = around.view.brokers.get(&node);
        let is_elsewhere = broker.is_some_and(|broker| broker.endpoint != target.endpoint);
        let leads_elsewhere = target.node.is_some_and(|at| at != node);
        if !is_elsewhere || (leads_elsewhere && self.distrust) {
            self.may_have_moved = false;
            return;
        }
        if self.closed || self.request_under_way || !self.order.is_empty() || self.has_opened() {
            return;
        }
        if self.logged_in {
            self.close(CloseReason::BrokerMoved);
        } else {
            self.close_home(now);
        }
    }

    /// The home leg, and the broker that it leads to, where that is certain.
    pub fn home(&self) -> (LegId, Option<NodeId>) {
        (self.home.id, self.home.node())
    }

    /// While `node` is some broker, a rehearsal has it treated as departed: its trust does not return. What becomes of the home leg is
    /// said by `on_leg`, as if the broker had done it.
    pub fn on_rehearsal(&mut self, now: Instant, node: Option<NodeId>, around: &Surroundings<'_>) {
        let was_shunned = std::mem::replace(&mut self.shunned, node.is_some_and(|node| self.port == Port::Node(node)));
        let (true, false, Port::Node(node)) = (was_shunned, self.shunned, self.port) else { return };
        self.distrust = false;
        self.unreachable.remove(&node);
        self.may_have_moved = true;
        self.follow_broker(now, around);
    }

    /// Whether the home broker has come back to the list, or to another address, since the last look.
    pub(super) fn look_at_home(&mut self, around: &Surroundings<'_>) {
        let Port::Node(node) = self.port else { return };
        let endpoint = around.view.brokers.get(&node).map(|broker| broker.endpoint.clone());
        if endpoint.is_some() && endpoint != self.home_endpoint && !self.shunned {
            self.distrust = false;
            self.unreachable.remove(&node);
        }
        self.home_endpoint = endpoint;
    }
}
