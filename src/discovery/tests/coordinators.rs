//! Coordinators that sessions want: what they cost a cluster, and how soon they are known. Times are real: bounds are wide, counts are not.

use super::simulated::simulated;
use super::wanted::{all_are_asked_in_turn, insisting, metadata_requests, patient};
use super::*;
use crate::cluster::{CoordinatorKind, NodeId, Want};
use crate::sim::departure::{Leaving, Windows};
use crate::sim::profile::Profile;
use crate::sim::tcp::SimCluster;

fn not(kind: CoordinatorKind, key: &str, node: i32) -> Want {
    Want::Coordinator { kind, key: key.into(), but_not: NodeId(node) }
}

fn lookups(sim: &SimCluster) -> u64 {
    sim.control(|cluster| (1..=9).map(|broker| cluster.requests_of(broker, ApiKey::FIND_COORDINATOR.0)).sum())
}

fn known(running: &Running, kind: CoordinatorKind, key: &str) -> Option<i32> {
    running.views.current().coordinator(kind, key).map(|known| known.node.0)
}

#[tokio::test]
async fn coordinators_that_moved_are_known_after_one_request_of_each_kind() {
    for profile in [Profile::V3_6, Profile::V4] {
        let (sim, running) = simulated(profile).await;
        let groups = ["g", "h", "i"];
        sim.control(|cluster| {
            groups.iter().for_each(|group| cluster.move_coordinator(0, group, 2));
            cluster.move_coordinator(1, "t", 3);
        });
        let before = (lookups(&sim), metadata_requests(&sim));
        let mut wants: Vec<Want> = groups.iter().map(|group| not(CoordinatorKind::Group, group, 1)).collect();
        wants.push(not(CoordinatorKind::Transaction, "t", 1));
        let answers: Vec<_> = (0..200).map(|_| tokio::spawn(running.views.refresh(wants.clone()))).collect();
        for answer in answers {
            assert!(timeout(PATIENCE, answer).await.unwrap().unwrap());
        }
        assert!(wants.iter().all(|want| want.is_met(&running.views.current())));
        assert_eq!((known(&running, CoordinatorKind::Group, "h"), known(&running, CoordinatorKind::Transaction, "t")), (Some(2), Some(3)));
        tokio::time::sleep(300 * MS).await;
        assert_eq!((lookups(&sim) - before.0, metadata_requests(&sim) - before.1), (2, 1), "groups together, behind one list");
    }
}

#[tokio::test]
async fn a_crashed_coordinator_that_a_thousand_sessions_miss_costs_two_requests_at_first_and_one_per_second() {
    let (sim, running) = simulated(Profile::V4).await;
    sim.control(|cluster| cluster.move_coordinator(0, "g", 3));
    let endpoint = running.views.current().brokers[&NodeId(3)].endpoint.clone();
    sim.control(|cluster| cluster.crash_broker(3));
    let wants = vec![not(CoordinatorKind::Group, "g", 3), Want::Broker { node: NodeId(3), endpoint }];
    let before = (lookups(&sim), metadata_requests(&sim));
    let begun = Instant::now();
    let sessions: Vec<_> = (0..1_000)
        .map(|session| {
            let (views, wants) = (running.views.clone(), wants.clone());
            tokio::spawn(async move {
                tokio::time::sleep(session * MS).await;
                insisting(views, wants).await;
            })
        })
        .collect();
    tokio::time::sleep(3_000 * MS).await;
    let asked = (lookups(&sim) - before.0, metadata_requests(&sim) - before.1);
    let seconds = (begun.elapsed().as_millis() as u64).div_ceil(1_000);
    println!("{asked:?} requests in {:?}", begun.elapsed());
    assert!(asked.0 >= 3 && asked.0 <= 2 + seconds, "{asked:?}");
    assert!(asked.1 <= 2 + 2 * seconds, "{asked:?}");
    sim.control(|cluster| {
        cluster.fence_broker(3);
        cluster.move_coordinator(0, "g", 1);
    });
    let fenced = Instant::now();
    for session in sessions {
        timeout(PATIENCE, session).await.expect("in time").unwrap();
    }
    println!("noticed after {:?}, {} more", fenced.elapsed(), lookups(&sim) - before.0 - asked.0);
    assert!(lookups(&sim) - before.0 - asked.0 <= 3 + fenced.elapsed().as_secs());
    assert_eq!(known(&running, CoordinatorKind::Group, "g"), Some(1));
}

