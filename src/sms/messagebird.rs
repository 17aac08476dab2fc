//! MessageBird: texts through its REST API.

mod receipt;
mod signature;
mod table;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use ::http::{HeaderMap, HeaderValue, Method};
use async_trait::async_trait;
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::Value;

use super::spec::MessageBirdSpec;
use super::{
    Accepted, Channel, Fault, LookUpFault, Outbound, Outcome, Price, ReceiptFault, ReceiptRequest, Refused,
    Report, SmsSender, api, json, segments,
};
use crate::decision::time::Timestamp;
use crate::http_client::{HttpClient, HttpUrl, Response};

/// One account.
pub(super) struct MessageBird {
    base_url: HttpUrl,
    /// None: the key cannot be put into a header.
    authorization: Option<HeaderValue>,
    /// None: receipts are believed by their path alone.
    receipts: Option<signature::Keys>,
    from: Box<str>,
    name: Box<str>,
    client: Arc<HttpClient>,
}

impl fmt::Debug for MessageBird {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageBird({})", self.name)
    }
}

/// What makes a message.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewMessage<'a> {
    originator: &'a str,
    recipients: [&'a str; 1],
    body: &'a str,
    datacoding: &'a str,
    reference: &'a str,
    /// Seconds.
    validity: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    report_url: Option<&'a str>,
}

impl MessageBird {
    pub(super) fn new(name: &str, spec: &MessageBirdSpec, client: Arc<HttpClient>) -> MessageBird {
        MessageBird {
            base_url: spec.base_url.clone(),
            authorization: access_key(&spec.api_key),
            receipts: spec.signing_key.as_ref().map(signature::Keys::new),
            from: spec.from.clone(),
            name: name.into(),
            client,
        }
    }

    fn headers(&self) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.authorization.clone()?);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        Some(headers)
    }

    fn written(&self, message: &Outbound<'_>) -> Option<Bytes> {
        let text = message.text.expose_secret();
        let new = NewMessage {
            originator: &self.from,
            recipients: [message.to.trim_start_matches('+')],
            body: text,
            // That it could find out by itself is not verified.
            datacoding: segments::first_beyond_gsm7(text).map_or("plain", |_| "unicode"),
            reference: message.reference,
            validity: message.expires_in.as_secs().max(1),
            report_url: message.receipt_url,
        };
        serde_json::to_vec(&new).ok().map(Bytes::from)
    }
}

fn access_key(key: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("AccessKey {}", key.expose_secret())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[async_trait]
impl SmsSender for MessageBird {
    fn channels(&self) -> &[Channel] {
        &[Channel::Sms]
    }

    async fn send(&self, message: &Outbound<'_>, within: Duration) -> Outcome {
        if message.channel != Channel::Sms {
            return Outcome::Refused(Refused::new(Fault::Route, "channel"));
        }
        let Some(mut headers) = self.headers() else { return api::unusable_credentials() };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let Some(body) = self.written(message) else { return api::unsendable("body") };
        let Ok(url) = self.base_url.below("/messages") else {
            return Outcome::Refused(Refused::new(Fault::Provider, "base_url"));
        };
        match self.client.post(&url, headers, body, api::bounds(within)).await {
            Ok(answer) => judge(&answer),
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
        let headers = self.headers().ok_or_else(|| LookUpFault::Refused("credentials".into()))?;
        let url = self.base_url.below(&format!("/messages/{message_id}"));
        let url = url.map_err(|_| LookUpFault::Refused("base_url".into()))?;
        let answer = self.client.send(Method::GET, &url, headers, Bytes::new(), api::bounds(within)).await;
        let answer = answer.map_err(|error| api::look_up_unanswered(&error))?;
        if !answer.status.is_success() {
            return Err(api::look_up_refused(&answer));
        }
        let unreadable = || LookUpFault::Refused("unreadable_answer".into());
        let found: Value = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
        let recipient = found.pointer("/recipients/items/0").ok_or_else(unreadable)?;
        let status = json::text(recipient, "/status").ok_or_else(unreadable)?;
        let error = json::number(recipient, "/statusErrorCode");
        let report = receipt::report(message_id, &status, error).ok_or_else(unreadable)?;
        Ok(Report { price: price(recipient), ..report })
    }

    fn receipts(&self, request: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault> {
        if let Some(keys) = &self.receipts {
            keys.check(request)?;
        }
        receipt::read(request)
    }
}

fn judge(answer: &Response) -> Outcome {
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    if !answer.status.is_success() {
        let error = body.as_ref().and_then(|body| body.pointer("/errors/0"));
        let code = error.and_then(|error| json::number(error, "/code"));
        return Outcome::Refused(match (error, code) {
            (Some(error), Some(code)) => {
                let parameter = json::text(error, "/parameter").unwrap_or_default();
                match table::fault(code, &parameter) {
                    Some(fault) => api::refused(fault, &code.to_string(), answer),
                    None => Refused { code: code.to_string().into(), ..api::by_status(answer) },
                }
            }
            (_, None) | (None, _) => api::by_status(answer),
        });
    }
    let Some(body) = body else { return api::unclear() };
    let id = json::text(&body, "/id").filter(|id| api::is_id(id));
    let (Some(id), Some(sent)) = (id, json::number(&body, "/recipients/totalSentCount")) else {
        return api::unclear();
    };
    let recipient = body.pointer("/recipients/items/0").unwrap_or(&Value::Null);
    if sent == 0 {
        let error = json::number(recipient, "/statusErrorCode");
        return Outcome::Refused(error.and_then(table::undelivered).unwrap_or(not_sent()));
    }
    let parts = json::number(recipient, "/messagePartCount").and_then(|parts| u16::try_from(parts).ok());
    Outcome::Accepted(Accepted {
        message_id: id.into(),
        parts: parts.filter(|parts| *parts > 0),
        price: price(recipient),
    })
}

/// It made a message and gave it to nobody, and does not say why.
fn not_sent() -> Refused {
    Refused::new(Fault::Transient, "not_sent")
}

fn price(recipient: &Value) -> Option<Price> {
    let micros = api::micros(&json::text(recipient, "/price/amount")?)?;
    Some(Price { micros, currency: json::text(recipient, "/price/currency")?.to_uppercase().into() })
}
