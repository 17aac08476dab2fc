//! MessageBird's REST API as its documents have it.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{digest, hmac};
use serde_json::{Value, json};

use crate::harness::backend::{Backend, Received, Reply};

pub(crate) const KEY: &str = "test_gshuPaZoeEG6ovbc8M79w0QyM";
pub(crate) const ID: &str = "e8077d803532c0b5937c639b60216938";

pub(crate) struct FakeMessageBird {
    pub(crate) backend: Backend,
}

impl FakeMessageBird {
    pub(crate) async fn start() -> FakeMessageBird {
        FakeMessageBird { backend: Backend::start(answer).await }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.backend.addr()
    }

    /// Refuses all, as MessageBird words it.
    pub(crate) fn refuses(&self, status: u16, code: u32, parameter: Option<&str>) {
        let body = errors(code, parameter);
        self.backend.answer_by(move |_| Reply::json(status, &body));
    }

    /// Makes a message of everything, in which this is changed.
    pub(crate) fn makes(&self, change: impl Fn(&mut Value) + Send + Sync + 'static) {
        self.backend.answer_by(move |_| {
            let mut message = message();
            change(&mut message);
            Reply::json(201, &message.to_string())
        });
    }
}

/// The token of a report, good for a minute.
pub(crate) fn token(alg: &str, key: &str, url: &str, body: &[u8], nbf: u64) -> String {
    let mut claims = json!({
        "iss": "MessageBird", "nbf": nbf, "exp": nbf + 60, "jti": "59a244dc-e9ad-4e23-9778-371faa238f72",
        "url_hash": sha256(url.as_bytes()),
    });
    if !body.is_empty() {
        claims["payload_hash"] = sha256(body).into();
    }
    signed(&json!({ "alg": alg, "typ": "JWT" }).to_string(), &claims.to_string(), alg, key)
}

/// Any token.
pub(crate) fn signed(header: &str, claims: &str, alg: &str, key: &str) -> String {
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let algorithm = match alg {
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        _ => hmac::HMAC_SHA256,
    };
    let tag = hmac::sign(&hmac::Key::new(algorithm, key.as_bytes()), text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn errors(code: u32, parameter: Option<&str>) -> String {
    json!({ "errors": [{ "code": code, "description": "told to", "parameter": parameter }] }).to_string()
}

fn answer(received: &Received) -> Reply {
    if received.headers.get_all("authorization") != [format!("AccessKey {KEY}")] {
        return Reply::json(401, &errors(2, Some("access_key")));
    }
    match (received.method.as_str(), received.target.as_str()) {
        ("POST", "/messages") => match sound(received) {
            Ok(()) => Reply::json(201, &message().to_string()),
            Err((code, parameter)) => Reply::json(422, &errors(code, Some(&parameter))),
        },
        ("GET", target) if target.strip_prefix("/messages/") == Some(ID) => {
            Reply::json(200, &message().to_string())
        }
        ("GET", _) => Reply::json(404, &errors(20, None)),
        (_, _) => Reply::json(405, &errors(98, None)),
    }
}

fn sound(received: &Received) -> Result<(), (u32, String)> {
    let content_type = received.headers.get_all("content-type");
    assert_eq!(content_type, ["application/json"]);
    let body: serde_json::Map<String, Value> =
        serde_json::from_slice(&received.body).map_err(|_| (21, String::new()))?;
    let known = ["originator", "recipients", "body", "datacoding", "reference", "validity", "reportUrl"];
    if let Some(name) = body.keys().find(|name| !known.contains(&name.as_str())) {
        return Err((10, name.clone()));
    }
    let text = |name: &str| body.get(name).and_then(Value::as_str).ok_or((9, name.to_owned()));
    let invalid = |name: &str| Err((10, name.to_owned()));
    let originator = text("originator")?;
    if originator.len() > 11 && !originator.bytes().all(|byte| byte.is_ascii_digit()) {
        return invalid("originator");
    }
    let recipients = body.get("recipients").and_then(Value::as_array).ok_or((9, "recipients".to_owned()))?;
    let is_number = |value: &Value| {
        value.as_str().is_some_and(|text| {
            (7..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    if recipients.len() != 1 || !recipients.iter().all(is_number) {
        return invalid("recipients");
    }
    let message = text("body")?;
    if message.is_empty() {
        return Err((9, "body".to_owned()));
    }
    if text("datacoding")? != if message.is_ascii() { "plain" } else { "unicode" } {
        return invalid("datacoding");
    }
    if body.get("validity").and_then(Value::as_u64).unwrap_or_default() == 0 {
        return invalid("validity");
    }
    match body.get("reportUrl") {
        Some(url) if !url.as_str().is_some_and(|url| url.starts_with("https://")) => invalid("reportUrl"),
        Some(_) | None => Ok(()),
    }
}

fn message() -> Value {
    json!({
        "id": ID, "href": format!("https://rest.messagebird.com/messages/{ID}"), "direction": "mt", "type": "sms",
        "originator": "Acme", "body": "", "reference": "a1B2-c3_D4", "validity": 300, "gateway": 10,
        "datacoding": "plain", "mclass": 1,
        "recipients": {
            "totalCount": 1, "totalSentCount": 1, "totalDeliveredCount": 0, "totalDeliveryFailedCount": 0,
            "items": [{
                "recipient": 14_155_550_123_u64, "status": "sent", "statusDatetime": "2026-01-02T03:04:05+00:00",
                "statusReason": "successfully delivered", "statusErrorCode": null, "recipientCountry": "US",
                "recipientCountryPrefix": 1, "recipientOperator": "", "mccmnc": "310260", "mcc": "310",
                "mnc": "260", "messageLength": 48, "messagePartCount": 1,
                "price": { "amount": 0.07, "currency": "EUR" },
            }],
        },
    })
}
