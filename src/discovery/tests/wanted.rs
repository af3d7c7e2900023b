//! What sessions' wants cost a cluster, and how soon they are answered. Times are real: bounds are wide, counts are not.

use super::fake::FakeBroker;
use super::simulated::simulated;
use super::*;
use crate::cluster::{NodeId, Want, WantedTopic};
use crate::sim::profile::Profile;
use crate::sim::tcp::SimCluster;

fn on(topic: &str, partition: i32, leader: i32, epoch: i32) -> Want {
    Want::Partition { topic: WantedTopic::Name(topic.into()), partition, leader: Some(NodeId(leader)), epoch }
}

pub(super) fn metadata_requests(sim: &SimCluster) -> u64 {
    sim.control(|cluster| (1..=9).map(|broker| cluster.requests_of(broker, ApiKey::METADATA.0)).sum())
}

/// A session that has trouble until the view meets what it wants, and asks again as soon as it is answered.
pub(super) async fn insisting(views: Views, wants: Vec<Want>) {
    let mut changes = views.changes();
    while !wants.iter().all(|want| want.is_met(&views.current())) {
        tokio::select! {
            _ = views.refresh(wants.clone()) => {}
            _ = changes.changed() => {}
        }
        tokio::time::sleep(MS).await;
    }
}

/// Waits for no broker but the first, and at the intervals of the defaults.
pub(super) fn patient(bootstrap: &[&Endpoint]) -> Settings {
    Settings { head_start: PATIENCE, min_interval: 50 * MS, ..settings(bootstrap) }
}

#[tokio::test]
async fn a_crash_that_a_thousand_sessions_see_costs_two_requests_at_first_and_two_per_second() {
    let (sim, running) = simulated(Profile::V3_6).await;
    running.views.refresher().refresh(&["t".into()]).await.unwrap();
    let view = running.views.current();
    let (leader, _) = sim.control(|cluster| cluster.leader("t", 0)).unwrap();
    let down = Want::Broker { node: NodeId(leader), endpoint: view.brokers[&NodeId(leader)].endpoint.clone() };
    let led: Vec<Want> = (0..3)
        .filter_map(|partition| {
            let known = view.leader(TopicRef::Name("t"), partition)?;
            (known.node.0 == leader).then(|| on("t", partition, leader, known.epoch))
        })
        .collect();
    sim.control(|cluster| cluster.crash_broker(leader));
    let before = metadata_requests(&sim);
    let begun = Instant::now();
    let sessions: Vec<_> = (0..1_000)
        .map(|session| {
            let wants = vec![led[session % led.len()].clone(), down.clone()];
            let views = running.views.clone();
            tokio::spawn(async move {
                tokio::time::sleep(session as u32 * MS).await;
                insisting(views, wants).await;
            })
        })
        .collect();
    tokio::time::sleep(3_000 * MS).await;
    let asked = metadata_requests(&sim) - before;
    println!("{asked} requests in {:?}", begun.elapsed());
    let most = 2 + 2 * (begun.elapsed().as_millis() as u64).div_ceil(1_000);
    assert!(asked >= 4 && asked <= most, "{asked} requests, at most {most}");
    sim.control(|cluster| cluster.fence_broker(leader));
    let fenced = Instant::now();
    for session in sessions {
        timeout(PATIENCE, session).await.expect("in time").unwrap();
    }
    println!("noticed after {:?}, {} more", fenced.elapsed(), metadata_requests(&sim) - before - asked);
    assert!(metadata_requests(&sim) - before - asked <= 4 + 2 * fenced.elapsed().as_secs());
}

#[tokio::test]
async fn a_move_is_noticed_with_one_request() {
    for profile in [Profile::V3_6, Profile::V4] {
        let (sim, running) = simulated(profile).await;
        running.views.refresher().refresh(&["t".into()]).await.unwrap();
        let known = running.views.current().leader(TopicRef::Name("t"), 0).unwrap();
        tokio::time::sleep(50 * MS).await;
        sim.control(|cluster| cluster.move_leader("t", 0, if known.node.0 == 1 { 2 } else { 1 }));
        let before = metadata_requests(&sim);
        let begun = Instant::now();
        let wants = vec![on("t", 0, known.node.0, known.epoch)];
        let answered = (0..200).map(|_| tokio::spawn(running.views.refresh(wants.clone()))).collect::<Vec<_>>();
        for answer in answered {
            assert!(timeout(PATIENCE, answer).await.unwrap().unwrap());
        }
        println!("noticed after {:?}", begun.elapsed());
        assert!(wants[0].is_met(&running.views.current()));
        tokio::time::sleep(300 * MS).await;
        assert_eq!(metadata_requests(&sim) - before, 1);
        assert!(running.metrics.upstream_connects.get() >= 3, "our own connects count");
    }
}

