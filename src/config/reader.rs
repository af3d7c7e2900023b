//! Typed reading of raw values: numbers, durations, sizes and words, held against the table's bounds.
//!
//! Invariant: a value that cannot be used is reported once and replaced by its default, so that reading goes on to the next problem.

use std::time::Duration;

use bytesize::ByteSize;
use serde_yaml::Value;

use super::document::{Document, Entry, found};
use super::keys::{self, Key, Kind};
use super::problem::Problems;

pub(super) struct Reader<'a> {
    pub document: &'a Document,
    pub problems: Problems,
}

impl Reader<'_> {
    pub fn duration(&mut self, path: &'static str) -> Duration {
        let Kind::Duration { min, max } = key(path).kind else { unreachable!("{path} is a duration in the table") };
        self.read(path, |value| {
            let read = duration(value)?;
            within(read, min, max, |it| humantime::format_duration(*it).to_string())
        })
        .unwrap_or(min)
    }

    pub fn size(&mut self, path: &'static str) -> u64 {
        let Kind::Size { min, max } = key(path).kind else { unreachable!("{path} is a size in the table") };
        self.read(path, |value| within(size(value)?, min, max, |it| ByteSize(*it).display().iec().to_string())).unwrap_or(min)
    }

    /// A size that the table holds below 2 GiB.
    pub fn size_u32(&mut self, path: &'static str) -> u32 {
        u32::try_from(self.size(path)).unwrap_or(u32::MAX)
    }

    pub fn size_usize(&mut self, path: &'static str) -> usize {
        usize::try_from(self.size(path)).unwrap_or(usize::MAX)
    }

    /// `None`: not said, and there is no default.
    pub fn count(&mut self, path: &'static str) -> Option<usize> {
        let Kind::Count { min, max } = key(path).kind else { unreachable!("{path} is a count in the table") };
        let read = self.read(path, |value| within(count(value)?, min, max, u64::to_string))?;
        Some(usize::try_from(read).unwrap_or(usize::MAX))
    }

    /// One of the table's words.
    pub fn choice(&mut self, path: &'static str) -> &'static str {
        let Kind::Choice(words) = key(path).kind else { unreachable!("{path} is a choice in the table") };
        self.read(path, |value| {
            let word = match value {
                Value::Bool(true) => "true",
                Value::Bool(false) => "false",
                other => other.as_str().unwrap_or_default(),
            };
            words
                .iter()
                .find(|known| **known == word)
                .copied()
                .ok_or_else(|| format!("expected one of {}, not {}", words.join(", "), found(value)))
        })
        .unwrap_or(words[0])
    }

    /// Reads a key by a parser of its own; a problem is reported and the default taken. `None`: not said and without a default.
    pub fn read<T>(&mut self, path: &'static str, parse: impl Fn(&Value) -> Result<T, String>) -> Option<T> {
        if let Some(entry) = self.document.get(key(path)) {
            match parse(&entry.value) {
                Ok(value) => return Some(value),
                Err(what) => self.reject(path, entry.at.clone(), what),
            }
        }
        default_value(path).and_then(|value| parse(&value).ok())
    }

    /// The raw value of a key and where it stands, or its default.
    pub fn raw(&self, path: &'static str) -> Option<Entry> {
        match self.document.get(key(path)) {
            Some(entry) => Some(entry.clone()),
            None => default_value(path).map(|value| Entry { at: path.to_owned(), value }),
        }
    }

    /// Where a key's value was said; its path where it was not.
    pub fn at(&self, path: &'static str) -> String {
        self.document.get(key(path)).map_or_else(|| path.to_owned(), |entry| entry.at.clone())
    }

    pub fn reject(&mut self, path: &'static str, at: impl Into<String>, what: impl Into<String>) {
        self.problems.mark_unsound(path);
        self.problems.add(at, what);
    }
}

fn key(path: &'static str) -> &'static Key {
    keys::find(path).unwrap_or_else(|| unreachable!("{path} is in the table"))
}

fn default_value(path: &'static str) -> Option<Value> {
    key(path).default.and_then(|text| serde_yaml::from_str(text).ok())
}

pub(super) fn within<T: PartialOrd>(value: T, min: T, max: T, show: impl Fn(&T) -> String) -> Result<T, String> {
    if value < min || value > max {
        return Err(format!("{} is out of bounds: from {} to {}", show(&value), show(&min), show(&max)));
    }
    Ok(value)
}

pub(super) fn duration(value: &Value) -> Result<Duration, String> {
    const EXPECTED: &str = "a time such as 250ms, 10s or 11m";
    if let Some(number) = bare_number(value) {
        return Err(format!("`{number}` has no unit: expected {EXPECTED}"));
    }
    let text = value.as_str().ok_or_else(|| format!("expected {EXPECTED}, not {}", found(value)))?;
    humantime::parse_duration(text.trim()).map_err(|_| format!("expected {EXPECTED}, not {}", found(value)))
}

pub(super) fn size(value: &Value) -> Result<u64, String> {
    const EXPECTED: &str = "a size such as 4KiB or 64MiB";
    if let Some(number) = bare_number(value) {
        return Err(format!("`{number}` has no unit: expected {EXPECTED} (bytes: `{number}B`)"));
    }
    let text = value.as_str().ok_or_else(|| format!("expected {EXPECTED}, not {}", found(value)))?;
    text.trim().parse::<ByteSize>().map(|size| size.0).map_err(|_| format!("expected {EXPECTED}, not {}", found(value)))
}

fn count(value: &Value) -> Result<u64, String> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .ok_or_else(|| format!("expected a whole number, not {}", found(value)))
}

fn bare_number(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if text.trim().parse::<f64>().is_ok_and(f64::is_finite) => Some(text.trim().to_owned()),
        _ => None,
    }
}
