//! Discovery against brokers that do as they are told.

mod coordinators;
mod fake;
mod simulated;
mod wanted;

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use fake::{Fake, node};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::cluster::{
    Broker, CommonMax, LearnLimits, MetadataObservation, Observation, PartitionObservation, Source, TopicId, TopicObservation, TopicRef,
    View,
};
use crate::metrics::Metrics;
use crate::transport::{self, Connector};
use crate::wire::ApiKey;

const PATIENCE: Duration = Duration::from_secs(10);
const MS: Duration = Duration::from_millis(1);

fn connector() -> Connector {
    Connector::new(transport::Settings {
        connect_timeout: 2_000 * MS,
        keepalive: 60_000 * MS,
        user_timeout: None,
        connects_per_second_per_broker: 50,
    })
}

fn settings(bootstrap: &[&Endpoint]) -> Settings {
    Settings {
        bootstrap: bootstrap.iter().map(|endpoint| (*endpoint).clone()).collect(),
        poll_interval: 60_000 * MS,
        min_interval: 10 * MS,
        backoff_min: 5 * MS,
        backoff_max: 50 * MS,
        request_timeout: 2_000 * MS,
        head_start: 200 * MS,
    }
}

struct Running {
    views: Views,
    metrics: Metrics,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn running(settings: Settings) -> Running {
    let metrics = Metrics::new();
    let views = Views::new(LearnLimits::default(), metrics.clone());
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(run(settings, connector(), views.clone(), shutdown.clone()));
    Running { views, metrics, shutdown, task }
}

impl Running {
    async fn until(&self, what: &str, holds: impl Fn(&Views) -> bool) {
        let mut generations = self.views.subscribe();
        let waiting = async {
            while !holds(&self.views) {
                tokio::select! {
                    _ = generations.changed() => {}
                    () = tokio::time::sleep(5 * MS) => {}
                }
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}: never, {:?}", self.views.last_failure()));
    }

    fn listed(&self) -> Vec<i32> {
        self.views.current().brokers.keys().map(|node| node.0).collect()
    }

    fn refreshes(&self, outcome: &str) -> u64 {
        self.metrics.view_refreshes.with_label_values(&[outcome]).get()
    }
}

fn all_told(views: &Views) -> bool {
    let view = views.current();
    view.generation > 0 && view.without_versions().next().is_none()
}

/// A port where nothing listens.
fn closed() -> Endpoint {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    Endpoint { host: "127.0.0.1".into(), port: listener.local_addr().unwrap().port() }
}

#[tokio::test]
async fn learns_the_brokers_and_what_all_of_them_can_do() {
    let fake = Fake::new();
    let one = fake.start(1).await;
    let _two = fake.start(2).await;
    let running = running(settings(&[&one.endpoint]));
    running.until("all versions", all_told).await;
    let view = running.views.current();
    assert_eq!(running.listed(), [1, 2]);
    assert_eq!(view.cluster_id.as_deref(), Some("fake"));
    assert_eq!(view.common_max(ApiKey::PRODUCE), CommonMax::UpTo(8), "the smaller of 8 and 9");
    assert_eq!(view.common_max(ApiKey::FETCH), CommonMax::Lacking);
    assert!(running.views.last_confirmed().is_some() && running.views.last_failure().is_none());
    assert_eq!(running.metrics.view_brokers.get(), 2);
    assert_eq!(fake.script().versions_told, [(1, 1), (2, 1)].into(), "each is asked once");
    assert_eq!(fake.script().metadata_requests, [(12, Some(vec![]))], "for no topic");
}

#[tokio::test]
async fn asks_again_for_the_versions_of_a_broker_that_returns() {
    let fake = Fake::new();
    let one = fake.start(1).await;
    let two = fake.start(2).await;
    let running = running(settings(&[&one.endpoint]));
    running.until("all versions", all_told).await;
    fake.delist(2);
    running.views.refresher().refresh(&[]).await.unwrap();
    assert_eq!(running.listed(), [1]);
    drop(two);
    let _two = fake.start(2).await;
    running.views.refresher().refresh(&[]).await.unwrap();
    running.until("all versions", all_told).await;
    assert_eq!(fake.script().versions_told.get(&2), Some(&2));
}

#[tokio::test]
async fn a_refresh_brings_the_leaders_of_its_topics() {
    let fake = Fake::new();
    let one = fake.start(1).await;
    fake.script().topics.insert("t", (1, 5));
    let running = running(settings(&[&one.endpoint]));
    running.views.refresher().refresh(&["t".into(), "no-such-topic".into()]).await.unwrap();
    let leader = |name| running.views.current().leader(TopicRef::Name(name), 0).map(|leader| (leader.node, leader.epoch));
    assert_eq!(leader("t"), Some((node(1), 5)));
    assert_eq!(leader("no-such-topic"), None);
    running.views.refresher().refresh(&[]).await.unwrap();
    let last = fake.script().metadata_requests.last().cloned();
    assert_eq!(last, Some((12, Some(vec![]))), "a topic is asked for once per call");
    assert_eq!(leader("t"), Some((node(1), 5)));
}

#[tokio::test]
async fn many_callers_share_one_request_and_a_late_one_has_its_own() {
    let fake = Fake::new();
    let one = fake.start(1).await;
    let running = running(Settings { head_start: PATIENCE, ..settings(&[&one.endpoint]) });
    running.until("all versions", all_told).await;
    let before = fake.asked();
    fake.script().delay = 100 * MS;
    let first = running.views.refresher().refresh(&["t".into()]);
    // Until the request is on its way.
    tokio::time::sleep(60 * MS).await;
    fake.script().topics.insert("t", (1, 1));
    let late: Vec<_> = (0..50).map(|_| tokio::spawn(running.views.refresher().refresh(&["t".into()]))).collect();
    timeout(PATIENCE, first).await.unwrap().unwrap();
    for waiter in late {
        timeout(PATIENCE, waiter).await.unwrap().unwrap().unwrap();
    }
    assert_eq!(fake.asked() - before, 2);
    assert_eq!(fake.script().connections, 1, "over one connection");
}

#[tokio::test]
async fn a_burst_keeps_the_smallest_interval() {
    let fake = Fake::new();
    let one = fake.start(1).await;
    let mut settings = settings(&[&one.endpoint]);
    settings.min_interval = 40 * MS;
    let running = running(settings);
    running.until("a first view", all_told).await;
    let (before, begun) = (fake.asked(), Instant::now());
    while begun.elapsed() < 400 * MS {
        timeout(PATIENCE, running.views.refresher().refresh(&[])).await.unwrap().unwrap();
    }
    let flights = fake.asked() - before;
    let most = begun.elapsed().as_millis() as usize / 40 + 1;
    assert!((2..=most).contains(&flights), "{flights} in {:?}", begun.elapsed());
}

#[tokio::test]
async fn polls_the_broker_list_without_being_asked() {
    let fake = Fake::new();
    let one = fake.start(1).await;
    fake.script().topics.insert("t", (1, 5));
    let mut settings = settings(&[&one.endpoint]);
    settings.poll_interval = 50 * MS;
    let running = running(settings);
    running.views.refresher().refresh(&["t".into()]).await.unwrap();
    let _two = fake.start(2).await;
    running.until("the new broker", |views| views.current().brokers.len() == 2).await;
    assert!(running.views.current().leader(TopicRef::Name("t"), 0).is_some(), "a poll asks for no topics and removes none");
    assert_eq!(fake.script().metadata_requests.last().cloned(), Some((12, Some(vec![]))));
}

#[tokio::test]
async fn dead_silent_and_unknown_bootstrap_addresses_do_not_hide_a_live_one() {
    let fake = Fake::new();
    let one = fake.start(1).await;
    let mute = Fake::new();
    mute.script().silent = true;
    let silent = [mute.start(6).await, mute.start(7).await, mute.start(8).await, mute.start(9).await];
    let unknown = Endpoint { host: "no-such-broker.invalid".into(), port: 9092 };
    let mut settings = settings(&[&closed(), &unknown, &closed(), &one.endpoint]);
    settings.bootstrap.extend(silent.iter().map(|broker| broker.endpoint.clone()));
    settings.request_timeout = 60_000 * MS;
    let begun = Instant::now();
    // Several, since each asks in an order of its own.
    let all = [running(settings.clone()), running(settings.clone()), running(settings)];
    for running in &all {
        running.until("a view", all_told).await;
        assert_eq!(running.refreshes("failed"), 0);
    }
    assert!(begun.elapsed() < 5_000 * MS, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn without_a_cluster_it_says_why_and_finds_it_when_it_comes() {
    let endpoint = closed();
    let running = running(settings(&[&endpoint]));
    running.until("a failure", |views| views.last_failure().is_some()).await;
    let failure = running.views.last_failure().unwrap();
    assert!(failure.contains("refused") && failure.contains(&endpoint.to_string()), "{failure}");
    assert_eq!(running.views.last_confirmed(), None);
    let waited = timeout(PATIENCE, running.views.refresher().refresh(&[])).await.expect("a caller is told");
    assert!(waited.unwrap_err().to_string().contains("refused"));

    // The fake is at another port; a forwarder stands at the one that was dead.
    let fake = Fake::new();
    let one = fake.start(1).await;
    let forwarder = tokio::net::TcpListener::bind((&*endpoint.host, endpoint.port)).await.unwrap();
    let forwarding = tokio::spawn(async move {
        while let Ok((mut near, _)) = forwarder.accept().await {
            let Ok(mut far) = tokio::net::TcpStream::connect(("127.0.0.1", one.endpoint.port)).await else { return };
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    running.until("a view", all_told).await;
    assert_eq!(running.views.last_failure(), None);
    assert!(running.refreshes("failed") > 0 && running.refreshes("ok") > 0);
    forwarding.abort();
}

#[tokio::test]
async fn goes_to_a_bootstrap_address_when_all_listed_brokers_are_gone() {
    let fake = Fake::new();
    let one = fake.start(1).await;
    let bootstrap = fake.start_unlisted(100).await;
    let running = running(settings(&[&bootstrap.endpoint]));
    running.until("all versions", all_told).await;
    drop(one);
    fake.delist(1);
    let _two = fake.start(2).await;
    timeout(PATIENCE, running.views.refresher().refresh(&[])).await.unwrap().unwrap();
    assert_eq!(running.listed(), [2]);
}

#[tokio::test]
async fn old_brokers_are_asked_in_their_versions() {
    for (metadata_max, asked_with, leader_known) in [(9, 9, true), (5, 5, true), (1, 1, false)] {
        let fake = Fake::new();
        fake.script().old = true;
        fake.script().metadata_max = metadata_max;
        fake.script().topics.insert("t", (1, 5));
        let one = fake.start(1).await;
        let running = running(settings(&[&one.endpoint]));
        timeout(PATIENCE, running.views.refresher().refresh(&["t".into()])).await.unwrap().unwrap();
        assert_eq!(fake.script().metadata_requests.last().map(|(version, _)| *version), Some(asked_with));
        assert_eq!(running.views.current().leader(TopicRef::Name("t"), 0).is_some(), leader_known, "below 4 asking could create it");
        assert!(fake.script().metadata_requests.iter().all(|(_, topics)| topics.is_some()), "never all topics");
    }
}

#[tokio::test]
async fn a_version_that_would_ask_for_all_topics_is_not_used() {
    let fake = Fake::new();
    fake.script().metadata_max = 0;
    let one = fake.start(1).await;
    let running = running(settings(&[&one.endpoint]));
    running.until("a failure", |views| views.last_failure().is_some()).await;
    assert!(running.views.last_failure().unwrap().contains("too old"));
    assert_eq!(fake.asked(), 0);
}

#[tokio::test]
async fn another_clusters_bootstrap_address_is_not_believed() {
    let fake = Fake::new();
    let one = fake.start(1).await;
    let running = running(settings(&[&one.endpoint]));
    running.until("all versions", all_told).await;
    fake.script().cluster_id = "other";
    let refused = timeout(PATIENCE, running.views.refresher().refresh(&[])).await.unwrap().unwrap_err();
    assert!(refused.to_string().contains("the cluster other"), "{refused}");
    assert_eq!(running.views.current().cluster_id.as_deref(), Some("fake"));
}

#[tokio::test]
async fn a_suspicious_answer_to_a_client_is_followed_up() {
    let fake = Fake::new();
    let one = fake.start(1).await;
    let two = fake.start(2).await;
    fake.script().topics.insert("t", (1, 5));
    let running = running(settings(&[&one.endpoint]));
    running.until("all versions", all_told).await;
    fake.delist(2);
    drop(two);
    let before = fake.asked();
    let passing = || {
        Observation::Metadata(MetadataObservation {
            source: Source::Passing,
            version: 12,
            cluster_id: Some("fake".into()),
            controller: None,
            brokers: vec![Broker { id: node(1), endpoint: one.endpoint.clone(), rack: None }],
            topics: vec![TopicObservation {
                id: TopicId::default(),
                name: Some("t".into()),
                error: 0,
                partitions: vec![PartitionObservation { index: 0, error: 0, leader: Some(node(7)), leader_epoch: 1 }],
            }],
        })
    };
    running.views.observe(passing());
    running.until("the broker's departure", |views| views.current().brokers.len() == 1).await;
    running.until("the topic's leader", |views| views.current().leader(TopicRef::Name("t"), 0).is_some()).await;
    assert_eq!(fake.asked(), before + 1);
    let begun = Instant::now();
    while begun.elapsed() < 300 * MS {
        running.views.observe(passing());
        tokio::time::sleep(5 * MS).await;
    }
    assert!(fake.asked() <= before + 2, "suspicions alone ask once a second: {}", fake.asked() - before);
}

#[tokio::test]
async fn ends_at_the_shutdown() {
    let mut running = running(settings(&[&closed()]));
    running.shutdown.cancel();
    timeout(PATIENCE, &mut running.task).await.expect("it ends in time").unwrap();
}

#[tokio::test]
async fn a_probe_reports_brokers_versions_and_what_failed() {
    let fake = Fake::new();
    let one = fake.start(1).await;
    let two = fake.start(2).await;
    let gone = two.endpoint.clone();
    drop(two);
    let dead = closed();
    let bootstrap = [dead.clone(), one.endpoint.clone()];
    let report = probe_cluster(&bootstrap, &connector(), PATIENCE).await.unwrap();
    assert_eq!(report.cluster_id.as_deref(), Some("fake"));
    let brokers: Vec<_> = report.brokers.iter().map(|report| (report.broker.id.0, report.failure.is_some())).collect();
    assert_eq!(brokers, [(1, false), (2, true)]);
    assert!(report.brokers[1].failure.as_ref().unwrap().contains(&gone.to_string()));
    assert_eq!(report.failed_bootstrap.iter().map(|(endpoint, _)| endpoint).collect::<Vec<_>>(), [&dead]);
    let metadata = report.apis.iter().find(|(api, _)| *api == ApiKey::METADATA).map(|(_, range)| range.max);
    assert_eq!(metadata, Some(12));

    let error = probe_cluster(std::slice::from_ref(&dead), &connector(), PATIENCE).await.unwrap_err();
    assert!(error.to_string().contains(&format!("{dead}: connection refused")), "{error}");
}

#[tokio::test]
async fn a_waiter_is_not_answered_by_a_request_from_before_its_call() {
    let queue = Arc::new(queue::Queue::default());
    let view = View::default();
    let refresher = Refresher { queue: queue.clone() };
    let early = refresher.refresh(&["t".into()]);
    let asked = queue.ask(&view, wants::Takes::default());
    let mut late = Box::pin(refresher.refresh(&["t".into(), "u".into()]));
    queue.answered(&asked);
    early.await.unwrap();
    assert!(timeout(20 * MS, late.as_mut()).await.is_err());
    let again = queue.ask(&view, wants::Takes::default());
    assert_eq!(again.topics, wants::Topics::Names(vec!["t".into(), "u".into()]), "what was asked for again is asked again");
    queue.failed(&asked, "an older failure".into());
    assert!(timeout(20 * MS, late.as_mut()).await.is_err());
    queue.answered(&again);
    late.await.unwrap();
    assert_eq!(queue.due().at, None);
    assert_eq!(queue.ask(&view, wants::Takes::default()).topics, wants::Topics::Names(Vec::new()));
}
