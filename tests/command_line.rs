//! The command line as its users meet it: exit codes, and what stands on standard output and error.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use evenkeel::sim::cluster::Options as ClusterOptions;
use evenkeel::sim::tcp::SimCluster;

fn evenkeel(arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin!("evenkeel"));
    // The variables of whoever runs the tests are not the tests'.
    command.env_clear().args(arguments);
    command
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().expect("starts");
    Said { code: status.code(), out: String::from_utf8_lossy(&stdout).into_owned(), err: String::from_utf8_lossy(&stderr).into_owned() }
}

/// A port that nothing listens on.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port is free")
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("is writable");
    std::fs::write(file.path(), text).expect("is writable");
    file
}

#[test]
fn help_teaches_the_tool() {
    let help = said(&mut evenkeel(&["--help"]));
    assert_eq!(help.code, Some(0));
    for word in ["run", "check", "demo", "probe", "rehearse", "19092 + 1 + N", "evenkeel run --upstream", "Exit codes"] {
        assert!(help.out.contains(word), "{word}: {}", help.out);
    }
    for command in ["run", "check", "probe", "rehearse"] {
        let help = said(&mut evenkeel(&[command, "--help"]));
        assert_eq!(help.code, Some(0), "{command}");
        assert!(help.out.contains("EVENKEEL_ADMIN"), "{command} names its variables: {}", help.out);
    }
    let version = said(&mut evenkeel(&["--version"]));
    assert_eq!(version.out, format!("evenkeel {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for arguments in [
        &["walk"][..],
        &["run", "--upstraem", "a:1"],
        &["probe", "--timeout", "2"],
        &["rehearse"],
        &["rehearse", "--broker", "2", "--for", "10"],
        &[],
    ] {
        assert_eq!(said(&mut evenkeel(arguments)).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn run_and_check_report_all_errors_at_once_and_end_with_2() {
    let file = file("limits: {connections: 0, idle: 5}\nlisten: {node_ids: [0-9, 5]}\n");
    let path = file.path().to_str().expect("is text");
    for command in ["run", "check"] {
        let said = said(evenkeel(&[command, "--config", path, "--listen", "localhost:1"]).env("EVENKEEL_ADMIN", "here"));
        assert_eq!(said.code, Some(2), "{command}");
        assert!(said.err.contains(&format!("evenkeel: {path} has 6 errors:")), "{}", said.err);
        for place in
            ["limits.idle: ", "upstream.bootstrap: ", "--listen: ", "EVENKEEL_ADMIN: ", "limits.connections: ", "listen.node_ids[1]: "]
        {
            assert!(said.err.contains(&format!("\n  {place}")), "{place}: {}", said.err);
        }
        assert!(said.out.is_empty());
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let said = said(&mut evenkeel(&["check", "--config", "/nonexistent/evenkeel.yaml"]));
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("/nonexistent/evenkeel.yaml: cannot be read: No such file or directory"), "{}", said.err);
}

#[test]
fn flags_beat_variables_which_beat_the_file() {
    let file =
        file("upstream: {bootstrap: a:1}\nlisten: {bootstrap: '127.0.0.1:7000', node_ids: 0-1}\nadmin: {listen: '127.0.0.1:7500'}\n");
    let path = file.path().to_str().expect("is text");
    let from_file = said(&mut evenkeel(&["check", "--config", path]));
    assert_eq!(from_file.code, Some(0), "{}", from_file.err);
    assert!(from_file.out.contains("127.0.0.1:7001-7002"), "{}", from_file.out);
    let variables = [("EVENKEEL_CONFIG", path), ("EVENKEEL_LISTEN", "127.0.0.1:8000"), ("EVENKEEL_NODE_IDS", "5")];
    let from_variables = said(evenkeel(&["check"]).envs(variables));
    assert!(from_variables.out.contains("| node 5 ") && from_variables.out.contains("127.0.0.1:8006"), "{}", from_variables.out);
    assert!(from_variables.out.contains("127.0.0.1 7500"), "{}", from_variables.out);
    let from_flags = said(evenkeel(&["check", "--listen", "127.0.0.1:9000", "--advertise", "x.example"]).envs(variables));
    assert!(from_flags.out.contains("x.example:9006"), "{}", from_flags.out);
}

#[test]
fn a_live_check_says_what_would_be_served() {
    let runtime = tokio::runtime::Runtime::new().expect("starts");
    let cluster = runtime.block_on(SimCluster::start(ClusterOptions::default())).expect("starts");
    let upstream = format!("127.0.0.1:1,{}", cluster.bootstrap());
    let live = said(&mut evenkeel(&["check", "--live", "--upstream", &upstream, "--advertise", "proxy.example"]));
    assert_eq!(live.code, Some(0), "{}", live.err);
    for broker in 0..3 {
        let real = cluster.address(broker).expect("listens").to_string();
        let line = live.out.lines().find(|line| line.contains(&real)).unwrap_or_else(|| panic!("{real}: {}", live.out));
        assert!(line.contains(&format!("proxy.example:{}", 19093 + broker)), "{line}");
    }
    assert!(live.out.lines().any(|line| line.starts_with("| Metadata ")), "{}", live.out);
    assert!(live.err.contains("a bootstrap server is of no use now: 127.0.0.1:1"), "{}", live.err);

    let file = file("listen: {node_ids: 0-1, overflow_ports: none}\n");
    let path = file.path().to_str().expect("is text");
    let live = said(&mut evenkeel(&["check", "--live", "--upstream", &cluster.bootstrap(), "--config", path]));
    assert_eq!(live.code, Some(1));
    assert!(live.err.contains("evenkeel: node 2 has no port: add it to listen.node_ids"), "{}", live.err);

    let live = said(&mut evenkeel(&["check", "--live", "--upstream", "127.0.0.1:1"]));
    assert_eq!(live.code, Some(1));
    assert!(live.err.contains("no bootstrap address answers"), "{}", live.err);
}

/// A running program, killed when the test is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(admin: SocketAddr, arguments: &[&str]) -> Running {
        let listen = free_address().to_string();
        let admin = admin.to_string();
        let mut command = evenkeel(&["run", "--upstream", "127.0.0.1:1", "--node-ids", "0", "--listen", &listen, "--admin", &admin]);
        command.args(arguments).stderr(Stdio::piped()).stdout(Stdio::null());
        Running(command.spawn().expect("starts"))
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.0.id().to_string()]).status().expect("kill is there");
        assert!(sent.success());
    }

    /// Its exit code and what it logged.
    fn end(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let status = loop {
            if let Some(status) = self.0.try_wait().expect("is a child") {
                break status;
            }
            assert!(Instant::now() < deadline, "did not end");
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut log = String::new();
        if let Some(mut stderr) = self.0.stderr.take() {
            std::io::Read::read_to_string(&mut stderr, &mut log).expect("is readable");
        }
        (status.code(), log)
    }
}

fn probe(admin: SocketAddr, more: &[&str]) -> Said {
    said(evenkeel(&["probe", "--admin", &admin.to_string()]).args(more))
}

fn until_alive(admin: SocketAddr) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while probe(admin, &[]).code != Some(0) {
        assert!(Instant::now() < deadline, "never alive");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn probe_tells_alive_from_ready_and_sigterm_ends_well() {
    let admin = free_address();
    let nobody = probe(admin, &[]);
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.err.contains(&format!("nothing answers at {admin}")), "{}", nobody.err);

    let running = Running::start(admin, &["--log-format", "json"]);
    until_alive(admin);
    // Its upstream does not exist.
    let not_ready = probe(admin, &["--ready"]);
    assert_eq!(not_ready.code, Some(1));
    assert!(not_ready.err.contains("says 503: not ready: "), "{}", not_ready.err);

    running.signal("TERM");
    let (code, log) = running.end();
    assert_eq!(code, Some(0), "{log}");
    for line in log.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(event["message"].is_string() && event["level"].is_string() && event["timestamp"].is_string(), "{line}");
    }
    assert!(log.contains("SIGTERM"), "{log}");
}

