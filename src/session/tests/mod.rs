//! The core, driven as the driver drives it: heads in, verdicts out, bodies nowhere.

mod detour;
mod random;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use super::*;
use crate::cluster::{Broker, Endpoint, LearnLimits, MetadataObservation, NodeId, Observation, Source, View, learn};
use crate::rewrite::{Addresses, Advertised, Masks, UnknownApis};
use crate::wire::{ApiKey, Head, HeadError, ProduceHead, ResponseHead, Stranger};

struct Ports;

impl Addresses for Ports {
    fn advertised(&self, node: NodeId) -> Option<Advertised> {
        Some(Advertised { host: "localhost".into(), port: 19_093 + node.0 as u16 })
    }
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint { host: "broker.example".into(), port }
}

/// A view of brokers (id, port).
fn view(brokers: &[(i32, u16)]) -> View {
    let brokers = brokers.iter().map(|(id, port)| Broker { id: NodeId(*id), endpoint: endpoint(*port), rack: None }).collect::<Vec<_>>();
    let observation = Observation::Metadata(MetadataObservation {
        source: Source::Own,
        version: 12,
        cluster_id: Some("test".into()),
        controller: None,
        brokers,
        topics: Vec::new(),
    });
    learn(&View::default(), Instant::now(), &observation, &LearnLimits::default()).view.expect("news")
}

const LIMITS: Limits = Limits {
    max_slots: 8,
    max_parked_bytes: 1024,
    max_rewrite_bytes: 4096,
    max_request_bytes: 1 << 20,
    max_response_bytes: 1 << 20,
    max_head_bytes: 4096,
    max_kept_bytes: 1 << 20,
};

struct Bench {
    core: Core,
    view: View,
    now: Instant,
    bootstrap: Vec<Endpoint>,
    unknown_apis: UnknownApis,
    /// The leg that was opened last.
    leg: LegId,
}

impl Bench {
    fn new(port: Port, view: View) -> Bench {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let timeouts = Timeouts { handshake: 10 * second, idle: 600 * second, half_close: 5 * second };
        let core = Core::new(now, port, Arc::new(LIMITS), timeouts, Arc::default(), Arc::new(Gate::new(1 << 20)), 7);
        Bench { core, view, now, bootstrap: vec![endpoint(1), endpoint(2)], unknown_apis: UnknownApis::Hide, leg: LegId::HOME }
    }

    fn at_broker_1() -> Bench {
        Bench::new(Port::Node(NodeId(1)), view(&[(1, 9092), (2, 9093)]))
    }

    /// With its home leg open.
    fn open() -> Bench {
        let mut bench = Bench::at_broker_1();
        assert_eq!(bench.request(&fetch(0)), RequestVerdict::Relay(LegId::HOME));
        bench.core.on_request_end();
        bench.leg(LegEvent::Opened(0));
        bench.answer(0);
        bench.actions();
        bench
    }

    fn request(&mut self, head: &Head) -> RequestVerdict {
        self.with(|core, now, around| core.on_request_head(now, head, around))
    }

    fn with<T>(&mut self, step: impl FnOnce(&mut Core, Instant, &Surroundings<'_>) -> T) -> T {
        let around = Surroundings {
            view: &self.view,
            addresses: &Ports,
            bootstrap: &self.bootstrap,
            unknown_apis: self.unknown_apis,
            masks: Masks::default(),
        };
        step(&mut self.core, self.now, &around)
    }

    /// The last byte of a request has been moved.
    fn end(&mut self, verdict: &RequestVerdict) {
        match verdict {
            RequestVerdict::RelayKeep(_) => self.with(|core, now, around| core.on_request_kept(now, Kept::default(), around)),
            _ => self.core.on_request_end(),
        }
    }

    fn leg(&mut self, event: LegEvent) {
        let leg = self.leg;
        self.with(|core, now, around| core.on_leg(now, leg, event, around));
    }

    fn timeout(&mut self, at: Instant) {
        self.with(|core, _, around| core.on_timeout(at, around));
    }

    /// A whole opaque response.
    fn answer(&mut self, correlation_id: i32) {
        let verdict = self.core.on_response_head(self.leg, &ResponseHead { frame_bytes: 100, correlation_id });
        assert!(matches!(verdict, ResponseVerdict::Relay(_)), "{verdict:?}");
        self.with(|core, now, around| core.on_response_end(now, around));
    }

    fn frame(&mut self, frame: Bytes) -> Result<(), rewrite::RewriteError> {
        let leg = self.leg;
        self.with(|core, now, around| core.on_response_frame(now, leg, frame, around))
    }

    fn new_view(&mut self, view: View) {
        self.view = view;
        self.with(|core, now, around| core.on_view(now, around));
    }

    fn actions(&mut self) -> Vec<Action> {
        let actions: Vec<Action> = std::iter::from_fn(|| self.core.poll()).collect();
        for action in &actions {
            if let Action::Open { leg, .. } = action {
                self.leg = *leg;
            }
        }
        actions
    }

    fn closed(&mut self) -> Option<CloseReason> {
        self.actions().into_iter().find_map(|action| match action {
            Action::Close(reason) => Some(reason),
            _ => None,
        })
    }
}

use crate::rewrite;

fn head(api: ApiKey, version: i16, correlation_id: i32) -> Head {
    Head { api, version, correlation_id, frame_bytes: 64, client_id: None, body_at: 20, produce: None }
}

fn fetch(correlation_id: i32) -> Head {
    head(ApiKey::FETCH, 11, correlation_id)
}

fn produce(acks: i16, correlation_id: i32) -> Head {
    let produce = ProduceHead { transactional_id: None, acks, timeout_ms: 1000 };
    Head { produce: Some(produce), ..head(ApiKey::PRODUCE, 9, correlation_id) }
}

/// FindCoordinator v0: error, node id, host, port.
fn coordinator_response(correlation_id: i32) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i32(correlation_id);
    body.put_i16(0);
    body.put_i32(2);
    body.put_i16(14);
    body.put_slice(b"broker.example");
    body.put_i32(9093);
    let mut frame = BytesMut::new();
    frame.put_i32(body.len() as i32);
    frame.unsplit(body);
    frame.freeze()
}

