//! Counters, gauges and histograms, by name: the one list of what Evenkeel measures.
//!
//! Invariant: every label's set of values is bounded (API names, reasons, our own enums, and node ids up to the listeners' limit).
//! Deliberately absent: who counts, and why.

mod departures;
mod made;
#[cfg(test)]
mod tests;

use prometheus::{Gauge, HistogramVec, IntCounter, IntCounterVec, IntGauge, Registry};

pub use departures::{DepartureMetrics, code_label};
use made::Made;

/// Every metric, registered in one registry. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub registry: Registry,

    // Sessions and listeners.
    pub sessions_open: IntGauge,
    pub sessions_total: IntCounter,
    /// By `reason`.
    pub sessions_closed: IntCounterVec,
    /// By `reason` (max_connections, file_descriptors, other).
    pub accepts_refused: IntCounterVec,
    pub virtual_brokers: IntGauge,

    // Requests.
    /// By `api`.
    pub requests: IntCounterVec,
    pub requests_in_flight: IntGauge,
    /// By `direction` (request, response).
    pub relayed_bytes: IntCounterVec,
    /// By `api`: from a request's head leaving to its response's head arriving.
    pub upstream_latency_seconds: HistogramVec,
    /// By `direction`: from bytes being read to their being written on the other side.
    pub added_latency_seconds: HistogramVec,

    // Upstream.
    pub upstream_connects: IntCounter,
    /// By `reason` (refused, timeout, budget, unreachable, resolve, other).
    pub upstream_connect_failures: IntCounterVec,
    pub upstream_connections_open: IntGauge,

    // View and discovery.
    /// Seconds since the brokers' list was last confirmed; since start, while it never was.
    pub view_age_seconds: Gauge,
    pub view_brokers: IntGauge,
    /// By `outcome` (ok, failed).
    pub view_refreshes: IntCounterVec,

    // Rewriting and limits.
    /// By `api`.
    pub rewrites: IntCounterVec,
    /// By `limit`.
    pub limit_hits: IntCounterVec,
    /// By `kind` (tls, http, text, frame_too_large, malformed, unknown_api, …): what closed a client.
    pub bad_clients: IntCounterVec,

    pub departures: DepartureMetrics,
}

impl Metrics {
    /// Registers every metric in a registry of its own.
    ///
    /// # Panics
    /// Only if two metrics in the list share a name, which a test rules out.
    pub fn new() -> Metrics {
        Metrics::made(&Made::new())
    }

    fn made(made: &Made) -> Metrics {
        made.build_info();
        made.process();
        let metrics = Metrics {
            registry: made.registry.clone(),
            sessions_open: made.gauge("sessions_open", "Client connections open now."),
            sessions_total: made.counter("sessions_total", "Client connections accepted since start."),
            sessions_closed: made.counters("sessions_closed_total", "Client connections closed, by what ended them.", "reason"),
            accepts_refused: made.counters(
                "accepts_refused_total",
                "Client connections turned away before they began, by reason. max_connections: raise limits.connections, or find who \
                 opens so many; file_descriptors: raise the process's limit of open files.",
                "reason",
            ),
            virtual_brokers: made.gauge("virtual_brokers", "Ports that listen for a broker's node id."),
            requests: made.counters("requests_total", "Requests received from clients, by Kafka API.", "api"),
            requests_in_flight: made.gauge("requests_in_flight", "Requests of clients that wait for their response now."),
            relayed_bytes: made.counters(
                "relayed_bytes_total",
                "Bytes relayed, by direction (request: from clients to brokers; response: from brokers to clients).",
                "direction",
            ),
            upstream_latency_seconds: made.latencies(
                "upstream_latency_seconds",
                "Time from the first bytes of a request to the first bytes of its broker's response, by Kafka API; connecting, where that is \
                 needed first, included. Fetch, JoinGroup and the like wait at the broker on purpose.",
                "api",
            ),
            added_latency_seconds: made.latencies(
                "added_latency_seconds",
                "Time that bytes spend in Evenkeel between being read on one side and written on the other, by direction (request, \
                 response). High where the receiving side is slow to take them.",
                "direction",
            ),
            upstream_connects: made.counter("upstream_connects_total", "Connections made to brokers."),
            upstream_connect_failures: made.counters(
                "upstream_connect_failures_total",
                "Connections to brokers that could not be made, by reason (refused, timeout, budget: no turn within \
                 limits.connects_per_second_per_broker, unreachable, resolve, other).",
                "reason",
            ),
            upstream_connections_open: made.gauge("upstream_connections_open", "Connections to brokers open now."),
            view_age_seconds: made.gauge_f64(
                "view_age_seconds",
                "Time since a broker last confirmed the cluster's list of brokers (since start, while none has). Well above \
                 discovery.poll_interval: no broker answers.",
            ),
            view_brokers: made.gauge("view_brokers", "Brokers that the cluster lists now, as far as is known."),
            view_refreshes: made.counters(
                "view_refreshes_total",
                "Evenkeel's own requests for the cluster's metadata, by outcome (ok, failed).",
                "outcome",
            ),
            rewrites: made.counters(
                "rewrites_total",
                "Responses in which brokers' addresses or versions were replaced by Evenkeel's, by Kafka API.",
                "api",
            ),
            limit_hits: made.counters("limit_hits_total", "Times that a limit of the configuration was reached, by limit (queued_bytes and slots_per_session are ordinary back-pressure).", "limit"),
            bad_clients: made.counters(
                "bad_clients_total",
                "Clients disconnected for what they sent, by kind (such as tls or http on this plain Kafka port, frame_too_large, malformed).",
                "kind",
            ),
            departures: DepartureMetrics::made(made),
        };
        // Series that exist from the start: a rate over a counter's first appearance would miss its first increment.
        for direction in ["request", "response"] {
            metrics.relayed_bytes.with_label_values(&[direction]);
            metrics.added_latency_seconds.with_label_values(&[direction]);
        }
        for outcome in ["ok", "failed"] {
            metrics.view_refreshes.with_label_values(&[outcome]);
        }
        metrics
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}
