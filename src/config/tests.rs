use std::collections::BTreeSet;

use serde_yaml::Value;

use super::*;
use crate::cluster::NodeId;

fn problems(yaml: &str) -> Vec<String> {
    match Config::from_yaml(yaml, &[]) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

fn valid(yaml: &str) -> Config {
    Config::from_yaml(yaml, &[upstream()]).unwrap_or_else(|problems| panic!("{yaml}: {problems}"))
}

fn set(key: &'static str, value: &str) -> Override {
    Override { key, origin: format!("--{key}"), value: value.to_owned() }
}

fn upstream() -> Override {
    set("upstream.bootstrap", "a.example:9092")
}

/// Each configuration has exactly one error, at this place, and its text has this in it.
const BAD: &[(&str, &str, &str)] = &[
    // Shapes.
    ("[1, 2]", "", "a mapping of keys, not a list"),
    ("a: b: c", "", "not readable as YAML"),
    ("log: {level: info, level: debug}", "", "duplicate entry"),
    ("limits: 5", "limits", "a section of keys (connections, request_bytes,"),
    ("1: 2", "", "a key is a name, not `1`"),
    // Unknown keys.
    ("limits: {conections: 5}", "limits.conections", "did you mean `connections`?"),
    ("limits: {request-bytes: 1MiB}", "limits.request-bytes", "did you mean `request_bytes`?"),
    ("limits: {idle: 5m}", "limits.idle", "did you mean `timeouts.idle`?"),
    ("timeout: {idle: 5m}", "timeout", "did you mean `timeouts`?"),
    ("log: {colour: red}", "log.colour", "known here: format, level"),
    // Units and bounds.
    ("timeouts: {idle: 600}", "timeouts.idle", "`600` has no unit: expected a time such as 250ms"),
    ("timeouts: {idle: '600'}", "timeouts.idle", "`600` has no unit"),
    ("timeouts: {idle: soon}", "timeouts.idle", "expected a time such as 250ms, 10s or 11m, not `soon`"),
    ("timeouts: {idle: -5s}", "timeouts.idle", "not `-5s`"),
    ("timeouts: {idle: [5s]}", "timeouts.idle", "not a list"),
    ("timeouts: {idle: 1ms}", "timeouts.idle", "1ms is out of bounds: from 1s to 1day"),
    ("limits: {request_bytes: 1048576}", "limits.request_bytes", "`1048576` has no unit: expected a size such as 4KiB or 64MiB"),
    ("limits: {request_bytes: 1 potato}", "limits.request_bytes", "not `1 potato`"),
    ("limits: {request_bytes: 3GiB}", "limits.request_bytes", "3.0 GiB is out of bounds: from 64.0 KiB to 2.0 GiB"),
    ("limits: {request_bytes: 99999999999999TiB}", "limits.request_bytes", "is out of bounds"),
    ("limits: {connections: 0}", "limits.connections", "0 is out of bounds: from 1 to 1000000"),
    ("limits: {connections: 1.5}", "limits.connections", "expected a whole number, not `1.5`"),
    ("limits: {connections: -1}", "limits.connections", "expected a whole number, not `-1`"),
    ("unknown_apis: maybe", "unknown_apis", "expected one of hide, pass, not `maybe`"),
    ("log: {level: inof}", "log.level", "expected one of off, error, warn, info, debug, trace"),
    ("log: {level: 'info,evenkeel=loud'}", "log.level", "or a filter such as"),
    ("timeouts: {unacknowledged: 30}", "timeouts.unacknowledged", "`30` has no unit"),
    ("timeouts: {unacknowledged: 1ms}", "timeouts.unacknowledged", "1ms is out of bounds: from 1s to 1h (`none`: as the system has it)"),
    // Keys together.
    ("discovery: {backoff_min: 6s}", "discovery.backoff_min", "longer than discovery.backoff_max"),
    ("discovery: {min_interval: 31s}", "discovery.min_interval", "longer than discovery.poll_interval"),
    ("limits: {rewrite_bytes: 200MiB}", "limits.rewrite_bytes", "larger than limits.response_bytes"),
    // Addresses.
    ("listen: {bootstrap: 'localhost:9092'}", "listen.bootstrap", "a name is not an address to listen on"),
    ("listen: {bootstrap: 9092}", "listen.bootstrap", "expected IP:PORT, not `9092`"),
    ("listen: {bootstrap: '127.0.0.1:0'}", "listen.bootstrap", "port 0"),
    ("listen: {bootstrap: '127.0.0.1:70000'}", "listen.bootstrap", "expected IP:PORT"),
    ("listen: {bootstrap: '0.0.0.0:19092'}", "listen.advertise", "required (or --advertise): listening on every interface (0.0.0.0)"),
    ("listen: {bootstrap: '[::]:19092'}", "listen.advertise", "listening on every interface (::)"),
    ("listen: {advertise: 'proxy:19092'}", "listen.advertise", "expected a host without a port"),
    ("listen: {advertise: 'a b'}", "listen.advertise", "`a b` is not a host name or IP address"),
    ("listen: {advertise: 0.0.0.0}", "listen.advertise", "not an address that clients can connect to"),
    ("admin: {listen: '19000'}", "admin.listen", "(`none` switches it off)"),
    // Node ids and ports.
    ("listen: {node_ids: 0-x}", "listen.node_ids", "expected node ids such as 0-99 or 7"),
    ("listen: {node_ids: '-5'}", "listen.node_ids", "`-5`: a node id is not negative"),
    ("listen: {node_ids: 9-2}", "listen.node_ids", "ends before it begins"),
    ("listen: {node_ids: [0-9, true]}", "listen.node_ids[1]", "not `true`"),
    ("listen: {node_ids: [0-9, 5-20]}", "listen.node_ids[1]", "ids 5-9 are in 0-9 already (listen.node_ids[0])"),
    ("listen: {node_ids: [0-9, 7]}", "listen.node_ids[1]", "id 7 is in 0-9 already (listen.node_ids[0])"),
    ("listen: {node_ids: 0-99999}", "listen.node_ids", "id 46443 would get port 65536 (19092 + 1 + 46443), and 65535 is the last"),
    ("listen: {node_ids: 2147483647}", "listen.node_ids", "id 2147483647 would get port 2147502740"),
    ("listen: {node_ids: [0-9, {ids: 50-60, first_port: 65530}]}", "listen.node_ids[1]", "id 56 would get port 65536 (65530 + 56 − 50)"),
    ("listen: {node_ids: [{ids: 1000-1010, port: 5}]}", "listen.node_ids[0].port", "unknown key; known here: ids, first_port"),
    ("listen: {node_ids: [{first_port: 5}]}", "listen.node_ids[0].ids", "required"),
    ("listen: {node_ids: [{ids: 7, first_port: 0}]}", "listen.node_ids[0].first_port", "expected a port from 1 to 65535, not `0`"),
    (
        "listen: {node_ids: [0-9, {ids: 50-60, first_port: 19095}]}",
        "listen.node_ids[1]",
        "port 19095 for id 50 is taken already: node id 2 (listen.node_ids[0])",
    ),
    (
        "listen: {node_ids: [{ids: 5-9, first_port: 19090}]}",
        "listen.node_ids[0]",
        "port 19092 for id 7 is taken already: the bootstrap port (listen.bootstrap)",
    ),
    ("listen: {ports: [19999]}", "listen.ports", "expected a mapping of node id to port"),
    ("listen: {ports: {x: 19999}}", "listen.ports.x", "expected a node id before the port"),
    ("listen: {ports: {7: 99999}}", "listen.ports.7", "expected a port from 1 to 65535, not `99999`"),
    ("listen: {ports: {7: 21000, '7': 21001}}", "listen.ports.7", "id 7 has a port already"),
    ("listen: {ports: {700: 19095}}", "listen.ports.700", "port 19095 is taken already: node id 2 (listen.node_ids)"),
    ("listen: {ports: {700: 21000, 701: 21000}}", "listen.ports.701", "port 21000 is taken already: node id 700 (listen.ports.700)"),
    ("listen: {ports: {700: 19200}}", "listen.overflow_ports", "port 19200 is taken already: node id 700 (listen.ports.700)"),
    ("listen: {overflow_ports: 19100-19200}", "listen.overflow_ports", "port 19100 is taken already: node id 7 (listen.node_ids)"),
    ("listen: {overflow_ports: 9-1}", "listen.overflow_ports", "ends before it begins"),
    ("listen: {overflow_ports: 5}", "listen.overflow_ports", "expected ports such as 19193-19292, `auto` or `none`"),
    ("listen: {overflow_ports: 60000-70000}", "listen.overflow_ports", "expected ports from 1 to 65535"),
    ("listen: {node_ids: 0-46400}", "listen.overflow_ports", "no 100 ports are left above 65493"),
    ("admin: {listen: '127.0.0.1:19092'}", "admin.listen", "port 19092 is taken already: the bootstrap port (listen.bootstrap)"),
    ("admin: {listen: '0.0.0.0:19100'}", "listen.node_ids", "port 19100 for id 7 is taken already: the admin port (admin.listen)"),
    ("admin: {listen: '127.0.0.1:19200'}", "listen.overflow_ports", "port 19200 is taken already: the admin port (admin.listen)"),
];

#[test]
fn each_wrong_setting_is_reported_once_with_its_place() {
    for (yaml, at, what) in BAD {
        let found = match Config::from_yaml(yaml, &[upstream()]) {
            Ok(_) => panic!("{yaml}: passes"),
            Err(problems) => problems.iter().cloned().collect::<Vec<_>>(),
        };
        assert_eq!(found.len(), 1, "{yaml}: {found:?}");
        assert_eq!(found[0].at, *at, "{yaml}: {}", found[0]);
        assert!(found[0].what.contains(what), "{yaml}: {}", found[0]);
    }
}

#[test]
fn the_clusters_bootstrap_servers_are_held_to_host_and_port() {
    let cases = [
        ("{}", "upstream.bootstrap: required: the cluster's bootstrap servers"),
        ("upstream: {bootstrap: []}", "upstream.bootstrap: an empty list"),
        ("upstream: {bootstrap: {a: 1}}", "upstream.bootstrap: expected a list of HOST:PORT, not a mapping"),
        ("upstream: {bootstrap: [a:1, b]}", "upstream.bootstrap[1]: expected HOST:PORT (such as kafka-0.example:9092), not `b`"),
        ("upstream: {bootstrap: 'a:1,b:0'}", "upstream.bootstrap: expected HOST:PORT"),
        (
            "upstream: {bootstrap: ['SSL://a:1']}",
            "upstream.bootstrap[0]: expected HOST:PORT, not `SSL://a:1`: leave out `SSL://`, so `a:1`",
        ),
        (
            "upstream: {bootstrap: ['::1:9092']}",
            "upstream.bootstrap[0]: expected HOST:PORT, not `::1:9092`: an IPv6 address stands in brackets",
        ),
        ("upstream: {bootstrap: ['127.0.0.1:19092']}", "upstream.bootstrap[0]: `127.0.0.1:19092` is where Evenkeel itself would listen"),
        ("upstream: {bootstrap: ['localhost:19092']}", "upstream.bootstrap[0]: `localhost:19092` is where Evenkeel itself would listen"),
    ];
    for (yaml, expected) in cases {
        let found = problems(yaml);
        assert_eq!(found.len(), 1, "{yaml}: {found:?}");
        assert!(found[0].starts_with(expected), "{yaml}: {}", found[0]);
    }
}

#[test]
fn all_errors_come_at_once() {
    let found = problems(
        "upstream: {bootstrap: [a:9092, b], keepalive: 60}\n\
         listen: {bootstrap: '0.0.0.0:19092', node_ids: [0-9, 5, x], bogus: 1}\n\
         limits: {connections: many, queued_bytes: 5}\n\
         discovery: {backoff_min: 9s, backoff_max: nine}\n\
         log: {format: xml}\n",
    );
    let places: Vec<&str> = found.iter().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(
        places,
        [
            "listen.bogus",
            "upstream.bootstrap[1]",
            "upstream.keepalive",
            "listen.advertise",
            "limits.connections",
            "limits.queued_bytes",
            // And nothing about backoff_min, which cannot be judged without backoff_max.
            "discovery.backoff_max",
            "log.format",
            "listen.node_ids[1]",
            "listen.node_ids[2]",
        ]
    );
}

#[test]
fn ports_follow_from_the_bootstrap_port() {
    let plan =
        valid("listen: {bootstrap: '10.0.0.1:9092', node_ids: [0-2, 10, {ids: 1000-1001, first_port: 20000}], ports: {1: 30000, 77: 7}}")
            .listeners;
    let ports: Vec<(i32, u16)> = plan.ports.iter().map(|(NodeId(id), port)| (*id, *port)).collect();
    assert_eq!(ports, [(0, 9093), (1, 30000), (2, 9095), (10, 9103), (77, 7), (1000, 20000), (1001, 20001)]);
    assert_eq!(plan.overflow, Some(20002..=20101));
    assert_eq!(&*plan.advertised_host, "10.0.0.1");
}

#[test]
fn a_port_on_another_interface_is_not_taken() {
    let config = valid("listen: {bootstrap: '127.0.0.2:19092'}\nadmin: {listen: '127.0.0.1:19100'}");
    assert_eq!(config.admin.map(|admin| admin.port()), Some(19100));
}

#[test]
fn values_may_be_switched_off_or_left_empty() {
    let config = valid("listen: {overflow_ports: none, node_ids: [], advertise: }\nadmin: {listen: none}\nlimits:\ntimeouts: {drain: 0s}");
    assert_eq!(config.listeners.overflow, None);
    assert!(config.listeners.ports.is_empty());
    assert_eq!(config.admin, None);
    assert_eq!(config.drain_timeout, Duration::ZERO);
}

#[test]
fn hosts_are_taken_in_all_their_forms() {
    let config = Config::from_yaml(
        "upstream: {bootstrap: ' a_b.example:1 ,[::1]:2,10.0.0.1:3,a_b.example:1'}\nlisten: {advertise: '[fe80::1]'}",
        &[],
    );
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let endpoints: Vec<String> = config.discovery.bootstrap.iter().map(ToString::to_string).collect();
    assert_eq!(endpoints, ["a_b.example:1", "[::1]:2", "10.0.0.1:3"]);
    assert_eq!(&*config.listeners.advertised_host, "fe80::1");
}

#[test]
fn what_is_said_otherwise_beats_the_file() {
    let yaml = "upstream: {bootstrap: nonsense}\nlisten: {bootstrap: '127.0.0.1:19092', node_ids: 0-9}\nlimits: {connections: 5}";
    let overrides =
        [set("upstream.bootstrap", "b.example:1,c.example:2"), set("listen.bootstrap", "127.0.0.1:9092"), set("listen.node_ids", "3,5-6")];
    let config = Config::from_yaml(yaml, &overrides).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.discovery.bootstrap.len(), 2);
    assert_eq!(config.listeners.ports.into_iter().collect::<Vec<_>>(), [(NodeId(3), 9096), (NodeId(5), 9098), (NodeId(6), 9099)]);
    assert_eq!(config.listeners.max_connections, 5);
}

