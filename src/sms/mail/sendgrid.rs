//! SendGrid: `POST /v3/mail/send`, and its signed event webhook.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::{
    AUTO_GENERATED, AUTO_SUBMITTED, Account, CHANNELS, JSON, Letter, MailFault, Sender, as_id, document, id,
    refused, replies, text, word,
};
use crate::decision::time::Timestamp;
use crate::http_client::{HttpClient, HttpUrl, Response, bearer};
use crate::sms::spec::MailApiSpec;
use crate::sms::{
    Accepted, Channel, DeliveryState, Fault, LookUpFault, Outbound, Outcome, ReceiptFault, ReceiptRequest,
    Report, SmsSender, api,
};

const SIGNATURE: HeaderName = HeaderName::from_static("x-twilio-email-event-webhook-signature");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-twilio-email-event-webhook-timestamp");
const MESSAGE_ID: HeaderName = HeaderName::from_static("x-message-id");

/// One account.
pub(in crate::sms) struct SendGrid {
    account: Account,
    from: Sender,
    send_url: HttpUrl,
    events: Option<VerificationKey>,
}

type VerificationKey = UnparsedPublicKey<Box<[u8]>>;

impl fmt::Debug for SendGrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SendGrid({})", self.account.name)
    }
}

impl SendGrid {
    /// `webhook_secret` is the verification key of the signed event webhook: no secret, but what receipts are checked by.
    pub(in crate::sms) fn new(
        name: &str,
        spec: &MailApiSpec,
        client: Arc<HttpClient>,
    ) -> Result<SendGrid, MailFault> {
        let key = spec.webhook_secret.as_ref();
        Ok(SendGrid {
            account: Account::new(name, client, &spec.base_url, AUTHORIZATION, bearer(&spec.api_key))?,
            from: Sender::new(&spec.from)?,
            send_url: spec.base_url.below("/v3/mail/send").map_err(MailFault::BaseUrl)?,
            events: key.map(|key| verification_key(key.expose_secret())).transpose()?,
        })
    }

    fn body(&self, letter: &Letter<'_>) -> Value {
        let mut from = json!({ "email": self.from.address.as_str() });
        if let Some(name) = &self.from.name {
            from["name"] = json!(name);
        }
        json!({
            "personalizations": [{ "to": [{ "email": letter.to.as_str() }] }],
            "from": from,
            "subject": letter.subject,
            "content": [{ "type": "text/plain", "value": letter.text }],
            "headers": { AUTO_SUBMITTED: AUTO_GENERATED },
            "custom_args": { "reference": letter.reference },
            "tracking_settings": {
                "click_tracking": { "enable": false, "enable_text": false },
                "open_tracking": { "enable": false },
                "subscription_tracking": { "enable": false },
                "ganalytics": { "enable": false },
            },
        })
    }
}

/// An uncompressed point on P-256 out of the base64 of a SubjectPublicKeyInfo, PEM or not.
fn verification_key(text: &str) -> Result<VerificationKey, MailFault> {
    /// All of a SubjectPublicKeyInfo (RFC 5480) before the point: id-ecPublicKey, prime256v1, BIT STRING of 66 bytes.
    const HEAD: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    const POINT_BYTES: usize = 65;
    let fault = MailFault::WebhookSecret("the verification key of the event webhook, in base64");
    let bare: String = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let der = BASE64.decode(bare).map_err(|_| fault)?;
    match der.strip_prefix(HEAD.as_slice()) {
        Some(point) if point.len() == POINT_BYTES && point.first() == Some(&4) => {
            Ok(UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point.into()))
        }
        Some(_) | None => Err(fault),
    }
}

#[async_trait]
impl SmsSender for SendGrid {
    fn channels(&self) -> &[Channel] {
        CHANNELS
    }

    async fn send(&self, message: &Outbound<'_>, within: Duration) -> Outcome {
        let letter = match Letter::of(message) {
            Ok(letter) => letter,
            Err(outcome) => return outcome,
        };
        let body = self.body(&letter).to_string().into_bytes();
        match self.account.post(&self.send_url, JSON, HeaderMap::new(), body, within).await {
            Ok(answer) => outcome(&answer, message.now),
            Err(error) => api::unanswered(&error),
        }
    }

