//! E-mail as a channel: what its providers have in common.
//!
//! A letter is text alone, without links to follow or pictures to load, and says that a machine wrote it. Its subject
//! never holds the code: phones show subjects on locked screens.
//!
//! The webhooks of these providers are set up for a whole account. They report of all of its letters, and of ours by
//! the provider's name for them; without a secret to check them by they are not believed.

mod address;
pub(in crate::sms) mod mailgun;
pub(in crate::sms) mod postmark;
mod replies;
pub(in crate::sms) mod resend;
pub(in crate::sms) mod sendgrid;
pub(in crate::sms) mod ses;
pub(in crate::sms) mod smtp;

pub use address::{Address, AddressFault};
pub use smtp::{SmtpUrl, SmtpUrlFault};

use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use ::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use thiserror::Error;

use super::spec::Mailbox;
use super::{Accepted, Channel, Fault, LookUpFault, Outbound, Outcome, ReceiptFault, Refused, Report, api};
use crate::http_client::{HttpClient, HttpError, HttpUrl, HttpUrlFault, Response};

const CHANNELS: &[Channel] = &[Channel::Email];

/// Asks other machines not to answer (RFC 3834 §5).
const AUTO_SUBMITTED: &str = "Auto-Submitted";
const AUTO_GENERATED: &str = "auto-generated";

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// Why what the file says makes no mailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MailFault {
    #[error("the sender's address: {0}")]
    From(AddressFault),
    #[error("the sender's name holds a control character")]
    Name,
    #[error("the key has characters that no header can carry")]
    Key,
    #[error("the domain is none")]
    Domain,
    #[error("webhook_secret is not what the provider gives: {0}")]
    WebhookSecret(&'static str),
    #[error("url: {0}")]
    Url(SmtpUrlFault),
    #[error("base_url: {0}")]
    BaseUrl(HttpUrlFault),
}

/// Whom letters are from.
#[derive(Clone)]
struct Sender {
    name: Option<Box<str>>,
    address: Address,
}

impl Sender {
    fn new(mailbox: &Mailbox) -> Result<Sender, MailFault> {
        let name = mailbox.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
        if name.is_some_and(|name| name.contains(char::is_control)) {
            return Err(MailFault::Name);
        }
        let address = Address::parse(&mailbox.address).map_err(MailFault::From)?;
        Ok(Sender { name: name.map(Box::from), address })
    }

    /// `Name <user@host>` for providers that encode names themselves.
    fn written(&self) -> String {
        let address = self.address.as_str();
        match &self.name {
            None => address.to_owned(),
            Some(name) if name.chars().all(is_phrase) => format!("{name} <{address}>"),
            Some(name) => {
                let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
                format!("\"{escaped}\" <{address}>")
            }
        }
    }

    /// The same in ASCII: a name with other letters becomes encoded words (RFC 2047).
    fn encoded(&self) -> String {
        // 45 bytes are 60 characters of base64: the longest that fit the 75 of a word.
        const WORD_BYTES_MAX: usize = 45;
        let Some(name) = self.name.as_deref().filter(|name| !name.is_ascii()) else { return self.written() };
        let mut words = vec![String::new()];
        for letter in name.chars() {
            match words.last_mut() {
                Some(word) if word.len() + letter.len_utf8() <= WORD_BYTES_MAX => word.push(letter),
                Some(_) | None => words.push(letter.to_string()),
            }
        }
        let words: Vec<String> =
            words.iter().map(|word| format!("=?UTF-8?B?{}?=", BASE64.encode(word))).collect();
        format!("{} <{}>", words.join(" "), self.address.as_str())
    }
}

/// Letters that a name may have without quotes.
fn is_phrase(letter: char) -> bool {
    letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_' | '!' | '\'' | '&' | '+' | '/')
}

/// A message of which each part can stand where it belongs.
struct Letter<'m> {
    to: Address,
    subject: &'m str,
    text: &'m str,
    reference: &'m str,
}

