//! What is learnt from the backend's answers: failures, waits, blocks, through a real socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinSet;
use tollgate::clock::ManualClock;

use crate::harness::backend::{Backend, Gate, Received, Reply};
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::{Gateway, seconds};
use crate::harness::{PATIENCE, eventually};

const RULES: &str = r#"
policies:
  tries: [{ key: ip, count: failures, windows: { tries: 3/5m }, block: 15m }]
routes:
  - { name: login, match: { method: POST, path: /login }, upstream: app, policies: [tries] }
  - { name: pair, match: { method: POST, path: /pair }, upstream: app,
      limits: [{ key: [body.username, ip], count: failures, backoff: { base: 1s, factor: 2, max: 4s, forget: 1m } }] }
  - { name: address, match: { method: POST, path: /address }, upstream: app,
      limits: [{ key: ip, count: failures, backoff: { base: 10s } }] }
  - { name: token, match: { method: POST, path: /token }, upstream: app,
      failure: { status: [200, 400], json: { /error/code: invalid_grant, /error/fatal: false } },
      limits: [{ key: ip, count: failures, windows: { tries: 2/5m } }] }
  - { name: shadow, match: { method: POST, path: /shadow }, upstream: app,
      limits: [{ key: ip, count: failures, windows: { tries: 1/5m }, mode: shadow }] }
  - { name: prolonged, match: { method: POST, path: /prolonged }, upstream: app,
      limits: [{ key: ip, count: failures, windows: { tries: 1/5m }, block: { for: 10m, factor: 2, max: 1h, prolong: true } }] }
  - { name: ladder, match: { method: POST, path: /ladder }, upstream: app,
      limits: [{ key: ip, count: failures, windows: { tries: 1/1m }, block: { for: 2m, factor: 2, max: 5m, forget: 1h } }] }
"#;

struct Stage {
    backend: Backend,
    gateway: Gateway,
    clock: ManualClock,
    client: Client,
}

/// 200 to the password `right`, 500 to `broken`, 404 to `gone`, 401 to any other.
fn by_password(request: &Received) -> Reply {
    let says = |word: &str| request.body.windows(word.len()).any(|part| part == word.as_bytes());
    match () {
        () if says("right") => Reply::json(200, r#"{"ok":true}"#),
        () if says("broken") => Reply::json(500, "{}"),
        () if says("gone") => Reply::json(404, "{}"),
        () => Reply::json(401, r#"{"detail":"no"}"#),
    }
}

impl Stage {
    async fn set() -> Stage {
        let backend = Backend::start(by_password).await;
        let (gateway, clock) = Gateway::with_clock(&backend, RULES).await;
        let client = gateway.client().await;
        Stage { backend, gateway, clock, client }
    }

    async fn try_as(&mut self, path: &str, username: &str, password: &str) -> Answer {
        let body = format!(r#"{{"username":"{username}","password":"{password}"}}"#);
        self.client.request("POST", path).json(&body).send().await
    }

    async fn try_with(&mut self, path: &str, password: &str) -> u16 {
        self.try_as(path, "ada", password).await.status
    }

    async fn refused(&mut self, path: &str, retry_after_s: u64) {
        let before = self.backend.count();
        let answer = self.try_as(path, "ada", "right").await;
        assert_eq!((answer.status, answer.number("retry-after")), (429, retry_after_s), "{path}");
        assert_eq!(self.backend.count(), before, "a refusal does not reach the backend");
    }
}

#[tokio::test]
async fn failures_alone_are_counted_and_use_up_what_there_is() {
    let mut stage = Stage::set().await;
    for _ in 0..10 {
        assert_eq!(stage.try_with("/login", "right").await, 200);
        assert_eq!(stage.try_with("/login", "broken").await, 500);
        assert_eq!(stage.try_with("/login", "gone").await, 404);
    }
    for _ in 0..3 {
        let answer = stage.try_as("/login", "ada", "wrong").await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.headers.get("x-ratelimit-limit"), None, "a count of failures is no quota");
    }
    // Blocked by the third failure, for a quarter of an hour from then on, whatever else is asked.
    stage.refused("/login", 900).await;
    stage.clock.advance(seconds(600));
    stage.refused("/login", 300).await;
    stage.clock.advance(seconds(299));
    stage.refused("/login", 1).await;
    stage.clock.advance(seconds(1));
    assert_eq!(stage.try_with("/login", "right").await, 200);
}

#[tokio::test]
async fn a_thousand_guesses_at_once_get_as_many_tries_as_a_thousand_in_a_row() {
    let gate = Gate::shut();
    let backend = {
        let gate = gate.clone();
        Backend::start(move |_| Reply::json(401, "{}").after(&gate)).await
    };
    let (gateway, clock) = Gateway::with_clock(&backend, RULES).await;
    let mut guesses = JoinSet::new();
    for _ in 0..40 {
        let address = gateway.address;
        guesses.spawn(async move {
            let mut client = Client::connect(address).await;
            let mut statuses = Vec::new();
            for _ in 0..25 {
                statuses.push(client.request("POST", "/login").json("{}").send().await.status);
            }
            statuses
        });
    }
    // All but the three that wait for the backend are refused while it has not answered at all.
    let verdict = r#"tollgate_requests_total{route="login",verdict="limited"}"#;
    eventually("the others to be refused", PATIENCE, async || {
        (gateway.metric(verdict).await >= 37.0 * 25.0).then_some(())
    })
    .await;
    assert_eq!(backend.count(), 3);
    clock.advance(seconds(10));
    gate.open();
    let statuses: Vec<u16> = guesses.join_all().await.concat();
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 3);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 997);
    assert_eq!(backend.count(), 3);
    let failed = r#"tollgate_attempts_total{outcome="failure",route="login"}"#;
    assert_eq!(gateway.metric(failed).await, 3.0);
}

