//! Which remote ports a program's sockets have, as the kernel tells it.
//!
//! Invariant: a socket is counted only for the process that holds it, by its inode in `/proc/PID/fd`.
//! Not here: what a program says of itself, and connections that live shorter than one sampling interval.

use std::collections::{BTreeSet, HashSet};
use std::fs;

/// The remote ports of sockets seen while a program ran.
#[derive(Default)]
pub struct SocketWatch {
    pub remote_ports: BTreeSet<u16>,
    pub samples: u64,
}

impl SocketWatch {
    /// Looks once at all sockets of these processes.
    pub fn sample(&mut self, pids: &[u32]) {
        let held: HashSet<String> = pids.iter().flat_map(|pid| socket_inodes(*pid)).collect();
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let text = fs::read_to_string(table).unwrap_or_default();
            self.remote_ports
                .extend(text.lines().skip(1).filter_map(remote).filter(|(inode, _)| held.contains(*inode)).map(|(_, port)| port));
        }
        self.samples += 1;
    }
}

fn socket_inodes(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let link = fs::read_link(entry.ok()?.path()).ok()?;
            Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        })
        .collect()
}

/// The inode and the remote port of one line; port 0 is a listener's.
fn remote(line: &str) -> Option<(&str, u16)> {
    let mut fields = line.split_whitespace();
    let (_, port) = fields.nth(2)?.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let inode = fields.nth(6)?;
    (port != 0).then_some((inode, port))
}
