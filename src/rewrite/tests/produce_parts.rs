//! Cutting produce requests and merging the answers, against frames that were encoded as they must come out.

use proptest::prelude::*;

use super::*;
use crate::wire::Span;
use crate::wire::produce::ProduceResults;
use crate::wire::produce_fixtures::{
    Around, CORRELATION_ID, MADE, PartitionSpec, RequestSpec, TopicSpec, head_of, request_frame, request_spec, response_frame,
};
use crate::wire::produce_request::ProduceRequest;

/// Those partitions whose ordinal `keep` says.
fn part_of(spec: &RequestSpec, keep: impl Fn(usize) -> bool) -> RequestSpec {
    let mut ordinals = 0..;
    let mut kept = |partitions: &[PartitionSpec]| -> Vec<PartitionSpec> {
        partitions.iter().zip(&mut ordinals).filter(|(_, ordinal)| keep(*ordinal)).map(|(partition, _)| partition.clone()).collect()
    };
    let topics: Vec<TopicSpec> =
        spec.topics.iter().map(|topic| TopicSpec { partitions: kept(&topic.partitions), ..topic.clone() }).collect();
    RequestSpec { topics: topics.into_iter().filter(|topic| !topic.partitions.is_empty()).collect(), ..spec.clone() }
}

fn partitions(spec: &mut RequestSpec) -> impl Iterator<Item = &mut PartitionSpec> {
    spec.topics.iter_mut().flat_map(|topic| &mut topic.partitions)
}

fn parse(frame: &Bytes) -> ProduceRequest {
    ProduceRequest::parse(frame, &head_of(frame)).unwrap()
}

fn brokers(view: &View) -> Vec<(ToldBroker<'_>, Advertised)> {
    virtual_endpoints(&context(&Virtual { without: None }, view)).unwrap()
}

fn node(id: i32) -> NodeSpec {
    NodeSpec { id, host: "virtual.example".to_owned(), port: 20_000 + id, rack: (id == 1).then(|| "a".to_owned()) }
}

const NOTHING_AROUND: Around<'_> = Around { throttle_time_ms: 0, nodes: &[], tagged: false };

