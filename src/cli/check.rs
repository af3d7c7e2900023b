//! `evenkeel check`: what is wrong with a configuration, or what it would do.

use clap::ArgMatches;
use comfy_table::{Table, presets};

use super::{Outcome, settings};
use crate::cluster::NodeId;
use crate::config::Config;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Exit codes: 0 all is well; 1 the configuration is valid, but the cluster did not answer (--live); 2 the configuration is wrong.")]
pub struct Args {
    #[command(flatten)]
    settings: settings::Flags,
}

pub fn main(args: &Args, matches: Option<&ArgMatches>) -> Outcome {
    match args.settings.load(matches) {
        Ok(config) => {
            println!("{}", ports_table(&config));
            Outcome::Done
        }
        Err(problems) => {
            settings::complain(&args.settings.source(), &problems);
            Outcome::Misconfigured
        }
    }
}

fn ports_table(config: &Config) -> Table {
    let plan = &config.listeners;
    let ip = plan.bootstrap.ip();
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header(["for", "listens on", "clients are told"]);
    let mut row = |what: String, ports: String, told: String| {
        table.add_row([what, format!("{} {ports}", ip), told]);
    };
    let host = &plan.advertised_host;
    row("bootstrap.servers".to_owned(), plan.bootstrap.port().to_string(), format!("{host}:{}", plan.bootstrap.port()));
    for run in runs(plan.ports.iter().map(|(id, port)| (*id, *port))) {
        let (ids, ports) = run.display();
        row(format!("node {ids}"), ports.clone(), format!("{host}:{ports}"));
    }
    match &plan.overflow {
        Some(range) => {
            let ports = format!("{}-{}", range.start(), range.end());
            row("other nodes, as they appear".to_owned(), ports.clone(), format!("{host}:{ports}"));
        }
        None => row("other nodes".to_owned(), "nothing".to_owned(), "nothing".to_owned()),
    }
    table.add_row([
        "admin".to_owned(),
        config.admin.map_or_else(|| "nothing".to_owned(), |it| format!("{} {}", it.ip(), it.port())),
        String::new(),
    ]);
    table
}

/// Neighbouring ids on neighbouring ports.
struct Run {
    ids: (i32, i32),
    ports: (u16, u16),
}

impl Run {
    fn display(&self) -> (String, String) {
        if self.ids.0 == self.ids.1 {
            (self.ids.0.to_string(), self.ports.0.to_string())
        } else {
            (format!("{}-{}", self.ids.0, self.ids.1), format!("{}-{}", self.ports.0, self.ports.1))
        }
    }
}

fn runs(ports: impl Iterator<Item = (NodeId, u16)>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (NodeId(id), port) in ports {
        match runs.last_mut() {
            Some(run) if run.ids.1.checked_add(1) == Some(id) && run.ports.1.checked_add(1) == Some(port) => {
                run.ids.1 = id;
                run.ports.1 = port;
            }
            _ => runs.push(Run { ids: (id, id), ports: (port, port) }),
        }
    }
    runs
}
