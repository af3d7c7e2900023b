//! The departures of brokers as the operator is told of them: when each began, by what sign, what was hidden meanwhile, how it ended.
//!
//! ```text
//!            a sign                    refused, unlisted, or signs for seconds          listed and answering
//!  nothing ────────▶ suspected ──────────────────────────────────────────▶ departed ──────────────────────▶ returned
//!    ▲                   │ listed, and quiet for a while                       │ unlisted and unused for long
//!    └───────────────────┘                                                     └──────────────────────────▶ retired
//! ```
//! Sessions route by the view and by what they meet themselves; none of them asks this record.
//!
//! Invariant: a broker has at most one open departure, and each departure is said to begin and to end at most once.
//! Deliberately absent: clocks, logs, metrics, and whose turn it is to retire a broker (the composition root).

mod record;
mod registry;
mod tally;
#[cfg(test)]
mod tests;

pub use record::{End, Event, Record, State};
pub use registry::{Registry, Said};
pub use tally::{OTHER_CODE, Tally, Toll};