#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Asked of the broker with this number.
    Asked(usize),
    /// Asked, and its answer leaves with another error.
    Changed(usize, i16),
    Made(i16),
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        4 => (0usize..3).prop_map(Fate::Asked),
        1 => (0usize..3, Just(7i16)).prop_map(|(part, error)| Fate::Changed(part, error)),
        1 => prop_oneof![Just(6i16), Just(7)].prop_map(Fate::Made),
    ];
    proptest::collection::vec(fate, 20)
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn a_cut_request_is_as_if_it_had_been_encoded_so(spec in request_spec(), keep in proptest::collection::vec(any::<bool>(), 20)) {
        for version in 0..=13 {
            let frame = request_frame(&spec, version);
            let request = parse(&frame);
            let cut = split_produce(&frame, &head_of(&frame), &request, &|ordinal| keep[ordinal]).unwrap();
            prop_assert_eq!(&cut, &request_frame(&part_of(&spec, |ordinal| keep[ordinal]), version), "v{}", version);

            let all = split_produce(&frame, &head_of(&frame), &request, &|_| true).unwrap();
            prop_assert_eq!(all.as_ptr(), frame.as_ptr(), "nothing is copied where all stay");
            let none = split_produce(&frame, &head_of(&frame), &request, &|_| false).unwrap();
            prop_assert_eq!(none, request_frame(&RequestSpec { topics: Vec::new(), ..spec.clone() }, version));
        }
    }

    /// A request that was cut in three, in whatever way, and joined again holds the same; a topic that was cut is one again.
    #[test]
    fn joined_requests_hold_what_each_had(spec in request_spec(), shares in proptest::collection::vec(0usize..3, 20)) {
        let is_mine = |spec: &RequestSpec| spec.transactional_id.is_none() && spec.acks != 0;
        for version in 3..=13 {
            let cuts: Vec<Bytes> = (0..3).map(|share| request_frame(&part_of(&spec, |ordinal| shares[ordinal] == share), version)).collect();
            let requests: Vec<_> = cuts.iter().map(|cut| (head_of(cut), parse(cut))).collect();
            let all: Vec<Vec<usize>> = requests.iter().map(|(_, request)| (0..request.partitions.len()).collect()).collect();
            let shares: Vec<Share<'_>> = cuts.iter().zip(&requests).zip(&all)
                .map(|((frame, (head, request)), partitions)| Share { frame, head, request, partitions })
                .collect();
            prop_assert_eq!(may_join(&shares[0], &shares[1]), is_mine(&spec));
            let joined = join_produce(&shares).unwrap();
            let request = parse(&joined);
            let names: std::collections::HashSet<_> = request.topics.iter().map(|topic| format!("{:?}", topic.name_in(&joined))).collect();
            prop_assert_eq!(names.len(), request.topics.len(), "a topic is there once");
            let listed = |frame: &Bytes, request: &ProduceRequest| -> Vec<(String, Vec<u8>)> {
                let mut listed: Vec<_> = request.topics.iter().flat_map(|topic| {
                    let name = format!("{:?}", topic.name_in(frame));
                    request.partitions_of(topic).iter().map(move |partition| (name.clone(), partition.whole.of(frame).unwrap().to_vec()))
                }).collect();
                listed.sort();
                listed
            };
            let whole = request_frame(&spec, version);
            prop_assert_eq!(listed(&joined, &request), listed(&whole, &parse(&whole)), "v{}", version);
            let alone = join_produce(&[Share { frame: &whole, head: &head_of(&whole), request: &parse(&whole), partitions: &(0..20).collect::<Vec<_>>() }]);
            prop_assert_eq!(alone.unwrap(), whole, "v{}: alone it keeps its bytes", version);
        }
    }

    /// Three brokers, each asked for its part, and answering in an order of its own.
    #[test]
    fn answers_merge_into_one_in_the_requests_order(spec in request_spec(), fates in fates(), listed in proptest::option::of(1i32..5)) {
        let nodes: Vec<NodeSpec> = (0..listed.unwrap_or(0)).map(node).collect();
        let view = view(&nodes);
        let endpoints = listed.map(|_| brokers(&view));
        for version in 0..=13 {
            let frame = request_frame(&spec, version);
            let request = parse(&frame);
            let answers: Vec<Bytes> = (0..3).map(|part| {
                let asked = |ordinal: usize| matches!(fates[ordinal], Fate::Asked(of) | Fate::Changed(of, _) if of == part);
                let cut = split_produce(&frame, &head_of(&frame), &request, &asked).unwrap();
                let mut seen = part_of(&spec, asked);
                assert_eq!(cut, request_frame(&seen, version));
                seen.topics.reverse();
                seen.topics.iter_mut().for_each(|topic| topic.partitions.reverse());
                let others = [NodeSpec { host: "real".to_owned(), ..node(0) }];
                response_frame(&seen, version, &Around { throttle_time_ms: part as i32, nodes: &others, tagged: true })
            }).collect();
            let parsed: Vec<ProduceResults<'_>> = answers.iter().map(|answer| ProduceResults::parse(answer, version).unwrap()).collect();
            let places: Vec<_> = parsed.iter().map(|results| results.places(&request, &frame)).collect();
            let copied = |part: usize, ordinal: usize, error| {
                let whole = parsed[part].results[places[part][ordinal].unwrap()].whole;
                Merged::Copied { frame: &answers[part], whole, error }
            };
            let results: Vec<Merged<'_>> = (0..request.partitions.len()).map(|ordinal| match fates[ordinal] {
                Fate::Asked(part) => copied(part, ordinal, None),
                Fate::Changed(part, error) => copied(part, ordinal, Some(error)),
                Fate::Made(error) => Merged::Made { error },
            }).collect();
            let merged = merge_produce(&Merge {
                version,
                correlation_id: CORRELATION_ID,
                request_frame: &frame,
                request: &request,
                results: &results,
                throttle_time_ms: parsed.iter().map(|results| results.throttle_time_ms).max().unwrap(),
                endpoints: endpoints.as_deref(),
            }).unwrap();

            let mut expected = spec.clone();
            let mut hinted = false;
            for (partition, fate) in partitions(&mut expected).zip(&fates) {
                let result = &mut partition.result;
                match fate {
                    Fate::Asked(_) => result.leader = result.leader.filter(|(node, _)| listed.is_some_and(|listed| *node < listed)),
                    Fate::Changed(_, error) => {
                        (result.leader, result.error) = (None, *error);
                    }
                    Fate::Made(error) => {
                        (result.leader, result.message, result.error, result.base_offset) = (None, None, *error, MADE);
                    }
                }
                hinted |= result.leader.is_some();
            }
            let around = Around { throttle_time_ms: 2, nodes: if hinted { &nodes } else { &[] }, tagged: false };
            let expected = response_frame(&expected, version, &around);
            prop_assert_eq!(merged, expected, "v{}", version);
        }
    }

    /// One answer in, the same answer out.
    #[test]
    fn one_whole_answer_merges_into_itself(spec in request_spec()) {
        let nodes: Vec<NodeSpec> = (0..5).map(node).collect();
        let view = view(&nodes);
        let endpoints = brokers(&view);
        for version in 0..=13 {
            let frame = request_frame(&spec, version);
            let request = parse(&frame);
            let hinted = version >= 10 && partitions(&mut spec.clone()).any(|partition| partition.result.leader.is_some());
            let around = Around { throttle_time_ms: 17, nodes: if hinted { &nodes } else { &[] }, tagged: false };
            let answer = response_frame(&spec, version, &around);
            let parsed = ProduceResults::parse(&answer, version).unwrap();
            let results: Vec<_> =
                parsed.results.iter().map(|result| Merged::Copied { frame: &answer, whole: result.whole, error: None }).collect();
            let merge = Merge {
                version,
                correlation_id: CORRELATION_ID,
                request_frame: &frame,
                request: &request,
                results: &results,
                throttle_time_ms: parsed.throttle_time_ms,
                endpoints: Some(&endpoints),
            };
            prop_assert_eq!(merge_produce(&merge).unwrap(), answer.clone(), "v{}", version);

            let mut without = spec.clone();
            partitions(&mut without).for_each(|partition| partition.result.leader = None);
            let without = response_frame(&without, version, &Around { throttle_time_ms: 17, ..NOTHING_AROUND });
            prop_assert_eq!(merge_produce(&Merge { endpoints: None, ..merge }).unwrap(), without, "v{}: without endpoints no hints", version);
        }
    }
}

