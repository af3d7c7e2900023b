//! The admin port: metrics, health, readiness, status; HTTP/1 for operators, probes and scrapers.
//!
//! Invariant: it reads and never changes anything, and what one visitor can take up is bounded (connections, header bytes, time).
//! Deliberately absent: what is reported; the composition root says that through `Status`.

mod report;
mod server;

#[cfg(test)]
mod tests;

pub use report::{BrokerStatus, ClusterStatus, SessionsStatus, Status, StatusReport, VirtualBrokerStatus};
pub use server::{Admin, BindError};
