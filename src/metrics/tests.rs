use std::collections::BTreeSet;

use prometheus::{Encoder, TextEncoder};

use super::made::{Made, Shape};
use super::*;

/// Labels whose values come from our own enums and tables. A label that takes its values from clients or the cluster (client id, topic,
/// address, group) must never stand here: it would grow without bound.
const BOUNDED_LABELS: &[&str] = &["api", "code", "direction", "kind", "limit", "outcome", "reason"];

/// Gauges that count things and so have no unit.
const COUNTING_GAUGES: &[&str] = &[
    "evenkeel_sessions_open",
    "evenkeel_virtual_brokers",
    "evenkeel_requests_in_flight",
    "evenkeel_upstream_connections_open",
    "evenkeel_view_brokers",
    "evenkeel_brokers_departed",
    "evenkeel_gate_tickets",
    "evenkeel_build_info",
];

#[test]
fn names_follow_prometheus_rules() {
    let made = Made::new();
    Metrics::made(&made);
    let mut seen = BTreeSet::new();
    for metric in made.described.borrow().iter() {
        let name = metric.name.as_str();
        assert!(seen.insert(name.to_owned()), "{name} twice");
        assert!(name.starts_with("evenkeel_"), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        match metric.shape {
            Shape::Counter => assert!(name.ends_with("_total"), "{name}: a counter ends in _total"),
            Shape::Histogram => assert!(name.ends_with("_seconds") || name.ends_with("_bytes"), "{name}: without a unit"),
            Shape::Gauge => {
                let has_unit = name.ends_with("_seconds") || name.ends_with("_bytes");
                assert!(has_unit != COUNTING_GAUGES.contains(&name), "{name}: with a unit, or in the list of those that count");
                assert!(!name.ends_with("_total"), "{name}");
            }
        }
        assert!(metric.help.ends_with('.') && metric.help.len() > 20, "{name}: {}", metric.help);
    }
}

#[test]
fn no_label_is_unbounded() {
    let made = Made::new();
    Metrics::made(&made);
    for metric in made.described.borrow().iter() {
        assert!(metric.labels.len() <= 1, "{}: labels multiply", metric.name);
        for label in &metric.labels {
            assert!(BOUNDED_LABELS.contains(&label.as_str()), "{}: label {label}", metric.name);
        }
    }
}

#[test]
fn build_and_process_are_among_them() {
    let metrics = Metrics::new();
    let mut text = Vec::new();
    TextEncoder::new().encode(&metrics.registry.gather(), &mut text).expect("encodes");
    let text = String::from_utf8(text).expect("is text");
    assert!(text.contains(&format!("version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))), "{text}");
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_cpu_seconds_total"] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name}: {text}");
    }
    assert!(text.contains("evenkeel_relayed_bytes_total{direction=\"request\"} 0"), "{text}");
}

#[test]
fn what_is_measured_of_departures_is_there_from_the_start() {
    let metrics = Metrics::new();
    let mut text = Vec::new();
    TextEncoder::new().encode(&metrics.registry.gather(), &mut text).expect("encodes");
    let text = String::from_utf8(text).expect("is text");
    for series in [
        "departures_total{reason=\"silent\"} 0",
        "departure_signs_total{reason=\"closed\"} 0",
        "brokers_departed 0",
        "detours_started_total{reason=\"home_lost\"} 0",
        "detours_ended_total{outcome=\"deadline\"} 0",
        "detour_held_seconds_count 0",
        "detour_attempts_total 0",
        "resent_bytes_total 0",
        "ambiguous_resends_total{kind=\"plain\"} 0",
        "gate_wait_seconds_count 0",
        "deadline_misses_total 0",
        "budget_refusals_total 0",
        "masked_errors_total{code=\"6\"} 0",
        "masked_errors_total{code=\"other\"} 0",
        "metadata_masked_total{kind=\"leader_kept\"} 0",
        "metadata_held_seconds_count 0",
        "kept_bytes 0",
        "gate_tickets 0",
    ] {
        assert!(text.lines().any(|line| line == format!("evenkeel_{series}")), "{series}: {text}");
    }
}
