//! Chance from one seed. Invariant: the same seed gives the same history, on every machine. Deliberately absent: anything else's state.

use bytes::Bytes;

pub struct Dice(fastrand::Rng);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(fastrand::Rng::with_seed(seed))
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0.usize(..bound.max(1))
    }

    /// Both ends included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.u64(low..=high.max(low))
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.0.u32(..100) < percent
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len())])
    }

    pub fn number(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// Mostly whole, else cut at bytes of chance.
    pub fn pieces(&mut self, mut bytes: Bytes) -> Vec<Bytes> {
        let mut pieces = Vec::new();
        while bytes.len() > 1 && pieces.len() < 3 && self.chance(25) {
            let at = 1 + self.below(bytes.len() - 1);
            pieces.push(bytes.split_to(at));
        }
        pieces.push(bytes);
        pieces
    }
}
