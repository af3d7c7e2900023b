//! A small honest Kafka client, for the demo and for tests.
//!
//! Invariant: it only goes where it was told to go: the bootstrap addresses and what brokers named since, all of it on record.
//! Deliberately not here: consumer groups, transactions, compression; and any use of our own `wire` module.

mod connection;
mod consumer;
mod directory;
pub mod legacy;
mod producer;

pub use connection::{Connection, Introduction};
pub use consumer::{Consumed, consume};
pub use directory::{Directory, Leader};
pub use producer::{Batch, Delivery, Lane, ProducerIdentity};

use super::frame::FrameError;

/// What goes wrong for a client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A connection could not be made.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// Where to.
        address: String,
        /// Why not.
        reason: String,
    },
    /// A connection ended under way.
    #[error("the connection to {address} ended")]
    Closed {
        /// Whose.
        address: String,
    },
    /// No answer in time.
    #[error("no answer from {address} in time")]
    TimedOut {
        /// Whose.
        address: String,
    },
    /// An answer that cannot be read, or a request that cannot be written.
    #[error("{address}: {source}")]
    Frame {
        /// Whose.
        address: String,
        /// What is wrong with it.
        source: FrameError,
    },
    /// The broker does not serve any version of an API that this client can use.
    #[error("{address} serves no usable version of API {api_key}")]
    NoVersion {
        /// Whose.
        address: String,
        /// The API.
        api_key: i16,
    },
    /// A broker answered with an error code.
    #[error("error code {code} while {doing}")]
    Kafka {
        /// Kafka's code.
        code: i16,
        /// What the client was doing.
        doing: &'static str,
    },
    /// None of the bootstrap addresses answered.
    #[error("no broker answers at {bootstrap}: {last}")]
    Unreachable {
        /// The addresses.
        bootstrap: String,
        /// What the last of them said.
        last: String,
    },
}
