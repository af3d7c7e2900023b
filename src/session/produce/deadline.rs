//! How long a client waits for a produce response before it gives up, less a margin: until then a detour may hold it.
//!
//! Read in the clients' own sources, at their defaults; `timeout_ms` is what stands in the request. A client that is not known, or does
//! not say what it is (KIP-511, ApiVersions 3), is taken to give up at `timeout_ms`.
//!
//! Deliberately absent: clients' other settings, which do not stand on the wire.

use std::time::Duration;

/// What is left for the answer's way, and for clocks that differ.
const MARGIN: Duration = Duration::from_millis(500);
/// franz-go waits so much longer than `timeout_ms` (kgo `ProduceRequestTimeout` plus `RequestTimeoutOverhead`).
const FRANZ_GO_OVERHEAD: Duration = Duration::from_secs(10);
/// sarama's `Net.ReadTimeout`.
const SARAMA_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// A request without a sensible timeout (with `acks=0` it means nothing) is given the time that a detour takes.
const SHORTEST: Duration = Duration::from_secs(1);
/// Nobody is held longer, whatever stands in a request.
const LONGEST: Duration = Duration::from_secs(120);

/// `software`: the name in ApiVersions, empty if unknown. `override_ms`: what the configuration says instead.
pub fn patience(software: &str, timeout_ms: i32, configured: Option<Duration>) -> Duration {
    let wire = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    let gives_up = configured.unwrap_or(match software {
        "kgo" | "franz-go" => wire + FRANZ_GO_OVERHEAD,
        "sarama" => wire.max(SARAMA_READ_TIMEOUT),
        _ => wire,
    });
    // A tenth for those who hardly wait at all.
    let margin = MARGIN.min(gives_up / 10);
    gives_up.saturating_sub(margin).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn known_clients_are_given_the_time_that_they_take() {
        assert_eq!(patience("kgo", 10_000, None), 20 * S - MARGIN);
        assert_eq!(patience("sarama", 10_000, None), 30 * S - MARGIN);
        assert_eq!(patience("apache-kafka-java", 30_000, None), 30 * S - MARGIN);
        assert_eq!(patience("", 5_000, None), 5 * S - MARGIN);
        assert_eq!(patience("kgo", 10_000, Some(2 * S)), 2 * S - 2 * S / 10);
    }

    #[test]
    fn absurd_timeouts_are_bounded() {
        assert_eq!(patience("", -5, None), SHORTEST);
        assert_eq!(patience("", i32::MAX, None), LONGEST);
        assert_eq!(patience("", 100, None), SHORTEST);
    }
}