#[tokio::test]
async fn a_topic_that_is_known_by_its_id_alone_is_asked_for_by_id() {
    for profile in [Profile::V3_6, Profile::V4] {
        let (sim, first) = simulated(profile).await;
        first.views.refresher().refresh(&["t".into()]).await.unwrap();
        let id = first.views.current().topic(TopicRef::Name("t")).unwrap().id;
        let bootstrap = Endpoint { host: "127.0.0.1".into(), port: sim.address(1).unwrap().port() };
        let second = running(settings(&[&bootstrap]));
        second.until("all versions", all_told).await;
        let want = Want::Partition { topic: WantedTopic::Id(id), partition: 0, leader: None, epoch: -1 };
        assert!(timeout(PATIENCE, second.views.refresh(vec![want])).await.unwrap());
        assert!(second.views.current().leader(TopicRef::Id(id), 0).is_some());
        assert!(second.views.current().leader(TopicRef::Name("t"), 0).is_some(), "its name is known now");
    }
}

#[tokio::test]
async fn each_topic_set_has_a_pace_of_its_own() {
    let fake = Fake::new();
    let one = fake.start(1).await;
    let _two = fake.start(2).await;
    fake.script().topics.extend([("t", (1, 5)), ("u", (2, 7))]);
    let running = running(patient(&[&one.endpoint]));
    running.views.refresher().refresh(&["t".into(), "u".into()]).await.unwrap();
    running.until("all versions", all_told).await;
    fake.script().metadata_requests.clear();
    let first = tokio::spawn(insisting(running.views.clone(), vec![on("t", 0, 1, 5)]));
    tokio::time::sleep(300 * MS).await;
    let second = tokio::spawn(insisting(running.views.clone(), vec![on("u", 0, 2, 7)]));
    tokio::time::sleep(500 * MS).await;
    let asked: Vec<_> = fake.script().metadata_requests.iter().map(|(_, topics)| topics.clone().unwrap()).collect();
    for topic in ["t", "u"] {
        let requests = asked.iter().filter(|topics| topics.contains(&topic.to_owned())).count();
        assert_eq!(requests, 2, "{asked:?}");
    }
    assert!(asked.len() <= 4, "{asked:?}");
    fake.script().topics.insert("t", (2, 6));
    timeout(PATIENCE, first).await.unwrap().unwrap();
    second.abort();
}

