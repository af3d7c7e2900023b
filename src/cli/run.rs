//! `evenkeel run`: configuration, logs, runtime, signals; then the proxy until it ends.

use std::process::exit;

use anyhow::Context;
use clap::ArgMatches;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::{Outcome, complain, logging, settings};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::proxy;

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  evenkeel run --upstream kafka-0.example:9092
  evenkeel run --config evenkeel.yaml --log debug

SIGTERM and SIGINT let requests in flight finish (timeouts.drain); a second one exits at once.")]
pub struct Args {
    #[command(flatten)]
    settings: settings::Flags,
}

pub fn main(args: &Args, matches: Option<&ArgMatches>) -> Outcome {
    let Some(config) = args.settings.load_or_complain(matches) else { return Outcome::Misconfigured };
    match start(config) {
        Ok(()) => Outcome::Done,
        Err(error) => {
            complain(&error);
            Outcome::Failed
        }
    }
}

fn start(config: Config) -> anyhow::Result<()> {
    logging::start(&config.log)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = config.worker_threads {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build().context("cannot start the runtime")?;
    let ended = runtime.block_on(async {
        let (ask, asked) = tokio::sync::oneshot::channel();
        tokio::spawn(listen_for_signals(Signals::install().context("cannot listen for signals")?, ask));
        let shutdown = async move {
            // A sender that is gone without a word means that no signal can come any more, not that one came.
            if asked.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        info!(version = env!("CARGO_PKG_VERSION"), "starting");
        proxy::run(config, Metrics::new(), shutdown).await.map_err(anyhow::Error::from)
    });
    // Sessions that outlived the drain are not waited for.
    runtime.shutdown_background();
    ended
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn install() -> std::io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next signal's name and the exit code that shells give a process which it killed.
    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", 128 + 15),
            _ = self.interrupt.recv() => ("SIGINT", 128 + 2),
        }
    }
}

async fn listen_for_signals(mut signals: Signals, ask: tokio::sync::oneshot::Sender<()>) {
    let (name, _) = signals.next().await;
    info!(signal = name, "shutting down; a second signal exits at once");
    // The proxy may have ended on its own already.
    let _ = ask.send(());
    let (name, code) = signals.next().await;
    warn!(signal = name, "exiting at once");
    exit(code);
}
