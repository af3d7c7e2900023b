//! `evenkeel probe`: a health check for containers that have no shell and no curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::{Method, StatusCode};

use super::{Outcome, admin_port, complain, settings};
use crate::config::{Config, Override, Problems};

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Without --admin, the admin port of the configuration file is asked (--config or EVENKEEL_CONFIG), else 127.0.0.1:19000.

Exit codes: 0 yes; 1 no, or no answer; 2 the command line or the configuration is wrong.")]
pub struct Args {
    /// The admin port to ask
    #[arg(long, value_name = "IP:PORT", env = "EVENKEEL_ADMIN")]
    admin: Option<String>,

    /// The configuration file that names the admin port
    #[arg(long, short, value_name = "FILE", env = "EVENKEEL_CONFIG")]
    config: Option<PathBuf>,

    /// Ask whether it is ready (bound, and a broker answered lately), not only whether it is alive
    #[arg(long)]
    ready: bool,

    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

pub fn main(args: &Args) -> Outcome {
    let admin = match admin_address(args) {
        Ok(Some(admin)) => admin,
        Ok(None) => {
            complain(&anyhow::anyhow!("the configuration has no admin port to ask (admin.listen: none)"));
            return Outcome::Misconfigured;
        }
        Err(problems) => {
            let source = args.config.as_ref().map_or_else(|| "The command line".to_owned(), |path| path.display().to_string());
            settings::complain(&source, &problems);
            return Outcome::Misconfigured;
        }
    };
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let asked =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime").and_then(|runtime| {
            runtime.block_on(async {
                let answer = tokio::time::timeout(args.timeout, ask(admin, path)).await;
                answer.unwrap_or_else(|_| bail!("http://{admin}{path} did not answer within {}", humantime::format_duration(args.timeout)))
            })
        });
    match asked {
        Ok(()) => Outcome::Done,
        Err(error) => {
            complain(&error);
            Outcome::Failed
        }
    }
}

fn admin_address(args: &Args) -> Result<Option<SocketAddr>, Problems> {
    let said = args.admin.iter().map(|value| Override { key: "admin.listen", origin: "--admin".to_owned(), value: value.clone() });
    let admin = Config::admin_address(args.config.as_deref(), &said.collect::<Vec<_>>())?;
    Ok(admin.map(reachable))
}

/// Listening on every interface, it is reached on this machine by the loopback one.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn ask(admin: SocketAddr, path: &str) -> anyhow::Result<()> {
    let answer = admin_port::ask(&admin.to_string(), Method::GET, path).await?;
    match answer.status {
        StatusCode::OK => Ok(()),
        status => bail!("http://{admin}{path} says {}: {}", status.as_u16(), answer.first_line()),
    }
}
