//! Waking sessions whose batches waited for another session's.
//!
//! Invariant: a nudge that comes between a session's look and its sleep is not lost. Deliberately absent: who waits for whom (`Gate`).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use crate::session::Member;

/// Sessions that have something on the slow path; others need no waking.
#[derive(Debug, Default)]
pub struct Nudges {
    sessions: Mutex<HashMap<Member, Entry>>,
}

#[derive(Debug)]
struct Entry {
    waker: Waker,
    nudged: bool,
}

impl Nudges {
    fn sessions(&self) -> MutexGuard<'_, HashMap<Member, Entry>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `member` is woken by `waker`. True: it was nudged since it asked last.
    pub fn take(&self, member: Member, waker: &Waker) -> bool {
        let mut sessions = self.sessions();
        match sessions.get_mut(&member) {
            Some(entry) => {
                entry.waker.clone_from(waker);
                std::mem::take(&mut entry.nudged)
            }
            None => {
                sessions.insert(member, Entry { waker: waker.clone(), nudged: false });
                // What came before it was there is not known.
                true
            }
        }
    }

    pub fn nudge(&self, members: &[Member]) {
        let mut sessions = self.sessions();
        for member in members {
            if let Some(entry) = sessions.get_mut(member) {
                entry.nudged = true;
                entry.waker.wake_by_ref();
            }
        }
    }

    pub fn leave(&self, member: Member) {
        self.sessions().remove(&member);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nudge_is_taken_once_and_only_by_who_is_there() {
        let gate = crate::session::Gate::new(0);
        let (a, b) = (gate.join(), gate.join());
        let nudges = Nudges::default();
        nudges.nudge(&[a]);
        assert!(nudges.take(a, Waker::noop()), "a first look is always worth it");
        assert!(!nudges.take(a, Waker::noop()));
        nudges.nudge(&[a, b]);
        assert!(nudges.take(a, Waker::noop()) && !nudges.take(a, Waker::noop()));
        nudges.leave(a);
        assert!(nudges.sessions().is_empty());
    }
}
