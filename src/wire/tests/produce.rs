use proptest::prelude::*;

use super::*;
use crate::wire::fixtures::{NodeSpec, framed};
use crate::wire::produce_fixtures::{Around, head_of, request_frame, request_spec, response_frame};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn node() -> NodeSpec {
    NodeSpec { id: 3, host: "real".to_owned(), port: 9092, rack: None }
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn parsed_responses_are_what_was_encoded(spec in request_spec(), listed in any::<bool>()) {
        let nodes = if listed { vec![node()] } else { Vec::new() };
        for version in 0..=13 {
            let frame = response_frame(&spec, version, &Around { throttle_time_ms: 17, nodes: &nodes, tagged: true });
            let parsed = ProduceResults::parse(&frame, version).unwrap();
            prop_assert_eq!(parsed.throttle_time_ms, if version >= 1 { 17 } else { 0 });
            prop_assert_eq!(parsed.node_endpoints.is_some(), listed && version >= 10);
            let mut results = parsed.results.iter();
            for topic in &spec.topics {
                for expected in &topic.partitions {
                    let result = results.next().unwrap();
                    let name = TopicRef::Name(topic.name.as_bytes());
                    prop_assert_eq!(result.topic, if version >= 13 { TopicRef::Id(topic.id) } else { name });
                    prop_assert_eq!((result.index, result.error, result.base_offset),
                        (expected.index, expected.result.error, expected.result.base_offset));
                    prop_assert_eq!(result.error_span.of(&frame).unwrap(), result.error.to_be_bytes());
                    let leader = expected.result.leader.filter(|_| version >= 10).map(|(node, epoch)| CurrentLeader { node, epoch });
                    prop_assert_eq!(result.current_leader, leader);

                    let again = ProduceResult::at(&frame, result.whole, version).unwrap();
                    prop_assert_eq!(ProduceResult { topic: result.topic, ..again }, *result);
                    let Span { start, end } = result.whole;
                    for whole in [Span { start, end: end - 1 }, Span { start: start + 1, end }, Span { start: end, end: start }] {
                        prop_assert!(ProduceResult::at(&frame, whole, version).is_err());
                    }
                }
            }
            prop_assert!(results.next().is_none());

            let errors = parsed.results.iter().any(|result| result.error != 0 || result.current_leader.is_some());
            prop_assert_eq!(all_ok(&frame, version), Ok(!errors && parsed.node_endpoints.is_none()), "v{}", version);
        }
    }

    /// Against a search one by one. A request may name a partition twice, and a broker answer in another order or leave one out.
    #[test]
    fn each_partition_finds_its_result(spec in request_spec(), left_out in any::<prop::sample::Index>(), twice in any::<bool>()) {
        let mut asked = spec.clone();
        if twice && let Some(topic) = asked.topics.first().cloned() {
            asked.topics.push(topic);
        }
        let mut answered = spec;
        answered.topics.reverse();
        if !answered.topics.is_empty() {
            let topic = left_out.get(&answered.topics).name.clone();
            for topic in answered.topics.iter_mut().filter(|other| other.name == topic) {
                topic.partitions.pop();
            }
        }
        for version in 0..=13 {
            let request_frame = request_frame(&asked, version);
            let request = ProduceRequest::parse(&request_frame, &head_of(&request_frame)).unwrap();
            let frame = response_frame(&answered, version, &Around { throttle_time_ms: 0, nodes: &[], tagged: false });
            let results = ProduceResults::parse(&frame, version).unwrap();
            let expected: Vec<Option<usize>> = request.topics.iter().flat_map(|topic| {
                let name = topic.name_in(&request_frame);
                let results = &results.results;
                request.partitions_of(topic).iter().map(move |partition| {
                    results.iter().position(|result| (result.topic, result.index) == (name, partition.index))
                })
            }).collect();
            prop_assert_eq!(results.places(&request, &request_frame), expected);
        }
    }
}

proptest! {
    #![proptest_config(config(3))]

    #[test]
    fn a_frame_cut_anywhere_or_with_hostile_numbers_is_no_success(spec in request_spec()) {
        let mut spec = spec;
        for partition in spec.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            partition.result.error = 0;
            partition.result.leader = None;
        }
        for version in 0..=13 {
            let frame = response_frame(&spec, version, &Around { throttle_time_ms: 17, nodes: &[], tagged: true });
            prop_assert_eq!(all_ok(&frame, version), Ok(true));
            for cut in 4..frame.len() {
                prop_assert!(all_ok(&framed(&frame[4..cut]), version).is_err(), "v{} cut at {}", version, cut);
                prop_assert!(all_ok(&frame[..cut], version).is_err(), "the prefix still promises the whole");
                let mut bytes = frame.to_vec();
                for (at, byte) in bytes[cut..].iter_mut().zip([0x7f, 0xff, 0xff, 0xff]) {
                    *at = byte;
                }
                let parsed = ProduceResults::parse(&bytes, version);
                prop_assert_eq!(all_ok(&bytes, version).map_err(|malformed| malformed.what), parsed.map_err(|malformed| malformed.what)
                    .map(|parsed| parsed.node_endpoints.is_none()
                        && parsed.results.iter().all(|result| result.error == 0 && result.current_leader.is_none())));
            }
        }
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn random_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), version in 0i16..=13) {
        let frame = framed(&bytes);
        prop_assert_eq!(all_ok(&frame, version).is_ok(), ProduceResults::parse(&frame, version).is_ok());
    }
}

#[test]
fn version_0_byte_by_byte() {
    let frame = framed(&[
        0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 1, // one topic, one partition
        0, 0, 0, 7, 0, 6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ]);
    let parsed = ProduceResults::parse(&frame, 0).unwrap();
    let result = ProduceResult {
        topic: TopicRef::Name(b"a"),
        index: 7,
        error: 6,
        error_span: Span { start: 23, end: 25 },
        base_offset: -1,
        whole: Span { start: 19, end: 33 },
        tagged_fields: None,
        current_leader: None,
    };
    assert_eq!(parsed, ProduceResults { results: vec![result], throttle_time_ms: 0, tagged_fields: None, node_endpoints: None });
    assert_eq!(all_ok(&frame, 0), Ok(false));
}
