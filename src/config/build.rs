//! The second step: raw values to valid types, and the rules that join several keys.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::document::{Document, Override, found};
use super::problem::Problems;
use super::reader::{Reader, duration, within};
use super::{Config, Log, LogFormat, address, ports};
use crate::cluster::{Endpoint, LearnLimits};
use crate::rewrite::{Masks, UnknownApis};
use crate::session::Ambiguous;
use crate::{discovery, driver, listeners, session, transport};

pub(super) fn config(yaml: &str, overrides: &[Override]) -> Result<Config, Problems> {
    let mut problems = Problems::default();
    let Some(document) = Document::read(yaml, overrides, &mut problems) else { return Err(problems) };
    let mut reader = Reader { document: &document, problems };
    let config = build(&mut reader);
    match config {
        Some(config) if reader.problems.is_empty() => Ok(config),
        _ => Err(reader.problems),
    }
}

pub(super) fn admin_address(yaml: &str, overrides: &[Override]) -> Result<Option<SocketAddr>, Problems> {
    let mut problems = Problems::default();
    let Some(document) = Document::read(yaml, overrides, &mut problems) else { return Err(problems) };
    let mut reader = Reader { document: &document, problems: Problems::default() };
    let admin = reader.read("admin.listen", address::listen_or_none).flatten();
    if reader.problems.is_empty() { Ok(admin) } else { Err(reader.problems) }
}

/// `None` only where a value has neither a usable text nor a default, which is a problem reported already.
fn build(reader: &mut Reader<'_>) -> Option<Config> {
    let bootstrap = address::endpoints(reader, "upstream.bootstrap");
    let transport = transport::Settings {
        connect_timeout: reader.duration("upstream.connect_timeout"),
        keepalive: reader.duration("upstream.keepalive"),
        user_timeout: reader.read("timeouts.unacknowledged", user_timeout).flatten(),
        connects_per_second_per_broker: per_second(reader),
    };
    let listeners = listeners(reader);
    let admin = reader.read("admin.listen", address::listen_or_none).flatten();
    let may_rehearse = reader.choice("admin.rehearsal") == "true";
    let unlist_after = reader.duration("departures.unlist_after");
    let max_connections = reader.count("limits.connections");
    let session = session_limits(reader);
    let detours = detours(reader);
    let masks = Masks { leaderless: reader.duration("departures.leaderless") };
    let max_kept_bytes = reader.size_usize("limits.kept_bytes");
    let view = view_limits(reader);
    let driver = driver::Settings {
        max_queued_bytes: reader.size_usize("limits.queued_bytes"),
        handshake_timeout: reader.duration("timeouts.handshake"),
        idle_timeout: reader.duration("timeouts.idle"),
        half_close_timeout: reader.duration("timeouts.half_close"),
    };
    let drain_timeout = reader.duration("timeouts.drain");
    let discovery = discovery(reader, bootstrap.iter().map(|(_, endpoint)| endpoint.clone()).collect());
    let unknown_apis = if reader.choice("unknown_apis") == "pass" { UnknownApis::Pass } else { UnknownApis::Hide };
    let worker_threads = reader.count("runtime.worker_threads");
    let log = Log {
        format: if reader.choice("log.format") == "json" { LogFormat::Json } else { LogFormat::Text },
        filter: reader.read("log.level", log_filter)?,
    };

    let (address, advertised_host) = listeners?;
    for (at, endpoint) in &bootstrap {
        if reader.problems.are_sound(&["listen.bootstrap"]) && is_own(endpoint, address) {
            reader.reject(
                "upstream.bootstrap",
                at.clone(),
                format!("`{endpoint}` is where Evenkeel itself would listen (listen.bootstrap)"),
            );
        }
    }
    let ports = ports::read(reader, address, admin);
    let listeners = listeners::Plan {
        bootstrap: address,
        advertised_host,
        ports: ports.by_node,
        overflow: ports.overflow,
        max_connections: max_connections?,
    };
    Some(Config {
        listeners,
        discovery,
        transport,
        session,
        detours,
        masks,
        max_kept_bytes,
        view,
        driver,
        unknown_apis,
        admin,
        may_rehearse,
        unlist_after,
        drain_timeout,
        worker_threads,
        log,
    })
}

fn per_second(reader: &mut Reader<'_>) -> u32 {
    reader.count("limits.connects_per_second_per_broker").and_then(|count| u32::try_from(count).ok()).unwrap_or(1)
}

fn listeners(reader: &mut Reader<'_>) -> Option<(SocketAddr, Arc<str>)> {
    let address = reader.read("listen.bootstrap", address::listen)?;
    let advertised = reader.read("listen.advertise", |value| {
        let text = value.as_str().ok_or_else(|| format!("expected a host name or IP address, not {}", found(value)))?.trim();
        if text.rsplit_once(':').is_some_and(|(host, port)| !host.contains(':') && port.parse::<u16>().is_ok()) {
            return Err(format!("expected a host without a port, not {}: ports follow from listen.bootstrap", found(value)));
        }
        let host = address::host(text)?;
        if host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            return Err(format!("{} is not an address that clients can connect to", found(value)));
        }
        Ok(host)
    });
    let sound = reader.problems.are_sound(&["listen.bootstrap", "listen.advertise"]);
    if sound && advertised.is_none() && address.ip().is_unspecified() {
        let what = format!(
            "required (or --advertise): listening on every interface ({}), Evenkeel cannot know by which host clients reach it",
            address.ip()
        );
        reader.reject("listen.advertise", "listen.advertise", what);
    }
    Some((address, advertised.unwrap_or_else(|| address.ip().to_string().into())))
}

