//! Which version of which API each client spoke in the end, from the brokers' request logs.
//!
//! Invariant: only requests that a broker completed are counted.
//! Not here: what clients could speak.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use super::kafka::REQUEST_MARK;

/// (API key, name) → version → client ids.
pub type ApiVersions = BTreeMap<(u64, String), BTreeMap<u64, BTreeSet<String>>>;

/// Reads request logs; brokers' own requests among each other are left out, by their client ids.
pub fn read(logs: &[&Path]) -> Result<ApiVersions> {
    let mut seen = ApiVersions::new();
    for log in logs {
        for line in BufReader::new(File::open(log)?).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            let Some((_, json)) = line.split_once(REQUEST_MARK) else { continue };
            let Ok(request) = serde_json::from_str::<Value>(json) else { continue };
            let header = &request["requestHeader"];
            let (Some(key), Some(version), Some(name)) =
                (header["requestApiKey"].as_u64(), header["requestApiVersion"].as_u64(), header["requestApiKeyName"].as_str())
            else {
                continue;
            };
            let client = header["clientId"].as_str().unwrap_or_default();
            let client = if client == "evenkeel" { Some(client) } else { client.strip_prefix("conformance-") };
            let Some(client) = client else { continue };
            seen.entry((key, name.to_owned())).or_default().entry(version).or_default().insert(client.to_owned());
        }
    }
    Ok(seen)
}

pub fn table(title: &str, versions: &ApiVersions) -> String {
    let mut text = format!("\n{title}\n\n| key | API | version | by |\n|---|---|---|---|\n");
    for ((key, name), versions) in versions {
        for (version, clients) in versions {
            let clients: Vec<&str> = clients.iter().map(String::as_str).collect();
            let _ = writeln!(text, "| {key} | {name} | {version} | {} |", clients.join(", "));
        }
    }
    text
}
