//! What operators see: exact counts after traffic that is known, and no series that a client could make.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::harness::backend::{Backend, Gate, Reply};
use crate::harness::client::{Answer, Client, get};
use crate::harness::gateway::{Gateway, seconds, value_of};

const RULES: &str = r#"
access: { allow: [127.0.0.8], deny: [127.0.0.9] }
policies:
  login:
    - { key: ip, windows: { burst: 2/min, hourly: 3/hour } }
    - { key: body.name, windows: { name: 1/min }, mode: shadow }
routes:
  - { name: login, match: { method: POST, path: /login }, upstream: app, policies: [login] }
  - { name: blocking, match: { path: /blocking }, upstream: app, limits: [{ key: ip, windows: { w: 1/min }, block: 10m }] }
  - { name: free, match: { path: "/free/{id}" }, upstream: app }
"#;

/// The series of these families that are not zero.
fn counted(page: &str, families: &[&str]) -> BTreeMap<String, f64> {
    let series = page.lines().filter(|line| families.iter().any(|family| line.starts_with(family)));
    let values = series.map(|line| line.rsplit_once(' ').unwrap());
    values.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).filter(|(_, v)| *v != 0.0).collect()
}

/// The names and labels of all series.
fn series(page: &str) -> BTreeSet<String> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

