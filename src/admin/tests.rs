use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::metrics::Metrics;

#[derive(Default)]
struct Scripted {
    ready: AtomicBool,
    scrapes: AtomicU32,
}

impl Status for Scripted {
    fn ready(&self) -> Result<(), String> {
        if self.ready.load(Ordering::Relaxed) { Ok(()) } else { Err("no broker has answered yet".to_owned()) }
    }

    fn status(&self) -> StatusReport {
        let brokers = vec![BrokerStatus { id: 7, host: "b7.example".to_owned(), port: 9092, rack: None }];
        StatusReport { version: "1.2.3".to_owned(), cluster: ClusterStatus { brokers, ..Default::default() }, ..Default::default() }
    }

    fn before_scrape(&self) {
        self.scrapes.fetch_add(1, Ordering::Relaxed);
    }
}

/// Allows one of broker 7.
struct OfSeven;

impl Rehearse for OfSeven {
    fn start(&self, broker: i32, lasting: std::time::Duration) -> Result<RehearsalReport, NoRehearsal> {
        if broker != 7 {
            return Err(NoRehearsal::Unknown(format!("no broker {broker}")));
        }
        Ok(RehearsalReport { broker, asked_seconds: lasting.as_secs_f64(), state: "running".to_owned(), ..Default::default() })
    }

    fn report(&self) -> Result<RehearsalReport, NoRehearsal> {
        Err(NoRehearsal::Off)
    }

    fn stop(&self) -> Result<RehearsalReport, NoRehearsal> {
        Err(NoRehearsal::NotNow("not now".to_owned()))
    }
}

struct Running {
    address: std::net::SocketAddr,
    state: Arc<Scripted>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

async fn running() -> Running {
    let admin = Admin::bind("127.0.0.1:0".parse().expect("is an address")).await.expect("binds");
    let address = admin.local_addr().expect("is bound");
    let state = Arc::new(Scripted::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let shutdown = async move { drop(stopped.await) };
    let task = tokio::spawn(admin.serve(Metrics::new().registry, Arc::clone(&state) as Arc<dyn Status>, Arc::new(OfSeven), shutdown));
    Running { address, state, stop, task }
}

impl Running {
    /// Sends bytes and reads until the server closes.
    async fn exchange(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("connects");
        // A server that has heard enough may close before it has taken everything.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn ask(&self, method: &str, path: &str) -> (u16, String, String) {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = self.exchange(request.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("is an HTTP answer");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("has a status");
        (status, head.to_owned(), body.to_owned())
    }
}

#[tokio::test]
async fn health_and_readiness_are_told_apart() {
    let admin = running().await;
    assert_eq!(admin.ask("GET", "/healthz").await.0, 200);
    let (status, _, body) = admin.ask("GET", "/readyz").await;
    assert_eq!((status, body.as_str()), (503, "not ready: no broker has answered yet\n"));
    admin.state.ready.store(true, Ordering::Relaxed);
    let (status, _, body) = admin.ask("GET", "/readyz").await;
    assert_eq!((status, body.as_str()), (200, "ready\n"));
}

#[tokio::test]
async fn a_scrape_is_announced_and_in_the_text_format() {
    let admin = running().await;
    let (status, head, body) = admin.ask("GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("# TYPE evenkeel_sessions_open gauge\n"), "{body}");
    assert_eq!(admin.state.scrapes.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_status_is_json() {
    let admin = running().await;
    let (status, head, body) = admin.ask("GET", "/status.json").await;
    assert_eq!(status, 200);
    assert!(head.contains("application/json"), "{head}");
    let json: serde_json::Value = serde_json::from_str(&body).expect("is JSON");
    assert_eq!(json["cluster"]["brokers"][0]["host"], "b7.example");
    assert_eq!(json["version"], "1.2.3");
}

#[tokio::test]
async fn it_only_reads_and_every_answer_has_safe_headers() {
    let admin = running().await;
    for (method, path, expected) in
        [("GET", "/", 200), ("HEAD", "/metrics", 200), ("POST", "/metrics", 405), ("DELETE", "/readyz", 405), ("GET", "/../etc", 404)]
    {
        let (status, head, body) = admin.ask(method, path).await;
        assert_eq!(status, expected, "{method} {path}");
        assert!(head.contains("x-content-type-options: nosniff") && head.contains("cache-control: no-store"), "{method} {path}: {head}");
        assert!(method == "GET" || body.is_empty(), "{method} {path}: {body}");
    }
}

#[tokio::test]
async fn a_rehearsal_is_begun_by_post_alone_and_not_by_a_web_page() {
    let admin = running().await;
    let (status, head, body) = admin.ask("POST", "/rehearsal?broker=7&for=10s").await;
    assert_eq!(status, 202, "{body}");
    assert!(head.contains("application/json"), "{head}");
    let report: RehearsalReport = serde_json::from_str(&body).expect("is a report");
    assert_eq!((report.broker, report.asked_seconds), (7, 10.0));
    for (method, path, expected, text) in [
        ("POST", "/rehearsal?broker=8&for=10s", 404, "no broker 8"),
        ("POST", "/rehearsal?broker=7", 400, "?broker=ID&for=TIME"),
        ("GET", "/rehearsal", 403, "admin.rehearsal: true"),
        ("DELETE", "/rehearsal", 409, "not now"),
        ("PUT", "/rehearsal", 405, ""),
    ] {
        let (status, head, body) = admin.ask(method, path).await;
        assert_eq!(status, expected, "{method} {path}");
        assert!(body.contains(text), "{method} {path}: {body}");
        assert!(head.contains("cache-control: no-store"), "{head}");
    }
    let from_a_page = "POST /rehearsal?broker=7&for=10s HTTP/1.1\r\nhost: x\r\norigin: http://x\r\nconnection: close\r\n\r\n";
    assert!(admin.exchange(from_a_page.as_bytes()).await.starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn large_heads_are_refused() {
    let admin = running().await;
    let long = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(64 * 1024));
    let answer = admin.exchange(long.as_bytes()).await;
    assert!(!answer.contains(" 200 "), "{answer}");
    let many = format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-one: 1\r\n".repeat(200));
    let answer = admin.exchange(many.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn silent_visitors_do_not_keep_others_out() {
    let admin = running().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(admin.address).await.expect("connects"));
    }
    assert_eq!(admin.ask("GET", "/healthz").await.0, 200);
    let mut byte = [0];
    assert_eq!(silent[0].read(&mut byte).await.expect("reads"), 0, "closed by the server");
}

#[tokio::test]
async fn stopping_closes_the_port() {
    let admin = running().await;
    admin.stop.send(()).expect("is running");
    admin.task.await.expect("ends well");
    assert!(TcpStream::connect(admin.address).await.is_err());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let admin = running().await;
    let error = Admin::bind(admin.address).await.expect_err("the port is taken");
    assert_eq!(error.to_string(), format!("cannot listen on {} (admin.listen)", admin.address));
}