#[test]
fn a_wrong_override_is_reported_by_the_name_that_the_user_wrote() {
    let found = Config::from_yaml("", &[upstream(), set("listen.bootstrap", "here"), set("listen.node_ids", "1,1")]);
    let found: Vec<String> = found.err().iter().flat_map(Problems::iter).map(|problem| problem.at.clone()).collect();
    assert_eq!(found, ["--listen.bootstrap", "--listen.node_ids"]);
}

#[test]
fn defaults_are_the_designs_first_values() {
    let config = valid("");
    assert_eq!(config.session.max_request_bytes, 104_857_600);
    assert_eq!(config.session.max_slots, 1024);
    assert_eq!(config.session.max_head_bytes, 4096);
    assert_eq!(config.listeners.max_connections, 10_000);
    assert_eq!(config.driver.handshake_timeout, Duration::from_secs(10));
    assert_eq!(config.transport.connect_timeout, Duration::from_secs(10));
    assert_eq!(config.discovery.poll_interval, Duration::from_secs(30));
    assert_eq!(config.discovery.min_interval, Duration::from_millis(50));
    assert_eq!(config.listeners.overflow, Some(19193..=19292));
    assert_eq!(config.log, Log { format: LogFormat::Text, filter: "info".to_owned() });
}

/// The values of a document, by the path of their key in the table.
fn flattened(yaml: &str) -> Vec<(String, Value)> {
    let Ok(Value::Mapping(top)) = serde_yaml::from_str(yaml) else { panic!("not a mapping") };
    let mut flat = Vec::new();
    for (name, value) in top {
        let name = name.as_str().unwrap_or_default().to_owned();
        match value {
            Value::Mapping(section) if keys::is_section(&name) => {
                flat.extend(section.into_iter().map(|(inner, value)| (format!("{name}.{}", inner.as_str().unwrap_or_default()), value)));
            }
            value => flat.push((name, value)),
        }
    }
    flat
}

