//! What the HTTP APIs of providers have in common: credentials, forms, and answers that no table of errors covers.

use std::time::Duration;

use ::http::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use ::http::{HeaderName, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Fault, LookUpFault, Outcome, ReceiptFault, Refused};
use crate::decision::query::pairs;
use crate::decision::time::Timestamp;
use crate::http_client::{Bounds, HttpError, Response, push_encoded};

/// No provider has more to say about one message.
const REPLY_BYTES_MAX: usize = 64 * 1024;
/// Who asks for a longer pause than this is taken to mean it.
const RETRY_AFTER_MAX_S: u64 = 3600;
/// How far the time in a signature may be from ours.
const SKEW_MAX_S: u64 = 300;
const ID_BYTES_MAX: usize = 128;

pub(super) fn bounds(within: Duration) -> Bounds {
    Bounds { within, reply_bytes_max: REPLY_BYTES_MAX }
}

/// `Basic …`, hidden in Debug.
pub(super) fn basic(user: &str, password: &SecretString) -> Option<HeaderValue> {
    let pair = BASE64.encode(format!("{user}:{}", password.expose_secret()));
    let mut value = HeaderValue::try_from(format!("Basic {pair}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A message that cannot even be put into a request.
pub(super) fn unsendable(code: &str) -> Outcome {
    Outcome::Refused(Refused::new(Fault::Request, code))
}

/// Credentials that no header can carry.
pub(super) fn unusable_credentials() -> Outcome {
    Outcome::Refused(Refused::new(Fault::Provider, "credentials"))
}

/// No answer came. Only before there was a connection is it certain that nothing was sent.
pub(super) fn unanswered(error: &HttpError) -> Outcome {
    let (fault, code) = match error {
        HttpError::Connect(_) => (Fault::Transient, "unreachable"),
        HttpError::Tls(_) => (Fault::Transient, "tls"),
        HttpError::Timeout => (Fault::Ambiguous, "timeout"),
        HttpError::Broken(_) => (Fault::Ambiguous, "broken_off"),
        HttpError::TooLarge(_) => (Fault::Ambiguous, "answer_too_large"),
    };
    Outcome::Refused(Refused::new(fault, code))
}

/// It said yes, but not in a way that we understand.
pub(super) fn unclear() -> Outcome {
    Outcome::Refused(Refused::new(Fault::Ambiguous, "unreadable_answer"))
}

/// What an answer means that the provider's own table does not know.
pub(super) fn by_status(answer: &Response) -> Refused {
    let fault = match answer.status.as_u16() {
        408 | 425 | 500.. => Fault::Transient,
        429 => Fault::Throttled,
        // A redirect is followed by nobody: the address in the file is not the provider's.
        300..=399 | 401..=404 => Fault::Provider,
        400..=499 => Fault::Request,
        0..=299 => Fault::Ambiguous,
    };
    refused(fault, &status_code(answer.status), answer)
}

/// A refusal by a code of the provider's, with the pause that it asks for.
pub(super) fn refused(fault: Fault, code: &str, answer: &Response) -> Refused {
    Refused { retry_after: retry_after(&answer.headers), ..Refused::new(fault, code) }
}

pub(super) fn status_code(status: StatusCode) -> String {
    format!("http_{}", status.as_u16())
}

/// Seconds alone: nobody here sends a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.min(RETRY_AFTER_MAX_S)))
}

pub(super) fn look_up_unanswered(error: &HttpError) -> LookUpFault {
    LookUpFault::Away(error.to_string().into())
}

/// An answer to a look-up that is no report.
pub(super) fn look_up_refused(answer: &Response) -> LookUpFault {
    match answer.status.as_u16() {
        404 => LookUpFault::Unknown,
        408 | 425 | 429 | 500.. => LookUpFault::Away(status_code(answer.status).into()),
        _ => LookUpFault::Refused(status_code(answer.status).into()),
    }
}

/// Whether a text can be the name of a message, and so stand in a path.
pub(super) fn is_id(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.len() <= ID_BYTES_MAX && text.bytes().all(is_plain)
}

/// Whether a code is a word, and so says nothing of whom a message was for.
pub(super) fn is_word(code: &str) -> bool {
    !code.is_empty() && code.chars().all(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '.' | '-'))
}

/// An `application/x-www-form-urlencoded` body in the making, with the escapes of RFC 3986.
#[derive(Default)]
pub(super) struct Form(String);

impl Form {
    pub(super) fn push(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        push_encoded(&mut self.0, name);
        self.0.push('=');
        push_encoded(&mut self.0, value);
    }

    pub(super) fn into_bytes(self) -> bytes::Bytes {
        self.0.into()
    }
}

/// Names and values of a form or query, decoded, in their order. `None` where a backend could read it in two ways.
pub(super) fn read_form(form: &[u8]) -> Option<Vec<(String, String)>> {
    let pairs = pairs(std::str::from_utf8(form).ok()?);
    pairs.map(|pair| pair.ok().map(|(name, value)| (name.into_owned(), value.into_owned()))).collect()
}

/// The header of this name. Two of them are one too many: which of them would be checked?
pub(super) fn only_header<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h str>, ReceiptFault> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    match (first, second) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(Some).map_err(|_| ReceiptFault::Malformed("a header that is no text"))
        }
        (Some(_), Some(_)) => Err(ReceiptFault::Malformed("a header that should be there once")),
    }
}

