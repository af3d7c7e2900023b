//! One session: the loop that moves bytes between a client and its leg by the core's verdicts.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::closing::close_gracefully;
use super::inbound::{Inbound, Moving};
use super::leg::{Leg, Socket};
use super::opening::connect_first;
use super::outbound::Outbound;
use super::signals::{Signal, Signals};
use super::{Environment, Settings};
use crate::cluster::View;
use crate::session::{
    Action, ClientEvent, CloseReason, Core, LegEvent, LegId, Port, RequestVerdict, ResponseVerdict, Surroundings, Timeouts,
};
use crate::transport;
use crate::wire::{self, HeadLimits};

/// Reading that has been paused for so long is worth watching the client's FIN by other means.
const WATCH_AFTER: Duration = Duration::from_secs(1);
/// Without anything due, look again after this time.
const IDLE_TICK: Duration = Duration::from_secs(3600);

/// A client's connection, as a listener hands it over.
pub struct Accepted {
    pub socket: TcpStream,
    pub peer: SocketAddr,
    pub port: Port,
    /// The local port, for the operator's eyes.
    pub local_port: u16,
}

/// Serves one client until either side ends it. Returns why it ended, when everything is closed.
pub async fn run(environment: Arc<Environment>, accepted: Accepted) -> CloseReason {
    let metrics = &environment.counting.metrics;
    metrics.sessions_total.inc();
    metrics.sessions_open.inc();
    let mut session = Session::new(environment.clone(), accepted);
    let reason = std::future::poll_fn(|cx| session.poll(cx)).await;
    session.count_in_flight(0);
    tracing::debug!(reason = reason.as_str(), client = session.software_name(), "session ends");
    session.close(reason).await;
    metrics.sessions_open.dec();
    metrics.sessions_closed.with_label_values(&[reason.as_str()]).inc();
    reason
}

struct Session {
    environment: Arc<Environment>,
    core: Core,
    /// Loaded anew with each signal and before each rewrite.
    view: Arc<View>,
    client: TcpStream,
    from_client: Inbound,
    to_client: Outbound,
    home: Option<Leg>,
    signals: Signals,
    timer: Pin<Box<Sleep>>,
    /// When the session's poll began, or last read something.
    now: Instant,
    peer: SocketAddr,
    local_port: u16,
    fin: bool,
    /// The core said `Wait`.
    waiting: bool,
    paused_since: Option<Instant>,
    leaving: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Since when the first bytes of a head have been there without the rest.
    partial_head_since: Option<Instant>,
    counted_in_flight: i64,
    closing: Option<CloseReason>,
}

impl Session {
    fn new(environment: Arc<Environment>, accepted: Accepted) -> Session {
        let now = Instant::now();
        let Settings { handshake_timeout, idle_timeout, half_close_timeout, .. } = environment.settings;
        let timeouts = Timeouts { handshake: handshake_timeout, idle: idle_timeout, half_close: half_close_timeout };
        // Before the view is loaded, so that no change falls between.
        let signals = Signals::new(environment.cluster.generations(), environment.draining.clone());
        let core = Core::new(now, accepted.port, environment.limits.clone(), timeouts, fastrand::u64(..));
        Session {
            core,
            view: environment.cluster.view(),
            client: accepted.socket,
            from_client: Inbound::new(),
            to_client: Outbound::new(environment.counting.response_added_latency.clone()),
            home: None,
            signals,
            timer: Box::pin(tokio::time::sleep(handshake_timeout)),
            now,
            peer: accepted.peer,
            local_port: accepted.local_port,
            fin: false,
            waiting: false,
            paused_since: None,
            leaving: None,
            partial_head_since: None,
            counted_in_flight: 0,
            closing: None,
            environment,
        }
    }

