//! Random lists of operations on the fast path: order, nothing lost, nothing twice, bounds held. Lost legs and what follows are
//! `histories`' matter.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Operation {
    Fetch,
    Coordinator,
    ApiVersions,
    FutureApiVersions,
    Produce { acks: i16 },
    Answer,
    Opened,
    View { port: u16 },
    Fin,
    Drain,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let one = prop_oneof![
        8 => Just(Operation::Fetch),
        6 => Just(Operation::Coordinator),
        2 => Just(Operation::ApiVersions),
        2 => Just(Operation::FutureApiVersions),
        4 => Just(Operation::Produce { acks: 0 }),
        16 => Just(Operation::Answer),
        4 => Just(Operation::Opened),
        2 => (9092u16..9094).prop_map(|port| Operation::View { port }),
        1 => Just(Operation::Fin),
        1 => Just(Operation::Drain),
    ];
    proptest::collection::vec(one, 1..150)
}

/// A driver and a broker in miniature: what the client has been sent, by correlation id.
struct Model {
    bench: Bench,
    next_correlation_id: i32,
    /// Answered requests that the core took, in order.
    asked: Vec<i32>,
    /// What the broker got and has not answered: correlation id, and whether its answer is rewritten.
    at_broker: VecDeque<(i32, bool)>,
    got: Vec<i32>,
    up: bool,
    opening: bool,
    closed: bool,
}

impl Model {
    fn request(&mut self, head: Head, rewritten: bool) {
        let verdict = self.bench.request(&head);
        // As the driver does: legs are closed and opened before the request's bytes are moved.
        self.carry_out();
        let answered = head.produce.is_none_or(|produce| produce.acks != 0);
        match verdict {
            RequestVerdict::Relay(_) | RequestVerdict::RelayKeep(_) => {
                if answered {
                    self.asked.push(head.correlation_id);
                    self.at_broker.push_back((head.correlation_id, rewritten));
                }
                self.carry_out();
                self.bench.end(&verdict);
            }
            RequestVerdict::Read => {
                self.asked.push(head.correlation_id);
                self.at_broker.push_back((head.correlation_id, true));
                self.carry_out();
                self.bench
                    .with(|core, now, around| core.on_request_frame(now, Bytes::from_static(b"not looked at in this version"), around));
            }
            RequestVerdict::Discard => {
                self.asked.push(head.correlation_id);
                self.carry_out();
                self.bench.core.on_request_end();
            }
            RequestVerdict::Wait | RequestVerdict::Refuse => {}
        }
        self.carry_out();
    }

    fn answer(&mut self) {
        if !self.up {
            return;
        }
        let Some((correlation_id, rewritten)) = self.at_broker.pop_front() else { return };
        let frame = coordinator_response(correlation_id);
        let head = ResponseHead { frame_bytes: frame.len() as u32, correlation_id };
        match self.bench.core.on_response_head(self.bench.leg, &head) {
            ResponseVerdict::Relay(_) => {
                assert!(!rewritten, "an address has slipped through");
                self.got.push(correlation_id);
                self.bench.with(|core, now, around| core.on_response_end(now, around));
            }
            ResponseVerdict::Read(_) => {
                // ApiVersions has another body: the frame of FindCoordinator does not parse as one, and must not pass.
                let _ = self.bench.frame(frame);
            }
            verdict => panic!("{verdict:?}"),
        }
        self.carry_out();
    }

    fn carry_out(&mut self) {
        for action in self.bench.actions() {
            assert!(!self.closed, "nothing follows the end: {action:?}");
            match action {
                Action::Open { .. } => {
                    assert!(!self.up && !self.opening);
                    self.opening = true;
                }
                Action::CloseLeg(_) => {
                    assert!(self.at_broker.is_empty(), "a leg with unresolved requests is closed");
                    self.up = false;
                }
                Action::Respond(frame) => self.got.push(i32::from_be_bytes(frame[4..8].try_into().unwrap())),
                Action::Close(_) => self.closed = true,
                _ => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn every_request_is_answered_once_and_in_order_or_the_client_is_closed(operations in operations()) {
        let mut model = Model {
            bench: Bench::at_broker_1(), next_correlation_id: 0, asked: Vec::new(), at_broker: VecDeque::new(), got: Vec::new(),
            up: false, opening: false, closed: false,
        };
        for operation in operations {
            if model.closed {
                break;
            }
            model.next_correlation_id += 1;
            let id = model.next_correlation_id;
            match operation {
                Operation::Fetch => model.request(fetch(id), false),
                Operation::Coordinator => model.request(head(ApiKey::FIND_COORDINATOR, 0, id), true),
                Operation::ApiVersions => model.request(head(ApiKey::API_VERSIONS, 0, id), true),
                Operation::FutureApiVersions => model.request(head(ApiKey::API_VERSIONS, 6, id), false),
                Operation::Produce { acks } => model.request(produce(acks, id), false),
                Operation::Answer => model.answer(),
                Operation::Opened => {
                    if std::mem::take(&mut model.opening) {
                        model.up = true;
                        model.bench.leg(LegEvent::Opened(0));
                    }
                }
                Operation::View { port } => model.bench.new_view(view(&[(1, port), (2, 9093)])),
                Operation::Fin => model.bench.core.on_client(model.bench.now, ClientEvent::Fin),
                Operation::Drain => model.bench.core.on_drain(),
            }
            model.carry_out();
            prop_assert!(model.bench.core.in_flight() <= LIMITS.max_slots);
            prop_assert_eq!(&model.got[..], &model.asked[..model.got.len()], "out of order");
            if !model.closed {
                prop_assert_eq!(model.asked.len() - model.got.len(), model.bench.core.in_flight());
            }
        }
        // Whatever is left, the broker answers in the end.
        while !model.closed && !model.at_broker.is_empty() {
            if std::mem::take(&mut model.opening) {
                model.up = true;
                model.bench.leg(LegEvent::Opened(0));
                model.carry_out();
            }
            model.answer();
        }
        if !model.closed {
            prop_assert_eq!(&model.got, &model.asked);
        }
    }
}
