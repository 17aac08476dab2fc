//! Values of one-time codes and of those who send them: countries, amounts, senders, mailboxes.

use std::fmt;
use std::str::FromStr as _;

use phonenumber::country::Id as Region;
use serde_json::{Value as Json, json};

use super::text::Text;
use crate::config::place::shortened;
use crate::config::problem::Wrong;
use crate::config::reader::{Notation, Scalar};
use crate::decision::reject::Domain;
use crate::decision::time::Span;
use crate::http_client::HttpUrl;
use crate::sms::mail::Address;
use crate::sms::spec::Mailbox;

/// What an account needs and may lack while its provider is not enabled: a text that may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting(pub(crate) Box<str>);

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for Setting {
    const EXPECTED: &'static str = "a text without control characters";

    fn parse(text: &str) -> Result<Setting, Wrong> {
        match text {
            "" => Ok(Setting("".into())),
            _ => Text::parse(text).map(|text| Setting(text.0)),
        }
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "maxLength": 1024 })
    }
}

/// A country that has telephone numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Country(pub(crate) Region);

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref())
    }
}

impl Scalar for Country {
    const EXPECTED: &'static str = "a country by its two letters such as US or DE";

    fn parse(text: &str) -> Result<Country, Wrong> {
        let wrong = || Wrong::new(format!("`{}` is not {}", shortened(text), Country::EXPECTED));
        match (Region::from_str(text), Region::from_str(&text.to_ascii_uppercase())) {
            (Ok(region), _) => Ok(Country(region)),
            (Err(_), Ok(region)) => Err(wrong().write(format!("write {}", region.as_ref()))),
            (Err(_), Err(_)) => Err(match text {
                "UK" | "uk" => wrong().write("write GB"),
                _ => wrong().write("see ISO 3166-1 alpha-2"),
            }),
        }
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^[A-Z]{2}$", "examples": ["US", "DE"] })
    }
}

/// An amount of money in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) micros: u64,
}

impl Scalar for Amount {
    const EXPECTED: &'static str = "an amount such as 0.0075, with six decimal places at most";
    const NOTATION: Notation = Notation::Bare;

    fn parse(text: &str) -> Result<Amount, Wrong> {
        const WHOLE_DIGITS_MAX: usize = 9;
        let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str, most: usize| {
            (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let sound = digits(whole, WHOLE_DIGITS_MAX) && digits(part, 6);
        let micros = sound.then(|| format!("{whole}{part:0<6}").parse::<u64>().ok()).flatten();
        micros
            .map(|micros| Amount { micros })
            .ok_or_else(|| Wrong::new(format!("`{}` is not {}", shortened(text), Amount::EXPECTED)))
    }

    fn own_schema() -> Json {
        json!({ "type": "number", "minimum": 0, "maximum": 999_999_999 })
    }
}

/// ISO 4217.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Currency(pub(crate) Box<str>);

impl Scalar for Currency {
    const EXPECTED: &'static str = "a currency by its three letters such as USD";

    fn parse(text: &str) -> Result<Currency, Wrong> {
        let sound = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
        sound
            .then(|| Currency(text.into()))
            .ok_or_else(|| Wrong::new(format!("`{}` is not {}", shortened(text), Currency::EXPECTED)))
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^[A-Z]{3}$" })
    }
}

/// A duration that may be nothing at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pause(pub(crate) Span);

impl Scalar for Pause {
    const EXPECTED: &'static str = "a duration such as 1m, or 0s for none";

    fn parse(text: &str) -> Result<Pause, Wrong> {
        match text {
            "0s" => Ok(Pause(Span::ZERO)),
            _ => Span::parse(text).map(Pause),
        }
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^[0-9]+[a-z]+$", "examples": ["1m", "30s", "0s"] })
    }
}

/// What a message says, with variables in it. It may have several lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MessageText(pub(crate) Box<str>);

impl Scalar for MessageText {
    const EXPECTED: &'static str = "a text such as `{{ code }} is your code.`";

    fn parse(text: &str) -> Result<MessageText, Wrong> {
        const BYTES_MAX: usize = 2048;
        if text.trim().is_empty() {
            return Err(Wrong::new("the text is empty"));
        }
        if text.len() > BYTES_MAX {
            return Err(Wrong::new(format!("the text is longer than {BYTES_MAX} bytes")));
        }
        if text.chars().any(|c| c.is_control() && c != '\n') {
            return Err(Wrong::new("the text has control characters in it"));
        }
        Ok(MessageText(text.into()))
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "minLength": 1, "maxLength": 2048 })
    }
}

