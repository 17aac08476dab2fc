//! Sending codes: what is sent, what providers answer, and who is asked in which order.
//!
//! ```text
//! Outbound ─► Dispatcher ─► one provider after another ─► Outcome
//!                  ▲                     │
//!               Report ◄── receipts, look-ups
//! ```
//!
//! A provider is one file behind [`SmsSender`]: it turns an [`Outbound`] into its request and its answer into an
//! [`Outcome`]. Whether another one is asked is decided by the outcome alone, in one place.

mod api;
mod aws_sns;
mod console;
pub mod dispatch;
mod http;
mod json;
pub mod mail;
mod messagebird;
mod plivo;
mod segments;
mod sigv4;
mod sinch;
pub mod spec;
pub mod template;
mod twilio;
mod vonage;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderMap, Method};
use async_trait::async_trait;
use bytes::Bytes;
use secrecy::SecretString;
use thiserror::Error;

use crate::decision::time::Timestamp;
use crate::http_client::HttpClient;
use spec::{Kind, ProviderSpec};

/// How a code gets to its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    Sms,
    Voice,
    Whatsapp,
    Email,
}

impl Channel {
    pub const ALL: [Channel; 4] = [Channel::Sms, Channel::Voice, Channel::Whatsapp, Channel::Email];

    /// As requests and metrics name it.
    pub fn word(self) -> &'static str {
        match self {
            Channel::Sms => "sms",
            Channel::Voice => "voice",
            Channel::Whatsapp => "whatsapp",
            Channel::Email => "email",
        }
    }

    pub fn named(word: &str) -> Option<Channel> {
        Channel::ALL.into_iter().find(|channel| channel.word() == word)
    }
}

/// One message on its way to one provider. Debug hides whom it goes to and what it says.
#[derive(Clone, Copy)]
pub struct Outbound<'a> {
    pub channel: Channel,
    /// E.164 with its `+`, or an e-mail address without letters that a header could not carry.
    pub to: &'a str,
    /// What the recipient reads, or hears.
    pub text: &'a SecretString,
    /// What a message with a subject is about. Without line breaks, and without the code.
    pub subject: &'a str,
    /// The digits alone, for channels whose text is not ours.
    pub code: &'a SecretString,
    /// A BCP 47 tag such as `pt-BR`: that of the text.
    pub locale: &'a str,
    /// How long the code is still good for; the provider must give up then.
    pub expires_in: Duration,
    /// The number of this attempt to send this code, from 1, whatever the provider.
    pub attempt: u8,
    /// Ours, another for each attempt: 1 to 40 of `A–Z a–z 0–9 - _`.
    pub reference: &'a str,
    /// Where the provider reports what became of it.
    pub receipt_url: Option<&'a str>,
    /// The time of the attempt, for signatures.
    pub now: Timestamp,
}

impl fmt::Debug for Outbound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outbound { channel, attempt, reference, .. } = self;
        write!(f, "Outbound({} {reference}, attempt {attempt})", channel.word())
    }
}

/// What a provider made of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It took it. Whether it arrives is another matter.
    Accepted(Accepted),
    Refused(Refused),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Accepted {
    /// The provider's name for the message; empty if it gave none.
    pub message_id: Box<str>,
    /// How many segments it says it is.
    pub parts: Option<u16>,
    /// What it says it costs.
    pub price: Option<Price>,
}

/// An amount in millionths of its currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    pub micros: u64,
    /// ISO 4217, upper case.
    pub currency: Box<str>,
}

/// Why a message was not taken, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub fault: Fault,
    /// What the provider calls it, for logs and events: at most 64 of `A–Z a–z 0–9 . _ -`, see [`Refused::new`].
    pub code: Box<str>,
    /// When the provider asks to be asked again.
    pub retry_after: Option<Duration>,
}

impl Refused {
    /// Drops from `code` what could be anything but a code.
    pub fn new(fault: Fault, code: &str) -> Refused {
        const CODE_MAX: usize = 64;
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let code: String = code.chars().filter(is_plain).take(CODE_MAX).collect();
        Refused { fault, code: code.into(), retry_after: None }
    }
}

/// Whose fault it is that a message was not taken: decides who is asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// No provider will reach this number.
    Recipient,
    /// The recipient wants no messages.
    OptedOut,
    /// This provider does not reach this country, prefix or carrier.
    Route,
    /// Credentials, funds, account: this provider takes nothing from us.
    Provider,
    /// Too many at once.
    Throttled,
    /// The provider has trouble; nothing was sent.
    Transient,
    /// Nobody knows whether it was sent.
    Ambiguous,
    /// What we asked for is no message.
    Request,
    /// The provider suspects fraud. Asking another would defeat its shield.
    Fraud,
}

impl Fault {
    pub const ALL: [Fault; 9] = [
        Fault::Recipient,
        Fault::OptedOut,
        Fault::Route,
        Fault::Provider,
        Fault::Throttled,
        Fault::Transient,
        Fault::Ambiguous,
        Fault::Request,
        Fault::Fraud,
    ];

    /// As metrics and events name it.
    pub fn word(self) -> &'static str {
        match self {
            Fault::Recipient => "recipient",
            Fault::OptedOut => "opted_out",
            Fault::Route => "route",
            Fault::Provider => "provider",
            Fault::Throttled => "throttled",
            Fault::Transient => "transient",
            Fault::Ambiguous => "ambiguous",
            Fault::Request => "request",
            Fault::Fraud => "fraud",
        }
    }
}

/// What became of a message, as far as a provider knows. Reports come twice and in any order: a
/// state only ever gives way to one of a higher [`DeliveryState::rank`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    Accepted,
    Queued,
    Sent,
    Undelivered,
    Failed,
    Expired,
    Rejected,
    Delivered,
    Read,
}

