//! What happened, for eyes: the last events of a history that failed.
//!
//! Invariant: at most `KEPT` lines, of which a failure shows the last `SHOWN`. Deliberately absent: traces of histories that went well (a failing seed is run again, with ears).

use std::collections::VecDeque;

use super::plan::{MS, Time};

const KEPT: usize = 20_000;
const SHOWN: usize = 220;

#[derive(Default)]
pub struct Trace {
    pub is_on: bool,
    lines: VecDeque<String>,
    /// Over all that happened: two runs of a seed must agree.
    pub digest: u64,
}

impl Trace {
    pub fn new(is_on: bool) -> Trace {
        Trace { is_on, ..Trace::default() }
    }

    pub fn say(&mut self, now: Time, what: impl FnOnce() -> String) {
        if self.is_on {
            if self.lines.len() == KEPT {
                self.lines.pop_front();
            }
            self.lines.push_back(format!("{:>10}.{:03} ms  {}", now / MS, now % MS, what()));
        }
    }

    pub fn count(&mut self, now: Time, number: u64) {
        self.digest = (self.digest.rotate_left(5) ^ now ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0x2545_F491_4F6C_DD1D);
    }

    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    pub fn end(&self) -> String {
        let hidden = self.lines.len().saturating_sub(SHOWN);
        self.lines.iter().skip(hidden).map(|line| format!("{line}\n")).collect()
    }
}
