//! Holds the arrows between the modules of `src/`, and what the pure ones may not touch. ARCHITECTURE.md explains them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each module, and the modules that it may know.
const ARROWS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("cluster", &["wire"]),
    ("answers", &["wire"]),
    ("rewrite", &["wire", "cluster"]),
    ("session", &["wire", "cluster", "rewrite"]),
    ("departures", &["cluster", "session"]),
    ("metrics", &[]),
    ("transport", &["cluster"]),
    ("discovery", &["wire", "cluster", "transport", "metrics"]),
    ("listeners", &["cluster", "rewrite", "transport", "metrics"]),
    ("driver", &["wire", "cluster", "rewrite", "session", "transport", "metrics"]),
    ("admin", &[]),
    ("sim", &[]),
    ("histories", &["wire", "cluster", "rewrite", "session", "sim"]),
    ("config", &["cluster", "rewrite", "session", "discovery", "driver", "listeners", "transport"]),
    (
        "proxy",
        &[
            "admin",
            "cluster",
            "config",
            "departures",
            "discovery",
            "driver",
            "listeners",
            "metrics",
            "rewrite",
            "session",
            "transport",
            "wire",
        ],
    ),
    (
        "cli",
        &[
            "admin",
            "cluster",
            "config",
            "discovery",
            "driver",
            "listeners",
            "metrics",
            "proxy",
            "rewrite",
            "session",
            "sim",
            "transport",
            "wire",
        ],
    ),
    ("main", &["cli"]),
    ("lib", &[]),
];

/// Modules that are state machines and parsers: no IO, no clock, no tasks.
const PURE: &[&str] = &["wire", "cluster", "answers", "rewrite", "session", "departures"];

/// What gives impurity away, outside tests.
const IMPURE: &[&str] =
    &["tokio", "std::net::Tcp", "std::net::Udp", "std::fs", "std::thread", "Instant::now", "SystemTime::now", "fastrand", "prometheus"];

#[test]
fn modules_know_only_what_their_arrows_allow() {
    let mut wrong = Vec::new();
    for (module, file, source) in sources() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: module {module} is not in the table of arrows", file.display()));
            continue;
        };
        for known in known_modules(&source) {
            if known != module && !allowed.contains(&known.as_str()) {
                wrong.push(format!("{}: {module} must not know {known}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_modules_touch_no_io_clock_or_task() {
    let mut wrong = Vec::new();
    for (module, file, source) in sources() {
        if !PURE.contains(&module.as_str()) {
            continue;
        }
        for (number, line) in source.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            wrong.extend(
                IMPURE.iter().filter(|word| code.contains(**word)).map(|word| format!("{}:{}: {word}", file.display(), number + 1)),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_arrow_points_both_ways() {
    for (module, knows) in ARROWS {
        for known in *knows {
            let (_, back) = ARROWS.iter().find(|(name, _)| name == known).expect("the table is closed");
            assert!(!back.contains(module), "{module} and {known} know each other");
        }
    }
}

#[test]
fn the_check_sees_a_wrong_arrow() {
    let source = "use crate::wire::Head;\nuse crate::{driver, session::Core};\nfn f() { crate::admin::go() }\n";
    let known: Vec<_> = known_modules(source).into_iter().collect();
    assert_eq!(known, ["admin", "driver", "session", "wire"]);
}

/// (module, file, source without its tests).
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    assert!(files.len() > 20, "src was not found");
    files
        .into_iter()
        .filter(|file| !is_test(file))
        .map(|file| {
            let inside = file.strip_prefix(&root).expect("below src").to_path_buf();
            let first = inside.components().next().expect("a path").as_os_str().to_string_lossy().into_owned();
            let source = std::fs::read_to_string(&file).expect("a readable file");
            let code = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
            (first.trim_end_matches(".rs").to_owned(), inside, code)
        })
        .collect()
}

fn is_test(file: &Path) -> bool {
    file.components().any(|part| part.as_os_str() == "tests")
        || file.file_stem().is_some_and(|stem| {
            let stem = stem.to_string_lossy();
            stem == "tests" || stem.ends_with("_tests") || stem.ends_with("_properties")
        })
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The first segments behind `crate::`, `use crate::{…}` lists included.
fn known_modules(source: &str) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for (at, _) in source.match_indices("crate::") {
        let rest = &source[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            let mut taking = true;
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => taking = true,
                    ':' => taking = false,
                    c if taking && depth == 0 && (c.is_alphanumeric() || c == '_') => {
                        name.push(c);
                        continue;
                    }
                    _ => {}
                }
                if !name.is_empty() {
                    known.insert(std::mem::take(&mut name));
                }
            }
            if !name.is_empty() {
                known.insert(name);
            }
        } else {
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            known.insert(name);
        }
    }
    known.retain(|name| name.starts_with(|c: char| c.is_lowercase()));
    known
}
