//! Options of a TCP socket, the same on both sides.
//!
//! Deliberately absent: buffer sizes; the kernel tunes them better by itself.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::Settings;

/// After the first unanswered probe they go out so often.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// Sets TCP_NODELAY, keepalive and TCP_USER_TIMEOUT on a connected or accepted socket.
///
/// # Errors
/// What the system says; a peer that has reset the connection already makes some systems refuse.
pub fn prepare(stream: &TcpStream, settings: &Settings) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if !settings.keepalive.is_zero() {
        let keepalive = TcpKeepalive::new().with_time(settings.keepalive).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(settings.user_timeout)?;
    Ok(())
}

/// Closes a connection so that the system sends nothing of it that it has not sent yet: the peer sees a reset.
pub fn drop_unsent(stream: TcpStream) {
    // Where that is not possible it closes as any other.
    let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
}
