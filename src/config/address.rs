//! Hosts and addresses as users write them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde_yaml::Value;

use super::document::{Entry, found, quoted};
use super::reader::Reader;
use crate::cluster::Endpoint;

/// The longest name that DNS has.
const LONGEST_HOST_BYTES: usize = 253;

/// `IP:PORT` to listen on.
pub(super) fn listen(value: &Value) -> Result<SocketAddr, String> {
    let text = value.as_str().ok_or_else(|| format!("expected IP:PORT, not {}", found(value)))?.trim();
    let address: SocketAddr = text.parse().map_err(|_| match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() && self::host(host).is_ok() => {
            format!(
                "expected IP:PORT, not {}: a name is not an address to listen on (127.0.0.1: this machine; 0.0.0.0: every interface)",
                quoted(text)
            )
        }
        _ => format!("expected IP:PORT (such as 127.0.0.1:19092 or [::1]:19092), not {}", quoted(text)),
    })?;
    if address.port() == 0 {
        return Err(format!("{}: port 0 cannot be listened on; name one", quoted(text)));
    }
    Ok(address)
}

/// `IP:PORT`, or `none`.
pub(super) fn listen_or_none(value: &Value) -> Result<Option<SocketAddr>, String> {
    if value.as_str().is_some_and(|text| text.trim() == "none") {
        return Ok(None);
    }
    listen(value).map(Some).map_err(|what| format!("{what} (`none` switches it off)"))
}

/// A name or IP address without a port. IPv6 may stand in brackets; they are taken off.
pub(super) fn host(text: &str) -> Result<Arc<str>, String> {
    let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(bare.into());
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || text.len() > LONGEST_HOST_BYTES || !text.bytes().all(plain) {
        return Err(format!("{} is not a host name or IP address", quoted(text)));
    }
    Ok(text.into())
}

/// `HOST:PORT`.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    let text = text.trim();
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(format!("expected HOST:PORT, not {}: leave out `{scheme}://`, so `{rest}`", quoted(text)));
    }
    let wrong = || format!("expected HOST:PORT (such as kafka-0.example:9092), not {}", quoted(text));
    let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    if name.contains(':') && !name.starts_with('[') {
        return Err(format!("expected HOST:PORT, not {}: an IPv6 address stands in brackets", quoted(text)));
    }
    let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    Ok(Endpoint { host: host(name)?, port })
}

/// A list of `HOST:PORT`, or one text with commas. Each once, in order.
pub(super) fn endpoints(reader: &mut Reader<'_>, path: &'static str) -> Vec<(String, Endpoint)> {
    let Some(Entry { at, value }) = reader.raw(path) else {
        reader.reject(path, path, "required: the cluster's bootstrap servers, as HOST:PORT (or by --upstream)");
        return Vec::new();
    };
    let texts: Vec<(String, Value)> = match value {
        Value::String(text) => text.split(',').map(|part| (at.clone(), Value::String(part.to_owned()))).collect(),
        Value::Sequence(items) => items.into_iter().enumerate().map(|(index, item)| (format!("{at}[{index}]"), item)).collect(),
        other => {
            reader.reject(path, at, format!("expected a list of HOST:PORT, not {}", found(&other)));
            return Vec::new();
        }
    };
    if texts.is_empty() {
        reader.reject(path, at, "an empty list: at least one bootstrap server is required");
    }
    let mut endpoints: Vec<(String, Endpoint)> = Vec::new();
    for (at, item) in texts {
        let read = item.as_str().ok_or_else(|| format!("expected HOST:PORT, not {}", found(&item))).and_then(endpoint);
        match read {
            Ok(endpoint) if endpoints.iter().any(|(_, known)| *known == endpoint) => {}
            Ok(endpoint) => endpoints.push((at, endpoint)),
            Err(what) => reader.reject(path, at, what),
        }
    }
    endpoints
}

/// Whether two listeners on these addresses would meet on some interface.
pub(super) fn same_interface(a: IpAddr, b: IpAddr) -> bool {
    a == b || a.is_unspecified() || b.is_unspecified()
}
