//! A real Kafka and real clients for integration tests: installing, starting, watching, ending.
//!
//! Invariant: every process started here ends with the test process, also when that is killed.
//! Not here: anything of Evenkeel's own code; its binary is started like any other program.

#![allow(dead_code, reason = "each test and each benchmark that includes it uses a part of it")]

pub mod admin;
pub mod api_versions;
pub mod clients;
pub mod connection;
pub mod groups;
pub mod guard;
pub mod install;
pub mod kafka;
pub mod outcome;
pub mod ports;
pub mod proxy;
pub mod sockets;

use std::io::Write;

/// Says something at once, past the capturing of the test harness: installing takes minutes.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
