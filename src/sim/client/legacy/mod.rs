//! A *model* of a client that cannot be changed: the producer of franz-go (kgo) 1.17.0, by its rules, not its code.
//!
//! The rules that decide how it takes a broker's departure are here, each named after where it stands in kgo 1.17.0 (`pkg/kgo`):
//! - one sink per broker, requests in order on one connection; one request in flight until the first answer, then four, and more than
//!   one per partition only while answers are good (`sink.go`: `newSink`, `firstRespCheck`, `okOnSink`);
//! - a refusal such as NOT_LEADER stops its partition until the next metadata, unless Produce ≥ 10 names the new leader and all brokers
//!   (`handleRetryBatches`, `kip951move`);
//! - metadata is asked for at most every 5 s, and by itself every 5 min (`updateMetadataLoop`: `MetadataMinAge`, `MetadataMaxAge`);
//! - a connection that ends: the *same* broker again after 250 ms ± 20 %, doubling up to 2.5 s, with no more than an opportunistic look at
//!   the metadata (`maybeBackoff`, `retryBackoff`);
//! - a refused connection, a leader that is not listed (looked for twice) or −1: as a refusal (`handleReqClientErr`, `brokerOrErr`);
//! - a broker whose host, port or rack changes, or that is not listed, loses all of its connections (`updateBrokers`);
//! - an epoch that goes backwards is ignored five times (`mergeTopicPartitions`).
//!
//! Invariant: [`Core`] decides and knows neither sockets nor a clock, so every rule is tested in virtual time; [`load`] drives it.
//! Deliberately not here: consuming, transactions, compression, record timeouts, partitioning (the caller chooses), several topics.

mod buffer;
mod core;
mod exchange;
mod flight;
mod learn;
pub mod load;
mod metadata;
mod outcome;
mod sink;
mod sockets;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::core::Core;
pub use self::exchange::{Action, Answer, Broker, Exchanged, Failure, Part, PartAnswer, PartitionSeen, Seen, Target};

/// The numbers behind the rules: kgo 1.17.0's defaults.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The highest version of Produce that the client writes: 10 in 1.17.0. 9 has no leader hints, as on brokers before 3.7.
    pub produce_version_max: i16,
    /// How long a partition's first record waits for more.
    pub linger: Duration,
    /// Metadata is not asked for again before this.
    pub metadata_min_age: Duration,
    /// Metadata is asked for again after this, whatever happens.
    pub metadata_max_age: Duration,
    /// Back-off of a first failure; it doubles.
    pub backoff_min: Duration,
    /// Back-off at most.
    pub backoff_max: Duration,
    /// Requests in flight per broker once the first answer was seen.
    pub in_flight_max: usize,
    /// Records that may wait; then the caller does.
    pub buffered_records_max: usize,
    /// Records in one batch (kgo counts bytes: 1 MB).
    pub batch_records_max: u64,
    /// What a produce request says that the broker may take.
    pub produce_timeout: Duration,
    /// What is waited for an answer beyond that.
    pub timeout_overhead: Duration,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            produce_version_max: 10,
            linger: Duration::ZERO,
            metadata_min_age: Duration::from_secs(5),
            metadata_max_age: Duration::from_secs(300),
            backoff_min: Duration::from_millis(250),
            backoff_max: Duration::from_millis(2_500),
            in_flight_max: 4,
            buffered_records_max: 10_000,
            batch_records_max: 5_000,
            produce_timeout: Duration::from_secs(10),
            timeout_overhead: Duration::from_secs(10),
        }
    }
}

impl Rules {
    /// How long after the `failures`th failure in a row is waited (`retryBackoff`): ± 20 %, then capped.
    fn backoff(&self, failures: u32, rng: &mut fastrand::Rng) -> Duration {
        if failures == 0 {
            return self.backoff_min;
        }
        let doubled = self.backoff_min.saturating_mul(1 << failures.saturating_sub(1).min(10));
        doubled.mul_f64(0.8 + 0.4 * rng.f64()).min(self.backoff_max)
    }
}
