//! The driver in miniature: does what a core says, as `driver::session` does, on pieces of bytes in virtual time.
//!
//! Invariant: the core hears of each byte once and in order, and sees the view that its session has loaded, which may be stale.
//! Deliberately absent: backpressure by queued bytes, skimming (no client here fetches).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::leg::Leg;
use super::plan::{S, Time};
use super::world::{Event, Input, Ports, World};
use crate::cluster::View;
use crate::rewrite::{Masks, UnknownApis};
use crate::session::{Action, ClientEvent, CloseReason, Core, Kept, LegId, Note, Port, RequestVerdict, Surroundings, Timeouts};
use crate::wire::{self, ApiKey, HeadLimits};

/// Longer than any client's patience: what is asked in a world that has been well for so long is answered in time.
const RECOVERED_AFTER: Time = 7 * S;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moving {
    Head,
    Relay { left: usize, to: LegId },
    RelayKeep { left: usize, to: LegId },
    Read { total: usize },
    Discard { left: usize },
}

pub struct Session {
    /// `None`: it has ended.
    pub core: Option<Core>,
    pub view: Arc<View>,
    /// Which client it serves.
    pub cid: usize,
    unread: VecDeque<Input>,
    buffer: BytesMut,
    moving: Moving,
    kept: Kept,
    waiting: bool,
    fin: bool,
    pub closing: Option<CloseReason>,
    pub legs: Vec<Leg>,
    timer_at: Option<Time>,
    /// Timers at one and the same moment.
    spins: (Time, u32),
    /// The driver listens to nudges and changes of the view for it.
    is_listening: bool,
    to_client_at: Time,
    /// By what the core noted.
    pub resends_of_plain: u32,
    pub budget_refusals: u32,
    pub losses: u32,
    pub had_nobody: bool,
    /// Connects that came to nothing.
    pub failed_opens: u32,
    /// It was unread for a while for the sake of a limit.
    pub was_limited: bool,
}

impl Session {
    pub fn is_over(&self) -> bool {
        self.core.is_none()
    }

    /// Nothing of what its client has sent is before the core.
    pub fn has_taken_all(&self) -> bool {
        self.unread.is_empty() && self.buffer.is_empty() && self.moving == Moving::Head && !self.waiting
    }
}

impl World {
    /// A client connects to one of the proxy's ports.
    pub fn accept(&mut self, cid: usize, port: Port) -> usize {
        let timeouts = Timeouts { handshake: Duration::from_secs(10), idle: Duration::from_secs(600), half_close: Duration::from_secs(5) };
        let (limits, detours) = (Arc::new(self.plan.limits.clone()), Arc::new(self.plan.detours.clone()));
        let core = Core::new(self.instant(), port, limits, timeouts, detours, self.gate.clone(), self.dice.number());
        self.sessions.push(Session {
            core: Some(core),
            view: self.view.clone(),
            cid,
            unread: VecDeque::new(),
            buffer: BytesMut::new(),
            moving: Moving::Head,
            kept: Kept::default(),
            waiting: false,
            fin: false,
            closing: None,
            legs: Vec::new(),
            timer_at: None,
            spins: (0, 0),
            is_listening: false,
            to_client_at: 0,
            resends_of_plain: 0,
            budget_refusals: 0,
            losses: 0,
            had_nobody: false,
            failed_opens: 0,
            was_limited: false,
        });
        let sid = self.sessions.len() - 1;
        self.say(|| format!("s{sid}: client {cid} connects to {port:?}"));
        self.rest(sid);
        sid
    }

