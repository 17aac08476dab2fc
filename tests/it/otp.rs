//! One-time codes as an app uses them: asked for, sent by a provider, given back, proven.

mod answers;
mod delivery;
mod limits;
mod parallel;
mod privacy;
mod shared;
mod start;
mod story;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tollgate::clock::{Clock, ManualClock};

use crate::harness::backend::{Backend, Received, Reply};
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::{Gateway, START, preamble};

/// A gateway whose texts go to a scripted provider.
struct Stage {
    /// Stands behind the other routes; nobody asks it.
    backend: Backend,
    provider: Backend,
    gateway: Gateway,
    clock: ManualClock,
}

const ROUTES: &str = r#"
routes:
  - { name: send, match: { method: POST, path: /otp/send }, otp: send }
  - { name: verify, match: { method: POST, path: /otp/verify }, otp: verify }
  - { name: status, match: { method: GET, path: "/otp/{id}" }, otp: status }
  - { name: receipts, match: { path: "/otp/receipts/{provider}/{token}" }, otp: receipts }
  - { name: rest, match: { path: /* }, upstream: app }
"#;
const PHONE: &str = "+14155550123";
const SECRET: &str = "a secret of the tests: 0123456789";

/// The provider's part of the file: any gateway over HTTP.
fn sms(provider: &Backend) -> String {
    let url = provider.addr();
    format!(
        "sms: {{ providers: [{{ name: gw, kind: http, timeout: 30s, request: {{ method: POST, url: \"http://{url}/send\", \
         json: {{ to: \"{{{{ to }}}}\", text: \"{{{{ text }}}}\", report: \"{{{{ receipt_url }}}}\" }} }}, \
         success: {{ status: [200], id: /id }} }}] }}\n"
    )
}

/// `settings` are keys of `otp`.
fn rules(provider: &Backend, settings: &str) -> String {
    format!("otp: {{ secret: \"{SECRET}\", brand: Acme, {settings} }}\n{}{ROUTES}", sms(provider))
}

impl Stage {
    async fn set(settings: &str) -> Stage {
        let backend = Backend::ok().await;
        let provider = Backend::start(|_| Reply::json(200, r#"{"id":"m-1"}"#)).await;
        // A thousand at once come from one address.
        let many = "address: 127.0.0.1:0, max_connections_per_ip: 5000 }";
        let preamble = preamble(backend.addr()).replacen("address: 127.0.0.1:0 }", many, 1);
        let (time, clock) = Clock::manual(START);
        let gateway = Gateway::launch(&preamble, &rules(&provider, settings), time).await.expect("it starts");
        Stage { backend, provider, gateway, clock }
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let mut client = self.gateway.client().await;
        client.request("POST", path).json(&body.to_string()).send().await
    }

    async fn send(&self, phone: &str) -> Answer {
        self.post("/otp/send", &json!({ "phone": phone })).await
    }

    async fn verify(&self, id: &str, code: &str) -> Answer {
        self.post("/otp/verify", &json!({ "id": id, "code": code })).await
    }

    /// The code in the message number `nth`, from 1, once it has reached the provider.
    async fn code(&self, nth: usize) -> String {
        code_of(&self.provider.wait_for(nth).await[nth - 1])
    }
}

/// The six digits of a message.
fn code_of(message: &Received) -> String {
    let body: Value = serde_json::from_slice(&message.body).expect("the provider gets JSON");
    let text = body["text"].as_str().expect("a text");
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    assert_eq!(digits.len(), 6, "{text}");
    digits
}

/// Another code than this one.
fn wrong(code: &str) -> String {
    let number: u32 = code.parse().expect("digits");
    format!("{:06}", (number + 1) % 1_000_000)
}

fn id_of(answer: &Answer) -> String {
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// What a list of calls that run at once came to.
async fn at_once(
    count: usize,
    address: SocketAddr,
    path: &'static str,
    body: impl Fn(usize) -> String,
) -> Vec<Answer> {
    let answers = Arc::new(Mutex::new(Vec::new()));
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..count {
        let (answers, body) = (Arc::clone(&answers), body(number));
        calls.spawn(async move {
            let mut client = Client::connect(address).await;
            let answer = client.request("POST", path).json(&body).send().await;
            answers.lock().expect("a list").push(answer);
        });
    }
    while let Some(done) = calls.join_next().await {
        done.expect("a call");
    }
    Arc::into_inner(answers).expect("all are done").into_inner().expect("a list")
}