#[test]
fn the_annotated_file_and_the_code_agree() {
    let yaml = include_str!("../../config/evenkeel.yaml");
    let file = flattened(yaml);
    let listed: Vec<&str> = file.iter().map(|(path, _)| path.as_str()).collect();
    let known: Vec<&str> = KEYS.iter().map(|key| key.path).collect();
    assert_eq!(listed, known, "every key, in the table's order");
    for (key, (path, value)) in KEYS.iter().zip(&file) {
        let default = key.default.map_or(Value::Null, |text| serde_yaml::from_str(text).unwrap_or(Value::Null));
        if path != "upstream.bootstrap" {
            assert_eq!(*value, default, "{path}: the file's value and the table's default");
        }
    }
    let from_file = Config::from_yaml(yaml, &[]).unwrap_or_else(|problems| panic!("{problems}"));
    let from_defaults = valid("");
    let without_upstream = |mut config: Config| {
        config.discovery.bootstrap.clear();
        format!("{config:?}")
    };
    assert_eq!(without_upstream(from_file), without_upstream(from_defaults));
}

#[test]
fn the_annotated_file_explains_every_key() {
    let mut above = "";
    let mut unexplained = BTreeSet::new();
    for line in include_str!("../../config/evenkeel.yaml").lines() {
        let is_key = !line.trim_start().starts_with(['#', '-']) && line.contains(':');
        let is_section = is_key && !line.starts_with(' ') && line.ends_with(':');
        if is_key && !is_section && !above.trim_start().starts_with('#') {
            unexplained.insert(line.trim());
        }
        above = line;
    }
    // Said together with the key above it.
    assert_eq!(unexplained, BTreeSet::from(["backoff_max: 5s", "backoff_max: 500ms", "kept_bytes: 256MiB"]));
}

#[test]
fn the_sidecars_file_loads() {
    let config = Config::from_yaml(include_str!("../../config/sidecar.yaml"), &[]).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(config.listeners.bootstrap.ip().is_loopback());
    assert!(config.admin.is_some_and(|admin| admin.ip().is_unspecified()), "kubelet's probes come from outside the pod");
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn the_tables_defaults_lie_within_its_bounds() {
    // An out-of-bounds default would be silently replaced by the lower bound.
    for key in KEYS {
        let Some(default) = key.default else { continue };
        let text = if matches!(key.kind, Kind::Own) { default.to_owned() } else { format!("'{default}'") };
        let yaml = match key.path.split_once('.') {
            Some((section, name)) => format!("{section}: {{{name}: {text}}}"),
            None => format!("{}: {text}", key.path),
        };
        let found = Config::from_yaml(&yaml, &[upstream()]).err();
        assert_eq!(found, None, "{}", key.path);
    }
}
