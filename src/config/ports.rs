//! Which port each node id gets: ranges, exceptions, the overflow range; and that none of them is taken twice.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use serde_yaml::{Mapping, Value};

use super::address;
use super::document::{Entry, found, quoted};
use super::reader::Reader;
use crate::cluster::NodeId;

const RANGES: &str = "listen.node_ids";
const PAIRS: &str = "listen.ports";
const OVERFLOW: &str = "listen.overflow_ports";
/// How many ports the overflow range has where nothing is said.
const OVERFLOW_PORTS: u32 = 100;

/// What listens where.
pub(super) struct Ports {
    pub by_node: BTreeMap<NodeId, u16>,
    pub overflow: Option<RangeInclusive<u16>>,
}

/// A range of node ids, and where in the configuration it stands.
struct Ids {
    at: String,
    first: i32,
    last: i32,
    first_port: Option<u16>,
}

pub(super) fn read(reader: &mut Reader<'_>, bootstrap: SocketAddr, admin: Option<SocketAddr>) -> Ports {
    let pairs = read_pairs(reader);
    let ranges = read_ranges(reader);

    let mut claims = Claims::default();
    claims.take(bootstrap.port(), reader.at("listen.bootstrap"), "the bootstrap port".to_owned());
    if let Some(admin) = admin.filter(|admin| address::same_interface(admin.ip(), bootstrap.ip()))
        && let Some((_, holder)) = claims.take(admin.port(), reader.at("admin.listen"), "the admin port".to_owned())
    {
        let at = reader.at("admin.listen");
        reader.reject("admin.listen", at, format!("port {} is taken already: {holder}", admin.port()));
    }

    let mut by_node = BTreeMap::new();
    let mut highest = bootstrap.port();
    for range in &ranges {
        highest = highest.max(place(reader, range, bootstrap, &pairs, &mut claims, &mut by_node));
    }
    for (id, (at, port)) in &pairs {
        if let Some((_, holder)) = claims.take(*port, at.clone(), format!("node id {id}")) {
            reader.reject(PAIRS, at.clone(), format!("port {port} is taken already: {holder}"));
        }
        by_node.insert(*id, *port);
    }
    let overflow = read_overflow(reader, highest, &claims);
    Ports { by_node, overflow }
}

/// Gives each id of `range` that has no pair of its own a port; the highest of them.
fn place(
    reader: &mut Reader<'_>,
    range: &Ids,
    bootstrap: SocketAddr,
    pairs: &BTreeMap<NodeId, (String, u16)>,
    claims: &mut Claims,
    by_node: &mut BTreeMap<NodeId, u16>,
) -> u16 {
    let first_port = range.first_port.map_or_else(|| i64::from(bootstrap.port()) + 1 + i64::from(range.first), i64::from);
    let last_port = first_port + i64::from(range.last) - i64::from(range.first);
    if last_port > i64::from(u16::MAX) {
        let id = i64::from(range.first) + (i64::from(u16::MAX) + 1 - first_port).max(0);
        let port = first_port + id - i64::from(range.first);
        let sum = match range.first_port {
            Some(first_port) => format!("{first_port} + {id} − {}", range.first),
            None => format!("{} + 1 + {id}", bootstrap.port()),
        };
        let what = format!("id {id} would get port {port} ({sum}), and 65535 is the last; give the range a `first_port`, or the id a port");
        reader.reject(RANGES, range.at.clone(), what);
        return bootstrap.port();
    }
    let mut reported = BTreeSet::new();
    let mut highest = 0;
    for (id, port) in (range.first..=range.last).zip(first_port..=last_port) {
        let (id, Ok(port)) = (NodeId(id), u16::try_from(port)) else { continue };
        highest = highest.max(port);
        if pairs.contains_key(&id) {
            continue;
        }
        if let Some((holder_at, holder)) = claims.take(port, range.at.clone(), format!("node id {id}"))
            && reported.insert(holder_at)
        {
            reader.reject(RANGES, range.at.clone(), format!("port {port} for id {id} is taken already: {holder}"));
        }
        by_node.insert(id, port);
    }
    highest
}

fn read_ranges(reader: &mut Reader<'_>) -> Vec<Ids> {
    let Some(Entry { at, value }) = reader.raw(RANGES) else { return Vec::new() };
    let items: Vec<(String, Value)> = match value {
        Value::String(text) => text.split(',').map(|part| (at.clone(), Value::String(part.to_owned()))).collect(),
        Value::Sequence(items) => items.into_iter().enumerate().map(|(index, item)| (format!("{at}[{index}]"), item)).collect(),
        other => vec![(at, other)],
    };
    let mut ranges: Vec<Ids> = Vec::new();
    for (at, item) in items {
        match ids(&at, &item) {
            Ok(range) => {
                let twice = ranges.iter().find(|known| known.first <= range.last && range.first <= known.last);
                if let Some(known) = twice {
                    let (first, last) = (known.first.max(range.first), known.last.min(range.last));
                    let which = if first == last { format!("id {first} is") } else { format!("ids {first}-{last} are") };
                    reader.reject(RANGES, at, format!("{which} in {}-{} already ({})", known.first, known.last, known.at));
                } else {
                    ranges.push(range);
                }
            }
            Err((at, what)) => reader.reject(RANGES, at, what),
        }
    }
    ranges
}

