//! What the judge of consumers makes of what it is given.
//!
//! Invariant: no cluster, no clock.
//! Not here: the programs' lines, which only a program has.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::departures::acks::{Ack, Span};
use crate::departures::consumers::commits::Steps;
use crate::departures::consumers::judge::{Assignment, Delivery, GroupIntegrity, GroupVerdict, Member, Seen, integrity, judge};
use crate::departures::consumers::report::{misses, table};
use crate::departures::events::Event;
use crate::departures::probe::{Probed, Read};
use crate::departures::tried::{Outcome, Role, Tried};

const EVENT: Span = Span { from_ms: 20_000.0, to_ms: 30_000.0 };

/// The record at this offset of partition 0 bears its number, and is acknowledged at that second.
fn ack(offset: i64, at_s: f64) -> Ack {
    Ack { number: offset as u64, partition: 0, offset: Some(offset), latency_ms: 1.0, at_ms: at_s * 1e3 }
}

fn delivery(offset: i64, at_s: f64) -> Delivery {
    Delivery { number: offset as u64, partition: 0, offset, at_ms: at_s * 1e3 }
}

fn read(offset: i64, at_s: f64) -> Read {
    Read { partition: 0, offset, at_ms: at_s * 1e3 }
}

fn member(deliveries: &[Delivery]) -> Member {
    Member { deliveries: deliveries.to_vec(), closed: true, ..Member::default() }
}

fn assignment(at_s: f64, member_id: &str) -> Assignment {
    Assignment { partitions: vec![0], at_ms: at_s * 1e3, member_id: Some(member_id.to_owned()) }
}

fn judged(probed: &Probed, members: &[Member], committed: i64) -> GroupIntegrity {
    let committed = BTreeMap::from([(0, committed)]);
    integrity(&Seen { event: EVENT, broker: 1, probed, members, committed: &committed, commits_back: 0 })
}

fn written(acks: &[Ack]) -> Probed {
    Probed { acks: acks.to_vec(), reads: Vec::new() }
}

#[test]
fn a_delay_is_from_acknowledgement_to_the_first_delivery_around_the_event() -> Result<()> {
    let acks = [ack(0, 5.0), ack(1, 18.0), ack(2, 25.0), ack(3, 39.0), ack(4, 41.0)];
    // The first is slow and over before the window, the last begins after it, and the second is stuck from before it.
    let a = member(&[delivery(0, 15.0), delivery(1, 22.0), delivery(3, 39.5), delivery(4, 49.0)]);
    let b = member(&[delivery(2, 25.1), delivery(1, 21.0)]);
    let probed = Probed { acks: acks.to_vec(), reads: vec![read(1, 18.0), read(2, 24.9), read(3, 39.25), read(3, 45.0)] };
    let committed = BTreeMap::new();
    let seen = Seen { event: EVENT, broker: 1, probed: &probed, members: &[a, b], committed: &committed, commits_back: 0 };
    let verdict = judge(&seen).context("not judged")?;
    assert_eq!(verdict.group.records, 3);
    assert_eq!((verdict.group.max_ms, verdict.limit.max_ms, verdict.excess_ms), (3_000.0, 250.0, 2_750.0));
    assert_eq!(verdict.slowest, (0, 1_000.0));
    let silent = Probed { acks: acks.to_vec(), reads: Vec::new() };
    assert!(judge(&Seen { probed: &silent, ..seen }).is_none(), "a silent reader is no limit");
    Ok(())
}

