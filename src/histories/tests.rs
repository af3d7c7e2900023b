//! The histories' tests: many seeds, and one seed again.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::world::World;
use crate::session::mutation;

const HISTORIES: u64 = 10_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a seed; a failure comes with its trace.
fn run(seed: u64) -> Result<World, String> {
    let mut world = World::new(seed, false);
    world.run();
    let Some(why) = world.broken.take() else { return Ok(world) };
    let mut again = World::new(seed, true);
    again.run();
    let told = again.broken.take().unwrap_or_else(|| "the second run of the seed went well: a history is not determined by it".to_owned());
    Err(format!(
        "history {seed}: {why}\n{}{}\nagain: EVENKEEL_SEED={seed} cargo test --lib histories::tests::histories",
        again.trace.end(),
        if told == why { String::new() } else { format!("second run: {told}") }
    ))
}

#[test]
fn histories() {
    if let Some(seed) = number("EVENKEEL_SEED") {
        let mut world = World::new(seed, true);
        world.run();
        println!("{}", world.trace.text());
        assert_eq!(world.broken, None);
        return;
    }
    let count = number("EVENKEEL_HISTORIES").unwrap_or(HISTORIES);
    let from = number("EVENKEEL_FROM").unwrap_or(0);
    let started = Instant::now();
    let next = AtomicU64::new(from);
    let failures = Mutex::new(Vec::new());
    let sums = Mutex::new([0u64; 11]);
    let keep_going = number("EVENKEEL_KEEP_GOING").unwrap_or(1) as usize;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count || failures.lock().unwrap().len() >= keep_going {
                        return;
                    }
                    match run(seed) {
                        Ok(world) => {
                            let stats = &world.stats;
                            let resent = stats.resent_bytes;
                            let ratio = stats.produced_at_brokers * 100 / stats.requests.max(1);
                            let mut sums = sums.lock().unwrap();
                            let sum = [
                                stats.events,
                                stats.requests,
                                stats.detours,
                                stats.attempts,
                                stats.acked,
                                resent,
                                stats.deadlines_missed,
                                stats.dozes,
                            ];
                            sums.iter_mut().zip(sum).for_each(|(sum, one)| *sum += one);
                            sums[8] = sums[8].max(ratio);
                            sums[9] = sums[9].max(stats.longest_recovery);
                            sums[10] += stats.beside;
                        }
                        Err(why) => failures.lock().unwrap().push((seed, why)),
                    }
                }
            });
        }
    });
    let sums = sums.into_inner().unwrap();
    println!(
        "{count} histories in {:.1?}: {} events, {} requests, {} detours, {} attempts, {} batches acknowledged, {} bytes sent again, {} deadlines missed, {} times unread, {} batches beside another connection's; at most {} % of requests at brokers, {} ms until all was acknowledged",
        started.elapsed(),
        sums[0],
        sums[1],
        sums[2],
        sums[3],
        sums[4],
        sums[5],
        sums[6],
        sums[7],
        sums[10],
        sums[8],
        sums[9] / 1000
    );
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    for (seed, why) in failures.iter().skip(1) {
        println!("also: {seed}: {}", why.lines().next().unwrap_or_default());
    }
    if let Some((_, first)) = failures.first() {
        panic!("{first}");
    }
}

/// Histories within which each known bug has to be caught.
const CAUGHT_WITHIN: u64 = 3_000;
/// What some kinds of clients are there for has to be caught sooner.
const CAUGHT_SOON: &[(mutation::Mutation, u64)] = &[(mutation::Mutation::EndAtOnce, 300), (mutation::Mutation::LinePerSession, 1_000)];

fn caught_within(known: mutation::Mutation) -> u64 {
    CAUGHT_SOON.iter().find(|(soon, _)| *soon == known).map_or(CAUGHT_WITHIN, |(_, within)| *within)
}

#[test]
fn known_bugs_are_caught() {
    let next = AtomicU64::new(0);
    let table = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(known) = mutation::ALL.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    mutation::switch(Some(*known));
                    let caught = (0..caught_within(*known)).find_map(|seed| {
                        let mut world = World::new(seed, false);
                        world.run();
                        Some((seed + 1, world.broken?))
                    });
                    mutation::switch(None);
                    table.lock().unwrap().push((format!("{known:?}"), caught));
                }
            });
        }
    });
    let mut table = table.into_inner().unwrap();
    table.sort();
    for (known, caught) in &table {
        match caught {
            Some((histories, how)) => println!("{known}: after {histories} histories: {how}"),
            None => println!("{known}: not caught"),
        }
    }
    let missed: Vec<&String> = table.iter().filter(|(_, caught)| caught.is_none()).map(|(known, _)| known).collect();
    assert!(missed.is_empty(), "not caught in time: {missed:?}");
}

#[test]
fn a_seed_gives_the_same_history_each_time() {
    for seed in 0..20 {
        let digest = |_| {
            let mut world = World::new(seed, false);
            world.run();
            (world.trace.digest, world.stats.events)
        };
        assert_eq!(digest(0), digest(1), "seed {seed}");
    }
}
