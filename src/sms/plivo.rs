//! Plivo: JSON to its message API, receipts as forms with a signature of version 2 or 3.

mod signature;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use ::http::{Method, StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::api;
use super::spec::PlivoSpec;
use super::{
    Accepted, Channel, DeliveryState, Fault, LookUpFault, Outbound, Outcome, Price, ReceiptFault,
    ReceiptRequest, Refused, Report, SmsSender,
};
use crate::decision::time::Timestamp;
use crate::http_client::{HttpClient, HttpUrl, Response};

pub(super) struct Plivo {
    name: Box<str>,
    spec: PlivoSpec,
    client: Arc<HttpClient>,
}

#[derive(Serialize)]
struct Message<'a> {
    src: &'a str,
    dst: &'a str,
    text: &'a str,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'static str>,
    /// Off: the text holds a code, and their console would show it.
    log: bool,
    /// Seconds. Not verified: which of them Plivo takes; a code lives between one and 3600.
    message_expiry: u64,
}

#[derive(Deserialize)]
struct Queued {
    #[serde(default)]
    message_uuid: Vec<String>,
    /// Not verified: it is what Plivo says of numbers in a list that it does not send to.
    #[serde(default)]
    invalid_number: Vec<Value>,
}

/// A message as the look-up tells of it.
#[derive(Deserialize)]
struct State {
    message_state: String,
    #[serde(default)]
    error_code: Value,
    #[serde(default)]
    total_amount: Value,
}

impl Plivo {
    pub(super) fn new(name: &str, spec: &PlivoSpec, client: Arc<HttpClient>) -> Plivo {
        Plivo { name: name.into(), spec: spec.clone(), client }
    }

    /// Something of this account; their paths end with a slash.
    fn url(&self, below: &str) -> Option<HttpUrl> {
        let path = format!("/v1/Account/{}/{below}", self.spec.auth_id);
        self.spec.base_url.below(&path).ok()?.as_folder().ok()
    }

    fn headers(&self) -> Option<HeaderMap> {
        let authorization = api::basic(&self.spec.auth_id, &self.spec.auth_token)?;
        let json = HeaderValue::from_static("application/json");
        Some(HeaderMap::from_iter([(AUTHORIZATION, authorization), (CONTENT_TYPE, json)]))
    }
}

impl fmt::Debug for Plivo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plivo({})", self.name)
    }
}

#[async_trait]
impl SmsSender for Plivo {
    fn channels(&self) -> &[Channel] {
        &[Channel::Sms]
    }

