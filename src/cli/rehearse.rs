//! `evenkeel rehearse`: has a running Evenkeel treat one broker as departed for a while, and says what came of it.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::{Method, StatusCode};

use super::admin_port::{self, Answer};
use super::{Outcome, complain};
use crate::admin::RehearsalReport;

const PATH: &str = "/rehearsal";
/// How long the admin port may take for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// After its time is over.
const END_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
The Evenkeel that is asked cuts its own connections to the broker, as if the broker had gone, makes no new ones where a client would \
have one of its own, and sends what is produced by the way that it has for departures. The cluster is not touched, and records keep \
flowing. It ends by itself after the time, or with Ctrl-C, and the report follows.

It is off unless that Evenkeel runs with `admin.rehearsal: true`. Clients that fetch from the broker, or have a group's request there, \
are disconnected, as they would be in earnest. In earnest others would take over; here they come back when it is over: stay below your \
groups' session.timeout.ms, or members may be thrown out. Plain (not idempotent) batches that are under way when it begins may be \
in the log twice (departures.ambiguous_produce).

Exit codes: 0 it ran and is over; 1 it could not run, or was cut short; 2 the command line is wrong.")]
pub struct Args {
    /// The admin port to ask
    #[arg(long, value_name = "HOST:PORT", env = "EVENKEEL_ADMIN", default_value = "127.0.0.1:19000")]
    admin: String,

    /// The id of the broker that is to be treated as departed
    #[arg(long, value_name = "ID")]
    broker: i32,

    /// For how long, 1s to 5m
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    lasting: Duration,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub fn main(args: &Args) -> Outcome {
    let played = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(play(args)))
        .and_then(|report| print(args, &report).map(|()| report));
    match played {
        Ok(report) if report.state == "cut_short" => Outcome::Failed,
        Ok(_) => Outcome::Done,
        Err(error) => {
            complain(&error);
            Outcome::Failed
        }
    }
}

async fn play(args: &Args) -> anyhow::Result<RehearsalReport> {
    let query = format!("{PATH}?broker={}&for={}ms", args.broker, args.lasting.as_millis());
    // Installed before anything begins, so that no Ctrl-C is missed.
    let mut interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).context("cannot listen for signals")?;
    let mut report = ask(&args.admin, Method::POST, &query, StatusCode::ACCEPTED).await?;
    eprintln!("evenkeel: broker {} is treated as departed for {}; Ctrl-C ends it", args.broker, humantime::format_duration(args.lasting));
    let until = tokio::time::Instant::now() + args.lasting + END_WITHIN;
    while report.state == "running" {
        let look = async {
            tokio::time::sleep(LOOK_INTERVAL).await;
            Method::GET
        };
        let method = tokio::select! {
            _ = interrupt.recv() => Method::DELETE,
            method = look => method,
        };
        report = ask(&args.admin, method, PATH, StatusCode::OK).await.context("it began, and ends by itself; its end was not seen")?;
        if tokio::time::Instant::now() > until {
            bail!("the rehearsal does not end");
        }
    }
    Ok(report)
}

async fn ask(admin: &str, method: Method, path: &str, expected: StatusCode) -> anyhow::Result<RehearsalReport> {
    let answer: Answer = tokio::time::timeout(ANSWER_WITHIN, admin_port::ask(admin, method, path))
        .await
        .with_context(|| format!("{admin} did not answer within {}", humantime::format_duration(ANSWER_WITHIN)))??;
    if answer.status != expected {
        bail!("{admin} says {}: {}", answer.status.as_u16(), answer.first_line());
    }
    serde_json::from_slice(&answer.body).with_context(|| format!("{admin} does not answer as an Evenkeel of this version"))
}

fn print(args: &Args, report: &RehearsalReport) -> anyhow::Result<()> {
    let text = if args.json { format!("{:#}\n", serde_json::to_value(report)?) } else { told(report) };
    std::io::stdout().write_all(text.as_bytes()).context("standard output")
}

/// The report, for people.
fn told(report: &RehearsalReport) -> String {
    let masked = &report.masked;
    let ended = match (report.state.as_str(), &report.because) {
        ("stopped", _) => " (stopped)".to_owned(),
        (_, Some(because)) => format!(" (cut short: {because})"),
        _ => String::new(),
    };
    let answered = masked.acknowledged + masked.errors + masked.deadline_misses + masked.cancelled;
    let unanswered = masked.detours.saturating_sub(answered);
    let errors: u64 = masked.masked_errors.values().sum();
    let rows = [
        ("connections to it cut", report.connections_cut.to_string()),
        ("refused meanwhile", report.connections_refused.to_string()),
        ("produce requests on a detour", masked.detours.to_string()),
        ("  acknowledged", masked.acknowledged.to_string()),
        ("  held, longest / p99", format!("{} ms / {} ms", masked.held_ms_max, masked.held_ms_p99)),
        ("  bytes sent again", masked.resent_bytes.to_string()),
        ("  plain batches perhaps twice in the log", masked.resent_batches_plain.to_string()),
        ("errors masked", errors.to_string()),
        ("what clients felt", String::new()),
        ("  produce requests with an error", masked.errors.to_string()),
        ("  deadlines missed", masked.deadline_misses.to_string()),
        ("  transactions that ended first", masked.cancelled.to_string()),
        ("  connections closed", report.clients_closed.to_string()),
        ("not answered yet", unanswered.to_string()),
    ];
    let mut text = format!("Broker {} was treated as departed for {:.1} s{ended}.\n\n", report.broker, report.lasted_seconds);
    for (what, how_many) in rows {
        text += format!("  {what:<42}{how_many:>14}").trim_end();
        text.push('\n');
    }
    text + &format!("\nWhat this shows: {}\n\nWhat it does not show: {}\n", report.shows, report.does_not_show)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_what_was_felt_and_what_it_does_not_show() {
        let mut report = RehearsalReport { broker: 2, lasted_seconds: 9.96, clients_closed: 3, ..Default::default() };
        report.masked.detours = 12;
        report.masked.acknowledged = 11;
        report.does_not_show = "leaders did not move".to_owned();
        let text = told(&report);
        for line in ["Broker 2 was treated as departed for 10.0 s.", "What it does not show: leaders did not move"] {
            assert!(text.lines().any(|it| it == line), "{line}: {text}");
        }
        assert!(text.lines().any(|line| line.starts_with("    connections closed") && line.ends_with(" 3")), "{text}");
        assert!(text.lines().any(|line| line.contains("not answered yet") && line.ends_with(" 1")), "{text}");
    }
}
