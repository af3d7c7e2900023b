//! Every API in every version that is served: asked, refused and answered in a form that decodes.

use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::txn_offset_commit_request::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Request;
use uuid::Uuid;

use super::{text, topic_name};
use crate::sim::bench::{Bench, Made};
use crate::sim::cluster::{ConnId, Options};
use crate::sim::fault::{Fault, Rule};
use crate::sim::profile::Profile;

struct Asker {
    bench: Bench,
    conn: ConnId,
    profile: Profile,
    asked: Vec<ApiKey>,
}

impl Asker {
    fn new(profile: Profile) -> Asker {
        let mut bench = Bench::with(Options { brokers: 1, profile, ..Options::default() });
        bench.cluster.create_topic("t", 2);
        let conn = bench.connect(0);
        bench.produce(conn, "t", 0, Made::plain(2));
        Asker { bench, conn, profile, asked: Vec::new() }
    }

    fn each<R: Request>(&mut self, make: impl Fn(i16) -> R) {
        let api = ApiKey::try_from(R::KEY).expect("a known API");
        for version in (0..20).filter(|version| self.profile.serves(api, *version)) {
            let _ = self.bench.ask(self.conn, version, &make(version));
            self.bench.cluster.inject(Rule::new(Fault::Error(42)).on_api(R::KEY).times(1));
            let _ = self.bench.ask(self.conn, version, &make(version));
        }
        self.asked.push(api);
    }

    fn topic_id(&self) -> Uuid {
        self.bench.cluster.image().topics["t"].id
    }
}

fn ask_everything(profile: Profile) -> Asker {
    let mut asker = Asker::new(profile);
    let id = asker.topic_id();
    asker.each(|_| ApiVersionsRequest::default());
    asker.each(|version| {
        let named = MetadataRequestTopic::default().with_name(Some(topic_name("t")));
        let missing = MetadataRequestTopic::default().with_name(Some(topic_name("missing")));
        let by_id = MetadataRequestTopic::default().with_topic_id(Uuid::from_u128(5)).with_name(None);
        let topics = if version >= 12 { vec![named, missing, by_id] } else { vec![named, missing] };
        MetadataRequest::default().with_topics(Some(topics))
    });
    asker.each(|version| {
        let mut request = Bench::produce_request("t", 0, -1, Made::plain(1));
        if version >= 13 {
            request.topic_data[0].name = TopicName::default();
            request.topic_data[0].topic_id = id;
        }
        request
    });
    asker.each(|version| {
        let partition = FetchPartition::default().with_partition_max_bytes(1_000_000);
        let topic = FetchTopic::default().with_partitions(vec![partition]);
        let topic = if version >= 13 { topic.with_topic_id(id) } else { topic.with_topic(topic_name("t")) };
        FetchRequest::default().with_max_bytes(1_000_000).with_isolation_level(1).with_topics(vec![topic])
    });
    asker.each(|_| {
        let partitions = [-1, -2, 0].map(|timestamp| ListOffsetsPartition::default().with_timestamp(timestamp));
        let topic = ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(partitions.to_vec());
        ListOffsetsRequest::default().with_topics(vec![topic])
    });
    asker.each(|_| {
        let topic = OffsetForLeaderTopic::default().with_topic(topic_name("t"));
        let topic = topic.with_partitions(vec![OffsetForLeaderPartition::default().with_current_leader_epoch(-1)]);
        OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
    });
    asker.each(|version| {
        let request = FindCoordinatorRequest::default();
        if version >= 4 { request.with_coordinator_keys(vec![text("g"), text("h")]) } else { request.with_key(text("g")) }
    });
    asker.each(|version| DescribeClusterRequest::default().with_include_fenced_brokers(version >= 2));
    asker.each(|version| {
        let topic = CreatableTopic::default().with_name(topic_name(&format!("new-{version}")));
        CreateTopicsRequest::default().with_topics(vec![topic.with_num_partitions(1).with_replication_factor(1)])
    });
    asker.each(|version| {
        let topic = CreatePartitionsTopic::default().with_name(topic_name("t")).with_count(3 + i32::from(version));
        CreatePartitionsRequest::default().with_topics(vec![topic])
    });
    asker.each(|version| {
        let name = topic_name(&format!("new-{version}"));
        let request = DeleteTopicsRequest::default();
        if version >= 6 {
            request.with_topics(vec![DeleteTopicState::default().with_name(Some(name))])
        } else {
            request.with_topic_names(vec![name])
        }
    });
    asker.each(|_| {
        let partition = DeleteRecordsPartition::default().with_offset(1);
        let topic = DeleteRecordsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
        DeleteRecordsRequest::default().with_topics(vec![topic])
    });
    asker.each(|_| {
        let topic = TopicRequest::default().with_name(topic_name("t")).with_partition_indexes(vec![0, 9]);
        DescribeProducersRequest::default().with_topics(vec![topic])
    });
    asker.each(|_| {
        let topic = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text("t"));
        let broker = DescribeConfigsResource::default().with_resource_type(4).with_resource_name(text("0"));
        DescribeConfigsRequest::default().with_resources(vec![topic, broker])
    });
    ask_groups(&mut asker);
    ask_transactions(&mut asker);
    asker.each(|_| SaslHandshakeRequest::default());
    asker
}

