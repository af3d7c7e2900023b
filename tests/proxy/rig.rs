//! The binary as a child process, and a client that speaks plain requests to it. Nothing outlives its test.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use bytes::Bytes;
use evenkeel::sim::cluster::Options;
use evenkeel::sim::frame::{decode_response, encode_request};
use evenkeel::sim::tcp::SimCluster;
use kafka_protocol::messages::{ApiKey, MetadataRequest, MetadataResponse};
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Wide: what takes longer hangs.
pub const SOON: Duration = Duration::from_secs(20);
/// Ports that a proxy of these tests may bind, from its bootstrap port on: ids 0–9 and an overflow range of 100.
const PORTS: u16 = 112;

pub struct Proxy {
    child: Child,
    pub port: u16,
    pub admin: u16,
    log: tempfile::NamedTempFile,
    /// Read once it gets to run, which may take a while on a busy machine.
    _config: tempfile::NamedTempFile,
}

impl Proxy {
    /// Started, listening, and ready if `upstream` answers; further arguments or a whole file may change it.
    pub fn start(upstream: &str) -> Proxy {
        Proxy::start_with(upstream, "", &[])
    }

    /// `yaml`: lines of a configuration file besides addresses. `wrap`: a program to run the binary with.
    pub fn start_with(upstream: &str, yaml: &str, wrap: &[&str]) -> Proxy {
        for _ in 0..20 {
            // In a row, so that the admin port is none of the others.
            let port = free_run(PORTS + 1);
            let admin = port + PORTS;
            let mut proxy = Proxy::spawn(upstream, yaml, wrap, port, admin);
            // A port may be taken between the look and the bind; then it ends at once.
            let deadline = Instant::now() + SOON;
            while Instant::now() < deadline {
                if proxy.child.try_wait().expect("a child").is_some() {
                    break;
                }
                if std::net::TcpStream::connect(("127.0.0.1", admin)).is_ok() {
                    return proxy;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(proxy.log().contains("in use"), "the proxy did not start:\n{}", proxy.log());
        }
        panic!("no free ports");
    }

    fn spawn(upstream: &str, yaml: &str, wrap: &[&str], port: u16, admin: u16) -> Proxy {
        let log = tempfile::NamedTempFile::new().expect("a writable place");
        let config = tempfile::NamedTempFile::new().expect("a writable place");
        std::fs::write(config.path(), yaml).expect("a writable place");
        let binary = cargo_bin!("evenkeel");
        let mut command = match wrap.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        let child = command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .arg("run")
            .args(["--upstream", upstream, "--node-ids", "0-9"])
            .args(["--listen", &format!("127.0.0.1:{port}"), "--admin", &format!("127.0.0.1:{admin}")])
            .args(["--config", config.path().to_str().expect("a plain path")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.reopen().expect("the log"))
            .spawn()
            .expect("the binary starts");
        Proxy { child, port, admin, log, _config: config }
    }

    /// In front of a cluster, and ready.
    pub async fn before(cluster: &SimCluster) -> Proxy {
        let proxy = Proxy::start(&cluster.bootstrap());
        proxy.until_ready().await;
        proxy
    }

    pub async fn until_ready(&self) {
        let deadline = Instant::now() + SOON;
        while !self.get("/readyz").await.starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < deadline, "not ready: {}\n{}", self.get("/readyz").await, self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The whole answer of the admin port, head included.
    pub async fn get(&self, path: &str) -> String {
        self.request("GET", path).await
    }

    pub async fn request(&self, method: &str, path: &str) -> String {
        let ask = async {
            let mut socket = TcpStream::connect(("127.0.0.1", self.admin)).await?;
            socket.write_all(format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes()).await?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        timeout(SOON, ask).await.expect("the admin port answers").expect("the admin port answers")
    }

    pub async fn status(&self) -> serde_json::Value {
        let answer = self.get("/status.json").await;
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).expect("JSON")
    }

    /// The sum of a metric's series whose line contains all of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let answer = self.get("/metrics").await;
        let series = answer.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])) && labels.iter().all(|label| line.contains(label))
        });
        series.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    pub async fn until_metric(&self, name: &str, labels: &[&str], at_least: f64) {
        let deadline = Instant::now() + SOON;
        while self.metric(name, labels).await < at_least {
            assert!(Instant::now() < deadline, "{name}{labels:?} stays below {at_least}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    pub fn bootstrap(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn node(&self, id: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port + 1 + id))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Peak resident memory, in bytes.
    pub fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().expect("kill");
        assert!(sent.success());
    }

    /// The exit code, once it has ended by itself.
    pub async fn ends(&mut self) -> Option<i32> {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the proxy does not end\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("── the proxy's log ──\n{}", self.log());
        }
    }
}

/// The first of `count` ports in a row that nobody has, below the range that the system hands out itself.
fn free_run(count: u16) -> u16 {
    for _ in 0..1000 {
        let first = fastrand::u16(10_000..32_000 - count);
        if (first..first + count).all(|port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return first;
        }
    }
    panic!("no {count} free ports in a row");
}

/// Three brokers with ids 0–2.
pub async fn three_brokers() -> SimCluster {
    SimCluster::start(Options { brokers: 3, ..Options::default() }).await.expect("the simulated cluster starts")
}

/// A connection that speaks whatever requests a test says.
pub struct Client {
    pub socket: TcpStream,
    next_correlation_id: i32,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Client {
        let socket = timeout(SOON, TcpStream::connect(address)).await.expect("connects").expect("connects");
        Client { socket, next_correlation_id: 0 }
    }

    pub async fn send<R: Request + Encodable + HeaderVersion>(&mut self, version: i16, request: &R) -> i32 {
        self.try_send(version, request).await.expect("is taken")
    }

    /// As `send`, on a connection that may have ended.
    pub async fn try_send<R: Request + Encodable + HeaderVersion>(&mut self, version: i16, request: &R) -> std::io::Result<i32> {
        self.next_correlation_id += 1;
        let api = ApiKey::try_from(R::KEY).expect("a known key");
        let frame = encode_request(api, version, self.next_correlation_id, "test-client", request).expect("encodes");
        self.socket.write_u32(frame.len() as u32).await?;
        self.socket.write_all(&frame).await?;
        Ok(self.next_correlation_id)
    }

    /// The next response's frame without its length, or `None` at the connection's end.
    pub async fn receive_frame(&mut self) -> Option<Bytes> {
        let read = async {
            let length = self.socket.read_u32().await.ok()?;
            let mut frame = vec![0; length as usize];
            self.socket.read_exact(&mut frame).await.ok()?;
            Some(Bytes::from(frame))
        };
        timeout(SOON, read).await.expect("an answer or an end")
    }

    pub async fn receive<R: Request>(&mut self, version: i16) -> Option<R::Response> {
        let frame = self.receive_frame().await?;
        let api = ApiKey::try_from(R::KEY).expect("a known key");
        let (correlation_id, response) = decode_response::<R::Response>(api, version, &frame).expect("decodes");
        assert_eq!(correlation_id, self.next_correlation_id);
        Some(response)
    }

    pub async fn ask<R: Request + Encodable + HeaderVersion>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request).await;
        self.receive::<R>(version).await.expect("an answer")
    }

    /// All brokers, without topics.
    pub async fn brokers(&mut self) -> MetadataResponse {
        self.ask(7, &MetadataRequest::default().with_topics(Some(Vec::new()))).await
    }

    /// Whether the other side has ended the connection.
    pub async fn is_ended(&mut self) -> bool {
        timeout(SOON, self.socket.read_u8()).await.expect("an end").is_err()
    }
}
