//! What an operator is told of the store: metrics, readiness, and one line a transition.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::backend::Backend;
use crate::harness::binary::{Running, Signal};
use crate::harness::client::get;
use crate::harness::eventually;
use crate::harness::gateway::preamble;
use crate::harness::redis::RedisServer;

use super::{PATIENT, Site, store_at};

const RULES: &str = "
routes:
  - { name: local, match: { path: /local }, upstream: app, limits: [{ key: ip, windows: { w: 3/hour } }] }
  - { name: closed, match: { path: /closed }, upstream: app, limits: [{ key: ip, windows: { w: 3/hour }, on_store_error: closed }] }
";

const SOON: Duration = Duration::from_secs(10);

async fn readiness(gateway: &Running) -> (u16, Value) {
    let answer = get(gateway.admin, "/readyz").await;
    (answer.status, answer.json())
}

async fn store_is(gateway: &Running, state: &str) {
    let what = format!("a store that is {state}");
    eventually(&what, SOON, async || (readiness(gateway).await.1["store"] == state).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_tell_of_the_store() {
    let mut site = Site::start(1, PATIENT, RULES).await;
    assert_eq!(site.statuses(0, "/local", 6).await, [200, 200, 200, 429, 429, 429]);
    let gateway = &site.gateways[0];
    store_is(gateway, "up").await;
    for (series, value) in [
        ("tollgate_store_up", 1.0),
        ("tollgate_store_breaker_open", 0.0),
        ("tollgate_store_errors_total{kind=\"timeout\"}", 0.0),
        ("tollgate_store_errors_total{kind=\"disconnected\"}", 0.0),
        ("tollgate_store_fallback_decisions_total{policy=\"local\"}", 0.0),
        ("tollgate_store_refused_in_node_total", 2.0),
        ("tollgate_store_round_trip_seconds_count", 4.0),
    ] {
        assert_eq!(gateway.metric(series).await, value, "{series}");
    }
    site.redis.kill_9();
    assert_eq!(site.statuses(0, "/closed", 2).await, [503, 503]);
    let gateway = &site.gateways[0];
    store_is(gateway, "down").await;
    assert_eq!(gateway.metric("tollgate_store_up").await, 0.0);
    assert_eq!(gateway.metric("tollgate_store_breaker_open").await, 1.0);
    assert_eq!(gateway.metric("tollgate_store_fallback_decisions_total{policy=\"closed\"}").await, 2.0);
    assert!(gateway.metric("tollgate_store_errors_total{kind=\"disconnected\"}").await >= 1.0);
    let away = "tollgate_requests_total{route=\"closed\",verdict=\"store_away\"}";
    assert_eq!(gateway.metric(away).await, 2.0);
    assert_eq!(readiness(gateway).await, (200, json!({ "phase": "ready", "store": "down" })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_needs_the_store_is_not_ready_without_it() {
    let (mut redis, backend) = (RedisServer::start().await, Backend::ok().await);
    let store = store_at(&redis.url(), PATIENT);
    let needy = preamble(backend.addr()).replace("admin: {", "admin: { ready_needs_store: true,");
    let gateway = Running::launch(&needy, &format!("{store}{RULES}"), &[]).await;
    let local = RULES.lines().filter(|line| !line.contains("closed")).collect::<Vec<_>>().join("\n");
    let content = Running::launch(&needy, &format!("{store}{local}\n"), &[]).await;
    store_is(&gateway, "up").await;
    assert_eq!(readiness(&gateway).await, (200, json!({ "phase": "ready", "store": "up" })));
    redis.kill_9();
    store_is(&gateway, "down").await;
    assert_eq!(readiness(&gateway).await, (503, json!({ "phase": "ready", "store": "down" })));
    store_is(&content, "down").await;
    assert_eq!(readiness(&content).await.0, 200, "no limit of its is closed");
    redis.restart_empty().await;
    store_is(&gateway, "up").await;
    assert_eq!(readiness(&gateway).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_transition_is_one_line() {
    let mut site = Site::start(1, PATIENT, RULES).await;
    let mut gateway = site.gateways.remove(0);
    gateway.binary.stdout.line_with("the shared store answers").await;
    for _ in 0..2 {
        let said = |log: &str, line: &str| log.matches(line).count();
        let (away, back) = ("the shared store is away", "the shared store is back");
        let before = said(&gateway.binary.stdout.text(), away);
        site.redis.kill_9();
        let address = gateway.address;
        for _ in 0..20 {
            assert!(matches!(get(address, "/local").await.status, 200 | 429));
        }
        gateway.binary.stdout.until(away, |log| said(log, away) > before).await;
        site.redis.restart_empty().await;
        gateway.binary.stdout.until(back, |log| said(log, back) > before).await;
    }
    gateway.binary.signal(Signal::Terminate);
    let said = gateway.binary.ended().await.stdout;
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("the shared store")).collect();
    assert_eq!(lines.len(), 5, "answers, away, back, away, back:\n{said}");
    let away: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(away["level"], "ERROR");
    assert!(away["why"].as_str().is_some_and(|why| !why.is_empty()), "{away}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_starts_without_its_store_and_finds_it_later() {
    let (mut redis, backend) = (RedisServer::start().await, Backend::ok().await);
    redis.kill_9();
    let rules = format!("{}{RULES}", store_at(&redis.url(), "timeout: 2s"));
    let mut gateway = Running::start(&backend, &rules).await;
    gateway.binary.stdout.line_with("the shared store is away").await;
    let statuses =
        async |path: &str| [get(gateway.address, path).await.status, get(gateway.address, path).await.status];
    assert_eq!(statuses("/local").await, [200, 200]);
    assert_eq!(statuses("/local").await, [200, 429], "the node counts by itself");
    assert_eq!(statuses("/closed").await, [503, 503]);
    redis.restart_empty().await;
    store_is(&gateway, "up").await;
    assert_eq!(get(gateway.address, "/closed").await.status, 200);
    assert_eq!(redis.counters().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_drops_counters_is_warned_of() {
    let backend = Backend::ok().await;
    let redis = RedisServer::with(&["--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"]).await;
    let mut gateway = Running::start(&backend, &format!("{}{RULES}", store_at(&redis.url(), PATIENT))).await;
    let line = gateway.binary.stdout.line_with("maxmemory-policy").await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "WARN");
    assert!(line["message"].as_str().unwrap().contains("volatile-lru"), "{line}");
}