/// The name of a language as texts are kept by; whether it is one is judged with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Locale(pub(crate) Box<str>);

impl fmt::Display for Locale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for Locale {
    const EXPECTED: &'static str = "a language such as en or pt-BR";

    fn parse(text: &str) -> Result<Locale, Wrong> {
        const BYTES_MAX: usize = 35;
        let tag = |part: &str| {
            (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        };
        if text.len() <= BYTES_MAX && text.split('-').all(tag) {
            return Ok(Locale(text.into()));
        }
        let wrong = Wrong::new(format!("`{}` is not {}", shortened(text), Locale::EXPECTED));
        Err(if text.contains('_') {
            wrong.write(format!("write {}", shortened(&text.replace('_', "-"))))
        } else {
            wrong
        })
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9]{1,8}(-[A-Za-z0-9]{1,8})*$", "examples": ["en", "pt-BR"] })
    }
}

/// The domain of a web page that a code is for; empty for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WebDomain(pub(crate) Option<Box<str>>);

impl Scalar for WebDomain {
    const EXPECTED: &'static str = "a domain such as example.com";

    fn parse(text: &str) -> Result<WebDomain, Wrong> {
        if text.is_empty() {
            return Ok(WebDomain(None));
        }
        match Domain::parse(text).filter(|domain| domain.as_str().contains('.')) {
            Some(domain) => Ok(WebDomain(Some(domain.as_str().into()))),
            None => Err(Wrong::new(format!("`{}` is not {}", shortened(text), WebDomain::EXPECTED))
                .write("leave out scheme, port and path")),
        }
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "maxLength": 253, "examples": ["", "example.com"] })
    }
}

/// A URL that something is called at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallUrl(pub(crate) HttpUrl);

impl Scalar for CallUrl {
    const EXPECTED: &'static str = "a URL such as https://api.example.com";

    fn parse(text: &str) -> Result<CallUrl, Wrong> {
        HttpUrl::parse(text).map(CallUrl).map_err(|fault| Wrong::new(fault.to_string()))
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^[Hh][Tt][Tt][Pp][Ss]?://", "examples": ["https://api.example.com"] })
    }
}

/// Where the world reaches us; empty for nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicUrl(pub(crate) Option<HttpUrl>);

impl Scalar for PublicUrl {
    const EXPECTED: &'static str = "a URL such as https://auth.example.com";

    fn parse(text: &str) -> Result<PublicUrl, Wrong> {
        match text {
            "" => Ok(PublicUrl(None)),
            _ => CallUrl::parse(text).map(|url| PublicUrl(Some(url.0))),
        }
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^$|^[Hh][Tt][Tt][Pp][Ss]?://", "examples": ["https://auth.example.com"] })
    }
}

