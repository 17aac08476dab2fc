//! What is in `deploy/` and beside `docker-compose.yml` fits the gateway: rules and dashboard ask for what is served,
//! the files that gateways run by are sound, and nothing ends a gateway before it has drained.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;
use tollgate::config::{self, Environment};

use crate::harness::backend::{Backend, Reply};
use crate::harness::client::get;
use crate::harness::gateway::Gateway;

const SECRET: &str = "a-secret-of-the-tests-that-is-long-enough";

/// A file of each part that is counted.
const RULES: &str = r#"
policies:
  login: [{ key: ip, count: failures, backoff: { base: 1s, factor: 2, max: 1m, forget: 15m } }]
routes:
  - { name: send, match: { method: POST, path: /otp/send }, otp: send }
  - { name: verify, match: { method: POST, path: /otp/verify }, otp: verify }
  - { name: login, match: { method: POST, path: /login }, upstream: app, policies: [login], suspect: otp_request }
  - { name: rest, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 9/min } }] }
suspicion: [{ key: ip, weights: { otp_request: 1 }, threshold: 20/hour, block: 24h }]
"#;

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    let path = project().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn documents(path: &str) -> Vec<Value> {
    let documents = serde_yaml::from_multiple(&text(path));
    documents.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All texts under one of these keys, however deep.
fn texts_at(value: &Value, keys: &[&str]) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let own = members.iter().filter(|(key, _)| keys.contains(&key.as_str()));
            let own = own.filter_map(|(_, value)| value.as_str().map(str::to_owned));
            own.chain(members.values().flat_map(|value| texts_at(value, keys))).collect()
        }
        Value::Array(items) => items.iter().flat_map(|item| texts_at(item, keys)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}

/// Of each metric its labels, and of each label the values that are there.
type Served = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn served(page: &str) -> Served {
    let label = Regex::new(r#"(\w+)="([^"]*)""#).unwrap();
    let mut served = Served::new();
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let metric = served.entry(name.to_owned()).or_default();
        for found in label.captures_iter(labels) {
            metric.entry(found[1].to_owned()).or_default().insert(found[2].to_owned());
        }
    }
    served
}

/// What an expression asks for and nobody serves.
fn unserved(expression: &str, served: &Served) -> Vec<String> {
    // Prometheus itself says who was scraped, and whether that worked.
    const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];
    let selector = Regex::new(r"\b(up|(?:tollgate|process)_\w+)(?:\{([^}]*)\})?").unwrap();
    let matcher = Regex::new(r#"(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)""#).unwrap();
    let grouped = Regex::new(r"\bby\s*\(([^)]*)\)").unwrap();
    let mut missing = Vec::new();
    let mut labels: BTreeSet<&str> = OF_PROMETHEUS.into();
    for found in selector.captures_iter(expression) {
        let name = &found[1];
        if name == "up" {
            continue;
        }
        let Some(metric) = served.get(name) else {
            missing.push(name.to_owned());
            continue;
        };
        labels.extend(metric.keys().map(String::as_str));
        let matchers = found.get(2).map_or("", |matchers| matchers.as_str());
        for matched in matcher.captures_iter(matchers) {
            let (label, wanted) = (&matched[1], &matched[2]);
            if OF_PROMETHEUS.contains(&label) {
                continue;
            }
            let is_there = |value: &str| metric.get(label).is_some_and(|values| values.contains(value));
            // A variable of the dashboard stands for whatever there is.
            let absent = wanted.split('|').filter(|value| !value.starts_with('$') && !is_there(value));
            missing.extend(absent.map(|value| format!("{name}{{{label}=\"{value}\"}}")));
            if !metric.contains_key(label) {
                missing.push(format!("{name}{{{label}}}"));
            }
        }
    }
    for found in grouped.captures_iter(expression) {
        let absent = found[1].split(',').map(str::trim).filter(|label| !labels.contains(label));
        missing.extend(absent.map(|label| format!("by ({label})")));
    }
    missing
}

