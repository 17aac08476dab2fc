//! Postmark: `POST /email`, the details of a message, and webhooks behind Basic authentication.

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
    id, last, refused, text,
};
use crate::decision::time::Timestamp;
use crate::http_client::{HttpClient, HttpUrl, Response};
use crate::sms::spec::MailApiSpec;
use crate::sms::{
    Channel, DeliveryState, Fault, LookUpFault, Outbound, Outcome, ReceiptFault, ReceiptRequest, Refused,
    Report, SmsSender, api,
};

const TOKEN: HeaderName = HeaderName::from_static("x-postmark-server-token");
/// The stream of letters that answer somebody, which every server has.
const STREAM: &str = "outbound";

/// One server, as Postmark calls an account's senders.
pub(in crate::sms) struct Postmark {
    account: Account,
    from: Sender,
    send_url: HttpUrl,
    webhooks: Option<Webhooks>,
}

/// What webhooks must bring. Compared by their codes under a key, which takes the same time for all.
struct Webhooks {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl Webhooks {
    /// `user:password`
    fn new(pair: &SecretString) -> Result<Webhooks, MailFault> {
        let pair = pair.expose_secret();
        if !pair.split_once(':').is_some_and(|(user, password)| !user.is_empty() && !password.is_empty()) {
            return Err(MailFault::WebhookSecret("user:password, as in the URL of the webhook"));
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, pair.as_bytes());
        let tag = hmac::sign(&key, pair.as_bytes());
        Ok(Webhooks { key, tag })
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), ReceiptFault> {
        let given = api::signed_by(headers, &AUTHORIZATION)?;
        let (scheme, pair) = given.split_once(' ').ok_or(ReceiptFault::Forged)?;
        let pair = BASE64.decode(pair.trim()).map_err(|_| ReceiptFault::Forged)?;
        match scheme.eq_ignore_ascii_case("basic") {
            true => hmac::verify(&self.key, &pair, self.tag.as_ref()).map_err(|_| ReceiptFault::Forged),
            false => Err(ReceiptFault::Forged),
        }
    }
}

impl fmt::Debug for Postmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Postmark({})", self.account.name)
    }
}

impl Postmark {
    /// `webhook_secret` is `user:password`: what the URL given to Postmark has before its host.
    pub(in crate::sms) fn new(
        name: &str,
        spec: &MailApiSpec,
        client: Arc<HttpClient>,
    ) -> Result<Postmark, MailFault> {
        let token = HeaderValue::try_from(spec.api_key.expose_secret()).ok().map(|mut token| {
            token.set_sensitive(true);
            token
        });
        Ok(Postmark {
            account: Account::new(name, client, &spec.base_url, TOKEN, token)?,
            from: Sender::new(&spec.from)?,
            send_url: spec.base_url.below("/email").map_err(MailFault::BaseUrl)?,
            webhooks: spec.webhook_secret.as_ref().map(Webhooks::new).transpose()?,
        })
    }
}

#[async_trait]
impl SmsSender for Postmark {
    fn channels(&self) -> &[Channel] {
        CHANNELS
    }

    async fn send(&self, message: &Outbound<'_>, within: Duration) -> Outcome {
        let letter = match Letter::of(message) {
            Ok(letter) => letter,
            Err(outcome) => return outcome,
        };
        let body = json!({
            "From": self.from.written(),
            "To": letter.to.as_str(),
            "Subject": letter.subject,
            "TextBody": letter.text,
            "Headers": [{ "Name": AUTO_SUBMITTED, "Value": AUTO_GENERATED }],
            "Metadata": { "reference": letter.reference },
            "MessageStream": STREAM,
            "TrackOpens": false,
            "TrackLinks": "None",
        });
        let body = body.to_string().into_bytes();
        match self.account.post(&self.send_url, JSON, HeaderMap::new(), body, within).await {
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
        let path = format!("/messages/outbound/{message_id}/details");
        let url = self.account.base_url.below(&path).map_err(|_| LookUpFault::Unknown)?;
        let document = match self.account.get(&url, within).await {
            // Not verified: what is unknown is an error of its own (701), whose status is that of all.
            Err(LookUpFault::Refused(status)) if &*status == "http_422" => return Err(LookUpFault::Unknown),
            answer => answer?,
        };
        let sent = Report {
            message_id: message_id.into(),
            state: DeliveryState::Queued,
            refused: None,
            price: None,
        };
        let events = document.pointer("/MessageEvents").and_then(Value::as_array).into_iter().flatten();
        let reports = events.filter_map(|event| {
            let state = match text(event, "/Type")? {
                "Delivered" => DeliveryState::Delivered,
                "Opened" | "LinkClicked" => DeliveryState::Read,
                "Bounced" => DeliveryState::Undelivered,
                _ => return None,
            };
            Some(Report { state, ..sent.clone() })
        });
        last(reports.chain([sent.clone()]))
    }

    fn receipts(&self, request: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault> {
        self.webhooks.as_ref().ok_or(ReceiptFault::None)?.check(request.headers)?;
        let document = document(request.body)?;
        Ok(report(&document).into_iter().collect())
    }
}

fn outcome(answer: &Response) -> Outcome {
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let code = document.pointer("/ErrorCode").and_then(Value::as_u64);
    match (answer.status.as_u16(), code) {
        (200, Some(0)) => accepted(id(&document, "/MessageID")),
        (200, None) => api::unclear(),
        (200 | 401 | 422, Some(code)) => {
            let fault = match code {
                // A request that is no letter: because of the recipient, if it says so.
                300 if text(&document, "/Message").is_some_and(|message| message.contains("'To'")) => {
                    Fault::Recipient
                }
                300 | 402 | 403 | 409..=411 => Fault::Request,
                406 => Fault::Recipient,
                10 | 400 | 401 | 405 | 412 | 413 => Fault::Provider,
                100 => Fault::Transient,
                429 => Fault::Throttled,
                // The stream is not there, or not for this.
                1200..=1299 => Fault::Provider,
                _ => Fault::Request,
            };
            Outcome::Refused(api::refused(fault, &code.to_string(), answer))
        }
        _ => Outcome::Refused(api::by_status(answer)),
    }
}

fn report(event: &Value) -> Option<Report> {
    let message_id = id(event, "/MessageID")?;
    let (state, refused) = match text(event, "/RecordType")? {
        "Delivery" => (DeliveryState::Delivered, None),
        "Open" | "Click" => (DeliveryState::Read, None),
        "Bounce" => bounced(text(event, "/Type").unwrap_or_default())?,
        _ => return None,
    };
    Some(Report { message_id, state, refused, price: None })
}

/// What a kind of bounce means; nothing if the letter may have arrived.
fn bounced(kind: &str) -> Option<(DeliveryState, Option<Refused>)> {
    let fault = match kind {
        "HardBounce" | "BadEmailAddress" => Fault::Recipient,
        "ManuallyDeactivated" | "Unsubscribe" | "SpamComplaint" => Fault::OptedOut,
        "Blocked" | "SpamNotification" | "VirusNotification" | "DMARCPolicy" | "OpenRelayTest" => {
            Fault::Route
        }
        "SMTPApiError" | "InboundError" | "TemplateRenderingFailed" | "Unconfirmed" => Fault::Provider,
        "AutoResponder" | "ChallengeVerification" | "AddressChange" | "Subscribe" => return None,
        _ => Fault::Transient,
    };
    Some((DeliveryState::Undelivered, refused(fault, kind)))
}