#[test]
fn the_leg_opens_with_the_first_request_and_not_before() {
    let mut bench = Bench::at_broker_1();
    assert_eq!(bench.actions(), []);
    assert_eq!(bench.request(&fetch(1)), RequestVerdict::Relay(LegId::HOME));
    let targets = vec![Target { node: Some(NodeId(1)), endpoint: endpoint(9092) }];
    assert_eq!(bench.actions(), [Action::Open { leg: LegId::HOME, targets }]);
    bench.core.on_request_end();
    assert_eq!(bench.request(&fetch(2)), RequestVerdict::Relay(LegId::HOME), "the leg is opening: requests queue behind it");
    assert_eq!(bench.actions(), []);
}

#[test]
fn the_bootstrap_port_tries_every_listed_broker_and_without_any_the_configured_addresses() {
    let mut bench = Bench::new(Port::Bootstrap, view(&[(1, 9092), (2, 9093), (3, 9094)]));
    bench.request(&fetch(1));
    let Some(Action::Open { targets, .. }) = bench.core.poll() else { panic!("no leg is opened") };
    let mut nodes: Vec<_> = targets.iter().map(|target| target.node.unwrap().0).collect();
    nodes.sort();
    assert_eq!(nodes, [1, 2, 3]);

    let mut bench = Bench::new(Port::Bootstrap, View::default());
    bench.request(&fetch(1));
    let Some(Action::Open { targets, .. }) = bench.core.poll() else { panic!("no leg is opened") };
    assert_eq!(targets.len(), 2);
    assert!(targets.iter().all(|target| target.node.is_none()));
}

#[test]
fn a_client_of_an_unlisted_broker_is_closed_but_waits_while_nothing_is_known() {
    let mut bench = Bench::new(Port::Node(NodeId(9)), view(&[(1, 9092)]));
    assert_eq!(bench.request(&fetch(1)), RequestVerdict::Wait);
    assert_eq!(bench.closed(), Some(CloseReason::BrokerNotListed));

    let mut bench = Bench::new(Port::Node(NodeId(9)), View::default());
    assert_eq!(bench.request(&fetch(1)), RequestVerdict::Wait);
    assert_eq!(bench.actions(), [Action::Refresh { token: 0, wants: Vec::new() }]);
    bench.new_view(view(&[(9, 9092)]));
    assert_eq!(bench.actions(), [Action::Resume]);
    assert_eq!(bench.request(&fetch(1)), RequestVerdict::Relay(LegId::HOME));
}

#[test]
fn without_a_first_view_the_bootstrap_addresses_have_to_do() {
    let mut bench = Bench::new(Port::Node(NodeId(9)), View::default());
    assert_eq!(bench.request(&fetch(1)), RequestVerdict::Wait);
    assert_eq!(bench.actions(), [Action::Refresh { token: 0, wants: Vec::new() }]);
    bench.timeout(bench.now + Duration::from_secs(4));
    assert_eq!(bench.actions(), []);
    bench.timeout(bench.now + Duration::from_secs(5));
    assert_eq!(bench.actions(), [Action::Resume]);
    assert_eq!(bench.request(&fetch(1)), RequestVerdict::Relay(LegId::HOME));
    bench.core.on_request_end();
    let [Action::Open { targets, .. }] = &bench.actions()[..] else { panic!("no leg is opened") };
    assert!(targets.len() == 2 && targets.iter().all(|target| target.node.is_none()));
    // What it learns there brings it to its broker.
    bench.leg(LegEvent::Opened(0));
    bench.answer(1);
    bench.new_view(view(&[(9, 9092)]));
    assert_eq!(bench.actions(), [Action::CloseLeg(LegId::HOME)]);
}

