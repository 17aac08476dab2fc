//! Status callbacks: who sent them, and what they say.

use ::http::header::CONTENT_TYPE;
use ::http::{HeaderName, Method};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac};
use secrecy::{ExposeSecret as _, SecretString};

use super::table;
use crate::sms::{DeliveryState, Fault, ReceiptFault, ReceiptRequest, Refused, Report, api};

const SIGNATURE: HeaderName = HeaderName::from_static("x-twilio-signature");
/// Where Twilio puts the digest of a body that is no form.
const BODY_DIGEST: &str = "bodySHA256";

type Params = Vec<(String, String)>;

pub(super) fn key(auth_token: &SecretString) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, auth_token.expose_secret().as_bytes())
}

pub(super) fn read(key: &hmac::Key, request: &ReceiptRequest<'_>) -> Result<Vec<Report>, ReceiptFault> {
    let signature = api::signed_by(request.headers, &SIGNATURE)?;
    if *request.method != Method::POST {
        return Err(ReceiptFault::Malformed("not a POST"));
    }
    let params = if is_form(request) {
        api::read_form(request.body).ok_or(ReceiptFault::Malformed("a form that does not decode"))?
    } else {
        check_digest(request)?;
        Params::new()
    };
    let tag = BASE64.decode(signature).map_err(|_| ReceiptFault::Forged)?;
    let is_signed = |url: &str| hmac::verify(key, signed_text(url, &params).as_bytes(), &tag).is_ok();
    let other_port = with_other_port(request.url);
    if !is_signed(request.url) && !other_port.is_some_and(|url| is_signed(&url)) {
        return Err(ReceiptFault::Forged);
    }
    told(&params)
}

fn is_form(request: &ReceiptRequest<'_>) -> bool {
    let kind = request.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

fn check_digest(request: &ReceiptRequest<'_>) -> Result<(), ReceiptFault> {
    let query = api::read_form(request.query.as_bytes()).ok_or(ReceiptFault::Malformed("a broken query"))?;
    let mut given = query.iter().filter(|(name, _)| name == BODY_DIGEST).map(|(_, value)| value);
    let (Some(given), None) = (given.next(), given.next()) else {
        return Err(ReceiptFault::Malformed("neither a form nor a digest of the body"));
    };
    let actual = digest::digest(&digest::SHA256, request.body);
    let actual: String = actual.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    // Both are known to whoever sent them: the secret comes in with the signature of the URL.
    if given.eq_ignore_ascii_case(&actual) { Ok(()) } else { Err(ReceiptFault::Forged) }
}

/// The URL, and each name with its value, in the order of both; what is there twice counts once.
fn signed_text(url: &str, params: &Params) -> String {
    let mut sorted: Vec<_> = params.iter().collect();
    sorted.sort();
    sorted.dedup();
    let mut text = url.to_owned();
    for (name, value) in sorted {
        text.push_str(name);
        text.push_str(value);
    }
    text
}

/// The same place with its scheme's port written out, or left out: Twilio signs either. None where the port is another.
fn with_other_port(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let after_brackets = authority.rsplit(']').next().unwrap_or(authority);
    match authority.strip_suffix(port) {
        Some(host) => Some(format!("{scheme}://{host}{behind}")),
        None if after_brackets.contains(':') => None,
        None => Some(format!("{scheme}://{authority}{port}{behind}")),
    }
}

/// Of a message or a call; nothing of what is neither.
fn told(params: &Params) -> Result<Vec<Report>, ReceiptFault> {
    let id = value(params, &["MessageSid", "SmsSid", "CallSid"])?;
    let status = value(params, &["MessageStatus", "SmsStatus", "CallStatus"])?;
    let error = value(params, &["ErrorCode"])?;
    let (Some(id), Some(status)) = (id, status) else { return Ok(Vec::new()) };
    if !api::is_id(id) {
        return Err(ReceiptFault::Malformed("an id that is none"));
    }
    Ok(report(id, status, error).into_iter().collect())
}

/// The value of the first of these names that is there.
fn value<'p>(params: &'p Params, names: &[&str]) -> Result<Option<&'p str>, ReceiptFault> {
    for name in names {
        let mut values = params.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str());
        if let Some(first) = values.next() {
            let is_alike = values.all(|other| other == first);
            let several = ReceiptFault::Malformed("two values of one name");
            return if is_alike { Ok(Some(first)) } else { Err(several) };
        }
    }
    Ok(None)
}

/// Of messages and calls alike, from callbacks and look-ups. None: the state is not one of those that we know.
pub(super) fn report(id: &str, status: &str, error: Option<&str>) -> Option<Report> {
    let error = error.and_then(|code| code.parse().ok()).filter(|code: &u32| *code != 0);
    let state = match state(status)? {
        DeliveryState::Undelivered | DeliveryState::Failed if error == Some(table::EXPIRED) => {
            DeliveryState::Expired
        }
        state => state,
    };
    let refused =
        error.map(|code| Refused::new(table::fault(code).unwrap_or(Fault::Transient), &code.to_string()));
    Some(Report { message_id: id.into(), state, refused, price: None })
}

fn state(status: &str) -> Option<DeliveryState> {
    Some(match status {
        "accepted" => DeliveryState::Accepted,
        "scheduled" | "queued" | "sending" | "initiated" => DeliveryState::Queued,
        // A part that arrived is no code.
        "sent" | "partially_delivered" | "ringing" | "in-progress" | "answered" => DeliveryState::Sent,
        "undelivered" | "busy" | "no-answer" => DeliveryState::Undelivered,
        "failed" | "canceled" => DeliveryState::Failed,
        // Somebody, or something, picked up and heard it to the end.
        "delivered" | "completed" => DeliveryState::Delivered,
        "read" => DeliveryState::Read,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, other: Option<&str>) {
        assert_eq!(with_other_port(url).as_deref(), other, "{url}");
    }

    #[test]
    fn the_default_port_may_stand_there_or_not() {
        check("https://a.io/x?y=z", Some("https://a.io:443/x?y=z"));
        check("https://a.io:443/x", Some("https://a.io/x"));
        check("http://a.io:80", Some("http://a.io"));
        check("http://a.io", Some("http://a.io:80"));
        check("http://a.io?x=1:80", Some("http://a.io:80?x=1:80"));
        check("https://[2001:db8::1]/x", Some("https://[2001:db8::1]:443/x"));
        check("https://[2001:db8::1]:443/x", Some("https://[2001:db8::1]/x"));
        check("https://a.io:80/x", None);
        check("http://a.io:1234/x", None);
        check("ftp://a.io/x", None);
        check("nothing", None);
    }
}
