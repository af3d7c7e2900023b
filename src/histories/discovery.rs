//! Discovery as sessions see it: a fresh view on demand, one flight at a time, at a minimum interval, from a running broker by chance.
//!
//! Invariant: who asks is answered by a flight that was written after the asking, or when nobody answers. Deliberately absent: the real
//! one's pace beyond that (it has tests of its own).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey as SimApi, MetadataRequest};

use super::leg::Owner;
use super::plan::{MS, S, Time};
use super::world::{Event, TOPIC, World};
use crate::cluster::{
    ApiVersionsObservation, Broker, Endpoint, LearnLimits, MetadataObservation, NodeId, Observation, PartitionObservation, Source, TopicId,
    TopicObservation, VersionRange, Want, learn,
};
use crate::sim::api::topic_name;
use crate::sim::cluster::ConnId;
use crate::sim::frame;
use crate::sim::profile::Profile;
use crate::wire::ApiKey;
use crate::wire::metadata::MetadataResponse;

const VERSION: i16 = 12;
const TRIES: u32 = 3;
const SLOW_POLL: Time = 5 * S;
const TIMEOUT: Time = 500 * MS;

#[derive(Default)]
pub struct Discovery {
    waiting: Vec<(usize, u64)>,
    is_wanted: bool,
    is_due: bool,
    flight: Option<Flight>,
    flights: u64,
    last_at: Option<Time>,
}

struct Flight {
    number: u64,
    joined: Vec<(usize, u64)>,
    tries: u32,
    conn: Option<ConnId>,
    inbound: BytesMut,
}

impl World {
    /// The view as it is before the first client: the proxy has run for a while.
    pub fn learn_at_start(&mut self) {
        let image = self.cluster.image();
        let brokers = image.brokers.iter().map(|broker| Broker {
            id: NodeId(broker.id),
            endpoint: Endpoint { host: broker.host.as_str().into(), port: broker.port },
            rack: None,
        });
        let topics = image.topics.iter().map(|(name, topic)| TopicObservation {
            id: TopicId(*topic.id.as_bytes()),
            name: Some(name.as_str().into()),
            error: 0,
            partitions: (0..)
                .zip(&topic.partitions)
                .map(|(index, partition)| PartitionObservation {
                    index,
                    error: 0,
                    leader: Some(NodeId(partition.leader)),
                    leader_epoch: partition.leader_epoch,
                })
                .collect(),
        });
        let metadata = MetadataObservation {
            source: Source::Own,
            version: VERSION,
            cluster_id: None,
            controller: None,
            brokers: brokers.collect(),
            topics: if self.dice.chance(80) { topics.collect() } else { Vec::new() },
        };
        self.learn(&Observation::Metadata(metadata));
    }

    pub fn learn(&mut self, observation: &Observation) {
        let learned = learn(&self.view, self.instant(), observation, &LearnLimits::default());
        if learned.suspicion.is_some() {
            self.suspect();
        }
        let Some(view) = learned.view else { return };
        let unknown: Vec<Broker> = view.without_versions().cloned().collect();
        self.tell_view(view);
        for broker in unknown {
            let wait = self.dice.between(MS, 30 * MS);
            self.after(wait, Event::Do(Box::new(move |world| world.learn_versions(&broker))));
        }
    }

    fn learn_versions(&mut self, broker: &Broker) {
        let Some(known) = self.cluster.broker(broker.id.0).filter(|known| known.port == broker.endpoint.port && known.accepts()) else {
            return;
        };
        if self.view.versions_of(broker.id).is_some() {
            return;
        }
        let observation = ApiVersionsObservation { node: broker.id, endpoint: broker.endpoint.clone(), ranges: ranges_of(known.profile) };
        self.learn(&Observation::ApiVersions(observation));
    }

    /// The broker list, every now and then, though nothing suggests that it is stale.
    pub fn poll_slowly(&mut self) {
        self.suspect();
        self.after(SLOW_POLL, Event::Do(Box::new(World::poll_slowly)));
    }

    /// Nobody waits for it.
    pub fn suspect(&mut self) {
        self.discovery.is_wanted = true;
        self.plan_flight();
    }

    pub fn refresh(&mut self, sid: usize, token: u64, wants: &[Want]) {
        if wants.iter().all(|want| want.is_met(&self.view)) {
            let wait = self.dice.between(0, 200);
            self.after(wait, Event::Fresh { sid, token });
            return;
        }
        self.discovery.waiting.push((sid, token));
        self.discovery.is_wanted = true;
        self.plan_flight();
    }

    fn plan_flight(&mut self) {
        let discovery = &mut self.discovery;
        if discovery.is_due || discovery.flight.is_some() {
            return;
        }
        discovery.is_due = true;
        let at = discovery.last_at.map_or(self.now, |last| last + self.plan.refresh_interval);
        self.at(at, Event::Flight);
    }

    pub fn start_flight(&mut self) {
        let discovery = &mut self.discovery;
        discovery.is_due = false;
        discovery.is_wanted = false;
        discovery.flights += 1;
        discovery.last_at = Some(self.now);
        let number = discovery.flights;
        let joined = std::mem::take(&mut discovery.waiting);
        discovery.flight = Some(Flight { number, joined, tries: 0, conn: None, inbound: BytesMut::new() });
        self.ask_broker(number);
    }

