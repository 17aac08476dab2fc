//! Sinch: batches of one, by the API of service plans.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use ::http::{HeaderName, Method, StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use ring::hmac;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use super::api;
use super::spec::SinchSpec;
use super::{
    Accepted, Channel, DeliveryState, Fault, LookUpFault, Outbound, Outcome, ReceiptFault, ReceiptRequest,
    Refused, Report, SmsSender,
};
use crate::decision::rfc3339;
use crate::decision::time::{Span, Timestamp};
use crate::http_client::{HttpClient, HttpUrl, Response, bearer};

const SIGNATURE: HeaderName = HeaderName::from_static("x-sinch-webhook-signature");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-sinch-webhook-signature-timestamp");
const NONCE: HeaderName = HeaderName::from_static("x-sinch-webhook-signature-nonce");
const ALGORITHM: HeaderName = HeaderName::from_static("x-sinch-webhook-signature-algorithm");

pub(super) struct Sinch {
    name: Box<str>,
    spec: SinchSpec,
    client: Arc<HttpClient>,
    /// Checks receipts. Without it they are believed by their path, as Sinch signs none unless it was asked to.
    key: Option<hmac::Key>,
}

#[derive(Serialize)]
struct Batch<'a> {
    from: &'a str,
    to: [&'a str; 1],
    body: &'a str,
    r#type: &'static str,
    delivery_report: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback_url: Option<&'a str>,
    client_reference: &'a str,
    expire_at: String,
}

#[derive(Deserialize)]
struct Created {
    id: String,
    #[serde(default)]
    canceled: serde_json::Value,
}

#[derive(Deserialize)]
struct Fail {
    #[serde(default)]
    code: String,
    #[serde(default)]
    text: String,
}

/// A report on a batch, or on its recipient.
#[derive(Deserialize)]
struct Told {
    r#type: String,
    #[serde(default)]
    batch_id: String,
    code: Option<u16>,
    status: Option<String>,
    #[serde(default)]
    statuses: Vec<Status>,
}

#[derive(Deserialize)]
struct Status {
    code: u16,
    status: String,
}

impl Sinch {
    pub(super) fn new(name: &str, spec: &SinchSpec, client: Arc<HttpClient>) -> Sinch {
        let secret = spec.webhook_secret.as_ref();
        let key = secret.map(|s| hmac::Key::new(hmac::HMAC_SHA256, s.expose_secret().as_bytes()));
        Sinch { name: name.into(), spec: spec.clone(), client, key }
    }

    fn url(&self, below: &str) -> Option<HttpUrl> {
        self.spec.base_url.below(&format!("/xms/v1/{}/{below}", self.spec.service_plan_id)).ok()
    }

    fn headers(&self) -> Option<HeaderMap> {
        let json = HeaderValue::from_static("application/json");
        Some(HeaderMap::from_iter([(AUTHORIZATION, bearer(&self.spec.api_token)?), (CONTENT_TYPE, json)]))
    }

    fn check(&self, request: &ReceiptRequest<'_>) -> Result<(), ReceiptFault> {
        let Some(key) = &self.key else { return Ok(()) };
        let signature = api::signed_by(request.headers, &SIGNATURE)?;
        let timestamp = api::signed_by(request.headers, &TIMESTAMP)?;
        let nonce = api::signed_by(request.headers, &NONCE)?;
        if !api::signed_by(request.headers, &ALGORITHM)?.eq_ignore_ascii_case("HmacSHA256") {
            return Err(ReceiptFault::Malformed("another algorithm"));
        }
        let signed = [&request.body[..], b".", nonce.as_bytes(), b".", timestamp.as_bytes()].concat();
        if !api::any_verifies(key, &signed, std::iter::once(signature)) {
            return Err(ReceiptFault::Forged);
        }
        api::check_age(timestamp, request.now)
    }
}

impl fmt::Debug for Sinch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sinch({})", self.name)
    }
}

#[async_trait]
impl SmsSender for Sinch {
    fn channels(&self) -> &[Channel] {
        &[Channel::Sms]
    }

