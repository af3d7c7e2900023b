//! What clients may send, and what it may cost.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::rig::{Client, Proxy, SOON, three_brokers};

async fn ends(socket: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = timeout(SOON, socket.read_to_end(&mut rest)).await.expect("the proxy ends it");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_harm_nobody_else() {
    let cluster = three_brokers().await;
    let proxy = Proxy::before(&cluster).await;
    let mut good = Client::connect(proxy.node(1)).await;
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..200 {
        let mut bytes = vec![0; random.usize(1..4096)];
        random.fill(&mut bytes);
        if round % 2 == 0 {
            // A plausible length and API, so that the head is reached.
            let length = bytes.len() as i32;
            bytes.splice(..0, length.to_be_bytes().into_iter().chain([0, random.u8(0..95), 0, random.u8(0..14)]));
        }
        let mut socket = TcpStream::connect(proxy.node(random.u16(0..3))).await.expect("connects");
        let _ = socket.write_all(&bytes).await;
        let _ = socket.shutdown().await;
        ends(&mut socket).await;
    }
    assert_eq!(good.brokers().await.brokers.len(), 3);
    proxy.until_metric("evenkeel_bad_clients_total", &[], 1.0).await;
    assert!(proxy.log().matches("closed a client").count() < 50, "the log is not flooded:\n{}", proxy.log());
    assert!(!proxy.log().contains("panicked"), "{}", proxy.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_http_and_oversized_frames_are_named_in_the_log() {
    let cases: [(&[u8], &str); 3] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on", "SSL"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", "admin port"),
        (b"\x7f\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x01\xff\xff", "limits.request_bytes"),
    ];
    let cluster = three_brokers().await;
    for (bytes, named) in cases {
        let proxy = Proxy::before(&cluster).await;
        let mut socket = TcpStream::connect(proxy.bootstrap()).await.expect("connects");
        socket.write_all(bytes).await.expect("is taken");
        ends(&mut socket).await;
        assert!(proxy.log().contains(named), "{named}:\n{}", proxy.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_frame_and_slow_bytes_end_in_time() {
    let cluster = three_brokers().await;
    let proxy = Proxy::start_with(&cluster.bootstrap(), "timeouts: {handshake: 1s}", &[]);
    proxy.until_ready().await;
    let mut half = TcpStream::connect(proxy.bootstrap()).await.expect("connects");
    half.write_all(&[0, 0, 0, 20, 0, 3, 0, 7, 0, 0]).await.expect("is taken");
    let mut silent = TcpStream::connect(proxy.bootstrap()).await.expect("connects");
    let mut slow = TcpStream::connect(proxy.bootstrap()).await.expect("connects");
    let dribble = async {
        for byte in [0, 0, 0, 20, 0, 3, 0, 7, 0, 0, 0, 1, 0, 1].into_iter().cycle() {
            if slow.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    timeout(SOON, async { tokio::join!(ends(&mut half), ends(&mut silent), dribble) }).await.expect("all three end");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_limit_are_closed_as_they_come_and_the_others_live() {
    let cluster = three_brokers().await;
    let proxy = Proxy::start_with(&cluster.bootstrap(), "limits: {connections: 20}", &[]);
    proxy.until_ready().await;
    let mut first = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(proxy.node(1)).await;
        client.brokers().await;
        first.push(client);
    }
    for _ in 0..5 {
        assert!(Client::connect(proxy.node(1)).await.is_ended().await);
    }
    assert_eq!(proxy.metric("evenkeel_accepts_refused_total", &["max_connections"]).await, 5.0);
    for client in &mut first {
        assert_eq!(client.brokers().await.brokers.len(), 3);
    }
    first.clear();
    proxy.until_metric("evenkeel_sessions_closed_total", &["client_closed"], 20.0).await;
    assert_eq!(Client::connect(proxy.node(1)).await.brokers().await.brokers.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn running_out_of_file_descriptors_stops_new_connections_only() {
    let cluster = three_brokers().await;
    let proxy = Proxy::start_with(&cluster.bootstrap(), "", &["prlimit", "--nofile=64:64"]);
    proxy.until_ready().await;
    let mut old = Client::connect(proxy.node(1)).await;
    old.brokers().await;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(TcpStream::connect(proxy.node(2)).await.expect("the backlog takes it"));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(old.brokers().await.brokers.len(), 3, "who is connected is served");
    drop(crowd);
    let mut late = Client::connect(proxy.node(0)).await;
    assert_eq!(late.brokers().await.brokers.len(), 3, "and it recovers");
    proxy.until_metric("evenkeel_accepts_refused_total", &["file_descriptors"], 1.0).await;
}
