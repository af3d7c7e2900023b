//! The first step: a YAML text, and what flags and the environment say instead, to one raw value per key.
//!
//! Invariant: only keys of the table get in; each value remembers where it came from. Deliberately absent: what the values mean.

use std::collections::BTreeMap;

use serde_yaml::Value;

use super::keys::{self, Key};
use super::problem::Problems;

/// A value that a flag or an environment variable gives for a key, instead of the file's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// A path of the table (`listen.bootstrap`).
    pub key: &'static str,
    /// What the user wrote: `--listen` or `EVENKEEL_LISTEN`.
    pub origin: String,
    pub value: String,
}

/// A raw value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub at: String,
    pub value: Value,
}

/// Raw values by key.
#[derive(Debug, Default)]
pub(super) struct Document {
    entries: BTreeMap<&'static str, Entry>,
}

impl Document {
    /// `None`: not even readable, so that nothing else can be said of it.
    pub fn read(yaml: &str, overrides: &[Override], problems: &mut Problems) -> Option<Document> {
        let mut document = Document::default();
        match serde_yaml::from_str::<Value>(yaml) {
            Ok(Value::Null) => {}
            Ok(Value::Mapping(top)) => document.walk("", &top, problems),
            Ok(other) => {
                problems.add("", format!("a configuration is a mapping of keys, not {}", found(&other)));
                return None;
            }
            Err(error) => {
                problems.add("", format!("not readable as YAML: {error}"));
                return None;
            }
        }
        for Override { key, origin, value } in overrides {
            document.entries.insert(key, Entry { at: origin.clone(), value: Value::String(value.clone()) });
        }
        Some(document)
    }

    /// `None`: not said, so the default holds.
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key.path)
    }

    fn walk(&mut self, section: &str, mapping: &serde_yaml::Mapping, problems: &mut Problems) {
        for (name, value) in mapping {
            let Some(name) = name.as_str() else {
                problems.add(section, format!("a key is a name, not {}", found(name)));
                continue;
            };
            let path = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            if let Some(key) = keys::find(&path) {
                // A key without a value (`advertise:`) says nothing.
                if !value.is_null() {
                    self.entries.insert(key.path, Entry { at: path, value: value.clone() });
                }
            } else if keys::is_section(&path) {
                match value {
                    Value::Mapping(inner) => self.walk(&path, inner, problems),
                    Value::Null => {}
                    other => problems
                        .add(path.as_str(), format!("a section of keys ({}), not {}", keys::names_in(&path).join(", "), found(other))),
                }
            } else {
                problems.add(path, unknown(section, name));
            }
        }
    }
}

/// Names a value for an error message.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(it) => format!("`{it}`"),
        Value::Number(it) => format!("`{it}`"),
        Value::String(it) => quoted(it),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Tagged(it) => format!("a value tagged {}", it.tag),
    }
}

/// Quotes a user's text, cut short where it is long.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST_QUOTE: usize = 60;
    if text.chars().count() <= LONGEST_QUOTE {
        format!("`{text}`")
    } else {
        format!("`{}…`", text.chars().take(LONGEST_QUOTE).collect::<String>())
    }
}

fn unknown(section: &str, name: &str) -> String {
    let here = keys::names_in(section);
    if let Some(near) = here.iter().max_by(|a, b| likeness(a, name).total_cmp(&likeness(b, name)))
        && likeness(near, name) >= 0.8
    {
        return format!("unknown key; did you mean `{near}`?");
    }
    let elsewhere = keys::KEYS.iter().find(|key| key.path.rsplit('.').next() == Some(name) && key.path.contains('.'));
    if let Some(key) = elsewhere {
        return format!("unknown key; did you mean `{}`?", key.path);
    }
    format!("unknown key; known here: {}", here.join(", "))
}

fn likeness(known: &str, name: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(known, &name.replace('-', "_").to_lowercase())
        .max(if known.starts_with(name) && name.len() >= 4 { 0.9 } else { 0.0 })
}
