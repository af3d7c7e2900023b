//! What was hidden from clients while a broker was away, and what was not.
//!
//! Invariant: its size does not grow with what it counts. Deliberately absent: single clients.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::session::{DetourEnd, Note};

/// Error codes that are counted apart; what else brokers may say shares `OTHER_CODE`.
const CODES_MAX: usize = 16;
/// No Kafka error has it (−1 is UNKNOWN_SERVER_ERROR).
pub const OTHER_CODE: i16 = i16::MIN;

/// No client waits longer.
const HELD_MAX_MS: u64 = 10 * 60 * 1000;

/// Counts as notes come.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    toll: Toll,
    /// Milliseconds; made with the first detour that ends.
    held: Option<Box<Histogram<u32>>>,
    pub last_note: Option<Instant>,
}

/// What it came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Toll {
    pub detours: u64,
    pub acknowledged: u64,
    /// Answered with a broker's own final error.
    pub errors: u64,
    /// Answered with an error at the client's deadline.
    pub deadline_misses: u64,
    /// Their transaction ended first.
    pub cancelled: u64,
    pub held_max: Duration,
    pub held_p99: Duration,
    pub attempts: u64,
    pub resent_bytes: u64,
    pub resent_idempotent: u64,
    /// Plain batches that may be in the log twice.
    pub resent_plain: u64,
    /// By code, ascending.
    pub masked_errors: Vec<(i16, u64)>,
    /// Partitions without a leader whose last one was told instead.
    pub leaders_kept: u64,
    pub metadata_held: u64,
    pub budget_refusals: u64,
}

impl Tally {
    pub fn count(&mut self, now: Instant, note: &Note) {
        self.last_note = Some(now);
        let toll = &mut self.toll;
        match note {
            Note::DetourStarted(_) => toll.detours += 1,
            Note::DetourEnded { end, held } => {
                match end {
                    DetourEnd::Acknowledged => toll.acknowledged += 1,
                    DetourEnd::Errors => toll.errors += 1,
                    // Counted when it is missed, with those that had no detour.
                    DetourEnd::Deadline => {}
                    DetourEnd::Cancelled => toll.cancelled += 1,
                }
                self.hold(*held);
            }
            Note::DeadlineMissed => toll.deadline_misses += 1,
            Note::Attempt => toll.attempts += 1,
            Note::Resent { bytes } => toll.resent_bytes += *bytes as u64,
            Note::AmbiguousResend { idempotent: true } => toll.resent_idempotent += 1,
            Note::AmbiguousResend { idempotent: false } => toll.resent_plain += 1,
            Note::MaskedError(code) => toll.mask(*code, 1),
            Note::MetadataHeld(_) => toll.metadata_held += 1,
            Note::BudgetRefused => toll.budget_refusals += 1,
            Note::Masked(masked) => {
                toll.leaders_kept += u64::from(masked.leaders_kept);
                for (code, count) in masked.errors.iter() {
                    toll.mask(code, count.into());
                }
            }
            Note::Departure { .. } | Note::GateWait(_) => {}
        }
    }

    fn hold(&mut self, held: Duration) {
        self.toll.held_max = self.toll.held_max.max(held);
        if self.held.is_none() {
            self.held = Histogram::new_with_bounds(1, HELD_MAX_MS, 2).ok().map(Box::new);
        }
        if let Some(histogram) = &mut self.held {
            histogram.saturating_record(u64::try_from(held.as_millis()).unwrap_or(HELD_MAX_MS));
        }
    }

    pub fn toll(&self) -> Toll {
        let p99 = self.held.as_ref().map_or(0, |held| held.value_at_quantile(0.99));
        // The histogram rounds up.
        Toll { held_p99: Duration::from_millis(p99).min(self.toll.held_max), ..self.toll.clone() }
    }
}

impl Toll {
    fn mask(&mut self, code: i16, count: u64) {
        let room = self.masked_errors.len() < CODES_MAX;
        match self.masked_errors.binary_search_by_key(&code, |(known, _)| *known) {
            Ok(at) => self.masked_errors[at].1 += count,
            Err(at) if room => self.masked_errors.insert(at, (code, count)),
            Err(_) if code != OTHER_CODE => {
                // One of the codes makes room for all the others, once.
                if let Some((first, _)) = self.masked_errors.first_mut().filter(|(first, _)| *first != OTHER_CODE) {
                    *first = OTHER_CODE;
                }
                if let Some((_, of_others)) = self.masked_errors.first_mut() {
                    *of_others += count;
                }
            }
            Err(_) => {}
        }
    }

    /// Some client met an error or waited in vain.
    pub fn was_felt(&self) -> bool {
        self.errors > 0 || self.deadline_misses > 0
    }
}

impl std::fmt::Display for Toll {
    /// In one line, for the log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let errors: u64 = self.masked_errors.iter().map(|(_, count)| count).sum();
        let count = |count: u64, one: &str, many: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {many}") };
        write!(
            f,
            "{}, held {} ms at most, {} masked, {} without a leader masked, {} sent again",
            count(self.detours, "produce request on a detour", "produce requests on detours"),
            self.held_max.as_millis(),
            count(errors, "error", "errors"),
            count(self.leaders_kept, "partition", "partitions"),
            count(self.resent_bytes, "byte", "bytes"),
        )?;
        if self.resent_plain > 0 {
            write!(f, ", {} perhaps twice in the log", count(self.resent_plain, "plain batch", "plain batches"))?;
        }
        if self.was_felt() {
            write!(
                f,
                "; not hidden: {}, {}",
                count(self.errors, "error", "errors"),
                count(self.deadline_misses, "missed deadline", "missed deadlines")
            )?;
        }
        Ok(())
    }
}
