//! Resend: `POST /emails` with an idempotency key, the state of a message, and webhooks signed in the way of Svix.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderValue;
use ::http::header::{AUTHORIZATION, HeaderMap, HeaderName};
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::{
    AUTO_GENERATED, AUTO_SUBMITTED, Account, CHANNELS, JSON, Letter, MailFault, Sender, accepted, document,
    id, refused, text, word,
};
use crate::decision::time::Timestamp;
use crate::http_client::{HttpClient, HttpUrl, Response, bearer};
use crate::sms::spec::MailApiSpec;
use crate::sms::{
    Channel, DeliveryState, Fault, LookUpFault, Outbound, Outcome, ReceiptFault, ReceiptRequest, Refused,
    Report, SmsSender, api,
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("svix-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("svix-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("svix-signature");

/// One account.
pub(in crate::sms) struct Resend {
    account: Account,
    from: Sender,
    send_url: HttpUrl,
    webhooks: Option<hmac::Key>,
}

impl fmt::Debug for Resend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resend({})", self.account.name)
    }
}

impl Resend {
    /// `webhook_secret` is the webhook's signing secret, `whsec_…`.
    pub(in crate::sms) fn new(
        name: &str,
        spec: &MailApiSpec,
        client: Arc<HttpClient>,
    ) -> Result<Resend, MailFault> {
        Ok(Resend {
            account: Account::new(name, client, &spec.base_url, AUTHORIZATION, bearer(&spec.api_key))?,
            from: Sender::new(&spec.from)?,
            send_url: spec.base_url.below("/emails").map_err(MailFault::BaseUrl)?,
            webhooks: spec.webhook_secret.as_ref().map(webhook_key).transpose()?,
        })
    }
}

fn webhook_key(secret: &SecretString) -> Result<hmac::Key, MailFault> {
    let fault = MailFault::WebhookSecret("whsec_ and base64");
    let encoded = secret.expose_secret().strip_prefix("whsec_").ok_or(fault)?;
    let bytes = BASE64.decode(encoded).map_err(|_| fault)?;
    match bytes.is_empty() {
        true => Err(fault),
        false => Ok(hmac::Key::new(hmac::HMAC_SHA256, &bytes)),
    }
}

#[async_trait]
impl SmsSender for Resend {
    fn channels(&self) -> &[Channel] {
        CHANNELS
    }

    async fn send(&self, message: &Outbound<'_>, within: Duration) -> Outcome {
        let letter = match Letter::of(message) {
            Ok(letter) => letter,
            Err(outcome) => return outcome,
        };
        let Ok(key) = HeaderValue::try_from(letter.reference) else { return api::unsendable("reference") };
        let body = json!({
            "from": self.from.written(),
            "to": [letter.to.as_str()],
            "subject": letter.subject,
            "text": letter.text,
            "headers": { AUTO_SUBMITTED: AUTO_GENERATED },
        });
        let more = HeaderMap::from_iter([(IDEMPOTENCY_KEY, key)]);
        match self.account.post(&self.send_url, JSON, more, body.to_string().into_bytes(), within).await {
            Ok(answer) => outcome(&answer),
            Err(error) => api::unanswered(&error),
        }
    }

    async fn look_up(
        &self,
        message_id: &str,
        within: Duration,
        _now: Timestamp,
    ) -> Result<Report, LookUpFault> {
        if !api::is_id(message_id) {
            return Err(LookUpFault::Unknown);
        }
        let path = format!("/emails/{message_id}");
        let url = self.account.base_url.below(&path).map_err(|_| LookUpFault::Unknown)?;
        let document = self.account.get(&url, within).await?;
        let last_event = text(&document, "/last_event").unwrap_or_default();
        let (state, refused) = step(last_event, &document).unwrap_or((DeliveryState::Accepted, None));
        Ok(Report { message_id: message_id.into(), state, refused, price: None })
    }

    fn receipts(&self, request: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault> {
        let key = self.webhooks.as_ref().ok_or(ReceiptFault::None)?;
        let webhook = api::signed_by(request.headers, &WEBHOOK_ID)?;
        let timestamp = api::signed_by(request.headers, &WEBHOOK_TIMESTAMP)?;
        let signatures = api::signed_by(request.headers, &WEBHOOK_SIGNATURE)?;
        let signed = [format!("{webhook}.{timestamp}.").as_bytes(), request.body].concat();
        // Several, while a secret is being changed; those of other versions are not for us.
        let signatures = signatures.split(' ').filter_map(|signature| signature.strip_prefix("v1,"));
        if !api::any_verifies(key, &signed, signatures) {
            return Err(ReceiptFault::Forged);
        }
        api::check_age(timestamp, request.now)?;
        let event = document(request.body)?;
        let data = event.pointer("/data").unwrap_or(&Value::Null);
        let kind = text(&event, "/type").and_then(|kind| kind.strip_prefix("email.")).unwrap_or_default();
        let report = step(kind, data).and_then(|(state, refused)| {
            let message_id = id(data, "/email_id")?;
            Some(Report { message_id, state, refused, price: None })
        });
        Ok(report.into_iter().collect())
    }
}

fn outcome(answer: &Response) -> Outcome {
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let status = answer.status.as_u16();
    if status == 200 {
        return accepted(id(&document, "/id"));
    }
    let name = text(&document, "/name").filter(|name| api::is_word(name)).unwrap_or_default();
    let fault = match (status, name) {
        (429, "daily_quota_exceeded" | "monthly_quota_exceeded") => Fault::Provider,
        // The same letter is on its way by another call.
        (409, "concurrent_idempotent_requests") => Fault::Ambiguous,
        (400 | 422, "invalid_from_address") => Fault::Provider,
        (400 | 422, "validation_error") => by_message(&word(&document, "/message")),
        (451, "security_error") => Fault::Route,
        _ => {
            let by_status = api::by_status(answer);
            return Outcome::Refused(match name {
                "" => by_status,
                name => api::refused(by_status.fault, name, answer),
            });
        }
    };
    Outcome::Refused(api::refused(fault, name, answer))
}

/// Not verified: the error is one for all fields, and only its words, in small letters, tell which.
fn by_message(message: &str) -> Fault {
    if message.contains("`to`") {
        Fault::Recipient
    } else if message.contains("`from`") || message.contains("api key") {
        Fault::Provider
    } else {
        Fault::Request
    }
}

/// What an event says of its message; nothing if it is no step on a message's way.
fn step(kind: &str, data: &Value) -> Option<(DeliveryState, Option<Refused>)> {
    Some(match kind {
        "queued" | "scheduled" | "delivery_delayed" => (DeliveryState::Queued, None),
        "sent" => (DeliveryState::Sent, None),
        "delivered" => (DeliveryState::Delivered, None),
        "opened" | "clicked" => (DeliveryState::Read, None),
        "bounced" => {
            let fault = match word(data, "/bounce/type").as_str() {
                "permanent" => Fault::Recipient,
                "transient" => Fault::Transient,
                _ => Fault::Route,
            };
            (DeliveryState::Undelivered, refused(fault, text(data, "/bounce/subType").unwrap_or("bounced")))
        }
        "suppressed" => (DeliveryState::Rejected, refused(Fault::Recipient, "suppressed")),
        "failed" => {
            let reason = text(data, "/failed/reason").filter(|reason| api::is_word(reason));
            (DeliveryState::Failed, refused(Fault::Provider, reason.unwrap_or("failed")))
        }
        "canceled" => (DeliveryState::Rejected, refused(Fault::Provider, "canceled")),
        _ => return None,
    })
}
