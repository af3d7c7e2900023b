//! One refresh: asking brokers until one answers, for metadata and then, over the same connection, for the coordinators that are wanted.
//!
//! Candidates are the listed brokers in random order, then the bootstrap addresses in random order. Brokers that refuse what the view
//! has them lead come first, the first time: they have heard of their successor. Those that a session says do not serve come last. One
//! that fails makes room for the next at once, one that stays silent after a head start (the kept connection, too: a frozen broker keeps
//! its connections open); whichever answers first ends the flight, and the rest are dropped.
//!
//! Invariant: a candidate has `request_timeout` to tell its versions, and as much again for each of the two answers; no other waits for
//! it longer than the head start.
//! Deliberately absent: when to refresh (`pace`).

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::coordinators::ask_coordinators;
use super::exchange::ExchangeError;
use super::lines::Lines;
use super::requests::{AskError, Ranges, ask_metadata, ask_versions, takes};
use super::wants::{Keys, Takes, Topics};
use super::{Settings, Views};
use crate::cluster::{ApiVersionsObservation, CoordinatorObservation, Endpoint, MetadataObservation, NodeId, Observation, Refused, Source};
use crate::metrics::Metrics;
use crate::transport::{ConnectError, Connection, Connector, staggered_by};

/// Listed brokers that one flight asks, before it turns to the bootstrap addresses.
const BROKERS_MAX: usize = 4;
const BOOTSTRAP_MAX: usize = 12;
/// A connection that a flight opened serves those that follow for so long.
const CONNECTION_LIFE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(super) enum AttemptError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{endpoint}: {source}")]
    Ask { endpoint: Endpoint, source: AskError },
    #[error("{endpoint}: no answer within {after:?}")]
    Timeout { endpoint: Endpoint, after: Duration },
    #[error("{endpoint}: it lists no brokers yet")]
    NoBrokers { endpoint: Endpoint },
    #[error("{endpoint}: {source}")]
    Refused { endpoint: Endpoint, source: Refused },
}

impl AttemptError {
    /// The broker was there, and would not talk to us.
    pub(super) fn is_login_demanded(&self) -> bool {
        matches!(self, AttemptError::Ask { source: AskError::LoginDemanded, .. })
    }
}

/// An open connection to a broker that told its versions.
#[derive(Debug)]
pub(super) struct Line {
    connection: Connection,
    endpoint: Endpoint,
    ranges: Ranges,
    opened: Instant,
}

impl Line {
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn ends(&self) -> Instant {
        self.opened + CONNECTION_LIFE
    }

    /// The broker's versions, for the view, if `node` is who answers here.
    pub(super) fn versions(&self, node: NodeId) -> Observation {
        let ranges = self.ranges.clone();
        Observation::ApiVersions(ApiVersionsObservation { node, endpoint: self.endpoint.clone(), ranges })
    }

    pub(super) async fn metadata(&mut self, topics: &Topics, limit: Duration) -> Result<MetadataObservation, AttemptError> {
        let endpoint = &self.endpoint;
        let asking = timeout(limit, ask_metadata(&mut self.connection, &self.ranges, topics)).await;
        let asked = asking.map_err(|_| AttemptError::Timeout { endpoint: endpoint.clone(), after: limit })?;
        let asked = asked.map_err(|source| match source {
            AskError::Exchange(ExchangeError::Closed) => AskError::LoginDemanded,
            other => other,
        });
        let metadata = asked.map_err(|source| AttemptError::Ask { endpoint: endpoint.clone(), source })?;
        if metadata.brokers.is_empty() { Err(AttemptError::NoBrokers { endpoint: endpoint.clone() }) } else { Ok(metadata) }
    }

    fn takes(&self) -> Takes {
        takes(&self.ranges)
    }

    async fn coordinators(&mut self, keys: &Keys, limit: Duration) -> Result<Vec<CoordinatorObservation>, AttemptError> {
        let takes = self.takes();
        let asked = timeout(limit, ask_coordinators(&mut self.connection, takes, keys)).await;
        let asked = asked.map_err(|_| AttemptError::Timeout { endpoint: self.endpoint.clone(), after: limit })?;
        asked.map_err(|source| AttemptError::Ask { endpoint: self.endpoint.clone(), source })
    }
}

