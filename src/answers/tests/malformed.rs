//! Requests that are cut short or made of anything: an error or an answer, never a panic, never more than the bound.

use proptest::prelude::*;

use super::recorded::recorded;
use super::*;

/// Answers a frame that may be anything behind a head that can be read.
fn survives(frame: &[u8], denial: Denial) {
    let Ok(Some(head)) = parse_head(frame, &LIMITS) else { return };
    let Ok(answer) = answer(frame, &head, denial) else { return };
    assert!(answer.len() <= MAX_GROWTH * frame.len(), "{} bytes for {}", answer.len(), frame.len());
    let _body = body(head.api, head.version, &answer_with(CORRELATION_ID, &answer));
}

/// The same answer under another correlation id: what is held here is the rest of its head.
fn answer_with(correlation_id: i32, answer: &Bytes) -> Bytes {
    let mut answer = answer.to_vec();
    answer[4..8].copy_from_slice(&correlation_id.to_be_bytes());
    Bytes::from(answer)
}

fn with_own_length(mut frame: Vec<u8>) -> Vec<u8> {
    let body_bytes = u32::try_from(frame.len().saturating_sub(4)).unwrap();
    frame[..4].copy_from_slice(&body_bytes.to_be_bytes());
    frame
}

#[test]
fn a_request_cut_anywhere_is_an_error_up_to_where_its_answer_is_decided() {
    for line in recorded() {
        let whole = request(line.api, line.version, &line.request);
        let mut answered = false;
        for cut in 8..whole.len() {
            let frame = with_own_length(whole[..cut].to_vec());
            survives(&frame, line.denial);
            let Ok(Some(head)) = parse_head(&frame, &LIMITS) else { continue };
            let now = answer(&frame, &head, line.denial).is_ok();
            assert!(now || !answered, "{} v{}: cut at {cut}", line.api.name(), line.version);
            answered |= now;
        }
    }
}

#[test]
fn a_frame_that_is_not_as_long_as_it_says_is_malformed() {
    let frame = request(ApiKey::HEARTBEAT, 0, &[0; 8]);
    let head = head(&frame);
    for wrong in [&frame[..frame.len() - 1], &frame[..9], &frame[..3], &[]] {
        assert!(matches!(answer(wrong, &head, Denial::NotCoordinator), Err(AnswerError::Malformed { .. })));
    }
}

#[test]
fn a_count_over_what_is_there_is_malformed() {
    let mut listed = vec![0; 4];
    listed.extend(i32::MAX.to_be_bytes());
    listed.extend([0; 12]);
    let classic = answer_to(&request(ApiKey::LIST_OFFSETS, 1, &listed), Denial::NotLeader);
    let compact = answer_to(&request(ApiKey::DELETE_GROUPS, 2, &[0xff, 0xff, 0xff, 0xff, 0x0f, 2, b'g']), Denial::NotCoordinator);
    for answer in [classic, compact] {
        let AnswerError::Malformed { source, .. } = answer.unwrap_err() else { panic!("another error") };
        assert_eq!(source.what, "an array's count is over what is left of the frame");
    }
}

#[test]
fn the_shortest_elements_with_the_longest_answers_stay_within_the_bound() {
    for (api, version) in [(ApiKey::DESCRIBE_TRANSACTIONS, 0), (ApiKey::STREAMS_GROUP_DESCRIBE, 1), (ApiKey::DESCRIBE_GROUPS, 6)] {
        // 10,000 empty strings.
        let mut body = vec![0x91, 0x4e];
        body.extend([1; 10_000]);
        body.extend([0; 4]);
        let frame = request(api, version, &body);
        let answer = answer_to(&frame, Denial::NotCoordinator).unwrap();
        assert!(answer.len() > 10_000 * 12, "{}", api.name());
        assert!(answer.len() <= MAX_GROWTH * frame.len(), "{}", api.name());
    }
}

#[test]
fn names_that_are_no_text_come_back_as_they_are() {
    // One topic, two bytes of name that are no UTF-8, one partition.
    let frame = request(ApiKey::DESCRIBE_PRODUCERS, 0, &[2, 3, 0xff, 0xfe, 2, 0, 0, 0, 5, 0, 0]);
    let answer = answer_to(&frame, Denial::NotLeader).unwrap();
    assert_eq!(super::body(ApiKey::DESCRIBE_PRODUCERS, 0, &answer)[4..], [2, 3, 0xff, 0xfe, 2, 0, 0, 0, 5, 0, 6, 0, 1, 0, 0, 0]);
}

#[test]
fn tagged_fields_that_nobody_knows_are_not_repeated() {
    // One topic, one partition, and in each structure a tagged field 9 of one byte.
    let tagged = [1, 9, 1, 7];
    let mut topics = vec![2, 2, b't', 2, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0];
    topics.extend(tagged); // of the partition
    topics.extend(tagged); // of the topic
    topics.extend([0, 0, 0, 1]); // timeout
    topics.extend(tagged);
    let answer = answer_to(&request(ApiKey::DELETE_RECORDS, 2, &topics), Denial::NotLeader).unwrap();
    let mut expected = vec![0, 0, 0, 0, 2, 2, b't', 2, 0, 0, 0, 5];
    expected.extend((-1i64).to_be_bytes());
    expected.extend([0, 6, 0, 0, 0]);
    assert_eq!(super::body(ApiKey::DELETE_RECORDS, 2, &answer)[..], expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn recorded_requests_with_bytes_changed_do_not_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(0x7f)]), 1..8),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let recorded = recorded();
        let line = which.get(&recorded);
        let mut request = line.request.clone();
        for (at, byte) in changes {
            if !request.is_empty() {
                let at = at.index(request.len());
                request[at] = byte;
            }
        }
        if let Some(cut) = cut {
            request.truncate(cut.index(request.len() + 1));
        }
        survives(&super::request(line.api, line.version, &request), line.denial);
    }

    #[test]
    fn anything_behind_a_head_does_not_panic(
        which in any::<prop::sample::Index>(),
        version in 0i16..20,
        body in prop::collection::vec(prop_oneof![3 => 0u8..4, 1 => any::<u8>()], 0..200),
    ) {
        let row = which.get(&TABLE);
        survives(&request(row.api, version, &body), row.denial);
    }
}
