//! The table of Kafka's APIs.
//!
//! Invariant: row n is key n. Deliberately absent: what becomes of a request; who answers it.

/// A Kafka API key, as it stands in the first two bytes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApiKey(pub i16);

#[allow(missing_docs)]
impl ApiKey {
    pub const PRODUCE: ApiKey = ApiKey(0);
    pub const FETCH: ApiKey = ApiKey(1);
    pub const LIST_OFFSETS: ApiKey = ApiKey(2);
    pub const METADATA: ApiKey = ApiKey(3);
    pub const CONTROLLED_SHUTDOWN: ApiKey = ApiKey(7);
    pub const OFFSET_COMMIT: ApiKey = ApiKey(8);
    pub const OFFSET_FETCH: ApiKey = ApiKey(9);
    pub const FIND_COORDINATOR: ApiKey = ApiKey(10);
    pub const JOIN_GROUP: ApiKey = ApiKey(11);
    pub const HEARTBEAT: ApiKey = ApiKey(12);
    pub const LEAVE_GROUP: ApiKey = ApiKey(13);
    pub const SYNC_GROUP: ApiKey = ApiKey(14);
    pub const DESCRIBE_GROUPS: ApiKey = ApiKey(15);
    pub const LIST_GROUPS: ApiKey = ApiKey(16);
    pub const SASL_HANDSHAKE: ApiKey = ApiKey(17);
    pub const API_VERSIONS: ApiKey = ApiKey(18);
    pub const DELETE_RECORDS: ApiKey = ApiKey(21);
    pub const INIT_PRODUCER_ID: ApiKey = ApiKey(22);
    pub const OFFSET_FOR_LEADER_EPOCH: ApiKey = ApiKey(23);
    pub const ADD_PARTITIONS_TO_TXN: ApiKey = ApiKey(24);
    pub const ADD_OFFSETS_TO_TXN: ApiKey = ApiKey(25);
    pub const END_TXN: ApiKey = ApiKey(26);
    pub const TXN_OFFSET_COMMIT: ApiKey = ApiKey(28);
    pub const DESCRIBE_CONFIGS: ApiKey = ApiKey(32);
    pub const ALTER_CONFIGS: ApiKey = ApiKey(33);
    pub const ALTER_REPLICA_LOG_DIRS: ApiKey = ApiKey(34);
    pub const DESCRIBE_LOG_DIRS: ApiKey = ApiKey(35);
    pub const SASL_AUTHENTICATE: ApiKey = ApiKey(36);
    pub const DELETE_GROUPS: ApiKey = ApiKey(42);
    pub const INCREMENTAL_ALTER_CONFIGS: ApiKey = ApiKey(44);
    pub const OFFSET_DELETE: ApiKey = ApiKey(47);
    pub const DESCRIBE_CLUSTER: ApiKey = ApiKey(60);
    pub const DESCRIBE_PRODUCERS: ApiKey = ApiKey(61);
    pub const DESCRIBE_TRANSACTIONS: ApiKey = ApiKey(65);
    pub const LIST_TRANSACTIONS: ApiKey = ApiKey(66);
    pub const CONSUMER_GROUP_HEARTBEAT: ApiKey = ApiKey(68);
    pub const CONSUMER_GROUP_DESCRIBE: ApiKey = ApiKey(69);
    pub const SHARE_GROUP_HEARTBEAT: ApiKey = ApiKey(76);
    pub const SHARE_GROUP_DESCRIBE: ApiKey = ApiKey(77);
    pub const SHARE_FETCH: ApiKey = ApiKey(78);
    pub const SHARE_ACKNOWLEDGE: ApiKey = ApiKey(79);
    pub const STREAMS_GROUP_HEARTBEAT: ApiKey = ApiKey(88);
    pub const STREAMS_GROUP_DESCRIBE: ApiKey = ApiKey(89);
    pub const DESCRIBE_SHARE_GROUP_OFFSETS: ApiKey = ApiKey(90);
    pub const ALTER_SHARE_GROUP_OFFSETS: ApiKey = ApiKey(91);
    pub const DELETE_SHARE_GROUP_OFFSETS: ApiKey = ApiKey(92);
    pub const STREAMS_GROUP_TOPOLOGY_DESCRIPTION_UPDATE: ApiKey = ApiKey(93);

