//! A user known by a signed token: JWS compact serialisation (RFC 7515) carrying a JWT (RFC 7519).

mod claims;
mod keys;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de};
use thiserror::Error;

use super::{UserId, only_line};
use crate::decision::time::{Span, Timestamp};
use keys::KeySet;

/// A longer token is none, bytes.
const TOKEN_MAX: usize = 8 * 1024;
/// How far the clocks of issuer and gateway may be apart.
const LEEWAY: Span = Span::from_secs(30);
/// The shortest HMAC key for SHA-256 that is not the weakest part (RFC 7518 §3.2), bytes.
const HS256_SECRET_MIN: usize = 32;

/// How tokens are signed (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, keys of 2048 to 8192 bits.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    const ALL: [Algorithm; 4] = [Algorithm::Hs256, Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];

    /// The name in a token's `alg`.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// The algorithm of this exact name; `none` is not one.
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What tokens are verified with.
pub enum JwtKeys {
    /// One secret shared with the issuer, for HS256.
    Secret(SecretString),
    /// A JWK Set (RFC 7517) as read from its file.
    Jwks(Vec<u8>),
}

/// Why token rules cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JwtRulesError {
    #[error("no algorithm is allowed: name at least one of HS256, RS256, ES256, EdDSA")]
    NoAlgorithm,
    #[error("the secret is empty: without one anybody could sign tokens")]
    EmptySecret,
    #[error("{algorithm} cannot be verified with a shared secret: give its public key in a JWKS file")]
    SecretMisfit { algorithm: Algorithm },
    #[error("the JWKS is larger than {} KiB or has more than {} keys", KeySet::BYTES_MAX / 1024, KeySet::COUNT_MAX)]
    JwksTooLarge,
    #[error("the JWKS is not a JWK Set (RFC 7517): {reason}")]
    JwksMalformed { reason: String },
    #[error("key {key} of the JWKS {reason}")]
    JwkUnsound { key: String, reason: &'static str },
    #[error("the JWKS has no key for {algorithm}, which is allowed: add one or take the algorithm out")]
    NoKey { algorithm: Algorithm },
    #[error("the JWKS has two keys for {algorithm} with the same kid, or both without one")]
    SameKid { algorithm: Algorithm },
    #[error("claim {claim:?} does not name a user: use `sub` or another claim that does")]
    UnfitClaim { claim: String },
}

/// Which tokens are believed, and which of their claims is the user.
pub struct JwtRules {
    header: HeaderName,
    keys: KeySet,
    claim: Box<str>,
}

impl JwtRules {
    /// `header`: where the token is; in `authorization` behind `Bearer`, in any other header alone.
    pub fn new(
        header: HeaderName,
        algorithms: Vec<Algorithm>,
        keys: JwtKeys,
        claim: &str,
    ) -> Result<JwtRules, JwtRulesError> {
        if algorithms.is_empty() {
            return Err(JwtRulesError::NoAlgorithm);
        }
        if matches!(claim, "" | "exp" | "nbf" | "iat") {
            return Err(JwtRulesError::UnfitClaim { claim: claim.into() });
        }
        let keys = match keys {
            JwtKeys::Secret(secret) => KeySet::from_secret(&secret, &algorithms)?,
            JwtKeys::Jwks(json) => KeySet::from_jwks(&json, &algorithms)?,
        };
        Ok(JwtRules { header, keys, claim: claim.into() })
    }

    /// Whether an HS256 secret is shorter than the 32 bytes that RFC 7518 §3.2 demands: it can
    /// be guessed offline from any token.
    pub fn weak_secret(&self) -> bool {
        self.keys.has_weak_secret()
    }

    pub(super) fn identify(&self, headers: &HeaderMap, now: Timestamp) -> Option<UserId> {
        let token = self.token(headers)?;
        let signed_len = token.rfind('.')?;
        let (signed, signature) = (&token[..signed_len], &token[signed_len + 1..]);
        let (header, payload) = signed.split_once('.')?;

        let header: Header = serde_json::from_slice(&decoded(header)?).ok()?;
        if header.crit.0 {
            return None;
        }
        let algorithm = Algorithm::from_name(&header.alg)?;
        let key = self.keys.select(algorithm, header.kid.as_deref())?;
        if !key.verifies(signed.as_bytes(), &decoded(signature)?) {
            return None;
        }
        let claims = claims::parse(&decoded(payload)?, &self.claim)?;
        claims.hold_at(now).then_some(claims.user)
    }

    fn token<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let value = only_line(headers, &self.header)?.to_str().ok()?.trim_ascii();
        if value.len() > TOKEN_MAX {
            return None;
        }
        if self.header != AUTHORIZATION {
            return Some(value);
        }
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_ascii_start())
    }
}

impl fmt::Debug for JwtRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtRules")
            .field("header", &self.header)
            .field("claim", &self.claim)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for JwtKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JwtKeys::Secret(_) => f.write_str("Secret(hidden)"),
            JwtKeys::Jwks(_) => f.write_str("Jwks(hidden)"),
        }
    }
}

/// The protected header, as far as it decides anything.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default)]
    crit: Present,
}

/// Whether a member is there, whatever its value. No extension is understood here, so a token
/// that declares one critical must be rejected (RFC 7515 §4.1.11).
#[derive(Default)]
struct Present(bool);

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Present, D::Error> {
        de::IgnoredAny::deserialize(deserializer).map(|_| Present(true))
    }
}

fn decoded(base64url: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(base64url).ok()
}

#[cfg(test)]
mod tests;
