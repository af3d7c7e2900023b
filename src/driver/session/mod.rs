//! One session: the loop that moves bytes between a client and its leg by the core's verdicts.

mod actions;
mod rehearsal;
mod requests;
mod responses;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::closing::close_gracefully;
use super::inbound::Inbound;
use super::leg::{Leg, Socket};
use super::outbound::Outbound;
use super::signals::{Changes, Signal, Signals};
use super::{Environment, Settings};
use crate::cluster::{NodeId, View};
use crate::session::{ClientEvent, CloseReason, Core, Kept, LegId, Port, Surroundings, Timeouts};

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
    session.follow_rehearsal();
    let reason = std::future::poll_fn(|cx| session.poll(cx)).await;
    session.count_in_flight(0);
    tracing::debug!(reason = reason.as_str(), client_id = session.client_id, software = session.software_name(), "session ends");
    // On the heap: within this future it would make every idle session larger, by a copy of the session and of what closing takes.
    Box::pin(session.close(reason)).await;
    metrics.sessions_open.dec();
    metrics.sessions_closed.with_label_values(&[reason.as_str()]).inc();
    reason
}

/// Ends when a refresh was answered, or when none will be for now.
type Fresh = Pin<Box<dyn Future<Output = bool> + Send>>;

struct Session {
    environment: Arc<Environment>,
    core: Core,
    /// Loaded anew with each signal and before each rewrite.
    view: Arc<View>,
    client: TcpStream,
    from_client: Inbound,
    to_client: Outbound,
    /// The home leg first, where there is one; on the slow path, others.
    legs: Vec<Leg>,
    /// Where the bytes decided on go.
    relaying_to: LegId,
    /// The request that is being relayed and kept.
    kept: Kept,
    /// Of the bytes decided on, so many at their end belong to it and are not kept yet.
    keep_decided: usize,
    /// Answers to refreshes that the core waits for.
    fresh: Vec<(u64, Fresh)>,
    /// Every change of the view, while the core is on the slow path.
    changes: Option<Changes>,
    signals: Signals,
    timer: Pin<Box<Sleep>>,
    /// When the session's poll began, or last read something.
    now: Instant,
    peer: SocketAddr,
    local_port: u16,
    /// As the first request said, for the operator's eyes; empty until then.
    client_id: String,
    fin: bool,
    /// The core said `Wait`.
    waiting: bool,
    /// The leg was not read from because the client does not take what is queued for it.
    client_was_full: bool,
    paused_since: Option<Instant>,
    leaving: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Since when the first bytes of a head have been there without the rest.
    partial_head_since: Option<Instant>,
    counted_in_flight: i64,
    /// The broker that a rehearsal has treated as departed, as far as this session has heard.
    rehearsed: Option<NodeId>,
    closing: Option<CloseReason>,
}

impl Session {
    fn new(environment: Arc<Environment>, accepted: Accepted) -> Session {
        let now = Instant::now();
        let Settings { handshake_timeout, idle_timeout, half_close_timeout, .. } = environment.settings;
        let timeouts = Timeouts { handshake: handshake_timeout, idle: idle_timeout, half_close: half_close_timeout };
        // Before the view is loaded, so that no change falls between.
        let signals = Signals::new(environment.cluster.generations(), environment.draining.clone());
        let (limits, detours, gate) = (environment.limits.clone(), environment.detours.clone(), environment.gate.clone());
        let core = Core::new(now, accepted.port, limits, timeouts, detours, gate, fastrand::u64(..));
        Session {
            core,
            view: environment.cluster.view(),
            client: accepted.socket,
            from_client: Inbound::new(),
            to_client: Outbound::new(environment.counting.response_added_latency.clone()),
            legs: Vec::new(),
            relaying_to: LegId::HOME,
            kept: Kept::default(),
            keep_decided: 0,
            fresh: Vec::new(),
            changes: None,
            signals,
            timer: Box::pin(tokio::time::sleep(handshake_timeout)),
            now,
            peer: accepted.peer,
            local_port: accepted.local_port,
            client_id: String::new(),
            fin: false,
            waiting: false,
            client_was_full: false,
            paused_since: None,
            leaving: None,
            partial_head_since: None,
            counted_in_flight: 0,
            rehearsed: None,
            closing: None,
            environment,
        }
    }

