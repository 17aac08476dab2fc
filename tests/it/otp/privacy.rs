//! What is secret is found nowhere: codes, numbers, credentials; and nobody learns who is known.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::{PHONE, ROUTES, SECRET, Stage, code_of, sms, wrong};
use crate::harness::backend::{Backend, Reply};
use crate::harness::binary::Running;
use crate::harness::client::{Client, get};
use crate::harness::redis::RedisServer;

const TOKEN: &str = "a-credential-of-the-provider";

/// A provider that wants a credential; takes the first message and fails at all others.
async fn provider() -> Backend {
    Backend::start(|request| {
        assert_eq!(request.headers.get("authorization"), Some(&*format!("Bearer {TOKEN}")));
        match request.body.windows(4).any(|part| part == b"0123") {
            true => Reply::json(200, r#"{"id":"m-1"}"#),
            false => Reply::json(503, r#"{"error":"down"}"#),
        }
    })
    .await
}

fn rules(provider: &Backend) -> String {
    let credential = format!("headers: {{ authorization: \"Bearer {TOKEN}\" }}, json:");
    let sms = sms(provider).replacen("json:", &credential, 1);
    format!("otp: {{ secret: \"{SECRET}\", brand: Acme, cooldown: 0s }}\n{sms}{ROUTES}")
}

/// Sends, guesses, proves, fails to send; the code.
async fn use_it(gateway: &Running, provider: &Backend) -> String {
    let post = async |path: &str, body: serde_json::Value| {
        let mut client = Client::connect(gateway.address).await;
        client.request("POST", path).json(&body.to_string()).send().await
    };
    let sent = post("/otp/send", json!({ "phone": PHONE })).await;
    assert_eq!(sent.status, 202, "{}", sent.text());
    let id = sent.json()["id"].as_str().expect("an id").to_owned();
    let code = code_of(&provider.wait_for(1).await[0]);
    let guess = post("/otp/verify", json!({ "id": id, "code": wrong(&code) })).await;
    assert_eq!(guess.status, 401);
    let status = get(gateway.address, &format!("/otp/{id}")).await;
    assert_eq!(status.status, 200);
    let verified = post("/otp/verify", json!({ "id": id, "code": code })).await;
    assert_eq!(verified.status, 200);
    let other = post("/otp/send", json!({ "phone": "+14155559876" })).await;
    assert_eq!(other.status, 202, "a provider that fails is not the caller's to know");
    provider.wait_for(2).await;
    code
}

/// Every file below a folder.
fn bytes_of(folder: &Path, into: &mut Vec<u8>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => bytes_of(&path, into),
            false => into.extend(std::fs::read(&path).unwrap_or_default()),
        }
    }
}

fn assert_clean(what: &str, bytes: &[u8], code: &str) {
    let text = String::from_utf8_lossy(bytes);
    for secret in [PHONE, &PHONE[1..], "4155550123", "4155559876", TOKEN, SECRET] {
        assert!(!text.contains(secret), "{secret} is in {what}");
    }
    // Six digits stand in many a number; a code stands by itself.
    let is_code = |part: &str| part == code;
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    assert!(!parts.any(is_code), "the code is in {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_found_in_no_log_metric_event_or_file() {
    let (backend, provider) = (Backend::ok().await, provider().await);
    let gateway = Running::start(&backend, &rules(&provider)).await;
    let code = use_it(&gateway, &provider).await;
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("tollgate_sms_sends_total{"), "sends are counted: {metrics}");
    assert_clean("the metrics", metrics.as_bytes(), &code);
    let stopped = gateway.terminated().await;
    let mut files = Vec::new();
    bytes_of(&stopped.data(), &mut files);
    assert!(files.len() > 4096, "there is a journal");
    assert_clean("the data folder", &files, &code);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_found_in_no_log_line() {
    let (backend, provider) = (Backend::ok().await, provider().await);
    let gateway = Running::start(&backend, &rules(&provider)).await;
    let code = use_it(&gateway, &provider).await;
    gateway.binary.signal(crate::harness::binary::Signal::Terminate);
    let ended = gateway.binary.ended().await;
    assert!(ended.stdout.contains("ready"), "there is a log");
    assert_clean("the log", ended.stdout.as_bytes(), &code);
    assert_clean("the errors", ended.stderr.as_bytes(), &code);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_found_in_no_redis() {
    let (backend, provider, redis) = (Backend::ok().await, provider().await, RedisServer::start().await);
    let mut monitor = redis.monitor().await;
    let store = format!("store: {{ kind: redis, url: \"{}\", timeout: 5s }}\n", redis.url());
    let gateway = Running::start(&backend, &format!("{store}{}", rules(&provider))).await;
    let code = use_it(&gateway, &provider).await;
    let mut dump = Vec::new();
    for key in redis.keys().await {
        dump.extend(key.bytes());
        dump.extend(format!("{:?}", redis.must(&["DUMP", &key]).await).bytes());
        dump.push(b'\n');
    }
    assert!(!dump.is_empty());
    assert_clean("Redis", &dump, &code);
    let heard = monitor.until_now(&redis).await;
    assert!(heard.iter().any(|line| line.contains("EVALSHA")));
    assert_clean("what Redis is told", heard.join("\n").as_bytes(), &code);
}

/// The answer to a number that the provider hangs over comes as the one to a number that it takes at once. One that
/// waited for the provider would take longer than the client has patience, and fail the test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_tells_nothing_of_the_number() {
    const ROUNDS: usize = 25;
    let stage = Stage::set("limits: [{ key: phone, windows: { daily: 100/day } }]").await;
    let (slow, fast) = (crate::harness::backend::Gate::shut(), Reply::json(200, r#"{"id":"m"}"#));
    let held = slow.clone();
    stage.provider.answer_by(move |request| match request.body.windows(5).any(|part| part == b"55501") {
        true => fast.clone(),
        false => Reply::json(400, r#"{"error":"unknown subscriber"}"#).after(&held),
    });
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for (place, prefix) in ["+141555501", "+141555502"].iter().enumerate() {
            let body = json!({ "phone": format!("{prefix}{round:02}") }).to_string();
            let mut client = stage.gateway.client().await;
            let began = Instant::now();
            let answer = client.request("POST", "/otp/send").json(&body).send().await;
            times[place].push(began.elapsed());
            assert_eq!(answer.status, 202);
            let mut shape = answer.json();
            for own in ["id", "to"] {
                shape[own] = json!("x");
            }
            assert_eq!(
                shape,
                json!({ "id": "x", "to": "x", "channel": "sms", "expires_in": 600, "resend_in": 60, "attempts_left": 3 })
            );
        }
    }
    slow.open();
    let median = |times: &mut Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let [known, unknown] = &mut times;
    let (known, unknown) = (median(known), median(unknown));
    println!("median answer: {known:?} where the provider takes it, {unknown:?} where it hangs and refuses");
}
