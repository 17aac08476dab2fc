//! What the file says of providers, in types that only hold sound values.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use secrecy::SecretString;

use super::Channel;
use crate::decision::time::Span;
use crate::http_client::HttpUrl;

/// One account at one provider, enabled.
#[derive(Clone, Debug)]
pub struct ProviderSpec {
    /// In metrics, events and the path of receipts: unique over all providers.
    pub name: Box<str>,
    /// Lower ones are asked first.
    pub priority: u32,
    /// How long one attempt may take.
    pub timeout: Span,
    pub limits: Pace,
    pub cost: Option<Cost>,
    pub kind: Kind,
}

/// `main (twilio): at most 60 in any 1m, 1000 in any 1h; 0.0075 USD a segment, 50 USD a day`
impl fmt::Display for ProviderSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): ", self.name, self.kind.word())?;
        match self.limits.windows.as_slice() {
            [] => f.write_str("without a limit of its own")?,
            windows => {
                let each = windows.iter().map(|(most, span)| format!("{most} in any {span}"));
                write!(f, "at most {}", each.collect::<Vec<_>>().join(", "))?;
            }
        }
        let Some(Cost { default_micros, by_country: _, currency, daily_max_micros }) = &self.cost else {
            return Ok(());
        };
        write!(f, "; {} {currency} a segment", decimal(*default_micros))?;
        match daily_max_micros {
            Some(most) => write!(f, ", at most {} {currency} a day", decimal(*most)),
            None => Ok(()),
        }
    }
}

/// Millionths as people write an amount: `0.0075`.
fn decimal(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// How many messages a provider is given at most. One over its own limits is passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// So many in such a time, each held by itself.
    pub windows: Vec<(NonZeroU32, Span)>,
}

/// What a message costs, and how much may be spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// One segment, millionths of the currency.
    pub default_micros: u64,
    /// By ISO 3166-1 alpha-2 country, upper case.
    pub by_country: BTreeMap<Box<str>, u64>,
    /// ISO 4217, upper case.
    pub currency: Box<str>,
    /// At most so much in any 24 hours, millionths.
    pub daily_max_micros: Option<u64>,
}

/// The providers there are. `base_url` is the provider's own unless the file says otherwise.
#[derive(Clone, Debug)]
pub enum Kind {
    Twilio(TwilioSpec),
    Vonage(VonageSpec),
    AwsSns(AwsSnsSpec),
    MessageBird(MessageBirdSpec),
    Plivo(PlivoSpec),
    Sinch(SinchSpec),
    Http(Box<HttpSpec>),
    Console,
    Smtp(SmtpSpec),
    SendGrid(MailApiSpec),
    Mailgun(MailgunSpec),
    Postmark(MailApiSpec),
    Ses(SesSpec),
    Resend(MailApiSpec),
}

