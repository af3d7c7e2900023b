//! A rehearsal, as a session carries it out: its home leg to the broker is cut, and none is made, as if the broker had gone.
//!
//! Invariant: detour legs are left alone, so that records keep flowing. Deliberately absent: when it begins and ends.

use super::Session;
use crate::cluster::NodeId;
use crate::driver::Met;
use crate::driver::leg::{Leg, Socket};
use crate::session::{LegEvent, LegId, Target};
use crate::transport::drop_unsent;

impl Session {
    /// A rehearsal may have begun or ended.
    pub(super) fn follow_rehearsal(&mut self) {
        let rehearsed = self.environment.cluster.rehearsed();
        if rehearsed == self.rehearsed {
            return;
        }
        self.rehearsed = rehearsed;
        self.core.on_rehearsal(self.now, rehearsed, &Self::surroundings(&self.environment, &self.view));
        self.keep_off_rehearsed();
    }

    /// The home leg may lead to the broker by now.
    pub(super) fn keep_off_rehearsed(&mut self) {
        let (id, leads_to) = self.core.home();
        if self.rehearsed.is_some() && self.rehearsed == leads_to {
            self.cut(id);
        }
    }

    fn cut(&mut self, id: LegId) {
        // What was decided on belongs to the leg as long as it is there.
        self.move_decided_requests();
        self.move_decided_responses();
        let Some(Leg { socket, outbound, .. }) = self.take_leg(id) else { return };
        self.environment.cluster.met(Met::Cut);
        let event = match socket {
            Socket::Opening(..) => LegEvent::Failed,
            Socket::Up(socket) => {
                // A broker that is gone takes nothing more, not even what the kernel still holds.
                drop_unsent(socket);
                self.environment.counting.metrics.upstream_connections_open.dec();
                LegEvent::Closed { written_bytes: outbound.written_bytes() }
            }
        };
        self.on_leg(id, event);
    }

    /// The targets that may be connected to, each with its index, and every target's broker.
    pub(super) fn without_rehearsed(&self, id: LegId, targets: Vec<Target>) -> (Vec<(usize, Target)>, Vec<Option<NodeId>>) {
        let nodes = targets.iter().map(|target| target.node).collect();
        let is_home = self.core.home().0 == id;
        let rehearsed = self.environment.cluster.rehearsed().filter(|_| is_home);
        let mut targets: Vec<(usize, Target)> = targets.into_iter().enumerate().collect();
        if let Some(node) = rehearsed {
            let is_only = targets.len() == 1;
            targets.retain(|(_, target)| target.node != Some(node));
            if is_only && targets.is_empty() {
                self.environment.cluster.met(Met::Refused);
            }
        }
        (targets, nodes)
    }
}