    fn software_name(&self) -> &str {
        self.core.software().map_or("", |software| &software.name)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.now = Instant::now();
        // Once per wake-up, not per pass: each look takes locks that all sessions share.
        while self.poll_signals(cx) {}
        loop {
            let mut progress = self.poll_detours(cx);
            progress |= self.poll_opening(cx);
            progress |= self.poll_client_read(cx);
            progress |= self.poll_legs_read(cx);
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
            masks: environment.masks,
        }
    }

    fn poll_writes(&mut self, cx: &mut Context<'_>) -> bool {
        let had_room = self.leg_has_room();
        let client_was_full = self.to_client.queued_bytes() >= self.environment.settings.max_queued_bytes;
        let mut client_gone = false;
        for leg in &mut self.legs {
            if let Leg { socket: Socket::Up(socket), outbound, .. } = leg
                && let Poll::Ready(Err(_)) = outbound.poll_flush(cx, socket)
            {
                // What the broker said before it closed is still to be read, and its end with it.
                outbound.abandon();
            }
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
                self.core.on_view(self.now, &Self::surroundings(&self.environment, &self.view));
                self.follow_rehearsal();
            }
            Signal::Drain => self.core.on_drain(),
        }
        self.carry_out();
        true
    }

    /// What only sessions on the slow path listen to.
    fn poll_detours(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.core.is_detouring() && self.fresh.is_empty() {
            if self.changes.take().is_some() {
                self.environment.nudges.leave(self.core.member());
            }
            return false;
        }
        let environment = self.environment.clone();
        let changes = self.changes.get_or_insert_with(|| Changes::new(environment.cluster.changes()));
        let has_changed = changes.poll(cx);
        let is_nudged = environment.nudges.take(self.core.member(), cx.waker());
        let mut answered = Vec::new();
        self.fresh.retain_mut(|(token, answer)| {
            let is_there = answer.as_mut().poll(cx).is_ready();
            if is_there {
                answered.push(*token);
            }
            !is_there
        });
        if !has_changed && !is_nudged && answered.is_empty() {
            return false;
        }
        self.now = Instant::now();
        self.view = environment.cluster.view();
        let around = Self::surroundings(&self.environment, &self.view);
        if has_changed {
            self.core.on_view(self.now, &around);
        }
        for token in answered {
            self.core.on_fresh(self.now, token, &around);
        }
        if is_nudged {
            self.core.on_gate(self.now, &around);
        }
        self.carry_out();
        true
    }

    pub(super) fn leg_mut(&mut self, id: LegId) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|leg| leg.id == id)
    }

    fn take_leg(&mut self, id: LegId) -> Option<Leg> {
        let at = self.legs.iter().position(|leg| leg.id == id)?;
        Some(self.legs.remove(at))
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
        self.core.on_timeout(self.now, &Self::surroundings(&self.environment, &self.view));
        if partial.is_some_and(|partial| partial <= self.now) {
            self.core.on_stuck_request();
        }
        self.carry_out();
        // The next pass sets it to what is due then.
        self.timer.as_mut().reset((self.now + IDLE_TICK).into());
        true
    }

    /// What is queued on either side still goes out.
    async fn close(mut self, reason: CloseReason) {
        self.move_decided_requests();
        self.move_decided_responses();
        self.environment.nudges.leave(self.core.member());
        // Others may wait for what this session has in line.
        drop(self.core);
        let legs = self.legs.into_iter().map(|leg| tokio::spawn(close_leg(self.environment.clone(), leg)));
        let legs: Vec<_> = legs.collect();
        let client = async {
            if reason != CloseReason::ClientGone {
                close_gracefully(self.client, self.to_client).await;
            }
        };
        client.await;
        for leg in legs {
            let _ = leg.await;
        }
    }
}

async fn close_leg(environment: Arc<Environment>, leg: Leg) {
    if let Socket::Up(socket) = leg.socket {
        close_gracefully(socket, leg.outbound).await;
        environment.counting.metrics.upstream_connections_open.dec();
    }
}
