//! Resend as its documents have it: checks what it is sent, answers like it, and signs webhooks.

use std::collections::HashMap;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use serde_json::{Value, json};

use crate::harness::backend::{Backend, Received, Reply};

pub(crate) const KEY: &str = "re_key_of_the_test";
pub(crate) const MESSAGE_ID: &str = "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794";

/// An account with one domain. What was sent under a key is not sent again under it.
pub(crate) async fn start() -> Backend {
    let sent: Mutex<HashMap<String, Vec<u8>>> = Mutex::default();
    Backend::start(move |received| answer(received, &sent)).await
}

/// An error as Resend words it.
pub(crate) fn error(status: u16, name: &str, message: &str) -> Reply {
    Reply::json(status, &json!({ "statusCode": status, "name": name, "message": message }).to_string())
}

fn answer(received: &Received, sent: &Mutex<HashMap<String, Vec<u8>>>) -> Reply {
    match received.headers.get_all("authorization").as_slice() {
        [one] if *one == format!("Bearer {KEY}") => {}
        [] => return error(401, "missing_api_key", "Missing API Key"),
        _ => return error(403, "invalid_api_key", "API key is invalid."),
    }
    match (received.method.as_str(), received.target.as_str()) {
        ("POST", "/emails") => made(received, sent),
        ("GET", target) if target == format!("/emails/{MESSAGE_ID}") => Reply::json(
            200,
            &json!({ "object": "email", "id": MESSAGE_ID, "last_event": "delivered" }).to_string(),
        ),
        (_, _) => error(404, "not_found", "The requested endpoint does not exist."),
    }
}

fn made(received: &Received, sent: &Mutex<HashMap<String, Vec<u8>>>) -> Reply {
    const KNOWN: [&str; 5] = ["from", "to", "subject", "text", "headers"];
    let Ok(mail) = serde_json::from_slice::<Value>(&received.body) else {
        return error(400, "validation_error", "The request is no JSON");
    };
    let keys = received.headers.get_all("idempotency-key");
    let [key] = keys.as_slice() else {
        return error(400, "invalid_idempotency_key", "one key, if present");
    };
    if !(1..=256).contains(&key.len()) {
        return error(400, "invalid_idempotency_key", "between 1-256 chars");
    }
    if mail.as_object().unwrap().keys().any(|name| !KNOWN.contains(&name.as_str())) {
        return error(422, "validation_error", "unknown field");
    }
    if !mail["to"][0].as_str().is_some_and(|to| to.contains('@')) {
        return error(422, "validation_error", "Invalid `to` field.");
    }
    if !mail["from"].as_str().is_some_and(|from| from.contains("no-reply@example.com")) {
        return error(403, "validation_error", "The domain is not verified.");
    }
    for needed in ["subject", "text"] {
        if mail[needed].as_str().is_none_or(str::is_empty) {
            return error(422, "missing_required_field", needed);
        }
    }
    let mut sent = sent.lock().unwrap();
    let first = sent.entry((*key).to_owned()).or_insert_with(|| received.body.clone());
    match *first == received.body {
        true => Reply::json(200, &json!({ "id": MESSAGE_ID }).to_string()),
        false => error(409, "invalid_idempotent_request", "another payload under the same key"),
    }
}

/// `svix-signature` of a webhook.
pub(crate) fn signature(secret: &str, id: &str, timestamp: &str, body: &str) -> String {
    let key = BASE64.decode(secret.trim_start_matches("whsec_")).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    format!("v1,{}", BASE64.encode(hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes())))
}
