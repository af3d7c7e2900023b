//! Opening the home leg, what becomes of it, and following its broker.

use std::time::Instant;

use super::{Core, Port, Surroundings, Waiting};
use crate::session::leg::{Leg, LegState};
use crate::session::{Action, CloseReason, LegEvent, LegId, Target};

impl Core {
    /// True: requests may be queued for the home leg. False: they have to wait, or the session has been closed.
    pub(super) fn open_home(&mut self, now: Instant, around: &Surroundings<'_>) -> bool {
        let targets = match self.port {
            Port::Bootstrap => self.bootstrap_targets(around),
            Port::Node(node) => match around.view.brokers.get(&node) {
                Some(broker) => vec![Target { node: Some(node), endpoint: broker.endpoint.clone() }],
                // Nobody tells us where it is, maybe because the cluster demands a login and only clients have one. Whoever answers
                // there says the truth about what it does not lead, and the metadata that passes makes the view.
                None if around.view.generation == 0 && self.without_view => self.bootstrap_targets(around),
                None if around.view.generation == 0 => {
                    if !matches!(self.waiting, Some(Waiting::View { .. })) {
                        self.waiting = Some(Waiting::View { since: now });
                        self.actions.push_back(Action::Refresh);
                    }
                    return false;
                }
                None => {
                    self.actions.push_back(Action::Refresh);
                    self.close(CloseReason::BrokerNotListed);
                    return false;
                }
            },
        };
        self.home.state = LegState::Opening(targets.clone());
        self.actions.push_back(Action::Open { leg: LegId::HOME, targets });
        true
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
            self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            targets.swap(last, (self.random >> 33) as usize % (last + 1));
        }
        targets
    }

    pub fn on_leg(&mut self, leg: LegId, event: LegEvent) {
        if self.closed || leg != LegId::HOME {
            return;
        }
        match event {
            LegEvent::Opened(index) => {
                let LegState::Opening(targets) = std::mem::take(&mut self.home.state) else { return };
                match targets.into_iter().nth(index) {
                    Some(target) => self.home.state = LegState::Up(target),
                    None => self.close(CloseReason::UpstreamConnectFailed),
                }
                self.settle();
            }
            LegEvent::Failed => {
                self.actions.push_back(Action::Refresh);
                self.close(CloseReason::UpstreamConnectFailed);
            }
            LegEvent::Closed => {
                self.actions.push_back(Action::Refresh);
                self.close(CloseReason::UpstreamClosed);
            }
        }
    }

    /// There is a newer view.
    pub fn on_view(&mut self, around: &Surroundings<'_>) {
        if matches!(self.waiting, Some(Waiting::View { .. })) && around.view.generation > 0 {
            self.waiting = None;
            self.actions.push_back(Action::Resume);
        }
        self.may_have_moved = true;
        self.follow_broker(around);
        self.settle();
    }

    /// The port's broker lives elsewhere now: the next request opens a leg to its new place, unless something is unresolved.
    pub(super) fn follow_broker(&mut self, around: &Surroundings<'_>) {
        let (Port::Node(node), Some(target)) = (self.port, self.home.target()) else { return };
        let moved = around.view.brokers.get(&node).is_some_and(|broker| broker.endpoint != target.endpoint);
        if !moved {
            self.may_have_moved = false;
            return;
        }
        if self.closed || self.request_under_way || !self.order.is_empty() {
            return;
        }
        if self.logged_in {
            self.close(CloseReason::BrokerMoved);
        } else {
            self.home = Leg::default();
            self.actions.push_back(Action::CloseLeg(LegId::HOME));
        }
    }
}