#[test]
fn produce_without_acks_has_no_slot() {
    let mut bench = Bench::open();
    assert_eq!(bench.request(&produce(0, 1)), RequestVerdict::Relay(LegId::HOME));
    bench.core.on_request_end();
    assert_eq!(bench.core.in_flight(), 0);
    let verdict = bench.request(&produce(1, 2));
    assert_eq!(verdict, RequestVerdict::RelayKeep(LegId::HOME));
    bench.end(&verdict);
    assert_eq!(bench.core.in_flight(), 1);
}

#[test]
fn a_full_ring_stops_reading_until_a_response_leaves() {
    let mut bench = Bench::open();
    for n in 0..LIMITS.max_slots as i32 {
        assert_eq!(bench.request(&fetch(n)), RequestVerdict::Relay(LegId::HOME));
        bench.core.on_request_end();
    }
    assert_eq!(bench.request(&fetch(99)), RequestVerdict::Wait);
    assert_eq!(bench.core.limit_reached(), Some("slots_per_session"));
    assert_eq!(bench.actions(), []);
    bench.answer(0);
    assert_eq!(bench.actions(), [Action::Resume]);
    assert_eq!(bench.request(&fetch(99)), RequestVerdict::Relay(LegId::HOME));
}

#[test]
fn a_response_that_answers_nothing_closes_the_client() {
    let mut bench = Bench::open();
    bench.request(&fetch(5));
    bench.core.on_request_end();
    let stray = ResponseHead { frame_bytes: 100, correlation_id: 6 };
    assert_eq!(bench.core.on_response_head(LegId::HOME, &stray), ResponseVerdict::Violation);
    assert_eq!(bench.closed(), Some(CloseReason::UpstreamViolation));
}

#[test]
fn api_versions_from_the_future_is_answered_in_its_turn() {
    let mut bench = Bench::open();
    bench.request(&fetch(1));
    bench.core.on_request_end();
    assert_eq!(bench.request(&head(ApiKey::API_VERSIONS, 5, 2)), RequestVerdict::Discard);
    bench.core.on_request_end();
    assert_eq!(bench.actions(), [], "the fetch comes first");
    bench.answer(1);
    let [Action::Respond(frame)] = &bench.actions()[..] else { panic!("no answer") };
    assert_eq!(frame[4..8], 2i32.to_be_bytes());
    assert_eq!(frame[8..10], 35i16.to_be_bytes());
}

#[test]
fn what_no_broker_would_answer_is_refused() {
    let mut cases = vec![(head(ApiKey(1000), 0, 1), Refusal::UnknownApi(1000)), (head(ApiKey::SASL_HANDSHAKE, 0, 1), Refusal::RawSasl)];
    let max = ApiKey::METADATA.spec().unwrap().max_version;
    cases.push((head(ApiKey::METADATA, max + 1, 1), Refusal::UnsupportedVersion { api: ApiKey::METADATA, version: max + 1, max }));
    for (head, refusal) in cases {
        let mut bench = Bench::open();
        assert_eq!(bench.request(&head), RequestVerdict::Refuse);
        assert_eq!(bench.closed(), Some(CloseReason::Refused(refusal)));
    }
    let mut bench = Bench::open();
    bench.unknown_apis = UnknownApis::Pass;
    assert_eq!(bench.request(&head(ApiKey(1000), 0, 1)), RequestVerdict::Relay(LegId::HOME));
    bench.core.on_request_end();
    assert_eq!(bench.request(&head(ApiKey(4), 0, 1)), RequestVerdict::Refuse, "LeaderAndIsr is known, and no client's");

    let mut bench = Bench::open();
    bench.core.on_bad_request(HeadError::Stranger(Stranger::Tls));
    assert_eq!(bench.closed().map(CloseReason::as_str), Some("bad_client"));
}

#[test]
fn a_response_that_names_brokers_is_read_and_rewritten() {
    let mut bench = Bench::open();
    bench.request(&head(ApiKey::FIND_COORDINATOR, 0, 3));
    bench.core.on_request_end();
    let response = coordinator_response(3);
    let head = ResponseHead { frame_bytes: response.len() as u32, correlation_id: 3 };
    assert!(matches!(bench.core.on_response_head(LegId::HOME, &head), ResponseVerdict::Read(_)));
    bench.frame(response).unwrap();
    let actions = bench.actions();
    let responded = actions.iter().find_map(|action| match action {
        Action::Respond(frame) => Some(frame.clone()),
        _ => None,
    });
    let responded = responded.expect("a response");
    assert!(!responded.windows(6).any(|window| window == b"broker"), "{responded:?}");
    assert!(responded.windows(9).any(|window| window == b"localhost"));
    assert!(actions.contains(&Action::Rewrote(ApiKey::FIND_COORDINATOR)));
}

