//! Amazon SNS: `Publish` to a phone number.
//!
//! **It says yes to messages that it will never send**: over the monthly spending limit, to numbers that the sandbox does
//! not know, to recipients who opted out. There are no receipts, and nothing tells what became of a message, so its health
//! shows by conversion alone. The one thing that can be asked is whether a recipient opted out; it is, before each
//! message, for as long as the account may ask. A message cannot expire either.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use ::http::{Method, StatusCode};
use async_trait::async_trait;
use bytes::Bytes;
use secrecy::ExposeSecret as _;

use super::api::{self, Form};
use super::sigv4::{Unsigned, sign};
use super::spec::AwsSnsSpec;
use super::{
    Accepted, Channel, Fault, LookUpFault, Outbound, Outcome, ReceiptFault, ReceiptRequest, Refused, Report,
    SmsSender,
};
use crate::decision::time::Timestamp;
use crate::http_client::{HttpClient, HttpError, Response};

const VERSION: &str = "2010-03-31";
const SERVICE: &str = "sns";
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");

pub(super) struct AwsSns {
    name: Box<str>,
    spec: AwsSnsSpec,
    client: Arc<HttpClient>,
    /// Until AWS says that this account may not ask who opted out.
    may_ask: AtomicBool,
}

/// Why there is no answer.
enum Unanswered {
    /// The credentials cannot be put into a header.
    Unsigned,
    Http(HttpError),
}

impl AwsSns {
    pub(super) fn new(name: &str, spec: &AwsSnsSpec, client: Arc<HttpClient>) -> AwsSns {
        AwsSns { name: name.into(), spec: spec.clone(), client, may_ask: AtomicBool::new(true) }
    }

    async fn call(&self, form: Form, within: Duration, now: Timestamp) -> Result<Response, Unanswered> {
        let AwsSnsSpec { base_url, region, credentials, .. } = &self.spec;
        let body: Bytes = form.into_bytes();
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, FORM)]);
        let request = Unsigned { method: &Method::POST, url: base_url, headers, body: &body };
        let headers = sign(request, credentials, region, SERVICE, now).ok_or(Unanswered::Unsigned)?;
        let answer = self.client.post(base_url, headers, body, api::bounds(within)).await;
        answer.map_err(Unanswered::Http)
    }

    /// Whether the recipient wants nothing from this account. What cannot be found out is no reason not to try; an error
    /// is one that a message would meet as well.
    async fn opted_out(&self, message: &Outbound<'_>, within: Duration) -> Result<bool, Unanswered> {
        if !self.may_ask.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let mut form = Form::default();
        form.push("Action", "CheckIfPhoneNumberIsOptedOut");
        form.push("Version", VERSION);
        form.push("phoneNumber", message.to);
        let answer = match self.call(form, within, message.now).await {
            Ok(answer) => answer,
            Err(
                fault @ (Unanswered::Unsigned | Unanswered::Http(HttpError::Connect(_) | HttpError::Tls(_))),
            ) => {
                return Err(fault);
            }
            Err(Unanswered::Http(HttpError::Timeout | HttpError::Broken(_) | HttpError::TooLarge(_))) => {
                return Ok(false);
            }
        };
        let text = String::from_utf8_lossy(&answer.body);
        if answer.status == StatusCode::FORBIDDEN && element(&text, "Code") == Some("AuthorizationError") {
            self.may_ask.store(false, Ordering::Relaxed);
        }
        Ok(answer.status == StatusCode::OK && element(&text, "isOptedOut") == Some("true"))
    }

    fn publish(&self, message: &Outbound<'_>) -> Form {
        let mut form = Form::default();
        form.push("Action", "Publish");
        form.push("Version", VERSION);
        form.push("PhoneNumber", message.to);
        form.push("Message", message.text.expose_secret());
        // Said of each message: what is set for the whole account may be changed by somebody else.
        let attributes = [
            Some(("AWS.SNS.SMS.SMSType", "Transactional")),
            self.spec.sender_id.as_deref().map(|id| ("AWS.SNS.SMS.SenderID", id)),
            self.spec.origination_number.as_deref().map(|number| ("AWS.MM.SMS.OriginationNumber", number)),
        ];
        for ((name, value), entry) in attributes.into_iter().flatten().zip(1..) {
            let at = format!("MessageAttributes.entry.{entry}");
            form.push(&format!("{at}.Name"), name);
            form.push(&format!("{at}.Value.DataType"), "String");
            form.push(&format!("{at}.Value.StringValue"), value);
        }
        form
    }
}

