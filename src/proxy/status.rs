//! The process's state, as the admin port reports it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::departures::Departures;
use super::sessions::Sessions;
use crate::admin::{BrokerStatus, ClusterStatus, CoordinatorStatus, SessionsStatus, Status, StatusReport, VirtualBrokerStatus};
use crate::cluster::{CoordinatorKind, Endpoint, View};
use crate::config::Config;
use crate::discovery::Views;
use crate::driver::Environment;
use crate::listeners::{Ports, VirtualBroker};
use crate::metrics::Metrics;
use crate::session::Gate;

/// Ready means that a broker confirmed the list of brokers within this many slow polls.
const POLLS_WITHOUT_ANSWER: u32 = 3;
/// Coordinators that are shown.
const COORDINATORS_MAX: usize = 100;

pub struct ProxyStatus {
    started: Instant,
    metrics: Metrics,
    views: Views,
    ports: Arc<Ports>,
    sessions: Arc<Sessions>,
    gate: Arc<Gate>,
    departures: Departures,
    draining: watch::Receiver<bool>,
    confirmed_within: Duration,
    limits: BTreeMap<String, u64>,
}

impl ProxyStatus {
    pub fn new(
        config: &Config,
        environment: &Environment,
        views: Views,
        ports: Arc<Ports>,
        sessions: Arc<Sessions>,
        departures: Departures,
    ) -> ProxyStatus {
        let session = &config.session;
        let limits = [
            ("limits.connections", config.listeners.max_connections as u64),
            ("limits.request_bytes", session.max_request_bytes.into()),
            ("limits.response_bytes", session.max_response_bytes.into()),
            ("limits.head_bytes", session.max_head_bytes.into()),
            ("limits.slots_per_session", session.max_slots as u64),
            ("limits.parked_bytes", session.max_parked_bytes.into()),
            ("limits.rewrite_bytes", session.max_rewrite_bytes.into()),
            ("limits.queued_bytes", config.driver.max_queued_bytes as u64),
            ("limits.kept_bytes_per_session", session.max_kept_bytes as u64),
            ("limits.kept_bytes", config.max_kept_bytes as u64),
            ("limits.view_brokers", config.view.max_brokers as u64),
            ("limits.view_topics", config.view.max_topics as u64),
            ("limits.view_partitions", config.view.max_partitions as u64),
            ("limits.view_coordinators", config.view.max_coordinators as u64),
        ];
        ProxyStatus {
            started: Instant::now(),
            metrics: environment.counting.metrics.clone(),
            views,
            ports,
            sessions,
            gate: environment.gate.clone(),
            departures,
            draining: environment.draining.clone(),
            confirmed_within: config.discovery.poll_interval * POLLS_WITHOUT_ANSWER + config.discovery.request_timeout,
            limits: limits.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }
    }

    fn view_age(&self) -> Option<Duration> {
        self.views.last_confirmed().map(|confirmed| confirmed.elapsed())
    }
}

impl Status for ProxyStatus {
    fn ready(&self) -> Result<(), String> {
        if *self.draining.borrow() {
            return Err("draining: no new connections are accepted".to_owned());
        }
        let failure = || self.views.last_failure().map_or_else(String::new, |failure| format!("; last failure: {failure}"));
        match self.view_age() {
            None => Err(format!("no broker has answered yet{}", failure())),
            Some(age) if age > self.confirmed_within => Err(format!("no broker has answered for {} s{}", age.as_secs(), failure())),
            Some(_) => Ok(()),
        }
    }

    fn status(&self) -> StatusReport {
        let view = self.views.current();
        let ready = self.ready();
        let brokers = view.brokers.values().map(|broker| BrokerStatus {
            id: broker.id.0,
            host: broker.endpoint.host.to_string(),
            port: broker.endpoint.port,
            rack: broker.rack.as_deref().map(str::to_owned),
        });
        let host = self.ports.advertised_host();
        let virtual_brokers = self.ports.all().into_iter().map(|port| VirtualBrokerStatus {
            node_id: port.node.0,
            address: Endpoint { host: host.clone(), port: port.port }.to_string(),
            state: match view.brokers.contains_key(&port.node) {
                true => "live",
                false if view.is_departed(port.node) => "departed",
                false => "unlisted",
            }
            .to_owned(),
            sessions: self.sessions.of(VirtualBroker::Node(port.node)),
        });
        StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            ready: ready.is_ok(),
            not_ready_because: ready.err(),
            cluster: ClusterStatus {
                id: view.cluster_id.as_deref().map(str::to_owned),
                controller: view.controller.map(|node| node.0),
                brokers: brokers.collect(),
                coordinators: coordinators(&view),
                coordinators_known: view.coordinators_count() as u64,
                generation: view.generation,
                view_age_seconds: self.view_age().map(|age| age.as_secs_f64()),
            },
            virtual_brokers: virtual_brokers.collect(),
            sessions: SessionsStatus { open: self.sessions.open() as u64, total: self.metrics.sessions_total.get() },
            departures: self.departures.status(),
            limits: self.limits.clone(),
        }
    }

    fn before_scrape(&self) {
        let age = self.view_age().unwrap_or_else(|| self.started.elapsed());
        self.metrics.view_age_seconds.set(age.as_secs_f64());
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.departures.kept_bytes.set(gauge(self.gate.kept_bytes()));
        self.metrics.departures.gate_tickets.set(gauge(self.gate.tickets()));
    }
}

fn coordinators(view: &View) -> Vec<CoordinatorStatus> {
    let mut known: Vec<_> = view.coordinators().iter().collect();
    known.sort_unstable_by(|(_, one_key, one), (_, other_key, other)| other.learnt.cmp(&one.learnt).then(one_key.cmp(other_key)));
    let shown = known.into_iter().take(COORDINATORS_MAX).map(|(kind, key, known)| CoordinatorStatus {
        kind: match kind {
            CoordinatorKind::Group => "group",
            CoordinatorKind::Transaction => "transaction",
            CoordinatorKind::Share => "share",
        }
        .to_owned(),
        key: key.to_string(),
        node_id: known.node.0,
        listed: view.broker(known.node).is_some(),
    });
    shown.collect()
}
