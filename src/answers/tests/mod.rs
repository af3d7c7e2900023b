//! Every row of the table in every version: against bytes that Kafka wrote, against the kafka-protocol crate, and on bytes that are none.

mod decoded;
mod malformed;
mod recorded;

use std::fmt::Write as _;

use super::table::TABLE;
use super::*;
use crate::wire::{HeadLimits, parse_head};

const CORRELATION_ID: i32 = 0x0102_0304;
const LIMITS: HeadLimits = HeadLimits { max_frame_bytes: 1 << 24, max_head_bytes: 1 << 16 };

/// A request's frame around its body.
fn request(api: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 4];
    frame.extend(api.0.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(CORRELATION_ID.to_be_bytes());
    frame.extend([0, 2, b'm', b'e']);
    if api.request_header_version(version) == 2 {
        // A tagged field that nobody knows: tag 9, one byte.
        frame.extend([1, 9, 1, 7]);
    }
    frame.extend(body);
    let body_bytes = u32::try_from(frame.len() - 4).unwrap();
    frame[..4].copy_from_slice(&body_bytes.to_be_bytes());
    frame
}

fn head(frame: &[u8]) -> Head {
    parse_head(frame, &LIMITS).unwrap().expect("a whole frame")
}

fn answer_to(frame: &[u8], denial: Denial) -> Result<Bytes, AnswerError> {
    answer(frame, &head(frame), denial)
}

/// The answer's body, its prefix, correlation id and header held.
fn body(api: ApiKey, version: i16, answer: &Bytes) -> Bytes {
    assert_eq!(answer[..4], u32::try_from(answer.len() - 4).unwrap().to_be_bytes());
    assert_eq!(answer[4..8], CORRELATION_ID.to_be_bytes());
    let kafka = kafka_protocol::messages::ApiKey::try_from(api.0);
    let header = kafka.map_or(i16::from(api.is_flexible(version)), |kafka| kafka.response_header_version(version));
    match header {
        0 => answer.slice(8..),
        _ => {
            assert_eq!(answer[8], 0, "no tagged fields");
            answer.slice(9..)
        }
    }
}

/// What is answered, for a reader to see where a gap is. A row more or less belongs here, and into `recorded.txt`.
#[test]
fn these_are_the_denials_of_each_api() {
    let mut rows = String::new();
    for row in &TABLE {
        writeln!(rows, "{} {:?} {}-{}", row.api.name(), row.denial, row.first, row.last).unwrap();
    }
    assert_eq!(
        rows,
        "Fetch NotLeader 0-18\n\
         Fetch FetchSessionNotFound 7-18\n\
         ListOffsets NotLeader 0-11\n\
         DeleteRecords NotLeader 0-2\n\
         OffsetForLeaderEpoch NotLeader 0-4\n\
         DescribeProducers NotLeader 0-0\n\
         ShareFetch NotLeader 1-2\n\
         ShareFetch ShareSessionNotFound 1-2\n\
         ShareAcknowledge NotLeader 1-2\n\
         ShareAcknowledge ShareSessionNotFound 1-2\n\
         OffsetCommit NotCoordinator 0-10\n\
         OffsetFetch NotCoordinator 0-10\n\
         JoinGroup NotCoordinator 0-9\n\
         Heartbeat NotCoordinator 0-4\n\
         LeaveGroup NotCoordinator 0-5\n\
         SyncGroup NotCoordinator 0-5\n\
         DescribeGroups NotCoordinator 0-6\n\
         DeleteGroups NotCoordinator 0-3\n\
         OffsetDelete NotCoordinator 0-0\n\
         InitProducerId NotCoordinator 0-6\n\
         AddPartitionsToTxn NotCoordinator 0-5\n\
         AddOffsetsToTxn NotCoordinator 0-4\n\
         EndTxn NotCoordinator 0-5\n\
         TxnOffsetCommit NotCoordinator 0-6\n\
         DescribeTransactions NotCoordinator 0-0\n\
         ConsumerGroupHeartbeat NotCoordinator 0-1\n\
         ConsumerGroupDescribe NotCoordinator 0-1\n\
         ShareGroupHeartbeat NotCoordinator 1-1\n\
         ShareGroupDescribe NotCoordinator 1-1\n\
         StreamsGroupHeartbeat NotCoordinator 0-1\n\
         StreamsGroupDescribe NotCoordinator 0-1\n\
         DescribeShareGroupOffsets NotCoordinator 0-1\n\
         AlterShareGroupOffsets NotCoordinator 0-0\n\
         DeleteShareGroupOffsets NotCoordinator 0-0\n\
         StreamsGroupTopologyDescriptionUpdate NotCoordinator 0-0\n"
    );
}

