//! The driver's counters, looked up once and not per request.

use prometheus::{Histogram, IntCounter};

use crate::metrics::Metrics;
use crate::wire::ApiKey;

/// Keys from 0 up that have a place of their own; others share the last one.
const API_SLOTS: usize = 128;

#[derive(Debug)]
pub struct Counting {
    pub metrics: Metrics,
    pub request_bytes: IntCounter,
    pub response_bytes: IntCounter,
    pub request_added_latency: Histogram,
    pub response_added_latency: Histogram,
    per_api: Vec<std::sync::OnceLock<PerApi>>,
}

#[derive(Debug)]
pub struct PerApi {
    pub requests: IntCounter,
    pub upstream_latency: Histogram,
}

impl Counting {
    pub fn new(metrics: Metrics) -> Counting {
        Counting {
            request_bytes: metrics.relayed_bytes.with_label_values(&["request"]),
            response_bytes: metrics.relayed_bytes.with_label_values(&["response"]),
            request_added_latency: metrics.added_latency_seconds.with_label_values(&["request"]),
            response_added_latency: metrics.added_latency_seconds.with_label_values(&["response"]),
            per_api: (0..API_SLOTS).map(|_| std::sync::OnceLock::new()).collect(),
            metrics,
        }
    }

    /// A series appears when its API is first used.
    pub fn api(&self, api: ApiKey) -> &PerApi {
        let index = usize::try_from(api.0).unwrap_or(API_SLOTS).min(API_SLOTS - 1);
        self.per_api[index].get_or_init(|| PerApi {
            requests: self.metrics.requests.with_label_values(&[api.name()]),
            upstream_latency: self.metrics.upstream_latency_seconds.with_label_values(&[api.name()]),
        })
    }
}
