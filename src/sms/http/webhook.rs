//! Signatures in the way of Standard Webhooks: HMAC-SHA256 over id, time and body.

use ::http::header::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};

use super::super::{ReceiptFault, ReceiptRequest, api};
use super::HttpGatewayFault;
use crate::decision::time::Timestamp;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

pub(super) struct Signer(hmac::Key);

impl Signer {
    /// `whsec_` and base64, with `v1,` before it as some write it, or any other text, which is the key as it is.
    pub(super) fn new(secret: &SecretString) -> Result<Signer, HttpGatewayFault> {
        let text = secret.expose_secret();
        let key = match text.strip_prefix("v1,").unwrap_or(text).strip_prefix("whsec_") {
            Some(encoded) => BASE64.decode(encoded).map_err(|_| HttpGatewayFault::Secret)?,
            None => text.as_bytes().to_vec(),
        };
        Ok(Signer(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// The headers that sign a request; `None` if a header cannot carry the id.
    pub(super) fn sign(&self, id: &str, now: Timestamp, body: &[u8]) -> Option<HeaderMap> {
        let timestamp = (now.floor_millis() / 1000).to_string();
        let tag = BASE64.encode(hmac::sign(&self.0, &signed(id, &timestamp, body)));
        let header = |name, text: &str| Some((name, HeaderValue::try_from(text).ok()?));
        let headers =
            [header(ID, id)?, header(TIMESTAMP, &timestamp)?, header(SIGNATURE, &format!("v1,{tag}"))?];
        Some(HeaderMap::from_iter(headers))
    }

    pub(super) fn check(&self, request: &ReceiptRequest<'_>) -> Result<(), ReceiptFault> {
        let id = api::signed_by(request.headers, &ID)?;
        let timestamp = api::signed_by(request.headers, &TIMESTAMP)?;
        // Several while a secret is being changed; those of other versions are by other keys.
        let offered = api::signed_by(request.headers, &SIGNATURE)?;
        let signatures = offered.split(' ').filter_map(|text| text.strip_prefix("v1,"));
        if !api::any_verifies(&self.0, &signed(id, timestamp, request.body), signatures) {
            return Err(ReceiptFault::Forged);
        }
        api::check_age(timestamp, request.now)
    }
}

fn signed(id: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat()
}
