use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::cluster::{
    ApiVersionsObservation, Broker, Endpoint, LearnLimits, MetadataObservation, NodeId, Observation, Source, VersionRange, View, learn,
};
use crate::session::{DepartureSign, DetourEnd, DetourStart, Note};
use crate::wire::ApiKey;

const NODE: NodeId = NodeId(2);

/// A record, a view of some brokers, and a clock of its own.
struct Stage {
    registry: Registry,
    view: View,
    start: Instant,
    now: Instant,
}

fn endpoint(id: i32) -> Endpoint {
    Endpoint { host: format!("b{id}.example").into(), port: 9092 }
}

impl Stage {
    fn new() -> Stage {
        let now = Instant::now();
        let mut stage = Stage { registry: Registry::default(), view: View::default(), start: now, now };
        stage.list(&[0, 1, 2]);
        for id in [0, 1, 2] {
            stage.answers(id);
        }
        assert_eq!(stage.look(), []);
        stage
    }

    fn learn(&mut self, observation: &Observation) {
        if let Some(view) = learn(&self.view, self.now, observation, &LearnLimits::default()).view {
            self.view = view;
        }
    }

    fn list(&mut self, ids: &[i32]) {
        let brokers = ids.iter().map(|id| Broker { id: NodeId(*id), endpoint: endpoint(*id), rack: None }).collect();
        let cluster_id: Option<Arc<str>> = Some("c".into());
        let metadata = MetadataObservation { source: Source::Own, version: 12, cluster_id, controller: None, brokers, topics: vec![] };
        self.learn(&Observation::Metadata(metadata));
    }

    fn answers(&mut self, id: i32) {
        let ranges = vec![(ApiKey::PRODUCE, VersionRange { min: 0, max: 13 })];
        self.learn(&Observation::ApiVersions(ApiVersionsObservation { node: NodeId(id), endpoint: endpoint(id), ranges }));
    }

    fn after(&mut self, time: Duration) -> &mut Stage {
        self.now += time;
        self
    }

    fn look(&mut self) -> Vec<Said> {
        self.registry.look(self.now, &self.view)
    }

    fn sign(&mut self, sign: DepartureSign) -> Option<Said> {
        self.registry.on_sign(self.now, NODE, sign)
    }

