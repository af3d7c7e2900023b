//! The kafka-protocol crate encodes requests of several topics, partitions and groups, and finds the code once at each in our answers.

use std::collections::BTreeSet;
use std::fmt::Debug;

use bytes::BytesMut;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::{Decodable, Encodable, Message};

use super::recorded::{Recorded, recorded};
use super::*;

/// Where something was asked for, or a code stands.
fn at(place: impl Debug) -> String {
    format!("{place:?}")
}

const TOP: &str = "the top";

/// The elements of the elements of an array.
macro_rules! each {
    ($outers:expr, $outer:ident, $inners:expr, $inner:ident, $result:expr) => {
        $outers.iter().flat_map(|$outer| $inners.iter().map(move |$inner| $result)).collect()
    };
}

/// The code stands at the top alone.
macro_rules! top {
    ($line:expr, $request:ty, $response:ty) => {
        compare::<$request, $response>($line, |_| vec![TOP.to_owned()], |answer| vec![(TOP.to_owned(), answer.error_code)])
    };
}

/// Whether the crate knows this version.
fn compare<Q, A>(line: &Recorded, asked: impl Fn(&Q) -> Vec<String>, said: impl Fn(&A) -> Vec<(String, i16)>) -> bool
where
    Q: Message + Decodable + Encodable,
    A: Message + Decodable,
{
    let (api, version) = (line.api, line.version);
    if version < Q::VERSIONS.min || version > Q::VERSIONS.max {
        return false;
    }
    let what = format!("{} v{version}", api.name());
    let question = Q::decode(&mut Bytes::from(line.request.clone()), version).expect(&what);
    let mut encoded = BytesMut::new();
    question.encode(&mut encoded, version).expect(&what);
    let answer = answer_to(&request(api, version, &encoded), line.denial).expect(&what);
    let mut rest = body(api, version, &answer);
    let decoded = A::decode(&mut rest, version).expect(&what);
    assert!(rest.is_empty(), "{what}: {} bytes are left over", rest.len());

    let asked = asked(&question);
    assert!(!asked.is_empty(), "{what} asks for nothing");
    assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), asked.len(), "{what} asks twice");
    let expected: Vec<_> = asked.into_iter().map(|place| (place, line.denial.code())).collect();
    assert_eq!(said(&decoded), expected, "{what}");
    true
}