    async fn send(&self, message: &Outbound<'_>, within: Duration) -> Outcome {
        let (Some(url), Some(headers)) = (self.url("batches"), self.headers()) else {
            return api::unusable_credentials();
        };
        let lives_ms = u64::try_from(message.expires_in.as_millis()).unwrap_or(u64::MAX);
        let body = serde_json::to_vec(&Batch {
            from: digits(&self.spec.from),
            to: [digits(message.to)],
            body: message.text.expose_secret(),
            r#type: "mt_text",
            delivery_report: if message.receipt_url.is_some() { "per_recipient" } else { "none" },
            callback_url: message.receipt_url,
            client_reference: message.reference,
            expire_at: rfc3339::written(message.now.plus(Span::from_millis(lives_ms))),
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
        let (Some(url), Some(headers)) =
            (self.url(&format!("batches/{message_id}/delivery_report")), self.headers())
        else {
            return Err(LookUpFault::Refused("credentials".into()));
        };
        let answer = self.client.send(Method::GET, &url, headers, Bytes::new(), api::bounds(within)).await;
        let answer = answer.map_err(|error| api::look_up_unanswered(&error))?;
        if answer.status != StatusCode::OK {
            return Err(api::look_up_refused(&answer));
        }
        let unreadable = || LookUpFault::Away("unreadable_answer".into());
        let told: Told = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
        let reports = reports(&told, message_id);
        // A batch of one has one status; were there more, the last word counts.
        reports.into_iter().max_by_key(|report| report.state.rank()).ok_or_else(unreadable)
    }

    fn receipts(&self, request: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault> {
        if request.method != Method::POST {
            return Err(ReceiptFault::Malformed("not a POST"));
        }
        self.check(request)?;
        let told: Told =
            serde_json::from_slice(request.body).map_err(|_| ReceiptFault::Malformed("no report"))?;
        if !api::is_id(&told.batch_id) {
            return Err(ReceiptFault::Malformed("no batch_id"));
        }
        Ok(reports(&told, &told.batch_id))
    }
}

/// Numbers go without their `+`; names of senders have none.
fn digits(number: &str) -> &str {
    number.strip_prefix('+').unwrap_or(number)
}

fn accepted(answer: &Response) -> Outcome {
    let created = serde_json::from_slice::<Created>(&answer.body);
    let Ok(Created { id, canceled }) = created else { return api::unclear() };
    // Their documentation has both a boolean and its name.
    let is_canceled = canceled == true || canceled.as_str().is_some_and(|s| s.eq_ignore_ascii_case("true"));
    if is_canceled {
        return Outcome::Refused(Refused::new(Fault::Provider, "canceled"));
    }
    match api::is_id(&id) {
        true => Outcome::Accepted(Accepted { message_id: id.into(), ..Accepted::default() }),
        false => api::unclear(),
    }
}

fn refused(answer: &Response) -> Refused {
    let by_status = api::by_status(answer);
    let Ok(Fail { code, text }) = serde_json::from_slice(&answer.body) else { return by_status };
    let fault = match (answer.status.as_u16(), code.as_str()) {
        (400, _) if names_field(&text, "from") => Fault::Route,
        (400, _) if names_field(&text, "to") || names_number(&text) => Fault::Recipient,
        (403, "illegal_number_type") => Fault::Route,
        (403, "missing_callback_url" | "unknown_group" | "unknown_campaign") => Fault::Request,
        _ => by_status.fault,
    };
    let code = if api::is_word(&code) { code.into() } else { by_status.code.clone() };
    Refused { fault, code, ..by_status }
}

/// Whether a sentence speaks of a field: its name in quotes or brackets, or with an index. Not verified: how Sinch
/// words it; a word as short as `to` is in every other sentence.
fn names_field(text: &str, field: &str) -> bool {
    text.match_indices(field).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + field.len()..].chars().next();
        let opens = before.is_none_or(|c| matches!(c, '\'' | '"' | '`' | '[' | '(' | '.' | ' '));
        let indexed = matches!(after, Some('.' | '[' | ':' | '='));
        let enclosed = matches!(before, Some('\'' | '"' | '`' | '[' | '('))
            && matches!(after, Some('\'' | '"' | '`' | ']' | ')'));
        enclosed || (opens && indexed)
    })
}

fn names_number(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("msisdn") || text.contains("recipient")
}

/// What is told of our one recipient. Other kinds of callbacks report nothing.
fn reports(told: &Told, id: &str) -> Vec<Report> {
    let report = |code: u16, status: &str| {
        let state = state(status)?;
        let refused = has_failed(state).then(|| Refused::new(fault(code), &code.to_string()));
        Some(Report { message_id: id.into(), state, refused, price: None })
    };
    match (told.r#type.as_str(), told.code, told.status.as_deref()) {
        ("recipient_delivery_report_sms", Some(code), Some(status)) => {
            report(code, status).into_iter().collect()
        }
        ("delivery_report_sms", _, _) => {
            told.statuses.iter().filter_map(|each| report(each.code, &each.status)).collect()
        }
        _ => Vec::new(),
    }
}

/// `None` of `Unknown`, after which nothing more is heard, and of what we do not know.
fn state(status: &str) -> Option<DeliveryState> {
    match status.to_ascii_lowercase().as_str() {
        "queued" => Some(DeliveryState::Queued),
        "dispatched" => Some(DeliveryState::Sent),
        "delivered" => Some(DeliveryState::Delivered),
        "failed" => Some(DeliveryState::Failed),
        "expired" => Some(DeliveryState::Expired),
        "aborted" | "cancelled" | "canceled" | "rejected" | "deleted" => Some(DeliveryState::Rejected),
        _ => None,
    }
}

fn has_failed(state: DeliveryState) -> bool {
    match state {
        DeliveryState::Undelivered
        | DeliveryState::Failed
        | DeliveryState::Expired
        | DeliveryState::Rejected => true,
        DeliveryState::Accepted
        | DeliveryState::Queued
        | DeliveryState::Sent
        | DeliveryState::Delivered
        | DeliveryState::Read => false,
    }
}

/// Sinch's codes of what became of a message.
fn fault(code: u16) -> Fault {
    match code {
        402 | 412 => Fault::Route,
        405 | 411 | 414..=418 => Fault::Request,
        410 | 413 => Fault::Provider,
        // 403 and 408 are troubles of their own, 404 those of a phone, 406 is too late, 407 was called back.
        _ => Fault::Transient,
    }
}
