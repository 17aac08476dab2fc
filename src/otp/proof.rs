//! The proof that a code was right: a short-lived JSON Web Token (RFC 7519) that a backend checks by itself.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use thiserror::Error;

use super::keys::{Keys, Subject};
use super::spec::{Proof, ProofKey};
use crate::decision::time::{Span, Timestamp};

/// Signs proofs.
pub(super) struct Prover {
    signer: Signer,
    ttl: Span,
    issuer: Option<Box<str>>,
    audience: Option<Box<str>>,
}

enum Signer {
    /// HS256 (RFC 7518 §3.2).
    Shared(hmac::Key),
    /// EdDSA (RFC 8037 §3.1).
    Ed25519 { pair: Box<Ed25519KeyPair>, kid: String },
}

/// Why a text is no key to sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyFault {
    #[error("this is no PEM file with a PRIVATE KEY in it; make one by `openssl genpkey -algorithm ed25519`")]
    NoPem,
    #[error("this private key is not of the kind Ed25519; make one by `openssl genpkey -algorithm ed25519`")]
    NotEd25519,
}

/// Whether this is a private key that proofs can be signed with: PKCS#8, PEM, Ed25519.
pub fn check_private_key(pem: &SecretString) -> Result<(), KeyFault> {
    key_pair(pem).map(|_| ())
}

fn key_pair(pem: &SecretString) -> Result<Ed25519KeyPair, KeyFault> {
    let der =
        PrivatePkcs8KeyDer::from_pem_slice(pem.expose_secret().as_bytes()).map_err(|_| KeyFault::NoPem)?;
    // Most tools leave the public half out, so it cannot be compared.
    Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).map_err(|_| KeyFault::NotEd25519)
}

impl Prover {
    pub(super) fn new(proof: &Proof, keys: &Keys) -> Result<Prover, KeyFault> {
        let shared = |secret: &[u8]| Signer::Shared(hmac::Key::new(hmac::HMAC_SHA256, secret));
        let signer = match &proof.key {
            ProofKey::Shared(Some(secret)) => shared(secret.expose_secret().as_bytes()),
            ProofKey::Shared(None) => shared(keys.proof()),
            ProofKey::Ed25519(pem) => {
                let pair = Box::new(key_pair(pem)?);
                let kid = thumbprint(pair.public_key().as_ref());
                Signer::Ed25519 { pair, kid }
            }
        };
        let Proof { ttl, issuer, audience, .. } = proof;
        Ok(Prover { signer, ttl: *ttl, issuer: issuer.clone(), audience: audience.clone() })
    }

    /// A token that says: whoever brings it had the code for this subject. `id` is that of the verification, once used.
    pub(super) fn token(&self, subject: &Subject, id: &str, now: Timestamp) -> SecretString {
        let header = match &self.signer {
            Signer::Shared(_) => json!({ "alg": "HS256", "typ": "JWT" }),
            Signer::Ed25519 { kid, .. } => json!({ "alg": "EdDSA", "typ": "JWT", "kid": kid }),
        };
        let issued_s = now.as_micros() / 1_000_000;
        let mut claims = json!({
            "sub": subject.destination,
            "purpose": subject.purpose,
            "channel": subject.channel.word(),
            "iat": issued_s,
            "exp": issued_s + self.ttl.as_millis() / 1000,
            "jti": id,
        });
        for (name, value) in [("iss", &self.issuer), ("aud", &self.audience)] {
            if let Some(value) = value {
                claims[name] = Value::from(&**value);
            }
        }
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = match &self.signer {
            Signer::Shared(key) => URL_SAFE_NO_PAD.encode(hmac::sign(key, signed.as_bytes())),
            Signer::Ed25519 { pair, .. } => URL_SAFE_NO_PAD.encode(pair.sign(signed.as_bytes())),
        };
        format!("{signed}.{signature}").into()
    }

    /// The keys to check proofs by (RFC 7517); none where they are signed with a shared secret.
    pub(super) fn jwks(&self) -> Value {
        match &self.signer {
            Signer::Shared(_) => json!({ "keys": [] }),
            Signer::Ed25519 { pair, kid } => {
                let x = URL_SAFE_NO_PAD.encode(pair.public_key());
                json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x }] })
            }
        }
    }
}

/// RFC 7638, of an Ed25519 key (RFC 8037 §2).
fn thumbprint(public: &[u8]) -> String {
    let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(public));
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()))
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;
    use crate::sms::Channel;

    // The example of RFC 8410 §10.3, and the public key that belongs to it (§10.1).
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE";

    fn prover(key: ProofKey) -> Prover {
        let proof = Proof { key, ttl: Span::from_secs(300), issuer: Some("gw".into()), audience: None };
        Prover::new(&proof, &Keys::new(b"secret")).unwrap()
    }

    fn token(prover: &Prover) -> (String, Value, Value, Vec<u8>) {
        let subject =
            Subject { purpose: "login".into(), destination: "+14155550123".into(), channel: Channel::Sms };
        let token = prover.token(&subject, "an-id", Timestamp::from_millis(1_700_000_000_999));
        let token = token.expose_secret().to_owned();
        let parts: Vec<Vec<u8>> =
            token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        let [header, claims, signature] = parts.try_into().unwrap();
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        (token, json(&header), json(&claims), signature)
    }

    #[test]
    fn a_shared_secret_signs_what_any_backend_can_check() {
        let (token, header, claims, signature) =
            token(&prover(ProofKey::Shared(Some("0123456789abcdef".into()))));
        assert_eq!(header, json!({ "alg": "HS256", "typ": "JWT" }));
        assert_eq!(
            claims,
            json!({ "sub": "+14155550123", "purpose": "login", "channel": "sms", "iss": "gw", "jti": "an-id",
                    "iat": 1_700_000_000, "exp": 1_700_000_300 })
        );
        let signed = token.rsplit_once('.').unwrap().0;
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
        assert!(hmac::verify(&key, signed.as_bytes(), &signature).is_ok());
    }

    #[test]
    fn a_private_key_signs_what_its_public_half_checks() {
        let prover = prover(ProofKey::Ed25519(PEM.into()));
        let (token, header, _, signature) = token(&prover);
        let key = &prover.jwks()["keys"][0];
        assert_eq!((&header["alg"], &header["kid"]), (&json!("EdDSA"), &key["kid"]));
        assert_eq!(key["x"], PUBLIC);
        let public = URL_SAFE_NO_PAD.decode(PUBLIC).unwrap();
        let signed = token.rsplit_once('.').unwrap().0;
        assert!(UnparsedPublicKey::new(&ED25519, public).verify(signed.as_bytes(), &signature).is_ok());
    }

    #[test]
    fn a_thumbprint_is_that_of_the_rfc() {
        // RFC 8037, appendix A.3.
        let public = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
        assert_eq!(thumbprint(&public), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn other_keys_are_told() {
        assert_eq!(check_private_key(&PEM.into()), Ok(()));
        assert_eq!(check_private_key(&"".into()), Err(KeyFault::NoPem));
        assert_eq!(
            check_private_key(&"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----".into()),
            Err(KeyFault::NotEd25519)
        );
    }

    #[test]
    fn no_key_is_published_where_it_is_a_secret() {
        assert_eq!(prover(ProofKey::Shared(None)).jwks(), json!({ "keys": [] }));
    }
}
