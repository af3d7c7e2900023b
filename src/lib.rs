//! Evenkeel: a Kafka-protocol TCP proxy that makes a departing broker a non-event for its clients.
//!
//! ARCHITECTURE.md has the map. The arrows between these modules run one way; `tests/arrows.rs` holds them.
#![forbid(unsafe_code)]

pub mod admin;
pub mod answers;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod departures;
pub mod discovery;
pub mod driver;
#[cfg(test)]
mod histories;
pub mod listeners;
pub mod metrics;
pub mod proxy;
pub mod rewrite;
pub mod session;
pub mod sim;
pub mod transport;
pub mod wire;