#[tokio::test]
async fn a_frozen_broker_delays_an_answer_by_its_head_start_alone() {
    let fake = Fake::new();
    let brokers = [fake.start(1).await, fake.start(2).await, fake.start(3).await];
    fake.script().topics.insert("t", (1, 5));
    let mut settings = settings(&[&brokers[0].endpoint]);
    settings.request_timeout = 60_000 * MS;
    let running = running(settings);
    running.until("all versions", all_told).await;
    running.views.refresher().refresh(&["t".into()]).await.unwrap();
    // The kept connection leads to this one.
    let kept = *fake.script().asked_nodes.last().unwrap();
    fake.script().frozen.insert(kept);
    fake.script().topics.insert("t", (2, 6));
    let begun = Instant::now();
    assert!(timeout(PATIENCE, running.views.refresh(vec![on("t", 0, 1, 5)])).await.unwrap());
    println!("kept and frozen: {:?}", begun.elapsed());
    assert!(begun.elapsed() >= 190 * MS, "the kept connection was not used");
    assert!(running.views.current().leader(TopicRef::Name("t"), 0).is_some_and(|leader| leader.epoch == 6));
    assert!(begun.elapsed() < 2_000 * MS, "{:?}", begun.elapsed());

    // One that a session names is not even tried while others are there.
    fake.script().frozen.clear();
    let kept = *fake.script().asked_nodes.last().unwrap();
    fake.script().frozen.insert(kept);
    fake.script().topics.insert("t", (3, 7));
    let endpoint = brokers[kept as usize - 1].endpoint.clone();
    let begun = Instant::now();
    let wants = vec![on("t", 0, 2, 6), Want::Broker { node: node(kept), endpoint }];
    assert!(timeout(PATIENCE, running.views.refresh(wants)).await.unwrap());
    println!("named and frozen: {:?}", begun.elapsed());
    assert!(running.views.current().leader(TopicRef::Name("t"), 0).is_some_and(|leader| leader.epoch == 7));
    assert!(begun.elapsed() < 2_000 * MS, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_cluster_that_refuses_is_knocked_at_a_rate_that_does_not_grow() {
    let dead = [closed(), closed()];
    let mut settings = settings(&[&dead[0], &dead[1]]);
    (settings.backoff_min, settings.backoff_max) = (10 * MS, 5_000 * MS);
    let running = running(settings);
    let refused = || running.metrics.upstream_connect_failures.with_label_values(&["refused"]).get();
    let sessions: Vec<_> = (0..100).map(|_| tokio::spawn(insisting(running.views.clone(), vec![on("t", 0, 1, 5)]))).collect();
    tokio::time::sleep(1_500 * MS).await;
    let begun = refused();
    tokio::time::sleep(2_000 * MS).await;
    let knocked = refused() - begun;
    println!("{knocked} connects in 2 s");
    // Two addresses, 250 to 500 ms apart.
    assert!((4..=18).contains(&knocked), "{knocked}");
    assert!(!timeout(PATIENCE, running.views.refresh(vec![on("t", 0, 1, 5)])).await.expect("who waits is told"));
    sessions.iter().for_each(JoinHandle::abort);
}

/// Broker 1 leads `t`, under epoch 1, and the view knows.
async fn three_that_know_t() -> (Fake, Running, [FakeBroker; 3]) {
    let fake = Fake::new();
    let brokers = [fake.start(1).await, fake.start(2).await, fake.start(3).await];
    fake.script().topics.insert("t", (1, 1));
    let running = running(Settings { head_start: PATIENCE, ..settings(&[&brokers[0].endpoint]) });
    running.until("all versions", all_told).await;
    running.views.refresher().refresh(&["t".into()]).await.unwrap();
    (fake, running, brokers)
}

/// `asked`: who was asked, in their order. Behind the first it is another of the three each time.
pub(super) async fn all_are_asked_in_turn(asked: impl Fn() -> Vec<i32>) {
    timeout(PATIENCE, async {
        while asked().len() < 4 {
            tokio::time::sleep(10 * MS).await;
        }
    })
    .await
    .expect("it asks on");
    let mut others = asked()[1..4].to_vec();
    others.sort_unstable();
    assert_eq!(others, [1, 2, 3], "{:?}", asked());
}

/// A broker that lags behind the controller may go on to lag, and would be asked in vain each time.
#[tokio::test]
async fn what_is_not_there_yet_is_asked_of_another_broker_each_time() {
    let (fake, running, _brokers) = three_that_know_t().await;
    let before = fake.script().asked_nodes.len();
    let session = tokio::spawn(insisting(running.views.clone(), vec![on("t", 0, 1, 1)]));
    all_are_asked_in_turn(|| fake.script().asked_nodes[before..].to_vec()).await;
    let connections = fake.script().connections;
    fake.script().topics.insert("t", (2, 2));
    timeout(PATIENCE, session).await.expect("noticed").unwrap();
    assert_eq!(fake.script().connections, connections, "each is connected to once");
}

/// It refuses because another leads now, and so has heard of that before others.
#[tokio::test]
async fn a_broker_that_refuses_is_asked_first() {
    let (fake, running, _brokers) = three_that_know_t().await;
    for epoch in 1..=6 {
        let (leader, next) = (1 + (epoch - 1) % 3, 1 + epoch % 3);
        fake.script().topics.insert("t", (next, epoch + 1));
        timeout(PATIENCE, insisting(running.views.clone(), vec![on("t", 0, leader, epoch)])).await.expect("noticed");
        assert_eq!(fake.script().asked_nodes.last(), Some(&leader), "epoch {epoch}");
    }
}