    /// The next broker is tried, by chance; or nobody answers.
    pub fn ask_broker(&mut self, number: u64) {
        let Some(flight) = self.discovery.flight.as_mut().filter(|flight| flight.number == number) else { return };
        flight.tries += 1;
        flight.inbound.clear();
        flight.conn = None;
        if flight.tries > TRIES {
            return self.land();
        }
        let mut ports: Vec<u16> = self.view.brokers.values().map(|broker| broker.endpoint.port).collect();
        if ports.is_empty() || flight.tries == TRIES {
            ports = self.bootstrap.iter().map(|endpoint| endpoint.port).collect();
        }
        let broker = self.dice.pick(&ports).and_then(|port| self.broker_at(port));
        let conn = broker.filter(|broker| !self.is_dark(*broker)).and_then(|broker| self.cluster.connect(self.clock(), broker).ok());
        let wait = match (conn, broker) {
            (Some(conn), Some(broker)) => {
                self.adopt(conn, broker, Owner::Discovery(number));
                if let Some(flight) = &mut self.discovery.flight {
                    flight.conn = Some(conn);
                }
                self.stats.metadata_asked += 1;
                self.give_broker(conn, super::world::Input::Bytes(metadata_request()));
                TIMEOUT
            }
            (None, Some(broker)) if self.is_dark(broker) => TIMEOUT,
            _ => MS,
        };
        let tries = self.discovery.flight.as_ref().map_or(0, |flight| flight.tries);
        self.after(
            wait,
            Event::Do(Box::new(move |world| {
                let same = world.discovery.flight.as_ref().is_some_and(|flight| flight.number == number && flight.tries == tries);
                if same {
                    world.ask_broker(number);
                }
            })),
        );
    }

    pub fn discovery_hears(&mut self, number: u64, conn: ConnId, piece: Option<Bytes>) {
        let Some(flight) = self.discovery.flight.as_mut().filter(|flight| flight.number == number && flight.conn == Some(conn)) else {
            return;
        };
        let Some(piece) = piece else { return self.ask_broker(number) };
        flight.inbound.extend_from_slice(&piece);
        let is_whole =
            flight.inbound.first_chunk::<4>().is_some_and(|prefix| flight.inbound.len() >= 4 + i32::from_be_bytes(*prefix) as usize);
        if !is_whole {
            return;
        }
        let frame = flight.inbound.split().freeze();
        match observation(&frame) {
            Some(observation) => self.learn(&observation),
            None => self.breaks(|| "discovery's answer does not parse".to_owned()),
        }
        self.cluster.disconnect(conn);
        self.drain_cluster();
        self.land();
    }

    fn land(&mut self) {
        let Some(flight) = self.discovery.flight.take() else { return };
        for (sid, token) in flight.joined {
            let wait = self.dice.between(0, 300);
            self.after(wait, Event::Fresh { sid, token });
        }
        if self.discovery.is_wanted {
            self.plan_flight();
        }
    }
}

fn metadata_request() -> Bytes {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name(TOPIC)));
    let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
    let frame = frame::encode_request(SimApi::Metadata, VERSION, 1, "discovery", &request).expect("it encodes");
    prefixed(&frame)
}

pub fn prefixed(frame: &Bytes) -> Bytes {
    let mut bytes = BytesMut::with_capacity(frame.len() + 4);
    bytes.extend_from_slice(&(frame.len() as i32).to_be_bytes());
    bytes.extend_from_slice(frame);
    bytes.freeze()
}

fn observation(frame: &Bytes) -> Option<Observation> {
    let response = MetadataResponse::parse(frame, VERSION).ok()?;
    let text = |bytes: &[u8]| -> Arc<str> { String::from_utf8_lossy(bytes).into() };
    let node = |id: i32| (id >= 0).then_some(NodeId(id));
    let brokers = response.brokers.iter().map(|entry| Broker {
        id: NodeId(entry.node),
        endpoint: Endpoint { host: text(entry.host), port: entry.port as u16 },
        rack: entry.rack.map(text),
    });
    let topics = response.topics.iter().map(|topic| TopicObservation {
        id: TopicId(topic.id),
        name: topic.name.map(text),
        error: topic.error,
        partitions: response
            .partitions_of(topic)
            .iter()
            .map(|partition| PartitionObservation {
                index: partition.index,
                error: partition.error,
                leader: node(partition.leader),
                leader_epoch: partition.leader_epoch,
            })
            .collect(),
    });
    Some(Observation::Metadata(MetadataObservation {
        source: Source::Own,
        version: VERSION,
        cluster_id: response.cluster_id.map(text),
        controller: None,
        brokers: brokers.collect(),
        topics: topics.collect(),
    }))
}

fn ranges_of(profile: Profile) -> Vec<(ApiKey, VersionRange)> {
    let listed = profile.listed().into_iter().map(|listed| (ApiKey(listed.api as i16), VersionRange { min: listed.min, max: listed.max }));
    let mut ranges: Vec<_> = listed.collect();
    ranges.sort_unstable_by_key(|(api, _)| *api);
    ranges
}
