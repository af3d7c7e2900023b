//! Holds what is under `deploy/` against the schemas of what reads it, and against the program that it starts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use evenkeel::config::Config;
use serde::Deserialize;
use serde_yaml::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_evenkeel");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn documents(path: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(&read(path)).map(|document| Value::deserialize(document).expect("is YAML")).collect()
}

fn of_kind(path: &str, kind: &str) -> Value {
    documents(path).into_iter().find(|document| document["kind"] == kind).unwrap_or_else(|| panic!("{path} has no {kind}"))
}

fn list<'a>(value: &'a Value, what: &str) -> Vec<&'a Value> {
    value.as_sequence().unwrap_or_else(|| panic!("{what} is a list")).iter().collect()
}

fn texts(value: &Value) -> Vec<&str> {
    list(value, "texts").into_iter().map(|text| text.as_str().expect("is a text")).collect()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The program's own judgement of a container's environment.
fn check(environment: &[(String, String)]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("check").env_clear().envs(environment.iter().cloned());
    command.output().expect("the program starts")
}

/// A Python with the packages of tests/deploy/requirements.txt, made once and kept under target/.
fn python() -> PathBuf {
    let requirements = root().join("tests/deploy/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements).expect("is there");
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("deploy-python");
    let python = environment.join("bin/python");
    let stamp = environment.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return python;
    }
    let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment).output().expect("python3 is there");
    assert!(made.status.success(), "{}", said(&made));
    let installed =
        Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements).output().expect("pip starts");
    assert!(installed.status.success(), "{}", said(&installed));
    std::fs::write(&stamp, wanted).expect("is writable");
    python
}

#[test]
fn kubernetes_takes_the_manifests() {
    let python = python();
    let validate = |paths: &[&str]| {
        let mut command = Command::new(&python);
        command.arg("tests/deploy/validate.py").args(paths).current_dir(root());
        command.output().expect("python starts")
    };
    let manifests = ["sidecar.yaml", "standalone.yaml", "podmonitor.yaml", "alerts.yaml"].map(|name| format!("deploy/kubernetes/{name}"));
    let manifests: Vec<&str> = manifests.iter().map(String::as_str).collect();
    let there: BTreeSet<String> = std::fs::read_dir(root().join("deploy/kubernetes"))
        .expect("is there")
        .map(|entry| format!("deploy/kubernetes/{}", entry.expect("is readable").file_name().to_string_lossy()))
        .collect();
    assert_eq!(there, manifests.iter().map(ToString::to_string).collect(), "every manifest is held");
    let judged = validate(&manifests);
    assert!(judged.status.success(), "{}", said(&judged));

    // And the judge finds mistakes.
    let judged = validate(&["tests/deploy/wrong.yaml"]);
    assert_eq!(judged.status.code(), Some(1), "{}", said(&judged));
    for document in documents("tests/deploy/wrong.yaml") {
        let name = document["metadata"]["name"].as_str().expect("has a name");
        let mistake = document["metadata"]["annotations"]["mistake"].as_str().expect("has a mistake");
        assert!(said(&judged).lines().any(|line| line.contains(name) && line.contains(mistake)), "{name}: {}", said(&judged));
    }
}

/// The names of our metrics in a rule or a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !word(c)).filter(|word| word.starts_with("evenkeel_")).map(str::to_owned).collect()
}