#[test]
fn skipped_redelivered_and_reordered_records_are_counted() {
    let probed = written(&[ack(0, 19.0), ack(1, 21.0), ack(2, 22.0)]);
    let of = |members: &[Member]| {
        let GroupIntegrity { skipped, undelivered, redelivered, reordered, .. } = judged(&probed, members, 0);
        (skipped, undelivered, redelivered, reordered)
    };
    let all = [delivery(0, 19.1), delivery(1, 21.1), delivery(2, 22.1)];
    assert_eq!(of(&[member(&all)]), (0, 0, 0, 0));
    assert_eq!(of(&[member(&all[..2]), member(&all[2..])]), (0, 0, 0, 0), "one goes on where the other ended");
    assert_eq!(of(&[member(&all[..1])]), (0, 2, 0, 0), "still behind at the end");
    assert_eq!(of(&[member(&[all[0], all[2]])]), (1, 0, 0, 0));
    assert_eq!(of(&[member(&all), member(&[delivery(1, 23.0), delivery(2, 23.0)])]), (0, 0, 2, 0));
    assert_eq!(of(&[member(&all), member(&[delivery(0, 19.5)])]), (0, 0, 0, 0), "the group was still coming together");
    assert_eq!(of(&[member(&[all[0], delivery(2, 22.1), delivery(1, 22.2)])]), (0, 0, 0, 1));
    assert_eq!(of(&[member(&[all[0], all[1], Delivery { number: 7, ..all[2] }])]), (1, 0, 0, 0), "another record in its place");
    assert_eq!(of(&[member(&[all[0], all[1], all[2], delivery(3, 23.0)])]), (0, 0, 0, 0), "without an acknowledgement");
}

#[test]
fn rebalances_and_lost_members_are_those_since_the_event() {
    let with = |assignments: &[Assignment], lost_at_ms: &[f64], ended: bool| {
        let all = assignments.to_vec();
        let one = Member { assignments: all, lost_at_ms: lost_at_ms.to_vec(), ended, closed: !ended, ..Member::default() };
        let integrity = judged(&Probed::default(), &[Member { closed: true, ..Member::default() }, one], 0);
        (integrity.rebalances, integrity.members_lost, integrity.unclosed)
    };
    let before = assignment(10.0, "a");
    assert_eq!(with(&[assignment(8.0, "z"), before.clone()], &[9_000.0], false), (0, 0, 0));
    assert_eq!(with(&[before.clone(), assignment(25.0, "a")], &[], false), (1, 0, 0));
    assert_eq!(with(&[before.clone(), assignment(25.0, "b"), assignment(26.0, "b")], &[], false), (2, 1, 0));
    assert_eq!(with(&[before.clone(), assignment(25.0, "b")], &[24_000.0], false), (1, 1, 0), "told, and seen: once");
    assert_eq!(with(std::slice::from_ref(&before), &[24_000.0], false), (0, 1, 0), "it never came back");
    assert_eq!(with(&[before.clone(), assignment(27.0, "a")], &[24_000.0, 25_000.0], false), (1, 1, 0), "out once");
    assert_eq!(with(&[before.clone(), assignment(27.0, "a")], &[24_000.0, 28_000.0], false), (1, 2, 0), "out twice");
    assert_eq!(with(&[before], &[], true), (0, 1, 1));
}

#[test]
fn errors_are_those_since_the_event_and_those_that_were_not_listed() {
    let errors = [(10_000.0, "before".to_owned()), (25_000.0, "after".to_owned())].to_vec();
    let one = Member { errors, errors_told: 5, closed: true, ..Member::default() };
    assert_eq!(judged(&Probed::default(), &[one], 0).errors, 4);
}

#[test]
fn what_is_committed_is_held_against_what_was_delivered() {
    let probed = written(&[ack(0, 21.0), ack(1, 22.0), ack(2, 23.0)]);
    let of = |deliveries: &[Delivery], committed: i64| {
        let integrity = judged(&probed, &[member(deliveries)], committed);
        (integrity.committed_beyond, integrity.uncommitted)
    };
    let all = [delivery(0, 21.1), delivery(1, 22.1), delivery(2, 23.1)];
    assert_eq!(of(&all, 3), (0, 0));
    assert_eq!(of(&all, 1), (0, 2));
    assert_eq!(of(&all[..2], 3), (1, 0), "the last was delivered to nobody");
    assert_eq!(of(&[all[0], all[2]], 3), (1, 0), "one in the middle was delivered to nobody");
    assert_eq!(of(&[], 1), (1, 0));
}

