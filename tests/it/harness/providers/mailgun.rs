//! Mailgun as its documents have it: checks what it is sent, answers like it, and signs webhooks.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use tollgate::decision::query::pairs;

use crate::harness::backend::{Backend, Received, Reply};

pub(crate) const KEY: &str = "key-of-the-test";
pub(crate) const DOMAIN: &str = "mg.example.com";
pub(crate) const MESSAGE_ID: &str = "20260102030405.1.0123456789ABCDEF@mg.example.com";

/// An account with one domain.
pub(crate) async fn start() -> Backend {
    Backend::start(answer).await
}

/// An error as Mailgun words it.
pub(crate) fn error(status: u16, message: &str) -> Reply {
    Reply::json(status, &serde_json::json!({ "message": message }).to_string())
}

fn answer(received: &Received) -> Reply {
    let credentials = BASE64.encode(format!("api:{KEY}"));
    if received.headers.get_all("authorization") != [format!("Basic {credentials}")] {
        return Reply::new(401).body("Forbidden");
    }
    match (received.method.as_str(), received.target.as_str()) {
        ("POST", target) if target == format!("/v3/{DOMAIN}/messages") => sent(received),
        ("GET", target) if target.starts_with(&format!("/v3/{DOMAIN}/events?")) => {
            Reply::json(200, r#"{"items":[],"paging":{}}"#)
        }
        (_, _) => error(404, "Domain not found"),
    }
}

fn sent(received: &Received) -> Reply {
    const KNOWN: [&str; 9] = [
        "from",
        "to",
        "subject",
        "text",
        "h:Auto-Submitted",
        "o:tracking",
        "o:tracking-clicks",
        "o:tracking-opens",
        "v:reference",
    ];
    if received.headers.get_all("content-type") != ["application/x-www-form-urlencoded"] {
        return error(400, "no form");
    }
    let text = std::str::from_utf8(&received.body).expect("a form in UTF-8");
    let mut fields = BTreeMap::new();
    for pair in pairs(text) {
        let (name, value) = pair.expect("a form that decodes");
        assert!(fields.insert(name.to_string(), value.into_owned()).is_none(), "{name} is there twice");
    }
    if let Some(unknown) = fields.keys().find(|name| !KNOWN.contains(&name.as_str())) {
        return error(400, &format!("{unknown} is unknown"));
    }
    for needed in ["from", "to", "subject", "text"] {
        if fields.get(needed).is_none_or(String::is_empty) {
            return error(400, &format!("{needed} parameter is missing"));
        }
    }
    if !fields["to"].contains('@') {
        return error(400, "to parameter is not a valid address. please check documentation");
    }
    let body = serde_json::json!({ "id": format!("<{MESSAGE_ID}>"), "message": "Queued. Thank you." });
    Reply::json(200, &body.to_string())
}

/// The body of a webhook. Its signature is over time and token alone.
pub(crate) fn webhook(key: &str, timestamp: u64, token: &str, event: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let tag = hmac::sign(&key, format!("{timestamp}{token}").as_bytes());
    let signature: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        r#"{{"signature":{{"timestamp":"{timestamp}","token":"{token}","signature":"{signature}"}},"event-data":{event}}}"#
    )
}
