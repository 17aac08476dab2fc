//! Vonage: texts through the SMS API that was Nexmo's.
//!
//! It answers 200 whatever happens; the status of each part says what did.

mod receipt;
mod table;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use ::http::{HeaderMap, HeaderValue, Method, StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::spec::VonageSpec;
use super::{
    Accepted, Channel, Fault, LookUpFault, Outbound, Outcome, Price, ReceiptFault, ReceiptRequest, Refused,
    Report, SmsSender, api, json, segments,
};
use crate::decision::time::Timestamp;
use crate::http_client::{HttpClient, HttpUrl};

/// What `ttl` may be, milliseconds.
const TTL_MIN_MS: u128 = 20_000;
const TTL_MAX_MS: u128 = 604_800_000;
/// In which all amounts are.
const CURRENCY: &str = "EUR";

/// One account.
pub(super) struct Vonage {
    base_url: HttpUrl,
    api_key: Box<str>,
    /// None: the credentials cannot be put into a header.
    authorization: Option<HeaderValue>,
    /// None: receipts are believed by their path alone.
    receipts: Option<receipt::Keys>,
    from: Box<str>,
    name: Box<str>,
    client: Arc<HttpClient>,
}

impl fmt::Debug for Vonage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vonage({})", self.name)
    }
}

impl Vonage {
    pub(super) fn new(name: &str, spec: &VonageSpec, client: Arc<HttpClient>) -> Vonage {
        Vonage {
            base_url: spec.base_url.clone(),
            api_key: spec.api_key.clone(),
            authorization: api::basic(&spec.api_key, &spec.api_secret),
            receipts: spec.signature_secret.as_ref().map(receipt::Keys::new),
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

    fn written(&self, message: &Outbound<'_>) -> api::Form {
        let text = message.text.expose_secret();
        let mut form = api::Form::default();
        form.push("from", &self.from);
        form.push("to", message.to.trim_start_matches('+'));
        form.push("text", text);
        // Of what is not said to be Unicode, it sends question marks.
        form.push("type", segments::first_beyond_gsm7(text).map_or("text", |_| "unicode"));
        let ttl_ms = message.expires_in.as_millis().clamp(TTL_MIN_MS, TTL_MAX_MS);
        form.push("ttl", &ttl_ms.to_string());
        form.push("client-ref", message.reference);
        // One that is too long would have the whole message refused; the account's own URL is called then, if it has one.
        if let Some(url) = message.receipt_url.filter(|url| url.len() <= VonageSpec::CALLBACK_MAX) {
            form.push("callback", url);
        }
        form
    }
}

#[async_trait]
impl SmsSender for Vonage {
    fn channels(&self) -> &[Channel] {
        &[Channel::Sms]
    }

    async fn send(&self, message: &Outbound<'_>, within: Duration) -> Outcome {
        if message.channel != Channel::Sms {
            return Outcome::Refused(Refused::new(Fault::Route, "channel"));
        }
        let Some(mut headers) = self.headers() else { return api::unusable_credentials() };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let Ok(url) = self.base_url.below("/sms/json") else {
            return Outcome::Refused(Refused::new(Fault::Provider, "base_url"));
        };
        let body = self.written(message).into_bytes();
        match self.client.post(&url, headers, body, api::bounds(within)).await {
            Ok(answer) if answer.status == StatusCode::OK => match serde_json::from_slice(&answer.body) {
                Ok(body) => judge(&body),
                Err(_) => api::unclear(),
            },
            Ok(answer) => Outcome::Refused(api::by_status(&answer)),
            Err(error) => api::unanswered(&error),
        }
    }

    /// Not verified: the search is described with the credentials in the query, where every proxy logs them; here they
    /// go where those of messages go. Nothing but what it knows of a message depends on it.
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
        let url = self.base_url.below("/search/message");
        let url = url.and_then(|url| url.with_query(&[("id", message_id.to_owned())]));
        let url = url.map_err(|_| LookUpFault::Refused("base_url".into()))?;
        let answer = self.client.send(Method::GET, &url, headers, Bytes::new(), api::bounds(within)).await;
        let answer = answer.map_err(|error| api::look_up_unanswered(&error))?;
        if answer.status != StatusCode::OK {
            return Err(api::look_up_refused(&answer));
        }
        let unreadable = || LookUpFault::Refused("unreadable_answer".into());
        let found: Value = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
        // It answers 200 and an empty object for what it does not know.
        let status = json::text(&found, "/status").or_else(|| json::text(&found, "/final-status"));
        let status = status.ok_or(LookUpFault::Unknown)?;
        let error = json::number(&found, "/error-code");
        let report = receipt::report(message_id, &status, error).ok_or_else(unreadable)?;
        Ok(Report { price: price(json::text(&found, "/price").as_deref()), ..report })
    }

    fn receipts(&self, request: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault> {
        receipt::read(self.receipts.as_ref(), &self.api_key, request)
    }
}

fn judge(body: &Value) -> Outcome {
    let parts = body.get("messages").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let statuses = || parts.iter().map(|part| json::number(part, "/status"));
    if parts.is_empty() || statuses().any(|status| status.is_none()) {
        return api::unclear();
    }
    let taken = statuses().filter(|status| *status == Some(0)).count();
    if taken > 0 && taken < parts.len() {
        // A text of which a part is missing may still show the code.
        return Outcome::Refused(Refused::new(Fault::Ambiguous, "partly_sent"));
    }
    let first = &parts[0];
    if taken == 0 {
        let status = json::number(first, "/status").unwrap_or_default();
        let text = json::text(first, "/error-text").unwrap_or_default();
        return Outcome::Refused(table::refused(status, &text));
    }
    let id = json::text(first, "/message-id").filter(|id| api::is_id(id)).unwrap_or_default();
    let prices = parts.iter().map(|part| price(json::text(part, "/message-price").as_deref()));
    let total: Option<u64> = prices.map(|price| price.map(|price| price.micros)).sum();
    Outcome::Accepted(Accepted {
        message_id: id.into(),
        parts: u16::try_from(parts.len()).ok(),
        price: total.map(|micros| Price { micros, currency: CURRENCY.into() }),
    })
}

fn price(amount: Option<&str>) -> Option<Price> {
    Some(Price { micros: api::micros(amount?)?, currency: CURRENCY.into() })
}
