//! Twilio: texts, calls and WhatsApp through the API of 2010-04-01.

mod receipt;
mod speech;
mod table;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use ::http::{HeaderMap, HeaderValue, Method};
use async_trait::async_trait;
use bytes::Bytes;
use ring::hmac;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::spec::{TwilioSender, TwilioSpec, TwilioWhatsapp};
use super::{
    Accepted, Channel, Fault, LookUpFault, Outbound, Outcome, Price, ReceiptFault, ReceiptRequest, Refused,
    Report, SmsSender, api, json,
};
use crate::decision::time::Timestamp;
use crate::http_client::{HttpClient, HttpError, HttpUrl, HttpUrlFault, Response};

/// What `ValidityPeriod` may be, seconds.
const VALIDITY_MAX_S: u64 = 36_000;
/// How long a phone rings at most, seconds: Twilio's own default.
const RING_MAX_S: u64 = 60;
/// How much TwiML a call may bring with it, characters.
const TWIML_MAX: usize = 4000;

/// One account.
pub(super) struct Twilio {
    base_url: HttpUrl,
    account_sid: Box<str>,
    /// None: the credentials cannot be put into a header.
    authorization: Option<HeaderValue>,
    /// Of the account's token, whatever messages are sent with.
    receipts: hmac::Key,
    sender: TwilioSender,
    voice_from: Option<Box<str>>,
    whatsapp: Option<TwilioWhatsapp>,
    channels: Vec<Channel>,
    name: Box<str>,
    client: Arc<HttpClient>,
}

impl fmt::Debug for Twilio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Twilio({})", self.name)
    }
}

impl Twilio {
    pub(super) fn new(name: &str, spec: &TwilioSpec, client: Arc<HttpClient>) -> Twilio {
        let authorization = match &spec.api_key {
            Some((key, secret)) => api::basic(key, secret),
            None => api::basic(&spec.account_sid, &spec.auth_token),
        };
        let mut channels = vec![Channel::Sms];
        channels.extend(spec.voice_from.is_some().then_some(Channel::Voice));
        channels.extend(spec.whatsapp.is_some().then_some(Channel::Whatsapp));
        Twilio {
            base_url: spec.base_url.clone(),
            account_sid: spec.account_sid.clone(),
            authorization,
            receipts: receipt::key(&spec.auth_token),
            sender: spec.sender.clone(),
            voice_from: spec.voice_from.clone(),
            whatsapp: spec.whatsapp.clone(),
            channels,
            name: name.into(),
            client,
        }
    }

    /// `Messages` or `Calls`, and the form that makes one of them.
    fn written(&self, message: &Outbound<'_>) -> Result<(&'static str, api::Form), Refused> {
        let unfit = || Refused::new(Fault::Route, "channel");
        match message.channel {
            Channel::Sms => Ok(("Messages", self.text(message))),
            Channel::Whatsapp => {
                let whatsapp = self.whatsapp.as_ref().ok_or_else(unfit)?;
                Ok(("Messages", template(whatsapp, message)?))
            }
            Channel::Voice => {
                let from = self.voice_from.as_deref().ok_or_else(unfit)?;
                Ok(("Calls", call(from, message)?))
            }
            Channel::Email => Err(unfit()),
        }
    }

    fn text(&self, message: &Outbound<'_>) -> api::Form {
        let mut form = api::Form::default();
        form.push("To", message.to);
        match &self.sender {
            TwilioSender::From(from) => form.push("From", from),
            TwilioSender::MessagingService(sid) => form.push("MessagingServiceSid", sid),
        }
        form.push("Body", message.text.expose_secret());
        finish_message(&mut form, message);
        form
    }

