//! Delivery receipts: a query, a form or JSON, as the account is set, and signed if it asked for that.

use ::http::Method;
use ::http::header::CONTENT_TYPE;
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use super::table;
use crate::decision::time::Timestamp;
use crate::sms::{DeliveryState, ReceiptFault, ReceiptRequest, Report, api};

type Params = Vec<(String, String)>;

/// The secret under each of the digests that an account can choose. MD5 is left out, although accounts begin with it: its
/// plain variant is no MAC, and the account can choose better.
pub(super) struct Keys {
    sha1: hmac::Key,
    sha256: hmac::Key,
    sha512: hmac::Key,
}

impl Keys {
    pub(super) fn new(secret: &SecretString) -> Keys {
        let key = |algorithm| hmac::Key::new(algorithm, secret.expose_secret().as_bytes());
        Keys {
            sha1: key(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            sha256: key(hmac::HMAC_SHA256),
            sha512: key(hmac::HMAC_SHA512),
        }
    }

    /// `now` is held against the time of the receipt.
    fn check(&self, params: &Params, now: Timestamp) -> Result<(), ReceiptFault> {
        let signature = only(params, "sig")?.ok_or(ReceiptFault::Unsigned)?;
        let tag = from_hex(signature).ok_or(ReceiptFault::Forged)?;
        // The length tells which digest it is: no two are as long.
        let key = match tag.len() {
            20 => &self.sha1,
            32 => &self.sha256,
            64 => &self.sha512,
            16 => return Err(ReceiptFault::Malformed("signed by MD5: choose SHA-256 in the account")),
            _ => return Err(ReceiptFault::Forged),
        };
        hmac::verify(key, signed_text(params).as_bytes(), &tag).map_err(|_| ReceiptFault::Forged)?;
        let missing = ReceiptFault::Malformed("signed, and without a time");
        api::check_age(only(params, "timestamp")?.ok_or(missing)?, now)
    }
}

/// All but the signature, in the order of their names, as `&name=value`; a value cannot look like two.
fn signed_text(params: &Params) -> String {
    let mut sorted: Vec<_> = params.iter().filter(|(name, _)| name != "sig").collect();
    sorted.sort();
    let mut text = String::new();
    for (name, value) in sorted {
        text.push('&');
        text.push_str(name);
        text.push('=');
        text.push_str(&value.replace(['&', '='], "_"));
    }
    text
}

/// `keys`: none where the account signs nothing.
pub(super) fn read(
    keys: Option<&Keys>,
    api_key: &str,
    request: &ReceiptRequest<'_>,
) -> Result<Vec<Report>, ReceiptFault> {
    let params = params(request)?;
    if let Some(keys) = keys {
        keys.check(&params, request.now)?;
    }
    if only(&params, "api-key")?.is_some_and(|other| other != api_key) {
        return Err(ReceiptFault::Malformed("of another account"));
    }
    let (Some(id), Some(status)) = (only(&params, "messageId")?, only(&params, "status")?) else {
        return Err(ReceiptFault::Malformed("without messageId or status"));
    };
    if !api::is_id(id) {
        return Err(ReceiptFault::Malformed("an id that is none"));
    }
    let error = only(&params, "err-code")?.and_then(|code| code.parse().ok());
    let price = super::price(only(&params, "price")?);
    Ok(report(id, status, error).map(|report| Report { price, ..report }).into_iter().collect())
}

fn params(request: &ReceiptRequest<'_>) -> Result<Params, ReceiptFault> {
    let undecodable = ReceiptFault::Malformed("a form that does not decode");
    if *request.method == Method::GET {
        return api::read_form(request.query.as_bytes()).ok_or(undecodable);
    }
    if *request.method != Method::POST {
        return Err(ReceiptFault::Malformed("neither a GET nor a POST"));
    }
    let kind = request.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if kind.to_ascii_lowercase().starts_with(b"application/json") {
        return members(request.body);
    }
    api::read_form(request.body).ok_or(undecodable)
}

/// An object of texts and numbers, as parameters.
fn members(body: &[u8]) -> Result<Params, ReceiptFault> {
    let malformed = ReceiptFault::Malformed("no JSON object of texts");
    let Ok(Value::Object(members)) = serde_json::from_slice(body) else { return Err(malformed) };
    let texts = members.into_iter().map(|(name, value)| match value {
        Value::String(text) => Some((name, text)),
        Value::Number(number) => Some((name, number.to_string())),
        Value::Null => Some((name, String::new())),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    });
    texts.collect::<Option<Params>>().ok_or(malformed)
}

/// The value of a name that may not be there twice.
fn only<'p>(params: &'p Params, name: &str) -> Result<Option<&'p str>, ReceiptFault> {
    let mut values = params.iter().filter(|(found, _)| found == name).map(|(_, value)| value.as_str());
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(ReceiptFault::Malformed("two values of one name")),
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    digits.chunks_exact(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}

/// From receipts and look-ups. None: it does not know the state itself.
pub(super) fn report(id: &str, status: &str, error: Option<u32>) -> Option<Report> {
    let state = match status {
        "buffered" => DeliveryState::Queued,
        // By the carrier.
        "accepted" => DeliveryState::Sent,
        "delivered" | "DELIVRD" => DeliveryState::Delivered,
        "expired" | "EXPIRED" => DeliveryState::Expired,
        "failed" | "UNDELIV" => DeliveryState::Failed,
        "rejected" | "REJECTD" => DeliveryState::Rejected,
        _ => return None,
    };
    let refused = match state {
        DeliveryState::Failed
        | DeliveryState::Expired
        | DeliveryState::Rejected
        | DeliveryState::Undelivered => error.and_then(table::undelivered),
        DeliveryState::Accepted
        | DeliveryState::Queued
        | DeliveryState::Sent
        | DeliveryState::Delivered
        | DeliveryState::Read => None,
    };
    Some(Report { message_id: id.into(), state, refused, price: None })
}
