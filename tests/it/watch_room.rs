//! The watch room: what operators see and do through the admin API.

mod acts;
mod codes;
mod contract;
mod entrance;
mod lists;
mod live;
mod schema;
mod shell;

use std::net::SocketAddr;

use serde_json::{Value, json};
use tollgate::clock::ManualClock;

use crate::harness::backend::{Backend, Reply};
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::Gateway;
use crate::harness::{PATIENCE, eventually};

const ADMIN: &str = "token-of-ada-the-admin";
const VIEWER: &str = "token-of-vera-the-viewer";

/// A login that blocks by e-mail and by address, and a policy of its own for each.
const RULES: &str = "\
routes:
  - name: login
    match: { method: POST, path: /login }
    upstream: app
    limits:
      - { key: body.email, as: email, windows: { burst: 2/min }, block: 10m }
      - { key: ip, windows: { burst: 100/min }, block: 10m }
  - { name: rest, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 50/min } }] }
";

/// A gateway with two tokens.
struct Room {
    gateway: Gateway,
    hand: ManualClock,
    _backend: Backend,
}

impl Room {
    async fn open() -> Room {
        Room::with(&format!("identifiers: masked, {}", tokens()), RULES).await
    }

    /// With these keys of `admin` and these rules.
    async fn with(admin: &str, rules: &str) -> Room {
        let backend = Backend::start(|_| Reply::json(200, "{}")).await;
        let (clock, hand) = tollgate::clock::Clock::manual(crate::harness::gateway::START);
        let preamble = crate::harness::gateway::preamble(backend.addr())
            .replace("address: 127.0.0.1:0 }\nup", &format!("address: 127.0.0.1:0, {admin} }}\nup"));
        let gateway = Gateway::launch(&preamble, rules, clock).await.expect("it starts");
        Room { gateway, hand, _backend: backend }
    }

    fn admin(&self) -> SocketAddr {
        self.gateway.admin
    }

    async fn get(&self, target: &str) -> Answer {
        ask(self.admin(), "GET", target, Some(ADMIN), None).await
    }

    async fn view(&self, target: &str) -> Answer {
        ask(self.admin(), "GET", target, Some(VIEWER), None).await
    }

    async fn post(&self, target: &str, body: &Value) -> Answer {
        ask(self.admin(), "POST", target, Some(ADMIN), Some(&body.to_string())).await
    }

    /// Signs in as somebody; the status.
    async fn login(&self, email: &str) -> u16 {
        let body = json!({"email": email}).to_string();
        self.gateway.client().await.request("POST", "/login").json(&body).send().await.status
    }

    /// Has somebody blocked by the limit of the route.
    async fn provoke(&self, email: &str) {
        let mut status = 200;
        for _ in 0..3 {
            status = self.login(email).await;
        }
        assert_eq!(status, 429, "{email} is blocked");
    }

    /// Asks for the log until it has what is wanted: it is written a moment later.
    async fn logged(&self, query: &str, count: usize) -> Vec<Value> {
        eventually("events in the log", PATIENCE, async || {
            let answer = self.get(&format!("/api/v1/rate-limit-logs?{query}")).await;
            // The file is made a moment after the gateway starts.
            let items = (answer.status == 200).then(|| answer.json()["items"].as_array().unwrap().clone())?;
            (items.len() >= count).then_some(items)
        })
        .await
    }

    async fn blocks(&self, query: &str) -> Vec<Value> {
        let answer = self.get(&format!("/api/v1/blocked-identifiers?{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["items"].as_array().unwrap().clone()
    }
}

fn tokens() -> String {
    format!(
        "tokens: [{{ name: ada, token: {ADMIN}, role: admin }}, {{ name: vera, token: {VIEWER}, role: viewer }}]"
    )
}

async fn ask(
    address: SocketAddr,
    method: &str,
    target: &str,
    token: Option<&str>,
    body: Option<&str>,
) -> Answer {
    let mut client = Client::connect(address).await;
    let mut request = client.request(method, target);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    match body {
        Some(body) => request.json(body).send().await,
        None => request.send().await,
    }
}