impl fmt::Debug for AwsSns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AwsSns({})", self.name)
    }
}

#[async_trait]
impl SmsSender for AwsSns {
    fn channels(&self) -> &[Channel] {
        &[Channel::Sms]
    }

    async fn send(&self, message: &Outbound<'_>, within: Duration) -> Outcome {
        let for_asking = within / 4;
        let answer = match self.opted_out(message, for_asking).await {
            Ok(true) => return Outcome::Refused(Refused::new(Fault::OptedOut, "opted_out")),
            Ok(false) => {
                let form = self.publish(message);
                self.call(form, within.saturating_sub(for_asking), message.now).await
            }
            Err(fault) => Err(fault),
        };
        match answer {
            Ok(answer) => read(&answer),
            Err(Unanswered::Unsigned) => api::unusable_credentials(),
            Err(Unanswered::Http(error)) => api::unanswered(&error),
        }
    }

    async fn look_up(
        &self,
        _message_id: &str,
        _within: Duration,
        _now: Timestamp,
    ) -> Result<Report, LookUpFault> {
        Err(LookUpFault::None)
    }

    fn receipts(&self, _request: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault> {
        Err(ReceiptFault::None)
    }
}

fn read(answer: &Response) -> Outcome {
    let text = String::from_utf8_lossy(&answer.body);
    if answer.status == StatusCode::OK {
        return match element(&text, "MessageId").filter(|id| api::is_id(id)) {
            Some(id) => Outcome::Accepted(Accepted { message_id: id.into(), ..Accepted::default() }),
            None => api::unclear(),
        };
    }
    let known = element(&text, "Code").filter(|code| api::is_word(code));
    let fault = known.and_then(|code| fault(code, element(&text, "Message").unwrap_or_default()));
    Outcome::Refused(match (known, fault) {
        (Some(code), Some(fault)) => api::refused(fault, code, answer),
        (Some(code), None) => Refused { code: code.into(), ..api::by_status(answer) },
        (None, _) => api::by_status(answer),
    })
}

/// What an error of AWS means; `None` of those that its status explains as well.
fn fault(code: &str, message: &str) -> Option<Fault> {
    match code {
        "AuthorizationError"
        | "InvalidSecurity"
        | "InvalidClientTokenId"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "ExpiredToken"
        | "UnrecognizedClient"
        | "UnrecognizedClientException"
        | "OptInRequired"
        // Our clock is wrong, and stays so.
        | "RequestExpired"
        | "EndpointDisabled"
        | "PlatformApplicationDisabled"
        | "NotFound" => Some(Fault::Provider),
        "InvalidParameter" | "ParameterValueInvalid" | "ValidationException" => Some(of_parameter(message)),
        "OptedOut" => Some(Fault::OptedOut),
        "Throttling" | "ThrottlingException" | "Throttled" => Some(Fault::Throttled),
        "InternalError" | "InternalFailure" | "ServiceUnavailable" => Some(Fault::Transient),
        code if code.starts_with("KMS") => Some(Fault::Provider),
        _ => None,
    }
}

/// Whose parameter is wrong: the message says it, in words that change.
fn of_parameter(message: &str) -> Fault {
    if message.contains("Originat") || message.contains("SenderID") || message.contains("SenderId") {
        // Another provider has another sender.
        Fault::Route
    } else if message.contains("PhoneNumber") || message.contains("phone number") {
        Fault::Recipient
    } else {
        Fault::Request
    }
}

/// The text of the first element of this name, which has no attributes in these answers.
fn element<'t>(xml: &'t str, name: &str) -> Option<&'t str> {
    let (_, inside) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = inside.split_once(&format!("</{name}>"))?;
    Some(text.trim())
}
