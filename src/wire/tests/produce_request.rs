use proptest::prelude::*;

use super::*;
use crate::wire::fixtures::framed;
use crate::wire::produce_fixtures::{head_of, request_frame, request_spec};
use crate::wire::{HeadLimits, parse_head};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// As the session does it: the head first.
fn parsed(frame: &[u8]) -> Option<ProduceRequest> {
    let head = parse_head(frame, &HeadLimits { max_frame_bytes: 1 << 20, max_head_bytes: 10_000 }).ok()??;
    ProduceRequest::parse(frame, &head).ok()
}

proptest! {
    #![proptest_config(config(60))]

    #[test]
    fn parsed_requests_are_what_was_encoded(spec in request_spec()) {
        for version in 0..=13 {
            let frame = request_frame(&spec, version);
            let head = head_of(&frame);
            let request = ProduceRequest::parse(&frame, &head).unwrap();
            prop_assert_eq!(request.topic_count.len, spec.topics.len());
            prop_assert_eq!(request.topics.len(), spec.topics.len());
            let mut topic_start = request.topic_count.span.end;
            for (topic, expected) in request.topics.iter().zip(&spec.topics) {
                let name = TopicRef::Name(expected.name.as_bytes());
                prop_assert_eq!(topic.name_in(&frame), if version >= 13 { TopicRef::Id(expected.id) } else { name });
                prop_assert_eq!(topic.whole.start, topic_start, "topics are adjacent");
                topic_start = topic.whole.end;
                let partitions = request.partitions_of(topic);
                prop_assert_eq!(partitions.len(), expected.partitions.len());
                prop_assert_eq!(topic.partition_count.len, partitions.len());
                let mut start = topic.partition_count.span.end;
                for (partition, expected) in partitions.iter().zip(&expected.partitions) {
                    prop_assert_eq!((partition.index, partition.batch), (expected.index, expected.batch), "v{}", version);
                    let records = partition.records.map(|span| span.of(&frame).unwrap());
                    prop_assert_eq!(records, expected.records.as_deref());
                    prop_assert_eq!(partition.whole.start, start, "partitions are adjacent");
                    start = partition.whole.end;
                }
                prop_assert!(start <= topic.whole.end);
            }
            let ordinals: usize = spec.topics.iter().map(|topic| topic.partitions.len()).sum();
            prop_assert_eq!(request.partitions.len(), ordinals);
        }
    }
}

proptest! {
    #![proptest_config(config(3))]

    #[test]
    fn a_frame_cut_anywhere_is_an_error(spec in request_spec()) {
        for version in 0..=13 {
            let frame = request_frame(&spec, version);
            prop_assert!(parsed(&frame).is_some());
            for cut in 4..frame.len() {
                prop_assert!(parsed(&framed(&frame[4..cut])).is_none(), "v{} cut at {}", version, cut);
                prop_assert!(ProduceRequest::parse(&frame[..cut], &head_of(&frame)).is_err(), "the prefix still promises the whole");
            }
        }
    }

    /// A count or length of every kind, at every place where one could be. Had any of them been believed, this would take terabytes.
    #[test]
    fn hostile_numbers_anywhere_are_survived(spec in request_spec()) {
        const HOSTILE: [&[u8]; 6] = [
            &[0x7f, 0xff, 0xff, 0xff],
            &[0xff, 0xff, 0xff, 0xfe],
            &[0x7f, 0xff],
            &[0xff, 0xfe],
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        ];
        for version in [0, 3, 9, 13] {
            let frame = request_frame(&spec, version);
            for hostile in HOSTILE {
                for at in 4..frame.len().saturating_sub(hostile.len()) {
                    let mut bytes = frame.to_vec();
                    bytes[at..at + hostile.len()].copy_from_slice(hostile);
                    if let Some(request) = parsed(&bytes) {
                        prop_assert!(request.partitions.capacity() * SMALLEST_PARTITION_BYTES <= 8 * bytes.len());
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn random_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), version in 0i16..=13) {
        let _ = parsed(&framed(&[&[0, 0, 0, version as u8, 0, 0, 0, 1, 0, 0][..], &bytes].concat()));
    }
}

#[test]
fn version_0_byte_by_byte() {
    let frame = framed(&[
        0, 0, 0, 0, 0, 0, 0, 9, 0xff, 0xff, // Produce 0, correlation id, a null client id
        0xff, 0xff, 0, 0, 0x75, 0x30, // acks, timeout
        0, 0, 0, 1, 0, 2, b'a', b'b', 0, 0, 0, 2, // one topic, two partitions
        0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff, // null
        0, 0, 0, 3, 0, 0, 0, 2, 0x55, 0x66,
    ]);
    let request = ProduceRequest::parse(&frame, &head_of(&frame)).unwrap();
    let span = |start, end| Span { start, end };
    assert_eq!(request.topic_count, Count { len: 1, span: span(20, 24) });
    assert_eq!(
        request.topics,
        [ProduceTopic {
            topic: ProduceTopicName::Name(span(26, 28)),
            whole: span(24, 50),
            partition_count: Count { len: 2, span: span(28, 32) },
            partitions: 0..2
        }]
    );
    assert_eq!(
        request.partitions,
        [
            ProducePartition { index: 7, whole: span(32, 40), records: None, batch: BatchHead::Empty },
            ProducePartition { index: 3, whole: span(40, 50), records: Some(span(48, 50)), batch: BatchHead::Plain },
        ]
    );
}

#[test]
fn what_is_not_a_known_produce_request_is_an_error() {
    let frame = framed(&[0; 64]);
    let head = head_of(&frame);
    assert!(ProduceRequest::parse(&frame, &Head { version: 14, ..head }).is_err());
    assert!(ProduceRequest::parse(&frame, &Head { version: -1, ..head }).is_err());
    assert!(ProduceRequest::parse(&frame, &Head { api: ApiKey::FETCH, ..head }).is_err());
    assert!(ProduceRequest::parse(&frame, &Head { body_at: 4000, ..head }).is_err());
}

/// Each costs six bytes, and more than ten times that once it is parsed.
#[test]
fn partitions_have_a_limit() {
    let with = |partitions: usize| {
        let mut bytes = vec![0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 1];
        // Two topics, the second of one partition.
        let count = partitions as u32;
        bytes.extend([3, 2, b'a', (count & 0x7f) as u8 | 0x80, (count >> 7 & 0x7f) as u8 | 0x80, (count >> 14) as u8]);
        bytes.extend(std::iter::repeat_n([0u8; 6], partitions - 1).flatten());
        bytes.extend([0, 2, b'b', 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        let frame = framed(&bytes);
        ProduceRequest::parse(&frame, &head_of(&frame)).map(|request| request.partitions.len()).map_err(|malformed| malformed.what)
    };
    assert_eq!(with(MAX_PARTITIONS), Ok(MAX_PARTITIONS));
    assert_eq!(with(MAX_PARTITIONS + 1), Err("it has too many partitions"));
}