/// What a gateway serves after a code was sent and given back.
async fn page() -> String {
    let backend = Backend::ok().await;
    let provider = Backend::start(|_| Reply::json(200, r#"{"id":"m-1"}"#)).await;
    let url = provider.addr();
    let rules = format!(
        "otp: {{ secret: {SECRET} }}\nsms: {{ providers: [{{ name: gw, kind: http, cost: {{ default: 0.01, currency: \
         USD }}, request: {{ method: POST, url: \"http://{url}/send\", json: {{ to: \"{{{{ to }}}}\", text: \"{{{{ \
         text }}}}\" }} }}, success: {{ status: [200], id: /id }} }}] }}\n{RULES}"
    );
    let gateway = Gateway::start(&backend, &rules).await;
    let mut client = gateway.client().await;
    let sent = client.request("POST", "/otp/send").json(r#"{"phone":"+14155550123"}"#).send().await;
    assert_eq!(sent.status, 202, "{}", sent.text());
    let message: Value = serde_json::from_slice(&provider.wait_for(1).await[0].body).unwrap();
    let code: String = message["text"].as_str().unwrap().chars().take_while(char::is_ascii_digit).collect();
    let proof = serde_json::json!({ "id": sent.json()["id"], "code": code }).to_string();
    assert_eq!(client.request("POST", "/otp/verify").json(&proof).send().await.status, 200);
    get(gateway.admin, "/metrics").await.text().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_dashboard_ask_for_what_is_served() {
    let served = served(&page().await);
    let alerts =
        documents("deploy/prometheus/alerts.yml").iter().flat_map(|d| texts_at(d, &["expr"])).collect();
    let dashboard: Value = serde_json::from_str(&text("deploy/grafana/dashboards/tollgate.json")).unwrap();
    let panels: Vec<String> = texts_at(&dashboard, &["expr", "definition"]);
    for (what, least, expressions) in [("alerts.yml", 12, alerts), ("tollgate.json", 30, panels)] {
        let expressions: Vec<String> = expressions;
        assert!(expressions.len() >= least, "{what}: {} expressions", expressions.len());
        for expression in &expressions {
            let missing = unserved(expression, &served);
            assert!(missing.is_empty(), "{what}: {missing:?} of {expression}");
        }
    }
    for (wrong, missing) in [
        ("rate(tollgate_request_total[5m])", "tollgate_request_total"),
        (r#"tollgate_requests_total{verdict="limitd"}"#, r#"tollgate_requests_total{verdict="limitd"}"#),
        ("sum by (rout) (tollgate_requests_total)", "by (rout)"),
    ] {
        assert_eq!(unserved(wrong, &served), [missing]);
    }
}

#[test]
fn every_panel_has_a_place_and_a_source_that_is_there() {
    let dashboard: Value = serde_json::from_str(&text("deploy/grafana/dashboards/tollgate.json")).unwrap();
    let sources = documents("deploy/grafana/provisioning/datasources/prometheus.yaml");
    let provisioned = texts_at(&sources[0], &["uid"]);
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        let place = &panel["gridPos"];
        assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{title}");
        let targets = panel["targets"].as_array().map_or(0, Vec::len);
        assert_eq!(targets == 0, panel["type"] == "row", "{title}");
        for source in texts_at(panel, &["uid"]) {
            assert!(provisioned.contains(&source), "{title}: {source}");
        }
    }
}

fn environment() -> Environment {
    let secrets = ["JWT_SECRET", "STORE_SECRET", "REDIS_PASSWORD", "TOLLGATE_ADMIN_TOKEN"];
    let secrets = secrets.into_iter().fold(Environment::empty(), |all, name| all.with(name, SECRET));
    secrets.with("REDIS_URL", format!("redis://:{SECRET}@redis:6379/0"))
}

/// Loads a file that gateways are to run by, from a folder of its own.
fn load(file: &str) -> config::Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, file).unwrap();
    let loaded = config::load(&path, &environment()).unwrap_or_else(|refused| panic!("{refused}"));
    let warnings: Vec<String> = loaded.warnings.iter().map(|warning| warning.brief().to_string()).collect();
    assert!(warnings.is_empty(), "{warnings:?}");
    loaded.config
}

/// The documents of a kind in deploy/kubernetes.
fn manifests(kind: &str) -> Vec<Value> {
    let folder = project().join("deploy/kubernetes");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name();
        let path = Path::new("deploy/kubernetes").join(name);
        found.extend(
            documents(path.to_str().unwrap()).into_iter().filter(|document| document["kind"] == kind),
        );
    }
    found
}

fn only(kind: &str) -> Value {
    let found = manifests(kind);
    assert_eq!(found.len(), 1, "{kind}");
    found.into_iter().next().unwrap()
}

#[test]
fn the_gateways_of_compose_and_kubernetes_run_by_sound_files() {
    let compose = load(&text("compose/gateway.yaml"));
    assert_eq!(compose.admin.address.port(), 9180, "what deploy/prometheus/prometheus.yml scrapes");
    let config = only("ConfigMap");
    let kubernetes = load(config["data"]["gateway.yaml"].as_str().unwrap());
    let pod = &only("Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let port = |name: &str| {
        let ports = container["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["name"] == name).unwrap();
        u16::try_from(port["containerPort"].as_u64().unwrap()).unwrap()
    };
    assert_eq!(port("admin"), kubernetes.admin.address.port());
    let file: Value = serde_yaml::from_str(config["data"]["gateway.yaml"].as_str().unwrap()).unwrap();
    let address: SocketAddr = file["listen"][0]["address"].as_str().unwrap().parse().unwrap();
    assert_eq!(port("http"), address.port());
    assert_eq!(only("Service")["spec"]["ports"][0]["targetPort"], "http");
}

#[test]
fn pods_are_found_by_the_service_and_the_budget_and_may_do_nothing_else() {
    let deployment = only("Deployment");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(&deployment["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(&only("Service")["spec"]["selector"], labels);
    assert_eq!(&only("PodDisruptionBudget")["spec"]["selector"]["matchLabels"], labels);
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false);
    assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL");
    let drain = load(only("ConfigMap")["data"]["gateway.yaml"].as_str().unwrap()).drain;
    let pre_stop_s: u64 =
        container["lifecycle"]["preStop"]["exec"]["command"][1].as_str().unwrap().parse().unwrap();
    let needed_s = pre_stop_s + drain.delay.ceil_secs() + drain.within.ceil_secs();
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > needed_s);
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
    assert!(manifests("Secret").is_empty(), "secrets are named, never written down");
    assert_eq!(container["envFrom"][0]["secretRef"]["name"], "tollgate");
}

#[test]
fn systemd_opens_the_sockets_that_the_shipped_file_names() {
    let unit = text("deploy/systemd/tollgate.socket");
    let opened = unit.lines().filter_map(|line| line.strip_prefix("ListenStream="));
    let opened: Vec<SocketAddr> = opened.map(|address| address.parse().unwrap()).collect();
    let shipped = config::load(&project().join("gateway.yaml"), &Environment::empty()).unwrap().config;
    let named: Vec<SocketAddr> = shipped.listen.iter().map(|spec| spec.address).collect();
    assert_eq!(opened, [named, vec![shipped.admin.address]].concat());
}
