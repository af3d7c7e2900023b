//! The composition root: puts the parts together and runs them until told to stop.
//!
//! ```text
//!  bind all ports ──▶ serve ──shutdown──▶ not ready, stop accepting ──▶ drain (requests in flight, bounded) ──▶ end
//! ```
//!
//! Invariant: nothing is started before every port is bound; the cluster is not needed for that.
//! Deliberately absent: any rule of any part.

mod access;
mod departures;
mod rehearsal;
mod sessions;
mod status;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::access::Access;
use self::departures::Departures;
use self::rehearsal::{Rehearsals, Stage};
use self::sessions::Sessions;
use self::status::ProxyStatus;
use crate::admin::{self, Admin};
use crate::config::Config;
use crate::discovery::{self, Views};
use crate::driver::{Counting, Diagnosis, Environment, Nudges};
use crate::listeners::{self, BindErrors};
use crate::metrics::Metrics;
use crate::session::Gate;
use crate::transport::Connector;

/// Why the proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Listeners(#[from] BindErrors),
    #[error(transparent)]
    Admin(#[from] admin::BindError),
}

/// Where a started proxy is.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    pub bootstrap: SocketAddr,
    pub admin: Option<SocketAddr>,
}

/// Runs until `shutdown` ends and sessions have drained.
pub async fn run(config: Config, metrics: Metrics, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    run_with(config, metrics, shutdown, |_| {}).await
}

/// As [`run`]; `started` is called once every port listens.
pub async fn run_with(
    config: Config,
    metrics: Metrics,
    shutdown: impl Future<Output = ()>,
    started: impl FnOnce(Started),
) -> Result<(), RunError> {
    let bound = listeners::bind(&config.listeners, &metrics)?;
    let admin = match config.admin {
        Some(address) => Some(Admin::bind(address).await?),
        None => None,
    };
    let addresses = Started { bootstrap: bound.bootstrap(), admin: admin.as_ref().and_then(|admin| admin.local_addr().ok()) };

    let connector = Connector::new(config.transport.clone());
    let views = Views::new(config.view, metrics.clone());
    let departures = Departures::new(views.clone(), metrics.clone(), config.unlist_after);
    let stage = Arc::new(Stage::default());
    let (drain, draining) = watch::channel(false);
    let ports = bound.ports().clone();
    let environment = Arc::new(Environment {
        settings: config.driver.clone(),
        limits: Arc::new(config.session.clone()),
        detours: Arc::new(config.detours.clone()),
        gate: Arc::new(Gate::new(config.max_kept_bytes)),
        nudges: Nudges::default(),
        unknown_apis: config.unknown_apis,
        masks: config.masks,
        connector: connector.clone(),
        cluster: Arc::new(Access::new(views.clone(), config.discovery.bootstrap.clone(), departures.clone(), stage.clone())),
        addresses: ports.clone(),
        counting: Counting::new(metrics.clone()),
        diagnosis: Diagnosis::default(),
        draining,
    });
    let sessions = Arc::new(Sessions::new(environment.clone()));
    let status = Arc::new(ProxyStatus::new(&config, &environment, views.clone(), ports, sessions.clone(), departures.clone()));

    let stop_accepting = CancellationToken::new();
    let stop_the_rest = CancellationToken::new();
    let rehearsals = Arc::new(Rehearsals::new(config.may_rehearse, stage, views.clone(), departures.clone(), stop_accepting.clone()));
    let recording = tokio::spawn(departures.run(stop_the_rest.clone()));
    let discovering = tokio::spawn(discovery::run(config.discovery.clone(), connector, views, stop_the_rest.clone()));
    let accepting =
        tokio::spawn(listeners::serve(bound, sessions.clone(), config.transport.clone(), metrics.clone(), stop_accepting.clone()));
    let serving =
        admin.map(|admin| tokio::spawn(admin.serve(metrics.registry.clone(), status, rehearsals, stop_the_rest.clone().cancelled_owned())));
    info!(bootstrap = %addresses.bootstrap, admin = ?addresses.admin, node_ports = config.listeners.ports.len(), "listening");
    started(addresses);

    shutdown.await;

    // Not ready from here on: `draining` says so.
    let _ = drain.send(true);
    stop_accepting.cancel();
    let _ = accepting.await;
    let open = sessions.open();
    info!(sessions = open, timeout = ?config.drain_timeout, "draining");
    if tokio::time::timeout(config.drain_timeout, sessions.ended()).await.is_err() {
        warn!(sessions = sessions.open(), "the time for draining is over; closing what is left");
    }
    stop_the_rest.cancel();
    let _ = discovering.await;
    let _ = recording.await;
    if let Some(serving) = serving {
        let _ = serving.await;
    }
    info!("stopped");
    Ok(())
}
