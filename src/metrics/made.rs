//! Making metrics: one way for each shape, all in one registry under one prefix.

use std::cell::RefCell;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

const PREFIX: &str = "evenkeel";

/// 10 µs to 10 s.
const LATENCY_BUCKETS_SECONDS: &[f64] =
    &[0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// 1 ms to 2 minutes, which no client's patience exceeds.
const WAIT_BUCKETS_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Counter,
    Gauge,
    Histogram,
}

/// What was made, for the tests that hold the whole list against the rules of naming.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "only the tests look into what was made"))]
pub(super) struct Described {
    pub name: String,
    pub help: String,
    pub labels: Vec<String>,
    pub shape: Shape,
}

pub(super) struct Made {
    pub registry: Registry,
    pub described: RefCell<Vec<Described>>,
}

impl Made {
    pub fn new() -> Made {
        Made { registry: Registry::new(), described: RefCell::default() }
    }

    fn register<C: Collector + Clone + 'static>(&self, shape: Shape, made: prometheus::Result<C>) -> C {
        let collector = made.expect("a metric of the list is well-formed");
        self.described.borrow_mut().extend(collector.desc().into_iter().map(|desc| Described {
            name: desc.fq_name.clone(),
            help: desc.help.clone(),
            labels: desc.variable_labels.clone(),
            shape,
        }));
        self.registry.register(Box::new(collector.clone())).expect("names in the list are unique");
        collector
    }

    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(Shape::Gauge, IntGauge::with_opts(opts(name, help)))
    }

    pub fn gauge_f64(&self, name: &str, help: &str) -> Gauge {
        self.register(Shape::Gauge, Gauge::with_opts(opts(name, help)))
    }

    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(Shape::Counter, IntCounter::with_opts(opts(name, help)))
    }

    pub fn counters(&self, name: &str, help: &str, label: &str) -> IntCounterVec {
        self.register(Shape::Counter, IntCounterVec::new(opts(name, help), &[label]))
    }

    /// Histograms of seconds, one per value of `label`.
    pub fn latencies(&self, name: &str, help: &str, label: &str) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).namespace(PREFIX).buckets(LATENCY_BUCKETS_SECONDS.to_vec());
        self.register(Shape::Histogram, HistogramVec::new(opts, &[label]))
    }

    /// A histogram of seconds that something was held up.
    pub fn waits(&self, name: &str, help: &str) -> Histogram {
        let opts = HistogramOpts::new(name, help).namespace(PREFIX).buckets(WAIT_BUCKETS_SECONDS.to_vec());
        self.register(Shape::Histogram, Histogram::with_opts(opts))
    }

    /// What runs here: always 1, for joining its labels to other metrics.
    pub fn build_info(&self) {
        let opts = opts("build_info", "The version that runs; always 1.")
            .const_label("version", env!("CARGO_PKG_VERSION"))
            .const_label("target_arch", std::env::consts::ARCH);
        self.register(Shape::Gauge, IntGauge::with_opts(opts)).set(1);
    }

    /// CPU, memory, threads and file descriptors of this process, under Prometheus' standard names (`process_…`).
    pub fn process(&self) {
        let registered = self.registry.register(Box::new(ProcessCollector::for_self()));
        registered.expect("the process collector's names are its own");
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(PREFIX)
}
