//! Bearer tokens: JWT (RFC 7519) signed with HS256 (RFC 7518 §3.2).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::decision::time::{Span, Timestamp};

const LIFETIME: Span = Span::from_secs(3600);
const HEADER: &[u8] = br#"{"alg":"HS256","typ":"JWT"}"#;

/// Whom a token stands for, and until when.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) sub: String,
    /// Seconds since the Unix epoch.
    pub(super) exp: u64,
}

/// What the gateway says of somebody who had a code.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Proven {
    /// The phone number.
    pub(super) sub: String,
    pub(super) purpose: String,
    /// Seconds since the Unix epoch.
    pub(super) exp: u64,
    /// Names the proof.
    pub(super) jti: String,
}

#[derive(Clone)]
pub(super) struct Signer(hmac::Key);

impl Signer {
    pub(super) fn new(secret: &SecretString) -> Signer {
        Signer(hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes()))
    }

    /// A token for `user`, good for an hour from `now`.
    pub(super) fn issue(&self, user: &str, now: Timestamp) -> String {
        let claims = serde_json::json!({ "sub": user, "exp": now.plus(LIFETIME).ceil_secs() }).to_string();
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(claims));
        let signature = hmac::sign(&self.0, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The claims of a token that was issued here and has not expired.
    pub(super) fn verify(&self, token: &str, now: Timestamp) -> Option<Claims> {
        let claims: Claims = serde_json::from_slice(&self.signed(token)?).ok()?;
        (now < Timestamp::from_millis(claims.exp.saturating_mul(1000))).then_some(claims)
    }

    /// What a proof of the gateway says that has not expired.
    pub(super) fn verify_proof(&self, token: &str, now: Timestamp) -> Option<Proven> {
        let proven: Proven = serde_json::from_slice(&self.signed(token)?).ok()?;
        (now < Timestamp::from_millis(proven.exp.saturating_mul(1000))).then_some(proven)
    }

    /// The claims that are signed with this key.
    fn signed(&self, token: &str) -> Option<Vec<u8>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        hmac::verify(&self.0, signed.as_bytes(), &signature).ok()?;
        // A good signature speaks for the header too: nothing else is ever signed with this key.
        let (_, claims) = signed.split_once('.')?;
        URL_SAFE_NO_PAD.decode(claims).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn signer(secret: &str) -> Signer {
        Signer::new(&SecretString::from(secret))
    }

    #[test]
    fn a_token_holds_for_its_hour_and_no_longer() {
        let token = signer("s").issue("demo", NOW);
        let last_moment = NOW.plus(Span::from_millis(3_599_999));
        assert_eq!(
            signer("s").verify(&token, last_moment),
            Some(Claims { sub: "demo".to_owned(), exp: 1_700_003_600 })
        );
        assert_eq!(signer("s").verify(&token, NOW.plus(LIFETIME)), None);
    }

    #[test]
    fn a_token_of_another_secret_or_with_other_claims_is_refused() {
        let token = signer("s").issue("demo", NOW);
        assert_eq!(signer("another").verify(&token, NOW), None);
        let [header, _, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
        let claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"ada","exp":99999999999}"#);
        assert_eq!(signer("s").verify(&format!("{header}.{claims}.{signature}"), NOW), None);
        for no_token in ["", ".", "..", "a.b.c", &token[..token.len() - 1]] {
            assert_eq!(signer("s").verify(no_token, NOW), None, "{no_token:?}");
        }
    }

    /// The example of RFC 7515, appendix A.1.1.
    #[test]
    fn the_signature_is_that_of_rfc_7515() {
        let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let signed = concat!(
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.",
            "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, &URL_SAFE_NO_PAD.decode(key).unwrap());
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, signed.as_bytes()));
        assert_eq!(signature, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    }
}