/// `None`: the crate does not know the API.
fn compared(line: &Recorded) -> Option<bool> {
    Some(match (line.api, line.denial) {
        (ApiKey::FETCH, Denial::FetchSessionNotFound) => top!(line, m::FetchRequest, m::FetchResponse),
        (ApiKey::SHARE_FETCH, Denial::ShareSessionNotFound) => top!(line, m::ShareFetchRequest, m::ShareFetchResponse),
        (ApiKey::SHARE_ACKNOWLEDGE, Denial::ShareSessionNotFound) => top!(line, m::ShareAcknowledgeRequest, m::ShareAcknowledgeResponse),
        (ApiKey::FETCH, _) => compare::<m::FetchRequest, m::FetchResponse>(
            line,
            |q| each!(q.topics, t, t.partitions, p, at((&t.topic, t.topic_id, p.partition))),
            |a| each!(a.responses, t, t.partitions, p, (at((&t.topic, t.topic_id, p.partition_index)), p.error_code)),
        ),
        (ApiKey::LIST_OFFSETS, _) => compare::<m::ListOffsetsRequest, m::ListOffsetsResponse>(
            line,
            |q| each!(q.topics, t, t.partitions, p, at((&t.name, p.partition_index))),
            |a| each!(a.topics, t, t.partitions, p, (at((&t.name, p.partition_index)), p.error_code)),
        ),
        (ApiKey::DELETE_RECORDS, _) => compare::<m::DeleteRecordsRequest, m::DeleteRecordsResponse>(
            line,
            |q| each!(q.topics, t, t.partitions, p, at((&t.name, p.partition_index))),
            |a| each!(a.topics, t, t.partitions, p, (at((&t.name, p.partition_index)), p.error_code)),
        ),
        (ApiKey::OFFSET_FOR_LEADER_EPOCH, _) => compare::<m::OffsetForLeaderEpochRequest, m::OffsetForLeaderEpochResponse>(
            line,
            |q| each!(q.topics, t, t.partitions, p, at((&t.topic, p.partition))),
            |a| each!(a.topics, t, t.partitions, p, (at((&t.topic, p.partition)), p.error_code)),
        ),
        (ApiKey::DESCRIBE_PRODUCERS, _) => compare::<m::DescribeProducersRequest, m::DescribeProducersResponse>(
            line,
            |q| each!(q.topics, t, t.partition_indexes, p, at((&t.name, *p))),
            |a| each!(a.topics, t, t.partitions, p, (at((&t.name, p.partition_index)), p.error_code)),
        ),
        (ApiKey::SHARE_FETCH, _) => compare::<m::ShareFetchRequest, m::ShareFetchResponse>(
            line,
            |q| each!(q.topics, t, t.partitions, p, at((t.topic_id, p.partition_index))),
            |a| each!(a.responses, t, t.partitions, p, (at((t.topic_id, p.partition_index)), p.error_code)),
        ),
        (ApiKey::SHARE_ACKNOWLEDGE, _) => compare::<m::ShareAcknowledgeRequest, m::ShareAcknowledgeResponse>(
            line,
            |q| each!(q.topics, t, t.partitions, p, at((t.topic_id, p.partition_index))),
            |a| each!(a.responses, t, t.partitions, p, (at((t.topic_id, p.partition_index)), p.error_code)),
        ),
        (ApiKey::OFFSET_COMMIT, _) => compare::<m::OffsetCommitRequest, m::OffsetCommitResponse>(
            line,
            |q| each!(q.topics, t, t.partitions, p, at((&t.name, t.topic_id, p.partition_index))),
            |a| each!(a.topics, t, t.partitions, p, (at((&t.name, t.topic_id, p.partition_index)), p.error_code)),
        ),
        (ApiKey::OFFSET_FETCH, _) => compare::<m::OffsetFetchRequest, m::OffsetFetchResponse>(
            line,
            |q| match line.version {
                ..2 => each!(q.topics.as_ref().unwrap(), t, t.partition_indexes, p, at((&t.name, *p))),
                2..8 => vec![TOP.to_owned()],
                8.. => q.groups.iter().map(|group| at(&group.group_id)).collect(),
            },
            |a| match line.version {
                ..2 => each!(a.topics, t, t.partitions, p, (at((&t.name, p.partition_index)), p.error_code)),
                2..8 => vec![(TOP.to_owned(), a.error_code)],
                8.. => a.groups.iter().map(|group| (at(&group.group_id), group.error_code)).collect(),
            },
        ),
        (ApiKey::JOIN_GROUP, _) => top!(line, m::JoinGroupRequest, m::JoinGroupResponse),
        (ApiKey::HEARTBEAT, _) => top!(line, m::HeartbeatRequest, m::HeartbeatResponse),
        (ApiKey::LEAVE_GROUP, _) => top!(line, m::LeaveGroupRequest, m::LeaveGroupResponse),
        (ApiKey::SYNC_GROUP, _) => top!(line, m::SyncGroupRequest, m::SyncGroupResponse),
        (ApiKey::DESCRIBE_GROUPS, _) => compare::<m::DescribeGroupsRequest, m::DescribeGroupsResponse>(
            line,
            |q| q.groups.iter().map(at).collect(),
            |a| a.groups.iter().map(|group| (at(&group.group_id), group.error_code)).collect(),
        ),
        (ApiKey::DELETE_GROUPS, _) => compare::<m::DeleteGroupsRequest, m::DeleteGroupsResponse>(
            line,
            |q| q.groups_names.iter().map(at).collect(),
            |a| a.results.iter().map(|group| (at(&group.group_id), group.error_code)).collect(),
        ),
        (ApiKey::OFFSET_DELETE, _) => top!(line, m::OffsetDeleteRequest, m::OffsetDeleteResponse),
        (ApiKey::INIT_PRODUCER_ID, _) => top!(line, m::InitProducerIdRequest, m::InitProducerIdResponse),
        (ApiKey::ADD_PARTITIONS_TO_TXN, _) => add_partitions(line),
        (ApiKey::ADD_OFFSETS_TO_TXN, _) => top!(line, m::AddOffsetsToTxnRequest, m::AddOffsetsToTxnResponse),
        (ApiKey::END_TXN, _) => top!(line, m::EndTxnRequest, m::EndTxnResponse),
        (ApiKey::TXN_OFFSET_COMMIT, _) => compare::<m::TxnOffsetCommitRequest, m::TxnOffsetCommitResponse>(
            line,
            |q| each!(q.topics, t, t.partitions, p, at((&t.name, p.partition_index))),
            |a| each!(a.topics, t, t.partitions, p, (at((&t.name, p.partition_index)), p.error_code)),
        ),
        (ApiKey::DESCRIBE_TRANSACTIONS, _) => compare::<m::DescribeTransactionsRequest, m::DescribeTransactionsResponse>(
            line,
            |q| q.transactional_ids.iter().map(at).collect(),
            |a| a.transaction_states.iter().map(|state| (at(&state.transactional_id), state.error_code)).collect(),
        ),
        (ApiKey::CONSUMER_GROUP_HEARTBEAT, _) => top!(line, m::ConsumerGroupHeartbeatRequest, m::ConsumerGroupHeartbeatResponse),
        (ApiKey::CONSUMER_GROUP_DESCRIBE, _) => compare::<m::ConsumerGroupDescribeRequest, m::ConsumerGroupDescribeResponse>(
            line,
            |q| q.group_ids.iter().map(at).collect(),
            |a| a.groups.iter().map(|group| (at(&group.group_id), group.error_code)).collect(),
        ),
        (ApiKey::SHARE_GROUP_HEARTBEAT, _) => top!(line, m::ShareGroupHeartbeatRequest, m::ShareGroupHeartbeatResponse),
        (ApiKey::SHARE_GROUP_DESCRIBE, _) => compare::<m::ShareGroupDescribeRequest, m::ShareGroupDescribeResponse>(
            line,
            |q| q.group_ids.iter().map(at).collect(),
            |a| a.groups.iter().map(|group| (at(&group.group_id), group.error_code)).collect(),
        ),
        (ApiKey::DESCRIBE_SHARE_GROUP_OFFSETS, _) => compare::<m::DescribeShareGroupOffsetsRequest, m::DescribeShareGroupOffsetsResponse>(
            line,
            |q| q.groups.iter().map(|group| at(&group.group_id)).collect(),
            |a| a.groups.iter().map(|group| (at(&group.group_id), group.error_code)).collect(),
        ),
        (ApiKey::ALTER_SHARE_GROUP_OFFSETS, _) => top!(line, m::AlterShareGroupOffsetsRequest, m::AlterShareGroupOffsetsResponse),
        (ApiKey::DELETE_SHARE_GROUP_OFFSETS, _) => top!(line, m::DeleteShareGroupOffsetsRequest, m::DeleteShareGroupOffsetsResponse),
        _ => return None,
    })
}