    /// Asks the core with the session's view; `None`: the session has ended.
    pub fn core<R>(&mut self, sid: usize, ask: impl FnOnce(&mut Core, Instant, &Surroundings<'_>) -> R) -> Option<R> {
        let now = self.instant();
        let bootstrap = self.bootstrap.clone();
        let session = &mut self.sessions[sid];
        let view = session.view.clone();
        let (unknown_apis, masks) = (UnknownApis::Hide, Masks::default());
        let around = Surroundings { view: &view, addresses: &Ports, bootstrap: &bootstrap, unknown_apis, masks };
        let core = session.core.as_mut()?;
        Some(ask(core, now, &around))
    }

    pub fn load_view(&mut self, sid: usize) {
        self.sessions[sid].view = self.view.clone();
    }

    fn is_detouring(&self, sid: usize) -> bool {
        self.sessions[sid].core.as_ref().is_some_and(Core::is_detouring)
    }

    // From the client.

    pub fn hear_client(&mut self, sid: usize, input: Input) {
        let is_gone = matches!(input, Input::Gone);
        self.sessions[sid].unread.push_back(input);
        if is_gone {
            // A reset is seen even by who does not read.
            self.sessions[sid].unread.clear();
            self.core(sid, |core, now, _| core.on_client(now, ClientEvent::Gone));
            self.carry_out(sid);
        }
        self.read_client(sid);
        self.rest(sid);
    }

    fn read_client(&mut self, sid: usize) {
        loop {
            let session = &mut self.sessions[sid];
            if session.waiting || session.fin || session.closing.is_some() || session.core.is_none() {
                return;
            }
            match session.unread.pop_front() {
                None => return,
                Some(Input::Bytes(bytes)) => {
                    session.buffer.extend_from_slice(&bytes);
                    self.core(sid, |core, now, _| core.on_client_bytes(now));
                    self.pump_requests(sid);
                }
                Some(Input::Fin) => {
                    session.fin = true;
                    if session.moving == Moving::Head {
                        self.pump_requests(sid);
                    } else {
                        self.core(sid, |core, now, _| core.on_client(now, ClientEvent::Gone));
                        self.carry_out(sid);
                    }
                }
                Some(Input::Gone) => return,
            }
        }
    }

    fn pump_requests(&mut self, sid: usize) {
        while self.sessions[sid].closing.is_none() && self.pump_request(sid) {}
        let session = &self.sessions[sid];
        if session.fin && !session.waiting && session.closing.is_none() {
            self.core(sid, |core, now, _| core.on_client(now, ClientEvent::Fin));
            self.carry_out(sid);
        }
    }

    fn pump_request(&mut self, sid: usize) -> bool {
        let session = &mut self.sessions[sid];
        match session.moving {
            Moving::Head => !session.waiting && self.pump_request_head(sid),
            Moving::Relay { left, to } => {
                let piece = session.buffer.split_to(left.min(session.buffer.len())).freeze();
                let left = left - piece.len();
                session.moving = if left == 0 { Moving::Head } else { Moving::Relay { left, to } };
                self.give(sid, to, piece);
                if left == 0 {
                    self.core(sid, |core, _, _| core.on_request_end());
                    self.carry_out(sid);
                }
                left == 0
            }
            Moving::RelayKeep { left, to } => {
                let piece = session.buffer.split_to(left.min(session.buffer.len())).freeze();
                let left = left - piece.len();
                session.moving = if left == 0 { Moving::Head } else { Moving::RelayKeep { left, to } };
                session.kept.push(piece.clone());
                self.give(sid, to, piece);
                if left == 0 {
                    let kept = std::mem::take(&mut self.sessions[sid].kept);
                    self.core(sid, |core, now, around| core.on_request_kept(now, kept, around));
                    self.carry_out(sid);
                }
                left == 0
            }
            Moving::Discard { left } => {
                let gone = left.min(session.buffer.len());
                let _ = session.buffer.split_to(gone);
                let left = left - gone;
                session.moving = if left == 0 { Moving::Head } else { Moving::Discard { left } };
                if left == 0 {
                    self.core(sid, |core, _, _| core.on_request_end());
                    self.carry_out(sid);
                }
                left == 0
            }
            Moving::Read { total } => {
                if session.buffer.len() < total {
                    return false;
                }
                let frame = session.buffer.split_to(total).freeze();
                session.moving = Moving::Head;
                if self.is_detouring(sid) {
                    self.load_view(sid);
                }
                self.core(sid, |core, now, around| core.on_request_frame(now, frame, around));
                self.carry_out(sid);
                true
            }
        }
    }

    fn pump_request_head(&mut self, sid: usize) -> bool {
        let limits = HeadLimits { max_frame_bytes: self.plan.limits.max_request_bytes, max_head_bytes: self.plan.limits.max_head_bytes };
        let head = match wire::parse_head(&self.sessions[sid].buffer, &limits) {
            Ok(Some(head)) => head,
            Ok(None) => return false,
            Err(error) => {
                self.breaks(|| format!("a client's request does not parse: {error}"));
                return false;
            }
        };
        if self.is_detouring(sid) {
            self.load_view(sid);
        }
        let Some(verdict) = self.core(sid, |core, now, around| core.on_request_head(now, &head, around)) else { return false };
        self.say(|| format!("s{sid}: {} v{} #{} -> {verdict:?}", head.api.name(), head.version, head.correlation_id));
        if matches!(head.api, ApiKey::END_TXN | ApiKey::INIT_PRODUCER_ID) && matches!(verdict, RequestVerdict::Relay(_)) {
            self.end_is_unguarded(sid);
        }
        self.note_haste(sid, head.correlation_id, &verdict);
        let whole = head.frame_bytes as usize;
        let session = &mut self.sessions[sid];
        match verdict {
            RequestVerdict::Relay(to) => session.moving = Moving::Relay { left: whole, to },
            RequestVerdict::RelayKeep(to) => session.moving = Moving::RelayKeep { left: whole, to },
            RequestVerdict::Read => session.moving = Moving::Read { total: whole },
            RequestVerdict::Discard => session.moving = Moving::Discard { left: whole },
            RequestVerdict::Wait => {
                session.waiting = true;
                session.was_limited |= session.core.as_ref().is_some_and(|core| core.limit_reached().is_some());
            }
            RequestVerdict::Refuse => {}
        }
        self.carry_out(sid);
        !matches!(verdict, RequestVerdict::Wait | RequestVerdict::Refuse)
    }

    // Signals.

    pub fn on_timer(&mut self, sid: usize) {
        let now = self.now;
        if self.sessions[sid].timer_at != Some(now) {
            return;
        }
        self.sessions[sid].timer_at = None;
        let due = self.sessions[sid].core.as_ref().and_then(Core::next_timeout).map(|due| self.time_of(due));
        if due.is_some_and(|due| due <= now) {
            let spins = &mut self.sessions[sid].spins;
            *spins = if spins.0 == now { (now, spins.1 + 1) } else { (now, 1) };
            if spins.1 > 50 {
                self.breaks(|| format!("s{sid}: its timer is due again and again"));
            }
            self.core(sid, |core, now, around| core.on_timeout(now, around));
            self.carry_out(sid);
        }
        self.rest(sid);
    }

    pub fn on_view(&mut self, sid: usize) {
        self.load_view(sid);
        self.core(sid, |core, now, around| core.on_view(now, around));
        self.carry_out(sid);
        self.rest(sid);
    }

    pub fn on_gate(&mut self, sid: usize) {
        self.load_view(sid);
        self.core(sid, |core, now, around| core.on_gate(now, around));
        self.carry_out(sid);
        self.rest(sid);
    }

    pub fn on_fresh(&mut self, sid: usize, token: u64) {
        self.load_view(sid);
        self.core(sid, |core, now, around| core.on_fresh(now, token, around));
        self.carry_out(sid);
        self.rest(sid);
    }

    /// The end of a session's turn: what it waits for is noted.
    pub fn rest(&mut self, sid: usize) {
        if self.sessions[sid].closing.is_some() {
            return self.end_session(sid);
        }
        let listens = self.is_detouring(sid);
        if listens && !self.sessions[sid].is_listening {
            // What came before it listened is not known.
            self.at(self.now, Event::Gate { sid });
        }
        self.sessions[sid].is_listening = listens;
        let due = self.sessions[sid].core.as_ref().and_then(Core::next_timeout).map(|due| self.time_of(due).max(self.now));
        if let Some(due) = due
            && self.sessions[sid].timer_at.is_none_or(|at| due < at)
        {
            self.sessions[sid].timer_at = Some(due);
            self.at(due, Event::Timer { sid });
        }
    }

    /// There is a new view. Its brokers concern everybody, its leaders only who is on the slow path.
    pub fn tell_view(&mut self, view: View) {
        let has_new_brokers = view.brokers != self.view.brokers || self.view.generation == 0;
        self.say(|| format!("view {}: {}", view.generation, super::check::leaders_of(&view)));
        self.view = Arc::new(view);
        for sid in 0..self.sessions.len() {
            if self.sessions[sid].core.is_some() && (has_new_brokers || self.sessions[sid].is_listening) {
                let wait = self.dice.between(0, 300);
                self.after(wait, Event::View { sid });
            }
        }
    }

    // Actions.

    pub fn carry_out(&mut self, sid: usize) {
        while let Some(action) = self.sessions[sid].core.as_mut().and_then(Core::poll) {
            self.trace.count(self.now, sid as u64);
            match &action {
                Action::Respond(frame) => self.trace.say(self.now, || format!("s{sid}: responds {} bytes", frame.len())),
                Action::Send { leg, frame } => {
                    let (leg, bytes) = (*leg, frame.len());
                    self.trace.say(self.now, || format!("s{sid}: sends {bytes} bytes to {leg:?}"));
                }
                Action::Learn(_) | Action::Rewrote(_) => {}
                other => self.trace.say(self.now, || format!("s{sid}: {other:?}")),
            }
            match action {
                Action::Open { leg, targets } => self.open(sid, leg, targets),
                Action::CloseLeg(leg) => self.leave_leg(sid, leg),
                Action::DropLeg(leg) => self.drop_leg(sid, leg),
                Action::Send { leg, frame } => self.give(sid, leg, frame),
                Action::Respond(frame) => self.respond(sid, frame),
                Action::Resume => {
                    self.sessions[sid].waiting = false;
                    self.pump_requests(sid);
                    self.read_client(sid);
                }
                Action::ResumeLeg(leg) => {
                    if let Some(leg) = self.sessions[sid].leg_mut(leg) {
                        leg.held = false;
                    }
                    self.pump_responses(sid, leg);
                    self.read_leg(sid, leg);
                }
                Action::Learn(observation) => self.learn(&observation),
                Action::Refresh { wants, .. } if wants.is_empty() => self.suspect(),
                Action::Refresh { token, wants } => self.refresh(sid, token, &wants),
                Action::Wake(members) => {
                    for woken in 0..self.sessions.len() {
                        let session = &self.sessions[woken];
                        let is_meant = session.core.as_ref().is_some_and(|core| members.contains(&core.member()));
                        if is_meant && session.is_listening {
                            let wait = self.dice.between(0, 100);
                            self.after(wait, Event::Gate { sid: woken });
                        }
                    }
                }
                Action::Note(note) => self.on_note(sid, &note),
                Action::DepartedUsed(_) | Action::Rewrote(_) => {}
                Action::Close(reason) => {
                    self.sessions[sid].closing = Some(reason);
                    *self.stats.closes.entry(reason.as_str()).or_default() += 1;
                    self.check_close(sid, reason);
                }
            }
        }
    }

    fn on_note(&mut self, sid: usize, note: &Note) {
        let session = &mut self.sessions[sid];
        match note {
            Note::AmbiguousResend { idempotent: false } => session.resends_of_plain += 1,
            Note::BudgetRefused => session.budget_refusals += 1,
            Note::DetourStarted(_) => self.stats.detours += 1,
            Note::Attempt => self.stats.attempts += 1,
            Note::Resent { bytes } => self.stats.resent_bytes += *bytes as u64,
            Note::DeadlineMissed => {
                self.stats.deadlines_missed += 1;
                if self.now > self.plan.heals_at + RECOVERED_AFTER {
                    self.breaks(|| format!("s{sid} misses a deadline, {} s after the world was well", RECOVERED_AFTER / S));
                }
            }
            Note::DetourEnded { held, .. } => self.stats.longest_hold = self.stats.longest_hold.max(*held),
            _ => {}
        }
    }

    /// Bytes for the client, in pieces.
    pub fn respond(&mut self, sid: usize, bytes: Bytes) {
        for piece in self.dice.pieces(bytes) {
            let at = self.soon().max(self.sessions[sid].to_client_at);
            self.sessions[sid].to_client_at = at;
            self.at(at, Event::ToClient { sid, piece: Some(piece) });
        }
    }

    fn end_session(&mut self, sid: usize) {
        let Some(core) = self.sessions[sid].core.take() else { return };
        drop(core);
        let legs: Vec<LegId> = self.sessions[sid].legs.iter().filter(|leg| !leg.is_left).map(|leg| leg.id).collect();
        for leg in legs {
            self.leave_leg(sid, leg);
        }
        let at = self.soon().max(self.sessions[sid].to_client_at).min(self.now + S);
        self.at(at, Event::ToClient { sid, piece: None });
    }
}