#[test]
fn a_rehearsal_needs_somebody_to_ask() {
    let admin = free_address().to_string();
    let nobody = said(&mut evenkeel(&["rehearse", "--admin", &admin, "--broker", "2"]));
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.err.contains(&format!("evenkeel: nothing answers at {admin}")), "{}", nobody.err);
}

#[test]
fn probe_does_not_wait_forever() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("binds");
    let began = Instant::now();
    let said = probe(silent.local_addr().expect("is bound"), &["--timeout", "200ms"]);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("did not answer within 200ms"), "{}", said.err);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn probe_finds_the_admin_port_in_the_configuration() {
    let admin = free_address();
    // The rest of the file may be wrong: a health check is about the process that runs.
    let config = file(&format!("admin: {{listen: '0.0.0.0:{}'}}\nbogus: 1\n", admin.port()));
    let path = config.path().to_str().expect("is text");
    let found = said(&mut evenkeel(&["probe", "--config", path]));
    assert_eq!(found.code, Some(1));
    assert!(found.err.contains(&format!("nothing answers at 127.0.0.1:{}", admin.port())), "{}", found.err);
    let off = file("admin: {listen: none}\n");
    let found = said(&mut evenkeel(&["probe", "--config", off.path().to_str().expect("is text")]));
    assert_eq!(found.code, Some(2), "{}", found.err);
}