fn expected<const N: usize>(pairs: [(&str, f64); N]) -> BTreeMap<String, f64> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn log_in(client: &mut Client, name: &str) -> u16 {
    client.request("POST", "/login").json(&format!(r#"{{"name":"{name}"}}"#)).send().await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_is_counted_once_under_what_became_of_it() {
    let backend = Backend::start(|request| match request.target.as_str() {
        "/free/3" => Reply::new(302),
        "/free/4" => Reply::json(401, "{}"),
        "/free/5" => Reply::new(503),
        "/free/6" => Reply::hang_up(),
        _ => Reply::json(200, "{}"),
    })
    .await;
    let (gateway, clock) = Gateway::with_clock(&backend, RULES).await;
    let mut client = gateway.client().await;
    assert_eq!(log_in(&mut client, "ada").await, 200);
    assert_eq!(log_in(&mut client, "ada").await, 200, "the limit by name is in its shadow");
    assert_eq!(log_in(&mut client, "bob").await, 429);
    clock.advance(seconds(60));
    assert_eq!(log_in(&mut client, "bob").await, 200);
    assert_eq!(log_in(&mut client, "bob").await, 429, "refused by the hour now");
    assert_eq!(client.request("POST", "/login").json("no JSON").send().await.status, 429, "the cheap no");
    for (path, status) in [("/blocking", 200), ("/blocking", 429), ("/blocking", 429), ("/nowhere", 404)] {
        assert_eq!(client.request("GET", path).send().await.status, status, "{path}");
    }
    for (path, status) in [("/free/1", 200), ("/free/3", 302), ("/free/4", 401), ("/free/5", 503)] {
        assert_eq!(client.request("GET", path).send().await.status, status, "{path}");
    }
    assert_eq!(client.request("GET", "/free/a%2Fb").send().await.status, 400);
    let mut elsewhere = Client::connect_from(IpAddr::from([127, 0, 0, 7]), gateway.address).await;
    let text = elsewhere.request("POST", "/login").header("content-type", "image/png").body("x").send().await;
    assert_eq!(text.status, 415);
    let mut allowed = Client::connect_from(IpAddr::from([127, 0, 0, 8]), gateway.address).await;
    assert_eq!(log_in(&mut allowed, "ada").await, 200);
    let mut denied = Client::connect_from(IpAddr::from([127, 0, 0, 9]), gateway.address).await;
    assert_eq!(log_in(&mut denied, "ada").await, 403);
    assert_eq!(client.request("GET", "/free/6").send().await.status, 502);

    let page = gateway.metrics().await;
    assert_eq!(
        counted(&page, &["tollgate_requests_total", "tollgate_refusals_total"]),
        expected([
            (r#"tollgate_requests_total{route="login",verdict="admitted"}"#, 3.0),
            (r#"tollgate_requests_total{route="login",verdict="limited"}"#, 3.0),
            (r#"tollgate_requests_total{route="login",verdict="body_refused"}"#, 1.0),
            (r#"tollgate_requests_total{route="login",verdict="exempt"}"#, 1.0),
            (r#"tollgate_requests_total{route="blocking",verdict="admitted"}"#, 1.0),
            (r#"tollgate_requests_total{route="blocking",verdict="blocked"}"#, 2.0),
            (r#"tollgate_requests_total{route="free",verdict="admitted"}"#, 5.0),
            (r#"tollgate_requests_total{route="free",verdict="malformed"}"#, 1.0),
            (r#"tollgate_requests_total{route="-",verdict="no_route"}"#, 1.0),
            (r#"tollgate_requests_total{route="-",verdict="denied"}"#, 1.0),
            (&refusal("login", "login", "ip", "burst", "enforce"), 1.0),
            (&refusal("login", "login", "ip", "hourly", "enforce"), 2.0),
            (&refusal("login", "login", "body.name", "name", "shadow"), 1.0),
            (&refusal("blocking", "blocking", "ip", "block", "enforce"), 2.0),
        ])
    );
    assert_eq!(
        counted(&page, &["tollgate_upstream_responses_total", "tollgate_upstream_failures_total"]),
        expected([
            (r#"tollgate_upstream_responses_total{class="2xx",upstream="app"}"#, 6.0),
            (r#"tollgate_upstream_responses_total{class="3xx",upstream="app"}"#, 1.0),
            (r#"tollgate_upstream_responses_total{class="4xx",upstream="app"}"#, 1.0),
            (r#"tollgate_upstream_responses_total{class="5xx",upstream="app"}"#, 1.0),
            (r#"tollgate_upstream_failures_total{kind="closed",upstream="app"}"#, 1.0),
        ])
    );
    let requests: f64 = counted(&page, &["tollgate_requests_total"]).values().sum();
    for (name, value) in [
        ("tollgate_decision_seconds_count", requests),
        (r#"tollgate_upstream_seconds_count{upstream="app"}"#, 9.0),
        ("tollgate_store_keys", 4.0),
        ("tollgate_store_blocks", 1.0),
        ("tollgate_store_overflow_keys", 0.0),
        ("tollgate_store_overflows_total", 0.0),
        (r#"tollgate_config_reloads_total{result="ok"}"#, 1.0),
        (r#"tollgate_config_reloads_total{result="failed"}"#, 0.0),
        (r#"tollgate_config_last_reload_timestamp_seconds{result="ok"}"#, 1_800_000_000.0),
        (&format!("tollgate_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0),
    ] {
        assert!(page.contains(&format!("\n{name} ")), "{name} is missing in\n{page}");
        assert_eq!(value_of(name, &page), value, "{name}");
    }
    assert!(value_of("tollgate_store_keys_max", &page) > 900_000.0);
}

fn refusal(route: &str, policy: &str, key: &str, window: &str, mode: &str) -> String {
    format!(
        "tollgate_refusals_total{{key=\"{key}\",mode=\"{mode}\",policy=\"{policy}\",route=\"{route}\",window=\"{window}\"}}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_can_make_a_series() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    let mut client = gateway.client().await;
    for path in ["/free/1", "/nowhere", "/blocking"] {
        client.request("GET", path).send().await;
    }
    log_in(&mut client, "ada").await;
    let before = series(&gateway.metrics().await);
    for number in 0..50 {
        let mut client = Client::connect_from(IpAddr::from([127, 2, 0, number]), gateway.address).await;
        let paths = [
            format!("/free/{number}"),
            format!("/{number}"),
            format!("/free/%0a{{route=%22x{number}%22}}"),
            format!("/free/%2e%2e/%00{number}"),
            format!("/free/{}", "x".repeat(1000 + usize::from(number))),
        ];
        for path in &paths {
            client.request(&format!("M{number}"), path).send().await;
            client.request("GET", path).header("host", format!("h{number}.example")).send().await;
        }
        client.request("GET", "/free/1").header("x-user-id", format!("u{number}")).send().await;
        log_in(&mut client, &format!("user{number}\",route=\"x")).await;
    }
    let after = series(&gateway.metrics().await);
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_ends_before_the_requests_in_flight_do() {
    let gate = Gate::shut();
    let held = gate.clone();
    let backend = Backend::start(move |_| Reply::json(200, "{}").after(&held)).await;
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    let (address, admin) = (gateway.address, gateway.admin);
    let status = |answer: Answer| (answer.status, answer.json());
    assert_eq!(status(get(admin, "/healthz").await), (200, serde_json::json!({"status": "ok"})));
    assert_eq!(
        status(get(admin, "/readyz").await),
        (200, serde_json::json!({"phase": "ready", "store": "up"}))
    );

    let in_flight = tokio::spawn(async move { get(address, "/free/1").await });
    backend.wait_for(1).await;
    let stopping = tokio::spawn(gateway.stop());
    let draining = async {
        while get(admin, "/readyz").await.status == 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, draining).await.expect("it says that it drains");
    assert_eq!(
        status(get(admin, "/readyz").await),
        (503, serde_json::json!({"phase": "draining", "store": "up"}))
    );
    assert_eq!(get(admin, "/healthz").await.status, 200, "alive until the end");
    assert!(!in_flight.is_finished());
    gate.open();
    assert_eq!(in_flight.await.unwrap().status, 200);
    assert!(stopping.await.unwrap(), "everything finished in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_site_cannot_read_the_admin_listener() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    let mut client = Client::connect(gateway.admin).await;
    for path in ["/metrics", "/healthz", "/readyz", "/"] {
        let answer = client.request("GET", path).header("host", "rebound.example").send().await;
        assert_eq!(answer.status, 421, "{path}");
        assert!(!answer.text().contains("tollgate_"), "{path}");
        for host in ["localhost:9180", "127.0.0.1", "[::1]"] {
            let answer = client.request("GET", path).header("host", host).send().await;
            assert_eq!(answer.status, 200, "{path} {host}");
        }
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(get(gateway.address, path).await.status, 404, "{path} is not on the public listener");
    }
}
