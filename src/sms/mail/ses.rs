//! Amazon SES, its second API: `POST /v2/email/outbound-emails`, and what became of a message.
//!
//! It reports of messages through SNS topics alone, whose signatures need a certificate fetched from elsewhere: there
//! are no receipts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::Method;
use ::http::header::{CONTENT_TYPE, HeaderMap};
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    AUTO_GENERATED, AUTO_SUBMITTED, CHANNELS, JSON, Letter, MailFault, Sender, accepted, id, last, refused,
    told, word,
};
use crate::decision::time::Timestamp;
use crate::http_client::{HttpClient, HttpUrl, Response};
use crate::sms::sigv4::{self, Unsigned};
use crate::sms::spec::{AwsCredentials, SesSpec};
use crate::sms::{
    Channel, DeliveryState, Fault, LookUpFault, Outbound, Outcome, ReceiptFault, ReceiptRequest, Refused,
    Report, SmsSender, api,
};

const SERVICE: &str = "ses";
const CHARSET: &str = "UTF-8";

/// One identity in one region.
pub(in crate::sms) struct Ses {
    name: Box<str>,
    client: Arc<HttpClient>,
    base_url: HttpUrl,
    send_url: HttpUrl,
    region: Box<str>,
    credentials: AwsCredentials,
    from: Sender,
}

impl fmt::Debug for Ses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ses({})", self.name)
    }
}

impl Ses {
    pub(in crate::sms) fn new(name: &str, spec: &SesSpec, client: Arc<HttpClient>) -> Result<Ses, MailFault> {
        Ok(Ses {
            name: name.into(),
            client,
            base_url: spec.base_url.clone(),
            send_url: spec.base_url.below("/v2/email/outbound-emails").map_err(MailFault::BaseUrl)?,
            region: spec.region.clone(),
            credentials: spec.credentials.clone(),
            from: Sender::new(&spec.from)?,
        })
    }

    fn sign(&self, request: Unsigned<'_>, now: Timestamp) -> Option<HeaderMap> {
        sigv4::sign(request, &self.credentials, &self.region, SERVICE, now)
    }

    fn body(&self, letter: &Letter<'_>) -> Value {
        json!({
            "FromEmailAddress": self.from.encoded(),
            "Destination": { "ToAddresses": [letter.to.as_str()] },
            "Content": { "Simple": {
                "Subject": { "Data": letter.subject, "Charset": CHARSET },
                "Body": { "Text": { "Data": letter.text, "Charset": CHARSET } },
                "Headers": [{ "Name": AUTO_SUBMITTED, "Value": AUTO_GENERATED }],
            } },
            "EmailTags": [{ "Name": "reference", "Value": letter.reference }],
        })
    }
}

#[async_trait]
impl SmsSender for Ses {
    fn channels(&self) -> &[Channel] {
        CHANNELS
    }

    async fn send(&self, message: &Outbound<'_>, within: Duration) -> Outcome {
        let letter = match Letter::of(message) {
            Ok(letter) => letter,
            Err(outcome) => return outcome,
        };
        let body = Bytes::from(self.body(&letter).to_string());
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, JSON)]);
        let unsigned = Unsigned { method: &Method::POST, url: &self.send_url, headers, body: &body };
        let Some(headers) = self.sign(unsigned, message.now) else { return api::unusable_credentials() };
        match self.client.post(&self.send_url, headers, body, api::bounds(within)).await {
            Ok(answer) => outcome(&answer),
            Err(error) => api::unanswered(&error),
        }
    }

    /// Only where the account has the insights of the Virtual Deliverability Manager.
    async fn look_up(
        &self,
        message_id: &str,
        within: Duration,
        now: Timestamp,
    ) -> Result<Report, LookUpFault> {
        if !api::is_id(message_id) {
            return Err(LookUpFault::Unknown);
        }
        let url = self.base_url.below(&format!("/v2/email/insights/{message_id}"));
        let url = url.and_then(|url| url.as_folder()).map_err(|_| LookUpFault::Unknown)?;
        let unsigned = Unsigned { method: &Method::GET, url: &url, headers: HeaderMap::new(), body: &[] };
        let headers = self.sign(unsigned, now).ok_or_else(|| LookUpFault::Refused("credentials".into()))?;
        let answer = self.client.send(Method::GET, &url, headers, Bytes::new(), api::bounds(within)).await;
        let document = told(answer)?;
        let list = |of: &Value, pointer: &str| {
            of.pointer(pointer).and_then(Value::as_array).cloned().unwrap_or_default()
        };
        let recipients = list(&document, "/Insights");
        let events = recipients.iter().flat_map(|recipient| list(recipient, "/Events"));
        last(events.filter_map(|event| {
            let (state, refused) = step(&event)?;
            Some(Report { message_id: message_id.into(), state, refused, price: None })
        }))
    }

    fn receipts(&self, _request: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault> {
        Err(ReceiptFault::None)
    }
}

fn step(event: &Value) -> Option<(DeliveryState, Option<Refused>)> {
    Some(match word(event, "/Type").as_str() {
        "send" => (DeliveryState::Sent, None),
        "delivery_delay" => (DeliveryState::Queued, None),
        "delivery" => (DeliveryState::Delivered, None),
        "open" | "click" => (DeliveryState::Read, None),
        "reject" => (DeliveryState::Rejected, refused(Fault::Route, "reject")),
        "rendering_failure" => (DeliveryState::Failed, refused(Fault::Request, "rendering_failure")),
        "bounce" => {
            let kind = word(event, "/Details/Bounce/BounceType");
            let fault = match kind.as_str() {
                "permanent" => Fault::Recipient,
                "transient" => Fault::Transient,
                _ => Fault::Route,
            };
            (DeliveryState::Undelivered, refused(fault, &format!("bounce_{kind}")))
        }
        _ => return None,
    })
}

fn outcome(answer: &Response) -> Outcome {
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status.as_u16() == 200 {
        return accepted(id(&document, "/MessageId"));
    }
    // `BadRequestException:http://…` in the header, `namespace#BadRequestException` in the body.
    let header = answer.headers.get("x-amzn-errortype").and_then(|kind| kind.to_str().ok());
    let kind = header.or_else(|| super::text(&document, "/__type")).unwrap_or_default();
    let kind = kind.split(':').next().unwrap_or_default();
    let kind = kind.rsplit('#').next().unwrap_or_default();
    let fault = match kind.strip_suffix("Exception").unwrap_or(kind) {
        "TooManyRequests" | "Throttling" => Fault::Throttled,
        // Most often the sandbox, or a sender that was not verified.
        "MessageRejected" => Fault::Provider,
        "AccountSuspended" | "SendingPaused" | "MailFromDomainNotVerified" | "LimitExceeded" | "NotFound" => {
            Fault::Provider
        }
        "BadRequest" => Fault::Request,
        _ => {
            let by_status = api::by_status(answer);
            return Outcome::Refused(match api::is_word(kind) {
                true => api::refused(by_status.fault, kind, answer),
                false => by_status,
            });
        }
    };
    Outcome::Refused(api::refused(fault, kind, answer))
}
