//! Accounts at those who send messages, as they are written: one section a kind, all with the same beginning.

pub(crate) mod http;

use serde_json::{Value as Json, json};

use super::limit::Label;
use crate::config::place::Located;
use crate::config::problem::Wrong;
use crate::config::reader::{Definitions, Named, Optional, Reader, Value, kind_name};
use crate::config::section::{section, unknown_word, words};
use crate::config::tree::{Node, NodeKind};
use crate::config::value::otp::{Amount, CallUrl, Country, Currency, Locale, Setting};
use crate::config::value::text::{Name, Secret, Whole};
use crate::config::value::time::Rate;
use crate::decision::time::Span;
use http::Http;

section! {
    /// Who sends text messages, calls and WhatsApp messages.
    Sms "sms" {
        /// Accounts; the one with the lowest priority is asked first, the next takes over with the same code.
        default("[]") "providers" providers: Vec<Located<SmsProvider>>;
    }
}

section! {
    /// Who sends e-mail: the second channel of one-time codes.
    Email "email" {
        /// Accounts; the one with the lowest priority is asked first, the next takes over with the same code.
        default("[]") "providers" providers: Vec<Located<EmailProvider>>;
    }
}

section! {
    /// What a message costs, and how much may be spent.
    Cost "cost" {
        /// One segment.
        required "default" default: Amount;
        /// ISO 4217.
        default("USD") "currency" currency: Currency;
        /// One segment to some countries: { DE: 0.07 }.
        default("{}") "countries" countries: Named<Country, Amount>;
        /// At most so much in any 24 hours; then the next provider is asked.
        optional "daily_max" daily_max: Amount;
    }
}

/// What all providers have.
pub(crate) struct Common<'p> {
    pub(crate) kind: &'static str,
    pub(crate) name: Option<&'p Located<Name>>,
    pub(crate) enabled: Option<bool>,
    pub(crate) priority: Option<u32>,
    pub(crate) timeout: Option<&'p Located<Span>>,
    pub(crate) limits: Option<&'p Located<Named<Label, Located<Rate>>>>,
    pub(crate) cost: &'p Optional<Cost>,
    pub(crate) base_url: &'p Optional<Located<CallUrl>>,
}

