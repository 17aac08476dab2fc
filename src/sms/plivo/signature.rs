//! Who sent a receipt: Plivo signs by the account's token, in two ways.

use ::http::HeaderName;
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};

use super::super::api;
use super::super::{ReceiptFault, ReceiptRequest};

/// Of a sub-account, and of the main account.
const V3: [HeaderName; 2] =
    [HeaderName::from_static("x-plivo-signature-v3"), HeaderName::from_static("x-plivo-signature-ma-v3")];
const V3_NONCE: HeaderName = HeaderName::from_static("x-plivo-signature-v3-nonce");
const V2: [HeaderName; 2] =
    [HeaderName::from_static("x-plivo-signature-v2"), HeaderName::from_static("x-plivo-signature-ma-v2")];
const V2_NONCE: HeaderName = HeaderName::from_static("x-plivo-signature-v2-nonce");

/// Version 3 if there is one, for version 2 covers neither query nor body: a receipt with only that is believed
/// because nobody else knows its path.
pub(super) fn check(
    token: &SecretString,
    request: &ReceiptRequest<'_>,
    form: &[(String, String)],
) -> Result<(), ReceiptFault> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.expose_secret().as_bytes());
    let (base, _) = request.url.split_once('?').unwrap_or((request.url, ""));
    let third = signatures(request, &V3)?;
    let (message, signatures) = if third.is_empty() {
        let second = signatures(request, &V2)?;
        if second.is_empty() {
            return Err(ReceiptFault::Unsigned);
        }
        let nonce = api::signed_by(request.headers, &V2_NONCE)?;
        (format!("{base}{nonce}"), second)
    } else {
        let nonce = api::signed_by(request.headers, &V3_NONCE)?;
        let query =
            api::read_form(request.query.as_bytes()).ok_or(ReceiptFault::Malformed("a broken query"))?;
        (third_message(base, query, form, nonce), third)
    };
    match api::any_verifies(&key, message.as_bytes(), signatures.into_iter()) {
        true => Ok(()),
        false => Err(ReceiptFault::Forged),
    }
}

/// All that these headers offer; one of version 3 may hold several, for a token that is being changed.
fn signatures<'r>(
    request: &ReceiptRequest<'r>,
    names: &[HeaderName; 2],
) -> Result<Vec<&'r str>, ReceiptFault> {
    let mut all = Vec::new();
    for name in names {
        let offered = api::only_header(request.headers, name)?;
        all.extend(offered.into_iter().flat_map(|list| list.split(',')).map(str::trim));
    }
    Ok(all)
}

/// What version 3 signs of a POST: URL, query and form in the order of their names, and the nonce.
fn third_message(
    base: &str,
    mut query: Vec<(String, String)>,
    form: &[(String, String)],
    nonce: &str,
) -> String {
    let mut form: Vec<&(String, String)> = form.iter().collect();
    form.sort_unstable();
    query.sort_unstable();
    let mut message = base.to_owned();
    if !(query.is_empty() && form.is_empty()) {
        message.push('?');
    }
    for (index, (name, value)) in query.iter().enumerate() {
        message.push_str(if index == 0 { "" } else { "&" });
        message.push_str(name);
        message.push('=');
        message.push_str(value);
    }
    if !(query.is_empty() || form.is_empty()) {
        message.push('.');
    }
    for (name, value) in form {
        message.push_str(name);
        message.push_str(value);
    }
    message.push('.');
    message.push_str(nonce);
    message
}
