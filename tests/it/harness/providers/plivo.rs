//! Plivo as its documents have it: checks credentials and fields, and answers like it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use tollgate::http_client::HttpUrl;
use tollgate::sms::spec::PlivoSpec;

use crate::harness::backend::{Backend, Received, Reply};

pub(crate) const AUTH_ID: &str = "MAXXXXXXXXXXXXXXXXXX";
pub(crate) const TOKEN: &str = "my_auth_token";
pub(crate) const UUID: &str = "db3ce55a-7f1d-11e1-8ea7-1231380bc196";

/// One account.
pub(crate) struct FakePlivo {
    pub(crate) backend: Backend,
    told: Arc<Mutex<Option<Reply>>>,
}

impl FakePlivo {
    pub(crate) async fn start() -> FakePlivo {
        let told = Arc::new(Mutex::new(None));
        let read = Arc::clone(&told);
        let backend = Backend::start(move |received| answer(received, read.lock().unwrap().clone())).await;
        FakePlivo { backend, told }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.backend.addr()
    }

    /// What the file would say of this account.
    pub(crate) fn spec(&self) -> PlivoSpec {
        PlivoSpec {
            base_url: HttpUrl::parse(&format!("http://{}", self.addr())).unwrap(),
            auth_id: AUTH_ID.into(),
            auth_token: TOKEN.into(),
            from: "+15005550006".into(),
        }
    }

    /// Answers whatever is sound with this.
    pub(crate) fn answers(&self, reply: Reply) {
        *self.told.lock().unwrap() = Some(reply);
    }
}

/// An error as Plivo words it.
pub(crate) fn error(status: u16, text: &str) -> Reply {
    let body = serde_json::json!({ "api_id": "1f1a5b1a-0000-11ee-a1a1-0242ac110003", "error": text });
    Reply::json(status, &body.to_string())
}

fn answer(received: &Received, told: Option<Reply>) -> Reply {
    let credentials = format!("Basic {}", BASE64.encode(format!("{AUTH_ID}:{TOKEN}")));
    if received.headers.get_all("authorization") != [credentials] {
        return Reply::new(401).body("Could not verify your access level for that URL.");
    }
    let folder = format!("/v1/Account/{AUTH_ID}/Message/");
    let Some(below) = received.target.strip_prefix(&folder) else { return error(404, "not found") };
    match (received.method.as_str(), below) {
        ("POST", "") => match fault(received) {
            Some(fault) => error(400, &fault),
            None => told.unwrap_or_else(|| {
                let body = serde_json::json!({
                    "api_id": "db342550-7f1d-11e1-8ea7-1231380bc196",
                    "message": "message(s) queued",
                    "message_uuid": [UUID],
                });
                Reply::json(202, &body.to_string())
            }),
        },
        ("GET", below) if below == format!("{UUID}/") => told.unwrap_or_else(|| error(404, "not found")),
        ("GET", _) => error(404, "not found"),
        (_, _) => error(405, "method not allowed"),
    }
}

/// What is wrong with a message.
fn fault(received: &Received) -> Option<String> {
    if received.headers.get("content-type") != Some("application/json") {
        return Some("no json".to_owned());
    }
    let Ok(Value::Object(fields)) = serde_json::from_slice(&received.body) else {
        return Some("no json".to_owned());
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let is_number = |text: &str| {
        text.strip_prefix('+').unwrap_or(text).bytes().all(|digit| digit.is_ascii_digit()) && text.len() > 7
    };
    for (name, value) in &fields {
        let is_fine = match name.as_str() {
            "src" => !text("src").is_empty(),
            "dst" => is_number(text("dst")),
            "text" => !text("text").is_empty(),
            "type" => value == "sms",
            "url" => text("url").starts_with("https://"),
            "method" => value == "POST" || value == "GET",
            "log" => value.is_boolean(),
            "message_expiry" => value.as_u64().is_some_and(|seconds| seconds > 0),
            _ => false,
        };
        if !is_fine {
            return Some(format!("{name} parameter is not valid"));
        }
    }
    let missing = ["src", "dst", "text"].into_iter().find(|name| !fields.contains_key(*name));
    if text("src") == text("dst") {
        return Some("src and destination number cannot be the same".to_owned());
    }
    missing.map(|name| format!("{name} parameter not present"))
}
