//! The command line: what it offers, and one file per command.
//!
//! Invariant: exit codes are 0 (done), 1 (it failed), 2 (the command line or the configuration is wrong, and nothing was started).
//! Deliberately absent: anything that another part could do; commands only put parts together.

mod admin_port;
mod check;
mod demo;
mod logging;
mod probe;
mod rehearse;
mod run;
mod settings;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Failed,
    Misconfigured,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> ExitCode {
        match outcome {
            Outcome::Done => ExitCode::SUCCESS,
            Outcome::Failed => ExitCode::from(1),
            Outcome::Misconfigured => ExitCode::from(2),
        }
    }
}

#[derive(Debug, Parser)]
#[command(
    name = "evenkeel",
    version,
    about = "A Kafka-protocol proxy that makes a departing broker a non-event for clients that cannot be changed",
    long_about = LONG_ABOUT,
    after_long_help = EXAMPLES,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const LONG_ABOUT: &str = "\
Evenkeel stands between Kafka clients and their cluster, on the clients' side: as a sidecar in the pod, or as a process of its own. \
Clients use it as their bootstrap server and need no other change.

Every broker of the cluster gets a port of its own, as stable as its node id: with the bootstrap port 19092, node 0 is at 19093, node 1 \
at 19094, node N at 19092 + 1 + N. Clients are told these addresses alone, so each of their requests goes to the broker that they mean, \
through Evenkeel.";

const EXAMPLES: &str = "\
Examples:
  See it work, without a cluster, in less than a minute:
    evenkeel demo

  Before a cluster, for the clients on this machine (bootstrap.servers=127.0.0.1:19092):
    evenkeel run --upstream kafka-0.example:9092,kafka-1.example:9092

  For clients elsewhere: every interface, and the host by which they reach this one:
    evenkeel run --upstream kafka-0.example:9092 --listen 0.0.0.0:19092 --advertise proxy.example

  From a file, after a look at what it would do:
    evenkeel check --config evenkeel.yaml --live
    evenkeel run --config evenkeel.yaml

  Is it alive, is it ready (for a container's health check)?
    evenkeel probe
    evenkeel probe --ready

  What would happen if broker 2 left? Treat it as gone for a while, and see (needs admin.rehearsal: true):
    evenkeel rehearse --admin 127.0.0.1:19000 --broker 2 --for 10s

Exit codes: 0 done; 1 it failed; 2 the command line or the configuration is wrong, and nothing was started.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy
    Run(run::Args),
    /// Say what is wrong with a configuration, or which ports it would open; with --live, also what the cluster says
    Check(check::Args),
    /// Show what a client feels when brokers leave, with the proxy and without, on simulated clusters; needs nothing else
    Demo(demo::Args),
    /// Ask a running Evenkeel whether it is alive, or ready, through its admin port
    Probe(probe::Args),
    /// Have a running Evenkeel treat one broker as departed for a while, and say what clients felt
    Rehearse(rehearse::Args),
}

/// The program: parses its arguments, runs one command, and says how that ended.
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let of_command = matches.subcommand().map(|(_, of_command)| of_command);
    match &cli.command {
        Command::Run(args) => run::main(args, of_command),
        Command::Check(args) => check::main(args, of_command),
        Command::Demo(args) => demo::main(args),
        Command::Probe(args) => probe::main(args),
        Command::Rehearse(args) => rehearse::main(args),
    }
    .into()
}

/// The error's whole chain, on standard error.
fn complain(error: &anyhow::Error) {
    eprintln!("evenkeel: {error:#}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
