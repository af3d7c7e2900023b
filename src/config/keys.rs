//! The table of the configuration's keys: the one place that says which there are, what shape their values have, within which bounds,
//! and what holds where nothing is said.
//!
//! Invariant: a key that is not in this table does not exist; `config/evenkeel.yaml` lists exactly these. Deliberately absent: how
//! settings are used.

use std::time::Duration;

/// One key.
#[derive(Debug)]
pub struct Key {
    /// `section.name`, or a bare `name`.
    pub path: &'static str,
    pub kind: Kind,
    /// As it would be written in the file. `None`: required, or nothing holds where nothing is said.
    pub default: Option<&'static str>,
}

/// The shape of a value, and its inclusive bounds.
#[derive(Debug)]
pub enum Kind {
    /// A time with a unit: `250ms`, `1m 30s`.
    Duration {
        min: Duration,
        max: Duration,
    },
    /// Bytes with a unit: `64MiB`.
    Size {
        min: u64,
        max: u64,
    },
    Count {
        min: u64,
        max: u64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A shape that has a parser of its own.
    Own,
}

const MS: u64 = 1;
const SECOND: u64 = 1000 * MS;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// A frame's length is a signed 32-bit number, and its own four bytes count here too.
const LARGEST_FRAME_BYTES: u64 = i32::MAX as u64;

const fn time(path: &'static str, default: &'static str, min_ms: u64, max_ms: u64) -> Key {
    let kind = Kind::Duration { min: Duration::from_millis(min_ms), max: Duration::from_millis(max_ms) };
    Key { path, kind, default: Some(default) }
}

const fn size(path: &'static str, default: &'static str, min: u64, max: u64) -> Key {
    Key { path, kind: Kind::Size { min, max }, default: Some(default) }
}

const fn count(path: &'static str, default: Option<&'static str>, min: u64, max: u64) -> Key {
    Key { path, kind: Kind::Count { min, max }, default }
}

const fn choice(path: &'static str, default: &'static str, words: &'static [&'static str]) -> Key {
    Key { path, kind: Kind::Choice(words), default: Some(default) }
}

const fn own(path: &'static str, default: Option<&'static str>) -> Key {
    Key { path, kind: Kind::Own, default }
}

/// Every key, in the order of the annotated file.
pub const KEYS: &[Key] = &[
    own("upstream.bootstrap", None),
    time("upstream.connect_timeout", "10s", 10 * MS, 5 * MINUTE),
    time("upstream.keepalive", "60s", SECOND, 2 * HOUR),
    own("listen.bootstrap", Some("127.0.0.1:19092")),
    own("listen.advertise", None),
    own("listen.node_ids", Some("0-99")),
    own("listen.ports", Some("{}")),
    own("listen.overflow_ports", Some("auto")),
    own("admin.listen", Some("127.0.0.1:19000")),
    choice("admin.rehearsal", "false", &["false", "true"]),
    count("limits.connections", Some("10000"), 1, 1_000_000),
    size("limits.request_bytes", "100MiB", 64 * KIB, LARGEST_FRAME_BYTES),
    size("limits.response_bytes", "100MiB", 64 * KIB, LARGEST_FRAME_BYTES),
    size("limits.head_bytes", "4KiB", 512, 64 * KIB),
    count("limits.slots_per_session", Some("1024"), 1, 65_536),
    size("limits.parked_bytes", "64KiB", 0, 16 * MIB),
    size("limits.rewrite_bytes", "32MiB", 64 * KIB, 1024 * MIB),
    size("limits.queued_bytes", "256KiB", 4 * KIB, 64 * MIB),
    size("limits.kept_bytes_per_session", "16MiB", 64 * KIB, LARGEST_FRAME_BYTES),
    size("limits.kept_bytes", "256MiB", 64 * KIB, 64 * 1024 * MIB),
    count("limits.connects_per_second_per_broker", Some("50"), 1, 100_000),
    count("limits.view_brokers", Some("1000"), 100, 100_000),
    count("limits.view_topics", Some("20000"), 1, 10_000_000),
    count("limits.view_partitions", Some("200000"), 1, 100_000_000),
    count("limits.view_coordinators", Some("10000"), 1, 10_000_000),
    time("timeouts.handshake", "10s", 100 * MS, 10 * MINUTE),
    time("timeouts.idle", "11m", SECOND, 24 * HOUR),
    time("timeouts.half_close", "10s", 100 * MS, 10 * MINUTE),
    own("timeouts.unacknowledged", Some("none")),
    time("timeouts.drain", "30s", 0, HOUR),
    time("discovery.poll_interval", "30s", 100 * MS, HOUR),
    time("discovery.min_interval", "50ms", MS, MINUTE),
    time("discovery.backoff_min", "10ms", MS, MINUTE),
    time("discovery.backoff_max", "5s", MS, 10 * MINUTE),
    time("discovery.request_timeout", "5s", 10 * MS, 5 * MINUTE),
    time("departures.suspect_after", "1s", 10 * MS, MINUTE),
    time("departures.backoff_min", "10ms", MS, MINUTE),
    time("departures.backoff_max", "500ms", MS, MINUTE),
    time("departures.hold_mixed", "1s", 0, MINUTE),
    time("departures.metadata_hold", "500ms", 0, 10 * SECOND),
    time("departures.leaderless", "5s", 0, 10 * MINUTE),
    time("departures.linger", "30s", SECOND, HOUR),
    time("departures.unlist_after", "15m", 5 * MINUTE, 7 * 24 * HOUR),
    choice("departures.ambiguous_produce", "resend", &["resend", "fail"]),
    own("departures.client_patience", Some("auto")),
    choice("unknown_apis", "hide", &["hide", "pass"]),
    count("runtime.worker_threads", None, 1, 1024),
    choice("log.format", "text", &["text", "json"]),
    own("log.level", Some("info")),
];

/// The key with this path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether some key lies under `path`.
pub fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.split_once('.').is_some_and(|(section, _)| section == path))
}

/// The names that may stand in a section (`""`: at the top), each once.
pub fn names_in(section: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in KEYS {
        let name = match key.path.split_once('.') {
            Some((of, name)) if of == section => name,
            Some((of, _)) if section.is_empty() => of,
            None if section.is_empty() => key.path,
            _ => continue,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}
