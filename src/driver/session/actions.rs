//! Carrying out what the core wants besides its verdicts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Session, close_leg};
use crate::driver::Met;
use crate::driver::leg::{Leg, Socket};
use crate::driver::outbound::Outbound;
use crate::session::{Action, CloseReason, LegId, Target};
use crate::transport::{ConnectError, drop_unsent, staggered};

impl Session {
    /// Carries out the core's actions, behind everything that has been decided on before.
    pub(super) fn carry_out(&mut self) {
        if !self.core.has_actions() {
            return;
        }
        self.move_decided_requests();
        self.move_decided_responses();
        while let Some(action) = self.core.poll() {
            match action {
                Action::Open { leg, targets } => self.open(leg, targets),
                Action::CloseLeg(leg) => {
                    if let Some(leg) = self.take_leg(leg) {
                        tokio::spawn(close_leg(self.environment.clone(), leg));
                    }
                }
                Action::DropLeg(leg) => {
                    if let Some(Leg { socket: Socket::Up(socket), .. }) = self.take_leg(leg) {
                        drop_unsent(socket);
                        self.environment.counting.metrics.upstream_connections_open.dec();
                    }
                }
                Action::Send { leg, frame } => self.send(leg, frame),
                Action::Respond(frame) => self.respond(frame),
                Action::Resume => {
                    self.waiting = false;
                    self.pump_requests();
                }
                Action::ResumeLeg(id) => {
                    if let Some(leg) = self.leg_mut(id) {
                        leg.held = false;
                    }
                    self.pump_responses(id);
                }
                Action::Learn(observation) => self.environment.cluster.observe(observation),
                Action::Refresh { wants, .. } if wants.is_empty() => self.environment.cluster.suspect(),
                Action::Refresh { token, wants } => self.fresh.push((token, self.environment.cluster.refresh(wants))),
                Action::Wake(members) => self.environment.nudges.nudge(&members),
                Action::DepartedUsed(node) => self.environment.cluster.departed_used(node),
                Action::Note(note) => self.environment.note(&note),
                Action::Rewrote(api) => self.environment.counting.metrics.rewrites.with_label_values(&[api.name()]).inc(),
                Action::Close(reason) => {
                    if let Some(limit) = reason.limit() {
                        self.environment.counting.metrics.limit_hits.with_label_values(&[limit]).inc();
                    }
                    if let CloseReason::Refused(refusal) = reason {
                        self.environment.counting.metrics.bad_clients.with_label_values(&[refusal.kind()]).inc();
                        self.environment.diagnosis.bad_client(self.now, self.peer, self.local_port, &self.client_id, refusal);
                    }
                    if self.rehearsed.is_some() && reason.is_for_want_of_a_broker() {
                        self.environment.cluster.met(Met::ClientClosed);
                    }
                    self.closing = Some(reason);
                }
            }
        }
    }

    fn open(&mut self, id: LegId, targets: Vec<Target>) {
        let environment = self.environment.clone();
        let connecting = Arc::new(AtomicBool::new(false));
        let is_connecting = connecting.clone();
        let (targets, nodes) = self.without_rehearsed(id, targets);
        let opening = async move {
            let metrics = &environment.counting.metrics;
            let attempts = targets.into_iter().map(|(index, target)| {
                let connector = environment.connector.clone();
                let begun = is_connecting.clone();
                async move {
                    let begin = || begun.store(true, Ordering::Relaxed);
                    connector.connect_in_turn(&target.endpoint, begin).await.map(|socket| (index, socket))
                }
            });
            let opened = staggered(attempts, |error: ConnectError| {
                tracing::debug!(%error, "broker not reached");
                metrics.upstream_connect_failures.with_label_values(&[error.reason()]).inc();
            })
            .await;
            if let Some((index, _)) = &opened {
                metrics.upstream_connects.inc();
                if let Some(node) = nodes.get(*index).copied().flatten() {
                    environment.cluster.reached(node);
                }
            }
            opened
        };
        let outbound = Outbound::new(self.environment.counting.request_added_latency.clone());
        self.legs.push(Leg::new(id, Box::pin(opening), connecting, outbound));
    }
}
