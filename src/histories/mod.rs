//! Histories: cores, a gate, a view and a simulated cluster together in virtual time, over seeds.
//!
//! ```text
//!  client ──pieces──▶ session (core + driver in miniature) ──pieces──▶ broker (sim::cluster)
//!     ▲ answers            │ wants ▲ views                                ▲
//!     └────────────────────┘       └──────────── discovery ───────────────┘
//! ```
//!
//! Each history rolls its own topology, clients and misfortunes from a seed, and is held against what clients may rely on (`check`). A
//! failing seed is printed with a command that plays it again, and its last events.
//!
//! Invariant: the same seed gives the same history. Deliberately absent: sockets, tokio, consumers, SASL.

mod answers;
mod check;
mod client;
mod dice;
mod discovery;
mod faults;
mod habits;
mod leg;
mod plan;
mod session;
mod tests;
mod trace;
mod transaction;
mod world;

/// What brokers may get per request of a client, at once and for each second in which things go wrong.
const ATTEMPTS_PER_REQUEST: u64 = 6;
const ATTEMPTS_PER_SECOND: u64 = 8;
