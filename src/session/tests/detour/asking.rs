//! Whom a session asks, for what, and how often.

use std::time::Duration;

use super::bench::{MS, Stage};
use super::frames::{Produce, plain};
use crate::cluster::{NodeId, Want, WantedTopic};

#[test]
fn the_first_refresh_goes_at_once_and_for_the_affected_partitions_only() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1), plain(1, 2), plain(2, 3)]));
    stage.says(client, 1, |_, partition| if partition == 1 { (6, -1) } else { (0, 7) });
    let topic = WantedTopic::Name("t".into());
    let want = Want::Partition { topic, partition: 1, leader: Some(NodeId(1)), epoch: 5 };
    assert_eq!(stage.asked(client), [want]);
}

#[test]
fn a_partition_that_has_not_moved_is_tried_again_later_each_time() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    let mut waits = Vec::new();
    for _ in 0..6 {
        stage.refuses(client, 1, 6);
        assert!(stage.at(client, 1).is_empty(), "not before the cluster was asked");
        stage.fresh(client);
        let mut wait = 0;
        while stage.at(client, 1).is_empty() {
            stage.pass(MS);
            wait += 1;
            assert!(wait <= 501, "a back-off has an end");
        }
        waits.push(wait);
    }
    assert!(waits[0] <= 21, "short first: {waits:?}");
    assert!(waits[..4].windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
    assert!(waits[4..].iter().all(|wait| *wait >= 250), "{waits:?}");
    assert!(stage.errors(client).is_empty());
    stage.acks(client, 1);
    assert_eq!(stage.errors(client), [0]);
}

#[test]
fn a_leader_that_the_cluster_has_named_twice_is_tried_again_without_asking() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    for _ in 0..2 {
        stage.refuses(client, 1, 6);
        stage.fresh(client);
        stage.until_at(client, 1);
    }
    // No answer comes to what it asks from here on.
    let mut waits = Vec::new();
    for _ in 0..3 {
        stage.refuses(client, 1, 6);
        assert!(stage.at(client, 1).is_empty(), "not at once");
        assert_eq!(stage.asked_partitions(client).last(), Some(&("t".to_owned(), 0)), "it may have moved by now");
        let begun = stage.now;
        while stage.at(client, 1).is_empty() {
            stage.pass(MS);
        }
        waits.push(stage.now - begun);
    }
    assert!(waits[0] <= 161 * MS && waits[0] < waits[1], "{waits:?}");
    assert!(waits[2] <= 501 * MS, "{waits:?}");
    stage.acks(client, 1);
    assert_eq!(stage.errors(client), [0]);
}

#[test]
fn news_of_the_partition_end_its_back_off_at_once() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.refuses(client, 1, 6);
    stage.fresh(client);
    assert!(stage.at(client, 1).is_empty());
    stage.moves_for_all("t", 0, 2);
    assert_eq!(stage.at(client, 2), [[1]]);
}

#[test]
fn nobody_is_asked_where_the_view_knows_better_already() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1)]));
    stage.moves_for_all("t", 0, 2);
    stage.refuses(client, 1, 6);
    assert!(stage.asked(client).is_empty());
    assert_eq!(stage.at(client, 2), [[1]]);
}

#[test]
fn a_partition_that_nobody_leads_is_asked_for_and_waits() {
    let (mut stage, client) = Stage::with_client();
    stage.sends(client, &Produce::of([plain(0, 1), plain(1, 2)]));
    stage.refuses(client, 1, 6);
    stage.leaders.remove(&("t".into(), 1));
    stage.moves("t", 0, 9);
    stage.brokers.remove(&1);
    stage.tell();
    stage.fresh(client);
    stage.pass(60 * MS);
    assert_eq!(stage.asked_partitions(client), [("t".into(), 0), ("t".into(), 1)], "still wanted: its leader is not listed");
    stage.leaders.insert(("t".into(), 1), (2, 6));
    stage.moves("t", 0, 2);
    stage.tell();
    assert_eq!(stage.at(client, 2), [[1, 2]]);
}

/// Brokers that refuse connections, and a cluster that says nothing new.
#[test]
fn the_rate_of_attempts_does_not_grow() {
    let (mut stage, client) = Stage::with_client();
    stage.refusing.extend([1, 2, 3]);
    stage.sends(client, &Produce::of([plain(0, 1)]));
    let mut attempts = Vec::new();
    for _ in 0..10 {
        let (before, mut asked) = (stage.ends(client, 1).len(), 0);
        for _ in 0..100 {
            asked += stage.asked(client).len();
            stage.fresh(client);
            stage.pass(10 * MS);
        }
        attempts.push((stage.ends(client, 1).len() - before, asked));
    }
    assert!(attempts[0].0 <= 12 && attempts[0].1 <= 40, "{attempts:?}");
    assert!(attempts[2..].iter().all(|(connects, asked)| (1..=5).contains(connects) && *asked <= 16), "{attempts:?}");
    stage.refusing.clear();
    stage.pass(Duration::from_millis(600));
    assert_eq!(stage.at(client, 1), [[1]]);
}

#[test]
fn a_part_for_the_home_broker_that_is_not_listed_is_asked_for_again_and_again() {
    let (mut stage, client) = Stage::with_client();
    let other = stage.client();
    stage.sends(client, &Produce::of([plain(3, 9)]));
    stage.acks(client, 1);
    stage.sends(other, &Produce::of([plain(2, 9)]));
    stage.refuses(other, 1, 6);
    stage.moves("t", 1, 2);
    stage.brokers.remove(&1);
    stage.tell();
    stage.sends(client, &Produce::of([plain(0, 1), plain(1, 2)]));
    assert_eq!(stage.at(client, 2), [[2]]);
    stage.acks(client, 2);
    for _ in 0..3 {
        assert!(stage.asked_partitions(client).contains(&("t".to_owned(), 0)));
        stage.fresh(client);
        stage.pass(200 * MS);
    }
}