#[test]
fn a_response_that_cannot_be_read_is_not_passed_on() {
    let mut bench = Bench::open();
    bench.request(&head(ApiKey::FIND_COORDINATOR, 0, 3));
    bench.core.on_request_end();
    let response = coordinator_response(3);
    let cut = response.slice(..response.len() - 2);
    let head = ResponseHead { frame_bytes: cut.len() as u32, correlation_id: 3 };
    bench.core.on_response_head(LegId::HOME, &head);
    assert!(bench.frame(cut).is_err());
    let actions = bench.actions();
    assert!(!actions.iter().any(|action| matches!(action, Action::Respond(_))), "{actions:?}");
    assert!(actions.contains(&Action::Close(CloseReason::UpstreamViolation)));
}

#[test]
fn after_a_fin_the_responses_owed_still_come_for_a_bounded_time() {
    let mut bench = Bench::open();
    bench.request(&fetch(1));
    bench.core.on_request_end();
    bench.core.on_client(bench.now, ClientEvent::Fin);
    assert_eq!(bench.closed(), None);
    bench.answer(1);
    assert_eq!(bench.closed(), Some(CloseReason::ClientClosed));

    let mut bench = Bench::open();
    bench.request(&fetch(1));
    bench.core.on_request_end();
    bench.core.on_client(bench.now, ClientEvent::Fin);
    let late = bench.core.next_timeout().unwrap();
    bench.timeout(late);
    assert_eq!(bench.closed(), Some(CloseReason::HalfCloseTimeout));
}

#[test]
fn a_fin_waits_for_a_leg_that_is_still_opening() {
    let mut bench = Bench::at_broker_1();
    assert_eq!(bench.request(&produce(0, 1)), RequestVerdict::Relay(LegId::HOME));
    bench.core.on_request_end();
    bench.core.on_client(bench.now, ClientEvent::Fin);
    assert_eq!(bench.closed(), None, "its unacknowledged bytes are not written yet");
    bench.leg(LegEvent::Opened(0));
    assert_eq!(bench.closed(), Some(CloseReason::ClientClosed));
}

#[test]
fn draining_takes_no_new_request_and_answers_the_old_ones() {
    let mut bench = Bench::open();
    bench.request(&fetch(1));
    bench.core.on_request_end();
    bench.core.on_drain();
    assert_eq!(bench.request(&fetch(2)), RequestVerdict::Wait);
    assert_eq!(bench.closed(), None);
    bench.answer(1);
    assert_eq!(bench.closed(), Some(CloseReason::Drained));
}

#[test]
fn a_broker_that_moved_gets_the_next_request_at_its_new_place() {
    let mut bench = Bench::open();
    bench.request(&fetch(1));
    bench.core.on_request_end();
    bench.new_view(view(&[(1, 7777), (2, 9093)]));
    assert_eq!(bench.actions(), [], "something is unresolved");
    bench.answer(1);
    bench.new_view(view(&[(1, 7777), (2, 9093)]));
    assert_eq!(bench.actions(), [Action::CloseLeg(LegId::HOME)]);
    bench.request(&fetch(2));
    let targets = vec![Target { node: Some(NodeId(1)), endpoint: endpoint(7777) }];
    assert_eq!(bench.actions(), [Action::Open { leg: LegId(1), targets }]);
}

#[test]
fn a_client_that_has_logged_in_is_closed_when_its_broker_moves() {
    let mut bench = Bench::open();
    bench.request(&head(ApiKey::SASL_HANDSHAKE, 1, 1));
    bench.core.on_request_end();
    bench.answer(1);
    bench.new_view(view(&[(1, 7777), (2, 9093)]));
    assert_eq!(bench.closed(), Some(CloseReason::BrokerMoved));
}

#[test]
fn silence_is_bounded_before_the_first_request_and_when_idle_but_not_in_flight() {
    let mut bench = Bench::at_broker_1();
    let first = bench.core.next_timeout().unwrap();
    assert_eq!(first, bench.now + Duration::from_secs(10));
    bench.timeout(first);
    assert_eq!(bench.closed(), Some(CloseReason::HandshakeTimeout));

    let mut bench = Bench::open();
    bench.request(&fetch(1));
    bench.core.on_request_end();
    assert_eq!(bench.core.next_timeout(), None, "how long an answer may take is the client's to say");
    bench.answer(1);
    let idle = bench.core.next_timeout().unwrap();
    bench.timeout(idle);
    assert_eq!(bench.closed(), Some(CloseReason::Idle));
}