fn ask_groups(asker: &mut Asker) {
    let group = || GroupId(text("g"));
    asker.each(|version| {
        let request = JoinGroupRequest::default().with_group_id(GroupId(text(&format!("g{version}")))).with_session_timeout_ms(10_000);
        let request = request.with_protocol_type(text("consumer")).with_rebalance_timeout_ms(10_000);
        request.with_protocols(vec![JoinGroupRequestProtocol::default().with_name(text("range"))])
    });
    asker.each(|_| SyncGroupRequest::default().with_group_id(GroupId(text("g0"))).with_generation_id(1));
    asker.each(|_| HeartbeatRequest::default().with_group_id(GroupId(text("g0"))));
    asker.each(|version| {
        let request = LeaveGroupRequest::default().with_group_id(GroupId(text("g0")));
        if version >= 3 { request.with_members(vec![leave_group_request::MemberIdentity::default()]) } else { request }
    });
    asker.each(|_| {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(3).with_committed_metadata(Some(text("m")));
        let topic = OffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
        OffsetCommitRequest::default().with_group_id(group()).with_generation_id_or_member_epoch(-1).with_topics(vec![topic])
    });
    asker.each(|version| {
        let request = OffsetFetchRequest::default();
        if version >= 8 {
            let topic = OffsetFetchRequestTopics::default().with_name(topic_name("t")).with_partition_indexes(vec![0, 1]);
            let named = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(Some(vec![topic]));
            let all = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(None);
            return request.with_groups(vec![named, all]);
        }
        let topic = OffsetFetchRequestTopic::default().with_name(topic_name("t")).with_partition_indexes(vec![0, 1]);
        request.with_group_id(group()).with_topics(Some(vec![topic]))
    });
    asker.each(|_| ListGroupsRequest::default());
    asker.each(|_| DescribeGroupsRequest::default().with_groups(vec![group(), GroupId(text("g1")), GroupId(text("none"))]));
    asker.each(|_| DeleteGroupsRequest::default().with_groups_names(vec![group(), GroupId(text("none"))]));
}

fn ask_transactions(asker: &mut Asker) {
    let id = || TransactionalId(text("tx"));
    asker.each(|_| InitProducerIdRequest::default().with_transactional_id(Some(id())).with_transaction_timeout_ms(60_000));
    asker.each(|version| {
        let topics = vec![AddPartitionsToTxnTopic::default().with_name(topic_name("t")).with_partitions(vec![0, 1])];
        if version >= 4 {
            let transaction = AddPartitionsToTxnTransaction::default().with_transactional_id(id()).with_topics(topics);
            return AddPartitionsToTxnRequest::default().with_transactions(vec![transaction]);
        }
        AddPartitionsToTxnRequest::default().with_v3_and_below_transactional_id(id()).with_v3_and_below_topics(topics)
    });
    asker.each(|_| AddOffsetsToTxnRequest::default().with_transactional_id(id()).with_group_id(GroupId(text("g"))));
    asker.each(|_| {
        let partition = TxnOffsetCommitRequestPartition::default();
        let topic = TxnOffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
        TxnOffsetCommitRequest::default().with_transactional_id(id()).with_group_id(GroupId(text("g"))).with_topics(vec![topic])
    });
    asker.each(|_| EndTxnRequest::default().with_transactional_id(id()));
}

#[test]
fn everything_that_is_served_answers_in_every_version() {
    for profile in [Profile::V4, Profile::V3_6] {
        let asker = ask_everything(profile);
        assert_eq!(asker.bench.cluster.unexpected(), [] as [&str; 0]);
        let missed: Vec<ApiKey> = profile.listed().iter().map(|row| row.api).filter(|api| !asker.asked.contains(api)).collect();
        assert_eq!(missed, []);
    }
}

#[test]
fn what_is_not_served_closes_and_api_versions_says_35() {
    let mut bench = Bench::with(Options { profile: Profile::V3_6, ..Options::default() });
    let conn = bench.connect(0);
    let frame = crate::sim::frame::encode_request(ApiKey::ApiVersions, 3, 7, "bench", &ApiVersionsRequest::default());
    let mut frame = frame.expect("it encodes").to_vec();
    frame[3] = 5;
    bench.cluster.receive(bench.now, conn, frame.into());
    let answer = bench.answer::<ApiVersionsRequest>(conn, 0).expect("an answer in version 0");
    assert_eq!((answer.error_code, answer.api_keys.is_empty()), (35, false));
    bench.send(conn, 13, &MetadataRequest::default());
    assert!(bench.is_closed(conn) && bench.cluster.unexpected().len() == 1);
}