#[test]
fn alerts_and_readme_name_metrics_and_labels_that_there_are() {
    // Families without a series yet are not gathered: those whose labels come with use.
    let metrics = evenkeel::metrics::Metrics::new();
    metrics.limit_hits.with_label_values(&["connections"]);
    metrics.upstream_connect_failures.with_label_values(&["refused"]);
    let gathered = metrics.registry.gather();
    let mut there: BTreeSet<String> = gathered.iter().map(|family| family.name().to_owned()).collect();
    let histograms = gathered.iter().filter(|family| family.name().ends_with("_seconds"));
    let parts: Vec<String> =
        histograms.flat_map(|family| ["_bucket", "_count", "_sum"].map(|part| format!("{}{part}", family.name()))).collect();
    there.extend(parts);
    let mut alerts = BTreeSet::new();
    for group in list(&of_kind("deploy/kubernetes/alerts.yaml", "PrometheusRule")["spec"]["groups"], "groups") {
        for rule in list(&group["rules"], "rules") {
            let (name, rule_text) = (rule["alert"].as_str().expect("has a name"), rule["expr"].as_str().expect("is a text"));
            assert!(alerts.insert(name.to_owned()), "{name} twice");
            let named = metrics_in(rule_text);
            assert!(!named.is_empty() && named.is_subset(&there), "{name}: {named:?}");
            assert!(rule["annotations"]["summary"].is_string() && rule["annotations"]["description"].is_string(), "{name}");
            if let Some((metric, label)) = rule_text.split_once("{kind=\"").map(|(before, after)| (metrics_in(before), after)) {
                let label = label.split('"').next().expect("a value");
                let of_metric = gathered.iter().filter(|family| metric.contains(family.name())).flat_map(|family| family.get_metric());
                let mut values = of_metric.flat_map(|series| series.get_label()).map(|pair| pair.value());
                assert!(values.any(|value| value == label), "{name}: {label}");
            }
        }
    }
    let named = metrics_in(&read("README.md"));
    assert!(!named.is_empty() && named.is_subset(&there), "{:?}", named.difference(&there).collect::<Vec<_>>());
}

#[test]
fn the_standalone_config_loads_and_its_ports_are_the_services() {
    let path = "deploy/kubernetes/standalone.yaml";
    let map = of_kind(path, "ConfigMap");
    let config =
        Config::from_yaml(map["data"]["evenkeel.yaml"].as_str().expect("is a text"), &[]).unwrap_or_else(|wrong| panic!("{wrong}"));

    let service = of_kind(path, "Service");
    let mut reachable = BTreeSet::new();
    for port in list(&service["spec"]["ports"], "ports") {
        // Clients are told the port that Evenkeel listens on, so the Service must not translate.
        assert_eq!(port["port"], port["targetPort"]);
        reachable.insert(port["port"].as_u64().expect("is a number"));
    }
    let mut listening: BTreeSet<u64> = config.listeners.ports.values().map(|port| u64::from(*port)).collect();
    listening.insert(u64::from(config.listeners.bootstrap.port()));
    assert_eq!(reachable, listening);
    assert_eq!(config.listeners.overflow, None, "the Service could not know these ports");

    let (name, namespace) = (&service["metadata"]["name"], &service["metadata"]["namespace"]);
    assert_eq!(
        *config.listeners.advertised_host,
        format!("{}.{}.svc", name.as_str().unwrap_or_default(), namespace.as_str().unwrap_or_default())
    );
    assert_eq!(service["spec"]["sessionAffinity"], "ClientIP");
}

#[test]
fn the_standalone_parts_belong_together() {
    let path = "deploy/kubernetes/standalone.yaml";
    let deployment = of_kind(path, "Deployment");
    let pod = &deployment["spec"]["template"];
    let labels = &pod["metadata"]["labels"];
    let name = &labels["app.kubernetes.io/name"];
    for (kind, selector) in
        [("Service", "/selector"), ("PodDisruptionBudget", "/selector/matchLabels"), ("Deployment", "/selector/matchLabels")]
    {
        let object = of_kind(path, kind);
        let selected = selector.split('/').skip(1).fold(&object["spec"], |value, key| &value[key]);
        assert_eq!(selected["app.kubernetes.io/name"], *name, "{kind}");
    }
    let mounted = &pod["spec"]["containers"][0]["volumeMounts"][0];
    let args = texts(&pod["spec"]["containers"][0]["args"]);
    let directory = mounted["mountPath"].as_str().expect("is a path");
    assert_eq!(args, ["run", "--config", &format!("{directory}/evenkeel.yaml")]);
    assert_eq!(pod["spec"]["volumes"][0]["configMap"]["name"], of_kind(path, "ConfigMap")["metadata"]["name"]);
}

