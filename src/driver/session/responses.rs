//! From the legs to their client.

use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;

use super::Session;
use crate::driver::inbound::Moving;
use crate::driver::leg::{Leg, Socket};
use crate::session::{LegEvent, LegId, ResponseVerdict};
use crate::wire::{self, EndpointSkimmer};

impl Session {
    pub(super) fn poll_opening(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        // Carrying out changes the list: the ids of those that were opening are taken first, and there are hardly ever any.
        let opening = |leg: &&Leg| matches!(leg.socket, Socket::Opening(..));
        let ids: Vec<LegId> = self.legs.iter().filter(opening).map(|leg| leg.id).collect();
        for id in ids {
            let Some(Leg { socket: Socket::Opening(opening, connecting), .. }) = self.leg_mut(id) else { continue };
            let opened = opening.as_mut().poll(cx);
            let has_begun = connecting.take_if(|begun| begun.load(Ordering::Relaxed)).is_some();
            let Poll::Ready(opened) = opened else {
                if has_begun {
                    self.now = Instant::now();
                    self.on_leg(id, LegEvent::Connecting);
                    progress = true;
                }
                continue;
            };
            self.now = Instant::now();
            let event = match opened {
                Some((index, socket)) => {
                    self.environment.counting.metrics.upstream_connections_open.inc();
                    if let Some(leg) = self.leg_mut(id) {
                        leg.socket = Socket::Up(socket);
                    }
                    LegEvent::Opened(index)
                }
                None => {
                    self.take_leg(id);
                    LegEvent::Failed
                }
            };
            self.on_leg(id, event);
            self.keep_off_rehearsed();
            progress = true;
        }
        progress
    }

    pub(super) fn on_leg(&mut self, id: LegId, event: LegEvent) {
        self.view = self.environment.cluster.view();
        self.core.on_leg(self.now, id, event, &Self::surroundings(&self.environment, &self.view));
        self.carry_out();
    }

