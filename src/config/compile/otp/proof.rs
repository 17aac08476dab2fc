//! What verify hands back, and under which key.

use ring::signature::Ed25519KeyPair;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::file::otp::Token;
use crate::config::place::{At, Located};
use crate::config::problem::{Findings, Wrong};
use crate::config::reader::Optional;
use crate::config::value::text::{Secret, Text};
use crate::decision::time::Span;
use crate::otp::spec::{Proof, ProofKey};

/// `None` after a mistake. An empty key counts as none.
pub(super) fn proof(token: &Token, verify: Option<&At>, findings: &mut Findings) -> Option<Proof> {
    const TTL_MAX: Span = Span::from_secs(3600);
    let key = key(token, verify, findings);
    let ttl = token.ttl.as_ref()?;
    if ttl.value > TTL_MAX {
        let wrong = Wrong::new(format!("a proof that is good for {} is as good as a password", ttl.value));
        findings.problem(&ttl.at, wrong.write(format!("write {TTL_MAX} or less")));
        return None;
    }
    let (issuer, audience) = (claim(&token.issuer)?, claim(&token.audience)?);
    Some(Proof { key: key?, ttl: ttl.value, issuer, audience })
}

fn claim(text: &Optional<Text>) -> Option<Option<Box<str>>> {
    match text {
        Optional::Faulty => None,
        Optional::Absent => Some(None),
        Optional::Given(text) => Some(Some(text.0.clone())),
    }
}

fn key(token: &Token, verify: Option<&At>, findings: &mut Findings) -> Option<ProofKey> {
    match (given(&token.secret)?, given(&token.private_key)?) {
        (Some(_), Some(private_key)) => {
            let wrong = Wrong::new("proofs are signed with a secret or with a private key, not both");
            findings.problem(&private_key.at, wrong.write("remove `secret` or `private_key`"));
            None
        }
        (Some(secret), None) => shared(secret, findings).map(|secret| ProofKey::Shared(Some(secret))),
        (None, Some(private_key)) => ed25519(private_key, findings).map(ProofKey::Ed25519),
        (None, None) => {
            if let Some(verify) = verify {
                let at = token.secret.given().map_or(verify, |secret| &secret.at);
                let wrong =
                    Wrong::new("no backend can check the proofs: their key is known to this gateway alone");
                findings.warning(at, wrong.write("set otp.token.secret, or otp.token.private_key"));
            }
            Some(ProofKey::Shared(None))
        }
    }
}

fn given(secret: &Optional<Located<Secret>>) -> Option<Option<&Located<Secret>>> {
    match secret {
        Optional::Faulty => None,
        Optional::Absent => Some(None),
        Optional::Given(secret) => {
            Some(Some(secret).filter(|secret| !secret.value.0.expose_secret().is_empty()))
        }
    }
}

fn shared(secret: &Located<Secret>, findings: &mut Findings) -> Option<SecretString> {
    const BYTES_MIN: usize = 16;
    /// RFC 7518 §3.2: as many as the hash has.
    const BYTES_ADVISED: usize = 32;
    let length = secret.value.0.expose_secret().len();
    if length < BYTES_MIN {
        let wrong = Wrong::new(format!("the secret is shorter than {BYTES_MIN} bytes"));
        findings.problem(&secret.at, wrong.write("make one with `openssl rand -hex 32`"));
        return None;
    }
    if length < BYTES_ADVISED {
        let wrong = Wrong::new(format!(
            "the secret is shorter than {BYTES_ADVISED} bytes: it can be guessed from any proof"
        ));
        findings.warning(&secret.at, wrong.write("make one with `openssl rand -hex 32`"));
    }
    Some(secret.value.0.clone())
}

fn ed25519(private_key: &Located<Secret>, findings: &mut Findings) -> Option<SecretString> {
    let pem = private_key.value.0.expose_secret().as_bytes();
    let is_sound = PrivatePkcs8KeyDer::from_pem_slice(pem)
        .is_ok_and(|der| Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).is_ok());
    if !is_sound {
        let wrong = Wrong::new("this is no Ed25519 key in PEM (PKCS#8)");
        findings.problem(&private_key.at, wrong.write("make one with `openssl genpkey -algorithm ed25519`"));
        return None;
    }
    Some(private_key.value.0.clone())
}

/// Whoever asks for public keys wants to check proofs by them.
pub(super) fn warn_of_nothing_to_publish(jwks: &At, proof: &Proof, findings: &mut Findings) {
    match proof.key {
        ProofKey::Ed25519(_) => {}
        ProofKey::Shared(_) => {
            let wrong = Wrong::new("there is no public key to publish: the list is empty");
            findings.warning(jwks, wrong.write("set otp.token.private_key, or remove the route"));
        }
    }
}
