//! Mailgun: `POST /v3/{domain}/messages`, its events, and its webhooks.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{AUTHORIZATION, HeaderMap};
use async_trait::async_trait;
use parking_lot::Mutex;
use ring::hmac;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::{
    AUTO_GENERATED, AUTO_SUBMITTED, Account, CHANNELS, FORM, Letter, MailFault, Sender, accepted, address,
    as_id, document, id, last, refused, replies, text, word,
};
use crate::decision::time::Timestamp;
use crate::http_client::{HttpClient, HttpUrl, Response};
use crate::sms::spec::MailgunSpec;
use crate::sms::{
    Channel, DeliveryState, Fault, LookUpFault, Outbound, Outcome, ReceiptFault, ReceiptRequest, Refused,
    Report, SmsSender, api,
};

/// Tokens that are remembered, so that nobody reports twice by one: those of five minutes, at three a second.
const TOKENS_MAX: usize = 1000;

/// One domain.
pub(in crate::sms) struct Mailgun {
    account: Account,
    from: Sender,
    send_url: HttpUrl,
    events_url: HttpUrl,
    webhooks: Option<Webhooks>,
}

struct Webhooks {
    key: hmac::Key,
    /// The signature does not cover what is reported: who has seen one could report anything by it again.
    tokens: Mutex<VecDeque<Box<str>>>,
}

impl fmt::Debug for Mailgun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mailgun({})", self.account.name)
    }
}

impl Mailgun {
    /// `webhook_secret` is the HTTP webhook signing key.
    pub(in crate::sms) fn new(
        name: &str,
        spec: &MailgunSpec,
        client: Arc<HttpClient>,
    ) -> Result<Mailgun, MailFault> {
        let domain = address::registrable(&spec.domain).ok_or(MailFault::Domain)?;
        let below =
            |path: &str| spec.base_url.below(&format!("/v3/{domain}/{path}")).map_err(MailFault::BaseUrl);
        let key = |secret: &secrecy::SecretString| {
            hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes())
        };
        Ok(Mailgun {
            account: Account::new(
                name,
                client,
                &spec.base_url,
                AUTHORIZATION,
                api::basic("api", &spec.api_key),
            )?,
            from: Sender::new(&spec.from)?,
            send_url: below("messages")?,
            events_url: below("events")?,
            webhooks: spec
                .webhook_secret
                .as_ref()
                .map(|secret| Webhooks { key: key(secret), tokens: Mutex::default() }),
        })
    }
}

impl Webhooks {
    /// Whether a document is signed, and by a token that brings something for the first time.
    fn is_news(&self, document: &Value, now: Timestamp) -> Result<bool, ReceiptFault> {
        let part = |pointer: &str| text(document, pointer).ok_or(ReceiptFault::Unsigned);
        let (timestamp, token) = (part("/signature/timestamp")?, part("/signature/token")?);
        let tag = unhex(part("/signature/signature")?).ok_or(ReceiptFault::Forged)?;
        let signed = format!("{timestamp}{token}");
        hmac::verify(&self.key, signed.as_bytes(), &tag).map_err(|_| ReceiptFault::Forged)?;
        api::check_age(timestamp, now)?;
        let mut tokens = self.tokens.lock();
        if tokens.iter().any(|known| **known == *token) {
            return Ok(false);
        }
        if tokens.len() >= TOKENS_MAX {
            tokens.pop_front();
        }
        tokens.push_back(token.into());
        Ok(true)
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? * 16 + digit(*low)?),
            _ => None,
        })
        .collect()
}

#[async_trait]
impl SmsSender for Mailgun {
    fn channels(&self) -> &[Channel] {
        CHANNELS
    }

