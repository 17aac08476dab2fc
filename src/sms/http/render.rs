//! The templates of a request.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use secrecy::ExposeSecret as _;
use serde::Serialize;

use super::super::Outbound;
use super::HttpGatewayFault;

/// Steps that one template may take: a hundred times what a long one needs.
const FUEL: u64 = 20_000;
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// What templates may name.
#[derive(Serialize)]
pub(super) struct Values<'a> {
    channel: &'static str,
    to: &'a str,
    /// Without the `+`.
    to_digits: &'a str,
    text: &'a str,
    code: &'a str,
    subject: &'a str,
    locale: &'a str,
    reference: &'a str,
    /// Empty if no receipts are wanted.
    receipt_url: &'a str,
    /// Seconds.
    expires_in: u64,
    attempt: u8,
}

impl<'a> Values<'a> {
    pub(super) fn of(message: &Outbound<'a>) -> Values<'a> {
        Values {
            channel: message.channel.word(),
            to: message.to,
            to_digits: message.to.strip_prefix('+').unwrap_or(message.to),
            text: message.text.expose_secret(),
            code: message.code.expose_secret(),
            subject: message.subject,
            locale: message.locale,
            reference: message.reference,
            receipt_url: message.receipt_url.unwrap_or_default(),
            expires_in: message.expires_in.as_secs(),
            attempt: message.attempt,
        }
    }

    fn made_up() -> Values<'static> {
        Values {
            channel: "sms",
            to: "+14155550123",
            to_digits: "14155550123",
            text: "123456 is your code",
            code: "123456",
            subject: "Your code",
            locale: "en",
            reference: "reference",
            receipt_url: "https://gateway.example.com/receipts",
            expires_in: 600,
            attempt: 1,
        }
    }
}

/// Why a template made nothing, without what it says.
pub(super) struct Unrendered(Box<str>);

/// No undefined names, no escapes, no files, a bounded number of steps.
pub(super) struct Renderer(Environment<'static>);

impl Renderer {
    pub(super) fn new() -> Renderer {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        Renderer(environment)
    }

    /// Whether a template is one, and names nothing that there is not.
    pub(super) fn check(&self, place: &str, template: &str) -> Result<(), HttpGatewayFault> {
        match self.render(template, &Values::made_up()) {
            Ok(_text) => Ok(()),
            Err(Unrendered(why)) => Err(HttpGatewayFault::Template { place: place.into(), why }),
        }
    }

    /// Parses it each time: microseconds, against the milliseconds of a call.
    pub(super) fn render(&self, template: &str, values: &Values<'_>) -> Result<String, Unrendered> {
        let told = |error: minijinja::Error| {
            let line = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
            Unrendered(format!("{}{line}", error.kind()).into())
        };
        let values = Value::from(Serde(values));
        let text = self.0.template_from_str(template).and_then(|t| t.render(values)).map_err(told)?;
        match text.len() {
            0..=TEXT_BYTES_MAX => Ok(text),
            _ => Err(Unrendered("what it makes is too long".into())),
        }
    }
}
