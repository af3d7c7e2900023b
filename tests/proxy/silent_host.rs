//! A host that goes silent: its packets are dropped, and nobody says RST. It takes a network namespace, where the machine allows one.
//!
//! What leaves the broker's port finds no route, acknowledgements and answers to SYN among it, and the process behind it is frozen: seen
//! from outside, nothing is there.

use std::process::Command;
use std::time::{Duration, Instant};

use evenkeel::sim::broker::Hang;

use crate::rig::{Proxy, SOON, three_brokers};
use crate::writer::{Way, Writer};

/// Says which test is to run inside of the namespace.
const INSIDE: &str = "EVENKEEL_INSIDE_NAMESPACE";

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let ran = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if ran.status.success() { Ok(()) } else { Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr))) }
}

/// Rules that can be put before the one for local addresses.
const PREPARE: &str = "ip link set lo up && ip rule add pref 10 lookup local && ip rule del pref 0";

/// Drops every packet that leaves this port.
fn silence(port: u16) -> Result<(), String> {
    run("ip", &["rule", "add", "pref", "1", "ipproto", "tcp", "sport", &port.to_string(), "blackhole"])
}

#[test]
fn a_silent_host_is_left_once_the_cluster_gives_it_up() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    // What the test needs, tried where it does no harm.
    let probe = format!("{PREPARE} && ip rule add pref 1 ipproto tcp sport 9 blackhole");
    if let Err(reason) = run("unshare", &["-rn", "sh", "-c", &probe]) {
        eprintln!("SKIPPED: this machine allows no network namespace with dropped packets: {reason}");
        return;
    }
    let this = std::env::current_exe().expect("the test's binary");
    let test = "silent_host::a_silent_host_is_left_once_the_cluster_gives_it_up";
    let ran = Command::new("unshare")
        .args(["-rn", "--kill-child", "sh", "-c", &format!("{PREPARE} && exec \"$0\" --exact \"$1\" --nocapture")])
        .args([this.as_os_str(), test.as_ref()])
        .env(INSIDE, "1")
        .output()
        .expect("unshare runs");
    let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
    eprintln!("{}", said.lines().find(|line| line.starts_with("written again")).unwrap_or_default());
}

#[tokio::main]
async fn inside() {
    let cluster = three_brokers().await;
    let proxy = Proxy::before(&cluster).await;
    cluster.control(|cluster| cluster.create_assigned_topic("silent", vec![vec![2, 0, 1]]));
    let topic_id = cluster.control(|cluster| cluster.image().topics["silent"].id);
    let way = Way { version: 9, acks: -1, producer: Some(7), transactional_id: None, topic: "silent".into(), topic_id };
    let writer = Writer::start(proxy.node(2), way);
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.control(|cluster| cluster.hang_broker(2, Hang::NotReading));
    silence(cluster.address(2).expect("up").port()).expect("packets are dropped");
    let connecting = tokio::net::TcpStream::connect(cluster.address(2).expect("up"));
    assert!(tokio::time::timeout(Duration::from_millis(300), connecting).await.is_err(), "it is silent");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let fenced = Instant::now();
    cluster.control(|cluster| cluster.fence_broker(2));
    let last = cluster.control(|cluster| cluster.records("silent", 0).len());
    while cluster.control(|cluster| cluster.records("silent", 0).len()) < last + 10 {
        assert!(fenced.elapsed() < SOON, "nothing is written any more\n{}", proxy.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eprintln!("written again {:?} after the cluster had given the broker up", fenced.elapsed());
    let written = writer.stop().await;
    assert!(written.errors.is_empty(), "{written:?}");
    let sequences: Vec<i32> = cluster.control(|cluster| cluster.records("silent", 0)).iter().map(|record| record.sequence).collect();
    assert_eq!(sequences, (0..written.sent as i32).collect::<Vec<_>>(), "{written:?}");
}
