//! How a request is served: its head, hooks and faults, and then the one file that knows its API.
//!
//! Invariant: a request is decoded once, in its own version, and its answer is encoded in the same. Deliberately not here: any API's
//! rules.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::cluster::{Cluster, ConnId};
use super::fault::{Exchange, Fault, Verdict};
use super::frame::{self, RequestHead};

pub(crate) mod add_offsets_to_txn;
pub(crate) mod add_partitions_to_txn;
pub(crate) mod api_versions;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_groups;
pub(crate) mod delete_records;
pub(crate) mod delete_topics;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_groups;
pub(crate) mod describe_producers;
pub(crate) mod end_txn;
#[cfg(test)]
mod every_version;
pub(crate) mod fetch;
pub(crate) mod fetch_read;
#[cfg(test)]
mod fetch_tests;
pub(crate) mod find_coordinator;
pub(crate) mod heartbeat;
pub(crate) mod init_producer_id;
pub(crate) mod join_group;
pub(crate) mod leave_group;
pub(crate) mod list_groups;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod offset_commit;
pub(crate) mod offset_fetch;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;
pub(crate) mod sasl_handshake;
pub(crate) mod sync_group;
pub(crate) mod txn_offset_commit;

/// A request under way: enough to answer it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) broker: i32,
    pub(crate) conn: ConnId,
    pub(crate) ticket: u64,
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: String,
    pub(crate) fault: Option<Fault>,
}

impl Call {
    /// The answer to this call.
    pub(crate) fn reply<T: Encodable>(&self, response: &T) -> Reply {
        match frame::encode_response(self.api, self.version, self.correlation_id, response) {
            Ok(frame) => Reply::Now(frame),
            Err(error) => {
                debug_assert!(false, "an answer of the simulation cannot be encoded: {error}");
                Reply::Close
            }
        }
    }
}

/// What a handler makes of a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// This answer.
    Now(Bytes),
    /// An answer will come through `Cluster::complete`.
    Later,
    /// No answer, ever (acks=0).
    Nothing,
    /// The connection closes.
    Close,
}

/// A handled request, for the connection it came on.
pub(crate) enum Served {
    Answer(Call, Bytes),
    AnswerAfter(Call, Duration, Bytes),
    Later,
    Nothing(Call),
    Close,
}

/// One API of a broker.
pub(crate) trait Api {
    type Request: Decodable + Clone;

    /// Carries the request out.
    fn handle(cluster: &mut Cluster, call: &Call, request: Self::Request) -> Reply;

    /// The answer that says `error_code` wherever this API has room for one.
    fn refuse(cluster: &mut Cluster, call: &Call, request: Self::Request, error_code: i16) -> Reply;
}

/// Serves one request of a connection.
pub(crate) fn serve(cluster: &mut Cluster, conn: ConnId, broker: i32, ticket: u64, frame: Bytes) -> Served {
    let head = match frame::head(&frame) {
        Ok(head) => head,
        Err(error) => {
            cluster.observed.strange(format!("broker {broker}: {error}"));
            return Served::Close;
        }
    };
    cluster.observed.requested(broker, head.api_key, head.version);
    let Ok(api) = ApiKey::try_from(head.api_key) else {
        cluster.observed.strange(format!("broker {broker}: unknown API key {}", head.api_key));
        return Served::Close;
    };
    let mut call = Call {
        broker,
        conn,
        ticket,
        api,
        version: head.version,
        correlation_id: head.correlation_id,
        client_id: String::new(),
        fault: None,
    };
    let mut faults = cluster.faults.matching(cluster.now, broker, head.api_key);
    match ask_hooks(cluster, &call, head, &frame) {
        Verdict::Pass => {}
        Verdict::Inflict(fault) => faults.push(fault),
        Verdict::Answer(answer) => return Served::Answer(call, answer),
        Verdict::AnswerAfter(by, answer) => return Served::AnswerAfter(call, by, answer),
    }
    if faults.contains(&Fault::Close) {
        return Served::Close;
    }
    let is_lasting = |fault: &&Fault| matches!(fault, Fault::Delay(_) | Fault::DropAnswer | Fault::Silence);
    call.fault = faults.iter().find(is_lasting).copied();
    let reply = dispatch(cluster, &mut call, &frame, &faults);
    match reply {
        Reply::Now(answer) => Served::Answer(call, answer),
        Reply::Later => Served::Later,
        Reply::Nothing => Served::Nothing(call),
        Reply::Close => Served::Close,
    }
}

fn ask_hooks(cluster: &mut Cluster, call: &Call, head: RequestHead, frame: &Bytes) -> Verdict {
    let mut hooks = cluster.faults.take_hooks();
    if hooks.is_empty() {
        return Verdict::Pass;
    }
    let exchange = Exchange {
        now: cluster.now,
        broker: call.broker,
        conn: call.conn,
        api_key: head.api_key,
        version: head.version,
        correlation_id: head.correlation_id,
        frame: frame.clone(),
    };
    let verdict = hooks.iter_mut().map(|hook| hook(&exchange, cluster)).find(|verdict| *verdict != Verdict::Pass);
    cluster.faults.put_hooks_back(hooks);
    verdict.unwrap_or(Verdict::Pass)
}

