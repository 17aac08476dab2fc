//! `MessageBird-Signature-JWT`: a token (RFC 7519) over the URL and the body of one request.

use std::fmt::Write as _;

use ::http::HeaderName;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::{digest, hmac};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::sms::{ReceiptFault, ReceiptRequest, api};

const SIGNATURE: HeaderName = HeaderName::from_static("messagebird-signature-jwt");
/// A longer token is none, bytes.
const TOKEN_MAX: usize = 4 * 1024;
/// How far the clocks may be apart, as MessageBird's own libraries have it.
const LEEWAY_S: f64 = 1.0;

/// The signing key, which is not the access key, under each of the digests that may be used.
pub(super) struct Keys {
    sha256: hmac::Key,
    sha384: hmac::Key,
    sha512: hmac::Key,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that must be understood (RFC 7515 §4.1.11); we understand none.
    crit: Option<serde::de::IgnoredAny>,
}

/// Of each claim there is one at most: reading two is an error.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    /// Seconds since the epoch, with or without a fraction.
    nbf: f64,
    exp: f64,
    url_hash: String,
    payload_hash: Option<String>,
}

impl Keys {
    pub(super) fn new(secret: &SecretString) -> Keys {
        let key = |algorithm| hmac::Key::new(algorithm, secret.expose_secret().as_bytes());
        Keys {
            sha256: key(hmac::HMAC_SHA256),
            sha384: key(hmac::HMAC_SHA384),
            sha512: key(hmac::HMAC_SHA512),
        }
    }

    /// A token may come twice: what is reported twice changes nothing.
    pub(super) fn check(&self, request: &ReceiptRequest<'_>) -> Result<(), ReceiptFault> {
        let token = api::signed_by(request.headers, &SIGNATURE)?;
        let claims = self.claims(token)?;
        if claims.iss != "MessageBird" {
            return Err(ReceiptFault::Forged);
        }
        let now_s = request.now.as_micros() as f64 / 1e6;
        if claims.nbf > now_s + LEEWAY_S || claims.exp < now_s - LEEWAY_S {
            return Err(ReceiptFault::Stale);
        }
        // The token is believed by now; the digests are no secrets.
        let payload_hash = (!request.body.is_empty()).then(|| sha256_hex(request.body));
        let is_this = claims.url_hash == sha256_hex(request.url.as_bytes())
            && claims.payload_hash.filter(|hash| !hash.is_empty()) == payload_hash;
        if is_this { Ok(()) } else { Err(ReceiptFault::Forged) }
    }

    fn claims(&self, token: &str) -> Result<Claims, ReceiptFault> {
        let no_token = ReceiptFault::Malformed("a signature that is no token");
        if token.len() > TOKEN_MAX {
            return Err(no_token);
        }
        let Some((signed, tag)) = token.rsplit_once('.') else { return Err(no_token) };
        let Some((header, payload)) = signed.split_once('.') else { return Err(no_token) };
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let (Some(header), Some(tag)) = (decoded(header), decoded(tag)) else { return Err(no_token) };
        let header: Header = serde_json::from_slice(&header).map_err(|_| no_token.clone())?;
        let key = match header.alg.as_str() {
            "HS256" => &self.sha256,
            "HS384" => &self.sha384,
            "HS512" => &self.sha512,
            _ => return Err(ReceiptFault::Forged),
        };
        if header.crit.is_some() {
            return Err(ReceiptFault::Forged);
        }
        hmac::verify(key, signed.as_bytes(), &tag).map_err(|_| ReceiptFault::Forged)?;
        let payload = decoded(payload).ok_or_else(|| no_token.clone())?;
        serde_json::from_slice(&payload).map_err(|_| no_token)
    }
}

fn sha256_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest::digest(&digest::SHA256, bytes).as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