impl DeliveryState {
    pub const ALL: [DeliveryState; 9] = [
        DeliveryState::Accepted,
        DeliveryState::Queued,
        DeliveryState::Sent,
        DeliveryState::Undelivered,
        DeliveryState::Failed,
        DeliveryState::Expired,
        DeliveryState::Rejected,
        DeliveryState::Delivered,
        DeliveryState::Read,
    ];

    pub fn word(self) -> &'static str {
        match self {
            DeliveryState::Accepted => "accepted",
            DeliveryState::Queued => "queued",
            DeliveryState::Sent => "sent",
            DeliveryState::Undelivered => "undelivered",
            DeliveryState::Failed => "failed",
            DeliveryState::Expired => "expired",
            DeliveryState::Rejected => "rejected",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Read => "read",
        }
    }

    pub fn rank(self) -> u8 {
        match self {
            DeliveryState::Accepted => 1,
            DeliveryState::Queued => 2,
            DeliveryState::Sent => 3,
            DeliveryState::Undelivered
            | DeliveryState::Failed
            | DeliveryState::Expired
            | DeliveryState::Rejected => 4,
            DeliveryState::Delivered => 5,
            DeliveryState::Read => 6,
        }
    }
}

/// What a provider reports of one message.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub message_id: Box<str>,
    pub state: DeliveryState,
    /// Why it did not arrive, by the provider's table.
    pub refused: Option<Refused>,
    pub price: Option<Price>,
}

/// A delivery receipt as it came in.
#[derive(Clone, Copy)]
pub struct ReceiptRequest<'a> {
    pub method: &'a Method,
    /// As the provider was told to call it: the configured public URL and the path and query of the request, unmodified.
    pub url: &'a str,
    /// Of the URL, without `?`.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a Bytes,
    pub now: Timestamp,
}

/// Why a receipt is not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReceiptFault {
    #[error("this provider sends no receipts")]
    None,
    #[error("it is not signed")]
    Unsigned,
    #[error("the signature is not the provider's")]
    Forged,
    /// Its own time is too far from ours.
    #[error("it is too old")]
    Stale,
    #[error("it is not what this provider sends: {0}")]
    Malformed(&'static str),
}

/// Why a provider does not tell what became of a message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LookUpFault {
    #[error("this provider cannot be asked")]
    None,
    #[error("the provider does not know the message")]
    Unknown,
    #[error("the provider refused: {0}")]
    Refused(Box<str>),
    #[error("no answer: {0}")]
    Away(Box<str>),
}

/// One account at one provider.
#[async_trait]
pub trait SmsSender: Send + Sync + fmt::Debug {
    /// The channels that this account is set up for.
    fn channels(&self) -> &[Channel];

    /// Sends once; never longer than `within`, connecting included. Never tries again by itself.
    async fn send(&self, message: &Outbound<'_>, within: Duration) -> Outcome;

    /// What became of a message.
    async fn look_up(
        &self,
        message_id: &str,
        within: Duration,
        now: Timestamp,
    ) -> Result<Report, LookUpFault>;

    /// Checks who sent a receipt, and reads it. One receipt may report of several messages, and some report nothing.
    fn receipts(&self, request: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault>;
}

/// Why a provider cannot be, although the file is sound.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("provider {provider}: {reason}")]
pub struct SenderFault {
    provider: Box<str>,
    reason: Box<str>,
}

impl SenderFault {
    fn new(spec: &ProviderSpec, reason: &dyn fmt::Display) -> SenderFault {
        SenderFault { provider: spec.name.clone(), reason: reason.to_string().into() }
    }
}

/// The adapter of a provider. Does no I/O.
pub fn sender(spec: &ProviderSpec, client: &Arc<HttpClient>) -> Result<Box<dyn SmsSender>, SenderFault> {
    let (name, client) = (&*spec.name, Arc::clone(client));
    let unfit = |fault: mail::MailFault| SenderFault::new(spec, &fault);
    Ok(match &spec.kind {
        Kind::Twilio(twilio) => Box::new(twilio::Twilio::new(name, twilio, client)),
        Kind::Vonage(vonage) => Box::new(vonage::Vonage::new(name, vonage, client)),
        Kind::MessageBird(bird) => Box::new(messagebird::MessageBird::new(name, bird, client)),
        Kind::AwsSns(sns) => Box::new(aws_sns::AwsSns::new(name, sns, client)),
        Kind::Plivo(plivo) => Box::new(plivo::Plivo::new(name, plivo, client)),
        Kind::Sinch(sinch) => Box::new(sinch::Sinch::new(name, sinch, client)),
        Kind::Http(gateway) => Box::new(
            http::HttpGateway::new(name, gateway, client).map_err(|fault| SenderFault::new(spec, &fault))?,
        ),
        Kind::Console => Box::new(console::Console::new(name)),
        Kind::Smtp(smtp) => Box::new(mail::smtp::Smtp::new(name, smtp).map_err(unfit)?),
        Kind::SendGrid(mailer) => {
            Box::new(mail::sendgrid::SendGrid::new(name, mailer, client).map_err(unfit)?)
        }
        Kind::Mailgun(mailer) => Box::new(mail::mailgun::Mailgun::new(name, mailer, client).map_err(unfit)?),
        Kind::Postmark(mailer) => {
            Box::new(mail::postmark::Postmark::new(name, mailer, client).map_err(unfit)?)
        }
        Kind::Ses(mailer) => Box::new(mail::ses::Ses::new(name, mailer, client).map_err(unfit)?),
        Kind::Resend(mailer) => Box::new(mail::resend::Resend::new(name, mailer, client).map_err(unfit)?),
    })
}