/// `metrics`: where the connection is counted.
pub(super) async fn open(
    connector: &Connector,
    endpoint: &Endpoint,
    limit: Duration,
    metrics: Option<&Metrics>,
) -> Result<Line, AttemptError> {
    let opening = async {
        let connected = connector.connect_ahead(endpoint).await;
        if let Some(metrics) = metrics {
            match &connected {
                Ok(_) => metrics.upstream_connects.inc(),
                Err(failure) => metrics.upstream_connect_failures.with_label_values(&[failure.reason()]).inc(),
            }
        }
        let mut connection = connected?;
        let asked = ask_versions(&mut connection).await;
        let ranges = asked.map_err(|source| AttemptError::Ask { endpoint: endpoint.clone(), source })?;
        Ok(Line { connection, endpoint: endpoint.clone(), ranges, opened: Instant::now() })
    };
    timeout(limit, opening).await.unwrap_or_else(|_| Err(AttemptError::Timeout { endpoint: endpoint.clone(), after: limit }))
}

enum Candidate {
    Open(Line),
    Address(Endpoint),
}

/// Asks until one broker has answered and the view has taken what it said. `elsewhere`: another than the one that answered last.
///
/// # Errors
/// Every candidate's, if none answered.
pub(super) async fn fly(
    settings: &Settings,
    connector: &Connector,
    views: &Views,
    lines: &mut Lines,
    elsewhere: bool,
) -> Result<Line, Vec<AttemptError>> {
    let attempts = candidates(settings, views, lines, elsewhere)
        .into_iter()
        .map(|candidate| attempt(candidate, connector.clone(), views.clone(), settings.request_timeout));
    let mut failures = Vec::new();
    let line = staggered_by(settings.head_start, attempts, |failure| failures.push(failure)).await;
    line.ok_or(failures)
}

fn candidates(settings: &Settings, views: &Views, lines: &mut Lines, elsewhere: bool) -> Vec<Candidate> {
    let view = views.current();
    let suspects = views.queue().suspects();
    let is_suspect = |endpoint: &Endpoint| suspects.contains(endpoint);
    let mut brokers: Vec<Endpoint> = view.brokers.values().map(|broker| broker.endpoint.clone()).collect();
    let well: Vec<Endpoint> = brokers.iter().filter(|endpoint| !is_suspect(endpoint)).cloned().collect();
    let refusing = views.queue().refusing();
    let of_refusing = view.brokers.values().filter(|broker| !elsewhere && refusing.contains(&broker.id));
    let best: Vec<Endpoint> = of_refusing.map(|broker| broker.endpoint.clone()).filter(|endpoint| well.contains(endpoint)).collect();
    let kept = if well.is_empty() && !brokers.is_empty() { None } else { lines.take(&well, &best, elsewhere) };
    fastrand::shuffle(&mut brokers);
    // A silent kept connection must not be followed by a new one to the same broker.
    let is_known = |endpoint: &Endpoint| lines.leads_to(endpoint) || kept.as_ref().is_some_and(|line| line.endpoint == *endpoint);
    brokers.sort_by_key(|endpoint| (is_suspect(endpoint), !best.contains(endpoint), is_known(endpoint)));
    brokers.truncate(BROKERS_MAX);
    let mut bootstrap = settings.bootstrap.clone();
    fastrand::shuffle(&mut bootstrap);
    bootstrap.retain(|endpoint| !brokers.contains(endpoint));
    bootstrap.truncate(BOOTSTRAP_MAX);
    brokers.extend(bootstrap);
    brokers.sort_by_key(|endpoint| is_suspect(endpoint) || is_known(endpoint));
    kept.map(Candidate::Open).into_iter().chain(brokers.into_iter().map(Candidate::Address)).collect()
}

async fn attempt(candidate: Candidate, connector: Connector, views: Views, limit: Duration) -> Result<Line, AttemptError> {
    let mut line = match candidate {
        Candidate::Open(line) => line,
        Candidate::Address(endpoint) => open(&connector, &endpoint, limit, Some(views.metrics())).await?,
    };
    // From here on a call is too late for this request, and waits for the next.
    let mut asked = views.queue().ask(&views.current(), line.takes());
    let metadata = line.metadata(&asked.topics, limit).await?;
    let refused = |source| AttemptError::Refused { endpoint: line.endpoint.clone(), source };
    views.confirm(metadata, |node| line.versions(node), &line.endpoint).map_err(refused)?;
    let keys = &asked.wants.keys;
    let named = if keys.is_empty() { Ok(Vec::new()) } else { line.coordinators(keys, limit).await };
    match named {
        Ok(named) => {
            if !named.is_empty() {
                views.observe(Observation::Coordinators { source: Source::Own, named });
            }
            views.queue().answered(&asked);
            Ok(line)
        }
        Err(failure) => {
            asked.wants.forgo_coordinators();
            views.queue().answered(&asked);
            Err(failure)
        }
    }
}
