//! The settings that `run` and `check` take from the command line and the environment, and how these beat a file.

use std::path::PathBuf;

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::config::{Config, Override, Problems};

/// Flags of the configuration. Their values are judged by `config`, so that all that is wrong is said at once.
#[derive(Debug, clap::Args)]
pub struct Flags {
    /// The configuration file (YAML); flags and environment variables beat it
    #[arg(long, short, value_name = "FILE", env = "EVENKEEL_CONFIG")]
    config: Option<PathBuf>,

    /// The cluster's bootstrap servers
    #[arg(long, value_name = "HOST:PORT,…", env = "EVENKEEL_UPSTREAM")]
    upstream: Option<String>,

    /// The address of the bootstrap port; node N's port is this port + 1 + N [default: 127.0.0.1:19092]
    #[arg(long, value_name = "IP:PORT", env = "EVENKEEL_LISTEN")]
    listen: Option<String>,

    /// The host by which clients reach this machine; required where --listen is a wildcard [default: the IP of --listen]
    #[arg(long, value_name = "HOST", env = "EVENKEEL_ADVERTISE")]
    advertise: Option<String>,

    /// The node ids to open ports for at start; other ids get a port of the overflow range when they appear [default: 0-99]
    #[arg(long, value_name = "IDS", env = "EVENKEEL_NODE_IDS")]
    node_ids: Option<String>,

    /// The admin port: metrics, health, status; `none` for no such port [default: 127.0.0.1:19000]
    #[arg(long, value_name = "IP:PORT", env = "EVENKEEL_ADMIN")]
    admin: Option<String>,

    /// What to log: error, warn, info, debug, trace, or a filter such as info,evenkeel::discovery=debug [default: info]
    #[arg(long, value_name = "LEVEL", env = "EVENKEEL_LOG")]
    log: Option<String>,

    /// How to log: text or json [default: text]
    #[arg(long, value_name = "FORMAT", env = "EVENKEEL_LOG_FORMAT")]
    log_format: Option<String>,
}

impl Flags {
    /// The valid configuration that file, environment and flags make together.
    /// The whole configuration; or `None`, and all that is wrong with it has been said.
    pub fn load_or_complain(&self, matches: Option<&ArgMatches>) -> Option<Config> {
        self.load(matches).map_err(|problems| complain(&self.source(), &problems)).ok()
    }

    fn load(&self, matches: Option<&ArgMatches>) -> Result<Config, Problems> {
        let overrides = self.overrides(matches);
        match &self.config {
            Some(path) => Config::from_file(path, &overrides),
            None => Config::from_yaml("", &overrides),
        }
    }

    /// Where the configuration comes from, for the headline over its problems.
    pub fn source(&self) -> String {
        self.config.as_ref().map_or_else(|| "The configuration".to_owned(), |path| path.display().to_string())
    }

    fn overrides(&self, matches: Option<&ArgMatches>) -> Vec<Override> {
        let from_environment = |id: &str| matches.and_then(|it| it.value_source(id)) == Some(ValueSource::EnvVariable);
        [
            ("upstream", "upstream.bootstrap", "--upstream", "EVENKEEL_UPSTREAM", &self.upstream),
            ("listen", "listen.bootstrap", "--listen", "EVENKEEL_LISTEN", &self.listen),
            ("advertise", "listen.advertise", "--advertise", "EVENKEEL_ADVERTISE", &self.advertise),
            ("node_ids", "listen.node_ids", "--node-ids", "EVENKEEL_NODE_IDS", &self.node_ids),
            ("admin", "admin.listen", "--admin", "EVENKEEL_ADMIN", &self.admin),
            ("log", "log.level", "--log", "EVENKEEL_LOG", &self.log),
            ("log_format", "log.format", "--log-format", "EVENKEEL_LOG_FORMAT", &self.log_format),
        ]
        .into_iter()
        .filter_map(|(id, key, flag, variable, value)| {
            let origin = if from_environment(id) { variable } else { flag };
            value.clone().map(|value| Override { key, origin: origin.to_owned(), value })
        })
        .collect()
    }
}

/// All that is wrong, on standard error.
pub fn complain(source: &str, problems: &Problems) {
    let count = problems.iter().count();
    eprintln!("evenkeel: {source} has {count} error{}:", if count == 1 { "" } else { "s" });
    for problem in problems.iter() {
        eprintln!("  {problem}");
    }
}
