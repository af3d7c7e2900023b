//! Keeping the view fresh: single flight, jitter, back-off, the slow poll of the broker list; and the view's home (`Views`).
//!
//! Deliberately absent: sessions.

use std::time::Duration;

use crate::cluster::Endpoint;

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
}
