//! A few brokers that answer ApiVersions, Metadata and FindCoordinator as they are told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use kafka_protocol::messages::{
    ApiKey as Key, ApiVersionsResponse, BrokerId, FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest, MetadataResponse,
    RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::cluster::{Endpoint, NodeId};

/// What the brokers do and what they have seen.
#[derive(Default)]
pub(super) struct Script {
    pub(super) cluster_id: &'static str,
    /// What Metadata lists.
    pub(super) listed: BTreeMap<i32, Endpoint>,
    /// Topic to (leader, epoch) of its one partition.
    pub(super) topics: BTreeMap<&'static str, (i32, i32)>,
    pub(super) metadata_max: i16,
    /// Brokers before 2.4: ApiVersions 3 is answered with error 35.
    pub(super) old: bool,
    /// Reads and never answers.
    pub(super) silent: bool,
    /// These alone are silent: their connections stay open, and new ones are accepted.
    pub(super) frozen: BTreeSet<i32>,
    /// Who answered, or would have, in the order of the requests.
    pub(super) asked_nodes: Vec<i32>,
    pub(super) delay: Duration,
    /// Of each Metadata request: the version, and the topics; `None`: all of them.
    pub(super) metadata_requests: Vec<(i16, Option<Vec<String>>)>,
    /// `None`: the brokers have no FindCoordinator.
    pub(super) find_coordinator_max: Option<i16>,
    /// Key to its coordinator, whatever its kind; others have none.
    pub(super) coordinators: BTreeMap<&'static str, i32>,
    /// These brokers do not answer FindCoordinator.
    pub(super) silent_about_coordinators: BTreeSet<i32>,
    /// Of each FindCoordinator request: the broker, the version, the kind and the keys.
    pub(super) coordinator_requests: Vec<(i32, i16, i8, Vec<String>)>,
    /// By node: ApiVersions requests that were answered without an error.
    pub(super) versions_told: BTreeMap<i32, usize>,
    pub(super) connections: usize,
}

#[derive(Clone)]
pub(super) struct Fake {
    script: Arc<Mutex<Script>>,
}

pub(super) struct FakeBroker {
    pub(super) endpoint: Endpoint,
    serving: JoinHandle<()>,
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Fake {
    pub(super) fn new() -> Fake {
        let script = Script { cluster_id: "fake", metadata_max: 12, ..Script::default() };
        Fake { script: Arc::new(Mutex::new(script)) }
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Starts a broker, which Metadata lists from now on.
    pub(super) async fn start(&self, node: i32) -> FakeBroker {
        let broker = self.start_unlisted(node).await;
        self.script().listed.insert(node, broker.endpoint.clone());
        broker
    }

    pub(super) async fn start_unlisted(&self, node: i32) -> FakeBroker {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() };
        let fake = self.clone();
        let serving = tokio::spawn(async move {
            // Connections end with the broker.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                fake.script().connections += 1;
                connections.spawn(fake.clone().serve(node, stream));
            }
        });
        FakeBroker { endpoint, serving }
    }

    pub(super) fn delist(&self, node: i32) {
        self.script().listed.remove(&node);
    }

    pub(super) fn asked(&self) -> usize {
        self.script().metadata_requests.len()
    }

    async fn serve(self, node: i32, mut stream: TcpStream) -> Option<()> {
        loop {
            let len = stream.read_i32().await.ok()?;
            let mut request = vec![0; usize::try_from(len).unwrap()];
            stream.read_exact(&mut request).await.ok()?;
            let delay = self.script().delay;
            tokio::time::sleep(delay).await;
            let is_frozen = {
                let script = self.script();
                let is_about_coordinators = request.starts_with(&(Key::FindCoordinator as i16).to_be_bytes());
                script.silent
                    || script.frozen.contains(&node)
                    || (is_about_coordinators && script.silent_about_coordinators.contains(&node))
            };
            if is_frozen {
                std::future::pending::<()>().await;
            }
            let response = self.answer(node, Bytes::from(request));
            stream.write_all(&response).await.ok()?;
        }
    }