    pub(super) fn poll_legs_read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.closing.is_some() {
            return false;
        }
        let client_is_full = self.to_client.queued_bytes() >= self.environment.settings.max_queued_bytes;
        if client_is_full && !self.client_was_full {
            self.environment.counting.metrics.limit_hits.with_label_values(&["queued_bytes"]).inc();
        }
        self.client_was_full = client_is_full;
        if client_is_full {
            return false;
        }
        let mut progress = false;
        let mut at = 0;
        // A leg that goes makes the next one take its place: that one is looked at in the next pass, which progress makes sure of.
        while let Some(id) = self.legs.get(at).map(|leg| leg.id) {
            progress |= self.poll_leg_read(cx, id);
            at += 1;
        }
        progress
    }

    fn poll_leg_read(&mut self, cx: &mut Context<'_>, id: LegId) -> bool {
        if self.closing.is_some() {
            return false;
        }
        let Some(Leg { socket: Socket::Up(socket), inbound, held: false, .. }) = self.legs.iter_mut().find(|leg| leg.id == id) else {
            return false;
        };
        let filled = match socket.poll_read_ready(cx) {
            Poll::Ready(_) => inbound.poll_fill(cx, socket),
            Poll::Pending => Poll::Pending,
        };
        match filled {
            Poll::Pending => {
                if inbound.moving == Moving::Head {
                    inbound.release();
                }
                false
            }
            Poll::Ready(Ok(1..)) => {
                self.now = Instant::now();
                self.pump_responses(id);
                true
            }
            Poll::Ready(Ok(0) | Err(_)) => {
                self.now = Instant::now();
                // What was decided on belongs to it as long as it is there.
                self.move_decided_requests();
                self.move_decided_responses();
                if let Some(leg) = self.take_leg(id) {
                    self.environment.counting.metrics.upstream_connections_open.dec();
                    let written_bytes = leg.outbound.written_bytes();
                    self.on_leg(id, LegEvent::Closed { written_bytes });
                }
                true
            }
        }
    }

    pub(super) fn pump_responses(&mut self, id: LegId) {
        while self.closing.is_none() && self.pump_response(id) {}
        self.move_decided_responses();
    }

    fn pump_response(&mut self, id: LegId) -> bool {
        let Some(leg) = self.legs.iter_mut().find(|leg| leg.id == id) else { return false };
        match leg.inbound.moving {
            Moving::Head => !leg.held && self.pump_response_head(id),
            Moving::Relay { left } => {
                if let Some((_, skimmer)) = &mut leg.skimmer
                    && let Err(error) = skimmer.advance(leg.inbound.undecided_mut(left))
                {
                    self.environment.diagnosis.bad_broker(self.now, &self.broker_name(id), &error.to_string());
                    self.core.on_bad_response(None);
                    self.carry_out();
                    return false;
                }
                let left = left - leg.inbound.decide(left);
                leg.inbound.moving = if left == 0 { Moving::Head } else { Moving::Relay { left } };
                if left == 0 {
                    if let Some((api, _)) = leg.skimmer.take().filter(|(_, skimmer)| skimmer.struck()) {
                        self.environment.counting.metrics.rewrites.with_label_values(&[api.name()]).inc();
                    }
                    self.core.on_response_end(self.now, &Self::surroundings(&self.environment, &self.view));
                    self.carry_out();
                }
                left == 0
            }
            Moving::Read { total } => {
                let Some(frame) = leg.inbound.take(total) else { return false };
                leg.inbound.moving = Moving::Head;
                self.view = self.environment.cluster.view();
                let around = Self::surroundings(&self.environment, &self.view);
                if let Err(error) = self.core.on_response_frame(self.now, id, frame, &around) {
                    self.environment.diagnosis.bad_broker(self.now, &self.broker_name(id), &error.to_string());
                }
                self.carry_out();
                true
            }
            Moving::Discard { .. } | Moving::RelayKeep { .. } => false,
        }
    }

    fn pump_response_head(&mut self, id: LegId) -> bool {
        let Some(leg) = self.legs.iter_mut().find(|leg| leg.id == id) else { return false };
        let head = match wire::parse_response_head(leg.inbound.undecided(), self.environment.limits.max_response_bytes) {
            Ok(Some(head)) => head,
            Ok(None) => return false,
            Err(error) => {
                self.environment.diagnosis.bad_broker(self.now, &self.broker_name(id), &error.to_string());
                self.core.on_bad_response(Some(error));
                self.carry_out();
                return false;
            }
        };
        let verdict = self.core.on_response_head(id, &head);
        if let ResponseVerdict::Relay(answer) | ResponseVerdict::Skim(answer) | ResponseVerdict::Read(answer) = verdict {
            let latency = self.now.saturating_duration_since(answer.sent_at);
            self.environment.counting.api(answer.api).upstream_latency.observe(latency.as_secs_f64());
        }
        let Some(leg) = self.legs.iter_mut().find(|leg| leg.id == id) else { return false };
        let whole = head.frame_bytes as usize;
        match verdict {
            ResponseVerdict::Relay(_) => leg.inbound.moving = Moving::Relay { left: whole },
            ResponseVerdict::Skim(answer) => {
                let skimmer = EndpointSkimmer::new(answer.api, answer.version, head.frame_bytes);
                leg.skimmer = skimmer.map(|skimmer| (answer.api, skimmer));
                leg.inbound.moving = Moving::Relay { left: whole };
            }
            ResponseVerdict::Read(_) => leg.inbound.moving = Moving::Read { total: whole },
            ResponseVerdict::HoldLeg => leg.held = true,
            ResponseVerdict::Violation => {
                let what =
                    format!("a response of {whole} bytes with correlation id {} is too large or was not expected", head.correlation_id);
                self.environment.diagnosis.bad_broker(self.now, &self.broker_name(id), &what);
            }
        }
        if matches!(verdict, ResponseVerdict::Read(_)) {
            self.move_decided_responses();
        }
        self.carry_out();
        !matches!(verdict, ResponseVerdict::HoldLeg | ResponseVerdict::Violation)
    }

    /// Only one leg streams at a time (the core holds the others), so that at most one has anything here.
    pub(super) fn move_decided_responses(&mut self) {
        for at in 0..self.legs.len() {
            if let Some(bytes) = self.legs.get_mut(at).and_then(|leg| leg.inbound.take_decided()) {
                self.respond(bytes);
            }
        }
    }

    pub(super) fn respond(&mut self, bytes: Bytes) {
        self.environment.counting.response_bytes.inc_by(bytes.len() as u64);
        self.to_client.push(bytes, self.now);
    }

    fn broker_name(&self, leg: LegId) -> String {
        self.core.target_of(leg).map_or_else(|| "unknown".to_owned(), |target| target.endpoint.to_string())
    }
}