impl Kind {
    /// As the file writes it.
    pub fn word(&self) -> &'static str {
        match self {
            Kind::Twilio(_) => "twilio",
            Kind::Vonage(_) => "vonage",
            Kind::AwsSns(_) => "aws_sns",
            Kind::MessageBird(_) => "messagebird",
            Kind::Plivo(_) => "plivo",
            Kind::Sinch(_) => "sinch",
            Kind::Http(_) => "http",
            Kind::Console => "console",
            Kind::Smtp(_) => "smtp",
            Kind::SendGrid(_) => "sendgrid",
            Kind::Mailgun(_) => "mailgun",
            Kind::Postmark(_) => "postmark",
            Kind::Ses(_) => "ses",
            Kind::Resend(_) => "resend",
        }
    }

    /// The longest URL that it can be told to report to, characters; none where no bound is known.
    pub fn receipt_url_max(&self) -> Option<usize> {
        match self {
            Kind::Vonage(_) => Some(VonageSpec::CALLBACK_MAX),
            Kind::Twilio(_)
            | Kind::AwsSns(_)
            | Kind::MessageBird(_)
            | Kind::Plivo(_)
            | Kind::Sinch(_)
            | Kind::Http(_)
            | Kind::Console
            | Kind::Smtp(_)
            | Kind::SendGrid(_)
            | Kind::Mailgun(_)
            | Kind::Postmark(_)
            | Kind::Ses(_)
            | Kind::Resend(_) => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct TwilioSpec {
    /// `https://api.twilio.com`
    pub base_url: HttpUrl,
    pub account_sid: Box<str>,
    /// Signs receipts, and sends where there is no API key.
    pub auth_token: SecretString,
    /// `SK…` and its secret.
    pub api_key: Option<(Box<str>, SecretString)>,
    pub sender: TwilioSender,
    /// A number that calls; without one there are no voice codes.
    pub voice_from: Option<Box<str>>,
    pub whatsapp: Option<TwilioWhatsapp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TwilioSender {
    From(Box<str>),
    MessagingService(Box<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwilioWhatsapp {
    /// E.164, without `whatsapp:`.
    pub from: Box<str>,
    /// `HX…` by locale; the one called `default` serves all others.
    pub content_sids: BTreeMap<Box<str>, Box<str>>,
}

#[derive(Clone, Debug)]
pub struct VonageSpec {
    /// `https://rest.nexmo.com`
    pub base_url: HttpUrl,
    pub api_key: Box<str>,
    pub api_secret: SecretString,
    /// Checks receipts: those without a signature by it are not believed. Without it receipts are believed by their path alone.
    pub signature_secret: Option<SecretString>,
    pub from: Box<str>,
}

impl VonageSpec {
    /// What `callback` may be, characters.
    pub const CALLBACK_MAX: usize = 100;
}

#[derive(Clone, Debug)]
pub struct AwsSnsSpec {
    /// `https://sns.{region}.amazonaws.com`
    pub base_url: HttpUrl,
    pub region: Box<str>,
    pub credentials: AwsCredentials,
    pub sender_id: Option<Box<str>>,
    /// A long code, E.164.
    pub origination_number: Option<Box<str>>,
}

#[derive(Clone, Debug)]
pub struct AwsCredentials {
    pub access_key_id: Box<str>,
    pub secret_access_key: SecretString,
    pub session_token: Option<SecretString>,
}

#[derive(Clone, Debug)]
pub struct MessageBirdSpec {
    /// `https://rest.messagebird.com`
    pub base_url: HttpUrl,
    pub api_key: SecretString,
    /// Checks receipts.
    pub signing_key: Option<SecretString>,
    pub from: Box<str>,
}

#[derive(Clone, Debug)]
pub struct PlivoSpec {
    /// `https://api.plivo.com`
    pub base_url: HttpUrl,
    pub auth_id: Box<str>,
    pub auth_token: SecretString,
    pub from: Box<str>,
}

#[derive(Clone, Debug)]
pub struct SinchSpec {
    /// `https://{region}.sms.api.sinch.com`
    pub base_url: HttpUrl,
    pub service_plan_id: Box<str>,
    pub api_token: SecretString,
    /// Checks receipts.
    pub webhook_secret: Option<SecretString>,
    pub from: Box<str>,
}

/// Any gateway with an HTTP API. Texts are templates (minijinja) over `channel`, `to`, `to_digits` (without the `+`), `text`, `code`,
/// `subject`, `locale`, `reference`, `attempt`, `receipt_url` (empty if no receipts are wanted) and `expires_in` (seconds); in JSON each
/// template stands for a whole string value.
#[derive(Clone, Debug)]
pub struct HttpSpec {
    pub channel: Channel,
    pub method: ::http::Method,
    pub url: HttpUrl,
    /// Values are templates.
    pub headers: Vec<(::http::HeaderName, SecretString)>,
    pub body: HttpBody,
    pub success: HttpSuccess,
    /// Signs each request in the way of Standard Webhooks.
    pub signing_secret: Option<SecretString>,
    /// None: receipts are not believed.
    pub receipt: Option<HttpReceipt>,
}

#[derive(Clone, Debug)]
pub enum HttpBody {
    None,
    /// A JSON document whose strings are templates.
    Json(serde_json::Value),
    /// Names, and values that are templates. The query of a `GET`.
    Form(Vec<(Box<str>, Box<str>)>),
}

#[derive(Clone, Debug)]
pub struct HttpSuccess {
    pub statuses: Vec<::http::StatusCode>,
    /// JSON Pointers that must hold these texts as well.
    pub members: Vec<(Box<str>, Box<str>)>,
    /// Where the answer holds the message's id: a JSON Pointer.
    pub id: Option<Box<str>>,
    /// Texts at `error` or statuses (`"402"`) that have a meaning.
    pub errors: BTreeMap<Box<str>, super::Fault>,
    /// Where the answer holds the code of an error: a JSON Pointer.
    pub error: Option<Box<str>>,
}

/// How receipts of an HTTP gateway look.
#[derive(Clone, Debug)]
pub struct HttpReceipt {
    /// Standard Webhooks: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    pub secret: SecretString,
    /// JSON Pointers into the body.
    pub id: Box<str>,
    pub status: Box<str>,
    /// What the texts at `status` mean.
    pub states: BTreeMap<Box<str>, super::DeliveryState>,
}

#[derive(Clone, Debug)]
pub struct SmtpSpec {
    /// `smtp://` (STARTTLS is demanded unless the host is loopback) or `smtps://`, with user and password in it.
    pub url: SecretString,
    pub from: Mailbox,
}

/// SendGrid, Postmark, Resend: one key, one sender.
#[derive(Clone, Debug)]
pub struct MailApiSpec {
    pub base_url: HttpUrl,
    pub api_key: SecretString,
    pub from: Mailbox,
    /// Checks receipts, in the provider's own way.
    pub webhook_secret: Option<SecretString>,
}

#[derive(Clone, Debug)]
pub struct MailgunSpec {
    /// `https://api.mailgun.net`
    pub base_url: HttpUrl,
    pub domain: Box<str>,
    pub api_key: SecretString,
    pub from: Mailbox,
    pub webhook_secret: Option<SecretString>,
}

#[derive(Clone, Debug)]
pub struct SesSpec {
    /// `https://email.{region}.amazonaws.com`
    pub base_url: HttpUrl,
    pub region: Box<str>,
    pub credentials: AwsCredentials,
    pub from: Mailbox,
}

/// `Name <user@host>`, without line breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    pub name: Option<Box<str>>,
    pub address: Box<str>,
}
