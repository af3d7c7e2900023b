//! Free ports, below the range from which the kernel takes those of outgoing connections.
//!
//! Invariant: each port was free on loopback when it was handed out.
//! Not here: a reservation; whoever asks binds soon.

use std::net::TcpListener;

use anyhow::{Result, bail};

const ATTEMPTS_MAX: usize = 200;

/// The first of `count` free consecutive ports.
pub fn consecutive(count: u16) -> Result<u16> {
    for _ in 0..ATTEMPTS_MAX {
        let first = fastrand::u16(10_000..32_000);
        if (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return Ok(first);
        }
    }
    bail!("no {count} free consecutive ports in {ATTEMPTS_MAX} attempts")
}
