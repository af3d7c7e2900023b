//! The composition root: puts the parts together and runs them until told to stop.

use std::sync::Arc;

use crate::admin::{self, Admin, Status, StatusReport};
use crate::config::Config;
use crate::metrics::Metrics;

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Admin(#[from] admin::BindError),
}

/// Runs until `shutdown` ends and sessions have drained.
pub async fn run(config: Config, metrics: Metrics, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    match config.admin {
        Some(address) => Admin::bind(address).await?.serve(metrics.registry, Arc::new(Nothing), shutdown).await,
        None => shutdown.await,
    }
    Ok(())
}

struct Nothing;

impl Status for Nothing {
    fn ready(&self) -> Result<(), String> {
        Err("no port listens for clients".to_owned())
    }

    fn status(&self) -> StatusReport {
        StatusReport::default()
    }

    fn before_scrape(&self) {}
}
