//! The task that keeps the view fresh.
//!
//! Invariant: it ends only at the shutdown. Deliberately absent: who wants a refresh and why (`queue`, `Views::observe`).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::flight::{AttemptError, fly};
use super::lines::Lines;
use super::pace::Pace;
use super::versions::ask_new_brokers;
use super::{Settings, Views};
use crate::transport::Connector;

/// While requests fail, so often one line says so.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// After so many flights in a row in which every broker demanded a login, asking soon again would only fill the brokers' logs.
const TURNED_AWAY_MAX: u32 = 3;
/// Of a failed flight's reasons, so many are told.
const REASONS_MAX: usize = 4;

/// Keeps the view fresh until `shutdown`.
pub async fn run(settings: Settings, connector: Connector, views: Views, shutdown: CancellationToken) {
    let working = async {
        tokio::join!(refresh(&settings, &connector, &views), ask_new_brokers(&settings, &connector, &views));
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = working => {}
    }
}

async fn refresh(settings: &Settings, connector: &Connector, views: &Views) {
    views.queue().set_min_interval(settings.min_interval);
    let mut pace = Pace::new(settings, Instant::now());
    let mut lines = Lines::default();
    // What is wanted was asked for, and is not there: who answered lags, or there is nothing new yet.
    let mut is_unmet = false;
    let mut last_logged: Option<Instant> = None;
    let mut turned_away: u32 = 0;
    loop {
        let due = views.queue().due();
        let start = pace.next_start(due.at, due.is_wanted);
        let line_ends = lines.ends();
        tokio::select! {
            biased;
            () = sleep_until(start) => {}
            () = sleep_until(line_ends.unwrap_or(start)), if line_ends.is_some() => {
                lines.expire(Instant::now());
                continue;
            }
            () = views.queue().changed() => continue,
        }
        let begun = Instant::now();
        let due = views.queue().due();
        if pace.next_start(due.at, due.is_wanted) > begun {
            // What was to be asked for is not wanted any more.
            continue;
        }
        let asked = views.queue().begin(&views.current());
        match fly(settings, connector, views, &mut lines, is_unmet).await {
            Ok(line) => {
                views.metrics().view_refreshes.with_label_values(&["ok"]).inc();
                pace.succeeded(begun, Instant::now());
                turned_away = 0;
                lines.keep(line);
                is_unmet = views.queue().is_unsettled();
            }
            Err(failures) => {
                let failure = told(&failures);
                let all_demand_a_login = !failures.is_empty() && failures.iter().all(AttemptError::is_login_demanded);
                turned_away = if all_demand_a_login { turned_away + 1 } else { 0 };
                views.metrics().view_refreshes.with_label_values(&["failed"]).inc();
                pace.failed(Instant::now());
                if turned_away >= TURNED_AWAY_MAX {
                    views.queue().refuse_until(pace.turned_away(Instant::now()));
                }
                if last_logged.is_none_or(|before| before.elapsed() >= LOG_INTERVAL) {
                    last_logged = Some(Instant::now());
                    tracing::warn!(reason = &*failure, "no broker answers");
                }
                views.failed(failure.clone());
                views.queue().failed(&asked, failure);
            }
        }
    }
}

fn told(failures: &[AttemptError]) -> Arc<str> {
    let mut reasons: Vec<String> = failures.iter().take(REASONS_MAX).map(ToString::to_string).collect();
    if failures.len() > REASONS_MAX {
        reasons.push(format!("and {} more", failures.len() - REASONS_MAX));
    }
    if reasons.is_empty() { "there is nobody to ask".into() } else { reasons.join("; ").into() }
}
