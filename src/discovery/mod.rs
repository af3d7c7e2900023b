//! Keeping the view fresh: single flight, jitter, back-off, the slow poll of the broker list; and the view's home (`Views`).
//!
//! Invariant: one request for metadata is on its way at a time, and who asks for a refresh is answered by one that was written after
//! it asked. Deliberately absent: sessions.

mod coordinators;
mod exchange;
mod flight;
mod lines;
mod pace;
mod probe;
mod queue;
mod refresher;
mod requests;
mod versions;
mod views;
mod wants;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use exchange::{Exchange, ExchangeError};
pub use probe::{BrokerReport, ClusterReport, ProbeError, probe_cluster};
pub use queue::{RefreshFailed, Refresher};
pub use refresher::run;
pub use views::Views;

use crate::cluster::Endpoint;

/// The default of `Settings::head_start`.
pub const HEAD_START: Duration = Duration::from_millis(200);

#[derive(Clone, Debug)]
pub struct Settings {
    pub bootstrap: Vec<Endpoint>,
    /// The slow poll of the broker list, ± 20 %.
    pub poll_interval: Duration,
    /// Between two refreshes at least.
    pub min_interval: Duration,
    /// After failures: from `backoff_min` doubling to `backoff_max`, with jitter.
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    pub request_timeout: Duration,
    /// How long one broker is waited for alone: what a frozen one may cost a session that waits. On the other hand a healthy one that
    /// answers later costs the cluster a second request.
    pub head_start: Duration,
}
