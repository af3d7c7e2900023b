//! Carrying out what the core wants besides its verdicts.

use super::{Session, close_leg};
use crate::driver::leg::Leg;
use crate::driver::outbound::Outbound;
use crate::session::{Action, CloseReason, Target};
use crate::transport::{ConnectError, staggered};

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
                Action::Open { targets, .. } => self.open(targets),
                Action::CloseLeg(_) => {
                    if let Some(leg) = self.home.take() {
                        tokio::spawn(close_leg(self.environment.clone(), leg));
                    }
                }
                Action::Send { frame, .. } => self.send(frame),
                Action::Respond(frame) => self.respond(frame),
                Action::Resume => {
                    self.waiting = false;
                    self.pump_requests();
                }
                Action::ResumeLeg(_) => {
                    if let Some(leg) = &mut self.home {
                        leg.held = false;
                    }
                    self.pump_responses();
                }
                Action::Learn(observation) => self.environment.cluster.observe(observation),
                Action::Refresh => self.environment.cluster.suspect(),
                Action::Rewrote(api) => self.environment.counting.metrics.rewrites.with_label_values(&[api.name()]).inc(),
                Action::Close(reason) => {
                    if let Some(limit) = reason.limit() {
                        self.environment.counting.metrics.limit_hits.with_label_values(&[limit]).inc();
                    }
                    if let CloseReason::Refused(refusal) = reason {
                        self.environment.counting.metrics.bad_clients.with_label_values(&[refusal.kind()]).inc();
                        self.environment.diagnosis.bad_client(self.now, self.peer, self.local_port, &self.client_id, refusal);
                    }
                    self.closing = Some(reason);
                }
            }
        }
    }

    fn open(&mut self, targets: Vec<Target>) {
        let environment = self.environment.clone();
        let opening = async move {
            let metrics = &environment.counting.metrics;
            let attempts = targets.into_iter().enumerate().map(|(index, target)| {
                let connector = environment.connector.clone();
                async move { connector.connect(&target.endpoint).await.map(|socket| (index, socket)) }
            });
            let opened = staggered(attempts, |error: ConnectError| {
                tracing::debug!(%error, "broker not reached");
                metrics.upstream_connect_failures.with_label_values(&[error.reason()]).inc();
            })
            .await;
            if opened.is_some() {
                metrics.upstream_connects.inc();
            }
            opened
        };
        let outbound = Outbound::new(self.environment.counting.request_added_latency.clone());
        self.home = Some(Leg::new(Box::pin(opening), outbound));
    }
}
