//! Sinch as its documents have it: checks credentials and fields, and answers like it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tollgate::http_client::HttpUrl;
use tollgate::sms::spec::SinchSpec;

use crate::harness::backend::{Backend, Received, Reply};

pub(crate) const PLAN: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
pub(crate) const TOKEN: &str = "token-of-the-plan";
pub(crate) const BATCH: &str = "01FC66621VHDBN119Z8PMV1QPU";

/// One service plan.
pub(crate) struct FakeSinch {
    pub(crate) backend: Backend,
    told: Arc<Mutex<Option<Reply>>>,
}

impl FakeSinch {
    pub(crate) async fn start() -> FakeSinch {
        let told = Arc::new(Mutex::new(None));
        let read = Arc::clone(&told);
        let backend = Backend::start(move |received| answer(received, read.lock().unwrap().clone())).await;
        FakeSinch { backend, told }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.backend.addr()
    }

    /// What the file would say of this plan.
    pub(crate) fn spec(&self) -> SinchSpec {
        SinchSpec {
            base_url: HttpUrl::parse(&format!("http://{}", self.addr())).unwrap(),
            service_plan_id: PLAN.into(),
            api_token: TOKEN.into(),
            webhook_secret: None,
            from: "+15005550006".into(),
        }
    }

    /// Answers whatever is sound with this.
    pub(crate) fn answers(&self, reply: Reply) {
        *self.told.lock().unwrap() = Some(reply);
    }
}

/// An error as Sinch words it.
pub(crate) fn error(status: u16, code: &str, text: &str) -> Reply {
    Reply::json(status, &serde_json::json!({ "code": code, "text": text }).to_string())
}

fn answer(received: &Received, told: Option<Reply>) -> Reply {
    if received.headers.get_all("authorization") != [format!("Bearer {TOKEN}")] {
        return Reply::new(401);
    }
    let Some(below) = received.target.strip_prefix(&format!("/xms/v1/{PLAN}/batches")) else {
        return Reply::new(404);
    };
    match (received.method.as_str(), below) {
        ("POST", "") => match fault(received) {
            Some(name) => {
                error(400, "syntax_invalid_parameter_format", &format!("Invalid value for [{name}]"))
            }
            None => told.unwrap_or_else(|| {
                let body = serde_json::json!({
                    "id": BATCH, "to": ["14155550123"], "from": "15005550006", "canceled": false,
                    "body": "…", "type": "mt_text", "created_at": "2026-01-02T03:04:05.000Z",
                    "modified_at": "2026-01-02T03:04:05.000Z", "delivery_report": "per_recipient",
                    "expire_at": "2026-01-02T03:09:05.999Z", "flash_message": false,
                });
                Reply::json(201, &body.to_string())
            }),
        },
        ("GET", below) if below == format!("/{BATCH}/delivery_report") => {
            told.unwrap_or_else(|| Reply::new(404))
        }
        ("GET", _) => Reply::new(404),
        (_, _) => Reply::new(405),
    }
}

/// Which field of a batch is wrong.
fn fault(received: &Received) -> Option<String> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(&received.body) else {
        return Some("body".to_owned());
    };
    if received.headers.get("content-type") != Some("application/json") {
        return Some("content-type".to_owned());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let is_msisdn = |value: &Value| {
        let text = text(value);
        text.len() > 7 && text.bytes().all(|digit| digit.is_ascii_digit())
    };
    for (name, value) in &fields {
        let is_fine = match name.as_str() {
            "to" => value.as_array().is_some_and(|to| to.len() == 1 && to.iter().all(is_msisdn)),
            "from" => !text(value).is_empty() && !text(value).starts_with('+'),
            "body" => (1..=1600).contains(&text(value).chars().count()),
            "type" => value == "mt_text",
            "delivery_report" => ["none", "per_recipient"].contains(&text(value).as_str()),
            "callback_url" => text(value).starts_with("https://") && text(value).len() <= 2048,
            "client_reference" => text(value).len() <= 128,
            "expire_at" => tollgate::decision::rfc3339::read(&text(value)).is_some(),
            _ => false,
        };
        if !is_fine {
            return Some(name.clone());
        }
    }
    ["to", "body"].into_iter().find(|name| !fields.contains_key(*name)).map(str::to_owned)
}
