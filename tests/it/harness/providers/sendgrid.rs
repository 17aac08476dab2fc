//! SendGrid as its documents have it: checks what it is sent, answers like it, and signs events.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::Value;

use crate::harness::backend::{Backend, Received, Reply};

pub(crate) const KEY: &str = "SG.key.of-the-test";
pub(crate) const FROM: &str = "no-reply@example.com";
pub(crate) const MESSAGE_ID: &str = "14c5d75ce93.dfd.64b469";

/// An account with one verified sender.
pub(crate) async fn start() -> Backend {
    Backend::start(answer).await
}

/// An error as SendGrid words it.
pub(crate) fn error(status: u16, field: Option<&str>, message: &str) -> Reply {
    let body = serde_json::json!({ "errors": [{ "message": message, "field": field, "help": null }] });
    Reply::json(status, &body.to_string())
}

fn answer(received: &Received) -> Reply {
    if received.headers.get_all("authorization") != [format!("Bearer {KEY}")] {
        return error(401, None, "The provided authorization grant is invalid, expired, or revoked");
    }
    if (received.method.as_str(), received.target.as_str()) != ("POST", "/v3/mail/send") {
        return error(404, None, "not found");
    }
    if received.headers.get_all("content-type") != ["application/json"] {
        return error(415, None, "Content-Type should be application/json.");
    }
    let Ok(mail) = serde_json::from_slice::<Value>(&received.body) else {
        return error(400, None, "Bad Request");
    };
    match fault(&mail) {
        Some((status, field)) => error(status, Some(field), "told to"),
        None => Reply::new(202).header("x-message-id", MESSAGE_ID),
    }
}

fn fault(mail: &Value) -> Option<(u16, &'static str)> {
    const KNOWN: [&str; 7] =
        ["personalizations", "from", "subject", "content", "headers", "custom_args", "tracking_settings"];
    // Not to be set by `headers`, so the documents say.
    const RESERVED: [&str; 6] = ["subject", "to", "from", "reply-to", "content-type", "dkim-signature"];
    let text = |pointer: &str| mail.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if mail.as_object()?.keys().any(|name| !KNOWN.contains(&name.as_str())) {
        return Some((400, "unknown"));
    }
    if !text("/personalizations/0/to/0/email").contains('@') {
        return Some((400, "personalizations.0.to.0.email"));
    }
    if text("/from/email") != FROM {
        return Some((403, "from"));
    }
    if text("/subject").is_empty() {
        return Some((400, "subject"));
    }
    if text("/content/0/type") != "text/plain" || text("/content/0/value").is_empty() {
        return Some((400, "content"));
    }
    let headers = mail.pointer("/headers")?.as_object()?;
    let is_reserved = |name: &String| RESERVED.contains(&name.to_lowercase().as_str());
    if headers.keys().any(is_reserved) || headers.values().any(|value| !value.is_string()) {
        return Some((400, "headers"));
    }
    let is_off =
        |name: &str| mail.pointer(&format!("/tracking_settings/{name}/enable")) == Some(&false.into());
    if !["click_tracking", "open_tracking", "subscription_tracking"].iter().all(|name| is_off(name)) {
        return Some((400, "tracking_settings"));
    }
    None
}

/// The key pair of a signed event webhook.
pub(crate) struct Signer(EcdsaKeyPair);

impl Signer {
    pub(crate) fn new() -> Signer {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random);
        Signer(pair.unwrap())
    }

    /// As the dashboard shows it.
    pub(crate) fn public_key(&self) -> String {
        // The head of a SubjectPublicKeyInfo of a point on P-256.
        let head = BASE64.decode("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgA=").unwrap();
        BASE64.encode([&head, self.0.public_key().as_ref()].concat())
    }

    pub(crate) fn sign(&self, timestamp: &str, body: &str) -> String {
        let signed = format!("{timestamp}{body}");
        BASE64.encode(self.0.sign(&SystemRandom::new(), signed.as_bytes()).unwrap())
    }
}
