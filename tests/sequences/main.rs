//! The wire sequences at which franz-go 1.17.0 stalls or fails, played by a simulated cluster to the real client, direct and through the
//! real binary.
//!
//! Direct, a sequence must show what it is known for: a test that cannot fail proves nothing. Through the proxy nothing of it may be left.
//! `make sequences` measures the same a hundred times; `EVENKEEL_SEQUENCES_DEBUG=1` shows the client's own log.

#[path = "../real/mod.rs"]
mod real;

mod catalogue;
mod client;
mod script;
mod stage;
mod verdict;
mod verdict_tests;

use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use catalogue::Sequence;
use stage::{Way, run};

/// A client that is alone with the cluster waits four to five seconds; on a busy machine a good proxy has this much time.
const LATENCY_MAX: Duration = Duration::from_secs(2);
/// A direct client's stall takes a race in some sequences, and a busy machine may lose it.
const DIRECT_TRIES: usize = 3;

fn direct(sequence: &Sequence) -> Result<()> {
    let mut seen = Vec::new();
    for _ in 0..DIRECT_TRIES {
        let (verdict, _) = run(sequence, Way::Direct, "direct")?;
        ensure!(verdict.lost == 0 && verdict.unsettled == 0, "{}, direct: {:?}", sequence.name, verdict.harm());
        real::say(&format!("{}, direct: {:?} {:?}", sequence.name, verdict.latency_max, verdict.harm()));
        if sequence.is_shown_by(&verdict) {
            return Ok(());
        }
        seen.push((verdict.latency_max, verdict.errors));
    }
    bail!("{}: a direct client shows nothing of {:?}: {seen:?}", sequence.name, sequence.direct)
}

fn proxied(sequence: &Sequence) -> Result<()> {
    let (verdict, proxy_log) = run(sequence, Way::Proxy { binary: env!("CARGO_BIN_EXE_evenkeel") }, "proxy")?;
    let mut complaints = verdict.harm();
    if verdict.latency_max >= LATENCY_MAX {
        complaints.push(format!("a record took {:?}", verdict.latency_max));
    }
    let (name, window, latency_max) = (sequence.name, sequence.window, verdict.latency_max);
    real::say(&format!("{name}, through the proxy: {latency_max:?} of which {window:?} are the cluster's own; {complaints:?}"));
    ensure!(complaints.is_empty(), "{name}, through the proxy: {}\n{proxy_log}", complaints.join("; "));
    Ok(())
}

/// Side by side: they wait most of the time.
fn both_ways(sequence: &Sequence) -> Result<()> {
    thread::scope(|scope| {
        let direct = scope.spawn(|| direct(sequence));
        let proxied = proxied(sequence);
        direct.join().map_err(|_| anyhow!("the direct run panicked"))?.and(proxied)
    })
}

/// One test per sequence, of the same name; and none forgotten.
macro_rules! sequences {
    ($($name:ident: $sequence:ident,)*) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                both_ways(&catalogue::$sequence)
            }
        )*

        #[test]
        fn every_sequence_is_a_test() {
            let tests = [$((stringify!($name), &catalogue::$sequence),)*];
            assert!(tests.iter().all(|(name, sequence)| *name == sequence.name));
            assert!(tests.iter().map(|(name, _)| *name).eq(catalogue::SEQUENCES.iter().map(|sequence| sequence.name)));
        }
    };
}

sequences! {
    forced_race: FORCED_RACE,
    stale_leader: STALE_LEADER,
    refused: REFUSED,
    not_leader_with_fresh_metadata: NOT_LEADER_WITH_FRESH_METADATA,
    hints_with_all_endpoints: HINTS_WITH_ALL_ENDPOINTS,
    hints_with_one_endpoint: HINTS_WITH_ONE_ENDPOINT,
    leader_not_available_keyed: LEADER_NOT_AVAILABLE_KEYED,
    leader_not_available_unkeyed: LEADER_NOT_AVAILABLE_UNKEYED,
    one_eof: ONE_EOF,
    address_change: ADDRESS_CHANGE,
    address_change_unnoticed: ADDRESS_CHANGE_UNNOTICED,
    removed_and_moved_under_load: REMOVED_AND_MOVED,
}
