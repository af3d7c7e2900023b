//! Discovery against the simulated cluster, whose answers are those of real brokers of two generations.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::{PATIENCE, Running, all_told, running, settings};
use crate::cluster::{CommonMax, Endpoint, TopicRef};
use crate::sim::broker::MetadataFault;
use crate::sim::cluster::Options;
use crate::sim::profile::Profile;
use crate::sim::tcp::SimCluster;
use crate::wire::ApiKey;

pub(super) async fn simulated(profile: Profile) -> (SimCluster, Running) {
    let sim = SimCluster::start(Options { brokers: 3, first_broker_id: 1, profile, ..Options::default() }).await.unwrap();
    sim.control(|cluster| cluster.create_topic("t", 3));
    let bootstrap: Vec<Endpoint> =
        (1..=3).map(|broker| Endpoint { host: "127.0.0.1".into(), port: sim.address(broker).expect("it listens").port() }).collect();
    let running = running(settings(&bootstrap.iter().collect::<Vec<_>>()));
    running.until("all versions", all_told).await;
    (sim, running)
}

async fn refresh(running: &Running) {
    let topics: Vec<Arc<str>> = vec!["t".into()];
    timeout(PATIENCE, running.views.refresher().refresh(&topics)).await.expect("in time").expect("a broker answers");
}

/// Per partition: leader and epoch.
type Leaders = Vec<Option<(i32, i32)>>;

/// What the view says of each partition, and what is true.
fn leaders(sim: &SimCluster, running: &Running) -> (Leaders, Leaders) {
    let view = running.views.current();
    let seen = (0..3).map(|partition| view.leader(TopicRef::Name("t"), partition).map(|leader| (leader.node.0, leader.epoch)));
    (seen.collect(), (0..3).map(|partition| sim.control(|cluster| cluster.leader("t", partition))).collect())
}

#[tokio::test]
async fn follows_leaders_and_brokers_of_both_generations() {
    for profile in [Profile::V3_6, Profile::V4] {
        let (sim, running) = simulated(profile).await;
        refresh(&running).await;
        let (seen, is) = leaders(&sim, &running);
        assert_eq!(seen, is);
        assert!(!running.views.current().topic(TopicRef::Name("t")).expect("it is known").id.0.iter().all(|byte| *byte == 0));

        sim.control(|cluster| {
            cluster.drain_broker(1);
            cluster.remove_broker(1);
        });
        refresh(&running).await;
        assert_eq!(running.listed(), [2, 3]);
        let (seen, is) = leaders(&sim, &running);
        assert_eq!(seen, is);
        assert!(seen.iter().flatten().count() == 3 && seen.iter().flatten().all(|(leader, _)| *leader != 1));

        sim.control(|cluster| cluster.add_broker(4, None, profile));
        refresh(&running).await;
        running.until("the new broker's versions", all_told).await;
        assert_eq!(running.listed(), [2, 3, 4]);

        let before = running.views.current().brokers[&super::node(2)].endpoint.clone();
        sim.control(|cluster| cluster.readdress_broker(2));
        refresh(&running).await;
        let after = running.views.current().brokers[&super::node(2)].endpoint.clone();
        assert_ne!(before, after);
        assert_eq!(Some(after.port), sim.address(2).map(|address| address.port()));
        running.until("its versions at the new address", all_told).await;
    }
}

#[tokio::test]
async fn while_generations_are_mixed_the_older_one_decides() {
    let (sim, running) = simulated(Profile::V4).await;
    let newer = running.views.current().common_max(ApiKey::PRODUCE);
    sim.control(|cluster| cluster.add_broker(9, None, Profile::V3_6));
    refresh(&running).await;
    running.until("the old broker's versions", all_told).await;
    assert_eq!(newer, CommonMax::UpTo(13));
    assert_eq!(running.views.current().common_max(ApiKey::PRODUCE), CommonMax::UpTo(9));
    sim.control(|cluster| cluster.remove_broker(9));
    refresh(&running).await;
    assert_eq!(running.views.current().common_max(ApiKey::PRODUCE), newer);
}

#[tokio::test]
async fn a_broker_that_lags_takes_no_leader_back() {
    let (sim, running) = simulated(Profile::V4).await;
    let long = Duration::from_secs(600);
    let (leader, _) = sim.control(|cluster| cluster.leader("t", 0)).expect("it has a leader");
    let other = if leader == 1 { 2 } else { 1 };
    sim.control(|cluster| (1..=3).for_each(|broker| cluster.freeze_metadata(broker, long)));
    sim.control(|cluster| cluster.move_leader("t", 0, other));
    refresh(&running).await;
    assert_eq!(leaders(&sim, &running).0[0].map(|(node, _)| node), Some(leader), "all of them lag");
    sim.control(|cluster| (1..=3).for_each(|broker| cluster.heal_metadata(broker)));
    refresh(&running).await;
    let (seen, is) = leaders(&sim, &running);
    assert_eq!(seen, is);
    let older = sim.control(|cluster| cluster.image());
    sim.control(|cluster| {
        let (leader, _) = cluster.leader("t", 1).expect("it has a leader");
        cluster.move_leader("t", 1, if leader == 1 { 2 } else { 1 });
    });
    refresh(&running).await;
    let newest = leaders(&sim, &running).0;
    assert_ne!(newest, seen);
    sim.control(|cluster| {
        for broker in 1..=3 {
            cluster.distort_metadata(broker, MetadataFault::Stale(Box::new(older.clone())), long);
        }
    });
    refresh(&running).await;
    assert_eq!(leaders(&sim, &running).0, newest, "what an earlier moment said does not count any more");
    sim.control(|cluster| {
        (1..=3).for_each(|broker| cluster.heal_metadata(broker));
        let error_code = 5;
        for broker in 1..=3 {
            cluster.distort_metadata(broker, MetadataFault::Leaderless { topic: None, error_code }, long);
        }
    });
    refresh(&running).await;
    let leaderless = running.views.current().leader(TopicRef::Name("t"), 0).expect("the last good one is kept");
    assert_eq!(leaderless.node.0, other);
    assert!(leaderless.leaderless_since.is_some());
}
