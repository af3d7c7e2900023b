//! Connecting a leg to the first of its targets that answers.
//!
//! Attempts are staggered: the next one starts when the one before has failed or has been silent for a while, so that dead addresses in
//! front of the list cost a fraction of a second each, not a connect timeout each.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::cluster::Endpoint;
use crate::transport::{ConnectError, Connector};

/// How long one attempt has the stage for itself (RFC 8305 suggests 250 ms between attempts).
const STAGGER: Duration = Duration::from_millis(250);

/// The index of the endpoint that answered, and the connection; or what the last one failed of. Bounded by the connector's timeout
/// per endpoint; what is still under way when one answers is dropped. `on_failure` hears of every failed attempt.
pub async fn connect_first(
    connector: Connector,
    endpoints: Vec<Endpoint>,
    mut on_failure: impl FnMut(&ConnectError),
) -> Result<(usize, TcpStream), Option<ConnectError>> {
    let mut attempts = JoinSet::new();
    let mut waiting = endpoints.into_iter().enumerate();
    let mut last_error = None;
    let mut start_next = true;
    loop {
        if start_next && let Some((index, endpoint)) = waiting.next() {
            let connector = connector.clone();
            attempts.spawn(async move { (index, connector.connect(&endpoint).await) });
        }
        start_next = tokio::select! {
            ended = attempts.join_next() => match ended {
                None => return Err(last_error),
                Some(Ok((index, Ok(stream)))) => return Ok((index, stream)),
                Some(Ok((_, Err(error)))) => {
                    on_failure(&error);
                    last_error = Some(error);
                    true
                }
                Some(Err(_)) => true,
            },
            () = tokio::time::sleep(STAGGER), if waiting.len() > 0 => true,
        };
    }
}