/// Declares a provider: a section that begins like all of them.
macro_rules! provider {
    (
        $(#[doc = $doc:literal])*
        $name:ident $what:literal, $kind:ident $word:literal {
            $($fields:tt)*
        }
    ) => {
        #[doc = concat!("`", $word, "`")]
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $kind;

        words! { $kind, "this kind", { $kind => $word } }

        section! {
            $(#[doc = $doc])*
            $name $what {
                /// Its name in metrics, events and the path of its receipts; all of sms and email are different.
                required "name" name: Located<Name>;
                /// Which provider it is.
                required "kind" kind: $kind;
                /// Whether it is asked.
                default("true") "enabled" enabled: bool;
                /// Lower ones are asked first.
                default("10") "priority" priority: Whole<0, 1_000_000>;
                /// How long one attempt may take, from 100ms to 30s.
                default("6s") "timeout" timeout: Located<Span>;
                /// How many messages it is given; past that, others are asked.
                default("{ minute: 60/min, hourly: 1000/hour, daily: 10000/day }") "limits" limits: Located<Named<Label, Located<Rate>>>;
                /// What a message costs, and how much may be spent.
                optional "cost" cost: Cost;
                /// Another address than the provider's own: for tests, proxies and regions.
                optional "base_url" base_url: Located<CallUrl>;
                $($fields)*
            }
        }

        impl $name {
            pub(crate) fn common(&self) -> Common<'_> {
                Common {
                    kind: $word,
                    name: self.name.as_ref(),
                    enabled: self.kind.and(self.enabled),
                    priority: self.priority.map(|priority| priority.0),
                    timeout: self.timeout.as_ref(),
                    limits: self.limits.as_ref(),
                    cost: &self.cost,
                    base_url: &self.base_url,
                }
            }
        }
    };
}
use provider;

/// Declares who can stand in a list of providers: the word `kind` tells how the rest is read.
macro_rules! providers {
    ($(#[doc = $doc:literal])* $list:ident { $($variant:ident($section:ty) => $word:literal),* $(,)? }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug)]
        pub(crate) enum $list {
            $($variant(Box<$section>),)*
        }

        impl $list {
            pub(crate) fn common(&self) -> Common<'_> {
                match self {
                    $($list::$variant(provider) => provider.common(),)*
                }
            }
        }

        impl Value for $list {
            fn read(node: &Node, reader: &mut Reader<'_>) -> Option<$list> {
                const KNOWN: &[&str] = &[$($word),*];
                match kind_of(node, KNOWN, reader)? {
                    $($word => <$section>::read(node, reader).map(|read| $list::$variant(Box::new(read))),)*
                    _ => None,
                }
            }

            fn schema(definitions: &mut Definitions) -> Json {
                json!({ "oneOf": [$(<$section>::schema(definitions)),*] })
            }
        }
    };
}

/// The word that tells how a provider is read.
fn kind_of(node: &Node, known: &'static [&'static str], reader: &mut Reader<'_>) -> Option<&'static str> {
    let NodeKind::Map(entries) = &node.kind else {
        let found = kind_name(node);
        let wrong = Wrong::new(format!("expected a provider, found {found}"));
        reader.problem(node, wrong.write("write { name: …, kind: …, … }"));
        return None;
    };
    let Some(entry) = entries.iter().find(|entry| &*entry.key == "kind") else {
        let wrong = Wrong::new("nothing says which provider this is");
        reader.problem(node, wrong.write(format!("add `kind: {}`", known.join(" | "))));
        return None;
    };
    let word: Located<Setting> = reader.entry("kind", |reader| Value::read(&entry.value, reader))?;
    let found = known.iter().find(|known| **known == &*word.value.0).copied();
    if found.is_none() {
        let wrong = unknown_word("a kind of provider", &word.told(), known);
        reader.findings.problem(&word.at, wrong);
    }
    found
}

providers! {
    /// Who sends text messages.
    SmsProvider {
        Twilio(Twilio) => "twilio",
        Vonage(Vonage) => "vonage",
        AwsSns(AwsSns) => "aws_sns",
        MessageBird(MessageBird) => "messagebird",
        Plivo(Plivo) => "plivo",
        Sinch(Sinch) => "sinch",
        Http(Http) => "http",
        Console(Console) => "console",
    }
}

providers! {
    /// Who sends e-mail.
    EmailProvider {
        Smtp(Smtp) => "smtp",
        SendGrid(SendGrid) => "sendgrid",
        Mailgun(Mailgun) => "mailgun",
        Postmark(Postmark) => "postmark",
        Ses(Ses) => "ses",
        Resend(Resend) => "resend",
        Http(Http) => "http",
    }
}

provider! {
    /// Twilio: text messages, calls and WhatsApp.
    Twilio "a provider of kind twilio", TwilioKind "twilio" {
        /// AC….
        optional "account_sid" account_sid: Located<Setting>;
        /// Signs receipts, and sends where there is no api_key.
        optional "auth_token" auth_token: Located<Secret>;
        /// SK…: sends in place of the auth_token.
        optional "api_key" api_key: Located<Setting>;
        /// Of the api_key.
        optional "api_secret" api_secret: Located<Secret>;
        /// A number in E.164, a short code, or a name of at most eleven characters.
        optional "from" from: Located<Setting>;
        /// MG…: in place of from.
        optional "messaging_service_sid" messaging_service_sid: Located<Setting>;
        /// A number in E.164 that calls. Unset: no voice codes.
        optional "voice_from" voice_from: Located<Setting>;
        /// Codes by WhatsApp.
        optional "whatsapp" whatsapp: Located<Whatsapp>;
    }
}

section! {
    /// Codes by WhatsApp.
    Whatsapp "whatsapp" {
        /// A number in E.164, without `whatsapp:`.
        required "from" from: Located<Setting>;
        /// Approved templates, HX…, by language; `default` serves all others.
        required "content_sids" content_sids: Located<Named<Locale, Located<Setting>>>;
    }
}

provider! {
    /// Vonage (once Nexmo): text messages.
    Vonage "a provider of kind vonage", VonageKind "vonage" {
        /// The key of the account.
        optional "api_key" api_key: Located<Setting>;
        /// Its secret.
        optional "api_secret" api_secret: Located<Secret>;
        /// Signs receipts. Unset: they are believed by their path alone.
        optional "signature_secret" signature_secret: Located<Secret>;
        /// A number in E.164, a short code, or a name of at most eleven characters.
        optional "from" from: Located<Setting>;
    }
}

provider! {
    /// Amazon SNS: text messages, without receipts.
    AwsSns "a provider of kind aws_sns", AwsSnsKind "aws_sns" {
        /// The region.
        default("${AWS_REGION:-us-east-1}") "region" region: Located<Setting>;
        /// AKIA… or ASIA….
        default("${AWS_ACCESS_KEY_ID:-}") "access_key_id" access_key_id: Located<Setting>;
        /// Its secret.
        default("${AWS_SECRET_ACCESS_KEY:-}") "secret_access_key" secret_access_key: Located<Secret>;
        /// Of temporary credentials. Empty: none.
        default("${AWS_SESSION_TOKEN:-}") "session_token" session_token: Located<Secret>;
        /// A name of at most eleven letters, digits and hyphens.
        optional "sender_id" sender_id: Located<Setting>;
        /// A number in E.164 that messages come from.
        optional "origination_number" origination_number: Located<Setting>;
    }
}

provider! {
    /// MessageBird (now Bird): text messages.
    MessageBird "a provider of kind messagebird", MessageBirdKind "messagebird" {
        /// The access key.
        optional "api_key" api_key: Located<Secret>;
        /// Signs receipts. Unset: they are believed by their path alone.
        optional "signing_key" signing_key: Located<Secret>;
        /// A number in E.164, a short code, or a name of at most eleven characters.
        optional "from" from: Located<Setting>;
    }
}

provider! {
    /// Plivo: text messages.
    Plivo "a provider of kind plivo", PlivoKind "plivo" {
        /// MA… or SA….
        optional "auth_id" auth_id: Located<Setting>;
        /// Its token; signs receipts.
        optional "auth_token" auth_token: Located<Secret>;
        /// A number in E.164, a short code, or a name of at most eleven characters.
        optional "from" from: Located<Setting>;
    }
}

provider! {
    /// Sinch: text messages.
    Sinch "a provider of kind sinch", SinchKind "sinch" {
        /// The service plan.
        optional "service_plan_id" service_plan_id: Located<Setting>;
        /// Its token.
        optional "api_token" api_token: Located<Secret>;
        /// us, eu, br, au or ca.
        default("us") "region" region: Located<Setting>;
        /// Signs receipts. Unset: they are believed by their path alone.
        optional "webhook_secret" webhook_secret: Located<Secret>;
        /// A number in E.164, a short code, or a name of at most eleven characters.
        optional "from" from: Located<Setting>;
    }
}

provider! {
    /// The log of this gateway: to try things out, without an account.
    Console "a provider of kind console", ConsoleKind "console" {}
}

provider! {
    /// A mail server (SMTP).
    Smtp "a provider of kind smtp", SmtpKind "smtp" {
        /// smtps://user:password@host[:port], or smtp:// with STARTTLS.
        optional "url" url: Located<Secret>;
        /// Example <no-reply@example.com>, or the address alone.
        optional "from" from: Located<Setting>;
    }
}

provider! {
    /// Twilio SendGrid: e-mail.
    SendGrid "a provider of kind sendgrid", SendGridKind "sendgrid" {
        /// SG….
        optional "api_key" api_key: Located<Secret>;
        /// Example <no-reply@example.com>, or the address alone.
        optional "from" from: Located<Setting>;
        /// The public key that checks receipts. Unset: none is believed.
        optional "webhook_secret" webhook_secret: Located<Secret>;
    }
}

provider! {
    /// Mailgun: e-mail.
    Mailgun "a provider of kind mailgun", MailgunKind "mailgun" {
        /// The domain that sends.
        optional "domain" domain: Located<Setting>;
        /// The sending key.
        optional "api_key" api_key: Located<Secret>;
        /// Example <no-reply@example.com>, or the address alone.
        optional "from" from: Located<Setting>;
        /// The signing key of webhooks. Unset: no receipt is believed.
        optional "webhook_secret" webhook_secret: Located<Secret>;
    }
}

provider! {
    /// Postmark: e-mail.
    Postmark "a provider of kind postmark", PostmarkKind "postmark" {
        /// The server's token.
        optional "api_key" api_key: Located<Secret>;
        /// Example <no-reply@example.com>, or the address alone.
        optional "from" from: Located<Setting>;
        /// user:password, which webhooks bring. Unset: no receipt is believed.
        optional "webhook_secret" webhook_secret: Located<Secret>;
    }
}

provider! {
    /// Amazon SES: e-mail.
    Ses "a provider of kind ses", SesKind "ses" {
        /// The region.
        default("${AWS_REGION:-us-east-1}") "region" region: Located<Setting>;
        /// AKIA… or ASIA….
        default("${AWS_ACCESS_KEY_ID:-}") "access_key_id" access_key_id: Located<Setting>;
        /// Its secret.
        default("${AWS_SECRET_ACCESS_KEY:-}") "secret_access_key" secret_access_key: Located<Secret>;
        /// Of temporary credentials. Empty: none.
        default("${AWS_SESSION_TOKEN:-}") "session_token" session_token: Located<Secret>;
        /// Example <no-reply@example.com>, or the address alone.
        optional "from" from: Located<Setting>;
    }
}

provider! {
    /// Resend: e-mail.
    Resend "a provider of kind resend", ResendKind "resend" {
        /// re_….
        optional "api_key" api_key: Located<Secret>;
        /// Example <no-reply@example.com>, or the address alone.
        optional "from" from: Located<Setting>;
        /// whsec_…: signs receipts. Unset: none is believed.
        optional "webhook_secret" webhook_secret: Located<Secret>;
    }
}
