//! Asking each newly listed broker for its API versions, once, so that what clients are told holds at every broker.
//!
//! Invariant: at most `AT_ONCE` brokers are asked at a time, and one that does not answer is asked again ever more rarely.
//! Deliberately absent: what follows from the versions.

use std::collections::HashMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::flight::{AttemptError, Line, open};
use super::{Settings, Views};
use crate::cluster::{Broker, Endpoint, NodeId};
use crate::transport::Connector;

const AT_ONCE: usize = 8;
/// Until a broker that did not answer is asked again, doubling.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(60);

struct Failed {
    endpoint: Endpoint,
    again_at: Instant,
    wait: Duration,
}

pub(super) async fn ask_new_brokers(settings: &Settings, connector: &Connector, views: &Views) {
    let mut generations = views.subscribe();
    let mut asking: JoinSet<(Broker, Result<Line, AttemptError>)> = JoinSet::new();
    let mut asked: HashMap<NodeId, Endpoint> = HashMap::new();
    let mut failed: HashMap<NodeId, Failed> = HashMap::new();
    loop {
        generations.borrow_and_update();
        let view = views.current();
        failed.retain(|node, failed| view.broker(*node).is_some_and(|broker| broker.endpoint == failed.endpoint));
        let now = Instant::now();
        for broker in view.without_versions() {
            let waits = failed.get(&broker.id).is_some_and(|failed| failed.again_at > now);
            if !waits && !asked.contains_key(&broker.id) && asking.len() < AT_ONCE {
                asked.insert(broker.id, broker.endpoint.clone());
                let (broker, connector, limit) = (broker.clone(), connector.clone(), settings.request_timeout);
                let metrics = views.metrics().clone();
                asking.spawn(async move {
                    let opened = open(&connector, &broker.endpoint, limit, Some(&metrics)).await;
                    (broker, opened)
                });
            }
        }
        let again_at = failed.values().map(|failed| failed.again_at).filter(|at| *at > now).min();
        tokio::select! {
            changed = generations.changed() => if changed.is_err() { return },
            () = sleep_until(again_at.unwrap_or(now)), if again_at.is_some() => {}
            Some(ended) = asking.join_next() => {
                let Ok((broker, opened)) = ended else {
                    // Whoever it was is asked again.
                    asked.clear();
                    continue;
                };
                asked.remove(&broker.id);
                let told = opened.map(|line| views.observe(line.versions(broker.id)));
                let known = views.current().versions_of(broker.id).is_some_and(|versions| versions.endpoint == broker.endpoint);
                if known {
                    failed.remove(&broker.id);
                    continue;
                }
                let reason = told.err().map_or_else(|| "it lists none".to_owned(), |error| error.to_string());
                tracing::debug!(broker = broker.id.0, reason, "a broker did not tell its API versions");
                let wait = failed.get(&broker.id).map_or(RETRY_MIN, |failed| (failed.wait * 2).min(RETRY_MAX));
                let again_at = Instant::now() + wait.mul_f64(0.8 + 0.4 * fastrand::f64());
                failed.insert(broker.id, Failed { endpoint: broker.endpoint, again_at, wait });
            }
        }
    }
}
