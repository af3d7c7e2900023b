//! The rules of the detour for produce, one test each: sessions that share a gate, brokers played by hand, frames as clients send them.
//!
//! Each fails without its rule. Deliberately absent: sockets (`tests/proxy/departures.rs`) and chance (histories).

mod asking;
mod bench;
mod brokers;
mod budgets;
mod deadlines;
mod frames;
mod home;
mod joining;
mod losses;
mod metadata;
mod order;
mod out_of_order;
mod passing;
mod routing;
mod silence;
mod storm;
mod transactions;
mod unanswered;