    async fn exchange(
        &self,
        method: Method,
        resource: &str,
        body: Bytes,
        authorization: HeaderValue,
        within: Duration,
    ) -> Result<Result<Response, HttpError>, HttpUrlFault> {
        let url =
            self.base_url.below(&format!("/2010-04-01/Accounts/{}/{resource}.json", self.account_sid))?;
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if method == Method::POST {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        Ok(self.client.send(method, &url, headers, body, api::bounds(within)).await)
    }
}

/// WhatsApp takes codes in its own words alone: one of the templates that it approved, by language.
fn template(whatsapp: &TwilioWhatsapp, message: &Outbound<'_>) -> Result<api::Form, Refused> {
    let language = message.locale.split('-').next().unwrap_or_default();
    let sids = [message.locale, language, "default"];
    let Some(sid) = sids.into_iter().find_map(|locale| whatsapp.content_sids.get(locale)) else {
        return Err(Refused::new(Fault::Route, "no_template"));
    };
    let variables = serde_json::json!({ "1": message.code.expose_secret() });
    let mut form = api::Form::default();
    form.push("To", &format!("whatsapp:{}", message.to));
    form.push("From", &format!("whatsapp:{}", whatsapp.from));
    form.push("ContentSid", sid);
    form.push("ContentVariables", &variables.to_string());
    finish_message(&mut form, message);
    Ok(form)
}

fn finish_message(form: &mut api::Form, message: &Outbound<'_>) {
    // What has less than a second to live is refused before it comes here; a zero would be no limit.
    let validity_s = message.expires_in.as_secs().clamp(1, VALIDITY_MAX_S);
    form.push("ValidityPeriod", &validity_s.to_string());
    form.push("Attempt", &message.attempt.to_string());
    form.push("ContentRetention", "discard");
    form.push("AddressRetention", "obfuscate");
    if let Some(url) = message.receipt_url {
        form.push("StatusCallback", url);
    }
}

fn call(from: &str, message: &Outbound<'_>) -> Result<api::Form, Refused> {
    let twiml = speech::twiml(message.text.expose_secret(), message.code.expose_secret(), message.locale);
    if twiml.chars().count() > TWIML_MAX {
        return Err(Refused::new(Fault::Request, "too_long_to_say"));
    }
    let mut form = api::Form::default();
    form.push("To", message.to);
    form.push("From", from);
    form.push("Twiml", &twiml);
    form.push("Timeout", &message.expires_in.as_secs().clamp(1, RING_MAX_S).to_string());
    if let Some(url) = message.receipt_url {
        form.push("StatusCallback", url);
    }
    Ok(form)
}

#[async_trait]
impl SmsSender for Twilio {
    fn channels(&self) -> &[Channel] {
        &self.channels
    }

    async fn send(&self, message: &Outbound<'_>, within: Duration) -> Outcome {
        let (resource, form) = match self.written(message) {
            Ok(written) => written,
            Err(refused) => return Outcome::Refused(refused),
        };
        let Some(authorization) = self.authorization.clone() else { return api::unusable_credentials() };
        let answer = self.exchange(Method::POST, resource, form.into_bytes(), authorization, within).await;
        match answer {
            Ok(Ok(answer)) => judge(&answer),
            Ok(Err(error)) => api::unanswered(&error),
            Err(_no_url) => Outcome::Refused(Refused::new(Fault::Provider, "account_sid")),
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
        let kind = if message_id.starts_with("CA") { "Calls" } else { "Messages" };
        let unusable = || LookUpFault::Refused("credentials".into());
        let authorization = self.authorization.clone().ok_or_else(unusable)?;
        let resource = format!("{kind}/{message_id}");
        let answer = self.exchange(Method::GET, &resource, Bytes::new(), authorization, within).await;
        let answer = answer
            .map_err(|_no_url| LookUpFault::Refused("account_sid".into()))?
            .map_err(|error| api::look_up_unanswered(&error))?;
        if !answer.status.is_success() {
            return Err(api::look_up_refused(&answer));
        }
        let unreadable = || LookUpFault::Refused("unreadable_answer".into());
        let found: Value = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
        let status = json::text(&found, "/status").ok_or_else(unreadable)?;
        let error = json::text(&found, "/error_code");
        let report = receipt::report(message_id, &status, error.as_deref()).ok_or_else(unreadable)?;
        Ok(Report { price: price(&found), ..report })
    }

    fn receipts(&self, request: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault> {
        receipt::read(&self.receipts, request)
    }
}

fn judge(answer: &Response) -> Outcome {
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    if !answer.status.is_success() {
        let code = body.as_ref().and_then(|body| json::number(body, "/code"));
        return Outcome::Refused(match code {
            Some(code) => match table::fault(code) {
                Some(fault) => api::refused(fault, &code.to_string(), answer),
                None => Refused { code: code.to_string().into(), ..api::by_status(answer) },
            },
            None => api::by_status(answer),
        });
    }
    let Some(body) = body else { return api::unclear() };
    let Some(sid) = json::text(&body, "/sid").filter(|sid| api::is_id(sid)) else { return api::unclear() };
    // It may know at once that nothing will come of what it has just made.
    let status = json::text(&body, "/status").unwrap_or_default();
    if matches!(status.as_str(), "failed" | "undelivered" | "canceled") {
        let code = json::number(&body, "/error_code");
        let fault = code.and_then(table::fault).unwrap_or(Fault::Transient);
        return Outcome::Refused(Refused::new(fault, &code.map_or(status, |code| code.to_string())));
    }
    // Zero until a messaging service has chosen a sender.
    let parts = json::number(&body, "/num_segments").and_then(|parts| u16::try_from(parts).ok());
    Outcome::Accepted(Accepted {
        message_id: sid.into(),
        parts: parts.filter(|parts| *parts > 0),
        price: price(&body),
    })
}

/// What it took from the account, which it writes as a negative amount; not known at first.
fn price(body: &Value) -> Option<Price> {
    let amount = json::text(body, "/price")?;
    let micros = api::micros(amount.strip_prefix('-').unwrap_or(&amount))?;
    Some(Price { micros, currency: json::text(body, "/price_unit")?.to_uppercase().into() })
}
