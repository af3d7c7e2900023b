//! What is wrong with a configuration: every finding with the place that it was found at.

use std::collections::BTreeSet;
use std::fmt;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: a path in the file (`listen.node_ids[1]`), a flag (`--listen`) or an environment variable.
    pub at: String,
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.is_empty() { f.write_str(&self.what) } else { write!(f, "{}: {}", self.at, self.what) }
    }
}

/// Everything that is wrong with a configuration, in the order of its keys; one line each when displayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    found: Vec<Problem>,
    unsound: BTreeSet<&'static str>,
}

impl Problems {
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.found.iter()
    }

    pub(super) fn add(&mut self, at: impl Into<String>, what: impl Into<String>) {
        self.found.push(Problem { at: at.into(), what: what.into() });
    }

    /// Marks `key` as having no usable value, so that rules which combine it with others stay silent.
    pub(super) fn mark_unsound(&mut self, key: &'static str) {
        self.unsound.insert(key);
    }

    pub(super) fn are_sound(&self, keys: &[&str]) -> bool {
        keys.iter().all(|key| !self.unsound.contains(key))
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.found.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
