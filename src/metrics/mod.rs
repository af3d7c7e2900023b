//! Counters, gauges and histograms, by name: the one list of what Evenkeel measures.
//!
//! Invariant: every label's set of values is bounded (API names, reasons, our own enums, and node ids up to the listeners' limit).
//! Deliberately absent: who counts, and why.

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

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
    /// By `reason` (refused, timeout, unreachable, resolve, other).
    pub upstream_connect_failures: IntCounterVec,
    pub upstream_connections_open: IntGauge,

    // View and discovery.
    /// Seconds since the brokers' list was last confirmed.
    pub view_age_seconds: prometheus::Gauge,
    pub view_brokers: IntGauge,
    /// By `outcome` (ok, failed).
    pub view_refreshes: IntCounterVec,

    // Rewriting and limits.
    /// By `api`.
    pub rewrites: IntCounterVec,
    /// By `limit`.
    pub limit_hits: IntCounterVec,
    /// By `kind` (tls, http, text, oversized, malformed, unknown_api, …): what closed a client.
    pub bad_clients: IntCounterVec,
}

/// 10 µs to 10 s.
const LATENCY_BUCKETS_SECONDS: &[f64] =
    &[0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

impl Metrics {
    /// Registers every metric in a registry of its own.
    ///
    /// # Panics
    /// Only if two metrics in the list above share a name, which a test rules out.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let made = Made { registry: &registry };
        Metrics {
            sessions_open: made.gauge("sessions_open", "Client connections open now."),
            sessions_total: made.counter("sessions_total", "Client connections accepted since start."),
            sessions_closed: made.counters("sessions_closed_total", "Client connections closed, by what ended them.", "reason"),
            accepts_refused: made.counters(
                "accepts_refused_total",
                "Client connections turned away before a session began, by reason.",
                "reason",
            ),
            virtual_brokers: made.gauge("virtual_brokers", "Ports that listen for a broker's node id."),
            requests: made.counters("requests_total", "Requests received from clients, by API.", "api"),
            requests_in_flight: made.gauge("requests_in_flight", "Requests that wait for their response."),
            relayed_bytes: made.counters(
                "relayed_bytes_total",
                "Bytes relayed, by direction (request: to brokers; response: to clients).",
                "direction",
            ),
            upstream_latency_seconds: made.histograms(
                "upstream_latency_seconds",
                "Time from sending a request to a broker to the first bytes of its response, by API.",
                "api",
            ),
            added_latency_seconds: made.histograms(
                "added_latency_seconds",
                "Time that bytes spend in the proxy between being read on one side and written on the other, by direction.",
                "direction",
            ),
            upstream_connects: made.counter("upstream_connects_total", "Connections made to brokers."),
            upstream_connect_failures: made.counters(
                "upstream_connect_failures_total",
                "Connections to brokers that could not be made, by reason.",
                "reason",
            ),
            upstream_connections_open: made.gauge("upstream_connections_open", "Connections to brokers open now."),
            view_age_seconds: made.gauge_f64("view_age_seconds", "Time since a broker last confirmed the list of brokers."),
            view_brokers: made.gauge("view_brokers", "Brokers that the cluster lists now."),
            view_refreshes: made.counters(
                "view_refreshes_total",
                "Requests of the proxy's own for the cluster's metadata, by outcome.",
                "outcome",
            ),
            rewrites: made.counters("rewrites_total", "Responses whose addresses or versions were rewritten, by API.", "api"),
            limit_hits: made.counters("limit_hits_total", "Times a configured limit was reached, by limit.", "limit"),
            bad_clients: made.counters("bad_clients_total", "Clients closed for what they sent, by kind.", "kind"),
            registry,
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

struct Made<'a> {
    registry: &'a Registry,
}

impl Made<'_> {
    fn register<C: prometheus::core::Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let collector = made.expect("a metric of the list is well-formed");
        self.registry.register(Box::new(collector.clone())).expect("names in the list are unique");
        collector
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(opts(name, help)))
    }

    fn gauge_f64(&self, name: &str, help: &str) -> prometheus::Gauge {
        self.register(prometheus::Gauge::with_opts(opts(name, help)))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(opts(name, help)))
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> IntCounterVec {
        self.register(IntCounterVec::new(opts(name, help), &[label]))
    }

    fn histograms(&self, name: &str, help: &str, label: &str) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).namespace("evenkeel").buckets(LATENCY_BUCKETS_SECONDS.to_vec());
        self.register(HistogramVec::new(opts, &[label]))
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("evenkeel")
}