fn run<A: Api>(cluster: &mut Cluster, call: &mut Call, frame: &Bytes, faults: &[Fault]) -> Reply {
    let (header, request) = match frame::decode_request::<A::Request>(frame) {
        Ok(decoded) => decoded,
        Err(error) => {
            cluster.observed.strange(format!("broker {}: {error}", call.broker));
            return Reply::Close;
        }
    };
    call.client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    for fault in faults {
        match fault {
            Fault::Error(error_code) => return A::refuse(cluster, call, request, *error_code),
            Fault::ErrorAfterApplying(error_code) => {
                let _ = A::handle(cluster, call, request.clone());
                return A::refuse(cluster, call, request, *error_code);
            }
            _ => {}
        }
    }
    A::handle(cluster, call, request)
}

fn dispatch(cluster: &mut Cluster, call: &mut Call, frame: &Bytes, faults: &[Fault]) -> Reply {
    let profile = cluster.brokers.get(&call.broker).map(|broker| broker.profile).unwrap_or_default();
    if !profile.serves(call.api, call.version) {
        if call.api == ApiKey::ApiVersions {
            return api_versions::unsupported(call, profile);
        }
        cluster.observed.strange(format!("broker {}: {:?} version {} is not served", call.broker, call.api, call.version));
        return Reply::Close;
    }
    match call.api {
        ApiKey::AddOffsetsToTxn => run::<add_offsets_to_txn::AddOffsetsToTxn>(cluster, call, frame, faults),
        ApiKey::AddPartitionsToTxn => run::<add_partitions_to_txn::AddPartitionsToTxn>(cluster, call, frame, faults),
        ApiKey::ApiVersions => run::<api_versions::ApiVersions>(cluster, call, frame, faults),
        ApiKey::CreatePartitions => run::<create_partitions::CreatePartitions>(cluster, call, frame, faults),
        ApiKey::CreateTopics => run::<create_topics::CreateTopics>(cluster, call, frame, faults),
        ApiKey::DeleteGroups => run::<delete_groups::DeleteGroups>(cluster, call, frame, faults),
        ApiKey::DeleteRecords => run::<delete_records::DeleteRecords>(cluster, call, frame, faults),
        ApiKey::DeleteTopics => run::<delete_topics::DeleteTopics>(cluster, call, frame, faults),
        ApiKey::DescribeCluster => run::<describe_cluster::DescribeCluster>(cluster, call, frame, faults),
        ApiKey::DescribeConfigs => run::<describe_configs::DescribeConfigs>(cluster, call, frame, faults),
        ApiKey::DescribeGroups => run::<describe_groups::DescribeGroups>(cluster, call, frame, faults),
        ApiKey::DescribeProducers => run::<describe_producers::DescribeProducers>(cluster, call, frame, faults),
        ApiKey::EndTxn => run::<end_txn::EndTxn>(cluster, call, frame, faults),
        ApiKey::Fetch => run::<fetch::Fetch>(cluster, call, frame, faults),
        ApiKey::FindCoordinator => run::<find_coordinator::FindCoordinator>(cluster, call, frame, faults),
        ApiKey::Heartbeat => run::<heartbeat::Heartbeat>(cluster, call, frame, faults),
        ApiKey::InitProducerId => run::<init_producer_id::InitProducerId>(cluster, call, frame, faults),
        ApiKey::JoinGroup => run::<join_group::JoinGroup>(cluster, call, frame, faults),
        ApiKey::LeaveGroup => run::<leave_group::LeaveGroup>(cluster, call, frame, faults),
        ApiKey::ListGroups => run::<list_groups::ListGroups>(cluster, call, frame, faults),
        ApiKey::ListOffsets => run::<list_offsets::ListOffsets>(cluster, call, frame, faults),
        ApiKey::Metadata => run::<metadata::Metadata>(cluster, call, frame, faults),
        ApiKey::OffsetCommit => run::<offset_commit::OffsetCommit>(cluster, call, frame, faults),
        ApiKey::OffsetFetch => run::<offset_fetch::OffsetFetch>(cluster, call, frame, faults),
        ApiKey::OffsetForLeaderEpoch => run::<offset_for_leader_epoch::OffsetForLeaderEpoch>(cluster, call, frame, faults),
        ApiKey::Produce => run::<produce::Produce>(cluster, call, frame, faults),
        ApiKey::SaslHandshake => run::<sasl_handshake::SaslHandshake>(cluster, call, frame, faults),
        ApiKey::SyncGroup => run::<sync_group::SyncGroup>(cluster, call, frame, faults),
        ApiKey::TxnOffsetCommit => run::<txn_offset_commit::TxnOffsetCommit>(cluster, call, frame, faults),
        // The profile serves nothing else.
        _ => Reply::Close,
    }
}

/// A string of the protocol.
pub(crate) fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

/// A topic's name in the protocol.
pub(crate) fn topic_name(value: &str) -> TopicName {
    TopicName(text(value))
}