    async fn look_up(
        &self,
        _message_id: &str,
        _within: Duration,
        _now: Timestamp,
    ) -> Result<Report, LookUpFault> {
        // The activity feed is an extra that most accounts do not have.
        Err(LookUpFault::None)
    }

    fn receipts(&self, request: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault> {
        let key = self.events.as_ref().ok_or(ReceiptFault::None)?;
        let signature = api::signed_by(request.headers, &SIGNATURE)?;
        let timestamp = api::signed_by(request.headers, &TIMESTAMP)?;
        let signature = BASE64.decode(signature).map_err(|_| ReceiptFault::Forged)?;
        let signed = [timestamp.as_bytes(), request.body].concat();
        key.verify(&signed, &signature).map_err(|_| ReceiptFault::Forged)?;
        api::check_age(timestamp, request.now)?;
        let document = document(request.body)?;
        let events = document.as_array().ok_or(ReceiptFault::Malformed("no list of events"))?;
        Ok(events.iter().filter_map(report).collect())
    }
}

fn outcome(answer: &Response, now: Timestamp) -> Outcome {
    match answer.status.as_u16() {
        202 => {
            let id = answer.headers.get(MESSAGE_ID).and_then(|id| as_id(id.to_str().ok()?));
            Outcome::Accepted(Accepted { message_id: id.unwrap_or_default(), ..Accepted::default() })
        }
        // Valid but not sent, says the documentation of the sandbox; somebody in between may say it too.
        200 => Outcome::Refused(api::refused(Fault::Ambiguous, "sandbox", answer)),
        400 => {
            let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let field = text(&document, "/errors/0/field").unwrap_or_default();
            let (fault, code) = match field {
                field if field.starts_with("personalizations") => (Fault::Recipient, "to"),
                field if field.starts_with("from") => (Fault::Provider, "from"),
                _ => (Fault::Request, "http_400"),
            };
            Outcome::Refused(api::refused(fault, code, answer))
        }
        429 => {
            let mut refused = api::by_status(answer);
            refused.retry_after = refused.retry_after.or_else(|| reset(&answer.headers, now));
            Outcome::Refused(refused)
        }
        _ => Outcome::Refused(api::by_status(answer)),
    }
}

/// `X-RateLimit-Reset`: when, in seconds since the epoch.
fn reset(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    const MAX_S: u64 = 3600;
    let at_s: u64 = headers.get("x-ratelimit-reset")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(at_s.saturating_sub(now.floor_millis() / 1000).min(MAX_S)))
}

/// What an event says of its message; nothing if it is no step on a message's way.
fn report(event: &Value) -> Option<Report> {
    // Behind the name from the answer stand the machine that sent it and more: `….filter0001.…`, `….recvd-…`.
    let id = id(event, "/sg_message_id")?;
    let end = [".filter", ".recvd"].iter().filter_map(|mark| id.find(mark)).min().unwrap_or(id.len());
    let status = text(event, "/status").unwrap_or_default();
    let (state, refused) = match text(event, "/event")? {
        "processed" | "deferred" => (DeliveryState::Queued, None),
        "delivered" => (DeliveryState::Delivered, None),
        "open" | "click" => (DeliveryState::Read, None),
        "bounce" if word(event, "/type") == "blocked" => {
            (DeliveryState::Undelivered, refused(Fault::Route, "blocked"))
        }
        "bounce" => {
            let fault = replies::fault(550, replies::enhanced(status));
            (DeliveryState::Undelivered, refused(fault, if status.is_empty() { "bounce" } else { status }))
        }
        "dropped" => (DeliveryState::Rejected, dropped(&word(event, "/reason"))),
        _ => return None,
    };
    Some(Report { message_id: id.get(..end)?.into(), state, refused, price: None })
}

/// Not verified: the reasons are those of the documentation, which does not promise them.
fn dropped(reason: &str) -> Option<crate::sms::Refused> {
    match reason {
        "bounced address" | "invalid" | "invalid address" => refused(Fault::Recipient, "dropped_address"),
        "unsubscribed address" | "spam reporting address" => refused(Fault::OptedOut, "dropped_opt_out"),
        _ => refused(Fault::Route, "dropped"),
    }
}