/// What is served and has no denial: any broker answers it, or the controller, or one named broker; or, Produce, it goes elsewhere; or,
/// WriteTxnMarkers, only an administrator sends it.
#[test]
fn these_apis_have_none() {
    let none: Vec<&str> = ApiKey::all()
        .iter()
        .filter(|spec| !spec.between_servers && TABLE.iter().all(|row| row.api != spec.key))
        .map(|spec| spec.name)
        .collect();
    assert_eq!(
        none.join(" "),
        "Produce Metadata FindCoordinator ListGroups SaslHandshake ApiVersions CreateTopics DeleteTopics WriteTxnMarkers DescribeAcls \
         CreateAcls DeleteAcls DescribeConfigs AlterConfigs AlterReplicaLogDirs DescribeLogDirs SaslAuthenticate CreatePartitions \
         CreateDelegationToken RenewDelegationToken ExpireDelegationToken DescribeDelegationToken ElectLeaders IncrementalAlterConfigs \
         AlterPartitionReassignments ListPartitionReassignments DescribeClientQuotas AlterClientQuotas DescribeUserScramCredentials \
         AlterUserScramCredentials DescribeQuorum UpdateFeatures DescribeCluster UnregisterBroker ListTransactions \
         GetTelemetrySubscriptions PushTelemetry ListConfigResources DescribeTopicPartitions AddRaftVoter RemoveRaftVoter \
         UnregisterController"
    );
}

#[test]
fn every_version_that_is_served_is_answered() {
    for row in &TABLE {
        let served = row.api.spec().unwrap().max_version;
        assert!(row.last >= served, "{}: {served} is served, {} is known", row.api.name(), row.last);
        assert!((row.first..=row.last).all(|version| can_answer(row.api, version, row.denial)));
    }
}

#[test]
fn what_is_not_known_or_never_said_is_an_error_that_names_it() {
    let above = answer_to(&request(ApiKey::HEARTBEAT, 5, &[]), Denial::NotCoordinator).unwrap_err();
    assert_eq!(above, AnswerError::Version { api: ApiKey::HEARTBEAT, version: 5, denial: Denial::NotCoordinator });
    assert_eq!(above.to_string(), "Heartbeat v5 cannot be answered with error 16: its layout is not known, or has no place for it");
    let no_place = answer_to(&request(ApiKey::FETCH, 6, &[]), Denial::FetchSessionNotFound).unwrap_err();
    assert_eq!(no_place, AnswerError::Version { api: ApiKey::FETCH, version: 6, denial: Denial::FetchSessionNotFound });
    let early = answer_to(&request(ApiKey::SHARE_FETCH, 0, &[]), Denial::NotLeader).unwrap_err();
    assert_eq!(early, AnswerError::Version { api: ApiKey::SHARE_FETCH, version: 0, denial: Denial::NotLeader });
    let never = answer_to(&request(ApiKey::HEARTBEAT, 4, &[]), Denial::NotLeader).unwrap_err();
    assert_eq!(never, AnswerError::NeverSaid { api: ApiKey::HEARTBEAT, denial: Denial::NotLeader });
    assert_eq!(never.to_string(), "Heartbeat is never answered with error 6");
    let unknown = answer_to(&request(ApiKey(1234), 0, &[]), Denial::NotLeader).unwrap_err();
    assert_eq!(unknown, AnswerError::NeverSaid { api: ApiKey(1234), denial: Denial::NotLeader });
    assert!(!can_answer(ApiKey::METADATA, 12, Denial::NotLeader));
}