/// Whether a text is a telephone number in E.164: `+` and 7 to 15 digits, the first of which is no zero.
pub(crate) fn is_e164(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Whether a text is what a message can come from: a number in E.164, a short code, or a name of eleven characters.
pub(crate) fn is_sender(text: &str) -> bool {
    const SHORT_CODE_DIGITS: std::ops::RangeInclusive<usize> = 3..=8;
    const NAME_CHARS_MAX: usize = 11;
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b" -_&.+".contains(&byte);
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_short_code = is_number && SHORT_CODE_DIGITS.contains(&text.len());
    let is_name = text.len() <= NAME_CHARS_MAX
        && text.trim() == text
        && text.bytes().all(in_name)
        && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    is_e164(text) || is_short_code || is_name
}

/// `Name <user@host>`, or the address alone.
pub(crate) fn mailbox(text: &str) -> Option<Mailbox> {
    let (name, address) = match text.strip_suffix('>') {
        Some(rest) => {
            let (name, address) = rest.split_once('<')?;
            let name = name.trim();
            let bare = name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).unwrap_or(name);
            (Some(bare).filter(|name| !name.is_empty()), address)
        }
        None => (None, text),
    };
    let plain = |name: &str| !name.chars().any(|c| c.is_control() || matches!(c, '"' | '<' | '>' | '\\'));
    let address = Address::parse(address).ok().filter(|_| name.is_none_or(plain))?;
    Some(Mailbox { name: name.map(Into::into), address: address.as_str().into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_to_the_millionth() {
        for (text, micros) in
            [("0", 0), ("0.0075", 7500), ("1", 1_000_000), ("12.5", 12_500_000), ("0.000001", 1)]
        {
            assert_eq!(Amount::parse(text), Ok(Amount { micros }), "{text}");
        }
        for text in ["", "-1", ".5", "1.", "1e3", "0.0000001", "1,5", "1000000000", "+1", "1.2.3"] {
            assert!(Amount::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn countries_are_those_with_numbers() {
        assert_eq!(Country::parse("DE").unwrap().to_string(), "DE");
        let fix = |text| Country::parse(text).unwrap_err().fix.unwrap();
        assert_eq!(fix("de"), "write DE");
        assert_eq!(fix("UK"), "write GB");
        for text in ["", "XX", "USA", "Germany", "1"] {
            assert!(Country::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn messages_come_from_numbers_short_codes_and_names() {
        for text in ["+14155550123", "72345", "Example", "My App", "A1-b_c&d.e+", "12345678"] {
            assert!(is_sender(text), "{text}");
        }
        for text in
            ["", "+1", "14155550123", "+0123456789", "Twelve chars", " x", "ü", "12", "a\nb", "+1415555012x3"]
        {
            assert!(!is_sender(text), "{text}");
        }
    }

    #[test]
    fn mailboxes_are_an_address_with_or_without_a_name() {
        let check = |text: &str, name: Option<&str>, address: &str| {
            let expected = Mailbox { name: name.map(Into::into), address: address.into() };
            assert_eq!(mailbox(text), Some(expected), "{text}");
        };
        check("a@b.example", None, "a@b.example");
        check("<a@b.example>", None, "a@b.example");
        check("Example <no-reply@b.example>", Some("Example"), "no-reply@b.example");
        check("\"Ex, Ample\" <a+b@b.example>", Some("Ex, Ample"), "a+b@b.example");
        check("Café <a@b.example>", Some("Café"), "a@b.example");
        for text in [
            "",
            "a",
            "@b.example",
            "a@",
            "a b@c.example",
            "a@b.example, c@d.example",
            "A <a@b.example> x",
            "A\r\nBcc: x <a@b.example>",
            "A <<a@b.example>",
            "a..b@c.example",
            ".a@c.example",
            "a@-",
            "a@b c.example",
            "a@b\r\n.example",
            "\"a\" \"b\" <a@b.example>",
        ] {
            assert_eq!(mailbox(text), None, "{text:?}");
        }
        assert_eq!(mailbox(&format!("{}@b.example", "a".repeat(65))), None);
    }

    #[test]
    fn no_wait_is_a_wait_too() {
        assert_eq!(Pause::parse("0s"), Ok(Pause(Span::ZERO)));
        assert_eq!(Pause::parse("1m"), Ok(Pause(Span::from_secs(60))));
        assert!(Pause::parse("0").is_err());
    }
}