/// While nobody coordinates, brokers answer 15; while they lag, they name the one that has left.
#[tokio::test]
async fn a_broker_that_drains_within_windows_is_asked_about_at_the_pace_of_wants() {
    let handover = Windows { handover: 300 * MS, ..Windows::default() };
    let old_news = Windows { old_news: 300 * MS, ..Windows::default() };
    for windows in [handover, old_news] {
        let (sim, running) = simulated(Profile::V4).await;
        let keys: Vec<String> = (0..50).map(|index| format!("g{index}")).collect();
        sim.control(|cluster| {
            keys.iter().for_each(|key| cluster.move_coordinator(0, key, 2));
            cluster.set_windows(windows);
            cluster.depart(2, Leaving::Drain);
        });
        let before = lookups(&sim);
        let begun = Instant::now();
        let sessions: Vec<_> = (0..200)
            .map(|session| {
                let (views, key) = (running.views.clone(), keys[session % keys.len()].clone());
                tokio::spawn(async move { insisting(views, vec![not(CoordinatorKind::Group, &key, 2)]).await })
            })
            .collect();
        for session in sessions {
            timeout(PATIENCE, session).await.expect("in time").unwrap();
        }
        let asked = lookups(&sim) - before;
        println!("{windows:?}: noticed after {:?}, {asked} requests", begun.elapsed());
        assert!(begun.elapsed() >= 290 * MS, "{:?}", begun.elapsed());
        assert!(asked >= 3 && asked <= 3 + begun.elapsed().as_secs(), "{asked}");
    }
}

/// Up to version 3 a request has one key; version 0 knows groups alone.
#[tokio::test]
async fn old_brokers_are_asked_for_each_key_by_itself() {
    for max in [0, 3] {
        let fake = Fake::new();
        let one = fake.start(1).await;
        let _two = fake.start(2).await;
        fake.script().find_coordinator_max = Some(max);
        fake.script().coordinators.extend([("g", 2), ("h", 2), ("t", 2)]);
        let running = running(patient(&[&one.endpoint]));
        running.until("all versions", all_told).await;
        let wants = vec![
            not(CoordinatorKind::Group, "g", 1),
            not(CoordinatorKind::Group, "h", 1),
            not(CoordinatorKind::Transaction, "t", 1),
            not(CoordinatorKind::Share, "s", 1),
        ];
        assert!(timeout(PATIENCE, running.views.refresh(wants)).await.unwrap(), "also about what cannot be asked");
        let asked: Vec<_> =
            fake.script().coordinator_requests.iter().map(|(_, version, kind, keys)| (*version, *kind, keys.concat())).collect();
        let mut expected = vec![(max, 0, "g".to_owned()), (max, 0, "h".to_owned())];
        expected.extend((max >= 1).then(|| (max, 1, "t".to_owned())));
        assert_eq!(asked, expected);
        let view = running.views.current();
        let of = |kind, key| view.coordinator(kind, key).map(|known| known.node.0);
        assert_eq!((of(CoordinatorKind::Group, "g"), of(CoordinatorKind::Group, "h")), (Some(2), Some(2)));
        assert_eq!(of(CoordinatorKind::Transaction, "t"), (max >= 1).then_some(2));
    }
}

#[tokio::test]
async fn without_a_coordinator_another_broker_is_asked_each_time() {
    let fake = Fake::new();
    let (one, _two, _three) = (fake.start(1).await, fake.start(2).await, fake.start(3).await);
    fake.script().find_coordinator_max = Some(6);
    let running = running(patient(&[&one.endpoint]));
    running.until("all versions", all_told).await;
    let session = tokio::spawn(insisting(running.views.clone(), vec![not(CoordinatorKind::Share, "g:id:0", 1)]));
    all_are_asked_in_turn(|| fake.script().coordinator_requests.iter().map(|(node, ..)| *node).collect()).await;
    assert!(fake.script().coordinator_requests.iter().all(|(_, version, kind, _)| (*version, *kind) == (6, 2)));
    fake.script().coordinators.insert("g:id:0", 2);
    timeout(PATIENCE, session).await.expect("noticed").unwrap();
}

#[tokio::test]
async fn a_broker_that_does_not_say_who_coordinates_gives_way_to_another_and_its_list_counts() {
    let fake = Fake::new();
    let (one, _two) = (fake.start(1).await, fake.start(2).await);
    fake.script().find_coordinator_max = Some(4);
    fake.script().topics.insert("t", (1, 5));
    fake.script().coordinators.insert("g", 2);
    fake.script().silent_about_coordinators.insert(1);
    let running = running(settings(&[&one.endpoint]));
    running.until("all versions", all_told).await;
    for round in 1..=3 {
        let wants = vec![not(CoordinatorKind::Group, "g", if round % 2 == 1 { 1 } else { 2 })];
        fake.script().coordinators.insert("g", if round % 2 == 1 { 2 } else { 1 });
        assert!(timeout(PATIENCE, running.views.refresh(wants.clone())).await.unwrap());
        assert!(wants[0].is_met(&running.views.current()), "round {round}");
    }
    assert!(running.views.last_failure().is_none());
}
