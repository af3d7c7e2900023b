//! Our answers are Kafka's, byte for byte: `recorded.txt` says how it came to be.

use std::collections::BTreeSet;

use super::*;

pub(super) struct Recorded {
    pub(super) api: ApiKey,
    pub(super) version: i16,
    pub(super) denial: Denial,
    pub(super) request: Vec<u8>,
    pub(super) answer: Vec<u8>,
}

pub(super) fn recorded() -> Vec<Recorded> {
    let lines = include_str!("recorded.txt").lines().filter(|line| !line.starts_with('#'));
    let parse = |line: &str| {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let (api, version, code) = (word().parse().unwrap(), word().parse().unwrap(), word().parse::<i16>().unwrap());
        let denial = [Denial::NotLeader, Denial::FetchSessionNotFound, Denial::ShareSessionNotFound, Denial::NotCoordinator]
            .into_iter()
            .find(|denial| denial.code() == code)
            .expect("a known code");
        Recorded { api: ApiKey(api), version, denial, request: bytes(word()), answer: bytes(word()) }
    };
    lines.map(parse).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn every_version_of_every_row_was_recorded() {
    let recorded: BTreeSet<_> = recorded().iter().map(|line| (line.api, line.version, line.denial)).collect();
    let rows: BTreeSet<_> = TABLE.iter().flat_map(|row| (row.first..=row.last).map(|version| (row.api, version, row.denial))).collect();
    assert_eq!(recorded, rows);
}

#[test]
fn answers_are_kafkas_own() {
    for line in recorded() {
        let Recorded { api, version, denial, .. } = line;
        let what = format!("{} v{version} {denial:?}", api.name());
        let answer = answer_to(&request(api, version, &line.request), denial).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(body(api, version, &answer)[..], line.answer[..], "{what}");
    }
}