#[test]
fn an_admin_port_that_is_taken_stops_the_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let admin = taken.local_addr().expect("is bound");
    let (code, log) = Running::start(admin, &[]).end();
    assert_eq!(code, Some(1));
    assert!(log.contains(&format!("evenkeel: cannot listen on {admin} (admin.listen): Address already in use")), "{log}");
}

#[test]
fn the_demo_judges_both_ways_and_draws_them() {
    let folder = tempfile::tempdir().expect("is writable");
    let [page, picture] = ["demo.html", "demo.svg"].map(|name| folder.path().join(name));
    let mut command = evenkeel(&["demo", "--scenario", "scale-in", "--rate", "120", "--json"]);
    let demo = said(command.arg("--html").arg(&page).arg("--svg").arg(&picture));
    assert_eq!(demo.code, Some(0), "{} {}", demo.out, demo.err);
    let summary: serde_json::Value = serde_json::from_str(&demo.out).expect("is one JSON object");
    assert_eq!(summary["ok"], true, "{summary}");
    let told = &summary["scenarios"][0];
    assert_eq!(told["scenario"], "scale-in", "{summary}");
    for way in ["direct", "proxied"] {
        assert_eq!(told[way]["records"], 14 * 120, "{way}: {summary}");
        for count in ["errors", "lost", "duplicated", "reordered"] {
            assert_eq!(told[way][count], 0, "{way}: {count}: {summary}");
        }
    }
    // The client waits for its next metadata when its broker goes: that is what is to be seen.
    assert!(told["direct"]["max_us"].as_u64().is_some_and(|us| us > 3_000_000), "{summary}");
    let relayed = &summary["relayed"];
    assert!(relayed["request_bytes"].as_u64().is_some_and(|bytes| bytes > 10_000), "it went through the proxy: {summary}");
    assert_eq!(relayed["addresses_leaked"].as_array().map(Vec::len), Some(0), "{summary}");
    assert!(demo.err.is_empty(), "{}", demo.err);
    let svg = std::fs::read_to_string(&picture).expect("is written");
    let html = std::fs::read_to_string(&page).expect("is written");
    assert!(svg.contains("Scale-in") && html.contains(&svg) && html.contains("<td>through Evenkeel</td>"), "{html}");
}

#[test]
fn a_demo_that_does_not_exist_ends_with_2_before_it_begins() {
    for arguments in [["demo", "--scenario", "earthquake"], ["demo", "--rate", "0"], ["demo", "--kafka", "0.8"]] {
        assert_eq!(said(&mut evenkeel(&arguments)).code, Some(2), "{arguments:?}");
    }
}