    async fn send(&self, message: &Outbound<'_>, within: Duration) -> Outcome {
        let (Some(url), Some(headers)) = (self.url("Message"), self.headers()) else {
            return api::unusable_credentials();
        };
        let body = serde_json::to_vec(&Message {
            src: &self.spec.from,
            dst: message.to,
            text: message.text.expose_secret(),
            r#type: "sms",
            url: message.receipt_url,
            method: message.receipt_url.map(|_| "POST"),
            log: false,
            message_expiry: message.expires_in.as_secs().max(1),
        });
        let Ok(body) = body else { return api::unsendable("json") };
        match self.client.post(&url, headers, body.into(), api::bounds(within)).await {
            Ok(answer) if answer.status.is_success() => accepted(&answer),
            Ok(answer) => Outcome::Refused(refused(&answer)),
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
        let (Some(url), Some(headers)) = (self.url(&format!("Message/{message_id}")), self.headers()) else {
            return Err(LookUpFault::Refused("credentials".into()));
        };
        let answer = self.client.send(Method::GET, &url, headers, Bytes::new(), api::bounds(within)).await;
        let answer = answer.map_err(|error| api::look_up_unanswered(&error))?;
        if answer.status != StatusCode::OK {
            return Err(api::look_up_refused(&answer));
        }
        let unreadable = || LookUpFault::Away("unreadable_answer".into());
        let state: State = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
        let (code, amount) = (text(&state.error_code), text(&state.total_amount));
        report(message_id, &state.message_state, &code, &amount).ok_or_else(unreadable)
    }

    fn receipts(&self, request: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault> {
        if request.method != Method::POST {
            return Err(ReceiptFault::Malformed("not a POST"));
        }
        let form = api::read_form(request.body).ok_or(ReceiptFault::Malformed("not a form"))?;
        signature::check(&self.spec.auth_token, request, &form)?;
        let mut fields = ["MessageUUID", "Status", "ErrorCode", "TotalAmount"].map(|wanted| {
            let mut values = form.iter().filter(|(name, _)| name == wanted).map(|(_, value)| &**value);
            (values.next(), values.next())
        });
        if fields.iter().any(|(_, second)| second.is_some()) {
            return Err(ReceiptFault::Malformed("a field that should be there once"));
        }
        let [id, status, code, amount] = fields.each_mut().map(|(first, _)| first.unwrap_or_default());
        if !api::is_id(id) {
            return Err(ReceiptFault::Malformed("no MessageUUID"));
        }
        // A status that is new to us is nothing to complain about: they would only say it again.
        Ok(report(id, status, code, amount).into_iter().collect())
    }
}

fn accepted(answer: &Response) -> Outcome {
    let Ok(queued) = serde_json::from_slice::<Queued>(&answer.body) else { return api::unclear() };
    match queued.message_uuid.first() {
        Some(id) if api::is_id(id) => {
            Outcome::Accepted(Accepted { message_id: id.as_str().into(), ..Accepted::default() })
        }
        None if !queued.invalid_number.is_empty() => {
            Outcome::Refused(Refused::new(Fault::Recipient, "invalid_number"))
        }
        None | Some(_) => api::unclear(),
    }
}

/// Errors are sentences, and change: what they name is looked for, and the status decides otherwise.
fn refused(answer: &Response) -> Refused {
    let by_status = api::by_status(answer);
    let said = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    let said = said.get("error").map(|error| text(error).to_lowercase()).unwrap_or_default();
    let fault = match answer.status.as_u16() {
        400..=499 if said.contains("fraud") => Fault::Fraud,
        400 | 422 => of_parameter(&said),
        403 => Fault::Route,
        405 => Fault::Provider,
        _ => by_status.fault,
    };
    Refused { fault, ..by_status }
}

fn of_parameter(said: &str) -> Fault {
    let names = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if names(&["src", "source", "sender", "powerpack"]) {
        // Another provider has another sender.
        Fault::Route
    } else if names(&["dst", "destination", "number"]) {
        Fault::Recipient
    } else {
        Fault::Request
    }
}

/// What a message has come to; `None` if the status is none that we know.
fn report(id: &str, status: &str, code: &str, amount: &str) -> Option<Report> {
    let state = match status.to_ascii_lowercase().as_str() {
        "queued" => DeliveryState::Queued,
        "sent" => DeliveryState::Sent,
        "delivered" => DeliveryState::Delivered,
        "read" => DeliveryState::Read,
        "rejected" => DeliveryState::Rejected,
        "undelivered" => DeliveryState::Undelivered,
        "failed" => DeliveryState::Failed,
        _ => return None,
    };
    let has_failed =
        matches!(state, DeliveryState::Rejected | DeliveryState::Undelivered | DeliveryState::Failed);
    let refused = has_failed.then(|| Refused::new(fault(code), code));
    let state = if has_failed && code == EXPIRED { DeliveryState::Expired } else { state };
    // Nothing is charged before it is sent. Not verified: amounts are dollars for every account.
    let micros = api::micros(amount).filter(|micros| *micros > 0);
    let price = micros.map(|micros| Price { micros, currency: "USD".into() });
    Some(Report { message_id: id.into(), state, refused, price })
}

/// Not verified.
const EXPIRED: &str = "420";

/// Plivo's codes of what became of a message. Not verified: 420, 910.
fn fault(code: &str) -> Fault {
    match code {
        "10" | "110" => Fault::Request,
        "30" | "60" | "90" | "100" | "201" | "450" => Fault::Route,
        "40" | "900" | "910" => Fault::Provider,
        "50" | "70" => Fault::Recipient,
        "200" => Fault::OptedOut,
        // 20 and 80 are a network or phone that is away, 420 one that stayed so, 1000 is anything.
        _ => Fault::Transient,
    }
}

/// A text as it is, anything else as JSON writes it; nothing for null.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