impl<'m> Letter<'m> {
    fn of(message: &Outbound<'m>) -> Result<Letter<'m>, Outcome> {
        if message.channel != Channel::Email {
            return Err(api::unsendable("channel"));
        }
        let to = Address::parse(message.to).map_err(|_| api::unsendable("address"))?;
        let code = message.code.expose_secret();
        if message.subject.contains(char::is_control) || message.subject.contains(code) {
            return Err(api::unsendable("subject"));
        }
        if !api::is_id(message.reference) {
            return Err(api::unsendable("reference"));
        }
        let text = message.text.expose_secret();
        Ok(Letter { to, subject: message.subject, text, reference: message.reference })
    }
}

/// Calls of one account at one HTTP API.
struct Account {
    name: Box<str>,
    client: Arc<HttpClient>,
    base_url: HttpUrl,
    /// The header that says who calls; hidden in Debug.
    credentials: (HeaderName, HeaderValue),
}

impl Account {
    fn new(
        name: &str,
        client: Arc<HttpClient>,
        base_url: &HttpUrl,
        header: HeaderName,
        credentials: Option<HeaderValue>,
    ) -> Result<Account, MailFault> {
        let credentials = (header, credentials.ok_or(MailFault::Key)?);
        Ok(Account { name: name.into(), client, base_url: base_url.clone(), credentials })
    }

    fn headers(&self) -> HeaderMap {
        let (name, value) = &self.credentials;
        HeaderMap::from_iter([(name.clone(), value.clone()), (ACCEPT, JSON)])
    }

    async fn post(
        &self,
        url: &HttpUrl,
        content_type: HeaderValue,
        more: HeaderMap,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Response, HttpError> {
        let mut headers = self.headers();
        headers.insert(CONTENT_TYPE, content_type);
        headers.extend(more);
        self.client.post(url, headers, body.into(), api::bounds(within)).await
    }

    /// Asks for something that is no secret.
    async fn get(&self, url: &HttpUrl, within: Duration) -> Result<Value, LookUpFault> {
        let exchange =
            self.client.send(Method::GET, url, self.headers(), bytes::Bytes::new(), api::bounds(within));
        told(exchange.await)
    }
}

/// The document that answers a look-up.
fn told(answer: Result<Response, HttpError>) -> Result<Value, LookUpFault> {
    let answer = answer.map_err(|error| api::look_up_unanswered(&error))?;
    match answer.status {
        StatusCode::OK => serde_json::from_slice(&answer.body)
            .map_err(|_| LookUpFault::Away("an answer that is no JSON".into())),
        _ => Err(api::look_up_refused(&answer)),
    }
}

/// The text there, if there is one that is not empty.
fn text<'v>(document: &'v Value, pointer: &str) -> Option<&'v str> {
    document.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

/// A provider's name for a letter, without the angle brackets of some: nothing that could not stand in a log or a query.
fn id(document: &Value, pointer: &str) -> Option<Box<str>> {
    text(document, pointer).and_then(as_id)
}

fn as_id(text: &str) -> Option<Box<str>> {
    const BYTES_MAX: usize = 256;
    let bare = text.trim_matches(['<', '>']);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_@+=".contains(&byte);
    (!bare.is_empty() && bare.len() <= BYTES_MAX && bare.bytes().all(is_plain)).then(|| bare.into())
}

/// What an answer with a provider's name for a letter comes to; without one nobody knows what was done.
fn accepted(message_id: Option<Box<str>>) -> Outcome {
    match message_id {
        Some(message_id) => Outcome::Accepted(Accepted { message_id, ..Accepted::default() }),
        None => api::unclear(),
    }
}

/// The same, without the cases of its letters, for providers that spell their own words in several.
fn word(document: &Value, pointer: &str) -> String {
    text(document, pointer).unwrap_or_default().to_ascii_lowercase()
}

/// The body of a receipt.
fn document(body: &[u8]) -> Result<Value, ReceiptFault> {
    serde_json::from_slice(body).map_err(|_| ReceiptFault::Malformed("no JSON"))
}

/// What is known last: of several reports of one message, the one that no other gives way to.
fn last(reports: impl Iterator<Item = Report>) -> Result<Report, LookUpFault> {
    reports.max_by_key(|report| report.state.rank()).ok_or(LookUpFault::Unknown)
}

fn refused(fault: Fault, code: &str) -> Option<Refused> {
    Some(Refused::new(fault, code))
}

#[cfg(test)]
mod tests;