    async fn send(&self, message: &Outbound<'_>, within: Duration) -> Outcome {
        let letter = match Letter::of(message) {
            Ok(letter) => letter,
            Err(outcome) => return outcome,
        };
        let mut form = api::Form::default();
        for (name, value) in [
            ("from", self.from.written().as_str()),
            ("to", letter.to.as_str()),
            ("subject", letter.subject),
            ("text", letter.text),
            (&format!("h:{AUTO_SUBMITTED}"), AUTO_GENERATED),
            ("o:tracking", "no"),
            ("o:tracking-clicks", "no"),
            ("o:tracking-opens", "no"),
            ("v:reference", letter.reference),
        ] {
            form.push(name, value);
        }
        let body = form.into_bytes().to_vec();
        match self.account.post(&self.send_url, FORM, HeaderMap::new(), body, within).await {
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
        if as_id(message_id).is_none() {
            return Err(LookUpFault::Unknown);
        }
        let query = [("message-id", message_id.to_owned()), ("limit", "25".to_owned())];
        let url = self.events_url.with_query(&query).map_err(|_| LookUpFault::Unknown)?;
        let document = self.account.get(&url, within).await?;
        let items = document.pointer("/items").and_then(Value::as_array);
        let items = items.ok_or_else(|| LookUpFault::Away("an answer without items".into()))?;
        last(items.iter().filter_map(report).filter(|report| *report.message_id == *message_id))
    }

    fn receipts(&self, request: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault> {
        let webhooks = self.webhooks.as_ref().ok_or(ReceiptFault::None)?;
        let document = document(request.body)?;
        let event = document.pointer("/event-data");
        if !webhooks.is_news(&document, request.now)? {
            return Ok(Vec::new());
        }
        let event = event.ok_or(ReceiptFault::Malformed("no event-data"))?;
        Ok(report(event).into_iter().collect())
    }
}

fn outcome(answer: &Response) -> Outcome {
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match answer.status.as_u16() {
        // Events have it without the angle brackets.
        200 => accepted(id(&document, "/id")),
        400 => {
            let message = word(&document, "/message");
            // Not verified: free texts, matched loosely.
            let (fault, code) = if message.contains("to parameter") || message.contains("'to'") {
                (Fault::Recipient, "to")
            } else if message.contains("not allowed to send") || message.contains("authorized recipients") {
                (Fault::Provider, "not_allowed")
            } else {
                (Fault::Request, "http_400")
            };
            Outcome::Refused(api::refused(fault, code, answer))
        }
        _ => Outcome::Refused(api::by_status(answer)),
    }
}

fn report(event: &Value) -> Option<Report> {
    let message_id = id(event, "/message/headers/message-id")?;
    let (state, refused) = match text(event, "/event")? {
        "accepted" | "stored" => (DeliveryState::Queued, None),
        "delivered" => (DeliveryState::Delivered, None),
        "opened" | "clicked" => (DeliveryState::Read, None),
        // It will be tried again.
        "failed" if word(event, "/severity") == "temporary" => (DeliveryState::Queued, None),
        "failed" => (DeliveryState::Undelivered, Some(failed(event))),
        "rejected" => (DeliveryState::Rejected, refused(Fault::Route, "rejected")),
        _ => return None,
    };
    Some(Report { message_id, state, refused, price: None })
}

fn failed(event: &Value) -> Refused {
    let reason = word(event, "/reason");
    let code = event.pointer("/delivery-status/code").and_then(Value::as_u64).unwrap_or_default();
    let enhanced = text(event, "/delivery-status/enhanced-code")
        .or_else(|| text(event, "/delivery-status/message"))
        .and_then(replies::enhanced);
    let fault = match reason.as_str() {
        "suppress-unsubscribe" | "suppress-complaint" => Fault::OptedOut,
        "suppress-bounce" => Fault::Recipient,
        // 605 and alike are Mailgun's own: not sent to an address that bounced before.
        _ => match u16::try_from(code) {
            Ok(code @ 400..=599) => replies::fault(code, enhanced),
            Ok(605) => Fault::Recipient,
            Ok(_) | Err(_) => Fault::Route,
        },
    };
    match code {
        0 => Refused::new(fault, &reason),
        _ => Refused::new(fault, &code.to_string()),
    }
}
