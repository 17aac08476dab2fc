//! What adds up against a client over all routes, and the ban that follows.

use tollgate::clock::ManualClock;

use crate::harness::backend::{Backend, Reply};
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::{Gateway, seconds};

const RULES: &str = r#"
access: { allow: [127.0.0.9] }
policies:
  login: [{ key: [body.username, ip], count: failures, windows: { tries: 100/h } }]
routes:
  - { name: login, match: { method: POST, path: /login }, upstream: app, policies: [login] }
  - { name: otp, match: { method: POST, path: /otp }, upstream: app, suspect: otp_request }
  - { name: tight, match: { path: /tight }, upstream: app, limits: [{ key: ip, windows: { one: 1/h } }] }
  - { name: rest, match: { path: /* }, upstream: app }
suspicion:
  - { key: ip, weights: { otp_request: 2, failure: 1, limited: 1 }, threshold: 6/hour, block: 24h, exempt: [127.0.0.8] }
"#;

struct Stage {
    gateway: Gateway,
    backend: Backend,
    clock: ManualClock,
}

impl Stage {
    async fn set(rules: &str) -> Stage {
        let backend = Backend::start(|request| match request.target.as_str() {
            "/login" => Reply::json(401, "{}"),
            _ => Reply::json(200, "{}"),
        })
        .await;
        let (gateway, clock) = Gateway::with_clock(&backend, rules).await;
        Stage { gateway, backend, clock }
    }

    async fn ask_from(&self, last: u8, method: &str, path: &str) -> Answer {
        let mut client = Client::connect_from([127, 0, 0, last].into(), self.gateway.address).await;
        let request = client.request(method, path);
        match method {
            "POST" => request.json(r#"{"username":"ada"}"#).send().await,
            _ => request.send().await,
        }
    }
}

#[tokio::test]
async fn weighted_events_of_all_routes_add_up_and_ban_on_all_of_them() {
    let stage = Stage::set(RULES).await;
    // 2 for the code, 1 for the failure, 1 and 1 for the refusals: five of six.
    assert_eq!(stage.ask_from(2, "POST", "/otp").await.status, 200);
    assert_eq!(stage.ask_from(2, "POST", "/login").await.status, 401);
    assert_eq!(stage.ask_from(2, "GET", "/tight").await.status, 200);
    assert_eq!(stage.ask_from(2, "GET", "/tight").await.status, 429);
    assert_eq!(stage.ask_from(2, "GET", "/tight").await.status, 429);
    assert_eq!(stage.ask_from(2, "POST", "/login").await.status, 401);
    assert_eq!(stage.ask_from(2, "GET", "/").await.status, 200, "six are let pass");
    // One more than that, and every route is shut.
    assert_eq!(stage.ask_from(2, "POST", "/login").await.status, 401);
    let reached = stage.backend.count();
    for (method, path) in [("GET", "/"), ("POST", "/otp"), ("POST", "/login"), ("GET", "/tight")] {
        let banned = stage.ask_from(2, method, path).await;
        assert_eq!((banned.status, banned.number("retry-after")), (429, 86_400), "{path}");
        assert!(banned.text().contains("86400 seconds"), "{}", banned.text());
    }
    assert_eq!(stage.backend.count(), reached);
    assert_eq!(stage.ask_from(3, "GET", "/").await.status, 200, "others are none of it");
    let found = r#"tollgate_suspicions_total{key="ip",mode="enforce"}"#;
    assert_eq!(stage.gateway.metric(found).await, 1.0);
    assert_eq!(stage.gateway.metric(r#"tollgate_blocks{reason="suspicion"}"#).await, 1.0);
    // Asking while banned does not make it longer.
    stage.clock.advance(seconds(86_399));
    assert_eq!(stage.ask_from(2, "GET", "/").await.number("retry-after"), 1);
    stage.clock.advance(seconds(1));
    assert_eq!(stage.ask_from(2, "GET", "/").await.status, 200);
    assert_eq!(stage.gateway.metric(r#"tollgate_blocks{reason="suspicion"}"#).await, 0.0);
}

#[tokio::test]
async fn what_is_old_does_not_add_up() {
    let stage = Stage::set(RULES).await;
    for _ in 0..5 {
        for _ in 0..3 {
            assert_eq!(stage.ask_from(2, "POST", "/otp").await.status, 200);
        }
        stage.clock.advance(seconds(3601));
    }
    assert_eq!(stage.ask_from(2, "GET", "/").await.status, 200);
}

#[tokio::test]
async fn who_is_allowed_or_exempt_is_never_suspected() {
    let stage = Stage::set(RULES).await;
    for last in [8, 9] {
        for _ in 0..20 {
            assert_eq!(stage.ask_from(last, "POST", "/otp").await.status, 200);
        }
    }
}

#[tokio::test]
async fn a_shadow_tells_and_bans_nobody() {
    let stage = Stage::set(&RULES.replace("block: 24h,", "block: 24h, mode: shadow,")).await;
    for _ in 0..20 {
        assert_eq!(stage.ask_from(2, "POST", "/otp").await.status, 200);
    }
    let found = r#"tollgate_suspicions_total{key="ip",mode="shadow"}"#;
    assert_eq!(stage.gateway.metric(found).await, 1.0);
}

#[tokio::test]
async fn a_field_of_the_body_can_be_suspected_where_it_is_read() {
    let rules = RULES.replace("{ key: ip, weights", "{ key: body.username, weights");
    let stage = Stage::set(&rules).await;
    for last in 10..17 {
        assert_eq!(stage.ask_from(last, "POST", "/login").await.status, 401);
    }
    let banned = stage.ask_from(20, "POST", "/login").await;
    assert_eq!((banned.status, banned.number("retry-after")), (429, 86_400));
    // Where nobody reads the body, nobody can be told by it.
    assert_eq!(stage.ask_from(2, "POST", "/otp").await.status, 200);
}
