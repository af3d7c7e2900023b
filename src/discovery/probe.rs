//! Asking a cluster once and saying what it is: for checking a configuration before it is run.
//!
//! Deliberately absent: retries; a check says what is, now.

use std::time::Duration;

use tokio::task::JoinSet;

use super::flight::{AttemptError, Line, open};
use super::wants::Topics;
use crate::cluster::{Broker, CommonMax, Endpoint, LearnLimits, MetadataObservation, Observation, VersionRange, View, learn};
use crate::transport::Connector;
use crate::wire::ApiKey;

/// Brokers asked for their versions at a time.
const AT_ONCE: usize = 16;

#[derive(Clone, Debug)]
pub struct ClusterReport {
    pub cluster_id: Option<String>,
    pub brokers: Vec<BrokerReport>,
    /// What clients would be offered: what every broker that told its versions serves, and this build can relay. Ascending by key.
    pub apis: Vec<(ApiKey, VersionRange)>,
    /// The bootstrap addresses that did not answer, or answered for another cluster, and why.
    pub failed_bootstrap: Vec<(Endpoint, String)>,
}

#[derive(Clone, Debug)]
pub struct BrokerReport {
    pub broker: Broker,
    /// Why it did not tell its API versions.
    pub failure: Option<String>,
}

#[derive(Clone, Debug, thiserror::Error)]
#[error("no bootstrap address answers:{}", .failures.iter().map(|(_, reason)| format!("\n  {reason}")).collect::<String>())]
pub struct ProbeError {
    pub failures: Vec<(Endpoint, String)>,
}

/// Asks every bootstrap address, then every broker that they name. `limit` bounds each of these.
///
/// # Errors
/// No bootstrap address answers.
pub async fn probe_cluster(bootstrap: &[Endpoint], connector: &Connector, limit: Duration) -> Result<ClusterReport, ProbeError> {
    let mut failures = Vec::new();
    let mut view = View::default();
    let limits = LearnLimits::default();
    for (endpoint, asked) in ask_all(bootstrap, connector, limit, true).await {
        match asked {
            Ok((_, Some(metadata))) => {
                let learned = learn(&view, std::time::Instant::now(), &Observation::Metadata(metadata), &limits);
                if let Some(refused) = learned.refused {
                    failures.push((endpoint.clone(), format!("{endpoint}: {refused}")));
                }
                view = learned.view.unwrap_or(view);
            }
            Ok((_, None)) => {}
            Err(error) => failures.push((endpoint, error.to_string())),
        }
    }
    if view.brokers.is_empty() {
        return Err(ProbeError { failures });
    }
    let endpoints: Vec<Endpoint> = view.brokers.values().map(|broker| broker.endpoint.clone()).collect();
    let mut brokers: Vec<BrokerReport> =
        view.brokers.values().map(|broker| BrokerReport { broker: broker.clone(), failure: None }).collect();
    for (endpoint, asked) in ask_all(&endpoints, connector, limit, false).await {
        for report in brokers.iter_mut().filter(|report| report.broker.endpoint == endpoint) {
            match &asked {
                Ok((line, _)) => {
                    let learned = learn(&view, std::time::Instant::now(), &line.versions(report.broker.id), &limits);
                    view = learned.view.unwrap_or(view);
                }
                Err(error) => report.failure = Some(error.to_string()),
            }
        }
    }
    let cluster_id = view.cluster_id.as_deref().map(str::to_owned);
    Ok(ClusterReport { cluster_id, brokers, apis: offered(&view), failed_bootstrap: failures })
}

type Asked = Result<(Line, Option<MetadataObservation>), AttemptError>;

/// In the order of `endpoints`.
async fn ask_all(endpoints: &[Endpoint], connector: &Connector, limit: Duration, metadata: bool) -> Vec<(Endpoint, Asked)> {
    let mut waiting = endpoints.iter().cloned().enumerate();
    let mut asking = JoinSet::new();
    let mut asked = Vec::with_capacity(endpoints.len());
    loop {
        while asking.len() < AT_ONCE
            && let Some((place, endpoint)) = waiting.next()
        {
            let connector = connector.clone();
            asking.spawn(async move {
                let answer = ask_one(&connector, &endpoint, limit, metadata).await;
                (place, endpoint, answer)
            });
        }
        match asking.join_next().await {
            Some(Ok(answer)) => asked.push(answer),
            Some(Err(error)) => tracing::error!(%error, "asking a broker ended in an unforeseen way"),
            None => break,
        }
    }
    asked.sort_by_key(|(place, _, _)| *place);
    asked.into_iter().map(|(_, endpoint, answer)| (endpoint, answer)).collect()
}

async fn ask_one(connector: &Connector, endpoint: &Endpoint, limit: Duration, metadata: bool) -> Asked {
    let mut line = open(connector, endpoint, limit, None).await?;
    let metadata = if metadata { Some(line.metadata(&Topics::Names(Vec::new()), limit).await?) } else { None };
    Ok((line, metadata))
}

fn offered(view: &View) -> Vec<(ApiKey, VersionRange)> {
    let offered = ApiKey::all().iter().filter(|spec| !spec.between_servers).filter_map(|spec| {
        let CommonMax::UpTo(max) = view.common_max(spec.key) else { return None };
        let told = view.brokers.keys().filter_map(|node| view.versions_of(*node)?.range(spec.key));
        let min = told.map(|range| range.min).max()?;
        let max = max.min(spec.max_version);
        (min <= max).then_some((spec.key, VersionRange { min, max }))
    });
    offered.collect()
}