#[tokio::test]
async fn who_is_refused_for_attempts_under_way_may_come_again_in_a_second() {
    let gate = Gate::shut();
    let backend = {
        let gate = gate.clone();
        Backend::start(move |_| Reply::json(200, "{}").after(&gate)).await
    };
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        let address = gateway.address;
        waiting.spawn(async move {
            Client::connect(address).await.request("POST", "/login").json("{}").send().await.status
        });
    }
    backend.wait_for(3).await;
    let mut client = gateway.client().await;
    let refused = client.request("POST", "/login").json("{}").send().await;
    assert_eq!((refused.status, refused.number("retry-after")), (429, 1));
    gate.open();
    assert_eq!(waiting.join_all().await, [200, 200, 200]);
    assert_eq!(client.request("POST", "/login").json("{}").send().await.status, 200);
}

#[tokio::test]
async fn who_hangs_up_before_the_answer_has_failed() {
    let gate = Gate::shut();
    let backend = {
        let gate = gate.clone();
        Backend::start(move |_| Reply::json(401, "{}").after(&gate)).await
    };
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    for nth in 1..=3 {
        let mut client = gateway.client().await;
        client.send_raw(b"POST /login HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}").await;
        backend.wait_for(nth).await;
        drop(client);
    }
    let failed = r#"tollgate_attempts_total{outcome="failure",route="login"}"#;
    eventually("the failures to be counted", PATIENCE, async || {
        (gateway.metric(failed).await == 3.0).then_some(())
    })
    .await;
    let mut client = gateway.client().await;
    let refused = client.request("POST", "/login").json("{}").send().await;
    assert_eq!((refused.status, refused.number("retry-after")), (429, 900));
    assert_eq!(backend.count(), 3);
}

