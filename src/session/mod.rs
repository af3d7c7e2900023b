//! The session core: a state machine without IO, clock or tasks that decides on heads what becomes of each frame of one client's
//! connection.

/// Bounds on one session.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests that wait for their response. At the bound the client is not read from.
    pub max_slots: usize,
    /// A response up to this size may wait out of turn for an earlier one.
    pub max_parked_bytes: u32,
    /// A response that is rewritten is read whole up to this size.
    pub max_rewrite_bytes: u32,
    /// A request frame, its length prefix included (Kafka: `socket.request.max.bytes`).
    pub max_request_bytes: u32,
    /// A response frame, its length prefix included.
    pub max_response_bytes: u32,
    /// How far into a frame a request's head may reach.
    pub max_head_bytes: u32,
}
