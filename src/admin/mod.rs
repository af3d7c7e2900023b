//! The admin port: metrics, health, readiness, status; HTTP/1 for operators, probes and scrapers.
//!
//! Invariant: it changes nothing, save that a rehearsal may be begun where the configuration allows that; and what one visitor can take up is bounded (connections, header bytes, time).
//! Deliberately absent: what is reported; the composition root says that through `Status`.

mod rehearsal;
mod report;
mod server;

#[cfg(test)]
mod tests;

pub use rehearsal::{NoRehearsal, RehearsalReport, Rehearse};
pub use report::{
    BrokerStatus, ClusterStatus, CoordinatorStatus, DepartureEvent, DepartureStatus, MaskedStatus, SessionsStatus, Status, StatusReport,
    VirtualBrokerStatus,
};
pub use server::{Admin, BindError};