    fn software_name(&self) -> &str {
        self.core.software().map_or("", |software| &software.name)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.now = Instant::now();
        loop {
            let mut progress = self.poll_signals(cx);
            progress |= self.poll_opening(cx);
            progress |= self.poll_client_read(cx);
            progress |= self.poll_leg_read(cx);
            progress |= self.poll_writes(cx);
            if !progress {
                progress = self.poll_timer(cx);
            }
            if let Some(reason) = self.closing {
                return Poll::Ready(reason);
            }
            if !progress {
                self.count_in_flight(self.core.in_flight() as i64);
                return Poll::Pending;
            }
        }
    }

    fn count_in_flight(&mut self, in_flight: i64) {
        if in_flight != self.counted_in_flight {
            self.environment.counting.metrics.requests_in_flight.add(in_flight - self.counted_in_flight);
            self.counted_in_flight = in_flight;
        }
    }

    fn surroundings<'a>(environment: &'a Environment, view: &'a View) -> Surroundings<'a> {
        Surroundings {
            view,
            addresses: &*environment.addresses,
            bootstrap: environment.cluster.bootstrap(),
            unknown_apis: environment.unknown_apis,
        }
    }

    // ── From the client ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    fn may_read_client(&self) -> bool {
        !self.fin && !self.waiting && self.leg_has_room()
    }

    fn leg_has_room(&self) -> bool {
        self.home.as_ref().is_none_or(|leg| leg.outbound.queued_bytes() < self.environment.settings.max_queued_bytes)
    }

    fn poll_client_read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.closing.is_some() {
            return false;
        }
        if !self.may_read_client() {
            return self.poll_leaving(cx);
        }
        self.paused_since = None;
        self.leaving = None;
        match self.from_client.poll_fill(cx, &mut self.client) {
            Poll::Pending => {
                if self.from_client.moving == Moving::Head {
                    self.from_client.release();
                }
                false
            }
            Poll::Ready(Ok(0)) => {
                self.fin = true;
                if self.from_client.moving == Moving::Head {
                    self.pump_requests();
                } else {
                    self.core.on_client(self.now, ClientEvent::Gone);
                    self.carry_out();
                }
                true
            }
            Poll::Ready(Ok(_)) => {
                self.now = Instant::now();
                self.core.on_client_bytes(self.now);
                self.pump_requests();
                true
            }
            Poll::Ready(Err(_)) => {
                self.core.on_client(self.now, ClientEvent::Gone);
                self.carry_out();
                true
            }
        }
    }

    /// Moves on what has been read from the client, as far as verdicts and room go.
    fn pump_requests(&mut self) {
        while self.closing.is_none() && self.pump_request() {}
        self.move_decided_requests();
        let at_rest = !self.waiting && self.leg_has_room();
        let partial = self.from_client.moving == Moving::Head && !self.from_client.undecided().is_empty();
        if at_rest && self.fin {
            self.core.on_client(self.now, ClientEvent::Fin);
            self.carry_out();
        }
        self.partial_head_since = if at_rest && partial { Some(self.partial_head_since.unwrap_or(self.now)) } else { None };
    }

    /// One step. False: nothing more can be done with what is there.
    fn pump_request(&mut self) -> bool {
        match self.from_client.moving {
            Moving::Head => self.leg_has_room() && self.pump_request_head(),
            Moving::Relay { left } => {
                let left = left - self.from_client.decide(left);
                self.from_client.moving = if left == 0 { Moving::Head } else { Moving::Relay { left } };
                if left == 0 {
                    self.core.on_request_end();
                    self.carry_out();
                }
                left == 0
            }
            Moving::Discard { left } => {
                let left = left - self.from_client.discard(left);
                self.from_client.moving = if left == 0 { Moving::Head } else { Moving::Discard { left } };
                if left == 0 {
                    self.core.on_request_end();
                    self.carry_out();
                }
                left == 0
            }
            Moving::Read { total } => {
                let Some(frame) = self.from_client.take(total) else { return false };
                self.from_client.moving = Moving::Head;
                self.core.on_request_frame(frame);
                self.carry_out();
                true
            }
        }
    }

    fn pump_request_head(&mut self) -> bool {
        let limits = HeadLimits {
            max_frame_bytes: self.environment.limits.max_request_bytes,
            max_head_bytes: self.environment.limits.max_head_bytes,
        };
        let head = match wire::parse_head(self.from_client.undecided(), &limits) {
            Ok(Some(head)) => head,
            Ok(None) => return false,
            Err(error) => {
                self.core.on_bad_request(error);
                self.carry_out();
                return false;
            }
        };
        let verdict = self.core.on_request_head(self.now, &head, &Self::surroundings(&self.environment, &self.view));
        if matches!(verdict, RequestVerdict::Relay(_) | RequestVerdict::Read | RequestVerdict::Discard) {
            self.environment.counting.api(head.api).requests.inc();
        }
        let whole = head.frame_bytes as usize;
        match verdict {
            RequestVerdict::Relay(_) => self.from_client.moving = Moving::Relay { left: whole },
            RequestVerdict::Read => {
                self.move_decided_requests();
                self.from_client.moving = Moving::Read { total: whole };
            }
            RequestVerdict::Discard => {
                self.move_decided_requests();
                self.from_client.moving = Moving::Discard { left: whole };
            }
            RequestVerdict::Wait => {
                self.waiting = true;
                if self.core.is_full() {
                    self.environment.counting.metrics.limit_hits.with_label_values(&["slots_per_session"]).inc();
                }
            }
            RequestVerdict::Refuse => {}
        }
        self.carry_out();
        !matches!(verdict, RequestVerdict::Wait | RequestVerdict::Refuse)
    }

    fn move_decided_requests(&mut self) {
        if let Some(bytes) = self.from_client.take_decided() {
            self.send(bytes);
        }
    }

    fn send(&mut self, bytes: Bytes) {
        if let Some(leg) = &mut self.home {
            self.environment.counting.request_bytes.inc_by(bytes.len() as u64);
            leg.outbound.push(bytes, self.now);
        }
    }

    /// The client is unread; still notice that it leaves.
    fn poll_leaving(&mut self, cx: &mut Context<'_>) -> bool {
        if self.fin {
            return false;
        }
        let paused_since = *self.paused_since.get_or_insert_with(|| {
            if !self.waiting {
                self.environment.counting.metrics.limit_hits.with_label_values(&["queued_bytes"]).inc();
            }
            self.now
        });
        if self.leaving.is_none() && self.now >= paused_since + WATCH_AFTER {
            // Without a file descriptor to spare it goes unnoticed until reading resumes.
            self.leaving = Some(match transport::watch_peer_gone(&self.client) {
                Some(gone) => Box::pin(gone),
                None => Box::pin(std::future::pending()),
            });
        }
        if let Some(leaving) = &mut self.leaving
            && leaving.as_mut().poll(cx).is_ready()
        {
            self.leaving = Some(Box::pin(std::future::pending()));
            self.core.on_client(self.now, ClientEvent::Leaving);
            return true;
        }
        false
    }

    // ── From the broker ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    fn poll_opening(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(Leg { socket: Socket::Opening(opening), .. }) = &mut self.home else { return false };
        let Poll::Ready(opened) = opening.as_mut().poll(cx) else { return false };
        self.now = Instant::now();
        let event = match opened {
            Ok((index, socket)) => {
                self.environment.counting.metrics.upstream_connections_open.inc();
                if let Some(leg) = &mut self.home {
                    leg.socket = Socket::Up(socket);
                }
                LegEvent::Opened(index)
            }
            Err(_) => {
                self.home = None;
                LegEvent::Failed
            }
        };
        self.core.on_leg(LegId::HOME, event);
        self.carry_out();
        true
    }

    fn poll_leg_read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.closing.is_some() || self.to_client.queued_bytes() >= self.environment.settings.max_queued_bytes {
            return false;
        }
        let Some(Leg { socket: Socket::Up(socket), inbound, held: false, .. }) = &mut self.home else { return false };
        match inbound.poll_fill(cx, socket) {
            Poll::Pending => {
                if inbound.moving == Moving::Head {
                    inbound.release();
                }
                false
            }
            Poll::Ready(Ok(1..)) => {
                self.now = Instant::now();
                self.pump_responses();
                true
            }
            Poll::Ready(Ok(0) | Err(_)) => {
                self.core.on_leg(LegId::HOME, LegEvent::Closed);
                self.carry_out();
                true
            }
        }
    }

    fn pump_responses(&mut self) {
        while self.closing.is_none() && self.pump_response() {}
        self.move_decided_responses();
    }

    fn pump_response(&mut self) -> bool {
        let Some(leg) = &mut self.home else { return false };
        match leg.inbound.moving {
            Moving::Head => !leg.held && self.pump_response_head(),
            Moving::Relay { left } => {
                let left = left - leg.inbound.decide(left);
                leg.inbound.moving = if left == 0 { Moving::Head } else { Moving::Relay { left } };
                if left == 0 {
                    self.core.on_response_end(self.now);
                    self.carry_out();
                }
                left == 0
            }
            Moving::Read { total } => {
                let Some(frame) = leg.inbound.take(total) else { return false };
                leg.inbound.moving = Moving::Head;
                self.view = self.environment.cluster.view();
                let around = Self::surroundings(&self.environment, &self.view);
                if let Err(error) = self.core.on_response_frame(self.now, frame, &around) {
                    self.environment.diagnosis.bad_broker(self.now, &self.broker_name(), &error.to_string());
                }
                self.carry_out();
                true
            }
            Moving::Discard { .. } => false,
        }
    }

    fn pump_response_head(&mut self) -> bool {
        let Some(leg) = &mut self.home else { return false };
        let head = match wire::parse_response_head(leg.inbound.undecided(), self.environment.limits.max_response_bytes) {
            Ok(Some(head)) => head,
            Ok(None) => return false,
            Err(error) => {
                self.environment.diagnosis.bad_broker(self.now, &self.broker_name(), &error.to_string());
                self.core.on_bad_response();
                self.carry_out();
                return false;
            }
        };
        let verdict = self.core.on_response_head(LegId::HOME, &head);
        if let ResponseVerdict::Relay(answer) | ResponseVerdict::Read(answer) = verdict {
            let latency = self.now.saturating_duration_since(answer.sent_at);
            self.environment.counting.api(answer.api).upstream_latency.observe(latency.as_secs_f64());
        }
        let whole = head.frame_bytes as usize;
        match verdict {
            ResponseVerdict::Relay(_) => leg.inbound.moving = Moving::Relay { left: whole },
            ResponseVerdict::Read(_) => leg.inbound.moving = Moving::Read { total: whole },
            ResponseVerdict::HoldLeg => leg.held = true,
            ResponseVerdict::Violation => {
                let what = format!("a response of {whole} bytes with correlation id {} was not expected", head.correlation_id);
                self.environment.diagnosis.bad_broker(self.now, &self.broker_name(), &what);
            }
        }
        if matches!(verdict, ResponseVerdict::Read(_)) {
            self.move_decided_responses();
        }
        self.carry_out();
        matches!(verdict, ResponseVerdict::Relay(_) | ResponseVerdict::Read(_))
    }

    fn move_decided_responses(&mut self) {
        if let Some(bytes) = self.home.as_mut().and_then(|leg| leg.inbound.take_decided()) {
            self.respond(bytes);
        }
    }

    fn respond(&mut self, bytes: Bytes) {
        self.environment.counting.response_bytes.inc_by(bytes.len() as u64);
        self.to_client.push(bytes, self.now);
    }

    fn broker_name(&self) -> String {
        self.core.home_target().map_or_else(|| "unknown".to_owned(), |target| target.endpoint.to_string())
    }

    // ── Both ────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

    fn poll_writes(&mut self, cx: &mut Context<'_>) -> bool {
        let had_room = self.leg_has_room();
        let client_was_full = self.to_client.queued_bytes() >= self.environment.settings.max_queued_bytes;
        let mut client_gone = false;
        if let Some(Leg { socket: Socket::Up(socket), outbound, .. }) = &mut self.home
            && let Poll::Ready(Err(_)) = outbound.poll_flush(cx, socket)
        {
            // What the broker said before it closed is still to be read, and its end with it.
            outbound.abandon();
        }
        if let Poll::Ready(Err(_)) = self.to_client.poll_flush(cx, &mut self.client) {
            self.core.on_client(self.now, ClientEvent::Gone);
            self.carry_out();
            client_gone = true;
        }
        let leg_has_room_now = !had_room && self.leg_has_room();
        if leg_has_room_now {
            self.pump_requests();
        }
        let client_has_room_now = client_was_full && self.to_client.queued_bytes() < self.environment.settings.max_queued_bytes;
        client_gone || leg_has_room_now || client_has_room_now
    }

    fn poll_signals(&mut self, cx: &mut Context<'_>) -> bool {
        let Poll::Ready(signal) = self.signals.poll(cx) else { return false };
        match signal {
            Signal::View => {
                self.view = self.environment.cluster.view();
                self.core.on_view(&Self::surroundings(&self.environment, &self.view));
            }
            Signal::Drain => self.core.on_drain(),
        }
        self.carry_out();
        true
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let partial = self.partial_head_since.map(|since| since + self.environment.settings.handshake_timeout);
        let watch = self.paused_since.filter(|_| self.leaving.is_none()).map(|since| since + WATCH_AFTER);
        let due = [self.core.next_timeout(), partial, watch].into_iter().flatten().min();
        if let Some(due) = due
            && due < self.timer.deadline().into_std()
        {
            self.timer.as_mut().reset(due.into());
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.now = Instant::now();
        self.core.on_timeout(self.now);
        if partial.is_some_and(|partial| partial <= self.now) {
            self.core.on_stuck_request();
        }
        self.carry_out();
        // The next pass sets it to what is due then.
        self.timer.as_mut().reset((self.now + IDLE_TICK).into());
        true
    }

    /// Carries out the core's actions, behind everything that has been decided on before.
    fn carry_out(&mut self) {
        if !self.core.has_actions() {
            return;
        }
        self.move_decided_requests();
        self.move_decided_responses();
        while let Some(action) = self.core.poll() {
            match action {
                Action::Open { targets, .. } => {
                    let counting = self.environment.clone();
                    let endpoints = targets.into_iter().map(|target| target.endpoint).collect();
                    let opening = async move {
                        let metrics = &counting.counting.metrics;
                        let opened = connect_first(counting.connector.clone(), endpoints, |error| {
                            tracing::debug!(%error, "broker not reached");
                            metrics.upstream_connect_failures.with_label_values(&[error.reason()]).inc();
                        })
                        .await;
                        if opened.is_ok() {
                            metrics.upstream_connects.inc();
                        }
                        opened
                    };
                    let outbound = Outbound::new(self.environment.counting.request_added_latency.clone());
                    self.home = Some(Leg::new(Box::pin(opening), outbound));
                }
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
                Action::Refresh => self.environment.cluster.refresh(),
                Action::Rewrote(api) => self.environment.counting.metrics.rewrites.with_label_values(&[api.name()]).inc(),
                Action::Close(reason) => {
                    if let CloseReason::Refused(refusal) = reason {
                        self.environment.counting.metrics.bad_clients.with_label_values(&[refusal.kind()]).inc();
                        self.environment.diagnosis.bad_client(self.now, self.peer, self.local_port, refusal);
                    }
                    self.closing = Some(reason);
                }
            }
        }
    }

    /// What is queued on either side still goes out.
    async fn close(mut self, reason: CloseReason) {
        self.move_decided_requests();
        self.move_decided_responses();
        let leg = async {
            if let Some(leg) = self.home.take() {
                close_leg(self.environment.clone(), leg).await;
            }
        };
        let client = async {
            if reason != CloseReason::ClientGone {
                close_gracefully(self.client, self.to_client).await;
            }
        };
        tokio::join!(leg, client);
    }
}

async fn close_leg(environment: Arc<Environment>, leg: Leg) {
    if let Socket::Up(socket) = leg.socket {
        close_gracefully(socket, leg.outbound).await;
        environment.counting.metrics.upstream_connections_open.dec();
    }
}
