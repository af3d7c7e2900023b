//! What is measured of departures, and of the detours that hide them.
//!
//! Invariant: every series is there from the start, at 0. Deliberately absent: which broker; logs and `/status.json` tell that.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::made::Made;

/// Kafka's codes of errors that clients may not get to see; any other is counted as `other`.
pub const MASKED_CODES: [i16; 8] = [3, 5, 6, 19, 45, 56, 72, 100];
const OTHER_CODE: &str = "other";

#[derive(Clone, Debug)]
pub struct DepartureMetrics {
    /// By `reason` (refused, closed, silent, not_listed): one per departure.
    pub departures: IntCounterVec,
    /// By `reason`: one per session and sign.
    pub signs: IntCounterVec,
    /// Departed now.
    pub open: IntGauge,
    pub retired: IntCounter,

    /// By `reason` (home_lost, moved, leg_lost, gate, routed).
    pub detours_started: IntCounterVec,
    /// By `outcome` (acknowledged, errors, deadline, cancelled).
    pub detours_ended: IntCounterVec,
    pub detour_held_seconds: Histogram,
    pub attempts: IntCounter,
    pub resent_bytes: IntCounter,
    /// By `kind` (idempotent, plain).
    pub ambiguous_resends: IntCounterVec,
    pub gate_wait_seconds: Histogram,
    pub deadline_misses: IntCounter,
    pub budget_refusals: IntCounter,
    pub kept_bytes: IntGauge,
    pub gate_tickets: IntGauge,

    /// By `code`; see `code_label`.
    pub masked_errors: IntCounterVec,
    /// By `kind` (broker_added, leader_kept, epoch_raised).
    pub metadata_masked: IntCounterVec,
    pub metadata_held_seconds: Histogram,
}

impl DepartureMetrics {
    pub(super) fn made(made: &Made) -> DepartureMetrics {
        let metrics = DepartureMetrics {
            departures: made.counters(
                "departures_total",
                "Brokers that departed, by the first sign of it (refused: it refuses connections, or they come to nothing; closed: it \
                 closed one with something unanswered; silent: it does not answer; not_listed: the cluster does not name it).",
                "reason",
            ),
            signs: made.counters(
                "departure_signs_total",
                "Signs of departing brokers as single client connections met them, by reason. Many without departures: brokers or the \
                 network drop connections.",
                "reason",
            ),
            open: made.gauge("brokers_departed", "Brokers that have departed and have neither returned nor been retired."),
            retired: made.counter(
                "departures_retired_total",
                "Departed brokers that clients are no longer told of, since none had used them for departures.unlist_after.",
            ),
            detours_started: made.counters(
                "detours_started_total",
                "Produce requests that took more than their way to their broker and back, by reason (home_lost: their connection was \
                 lost; moved: a partition's leader is elsewhere; leg_lost: another connection was; gate: they wait behind such a \
                 request; routed: the leader was known to be elsewhere).",
                "reason",
            ),
            detours_ended: made.counters(
                "detours_ended_total",
                "The same once answered, by outcome (acknowledged; errors: a broker's own final error; deadline: the client would not \
                 have waited longer; cancelled: the transaction ended first).",
                "outcome",
            ),
            detour_held_seconds: made.waits(
                "detour_held_seconds",
                "How long produce requests took from the moment that their way was found wrong to their answer.",
            ),
            attempts: made.counter("detour_attempts_total", "Requests, or parts of one, sent to a broker on behalf of a detour."),
            resent_bytes: made.counter("resent_bytes_total", "Bytes of requests that were sent again."),
            ambiguous_resends: made.counters(
                "ambiguous_resends_total",
                "Batches sent again that may have been applied already, by kind (idempotent: their broker knows them again; plain: one \
                 may be in the log twice, see departures.ambiguous_produce).",
                "kind",
            ),
            gate_wait_seconds: made
                .waits("gate_wait_seconds", "How long batches on a detour waited for an earlier one of the same producer and partition."),
            deadline_misses: made.counter(
                "deadline_misses_total",
                "Produce requests answered with an error since their client would not have waited longer: what a departure cost that \
                 could not be hidden.",
            ),
            budget_refusals: made.counter(
                "budget_refusals_total",
                "Requests for which limits.kept_bytes or limits.kept_bytes_per_session left no room to keep them: they passed without \
                 protection, or had to wait.",
            ),
            kept_bytes: made
                .gauge("kept_bytes", "Bytes of requests kept now, in case that they have to be sent again (limits.kept_bytes)."),
            gate_tickets: made
                .gauge("gate_tickets", "Batches in line now, so that none overtakes an earlier one of its producer and partition."),
            masked_errors: made.counters(
                "masked_errors_total",
                "Errors of partitions that clients did not get to see, by Kafka's code (3 UNKNOWN_TOPIC_OR_PARTITION, 5 \
                 LEADER_NOT_AVAILABLE, 6 NOT_LEADER_OR_FOLLOWER, 19 NOT_ENOUGH_REPLICAS, 45 OUT_OF_ORDER_SEQUENCE_NUMBER, 56 \
                 KAFKA_STORAGE_ERROR, 72 LISTENER_NOT_FOUND, 100 UNKNOWN_TOPIC_ID, other).",
                "code",
            ),
            metadata_masked: made.counters(
                "metadata_masked_total",
                "What metadata responses tell otherwise than their broker did, by kind (broker_added: a departed broker goes on to be \
                 named; leader_kept: a partition without a leader, its last one is named; epoch_raised: the broker was behind).",
                "kind",
            ),
            metadata_held_seconds: made.waits(
                "metadata_held_seconds",
                "How long metadata responses were held that would have sent their client to a leader which had just refused a batch.",
            ),
        };
        // A rate over a counter's first appearance would miss its first increment.
        for reason in ["refused", "closed", "silent", "not_listed"] {
            metrics.departures.with_label_values(&[reason]);
            metrics.signs.with_label_values(&[reason]);
        }
        for reason in ["home_lost", "moved", "leg_lost", "gate", "routed"] {
            metrics.detours_started.with_label_values(&[reason]);
        }
        for outcome in ["acknowledged", "errors", "deadline", "cancelled"] {
            metrics.detours_ended.with_label_values(&[outcome]);
        }
        for kind in ["idempotent", "plain"] {
            metrics.ambiguous_resends.with_label_values(&[kind]);
        }
        for kind in ["broker_added", "leader_kept", "epoch_raised"] {
            metrics.metadata_masked.with_label_values(&[kind]);
        }
        for code in MASKED_CODES {
            metrics.masked_errors.with_label_values(&[code_label(code)]);
        }
        metrics.masked_errors.with_label_values(&[OTHER_CODE]);
        metrics
    }
}

/// A bounded label for an error code that any broker may say.
pub fn code_label(code: i16) -> &'static str {
    const LABELS: [&str; 8] = ["3", "5", "6", "19", "45", "56", "72", "100"];
    MASKED_CODES.iter().position(|known| *known == code).and_then(|at| LABELS.get(at)).copied().unwrap_or(OTHER_CODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_known_code_is_its_own_label_and_others_share_one() {
        for code in MASKED_CODES {
            assert_eq!(code_label(code), code.to_string());
        }
        assert_eq!(code_label(-1), "other");
        assert_eq!(code_label(i16::MAX), "other");
    }
}
