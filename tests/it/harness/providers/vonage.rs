//! Vonage's SMS API as its documents have it: 200 to everything that it could read.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use tollgate::decision::query::pairs;

use crate::harness::backend::{Backend, Received, Reply};

pub(crate) const KEY: &str = "abcd1234";
pub(crate) const SECRET: &str = "secret of the account";

pub(crate) struct FakeVonage {
    pub(crate) backend: Backend,
}

impl FakeVonage {
    pub(crate) async fn start() -> FakeVonage {
        FakeVonage { backend: Backend::start(answer).await }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.backend.addr()
    }

    /// Answers each message with these parts: status and what is said of it.
    pub(crate) fn parts(&self, parts: &[(u32, &str)]) {
        let parts: Vec<_> =
            parts.iter().enumerate().map(|(at, (status, text))| part(at, *status, text)).collect();
        let count = parts.len().to_string();
        let body = serde_json::json!({ "message-count": count, "messages": parts }).to_string();
        self.backend.answer_by(move |_| Reply::json(200, &body));
    }
}

/// `sig` of a receipt: all names in their order, as `&name=value`, `&` and `=` in a value made `_`.
pub(crate) fn signature(algorithm: hmac::Algorithm, secret: &str, params: &[(&str, &str)]) -> String {
    let sorted: BTreeMap<_, _> = params.iter().copied().collect();
    let mut text = String::new();
    for (name, value) in sorted {
        text += &format!("&{name}={}", value.replace(['&', '='], "_"));
    }
    let tag = hmac::sign(&hmac::Key::new(algorithm, secret.as_bytes()), text.as_bytes());
    tag.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

fn part(at: usize, status: u32, text: &str) -> serde_json::Value {
    if status == 0 {
        serde_json::json!({
            "to": "14155550123", "message-id": format!("0A00000012345{at}"), "status": "0",
            "remaining-balance": "3.14159265", "message-price": "0.03330000", "network": "310260",
            "client-ref": "a1B2-c3_D4",
        })
    } else {
        serde_json::json!({ "to": "14155550123", "status": status.to_string(), "error-text": text })
    }
}

fn answer(received: &Received) -> Reply {
    let refuse = |status: u32, text: &str| {
        let body = serde_json::json!({ "message-count": "1", "messages": [part(0, status, text)] });
        Reply::json(200, &body.to_string())
    };
    let credentials = BASE64.encode(format!("{KEY}:{SECRET}"));
    if received.headers.get_all("authorization") != [format!("Basic {credentials}")] {
        return refuse(4, "Bad Credentials");
    }
    match (received.method.as_str(), received.target.as_str()) {
        ("POST", "/sms/json") => {}
        ("GET", "/search/message?id=0A1") => return Reply::json(200, FOUND),
        ("GET", target) if target.starts_with("/search/message?id=") => return Reply::json(200, "{}"),
        (_, _) => return Reply::new(404),
    }
    if received.headers.get_all("content-type") != ["application/x-www-form-urlencoded"] {
        return refuse(2, "Missing from param");
    }
    match sound(received) {
        Ok(()) => refuse(0, ""),
        Err((status, text)) => refuse(status, &text),
    }
}

fn sound(received: &Received) -> Result<(), (u32, String)> {
    let mut fields = BTreeMap::new();
    for pair in pairs(std::str::from_utf8(&received.body).expect("a form in UTF-8")) {
        let (name, value) = pair.expect("a form that decodes");
        assert!(fields.insert(name.to_string(), value.into_owned()).is_none(), "{name} is there twice");
    }
    let known = ["from", "to", "text", "type", "ttl", "client-ref", "callback"];
    if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        return Err((3, format!("Invalid {name} param")));
    }
    let field = |name: &str| fields.get(name).ok_or((2, format!("Missing {name} param")));
    let from = field("from")?;
    let is_name = from.len() <= 11 && from.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_number = from.len() <= 15 && from.bytes().all(|byte| byte.is_ascii_digit());
    if !(is_name || is_number) {
        return Err((15, "Invalid sender address".into()));
    }
    let to = field("to")?;
    if !((7..=15).contains(&to.len()) && to.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err((3, "to address is not numeric".into()));
    }
    let text = field("text")?;
    if text.is_empty() || text.chars().count() > 3200 {
        return Err((12, "Message too long".into()));
    }
    // A text of its own alphabet that is called Unicode costs double, and the other way round it is lost.
    let kind = field("type")?;
    if kind != if text.is_ascii() { "text" } else { "unicode" } {
        return Err((3, "Invalid type param".into()));
    }
    if !field("ttl")?.parse().is_ok_and(|ttl: u64| (20_000..=604_800_000).contains(&ttl)) {
        return Err((3, "Invalid ttl param".into()));
    }
    if field("client-ref")?.len() > 40 {
        return Err((3, "Invalid client-ref param".into()));
    }
    match fields.get("callback") {
        Some(url) if url.len() > 100 || !url.starts_with("https://") => {
            Err((23, "Invalid callback URL".into()))
        }
        Some(_) | None => Ok(()),
    }
}

const FOUND: &str = r#"{"type":"MT","message-id":"0A1","account-id":"abcd1234","network":"310260","from":"Acme",
"to":"14155550123","body":"","price":0.0333,"date-received":"2026-01-02 03:04:05","final-status":"DELIVRD",
"date-closed":"2026-01-02 03:04:08","latency":3000,"status":"delivered","error-code":"0"}"#;
