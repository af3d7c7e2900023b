//! What becomes of legs, and of a new view.

use std::time::Instant;

use bytes::Bytes;

use super::{Core, Surroundings, Waiting};
use crate::session::leg::{Leg, LegState, Outstanding};
use crate::session::{Action, CloseReason, DepartureSign, LegEvent, LegId, SlotId};
use crate::wire::Head;

impl Core {
    pub(super) fn leg(&self, id: LegId) -> Option<&Leg> {
        if self.home.id == id { Some(&self.home) } else { self.legs.iter().find(|leg| leg.id == id) }
    }

    pub(super) fn leg_mut(&mut self, id: LegId) -> Option<&mut Leg> {
        if self.home.id == id { Some(&mut self.home) } else { self.legs.iter_mut().find(|leg| leg.id == id) }
    }

    /// A leg that is down, with an id and a place that none had before.
    pub(super) fn new_leg(&mut self, now: Instant) -> Leg {
        let id = LegId(self.next_leg);
        self.next_leg = self.next_leg.wrapping_add(1);
        Leg::down(id, self.gate.place(), now)
    }

    /// A request, or some of its parts, goes to the leg; its bytes follow, or are on their way.
    pub(super) fn put_on_leg(
        &mut self,
        now: Instant,
        leg: LegId,
        (number, slot, head): (u64, SlotId, &Head),
        frame_bytes: usize,
        parts: Option<Vec<usize>>,
    ) {
        let Some(leg) = self.leg_mut(leg) else { return };
        leg.given_bytes += frame_bytes as u64;
        let (correlation_id, api, version) = (head.correlation_id, head.api, head.version);
        let end = leg.given_bytes;
        leg.outstanding.push_back(Outstanding { number, slot, correlation_id, api, version, sent_at: now, end, parts, also: Vec::new() });
    }

    pub(super) fn send(&mut self, leg: LegId, frame: Bytes) {
        self.actions.push_back(Action::Send { leg, frame });
    }

    pub fn on_leg(&mut self, now: Instant, leg: LegId, event: LegEvent, around: &Surroundings<'_>) {
        if self.closed {
            return;
        }
        let is_home = self.home.id == leg;
        match event {
            LegEvent::Connecting => {
                if let Some(leg) = self.leg_mut(leg) {
                    leg.is_connecting = true;
                    leg.since = now;
                }
                return;
            }
            LegEvent::Opened(index) => {
                let Some(leg) = self.leg_mut(leg) else { return };
                let LegState::Opening(targets) = std::mem::take(&mut leg.state) else { return };
                let Some(target) = targets.into_iter().nth(index) else {
                    return self.close(CloseReason::UpstreamConnectFailed);
                };
                let node = target.node;
                leg.state = LegState::Up(target);
                leg.since = now;
                if let Some(node) = node {
                    self.unreachable.remove(&node);
                }
                if is_home {
                    self.home_failures = 0;
                    // It may have moved while the connection was made.
                    self.may_have_moved = true;
                }
            }
            LegEvent::Failed => self.lose_leg(now, leg, 0, DepartureSign::Refused, around),
            LegEvent::Closed { written_bytes } => self.lose_leg(now, leg, written_bytes, DepartureSign::Closed, around),
        }
        self.go_on(now, around);
        self.settle();
    }

    /// There is a newer view.
    pub fn on_view(&mut self, now: Instant, around: &Surroundings<'_>) {
        if self.closed {
            return;
        }
        if matches!(self.waiting, Some(Waiting::View { .. })) && around.view.generation > 0 {
            self.resume();
        }
        self.look_at_home(around);
        self.may_have_moved = true;
        self.follow_broker(now, around);
        self.leave_silent_legs(now, around);
        self.release_metadata(now, around, false);
        self.look_again(now, None, around);
        self.go_on(now, around);
        self.settle();
    }

    /// The answer to `Action::Refresh` with this number is there, or will not come for now.
    pub fn on_fresh(&mut self, now: Instant, token: u64, around: &Surroundings<'_>) {
        if self.closed {
            return;
        }
        self.doubted.retain(|_, asked| *asked != Some(token));
        self.leave_silent_legs(now, around);
        self.look_again(now, Some(token), around);
        self.go_on(now, around);
        self.settle();
    }

    /// A batch that one of ours waited for has been settled by another session.
    pub fn on_gate(&mut self, now: Instant, around: &Surroundings<'_>) {
        if self.closed {
            return;
        }
        self.go_on(now, around);
        self.settle();
    }
}
