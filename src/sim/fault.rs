//! Faults on command: rules that change how requests are answered, and hooks that answer instead.
//!
//! Invariant: a rule that is spent or over never applies again. Deliberately not here: the life of brokers and leaders (`control`), and
//! what metadata says (`broker::MetadataFault`).

use std::time::Duration;

use bytes::Bytes;

use super::cluster::{Cluster, ConnId};

/// What happens to a request that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Answered with this error code, and not applied.
    Error(i16),
    /// Applied, and answered with this error code all the same.
    ErrorAfterApplying(i16),
    /// Applied, answered this much later; the connection waits meanwhile.
    Delay(Duration),
    /// Applied, and the connection closes instead of an answer: the ambiguous case.
    DropAnswer,
    /// Not applied, and the connection closes.
    Close,
    /// Applied, and never answered; the connection stays open and stuck.
    Silence,
}

/// A fault and where, how often and how long it applies.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    broker: Option<i32>,
    api_key: Option<i16>,
    times_left: Option<u32>,
    until: Option<Duration>,
}

impl Rule {
    /// Every request, on every broker, until it is cleared.
    pub fn new(fault: Fault) -> Rule {
        Rule { fault, broker: None, api_key: None, times_left: None, until: None }
    }

    /// Only on this broker.
    pub fn on_broker(mut self, broker: i32) -> Rule {
        self.broker = Some(broker);
        self
    }

    /// Only requests of this API.
    pub fn on_api(mut self, api_key: i16) -> Rule {
        self.api_key = Some(api_key);
        self
    }

    /// Only so many requests.
    pub fn times(mut self, times: u32) -> Rule {
        self.times_left = Some(times);
        self
    }

    /// Only before this moment of the simulation.
    pub fn until(mut self, until: Duration) -> Rule {
        self.until = Some(until);
        self
    }

    fn is_over(&self, now: Duration) -> bool {
        self.times_left == Some(0) || self.until.is_some_and(|until| now >= until)
    }

    fn matches(&self, broker: i32, api_key: i16) -> bool {
        self.broker.is_none_or(|only| only == broker) && self.api_key.is_none_or(|only| only == api_key)
    }
}

/// A rule in force, to lift it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleId(u64);

/// A request as a hook sees it.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// When.
    pub now: Duration,
    /// The broker that got it.
    pub broker: i32,
    /// The connection that it came on.
    pub conn: ConnId,
    /// Which API.
    pub api_key: i16,
    /// Which version.
    pub version: i16,
    /// To be repeated in an answer.
    pub correlation_id: i32,
    /// The whole request, without its length prefix.
    pub frame: Bytes,
}

/// What a hook wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The usual handling (and the next hook).
    Pass,
    /// The usual handling, under this fault.
    Inflict(Fault),
    /// This frame as the answer (without length prefix), and nothing applied. `frame::encode_response` makes one.
    Answer(Bytes),
    /// The same, later.
    AnswerAfter(Duration, Bytes),
}

/// Sees each request before the usual handling, and may change the cluster meanwhile.
pub type Hook = Box<dyn FnMut(&Exchange, &mut Cluster) -> Verdict + Send>;

/// All rules and hooks in force.
#[derive(Default)]
pub(crate) struct Faults {
    rules: Vec<(RuleId, Rule)>,
    hooks: Vec<Hook>,
    next_id: u64,
}

impl Faults {
    pub(crate) fn add_rule(&mut self, rule: Rule) -> RuleId {
        self.next_id += 1;
        let id = RuleId(self.next_id);
        self.rules.push((id, rule));
        id
    }

    pub(crate) fn lift(&mut self, id: RuleId) {
        self.rules.retain(|(known, _)| *known != id);
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
        self.hooks.clear();
    }

    pub(crate) fn add_hook(&mut self, hook: Hook) {
        self.hooks.push(hook);
    }

    /// Hooks leave while they run, since they may use the cluster.
    pub(crate) fn take_hooks(&mut self) -> Vec<Hook> {
        std::mem::take(&mut self.hooks)
    }

    pub(crate) fn put_hooks_back(&mut self, mut hooks: Vec<Hook>) {
        hooks.append(&mut self.hooks);
        self.hooks = hooks;
    }

    /// The faults for one request, each rule counted down.
    pub(crate) fn matching(&mut self, now: Duration, broker: i32, api_key: i16) -> Vec<Fault> {
        self.rules.retain(|(_, rule)| !rule.is_over(now));
        let mut found = Vec::new();
        for (_, rule) in self.rules.iter_mut().filter(|(_, rule)| rule.matches(broker, api_key)) {
            rule.times_left = rule.times_left.map(|left| left.saturating_sub(1));
            found.push(rule.fault);
        }
        found
    }
}