    /// The row of the table, or `None` for a key that this build does not know.
    #[inline]
    pub fn spec(self) -> Option<&'static ApiSpec> {
        TABLE.get(usize::try_from(self.0).ok()?)
    }

    /// The API's name (`Produce`), or `Unknown`; a bounded set, fit for a metric's label.
    pub fn name(self) -> &'static str {
        self.spec().map_or("Unknown", |spec| spec.name)
    }

    /// Every API that this build knows, ascending by key.
    pub fn all() -> &'static [ApiSpec] {
        &TABLE
    }

    /// The version of the request's header: 0 (no client id: ControlledShutdown 0 alone), 1, or 2 (tagged fields behind the client
    /// id, KIP-482). An unknown key counts as 1, which is as far as its header can be read.
    #[inline]
    pub fn request_header_version(self, version: i16) -> i16 {
        if self == ApiKey::CONTROLLED_SHUTDOWN && version == 0 {
            return 0;
        }
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of the response's header: 0, or 1 (tagged fields behind the correlation id). ApiVersions always answers with 0, so
    /// that a client can read the answer to a version that the broker lacks (KIP-511).
    #[inline]
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self != ApiKey::API_VERSIONS && self.is_flexible(version))
    }

    /// Whether bodies of this version are flexible (KIP-482).
    #[inline]
    pub fn is_flexible(self, version: i16) -> bool {
        self.spec().and_then(|spec| spec.first_flexible).is_some_and(|first| version >= first)
    }
}

/// What the table says of one API.
#[derive(Debug, PartialEq, Eq)]
pub struct ApiSpec {
    pub key: ApiKey,
    pub name: &'static str,
    /// The first version whose request header and body are flexible (KIP-482); `None`: none is.
    pub first_flexible: Option<i16>,
    /// The highest version that we can relay without a broker's address slipping through; what ApiVersions is clamped to.
    pub max_version: i16,
    /// Spoken between brokers and controllers only; a client has no use for it, and is not told of it.
    pub between_servers: bool,
}

const fn row(key: i16, name: &'static str, first_flexible: Option<i16>, max_version: i16, between_servers: bool) -> ApiSpec {
    ApiSpec { key: ApiKey(key), name, first_flexible, max_version, between_servers }
}

const fn open(key: i16, name: &'static str, first_flexible: i16, max_version: i16) -> ApiSpec {
    row(key, name, Some(first_flexible), max_version, false)
}

const fn never_flexible(key: i16, name: &'static str, max_version: i16) -> ApiSpec {
    row(key, name, None, max_version, false)
}

const fn internal(key: i16, name: &'static str, first_flexible: i16, max_version: i16) -> ApiSpec {
    row(key, name, Some(first_flexible), max_version, true)
}

