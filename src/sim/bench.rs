//! A test's client on the pure cluster, in virtual time.
//!
//! Invariant: every answer is decoded in the version that was asked. Deliberately not here: retries; a test says what happens.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ApiKey, ProduceRequest};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};
use kafka_protocol::records::{Record, TimestampType};

use super::api::{text, topic_name};
use super::batch;
use super::cluster::{Cluster, ConnId, Options, Output};
use super::frame;

/// A cluster and what it has put out.
pub(crate) struct Bench {
    pub(crate) cluster: Cluster,
    pub(crate) now: Duration,
    answers: BTreeMap<ConnId, Vec<Bytes>>,
    closed: Vec<ConnId>,
}

/// A batch to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) sequence: i32,
    pub(crate) count: i32,
    pub(crate) transactional: bool,
}

impl Made {
    pub(crate) fn plain(count: i32) -> Made {
        Made { producer_id: -1, epoch: -1, sequence: -1, count, transactional: false }
    }

    pub(crate) fn idempotent(producer_id: i64, sequence: i32, count: i32) -> Made {
        Made { producer_id, epoch: 0, sequence, count, transactional: false }
    }

    pub(crate) fn encode(self) -> Bytes {
        let record = |index: i32| Record {
            transactional: self.transactional,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: self.producer_id,
            producer_epoch: self.epoch,
            timestamp_type: TimestampType::Creation,
            offset: i64::from(index),
            sequence: if self.sequence < 0 { index - 1 } else { self.sequence + index },
            timestamp: 1_000 + i64::from(index),
            key: None,
            value: Some(Bytes::from(format!("{}/{}", self.sequence, index))),
            headers: IndexMap::new(),
        };
        batch::encode(&(0..self.count).map(record).collect::<Vec<_>>())
    }
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Bench {
        Bench { cluster: Cluster::new(options), now: Duration::ZERO, answers: BTreeMap::new(), closed: Vec::new() }
    }

    pub(crate) fn connect(&mut self, broker: i32) -> ConnId {
        self.cluster.connect(self.now, broker).expect("the broker accepts")
    }

    pub(crate) fn send<R: Request>(&mut self, conn: ConnId, version: i16, request: &R) {
        let api = ApiKey::try_from(R::KEY).expect("a known API");
        let frame = frame::encode_request(api, version, 7, "bench", request).expect("it encodes");
        self.cluster.receive(self.now, conn, frame);
        self.collect();
    }

    pub(crate) fn collect(&mut self) {
        while let Some(output) = self.cluster.poll() {
            match output {
                Output::Respond { conn, frame } => self.answers.entry(conn).or_default().push(frame),
                Output::Close { conn } => self.closed.push(conn),
            }
        }
    }

    /// Time passes, stopping wherever the cluster wants to be called.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.cluster.next_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.cluster.tick(self.now);
            self.collect();
        }
        self.now = end;
        self.cluster.tick(self.now);
        self.collect();
    }

    pub(crate) fn is_closed(&self, conn: ConnId) -> bool {
        self.closed.contains(&conn)
    }

    /// The next answer on a connection, if it has come.
    pub(crate) fn answer<R: Request>(&mut self, conn: ConnId, version: i16) -> Option<R::Response>
    where
        R::Response: Decodable + Encodable + HeaderVersion,
    {
        self.collect();
        let waiting = self.answers.get_mut(&conn).filter(|waiting| !waiting.is_empty())?;
        let frame = waiting.remove(0);
        let api = ApiKey::try_from(R::KEY).expect("a known API");
        let (correlation_id, body) = frame::decode_response(api, version, &frame).expect("it decodes");
        assert_eq!(correlation_id, 7);
        Some(body)
    }

    pub(crate) fn ask<R: Request>(&mut self, conn: ConnId, version: i16, request: &R) -> R::Response {
        self.send(conn, version, request);
        self.answer::<R>(conn, version).expect("an answer at once")
    }

    pub(crate) fn produce_request(topic: &str, partition: i32, acks: i16, made: Made) -> ProduceRequest {
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(made.encode()));
        let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(1_000).with_topic_data(vec![topic]);
        if made.transactional { request.with_transactional_id(Some(text("tx").into())) } else { request }
    }

    /// Produces to one partition with acks=all and version 9.
    pub(crate) fn produce(&mut self, conn: ConnId, topic: &str, partition: i32, made: Made) -> PartitionProduceResponse {
        let mut response = self.ask(conn, 9, &Self::produce_request(topic, partition, -1, made));
        response.responses.remove(0).partition_responses.remove(0)
    }
}