    fn answer(&self, node: i32, mut request: Bytes) -> BytesMut {
        let mut ahead = request.clone();
        let (key, version) = (ahead.get_i16(), ahead.get_i16());
        let header_version = Key::try_from(key).unwrap().request_header_version(version);
        let header = RequestHeader::decode(&mut request, header_version).unwrap();
        let mut body = BytesMut::new();
        let response_header = ResponseHeader::default().with_correlation_id(header.correlation_id);
        match Key::try_from(key).unwrap() {
            Key::ApiVersions => {
                response_header.encode(&mut body, 0).unwrap();
                let refused = self.script().old && version > 2;
                self.versions(node, refused).encode(&mut body, if refused { 0 } else { version }).unwrap();
            }
            Key::Metadata => {
                let asked = MetadataRequest::decode(&mut request, version).unwrap();
                assert!(version < 4 || !asked.allow_auto_topic_creation, "a request of ours may create a topic");
                response_header.encode(&mut body, Key::Metadata.response_header_version(version)).unwrap();
                self.script().asked_nodes.push(node);
                self.metadata(version, asked).encode(&mut body, version).unwrap();
            }
            Key::FindCoordinator => {
                let asked = FindCoordinatorRequest::decode(&mut request, version).unwrap();
                response_header.encode(&mut body, Key::FindCoordinator.response_header_version(version)).unwrap();
                self.coordinators(node, version, asked).encode(&mut body, version).unwrap();
            }
            other => panic!("{other:?} was asked for"),
        }
        let mut frame = BytesMut::from(&i32::try_from(body.len()).unwrap().to_be_bytes()[..]);
        frame.extend_from_slice(&body);
        frame
    }

    fn versions(&self, node: i32, refused: bool) -> ApiVersionsResponse {
        let mut script = self.script();
        let range = |key: Key, max| ApiVersion::default().with_api_key(key as i16).with_max_version(max);
        let mut keys = vec![range(Key::ApiVersions, if refused { 2 } else { 4 })];
        if !refused {
            *script.versions_told.entry(node).or_default() += 1;
            // A higher node id has a higher maximum.
            keys.extend(script.find_coordinator_max.map(|max| range(Key::FindCoordinator, max)));
            keys.extend([range(Key::Metadata, script.metadata_max), range(Key::Produce, 7 + i16::try_from(node).unwrap())]);
        }
        ApiVersionsResponse::default().with_error_code(if refused { 35 } else { 0 }).with_api_keys(keys)
    }

    fn coordinators(&self, node: i32, version: i16, asked: FindCoordinatorRequest) -> FindCoordinatorResponse {
        let mut script = self.script();
        let keys = if version >= 4 { asked.coordinator_keys } else { vec![asked.key] };
        let names = keys.iter().map(ToString::to_string).collect();
        script.coordinator_requests.push((node, version, asked.key_type, names));
        let found = |key: &StrBytes| script.coordinators.get(key.as_str()).copied();
        let response = FindCoordinatorResponse::default();
        if version >= 4 {
            let named = |key: &StrBytes| {
                let named = Coordinator::default().with_key(key.clone()).with_node_id(BrokerId(found(key).unwrap_or(-1)));
                named.with_error_code(if found(key).is_some() { 0 } else { 15 })
            };
            return response.with_coordinators(keys.iter().map(named).collect());
        }
        let found = found(&keys[0]);
        response.with_node_id(BrokerId(found.unwrap_or(-1))).with_error_code(if found.is_some() { 0 } else { 15 })
    }

    fn metadata(&self, version: i16, asked: MetadataRequest) -> MetadataResponse {
        let mut script = self.script();
        let names = asked.topics.map(|topics| topics.iter().map(|topic| topic.name.as_ref().unwrap().to_string()).collect::<Vec<_>>());
        script.metadata_requests.push((version, names.clone()));
        let brokers = script.listed.iter().map(|(node, endpoint)| {
            let host = StrBytes::from_string(endpoint.host.to_string());
            MetadataResponseBroker::default().with_node_id(BrokerId(*node)).with_host(host).with_port(i32::from(endpoint.port))
        });
        let brokers = brokers.collect();
        let topics = names.unwrap_or_default().into_iter().map(|name| {
            let found = script.topics.get(name.as_str());
            let mut topic = MetadataResponseTopic::default().with_error_code(if found.is_some() { 0 } else { 3 });
            topic.name = Some(TopicName(StrBytes::from_string(name.clone())));
            if let Some((leader, epoch)) = found {
                let partition = MetadataResponsePartition::default().with_leader_id(BrokerId(*leader));
                topic.partitions = vec![if version >= 7 { partition.with_leader_epoch(*epoch) } else { partition }];
            }
            topic
        });
        let topics = topics.collect();
        let cluster_id = (version >= 2).then(|| StrBytes::from_static_str(script.cluster_id));
        MetadataResponse::default().with_brokers(brokers).with_topics(topics).with_cluster_id(cluster_id)
    }
}

pub(super) fn node(id: i32) -> NodeId {
    NodeId(id)
}