/// From Kafka's message definitions as of 4.4.0; keys 4 to 7, which 4.0 removed, as of the last that had them.
///
/// Maxima are Kafka's own, since a response without addresses is opaque to us, but for two: Fetch stops before 16, whose NodeEndpoints
/// lie behind the records, and ApiVersions before 5, which checks the node id and cluster id that the client means (KIP-1242).
/// WriteTxnMarkers stays open: the Java admin client aborts hanging transactions with it (KIP-664).
static TABLE: [ApiSpec; 95] = [
    open(0, "Produce", 9, 13),
    open(1, "Fetch", 12, 15),
    open(2, "ListOffsets", 6, 11),
    open(3, "Metadata", 9, 13),
    internal(4, "LeaderAndIsr", 4, 7),
    internal(5, "StopReplica", 2, 4),
    internal(6, "UpdateMetadata", 6, 8),
    internal(7, "ControlledShutdown", 3, 3),
    open(8, "OffsetCommit", 8, 10),
    open(9, "OffsetFetch", 6, 10),
    open(10, "FindCoordinator", 3, 6),
    open(11, "JoinGroup", 6, 9),
    open(12, "Heartbeat", 4, 4),
    open(13, "LeaveGroup", 4, 5),
    open(14, "SyncGroup", 4, 5),
    open(15, "DescribeGroups", 5, 6),
    open(16, "ListGroups", 3, 5),
    never_flexible(17, "SaslHandshake", 1),
    open(18, "ApiVersions", 3, 4),
    open(19, "CreateTopics", 5, 7),
    open(20, "DeleteTopics", 4, 6),
    open(21, "DeleteRecords", 2, 2),
    open(22, "InitProducerId", 2, 6),
    open(23, "OffsetForLeaderEpoch", 4, 4),
    open(24, "AddPartitionsToTxn", 3, 5),
    open(25, "AddOffsetsToTxn", 3, 4),
    open(26, "EndTxn", 3, 5),
    open(27, "WriteTxnMarkers", 1, 2),
    open(28, "TxnOffsetCommit", 3, 6),
    open(29, "DescribeAcls", 2, 3),
    open(30, "CreateAcls", 2, 3),
    open(31, "DeleteAcls", 2, 3),
    open(32, "DescribeConfigs", 4, 4),
    open(33, "AlterConfigs", 2, 2),
    open(34, "AlterReplicaLogDirs", 2, 2),
    open(35, "DescribeLogDirs", 2, 5),
    open(36, "SaslAuthenticate", 2, 2),
    open(37, "CreatePartitions", 2, 3),
    open(38, "CreateDelegationToken", 2, 3),
    open(39, "RenewDelegationToken", 2, 2),
    open(40, "ExpireDelegationToken", 2, 2),
    open(41, "DescribeDelegationToken", 2, 3),
    open(42, "DeleteGroups", 2, 3),
    open(43, "ElectLeaders", 2, 2),
    open(44, "IncrementalAlterConfigs", 1, 1),
    open(45, "AlterPartitionReassignments", 0, 1),
    open(46, "ListPartitionReassignments", 0, 0),
    never_flexible(47, "OffsetDelete", 0),
    open(48, "DescribeClientQuotas", 1, 1),
    open(49, "AlterClientQuotas", 1, 1),
    open(50, "DescribeUserScramCredentials", 0, 0),
    open(51, "AlterUserScramCredentials", 0, 0),
    internal(52, "Vote", 0, 2),
    internal(53, "BeginQuorumEpoch", 1, 1),
    internal(54, "EndQuorumEpoch", 1, 1),
    open(55, "DescribeQuorum", 0, 2),
    internal(56, "AlterPartition", 0, 3),
    open(57, "UpdateFeatures", 0, 2),
    internal(58, "Envelope", 0, 0),
    internal(59, "FetchSnapshot", 0, 1),
    open(60, "DescribeCluster", 0, 2),
    open(61, "DescribeProducers", 0, 0),
    internal(62, "BrokerRegistration", 0, 4),
    internal(63, "BrokerHeartbeat", 0, 2),
    open(64, "UnregisterBroker", 0, 0),
    open(65, "DescribeTransactions", 0, 0),
    open(66, "ListTransactions", 0, 2),
    internal(67, "AllocateProducerIds", 0, 0),
    open(68, "ConsumerGroupHeartbeat", 0, 1),
    open(69, "ConsumerGroupDescribe", 0, 1),
    internal(70, "ControllerRegistration", 0, 0),
    open(71, "GetTelemetrySubscriptions", 0, 0),
    open(72, "PushTelemetry", 0, 0),
    internal(73, "AssignReplicasToDirs", 0, 0),
    open(74, "ListConfigResources", 0, 1),
    open(75, "DescribeTopicPartitions", 0, 0),
    open(76, "ShareGroupHeartbeat", 0, 1),
    open(77, "ShareGroupDescribe", 0, 1),
    open(78, "ShareFetch", 0, 2),
    open(79, "ShareAcknowledge", 0, 2),
    open(80, "AddRaftVoter", 0, 1),
    open(81, "RemoveRaftVoter", 0, 0),
    internal(82, "UpdateRaftVoter", 0, 0),
    internal(83, "InitializeShareGroupState", 0, 0),
    internal(84, "ReadShareGroupState", 0, 0),
    internal(85, "WriteShareGroupState", 0, 1),
    internal(86, "DeleteShareGroupState", 0, 0),
    internal(87, "ReadShareGroupStateSummary", 0, 1),
    open(88, "StreamsGroupHeartbeat", 0, 1),
    open(89, "StreamsGroupDescribe", 0, 1),
    open(90, "DescribeShareGroupOffsets", 0, 1),
    open(91, "AlterShareGroupOffsets", 0, 0),
    open(92, "DeleteShareGroupOffsets", 0, 0),
    open(93, "StreamsGroupTopologyDescriptionUpdate", 0, 0),
    open(94, "UnregisterController", 0, 0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_at_their_keys_and_have_names_of_their_own() {
        let mut names = std::collections::BTreeSet::new();
        for (index, spec) in ApiKey::all().iter().enumerate() {
            assert_eq!(spec.key, ApiKey(index as i16));
            assert!(names.insert(spec.name), "{} stands twice", spec.name);
            assert!(spec.max_version >= 0);
        }
        assert_eq!(ApiKey(-1).spec(), None);
        assert_eq!(ApiKey(95).spec(), None);
        assert_eq!(ApiKey(i16::MAX).name(), "Unknown");
    }

    #[test]
    fn header_versions_and_names_agree_with_the_kafka_protocol_crate() {
        for key in kafka_protocol::messages::ApiKey::iter() {
            let ours = ApiKey(key as i16);
            assert_eq!(ours.name(), format!("{key:?}"));
            let versions = key.valid_versions();
            for version in versions.min..=versions.max {
                assert_eq!(ours.request_header_version(version), key.request_header_version(version), "{key:?} v{version}");
                assert_eq!(ours.response_header_version(version), key.response_header_version(version), "{key:?} v{version}");
            }
        }
    }

    #[test]
    fn the_odd_headers_are_odd() {
        assert_eq!(ApiKey::CONTROLLED_SHUTDOWN.request_header_version(0), 0);
        assert_eq!(ApiKey::CONTROLLED_SHUTDOWN.request_header_version(1), 1);
        assert_eq!(ApiKey::API_VERSIONS.request_header_version(3), 2);
        assert_eq!(ApiKey::API_VERSIONS.response_header_version(3), 0);
        assert_eq!(ApiKey(1000).request_header_version(9), 1);
    }
}