    fn note(&mut self, note: Note) {
        self.registry.on_note(self.now, &note);
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn one_lost_connection_is_no_departure() {
    let mut stage = Stage::new();
    assert_eq!(stage.sign(DepartureSign::Closed), None);
    assert_eq!(stage.registry.records()[0].state, State::Suspected);
    assert_eq!(stage.after(secs(9)).look(), []);
    assert!(matches!(stage.after(secs(1)).look().as_slice(), [Said::Dropped(record)] if record.node == NODE));
    assert_eq!(stage.registry.records(), []);
}

#[test]
fn a_broker_that_leaves_and_returns_is_said_once_each_with_its_timeline() {
    let mut stage = Stage::new();
    assert_eq!(stage.sign(DepartureSign::Closed), None);
    stage.after(Duration::from_millis(20));
    let Some(Said::Departed(record)) = stage.sign(DepartureSign::Refused) else { panic!("a refusal is certain") };
    assert_eq!((record.reason, record.began), (DepartureSign::Closed, stage.start));
    assert_eq!(stage.sign(DepartureSign::Refused), None, "said once");
    stage.after(secs(1)).list(&[0, 1]);
    assert_eq!(stage.look(), []);
    stage.after(secs(30)).list(&[0, 1, 2]);
    assert_eq!(stage.look(), [], "listed, and nobody has heard from it");
    stage.after(secs(1)).answers(2);
    let said = stage.look();
    let [Said::Ended(record)] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!(record.ended(), Some((End::Returned, Duration::from_millis(32_020))));
    let events: Vec<&str> = record.timeline.iter().map(|(_, event)| event.as_str()).collect();
    assert_eq!(events, ["closed", "refused", "not_listed", "listed_again", "returned"]);
    assert!(record.timeline.is_sorted_by_key(|(at, _)| *at));
    assert_eq!(stage.after(secs(100)).look(), []);
    assert_eq!(stage.registry.records().len(), 1);
}

#[test]
fn a_broker_that_the_cluster_drops_has_departed_and_one_that_is_forgotten_is_retired() {
    let mut stage = Stage::new();
    stage.list(&[0, 1]);
    assert!(matches!(stage.look().as_slice(), [Said::Departed(record)] if record.reason == DepartureSign::NotListed));
    assert_eq!(stage.registry.departed().collect::<Vec<_>>(), [NODE]);
    stage.after(secs(60)).learn(&Observation::Retire(NODE));
    assert!(matches!(stage.look().as_slice(), [Said::Ended(record)] if record.ended() == Some((End::Retired, secs(60)))));
}

#[test]
fn silence_is_a_departure_once_it_lasts() {
    let mut stage = Stage::new();
    for _ in 0..3 {
        assert_eq!(stage.sign(DepartureSign::Silent), None);
        stage.after(secs(1));
    }
    assert!(matches!(stage.sign(DepartureSign::Silent), Some(Said::Departed(_))));
    assert!(matches!(stage.after(secs(10)).look().as_slice(), [Said::Ended(record)] if record.ended() == Some((End::Returned, secs(3)))));
}

#[test]
fn one_that_refused_and_was_never_unlisted_is_back_when_it_was_reached() {
    let mut stage = Stage::new();
    stage.sign(DepartureSign::Refused);
    assert_eq!(stage.after(secs(20)).look(), [], "nobody has knocked since");
    let now = stage.now;
    stage.registry.on_reached(now, NODE);
    let said = stage.look();
    assert!(matches!(said.as_slice(), [Said::Ended(record)] if record.ended() == Some((End::Returned, secs(20)))), "{said:?}");
    stage.sign(DepartureSign::Refused);
    assert_eq!(stage.after(secs(59)).look(), []);
    assert!(matches!(stage.after(secs(1)).look().as_slice(), [Said::Ended(_)]), "listed for long, and nothing to say against it");
}

#[test]
fn what_is_masked_belongs_to_the_departure_and_so_does_what_came_shortly_before() {
    let mut stage = Stage::new();
    stage.note(Note::DetourStarted(DetourStart::Moved));
    stage.after(secs(6)).note(Note::DetourStarted(DetourStart::Moved));
    stage.note(Note::MaskedError(6));
    stage.note(Note::DetourEnded { end: DetourEnd::Acknowledged, held: Duration::from_millis(40) });
    stage.after(secs(1)).sign(DepartureSign::Refused);
    for ms in 1..100 {
        stage.note(Note::DetourStarted(DetourStart::HomeLost));
        stage.note(Note::DetourEnded { end: DetourEnd::Acknowledged, held: Duration::from_millis(ms) });
    }
    stage.note(Note::DetourStarted(DetourStart::HomeLost));
    stage.note(Note::DeadlineMissed);
    stage.note(Note::DetourEnded { end: DetourEnd::Deadline, held: secs(10) });
    stage.note(Note::AmbiguousResend { idempotent: false });
    let toll = &stage.registry.records()[0].toll;
    assert_eq!((toll.detours, toll.acknowledged, toll.deadline_misses, toll.resent_plain), (101, 100, 1, 1));
    assert_eq!(toll.masked_errors, [(6, 1)]);
    assert_eq!(toll.held_max, secs(10));
    assert!((Duration::from_millis(97)..Duration::from_millis(110)).contains(&toll.held_p99), "{:?}", toll.held_p99);
    assert!(toll.was_felt() && toll.to_string().contains("1 missed deadline"), "{toll}");
}

#[test]
fn error_codes_do_not_grow_without_bound() {
    let mut stage = Stage::new();
    stage.sign(DepartureSign::Refused);
    for code in 0..1000 {
        stage.note(Note::MaskedError(code));
    }
    let toll = &stage.registry.records()[0].toll;
    assert!(toll.masked_errors.len() <= 16, "{:?}", toll.masked_errors);
    assert_eq!(toll.masked_errors.iter().map(|(_, count)| count).sum::<u64>(), 1000);
    assert!(toll.masked_errors.is_sorted());
}

#[test]
fn the_last_fifty_are_kept() {
    let mut stage = Stage::new();
    for _ in 0..60 {
        stage.after(secs(1)).list(&[0, 1]);
        stage.look();
        stage.after(secs(1)).list(&[0, 1, 2]);
        stage.answers(2);
        assert_eq!(stage.look().len(), 1);
    }
    let records = stage.registry.records();
    assert_eq!(records.len(), 50);
    assert!(records.is_sorted_by_key(|record| std::cmp::Reverse(record.began)), "the newest first");
}

#[test]
fn a_broker_is_unused_only_when_no_client_used_it_since() {
    let mut stage = Stage::new();
    stage.list(&[0, 1]);
    stage.look();
    let patience = secs(900);
    stage.after(secs(600));
    let now = stage.now;
    stage.registry.on_used(now, NODE);
    stage.after(secs(899));
    assert_eq!(stage.registry.unused_for(stage.now, patience, &stage.view), []);
    stage.after(secs(1));
    assert_eq!(stage.registry.unused_for(stage.now, patience, &stage.view), [NODE]);
}

#[test]
fn a_rehearsal_is_its_own_and_leaves_no_echo() {
    let mut stage = Stage::new();
    assert!(matches!(stage.registry.on_rehearsal(stage.now, NODE), Some(Said::Departed(record)) if record.is_rehearsal));
    assert_eq!(stage.registry.departed().count(), 0, "not in earnest");
    assert_eq!(stage.sign(DepartureSign::Refused), None);
    assert_eq!(stage.after(secs(100)).look(), [], "it ends when it is over, and not before");
    assert!(
        matches!(stage.registry.on_rehearsal_over(stage.now, NODE), Some(Said::Ended(record)) if record.ended() == Some((End::Rehearsed, secs(100))))
    );
    assert_eq!(stage.after(secs(1)).sign(DepartureSign::Refused), None);
    assert_eq!(stage.look(), []);
    assert!(stage.after(secs(2)).sign(DepartureSign::Refused).is_some());
}

#[test]
fn a_departure_in_earnest_outlives_its_rehearsal() {
    let mut stage = Stage::new();
    stage.registry.on_rehearsal(stage.now, NODE);
    stage.after(secs(1)).list(&[0, 1]);
    assert!(matches!(stage.look().as_slice(), [Said::Departed(record)] if !record.is_rehearsal));
    assert_eq!(stage.registry.departed().collect::<Vec<_>>(), [NODE]);
    assert_eq!(stage.registry.on_rehearsal_over(stage.now, NODE), None);
    assert_eq!(stage.registry.records()[0].state, State::Departed);
}
