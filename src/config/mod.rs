//! The configuration: file and flags to valid settings, every error at once with its path.
//!
//! Deliberately absent: what the settings do; each module owns the struct of its own.

use std::net::SocketAddr;
use std::time::Duration;

use crate::rewrite::UnknownApis;
use crate::{discovery, driver, listeners, session, transport};

/// A whole, valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub listeners: listeners::Plan,
    pub discovery: discovery::Settings,
    pub transport: transport::Settings,
    pub session: session::Limits,
    pub driver: driver::Settings,
    pub unknown_apis: UnknownApis,
    /// `None`: no admin port.
    pub admin: Option<SocketAddr>,
    pub drain_timeout: Duration,
    /// `None`: one per core.
    pub worker_threads: Option<usize>,
}