/// [`only_header`] of one that must be there.
pub(super) fn signed_by<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<&'h str, ReceiptFault> {
    only_header(headers, name)?.ok_or(ReceiptFault::Unsigned)
}

/// Whether one of these base64 texts is the code of a message under a key; compared in constant time.
pub(super) fn any_verifies<'s>(
    key: &hmac::Key,
    message: &[u8],
    signatures: impl Iterator<Item = &'s str>,
) -> bool {
    let mut tags = signatures.filter_map(|text| BASE64.decode(text).ok());
    tags.any(|tag| hmac::verify(key, message, &tag).is_ok())
}

/// Holds the time in a signature, seconds since the epoch, against ours.
pub(super) fn check_age(seconds: &str, now: Timestamp) -> Result<(), ReceiptFault> {
    let signed_at: u64 = seconds.parse().map_err(|_| ReceiptFault::Malformed("a time that is no number"))?;
    let now_s = now.floor_millis() / 1000;
    if now_s.abs_diff(signed_at) <= SKEW_MAX_S { Ok(()) } else { Err(ReceiptFault::Stale) }
}

/// A decimal number such as `0.0075` in millionths, what is smaller rounded up; `None` of anything else.
pub(super) fn micros(decimal: &str) -> Option<u64> {
    let (whole, fraction) = decimal.split_once('.').unwrap_or((decimal, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let (kept, dropped) = fraction.split_at(fraction.len().min(6));
    let millionths: u64 = format!("{kept:0<6}").parse().ok()?;
    let more = u64::from(dropped.bytes().any(|byte| byte != b'0'));
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(millionths + more)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Response {
        Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: bytes::Bytes::new(),
        }
    }

    #[test]
    fn a_status_alone_says_whose_fault_it_is() {
        for (status, fault) in [
            (204, Fault::Ambiguous),
            (302, Fault::Provider),
            (400, Fault::Request),
            (401, Fault::Provider),
            (402, Fault::Provider),
            (403, Fault::Provider),
            (404, Fault::Provider),
            (408, Fault::Transient),
            (409, Fault::Request),
            (422, Fault::Request),
            (425, Fault::Transient),
            (429, Fault::Throttled),
            (500, Fault::Transient),
            (599, Fault::Transient),
        ] {
            assert_eq!(by_status(&answer(status)), Refused::new(fault, &format!("http_{status}")));
        }
        let mut slow = answer(429);
        slow.headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(by_status(&slow).retry_after, Some(Duration::from_secs(7)));
        slow.headers.insert(RETRY_AFTER, HeaderValue::from_static("99999"));
        assert_eq!(by_status(&slow).retry_after, Some(Duration::from_secs(3600)));
        slow.headers.insert(RETRY_AFTER, HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert_eq!(by_status(&slow).retry_after, None);
    }

    #[test]
    fn a_form_is_read_as_it_was_written() {
        let mut form = Form::default();
        form.push("To", "+1 415&x=é");
        form.push("empty", "");
        let bytes = form.into_bytes();
        assert_eq!(bytes, "To=%2B1%20415%26x%3D%C3%A9&empty=");
        let pairs = [("To", "+1 415&x=é"), ("empty", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(read_form(&bytes).unwrap(), pairs);
        assert_eq!(read_form(b"a+b=c+d&e").unwrap()[0], ("a b".to_owned(), "c d".to_owned()));
        for broken in [&b"a=%4"[..], b"a=%", b"a=%zz", b"a=%ff", b"%+1=a", b"a=1;b=2"] {
            assert_eq!(read_form(broken), None, "{}", String::from_utf8_lossy(broken));
        }
    }

    #[test]
    fn amounts_keep_six_places_and_are_never_too_small() {
        let cases = [
            ("0.0075", Some(7500)),
            ("1", Some(1_000_000)),
            ("12.3456789", Some(12_345_679)),
            ("0.00350000", Some(3500)),
            ("", None),
            (".5", None),
            ("-1", None),
            ("1e3", None),
            ("18446744073709551615", None),
        ];
        for (text, expected) in cases {
            assert_eq!(micros(text), expected, "{text}");
        }
    }

    #[test]
    fn a_time_may_differ_by_five_minutes() {
        let now = Timestamp::from_millis(1_700_000_000_999);
        for near in ["1700000000", "1699999700", "1700000300"] {
            assert_eq!(check_age(near, now), Ok(()));
        }
        for far in ["1699999699", "1700000301", "0"] {
            assert_eq!(check_age(far, now), Err(ReceiptFault::Stale));
        }
        assert!(matches!(check_age("soon", now), Err(ReceiptFault::Malformed(_))));
    }

    #[test]
    fn names_of_messages_and_codes_stay_what_they_are() {
        assert!(is_id("5b40a428-bfc7-4daf-9d06-726c558bf3b8"));
        assert!(!is_id("") && !is_id("a/b") && !is_id("a.b") && !is_id(&"a".repeat(129)));
        assert!(is_word("syntax_invalid_json") && !is_word("14155550123") && !is_word(""));
    }
}