/// Two partitions of one topic, both answered by one frame of this version.
fn two_partitions(version: i16) -> (Bytes, Bytes) {
    let partition = |index| PartitionSpec {
        index,
        records: None,
        batch: crate::wire::BatchHead::Empty,
        result: crate::wire::produce_fixtures::ResultSpec { error: 6, base_offset: 5, message: None, leader: Some((1, 7)) },
    };
    let topics = vec![TopicSpec { name: "orders".to_owned(), id: [9; 16], partitions: vec![partition(0), partition(1)] }];
    let spec = RequestSpec { transactional_id: None, acks: 1, topics, unknown_tag: None };
    (request_frame(&spec, version), response_frame(&spec, version, &NOTHING_AROUND))
}

/// An acknowledgement under the wrong partition would be a lost record.
#[test]
fn results_that_do_not_fit_the_request_are_refused() {
    for version in [0, 8, 9, 13] {
        let (frame, answer) = two_partitions(version);
        let request = parse(&frame);
        let parsed = ProduceResults::parse(&answer, version).unwrap();
        let copied = |place: usize| Merged::Copied { frame: &answer, whole: parsed.results[place].whole, error: None };
        let merged = |version: i16, results: &[Merged<'_>]| {
            let merge = Merge {
                version,
                correlation_id: 1,
                request_frame: &frame,
                request: &request,
                results,
                throttle_time_ms: 0,
                endpoints: None,
            };
            merge_produce(&merge).map_err(|error| error.what)
        };
        assert!(merged(version, &[copied(0), copied(1)]).is_ok());
        assert_eq!(merged(version, &[copied(1), copied(0)]), Err("a copied result is another partition's"));
        for results in [&[][..], &[copied(0)], &[copied(0), copied(1), Merged::Made { error: 6 }]] {
            assert_eq!(merged(version, results), Err("there are not as many results as partitions"));
        }
        for version in [-1, 14] {
            assert_eq!(merged(version, &[copied(0), copied(1)]), Err("the layout of this version is not known"));
        }
        let Span { start, end } = parsed.results[0].whole;
        for whole in [Span { start, end: end + 1 }, Span { start, end: end - 1 }, Span { start: 1 << 30, end: 1 << 31 }] {
            assert!(merged(version, &[Merged::Copied { frame: &answer, whole, error: None }, copied(1)]).is_err());
        }
    }
}

#[test]
fn a_hint_leaves_only_with_its_leaders_address_and_its_own_error() {
    let (frame, answer) = two_partitions(12);
    let request = parse(&frame);
    let parsed = ProduceResults::parse(&answer, 12).unwrap();
    let copied = |place: usize, error| Merged::Copied { frame: &answer, whole: parsed.results[place].whole, error };
    let leaders_and_endpoints = |known: &[i32], errors: [Option<i16>; 2]| {
        let nodes: Vec<NodeSpec> = known.iter().map(|id| node(*id)).collect();
        let view = view(&nodes);
        let merged = merge_produce(&Merge {
            version: 12,
            correlation_id: 1,
            request_frame: &frame,
            request: &request,
            results: &[copied(0, errors[0]), copied(1, errors[1])],
            throttle_time_ms: 0,
            endpoints: Some(&brokers(&view)),
        })
        .unwrap();
        let merged = ProduceResults::parse(&merged, 12).unwrap();
        let endpoints = merged.node_endpoints.as_ref().map_or(0, |endpoints| endpoints.nodes.len());
        (merged.results.iter().map(|result| (result.error, result.current_leader.is_some())).collect::<Vec<_>>(), endpoints)
    };
    assert_eq!(leaders_and_endpoints(&[0, 1], [None, None]), (vec![(6, true), (6, true)], 2));
    assert_eq!(leaders_and_endpoints(&[0, 1], [None, Some(7)]), (vec![(6, true), (7, false)], 2));
    assert_eq!(leaders_and_endpoints(&[0, 2], [None, None]), (vec![(6, false), (6, false)], 0));
    assert_eq!(leaders_and_endpoints(&[0, 1], [Some(7), Some(7)]), (vec![(7, false), (7, false)], 0));
}

/// A broker keeps one of the two, and answers once.
#[test]
fn a_partition_that_a_request_names_twice_is_answered_twice() {
    let (frame, answer) = two_partitions(3);
    let mut bytes = frame.to_vec();
    let request = parse(&frame);
    // Partition 1 becomes a second partition 0.
    bytes[request.partitions[1].whole.start as usize + 3] = 0;
    let frame = Bytes::from(bytes);
    let request = parse(&frame);
    let parsed = ProduceResults::parse(&answer, 3).unwrap();
    assert_eq!(parsed.places(&request, &frame), [Some(0), Some(0)]);
}
