//! The wire sequences by name: what each is, under which load, how long the cluster itself needs, and what a direct client suffers.
//!
//! Invariant: what a direct client must show is what makes a sequence a test at all; one that shows less has lost its sting.
//! Not here: how a sequence is played.

use std::time::Duration;

use anyhow::Result;
use evenkeel::sim::cluster::Options;
use evenkeel::sim::profile::Profile;

use super::client::Load;
use super::script;
use super::stage::Stage;
use super::verdict::Verdict;

/// What a direct client, left alone, must be seen to suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direct {
    /// A record that takes this long.
    Waits(Duration),
    /// An error of this text.
    Fails(&'static str),
    /// Nothing in a single run: it is a matter of luck, or of milliseconds.
    Varies,
}

pub struct Sequence {
    pub name: &'static str,
    /// How long the cluster refuses or hides the partition, whoever asks.
    pub window: Duration,
    pub load: Load,
    pub profile: Profile,
    pub hints_list_all_brokers: bool,
    pub play: fn(&mut Stage) -> Result<()>,
    pub direct: Direct,
}

/// One record every 5 ms: rarely two on their way at once.
const STEADY: Load = Load { keyed: true, records_per_second: 200 };
const UNKEYED: Load = Load { keyed: false, records_per_second: 200 };
/// A record is on its way to the leaving broker nearly always.
const BUSY: Load = Load { keyed: true, records_per_second: 3_000 };

/// The metadata interval of five seconds, less what may have passed of it.
const STALL: Direct = Direct::Waits(Duration::from_millis(3_500));
/// The client's first back-off, 250 ms ± 20 %.
const BACK_OFF: Direct = Direct::Waits(Duration::from_millis(150));
const AT_ONCE: Duration = Duration::ZERO;

const BASE: Sequence = Sequence {
    name: "",
    window: AT_ONCE,
    load: STEADY,
    profile: Profile::V4,
    hints_list_all_brokers: false,
    play: script::not_leader,
    direct: Direct::Varies,
};

pub const FORCED_RACE: Sequence =
    Sequence { name: "forced_race", window: script::RACE_HELD, play: script::forced_race, direct: STALL, ..BASE };
pub const STALE_LEADER: Sequence =
    Sequence { name: "stale_leader", window: script::STALE_LEADER, play: script::stale_leader, direct: STALL, ..BASE };
pub const REFUSED: Sequence = Sequence { name: "refused", window: script::STALE_METADATA, play: script::refused, direct: STALL, ..BASE };
pub const NOT_LEADER_WITH_FRESH_METADATA: Sequence =
    Sequence { name: "not_leader_with_fresh_metadata", profile: Profile::V3_6, direct: STALL, ..BASE };
pub const HINTS_WITH_ALL_ENDPOINTS: Sequence = Sequence { name: "hints_with_all_endpoints", hints_list_all_brokers: true, ..BASE };
/// The client takes the endpoints for all brokers that there are: what is on its way to others ends, and is sent again after a back-off.
pub const HINTS_WITH_ONE_ENDPOINT: Sequence = Sequence { name: "hints_with_one_endpoint", load: BUSY, direct: BACK_OFF, ..BASE };
pub const LEADER_NOT_AVAILABLE_KEYED: Sequence = Sequence {
    name: "leader_not_available_keyed",
    window: script::LEADERLESS,
    play: script::leader_not_available,
    direct: BACK_OFF,
    ..BASE
};
pub const LEADER_NOT_AVAILABLE_UNKEYED: Sequence = Sequence {
    name: "leader_not_available_unkeyed",
    load: UNKEYED,
    direct: Direct::Fails("no usable partitions"),
    ..LEADER_NOT_AVAILABLE_KEYED
};
pub const ONE_EOF: Sequence = Sequence { name: "one_eof", play: script::one_eof, direct: BACK_OFF, ..BASE };
pub const ADDRESS_CHANGE: Sequence = Sequence { name: "address_change", play: script::address_change, ..BASE };
pub const ADDRESS_CHANGE_UNNOTICED: Sequence =
    Sequence { name: "address_change_unnoticed", play: script::address_change_unnoticed, direct: STALL, ..BASE };
pub const REMOVED_AND_MOVED: Sequence =
    Sequence { name: "removed_and_moved_under_load", load: BUSY, play: script::removed_and_moved, ..BASE };

pub const SEQUENCES: [&Sequence; 12] = [
    &FORCED_RACE,
    &STALE_LEADER,
    &REFUSED,
    &NOT_LEADER_WITH_FRESH_METADATA,
    &HINTS_WITH_ALL_ENDPOINTS,
    &HINTS_WITH_ONE_ENDPOINT,
    &LEADER_NOT_AVAILABLE_KEYED,
    &LEADER_NOT_AVAILABLE_UNKEYED,
    &ONE_EOF,
    &ADDRESS_CHANGE,
    &ADDRESS_CHANGE_UNNOTICED,
    &REMOVED_AND_MOVED,
];

impl Sequence {
    pub fn options(&self) -> Options {
        Options { profile: self.profile, hints_list_all_brokers: self.hints_list_all_brokers, ..Options::default() }
    }

    /// Whether a direct run suffered as it must.
    pub fn is_shown_by(&self, direct: &Verdict) -> bool {
        match self.direct {
            Direct::Waits(at_least) => direct.latency_max >= at_least,
            Direct::Fails(text) => direct.errors.keys().any(|error| error.contains(text)),
            Direct::Varies => true,
        }
    }
}
