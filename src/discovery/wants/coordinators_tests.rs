//! What wants of coordinators cost, in virtual time.

use super::tests::{MS, Model, broker, holds_the_bound, on, seed};
use super::*;
use crate::cluster::Source;

fn not(key: &str, node: i32) -> Want {
    Want::Coordinator { kind: CoordinatorKind::Group, key: key.into(), but_not: NodeId(node) }
}

/// A model whose view has heard that broker 1 coordinates these groups.
fn coordinated(seed: u64, groups: &[&'static str]) -> Model {
    let mut model = Model::new(seed, &[("t", 2)]);
    model.coordinated = groups.iter().map(|group| (*group, 1)).collect();
    let keys = groups.iter().map(|group| (CoordinatorKind::Group, Arc::from(*group))).collect();
    model.look_up(Source::Passing, &keys);
    model
}

#[test]
fn a_coordinator_that_moved_is_noticed_with_one_request() {
    let mut model = coordinated(seed(), &["g"]);
    model.coordinated.insert("g", 2);
    let mut waiting: Vec<_> = (0..1_000).map(|_| model.want(&[not("g", 1)])).collect();
    model.run(10 * MS);
    assert!(waiting.iter_mut().all(|waiting| waiting.try_recv() == Ok(true)));
    assert_eq!(model.looked_up, [(Duration::ZERO, vec!["g".to_owned()])]);
    assert_eq!(model.want(&[not("g", 1)]).try_recv(), Ok(true), "the view knows it");
    model.run(20_000 * MS);
    assert_eq!((model.written.len(), model.wants.is_unsettled()), (1, false), "nothing is left of it");
    assert_eq!((model.wants.evidence_count, model.wants.links_count, model.wants.waiters.len()), (0, 0, 0));
}

#[test]
fn a_passing_answer_meets_it_as_well() {
    let mut model = coordinated(seed(), &["g"]);
    let mut waiting = model.want(&[not("g", 1)]);
    model.coordinated.insert("g", 3);
    model.look_up(Source::Passing, &vec![(CoordinatorKind::Group, "g".into())]);
    assert_eq!(waiting.try_recv(), Ok(true));
    model.run(10_000 * MS);
    assert!(model.written.is_empty());
}

#[test]
fn an_error_leaves_it_unmet_and_a_thousand_sessions_ask_at_once_then_once_more_then_once_a_second() {
    let seed = seed();
    for seed in seed..seed + 20 {
        let mut model = coordinated(seed, &["g"]);
        model.coordinated.clear();
        let sessions: Vec<Vec<Want>> = (0..1_000).map(|_| vec![not("g", 1)]).collect();
        model.insist(6_000 * MS, &sessions);
        let asked = model.looked_up("g");
        assert_eq!(asked[0], Duration::ZERO);
        assert!(asked[1] >= 50 * MS && asked[1] <= 100 * MS, "{asked:?}");
        holds_the_bound(&asked, Duration::ZERO);
        assert!((6..=8).contains(&asked.len()), "{asked:?}");
        assert_eq!(model.written.len(), asked.len(), "the list goes with it");
        model.coordinated.insert("g", 2);
        model.insist(7_300 * MS, &sessions);
        assert!(model.wants.is_empty());
    }
}

/// It answers 16, and others name it all the same: each answer is worth another try, and the pace is what it would be without.
#[test]
fn one_that_is_named_again_and_again_is_asked_for_at_the_pace_of_one_that_is_not_there() {
    let seed = seed();
    for seed in seed..seed + 20 {
        let mut model = coordinated(seed, &["g"]);
        let sessions: Vec<Vec<Want>> = (0..10).map(|_| vec![not("g", 1)]).collect();
        let mut answer = model.want(&sessions[0]);
        model.run(10 * MS);
        assert_eq!(answer.try_recv(), Ok(true));
        assert!(model.wants.is_empty() && model.wants.is_unsettled(), "it may have been named by a broker that lags");
        model.insist(6_000 * MS, &sessions);
        let asked = model.looked_up("g");
        holds_the_bound(&asked, Duration::ZERO);
        assert!((6..=8).contains(&asked.len()), "{asked:?}");
        // Two that each name the other cost one more series.
        let begun = model.now - model.start;
        for step in 0..400 {
            model.coordinated.insert("g", 1 + step % 2);
            let _here = model.want(&[not("g", 1)]);
            let _there = model.want(&[not("g", 2)]);
            model.run(begun + step as u32 * 10 * MS);
        }
        let more = model.looked_up("g").len() - asked.len();
        assert!(more <= 2 * 7, "{:?}", model.looked_up("g"));
    }
}

#[test]
fn one_that_is_said_to_be_down_does_not_count_when_it_is_named_again() {
    let mut model = coordinated(seed(), &["g"]);
    let down = [not("g", 1), broker(1)];
    let mut answer = model.want(&down);
    model.run(30 * MS);
    assert_eq!((answer.try_recv(), model.looked_up("g").len()), (Ok(true), 1));
    assert_eq!(model.wants.evidence_count, 2, "it was named, and is down all the same");
    model.insist(3_000 * MS, &[down.to_vec()]);
    let mut waiting = model.want(&down);
    // The cluster fences it, and then moves the group.
    model.listed.retain(|node| *node != 1);
    model.coordinated.remove("g");
    model.insist(3_700 * MS, &[down.to_vec()]);
    assert_eq!(waiting.try_recv(), Ok(true), "requests have been answered");
    let fenced = model.looked_up("g").len();
    model.coordinated.insert("g", 3);
    model.insist(5_000 * MS, &[down.to_vec()]);
    assert!(model.wants.is_empty());
    assert!(model.looked_up("g").len() <= fenced + 2, "{:?}", model.looked_up("g"));

    // Another that is back at the same address: nobody says any more that it is down.
    let mut model = coordinated(seed(), &["g"]);
    model.insist(2_000 * MS, &[down.to_vec()]);
    model.insist(2_000 * MS + LINGERS + 1_500 * MS, &[vec![not("g", 1)]]);
    assert_eq!(model.view.coordinator(CoordinatorKind::Group, "g").map(|known| known.node), Some(NodeId(1)));
    let mut answer = model.want(&[not("g", 1)]);
    model.run(model.now - model.start + 1_200 * MS);
    assert_eq!(answer.try_recv(), Ok(true));
    assert!(model.wants.is_empty());
}

#[test]
fn the_keys_of_a_departed_broker_are_looked_up_at_once_when_the_list_lacks_it() {
    let seed = seed();
    for seed in seed..seed + 20 {
        let mut model = coordinated(seed, &["g", "h"]);
        let sessions = [vec![not("g", 1), not("h", 1), broker(1), on("t", 0, 1, 5)]];
        model.insist(4_000 * MS, &sessions);
        let before = model.looked_up.len();
        while model.looked_up.len() == before {
            model.insist(model.now - model.start + 10 * MS, &sessions);
        }
        // Until it is answered.
        model.insist(model.now - model.start + 20 * MS, &sessions);
        model.listed.retain(|node| *node != 1);
        model.led.insert("t", vec![(2, 6); 2]);
        model.coordinated = [("g", 2), ("h", 3)].into();
        let fenced = model.now - model.start;
        model.insist(fenced + 800 * MS, &sessions);
        let later: Vec<_> = model.looked_up.iter().filter(|(at, _)| *at > fenced).collect();
        assert!(later.len() == 1 && later[0].1.len() == 2, "{later:?}");
        assert!(model.wants.is_empty());
    }
}

#[test]
fn keys_go_together_as_far_as_the_broker_takes_them() {
    let seed = seed();
    let all: Vec<Want> = (0..2_500).map(|index| not(&format!("g{index}"), 1)).collect();
    for (version, at_once, requests) in [(Some(6), 1_000, 3), (Some(3), 50, 50), (None, 0, 1)] {
        let mut model = Model::new(seed, &[]);
        model.takes.coordinators = version;
        let mut waiting = model.want(&all);
        let mut other = model.want(&[Want::Coordinator { kind: CoordinatorKind::Share, key: "s".into(), but_not: NodeId(1) }]);
        model.run(requests * 50 * MS - 10 * MS);
        assert_eq!(waiting.try_recv(), Ok(true), "{version:?}");
        let sizes: Vec<usize> = model.looked_up.iter().map(|(_, keys)| keys.len()).collect();
        assert!(sizes.iter().all(|keys| *keys <= at_once), "{version:?}: {sizes:?}");
        assert_eq!(other.try_recv(), Ok(true));
        assert_eq!(model.looked_up("s").is_empty(), version != Some(6), "{version:?}");
    }
    let mut model = Model::new(seed, &[]);
    let mut long = model.want(&[not(&"x".repeat(COORDINATOR_KEY_BYTES_MAX + 1), 1)]);
    model.run(10 * MS);
    assert_eq!(long.try_recv(), Ok(true), "the list of brokers answers");
    assert!(model.looked_up.is_empty());
}