/// Evenkeel's containers in the manifests, each with its pod's spec and labels.
fn containers() -> Vec<(&'static str, Value, Value)> {
    let sidecar = of_kind("deploy/kubernetes/sidecar.yaml", "Deployment")["spec"]["template"].clone();
    let standalone = of_kind("deploy/kubernetes/standalone.yaml", "Deployment")["spec"]["template"].clone();
    vec![
        ("sidecar", sidecar["spec"]["initContainers"][0].clone(), sidecar),
        ("standalone", standalone["spec"]["containers"][0].clone(), standalone),
    ]
}

#[test]
fn containers_are_probed_confined_and_scraped() {
    let monitor = of_kind("deploy/kubernetes/podmonitor.yaml", "PodMonitor");
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    for (name, container, pod) in containers() {
        let ports = list(&container["ports"], "ports");
        let admin = ports.iter().find(|port| port["name"] == endpoint["port"]).unwrap_or_else(|| panic!("{name}: no port to scrape"));
        assert_eq!(admin["containerPort"], 19000, "{name}");
        for (probe, path) in [("startupProbe", "/healthz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")] {
            assert_eq!(container[probe]["httpGet"]["path"], path, "{name} {probe}");
            assert_eq!(container[probe]["httpGet"]["port"], admin["name"], "{name} {probe}");
        }
        let confined = &container["securityContext"];
        assert_eq!(confined["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(confined["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(texts(&confined["capabilities"]["drop"]), ["ALL"], "{name}");
        let of_pod = &pod["spec"]["securityContext"];
        assert_eq!(of_pod["runAsNonRoot"], true, "{name}");
        assert_eq!(of_pod["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        let user = if confined["runAsUser"].is_null() { &of_pod["runAsUser"] } else { &confined["runAsUser"] };
        assert_eq!(*user, 65532, "{name}: the image's user");
        assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
        let selected = monitor["spec"]["selector"]["matchLabels"].as_mapping().expect("is a mapping");
        for (label, value) in selected {
            assert_eq!(pod["metadata"]["labels"][label], *value, "{name}: scraped");
        }
        assert_eq!(pod["spec"]["enableServiceLinks"], false, "{name}");
    }
    assert_eq!(containers()[0].1["restartPolicy"], "Always", "a native sidecar");
}

#[test]
fn drains_fit_into_the_time_until_the_kill() {
    let drain = evenkeel::config::KEYS.iter().find(|key| key.path == "timeouts.drain").and_then(|key| key.default);
    let drain = humantime::parse_duration(drain.expect("has a default")).expect("is a time").as_secs();
    for (name, container, pod) in containers() {
        let pause = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0);
        let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().expect("is said");
        assert!(grace > drain + pause, "{name}: {grace} s");
    }
    let unit = read("deploy/systemd/evenkeel.service");
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")).expect("is said");
    assert!(humantime::parse_duration(stop).expect("is a time").as_secs() > drain, "{stop}");
    let grace = documents("deploy/compose.yaml")[0]["services"]["evenkeel"]["stop_grace_period"].clone();
    assert!(humantime::parse_duration(grace.as_str().expect("is a time")).expect("is a time").as_secs() > drain);
}

#[test]
fn the_sidecars_environment_is_a_valid_configuration() {
    let (_, container, _) = containers().remove(0);
    let environment: Vec<(String, String)> = list(&container["env"], "env")
        .into_iter()
        .map(|variable| {
            (variable["name"].as_str().unwrap_or_default().to_owned(), variable["value"].as_str().unwrap_or_default().to_owned())
        })
        .collect();
    let checked = check(&environment);
    assert!(checked.status.success(), "{}", said(&checked));
    assert!(said(&checked).contains("127.0.0.1:19092"), "{}", said(&checked));
    assert!(said(&checked).contains("0.0.0.0 19000"), "{}", said(&checked));
}

#[test]
fn compose_publishes_the_ports_that_clients_are_told() {
    let compose = documents("deploy/compose.yaml").remove(0);
    let service = &compose["services"]["evenkeel"];
    let environment: Vec<(String, String)> = service["environment"]
        .as_mapping()
        .expect("is a mapping")
        .iter()
        .map(|(name, value)| (name.as_str().unwrap_or_default().to_owned(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    let checked = check(&environment);
    assert!(checked.status.success(), "{}", said(&checked));
    let told = said(&checked);
    assert!(told.contains("localhost:19092") && told.contains("localhost:19093-19102"), "{told}");
    assert_eq!(texts(&service["ports"]), ["127.0.0.1:19092-19102:19092-19102", "127.0.0.1:19000:19000"]);
    assert_eq!(texts(&service["healthcheck"]["test"]), ["CMD", "/evenkeel", "probe", "--ready"]);
    assert_eq!(service["read_only"], true);
    assert_eq!(service["user"], "65532:65532");
    assert!(root().join("deploy").join(service["build"]["context"].as_str().expect("is a path")).join("Dockerfile").exists());
}

#[test]
fn systemd_takes_the_unit() {
    let unit = read("deploy/systemd/evenkeel.service");
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("starts something");
    assert_eq!(start, "/usr/local/bin/evenkeel run --config /etc/evenkeel/evenkeel.yaml");
    assert!(unit.contains("\nRestartPreventExitStatus=2\n"), "a wrong configuration does not get better by trying again");

    // By systemd itself where it is there, with the binary at hand in place of the installed one.
    let directory = tempfile::tempdir().expect("is writable");
    let path = directory.path().join("evenkeel-under-test.service");
    std::fs::write(&path, unit.replace("/usr/local/bin/evenkeel", PROGRAM)).expect("is writable");
    match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        Ok(verified) => {
            assert!(verified.status.success(), "{}", said(&verified));
            let ours: Vec<String> = said(&verified).lines().filter(|line| line.contains("evenkeel")).map(str::to_owned).collect();
            assert!(ours.is_empty(), "{ours:?}");
        }
        Err(_) => unit_is_well_formed(&unit),
    }
}

fn unit_is_well_formed(unit: &str) {
    let mut sections = Vec::new();
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            Some(section) => sections.push(section),
            None => assert!(line.split_once('=').is_some_and(|(key, _)| key.bytes().all(|byte| byte.is_ascii_alphanumeric())), "{line}"),
        }
    }
    assert_eq!(sections, ["Unit", "Service", "Install"]);
}

#[test]
fn the_image_is_built_from_what_its_context_has() {
    let dockerfile = read("Dockerfile");
    let allowed: BTreeSet<String> = read(".dockerignore").lines().filter_map(|line| line.strip_prefix('!')).map(str::to_owned).collect();
    let (_, image) = dockerfile.split_once("FROM scratch").expect("the image itself begins from nothing");
    assert!(!image.lines().any(|line| line.starts_with("RUN ")), "nothing runs in an image without a shell");
    for line in dockerfile.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|line| !line.starts_with("--from")) {
        let mut sources: Vec<&str> = line.split(' ').collect();
        sources.pop();
        for source in sources {
            assert!(root().join(source).exists(), "{source} is there");
            assert!(allowed.contains(source), "{source} is in the build's context");
        }
    }
    let instruction = |name: &str| {
        let found = image.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_else(|| panic!("the image has {name}")).trim()
    };
    let user = instruction("USER");
    assert!(user.split(':').all(|id| id.parse::<u32>().is_ok_and(|id| id > 0)), "{user}: a number, and not root");
    assert!(instruction("HEALTHCHECK").ends_with(r#"CMD ["/evenkeel", "probe"]"#));
    assert_eq!(instruction("ENTRYPOINT"), r#"["/evenkeel"]"#);
    assert!(image.contains(&format!("ARG VERSION={}", env!("CARGO_PKG_VERSION"))));
    for label in ["title", "description", "licenses", "version", "revision"] {
        assert!(image.contains(&format!("org.opencontainers.image.{label}=")), "{label}");
    }
}
