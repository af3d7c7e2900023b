//! Counting what the core says happened.

use super::Environment;
use crate::metrics::code_label;
use crate::rewrite::Masked;
use crate::session::Note;

impl Environment {
    pub(super) fn note(&self, note: &Note) {
        tracing::trace!(?note, "detour");
        self.cluster.noticed(note);
        let metrics = &self.counting.metrics.departures;
        match note {
            Note::Departure { sign, .. } => metrics.signs.with_label_values(&[sign.as_str()]).inc(),
            Note::DetourStarted(start) => metrics.detours_started.with_label_values(&[start.as_str()]).inc(),
            Note::DetourEnded { end, held } => {
                metrics.detours_ended.with_label_values(&[end.as_str()]).inc();
                metrics.detour_held_seconds.observe(held.as_secs_f64());
            }
            Note::Attempt => metrics.attempts.inc(),
            Note::Resent { bytes } => metrics.resent_bytes.inc_by(*bytes as u64),
            Note::AmbiguousResend { idempotent } => {
                metrics.ambiguous_resends.with_label_values(&[if *idempotent { "idempotent" } else { "plain" }]).inc();
            }
            Note::MaskedError(code) => metrics.masked_errors.with_label_values(&[code_label(*code)]).inc(),
            Note::GateWait(wait) => metrics.gate_wait_seconds.observe(wait.as_secs_f64()),
            Note::BudgetRefused => metrics.budget_refusals.inc(),
            Note::DeadlineMissed => metrics.deadline_misses.inc(),
            Note::MetadataHeld(held) => metrics.metadata_held_seconds.observe(held.as_secs_f64()),
            Note::Masked(masked) => self.count_masked(masked),
        }
    }

    fn count_masked(&self, masked: &Masked) {
        let metrics = &self.counting.metrics.departures;
        for (kind, count) in
            [("broker_added", masked.brokers_added), ("leader_kept", masked.leaders_kept), ("epoch_raised", masked.epochs_raised)]
        {
            metrics.metadata_masked.with_label_values(&[kind]).inc_by(count.into());
        }
        for (code, count) in masked.errors.iter() {
            metrics.masked_errors.with_label_values(&[code_label(code)]).inc_by(count.into());
        }
    }
}