fn add_partitions(line: &Recorded) -> bool {
    compare::<m::AddPartitionsToTxnRequest, m::AddPartitionsToTxnResponse>(
        line,
        |q| {
            if line.version < 4 {
                return each!(q.v3_and_below_topics, t, t.partitions, p, at((&t.name, *p)));
            }
            let places = |transaction: &m::add_partitions_to_txn_request::AddPartitionsToTxnTransaction| -> Vec<String> {
                let id = &transaction.transactional_id;
                each!(transaction.topics, t, t.partitions, p, at((id, &t.name, *p)))
            };
            q.transactions.iter().flat_map(places).collect()
        },
        |a| {
            assert_eq!(a.error_code, 0);
            if line.version < 4 {
                let topics = &a.results_by_topic_v3_and_below;
                return each!(topics, t, t.results_by_partition, p, (at((&t.name, p.partition_index)), p.partition_error_code));
            }
            let codes = |result: &m::add_partitions_to_txn_response::AddPartitionsToTxnResult| -> Vec<(String, i16)> {
                let (id, topics) = (&result.transactional_id, &result.topic_results);
                each!(topics, t, t.results_by_partition, p, (at((id, &t.name, p.partition_index)), p.partition_error_code))
            };
            a.results_by_transaction.iter().flat_map(codes).collect()
        },
    )
}

