//! Carries out what the session core decides: sockets, buffers, timers, back-pressure; and counts.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes that wait to be written, per connection, before the other side is no longer read from.
    pub max_queued_bytes: usize,
    /// From a connection's start, or from a frame's first byte, to its whole head.
    pub handshake_timeout: Duration,
    /// Nothing in flight and nothing read for so long: close. Above the brokers' own `connections.max.idle.ms`, so that they decide.
    pub idle_timeout: Duration,
    /// After a client's FIN: how long its outstanding responses may take.
    pub half_close_timeout: Duration,
}