#[tokio::test]
async fn a_backend_that_gives_no_answer_is_nobodys_failure() {
    let mut stage = Stage::set().await;
    stage.backend.answer_by(|_| Reply::hang_up());
    for _ in 0..5 {
        assert_eq!(stage.try_with("/login", "wrong").await, 502);
        stage.client = stage.gateway.client().await;
    }
    let neither = r#"tollgate_attempts_total{outcome="neither",route="login"}"#;
    assert_eq!(stage.gateway.metric(neither).await, 5.0);
    stage.backend.answer_by(by_password);
    assert_eq!(stage.try_with("/login", "right").await, 200);
}

#[tokio::test]
async fn waits_grow_with_each_failure_and_a_success_clears_its_own_account() {
    let mut stage = Stage::set().await;
    for wait_s in [1, 2, 4, 4, 4] {
        assert_eq!(stage.try_with("/pair", "wrong").await, 401);
        stage.refused("/pair", wait_s).await;
        stage.clock.advance(seconds(wait_s));
    }
    // Another account from the same address waits for nothing.
    assert_eq!(stage.try_as("/pair", "grace", "right").await.status, 200);
    assert_eq!(stage.try_with("/pair", "right").await, 200);
    assert_eq!(stage.try_with("/pair", "wrong").await, 401);
    stage.refused("/pair", 1).await;
    // Forgotten a minute after the wait was over.
    stage.clock.advance(seconds(1));
    assert_eq!(stage.try_with("/pair", "wrong").await, 401);
    stage.refused("/pair", 2).await;
    stage.clock.advance(seconds(62));
    assert_eq!(stage.try_with("/pair", "wrong").await, 401);
    stage.refused("/pair", 1).await;
    let waits = r#"tollgate_backoffs_total{route="pair"}"#;
    assert_eq!(stage.gateway.metric(waits).await, 8.0);
    let refused = r#"tollgate_requests_total{route="pair",verdict="backed_off"}"#;
    assert_eq!(stage.gateway.metric(refused).await, 8.0);
}

#[tokio::test]
async fn one_password_that_is_right_clears_nothing_of_the_address() {
    let mut stage = Stage::set().await;
    assert_eq!(stage.try_with("/address", "wrong").await, 401);
    stage.clock.advance(seconds(10));
    assert_eq!(stage.try_as("/address", "own", "right").await.status, 200);
    assert_eq!(stage.try_with("/address", "wrong").await, 401);
    stage.refused("/address", 20).await;
}