fn session_limits(reader: &mut Reader<'_>) -> session::Limits {
    let limits = session::Limits {
        max_request_bytes: reader.size_u32("limits.request_bytes"),
        max_response_bytes: reader.size_u32("limits.response_bytes"),
        max_head_bytes: reader.size_u32("limits.head_bytes"),
        max_slots: reader.count("limits.slots_per_session").unwrap_or(1),
        max_parked_bytes: reader.size_u32("limits.parked_bytes"),
        max_rewrite_bytes: reader.size_u32("limits.rewrite_bytes"),
        max_kept_bytes: reader.size_usize("limits.kept_bytes_per_session"),
    };
    if reader.problems.are_sound(&["limits.response_bytes", "limits.rewrite_bytes"]) && limits.max_rewrite_bytes > limits.max_response_bytes
    {
        let at = reader.at("limits.rewrite_bytes");
        reader.reject("limits.rewrite_bytes", at, "larger than limits.response_bytes: such a response would never get so far");
    }
    limits
}

fn detours(reader: &mut Reader<'_>) -> session::Detours {
    let detours = session::Detours {
        suspect_after: reader.duration("departures.suspect_after"),
        backoff_min: reader.duration("departures.backoff_min"),
        backoff_max: reader.duration("departures.backoff_max"),
        hold_mixed: reader.duration("departures.hold_mixed"),
        linger: reader.duration("departures.linger"),
        metadata_hold: reader.duration("departures.metadata_hold"),
        ambiguous: if reader.choice("departures.ambiguous_produce") == "fail" { Ambiguous::Fail } else { Ambiguous::Resend },
        patience: reader.read("departures.client_patience", client_patience).flatten(),
        ..session::Detours::default()
    };
    if reader.problems.are_sound(&["departures.backoff_min", "departures.backoff_max"]) && detours.backoff_min > detours.backoff_max {
        let at = reader.at("departures.backoff_min");
        reader.reject("departures.backoff_min", at, "longer than departures.backoff_max");
    }
    detours
}

fn client_patience(value: &serde_yaml::Value) -> Result<Option<Duration>, String> {
    const BOUNDS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(120));
    if value.as_str() == Some("auto") {
        return Ok(None);
    }
    let read = duration(value).and_then(|it| within(it, BOUNDS.0, BOUNDS.1, |it| humantime::format_duration(*it).to_string()));
    read.map(Some).map_err(|what| format!("{what} (`auto`: by the client, as far as it says what it is)"))
}

fn view_limits(reader: &mut Reader<'_>) -> LearnLimits {
    LearnLimits {
        max_brokers: reader.count("limits.view_brokers").unwrap_or(1),
        max_topics: reader.count("limits.view_topics").unwrap_or(1),
        max_partitions: reader.count("limits.view_partitions").unwrap_or(1),
        max_coordinators: reader.count("limits.view_coordinators").unwrap_or(1),
        ..LearnLimits::default()
    }
}

fn discovery(reader: &mut Reader<'_>, bootstrap: Vec<Endpoint>) -> discovery::Settings {
    let settings = discovery::Settings {
        bootstrap,
        poll_interval: reader.duration("discovery.poll_interval"),
        min_interval: reader.duration("discovery.min_interval"),
        backoff_min: reader.duration("discovery.backoff_min"),
        backoff_max: reader.duration("discovery.backoff_max"),
        request_timeout: reader.duration("discovery.request_timeout"),
        head_start: discovery::HEAD_START,
    };
    if reader.problems.are_sound(&["discovery.backoff_min", "discovery.backoff_max"]) && settings.backoff_min > settings.backoff_max {
        let at = reader.at("discovery.backoff_min");
        reader.reject("discovery.backoff_min", at, "longer than discovery.backoff_max");
    }
    if reader.problems.are_sound(&["discovery.min_interval", "discovery.poll_interval"]) && settings.min_interval > settings.poll_interval {
        let at = reader.at("discovery.min_interval");
        reader.reject("discovery.min_interval", at, "longer than discovery.poll_interval");
    }
    settings
}

fn user_timeout(value: &serde_yaml::Value) -> Result<Option<Duration>, String> {
    const BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
    if value.as_str() == Some("none") {
        return Ok(None);
    }
    let read = duration(value).and_then(|it| within(it, BOUNDS.0, BOUNDS.1, |it| humantime::format_duration(*it).to_string()));
    read.map(Some).map_err(|what| format!("{what} (`none`: as the system has it)"))
}

/// A level, or directives as tracing has them. A lone misspelt level would otherwise count as a target's name and silence everything.
fn log_filter(value: &serde_yaml::Value) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let wrong =
        || format!("expected one of {}, or a filter such as info,evenkeel::discovery=debug, not {}", LEVELS.join(", "), found(value));
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let text = value.as_str().ok_or_else(wrong)?.trim();
    let sound = |directive: &str| match directive.trim().rsplit_once('=') {
        Some((target, level)) => !target.is_empty() && is_level(level),
        None => is_level(directive.trim()),
    };
    let parses = || tracing_subscriber::EnvFilter::builder().parse(text).is_ok();
    if text.split(',').all(sound) && parses() { Ok(text.to_owned()) } else { Err(wrong()) }
}

fn is_own(endpoint: &Endpoint, listen: SocketAddr) -> bool {
    let ip = if &*endpoint.host == "localhost" { Ok(std::net::Ipv4Addr::LOCALHOST.into()) } else { endpoint.host.parse() };
    ip.is_ok_and(|ip: std::net::IpAddr| {
        endpoint.port == listen.port() && (ip == listen.ip() || (listen.ip().is_unspecified() && ip.is_loopback()))
    })
}