#[test]
fn a_committed_offset_goes_back_if_it_stays_there() {
    let mut steps = Steps::default();
    for (offset, back) in [(5, 0), (9, 0), (7, 0), (9, 0), (12, 0), (11, 0), (11, 1), (12, 1)] {
        steps.take(&BTreeMap::from([(0, offset), (1, 3)]));
        assert_eq!(steps.back, back, "at {offset}");
    }
}

fn tried(way: &str, delay_s: f64, redelivered: u64) -> Result<Tried> {
    let probed = Probed { acks: vec![ack(0, 21.0)], reads: vec![read(0, 21.1)] };
    let again = (0..redelivered).map(|_| delivery(0, 28.0));
    let deliveries: Vec<Delivery> = [delivery(0, 21.0 + delay_s)].into_iter().chain(again).collect();
    let committed = BTreeMap::from([(0, 1)]);
    let members = [member(&deliveries)];
    let seen = Seen { event: EVENT, broker: 1, probed: &probed, members: &members, committed: &committed, commits_back: 0 };
    let verdict: GroupVerdict = judge(&seen).context("not judged")?;
    Ok(Tried {
        role: Role::Consumer,
        kafka: "3.6.2".to_owned(),
        client: "sarama-1.61.1".to_owned(),
        idempotent: false,
        newer_protocol: false,
        event: Event::Drain,
        way: way.to_owned(),
        outcome: Outcome::Consumed(verdict),
    })
}

#[test]
fn the_table_has_every_run_and_what_no_client_can_help_is_held_against_direct_runs() -> Result<()> {
    let good = [tried("Evenkeel", 0.25, 0)?, tried("Evenkeel", 0.15, 0)?];
    assert!(misses(&good, &[]).is_empty());
    let text = table(&good, &[]).to_string();
    assert!(text.contains(" 100 / 150 ") && text.contains(" 200 / 250 "), "{text}");
    let slow = [tried("Evenkeel", 2.0, 3)?];
    let name = "Kafka 3.6.2, sarama-1.61.1, consumers, drain";
    assert_eq!(misses(&slow, &[]), [format!("{name}: worst delay"), format!("{name}: redelivered")]);
    assert_eq!(misses(&slow, &[tried("direct", 5.0, 2)?]), [format!("{name}: worst delay"), format!("{name}: redelivered")]);
    assert_eq!(misses(&slow, &[tried("direct", 5.0, 3)?]), [format!("{name}: worst delay")]);
    assert!(misses(&[tried("direct", 5.0, 3)?], &[]).is_empty(), "nobody is to be blamed for a client left to itself");
    let failed = Tried { outcome: Outcome::Failed("no cluster".to_owned()), ..tried("Evenkeel", 0.1, 0)? };
    assert_eq!(misses(&[tried("Evenkeel", 0.1, 0)?, failed], &[]), [format!("{name}: 1 runs failed")]);
    Ok(())
}

#[test]
fn producers_and_consumers_are_kept_beside_each_other() -> Result<()> {
    let kept = r#"{"kafka":"3.6.2","client":"sarama-1.61.1","idempotent":false,"event":"drain","way":"direct","failed":"no cluster"}"#;
    let before: Tried = serde_json::from_str(kept)?;
    assert_eq!(before.role, Role::Producer, "kept before there were consumers");
    let line = serde_json::to_string(&tried("direct", 5.0, 2)?)?;
    let runs = [before, serde_json::from_str(&line)?];
    let tables = [crate::departures::report::table(&runs), table(&runs, &runs)];
    assert_eq!(tables.map(|table| table.row_count()), [1, 1]);
    Ok(())
}