#[tokio::test]
async fn the_json_of_an_answer_tells_a_failure() {
    let mut stage = Stage::set().await;
    let failed = r#"{"error":{"code":"invalid_grant","fatal":false}}"#;
    let succeeds = [
        r#"{"error":{"code":"invalid_grant","fatal":true}}"#,
        r#"{"error":{"code":"invalid_client","fatal":false}}"#,
        r#"{"ok":true}"#,
        "invalid_grant",
        "",
    ];
    for body in succeeds {
        stage.backend.answer_by(move |_| Reply::json(200, body));
        for _ in 0..3 {
            assert_eq!(stage.try_with("/token", "x").await, 200, "{body}");
        }
    }
    // A status that does not fit decides without the body.
    stage.backend.answer_by(move |_| Reply::json(401, failed));
    assert_eq!(stage.try_with("/token", "x").await, 401);
    assert_eq!(stage.try_with("/token", "x").await, 401);
    stage.backend.answer_by(move |_| Reply::json(200, failed).chunked(7));
    let answer = stage.try_as("/token", "ada", "x").await;
    assert_eq!((answer.status, answer.text()), (200, failed));
    stage.backend.answer_by(move |_| Reply::json(400, failed));
    assert_eq!(stage.try_with("/token", "x").await, 400);
    stage.refused("/token", 300).await;
    let received = stage.backend.received();
    assert!(received.iter().all(|request| request.headers.get("accept-encoding").is_none()));
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_a_failure() {
    for reply in [
        Reply::json(200, r#"{"ok":true}"#).header("content-encoding", "gzip"),
        Reply::json(200, &format!(r#"{{"ok":"{}"}}"#, "x".repeat(20_000))),
    ] {
        let mut stage = Stage::set().await;
        stage.backend.answer_by(move |_| reply.clone());
        for _ in 0..2 {
            let body = stage.client.request("POST", "/token").header("accept-encoding", "gzip").json("{}");
            assert_eq!(body.send().await.status, 200);
        }
        let refused = stage.client.request("POST", "/token").json("{}").send().await;
        assert_eq!((refused.status, refused.number("retry-after")), (429, 300));
    }
}

#[tokio::test]
async fn a_shadow_counts_and_refuses_nobody() {
    let mut stage = Stage::set().await;
    for _ in 0..5 {
        assert_eq!(stage.try_with("/shadow", "wrong").await, 401);
    }
    let shadowed =
        r#"tollgate_refusals_total{key="ip",mode="shadow",policy="shadow",route="shadow",window="tries"}"#;
    assert_eq!(stage.gateway.metric(shadowed).await, 4.0);
}

#[tokio::test]
async fn asking_again_prolongs_a_block_only_where_the_policy_says_so() {
    let mut stage = Stage::set().await;
    assert_eq!(stage.try_with("/prolonged", "wrong").await, 401);
    stage.refused("/prolonged", 600).await;
    stage.clock.advance(seconds(590));
    stage.refused("/prolonged", 600).await;
    stage.clock.advance(seconds(600));
    assert_eq!(stage.try_with("/prolonged", "right").await, 200);
}

#[tokio::test]
async fn each_block_is_longer_than_the_one_before_up_to_the_longest() {
    let mut stage = Stage::set().await;
    for block_s in [120, 240, 300, 300] {
        assert_eq!(stage.try_with("/ladder", "wrong").await, 401);
        stage.refused("/ladder", block_s).await;
        stage.clock.advance(seconds(block_s));
    }
    stage.clock.advance(seconds(3600));
    assert_eq!(stage.try_with("/ladder", "wrong").await, 401);
    stage.refused("/ladder", 120).await;
}

#[tokio::test]
async fn an_edit_keeps_failures_and_attempts_under_way() {
    let gate = Gate::shut();
    let opened = Arc::new(AtomicBool::new(false));
    let backend = {
        let (gate, opened) = (gate.clone(), Arc::clone(&opened));
        Backend::start(move |_| {
            let reply = Reply::json(401, "{}");
            if opened.load(Ordering::Acquire) { reply } else { reply.after(&gate) }
        })
        .await
    };
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    let mut client = gateway.client().await;
    let waiting = {
        let address = gateway.address;
        tokio::spawn(async move {
            Client::connect(address).await.request("POST", "/login").json("{}").send().await.status
        })
    };
    backend.wait_for(1).await;
    gateway.edit(&RULES.replace("3/5m", "2/5m"));
    gateway.reloaded("ok", 2).await;
    opened.store(true, Ordering::Release);
    assert_eq!(client.request("POST", "/login").json("{}").send().await.status, 401);
    gate.open();
    assert_eq!(waiting.await.expect("an answer"), 401);
    let refused = client.request("POST", "/login").json("{}").send().await;
    assert_eq!(refused.status, 429);
}

#[tokio::test]
async fn a_block_that_begins_before_the_body_is_read_is_written_down_too() {
    let rules = r#"
routes:
  - { name: both, match: { method: POST, path: /both }, upstream: app,
      limits: [{ key: ip, windows: { one: 1/min }, block: 10m }, { key: body.username, windows: { many: 50/min } }] }
"#;
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, rules).await;
    let mut client = gateway.client().await;
    let body = r#"{"username":"ada"}"#;
    assert_eq!(client.request("POST", "/both").json(body).send().await.status, 200);
    assert_eq!(client.request("POST", "/both").json(body).send().await.status, 429);
    assert_eq!(gateway.metric(r#"tollgate_blocks{reason="limit"}"#).await, 1.0);
}
