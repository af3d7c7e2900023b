//! Known bugs, to be switched on in tests: the histories' checks have to catch each of them.
//!
//! Invariant: not there outside of tests. Deliberately absent: what each one does; that stands where it is asked about.

use std::cell::Cell;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Every batch goes as soon as its leader is known.
    DropGate,
    /// A refused batch is sent again without a fresh view.
    AskNobody,
    /// Results are merged in another order than the request's.
    MergeInWrongOrder,
    /// What was written and not answered counts as not applied.
    ForgetAmbiguity,
    /// A leader that lost its leadership after an append counts as a success.
    LostLeaderIsSuccess,
    /// A 45 behind a refused batch is for the client.
    PassOutOfOrder,
    /// Every 45 is sent again, as often as it comes.
    RetryOutOfOrder,
    /// A batch leaves its line when it is sent.
    SettleOnDelivery,
    /// Room for kept requests is not given back.
    LeakKeptBytes,
    /// A detour's answer goes to another request's slot.
    WrongSlot,
    /// Batches follow each other to a leader that has not acknowledged one.
    TrustUnproven,
    /// Batches that are unanswered at the old broker are not waited for.
    LeaveUnanswered,
    /// The end of a transaction waits for nothing.
    EndAtOnce,
    /// An answer that comes after the deadline goes to the client.
    AnswerLate,
    /// Of a kept request, the first piece is missing.
    KeepTooLittle,
    /// The request whose answer begins a detour is opened as if it had not been sent.
    OpenAsUnsent,
    /// What went the fast way is not in line before what goes the slow one.
    LeaveFastOnesOut,
    /// A stand-in answers for a coordinator that is listed.
    StandInForAll,
    /// An ending session keeps its places in line.
    KeepTickets,
    /// The answer to a joint request is told as it is to whoever's results are all in it.
    TellAll,
    /// A joint request takes several batches of a partition.
    JoinTwins,
    /// An idempotent producer has a line in each session, instead of one.
    LinePerSession,
    /// Only batches in line know that their transaction ends.
    ForgetEnds,
}

pub const ALL: &[Mutation] = &[
    Mutation::DropGate,
    Mutation::AskNobody,
    Mutation::MergeInWrongOrder,
    Mutation::ForgetAmbiguity,
    Mutation::LostLeaderIsSuccess,
    Mutation::PassOutOfOrder,
    Mutation::RetryOutOfOrder,
    Mutation::SettleOnDelivery,
    Mutation::LeakKeptBytes,
    Mutation::WrongSlot,
    Mutation::TrustUnproven,
    Mutation::LeaveUnanswered,
    Mutation::EndAtOnce,
    Mutation::AnswerLate,
    Mutation::KeepTooLittle,
    Mutation::OpenAsUnsent,
    Mutation::LeaveFastOnesOut,
    Mutation::StandInForAll,
    Mutation::KeepTickets,
    Mutation::TellAll,
    Mutation::JoinTwins,
    Mutation::LinePerSession,
    Mutation::ForgetEnds,
];

thread_local! {
    static NOW: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// For this thread, which runs one history at a time.
pub fn switch(mutation: Option<Mutation>) {
    NOW.set(mutation);
}

pub fn is_on(mutation: Mutation) -> bool {
    NOW.get() == Some(mutation)
}
