//! One simulated broker: where it is, how it is, and what only it holds in memory.
//!
//! Invariant: an address that a client was told stays the broker's until it is told to move. Deliberately not here: logs and groups,
//! which outlive a broker.

use super::fetch_session::FetchSessions;
use super::image::Image;
use super::profile::Profile;

/// How a broker that does not answer fails to do so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// Bytes are taken and nothing comes of them.
    Reading,
    /// Bytes are not even taken: the sender's socket fills up.
    NotReading,
}

/// What a broker says wrongly of the cluster, until `until`.
#[derive(Clone, Debug)]
pub enum MetadataFault {
    /// It serves this earlier moment.
    Stale(Box<Image>),
    /// It leaves a broker out of `brokers[]` and still names it as a leader.
    Hide(i32),
    /// It names no leader (−1) with this error code, for one topic or for all.
    Leaderless {
        /// `None`: every topic.
        topic: Option<String>,
        /// 5 as Kafka does it; 0 as some others do.
        error_code: i16,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Broker {
    /// Its node id.
    pub id: i32,
    /// The host that clients are told.
    pub host: String,
    /// The port that clients are told.
    pub port: u16,
    /// Its rack.
    pub rack: Option<String>,
    /// Which versions it serves.
    pub profile: Profile,
    /// Whether its process runs.
    pub running: bool,
    /// Whether the cluster lists it.
    pub listed: bool,
    /// Whether it refuses connections while it runs.
    pub refusing: bool,
    /// Whether it is frozen.
    pub hang: Option<Hang>,
    /// Whether its coordinators take requests (Kafka: `isActive`).
    pub coordinates: bool,
    /// Counts up when it is told to take another address.
    pub address_generation: u64,
    pub(crate) sessions: FetchSessions,
    pub(crate) metadata_faults: Vec<(MetadataFault, std::time::Duration)>,
}

impl Broker {
    /// A broker that runs and is listed.
    pub fn new(id: i32, rack: Option<String>, profile: Profile) -> Broker {
        Broker {
            id,
            host: "127.0.0.1".to_owned(),
            // A real one is written in when a listener is bound.
            port: u16::try_from(9092 + id).unwrap_or(9092),
            rack,
            profile,
            running: true,
            listed: true,
            refusing: false,
            hang: None,
            coordinates: true,
            address_generation: 0,
            sessions: FetchSessions::default(),
            metadata_faults: Vec::new(),
        }
    }

    /// Whether a connection would be accepted.
    pub fn accepts(&self) -> bool {
        self.running && !self.refusing
    }

    /// Whether other brokers get answers from it.
    pub fn answers(&self) -> bool {
        self.running && self.hang.is_none()
    }

    /// Whether it may lead partitions and coordinate groups.
    pub fn serves(&self) -> bool {
        self.running && self.listed
    }
}