fn ids(at: &str, item: &Value) -> Result<Ids, (String, String)> {
    const EXPECTED: &str = "expected node ids such as 0-99 or 7, or a mapping {ids: 1000-1010, first_port: 20000}";
    let here = |what: String| (at.to_owned(), what);
    if let Value::Mapping(mapping) = item {
        return ids_with_port(at, mapping);
    }
    let text = match item {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        other => return Err(here(format!("{EXPECTED}, not {}", found(other)))),
    };
    let (first, last) = match text.split_once('-') {
        Some((first, last)) if !first.is_empty() => (first.trim().parse(), last.trim().parse()),
        _ => (text.parse(), text.parse()),
    };
    let (Ok(first), Ok(last)) = (first, last) else { return Err(here(format!("{EXPECTED}, not {}", quoted(&text)))) };
    if first < 0 {
        return Err(here(format!("{}: a node id is not negative", quoted(&text))));
    }
    if last < first {
        return Err(here(format!("{}: the range ends before it begins", quoted(&text))));
    }
    Ok(Ids { at: at.to_owned(), first, last, first_port: None })
}

fn ids_with_port(at: &str, mapping: &Mapping) -> Result<Ids, (String, String)> {
    for (name, _) in mapping {
        if !matches!(name.as_str(), Some("ids" | "first_port")) {
            let name = name.as_str().map_or_else(|| found(name), str::to_owned);
            return Err((format!("{at}.{name}"), "unknown key; known here: ids, first_port".to_owned()));
        }
    }
    let inner = mapping.get("ids").filter(|value| !value.is_mapping());
    let mut range =
        ids(&format!("{at}.ids"), inner.ok_or_else(|| (format!("{at}.ids"), "required: node ids such as 1000-1010".to_owned()))?)?;
    if let Some(value) = mapping.get("first_port") {
        range.first_port = Some(port(value).map_err(|what| (format!("{at}.first_port"), what))?);
    }
    range.at = at.to_owned();
    Ok(range)
}

fn read_pairs(reader: &mut Reader<'_>) -> BTreeMap<NodeId, (String, u16)> {
    let mut pairs = BTreeMap::new();
    let Some(Entry { at, value }) = reader.raw(PAIRS) else { return pairs };
    let Value::Mapping(mapping) = value else {
        reader.reject(PAIRS, at, format!("expected a mapping of node id to port, such as {{7: 19999}}, not {}", found(&value)));
        return pairs;
    };
    for (id, value) in mapping {
        let text = id.as_str().map_or_else(|| found(&id).trim_matches('`').to_owned(), str::to_owned);
        let at = format!("{at}.{text}");
        let Some(id) = text.trim().parse().ok().filter(|id| *id >= 0).map(NodeId) else {
            reader.reject(PAIRS, at, "expected a node id before the port");
            continue;
        };
        match port(&value) {
            Ok(_) if pairs.contains_key(&id) => reader.reject(PAIRS, at, format!("id {id} has a port already")),
            Ok(port) => {
                pairs.insert(id, (at, port));
            }
            Err(what) => reader.reject(PAIRS, at, what),
        }
    }
    pairs
}

fn port(value: &Value) -> Result<u16, String> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let port = number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port != 0);
    port.ok_or_else(|| format!("expected a port from 1 to 65535, not {}", found(value)))
}

fn read_overflow(reader: &mut Reader<'_>, highest: u16, claims: &Claims) -> Option<RangeInclusive<u16>> {
    let Entry { at, value } = reader.raw(OVERFLOW)?;
    let text = match &value {
        Value::String(text) => text.trim(),
        other => {
            reader.reject(OVERFLOW, at, format!("expected ports such as 19193-19292, `auto` or `none`, not {}", found(other)));
            return None;
        }
    };
    let (range, which) = match text {
        "none" => return None,
        "auto" => {
            let first = u32::from(highest) + 1;
            let last = first + OVERFLOW_PORTS - 1;
            let (Ok(first), Ok(last)) = (u16::try_from(first), u16::try_from(last)) else {
                let what = format!("no {OVERFLOW_PORTS} ports are left above {highest}; name a range, or `none`");
                reader.reject(OVERFLOW, at, what);
                return None;
            };
            (first..=last, format!("{first}-{last} (the {OVERFLOW_PORTS} ports after the highest range)"))
        }
        _ => {
            let bounds = text.split_once('-').map(|(first, last)| (first.trim().parse::<u16>(), last.trim().parse::<u16>()));
            match bounds {
                Some((Ok(first), Ok(last))) if first > 0 && first <= last => (first..=last, format!("{first}-{last}")),
                Some((Ok(first), Ok(last))) if first > last => {
                    reader.reject(OVERFLOW, at, format!("{}: the range ends before it begins", quoted(text)));
                    return None;
                }
                _ => {
                    let what = format!("expected ports from 1 to 65535 such as 19193-19292, `auto` or `none`, not {}", quoted(text));
                    reader.reject(OVERFLOW, at, what);
                    return None;
                }
            }
        }
    };
    if reader.problems.are_sound(&[RANGES, PAIRS, "listen.bootstrap", "admin.listen"])
        && let Some((port, holder)) = claims.first_in(&range)
    {
        reader.reject(OVERFLOW, at, format!("{which}: port {port} is taken already: {holder}; name another range, or `none`"));
        return None;
    }
    Some(range)
}

/// Who has which port.
#[derive(Default)]
struct Claims {
    by_port: BTreeMap<u16, (String, String)>,
}

impl Claims {
    /// Claims `port`, or says who has it: where that stands, and in words.
    fn take(&mut self, port: u16, at: String, what: String) -> Option<(String, String)> {
        if let Some((at, what)) = self.by_port.get(&port) {
            return Some((at.clone(), format!("{what} ({at})")));
        }
        self.by_port.insert(port, (at, what));
        None
    }

    fn first_in(&self, range: &RangeInclusive<u16>) -> Option<(u16, String)> {
        self.by_port.range(range.clone()).next().map(|(port, (at, what))| (*port, format!("{what} ({at})")))
    }
}
