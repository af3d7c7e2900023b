//! One line for the operator about a client that cannot be served, at a bounded rate.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::session::Refusal;
use crate::wire::{HeadError, Stranger};

/// At most one line in this time; those left out are counted in the next.
const QUIET: Duration = Duration::from_secs(1);

/// Clients' lines and brokers' have a rate each, so that a port scan hides no broker's fault.
#[derive(Debug, Default)]
pub struct Diagnosis {
    of_clients: Rate,
    of_brokers: Rate,
}

/// When the last line was, and how many have been left out since.
#[derive(Debug, Default)]
struct Rate {
    state: Mutex<(Option<Instant>, u64)>,
}

impl Rate {
    /// How many lines were left out since the last one, if it is time for one.
    fn permit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (last, left_out) = &mut *state;
        if last.is_some_and(|last| now.saturating_duration_since(last) < QUIET) {
            *left_out += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(left_out))
    }
}

impl Diagnosis {
    /// Says what a refused client's bytes look like and what to look at.
    pub fn bad_client(&self, now: Instant, peer: SocketAddr, port: u16, client_id: &str, refusal: Refusal) {
        if let Some(left_out) = self.of_clients.permit(now) {
            let hint = hint(refusal);
            tracing::warn!(%peer, port, client_id, kind = refusal.kind(), similar_left_out = left_out, "closed a client: {refusal}{hint}");
        }
    }

    /// Says what is wrong with what a broker answered.
    pub fn bad_broker(&self, now: Instant, broker: &str, what: &str) {
        if let Some(left_out) = self.of_brokers.permit(now) {
            tracing::warn!(broker, similar_left_out = left_out, "closed a client because of a broker's answer: {what}");
        }
    }
}

fn hint(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Head(HeadError::Stranger(Stranger::Tls)) => "; is the client set to security.protocol=SSL on a plain-text port?",
        Refusal::Head(HeadError::Stranger(Stranger::Http)) => "; is this a health check or a browser? The admin port speaks HTTP",
        Refusal::Head(HeadError::FrameTooLarge { .. }) => "; see limits.request_bytes, or is this another protocol?",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_bad_clients_costs_one_line_a_second() {
        let diagnosis = Rate::default();
        let start = Instant::now();
        assert_eq!(diagnosis.permit(start), Some(0));
        for n in 1..100 {
            assert_eq!(diagnosis.permit(start + QUIET * n / 100), None);
        }
        assert_eq!(diagnosis.permit(start + QUIET), Some(99));
        assert_eq!(diagnosis.permit(start + 2 * QUIET), Some(0));
    }
}
