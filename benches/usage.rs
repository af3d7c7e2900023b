//! What processes cost, as the kernel counts it.
//!
//! Invariant: only processes of the given name are counted, not the shell that guards them.

use std::fs;
use std::time::Duration;

/// `/proc` counts CPU time in units of 1/100 s on every Linux (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// Those of the processes that have this name.
pub fn named<'a>(pids: &'a [u32], name: &'a str) -> impl Iterator<Item = u32> + 'a {
    pids.iter().copied().filter(move |pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name))
}

/// CPU time so far, in user and kernel mode, to 10 ms.
pub fn cpu(pids: &[u32], name: &str) -> Duration {
    let ticks = named(pids, name).map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may hold spaces; utime and stime are the 12th and 13th field after it.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum::<u32>()
    });
    TICK * ticks.sum::<u32>()
}

/// The middle value, or the mean of the two in the middle; 0 of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}
