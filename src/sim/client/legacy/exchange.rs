//! What goes between the model and whoever has its sockets: actions out, answers in.
//!
//! Invariant: plain values. Deliberately not here: the wire format.

/// A broker as metadata names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Node id.
    pub id: i32,
    /// `host:port`.
    pub address: String,
    /// Rack.
    pub rack: Option<String>,
}

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A known broker.
    Broker(i32),
    /// The bootstrap address with this number, counted round and round.
    Bootstrap(usize),
}

/// One batch of a produce request: records `first .. first + count` of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The partition.
    pub partition: i32,
    /// The first record's number.
    pub first: u64,
    /// How many records.
    pub count: u64,
    /// The first record's sequence.
    pub sequence: i32,
}

/// What the model wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a produce request, behind those before it, on the one connection for it to this broker; connect first if need be.
    Produce {
        /// To be named in the answer.
        token: u64,
        /// Which broker.
        broker: i32,
        /// Its address.
        address: String,
        /// How often the producer's epoch was raised by itself.
        epoch_bumps: i16,
        /// At most one batch per partition.
        parts: Vec<Part>,
    },
    /// Ask for the topic's metadata.
    AskMetadata(Target),
    /// Ask which brokers there are.
    AskBrokers(Target),
    /// Close everything to this broker; what is in flight there fails as [`Failure::Ended`].
    Close {
        /// Which broker.
        broker: i32,
    },
    /// Records arrived.
    Acknowledged {
        /// The partition.
        partition: i32,
        /// The first record's number.
        first: u64,
        /// How many.
        count: u64,
    },
    /// Records are given up: an error that the application sees.
    GaveUp {
        /// The partition.
        partition: i32,
        /// The first record's number.
        first: u64,
        /// How many.
        count: u64,
        /// Why.
        error_code: i16,
    },
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection could not be made.
    Refused,
    /// The connection ended, or the answer took too long.
    Ended,
    /// The broker is not listed.
    NotListed,
}

/// What a broker says to one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartAnswer {
    /// The partition.
    pub partition: i32,
    /// 0: it has it.
    pub error_code: i16,
    /// The leader that it names, and its epoch; −1 and −1: none.
    pub leader: (i32, i32),
}

/// A broker's answer to a produce request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The request's version.
    pub version: i16,
    /// Per batch.
    pub parts: Vec<PartAnswer>,
    /// The brokers that it names beside.
    pub brokers: Vec<Broker>,
}

/// How a produce request ended.
pub type Exchanged = Result<Answer, Failure>;

/// A partition in metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionSeen {
    /// Its index.
    pub partition: i32,
    /// 0: what follows is meant.
    pub error_code: i16,
    /// −1: none.
    pub leader: i32,
    /// −1 where the version has none.
    pub epoch: i32,
}

/// A metadata answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// All brokers.
    pub brokers: Vec<Broker>,
    /// The topic's partitions.
    pub partitions: Vec<PartitionSeen>,
}
