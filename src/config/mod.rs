//! The configuration: file, environment and flags to valid settings, every error at once with its path.
//!
//! Two steps: a YAML text becomes one raw value per key (`document`), and raw values become valid types (`build`). `keys` is the table
//! of what there is. Invariant: a `Config` is valid as a whole, whoever holds one. Deliberately absent: what the settings do; each
//! module owns the struct of its own.

mod address;
mod build;
mod document;
mod keys;
mod ports;
mod problem;
mod reader;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

pub use document::Override;
pub use keys::{KEYS, Key, Kind};
pub use problem::{Problem, Problems};

use crate::cluster::LearnLimits;
use crate::rewrite::{Masks, UnknownApis};
use crate::{discovery, driver, listeners, session, transport};

/// A configuration file is not larger than this.
const LARGEST_FILE_BYTES: u64 = 1024 * 1024;

/// A whole, valid configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub listeners: listeners::Plan,
    pub discovery: discovery::Settings,
    pub transport: transport::Settings,
    pub session: session::Limits,
    pub detours: session::Detours,
    pub masks: Masks,
    /// Of requests that may have to be sent again, over all sessions.
    pub max_kept_bytes: usize,
    pub view: LearnLimits,
    pub driver: driver::Settings,
    pub unknown_apis: UnknownApis,
    /// `None`: no admin port.
    pub admin: Option<SocketAddr>,
    pub may_rehearse: bool,
    /// A departed broker is unlisted when no client has used it for so long.
    pub unlist_after: Duration,
    pub drain_timeout: Duration,
    /// `None`: one per core.
    pub worker_threads: Option<usize>,
    pub log: Log,
}

/// How and what to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub format: LogFormat,
    /// A level, or a filter of targets (`info,evenkeel::discovery=debug`).
    pub filter: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl Config {
    /// Reads a file, and lets `overrides` beat it.
    pub fn from_file(path: &Path, overrides: &[Override]) -> Result<Config, Problems> {
        Config::from_yaml(&read_file(path)?, overrides)
    }

    /// Reads a file's text (empty: only defaults), and lets `overrides` beat it.
    pub fn from_yaml(yaml: &str, overrides: &[Override]) -> Result<Config, Problems> {
        build::config(yaml, overrides)
    }

    /// Only `admin.listen`, whatever else the file says: for a health check, which needs no more and must not fail for more.
    pub fn admin_address(file: Option<&Path>, overrides: &[Override]) -> Result<Option<SocketAddr>, Problems> {
        let yaml = file.map(read_file).transpose()?;
        build::admin_address(yaml.as_deref().unwrap_or_default(), overrides)
    }
}

fn read_file(path: &Path) -> Result<String, Problems> {
    use std::io::Read;
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LARGEST_FILE_BYTES + 1).read_to_string(&mut text));
    let what = match read {
        Ok(length) if length as u64 <= LARGEST_FILE_BYTES => return Ok(text),
        Ok(_) => format!("larger than {} KiB: this is not a configuration", LARGEST_FILE_BYTES / 1024),
        Err(error) => format!("cannot be read: {error}"),
    };
    let mut problems = Problems::default();
    problems.add(path.display().to_string(), what);
    Err(problems)
}
