//! `evenkeel check`: what is wrong with a configuration, or what it would do; with `--live`, also what the cluster makes of it.

use anyhow::Context;
use clap::ArgMatches;
use comfy_table::{Table, presets};

use super::{Outcome, complain, settings};
use crate::cluster::{Endpoint, NodeId};
use crate::config::Config;
use crate::discovery::{self, ClusterReport};
use crate::transport::Connector;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Exit codes: 0 all is well; 1 the configuration is valid, but the cluster does not answer, a broker of it does not, or one would have no \
port (--live); 2 the configuration is wrong.")]
pub struct Args {
    #[command(flatten)]
    settings: settings::Flags,

    /// Also connect to the cluster, and say which brokers, ports and API versions would be served
    #[arg(long)]
    live: bool,
}

pub fn main(args: &Args, matches: Option<&ArgMatches>) -> Outcome {
    let Some(config) = args.settings.load_or_complain(matches) else { return Outcome::Misconfigured };
    println!("{}", ports_table(&config));
    if !args.live {
        return Outcome::Done;
    }
    match ask(&config) {
        Ok(report) => tell(&config, &report),
        Err(error) => {
            complain(&error);
            Outcome::Failed
        }
    }
}

fn ask(config: &Config) -> anyhow::Result<ClusterReport> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let connector = Connector::new(config.transport.clone());
    let asked = discovery::probe_cluster(&config.discovery.bootstrap, &connector, config.discovery.request_timeout);
    Ok(runtime.block_on(asked)?)
}

/// Prints what the cluster is, and complains of what would not work.
fn tell(config: &Config, report: &ClusterReport) -> Outcome {
    println!("\nCluster {}:", report.cluster_id.as_deref().unwrap_or("without an id"));
    let mut brokers = new_table();
    brokers.set_header(["node", "broker", "rack", "clients are told"]);
    let mut faults = Vec::new();
    for of_broker in &report.brokers {
        let broker = &of_broker.broker;
        let told = virtual_address(config, broker.id).unwrap_or_else(|| {
            faults.push(format!("node {} has no port: add it to listen.node_ids, or set listen.overflow_ports", broker.id));
            "nothing".to_owned()
        });
        if let Some(failure) = &of_broker.failure {
            faults.push(format!("node {} does not answer: {failure}", broker.id));
        }
        brokers.add_row([broker.id.to_string(), broker.endpoint.to_string(), broker.rack.as_deref().unwrap_or("").to_owned(), told]);
    }
    println!("{brokers}");
    let mut apis = new_table();
    apis.set_header(["API", "key", "versions that clients are offered"]);
    for (api, range) in &report.apis {
        apis.add_row([api.name().to_owned(), api.0.to_string(), format!("{}-{}", range.min, range.max)]);
    }
    println!("\n{apis}");
    for (_, failure) in &report.failed_bootstrap {
        eprintln!("evenkeel: a bootstrap server is of no use now: {failure}");
    }
    for fault in &faults {
        eprintln!("evenkeel: {fault}");
    }
    if faults.is_empty() { Outcome::Done } else { Outcome::Failed }
}

fn virtual_address(config: &Config, node: NodeId) -> Option<String> {
    let plan = &config.listeners;
    match (plan.ports.get(&node), &plan.overflow) {
        (Some(port), _) => Some(Endpoint { host: plan.advertised_host.clone(), port: *port }.to_string()),
        (None, Some(range)) => Some(format!("{}, a port of {}-{}", plan.advertised_host, range.start(), range.end())),
        (None, None) => None,
    }
}

fn new_table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table
}

fn ports_table(config: &Config) -> Table {
    let plan = &config.listeners;
    let ip = plan.bootstrap.ip();
    let mut table = new_table();
    table.set_header(["for", "listens on", "clients are told"]);
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
