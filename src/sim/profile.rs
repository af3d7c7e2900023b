//! Which API versions a simulated broker lists and serves.
//!
//! Invariant: what is served is a subset of what is listed. Deliberately not here: behaviour that differs between releases beyond the
//! versions (leader hints follow from the version of the request).

use kafka_protocol::messages::ApiKey;

/// A generation of brokers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// As 3.6 lists them: no leader hints, Produce ≤ 9, Fetch ≤ 15, Metadata ≤ 12, FindCoordinator ≤ 4.
    V3_6,
    /// As 4.1 lists them: Produce 0–13, Fetch 4–18, and so on.
    #[default]
    V4,
}

/// The versions of one API that a broker lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The API.
    pub api: ApiKey,
    /// Smallest version.
    pub min: i16,
    /// Largest version.
    pub max: i16,
}

/// Smallest and largest version.
type Range = (i16, i16);

/// (API, listed by 3.6, listed by 4.1). Both sides are the `validVersions` of Kafka's message schemas (`*Request.json`) in 3.6.2 and 4.1.0,
/// less the newest version where `latestVersionUnstable` keeps brokers from listing it: OffsetCommit in both, OffsetFetch and
/// InitProducerId in 4.1. One minimum is not the schema's: 4.1 lists Produce from 0 for librdkafka's sake and refuses 0–2
/// (`ApiKeys.PRODUCE_API_VERSIONS_RESPONSE_MIN_VERSION`, KAFKA-18659). `ApiVersionsResponse` of either release lists these same ranges.
const TABLE: &[(ApiKey, Range, Range)] = &[
    (ApiKey::Produce, (0, 9), (0, 13)),
    (ApiKey::Fetch, (0, 15), (4, 18)),
    (ApiKey::ListOffsets, (0, 8), (1, 10)),
    (ApiKey::Metadata, (0, 12), (0, 13)),
    (ApiKey::OffsetCommit, (0, 8), (2, 9)),
    (ApiKey::OffsetFetch, (0, 8), (1, 9)),
    (ApiKey::FindCoordinator, (0, 4), (0, 6)),
    (ApiKey::JoinGroup, (0, 9), (0, 9)),
    (ApiKey::Heartbeat, (0, 4), (0, 4)),
    (ApiKey::LeaveGroup, (0, 5), (0, 5)),
    (ApiKey::SyncGroup, (0, 5), (0, 5)),
    (ApiKey::DescribeGroups, (0, 5), (0, 6)),
    (ApiKey::ListGroups, (0, 4), (0, 5)),
    (ApiKey::SaslHandshake, (0, 1), (0, 1)),
    (ApiKey::ApiVersions, (0, 3), (0, 4)),
    (ApiKey::CreateTopics, (0, 7), (2, 7)),
    (ApiKey::DeleteTopics, (0, 6), (1, 6)),
    (ApiKey::DeleteRecords, (0, 2), (0, 2)),
    (ApiKey::InitProducerId, (0, 4), (0, 5)),
    (ApiKey::OffsetForLeaderEpoch, (0, 4), (2, 4)),
    (ApiKey::AddPartitionsToTxn, (0, 4), (0, 5)),
    (ApiKey::AddOffsetsToTxn, (0, 3), (0, 4)),
    (ApiKey::EndTxn, (0, 3), (0, 5)),
    (ApiKey::TxnOffsetCommit, (0, 3), (0, 5)),
    (ApiKey::DescribeConfigs, (0, 4), (1, 4)),
    (ApiKey::CreatePartitions, (0, 3), (0, 3)),
    (ApiKey::DeleteGroups, (0, 2), (0, 2)),
    (ApiKey::DescribeCluster, (0, 0), (0, 2)),
    (ApiKey::DescribeProducers, (0, 0), (0, 0)),
];

impl Profile {
    /// What ApiVersions answers.
    pub fn listed(self) -> Vec<Listed> {
        TABLE.iter().map(|(api, old, new)| self.pick(*api, *old, *new)).collect()
    }

    /// Whether a request of this version is served. The kafka-protocol crate lacks the oldest versions of some APIs: Produce 0–2,
    /// Fetch 0–3 and the like are listed where the release lists them, and not served.
    pub fn serves(self, api: ApiKey, version: i16) -> bool {
        let known = api.valid_versions();
        let listed = TABLE.iter().find(|(key, _, _)| *key == api).map(|(key, old, new)| self.pick(*key, *old, *new));
        listed.is_some_and(|listed| (listed.min..=listed.max).contains(&version)) && (known.min..=known.max).contains(&version)
    }

    fn pick(self, api: ApiKey, old: Range, new: Range) -> Listed {
        let (min, max) = if self == Profile::V3_6 { old } else { new };
        Listed { api, min, max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_broker_serves_no_leader_hints() {
        assert!(Profile::V3_6.serves(ApiKey::Produce, 9) && !Profile::V3_6.serves(ApiKey::Produce, 10));
        assert!(Profile::V3_6.serves(ApiKey::Fetch, 15) && !Profile::V3_6.serves(ApiKey::Fetch, 16));
    }

    #[test]
    fn a_new_broker_lists_produce_zero_and_serves_from_three() {
        let produce = Profile::V4.listed().into_iter().find(|listed| listed.api == ApiKey::Produce);
        assert_eq!(produce.map(|listed| (listed.min, listed.max)), Some((0, 13)));
        assert!(!Profile::V4.serves(ApiKey::Produce, 2) && Profile::V4.serves(ApiKey::Produce, 3));
    }
}