#[test]
fn the_code_stands_once_wherever_something_was_asked_for() {
    let (mut known, mut unknown) = (0, BTreeSet::new());
    for line in recorded() {
        match compared(&line) {
            Some(true) => known += 1,
            _ => {
                unknown.insert(format!("{} {}", line.api.name(), line.version));
            }
        }
    }
    assert!(known > 0);
    // Held by `recorded.txt` alone.
    assert_eq!(
        unknown.into_iter().collect::<Vec<_>>().join(", "),
        "DeleteGroups 3, DescribeShareGroupOffsets 1, Fetch 0, Fetch 1, Fetch 2, Fetch 3, InitProducerId 6, ListOffsets 0, \
         ListOffsets 11, OffsetCommit 0, OffsetCommit 1, OffsetCommit 10, OffsetFetch 0, OffsetFetch 10, OffsetForLeaderEpoch 0, \
         OffsetForLeaderEpoch 1, ShareAcknowledge 2, ShareFetch 2, StreamsGroupDescribe 0, StreamsGroupDescribe 1, \
         StreamsGroupHeartbeat 0, StreamsGroupHeartbeat 1, StreamsGroupTopologyDescriptionUpdate 0, TxnOffsetCommit 6"
    );
}

/// What `recorded.txt` has nothing of: all its arrays have elements.
#[test]
fn a_share_fetch_without_acknowledgements_has_none_denied() {
    let version = 1;
    let partition = m::share_fetch_request::FetchPartition::default().with_partition_index(4);
    let topic = m::share_fetch_request::FetchTopic::default().with_partitions(vec![partition]);
    let question = m::ShareFetchRequest::default().with_member_id(Some("me".to_owned().into())).with_topics(vec![topic]);
    let mut encoded = BytesMut::new();
    question.encode(&mut encoded, version).unwrap();
    let answer = answer_to(&request(ApiKey::SHARE_FETCH, version, &encoded), Denial::NotLeader).unwrap();
    let decoded = m::ShareFetchResponse::decode(&mut body(ApiKey::SHARE_FETCH, version, &answer), version).unwrap();
    let partition = &decoded.responses[0].partitions[0];
    assert_eq!((partition.partition_index, partition.error_code, partition.acknowledge_error_code), (4, 6, 0));
    assert_eq!((partition.current_leader.leader_id, partition.current_leader.leader_epoch), (-1, -1));
}

#[test]
fn a_group_that_asks_for_all_its_offsets_is_denied_once() {
    let version = 8;
    let named = |name: &'static str| {
        let name = kafka_protocol::protocol::StrBytes::from_static_str(name);
        m::offset_fetch_request::OffsetFetchRequestGroup::default().with_group_id(m::GroupId(name)).with_topics(None)
    };
    let question = m::OffsetFetchRequest::default().with_groups(vec![named("a"), named("b")]);
    let mut encoded = BytesMut::new();
    question.encode(&mut encoded, version).unwrap();
    let answer = answer_to(&request(ApiKey::OFFSET_FETCH, version, &encoded), Denial::NotCoordinator).unwrap();
    let decoded = m::OffsetFetchResponse::decode(&mut body(ApiKey::OFFSET_FETCH, version, &answer), version).unwrap();
    let said: Vec<_> = decoded.groups.iter().map(|group| (group.group_id.as_str(), group.error_code)).collect();
    assert_eq!(said, [("a", 16), ("b", 16)]);
}
