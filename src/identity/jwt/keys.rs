//! The keys that tokens are verified with, each bound to the one algorithm it is for: a public
//! key can never be taken for an HMAC secret (RFC 8725 §3.1).

use ring::{hmac, signature};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::{Algorithm, HS256_SECRET_MIN, JwtRulesError, decoded};

/// The keys of the allowed algorithms. No two have the same algorithm and kid.
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// A shared secret is one key with no name: the kid of a token says nothing about it.
    ignores_kid: bool,
    has_weak_secret: bool,
}

pub(super) struct Key {
    kid: Option<Box<str>>,
    material: Material,
}

enum Material {
    Hmac(hmac::Key),
    Rsa(signature::RsaPublicKeyComponents<Box<[u8]>>),
    /// The uncompressed point (SEC 1 §2.3.3).
    P256([u8; 65]),
    Ed25519([u8; 32]),
}

impl KeySet {
    pub(super) const BYTES_MAX: usize = 256 * 1024;
    pub(super) const COUNT_MAX: usize = 100;

    pub(super) fn from_secret(
        secret: &SecretString,
        algorithms: &[Algorithm],
    ) -> Result<KeySet, JwtRulesError> {
        if let Some(&algorithm) = algorithms.iter().find(|&&algorithm| algorithm != Algorithm::Hs256) {
            return Err(JwtRulesError::SecretMisfit { algorithm });
        }
        let bytes = secret.expose_secret().as_bytes();
        if bytes.is_empty() {
            return Err(JwtRulesError::EmptySecret);
        }
        let material = Material::Hmac(hmac::Key::new(hmac::HMAC_SHA256, bytes));
        Ok(KeySet {
            keys: vec![Key { kid: None, material }],
            ignores_kid: true,
            has_weak_secret: bytes.len() < HS256_SECRET_MIN,
        })
    }

    /// Reads a JWK Set. Keys of other kinds, for other uses or for algorithms not allowed are
    /// passed over (RFC 7517 §5); a key that would be used and is unsound is an error.
    pub(super) fn from_jwks(json: &[u8], algorithms: &[Algorithm]) -> Result<KeySet, JwtRulesError> {
        if json.len() > KeySet::BYTES_MAX {
            return Err(JwtRulesError::JwksTooLarge);
        }
        let file: JwkSetFile = serde_json::from_slice(json)
            .map_err(|error| JwtRulesError::JwksMalformed { reason: without_values(&error) })?;
        if file.keys.len() > KeySet::COUNT_MAX {
            return Err(JwtRulesError::JwksTooLarge);
        }
        let mut set = KeySet { keys: Vec::new(), ignores_kid: false, has_weak_secret: false };
        for (index, jwk) in file.keys.into_iter().enumerate() {
            let Some(algorithm) = jwk.purpose().filter(|purpose| algorithms.contains(purpose)) else {
                continue;
            };
            let material = jwk.material(algorithm).map_err(|reason| JwtRulesError::JwkUnsound {
                key: jwk.kid.clone().unwrap_or_else(|| format!("number {}", index + 1)),
                reason,
            })?;
            set.has_weak_secret |= jwk.is_weak_secret();
            let key = Key { kid: jwk.kid.map(String::into_boxed_str), material };
            if set.keys.iter().any(|other| other.algorithm() == algorithm && other.kid == key.kid) {
                return Err(JwtRulesError::SameKid { algorithm });
            }
            set.keys.push(key);
        }
        for &algorithm in algorithms {
            if !set.keys.iter().any(|key| key.algorithm() == algorithm) {
                return Err(JwtRulesError::NoKey { algorithm });
            }
        }
        Ok(set)
    }

    pub(super) fn has_weak_secret(&self) -> bool {
        self.has_weak_secret
    }

    /// The key that a token is to be verified with: the one of its kid; without a kid the only
    /// one of its algorithm.
    pub(super) fn select(&self, algorithm: Algorithm, kid: Option<&str>) -> Option<&Key> {
        let mut fitting = self.keys.iter().filter(|key| key.algorithm() == algorithm);
        match kid {
            Some(_) if !self.ignores_kid => fitting.find(|key| key.kid.as_deref() == kid),
            Some(_) | None => {
                let only = fitting.next();
                only.filter(|_| fitting.next().is_none())
            }
        }
    }
}

impl Key {
    fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Hmac(_) => Algorithm::Hs256,
            Material::Rsa(_) => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verdict = match &self.material {
            Material::Hmac(key) => hmac::verify(key, message, signature),
            Material::Rsa(key) => key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature),
            Material::P256(point) => {
                signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signature)
            }
            Material::Ed25519(point) => {
                signature::UnparsedPublicKey::new(&signature::ED25519, point).verify(message, signature)
            }
        };
        verdict.is_ok()
    }
}

#[derive(Deserialize)]
struct JwkSetFile {
    keys: Vec<Jwk>,
}

/// A key as the file has it (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    kid: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

impl Jwk {
    /// The algorithm this key verifies; `None` if it is not for signatures we know.
    fn purpose(&self) -> Option<Algorithm> {
        let algorithm = match (self.kty.as_str(), self.crv.as_deref()) {
            ("oct", _) => Algorithm::Hs256,
            ("RSA", _) => Algorithm::Rs256,
            ("EC", Some("P-256")) => Algorithm::Es256,
            ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
            _ => return None,
        };
        let signs = self.usage.as_deref().is_none_or(|usage| usage == "sig");
        let verifies = self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let fits = self.alg.as_deref().is_none_or(|alg| alg == algorithm.name());
        (signs && verifies && fits).then_some(algorithm)
    }

    fn material(&self, algorithm: Algorithm) -> Result<Material, &'static str> {
        match algorithm {
            Algorithm::Hs256 => {
                let secret = member(&self.k).filter(|secret| !secret.is_empty());
                let secret = secret.ok_or("has no secret in `k`")?;
                Ok(Material::Hmac(hmac::Key::new(hmac::HMAC_SHA256, &secret)))
            }
            Algorithm::Rs256 => {
                let n = member(&self.n).ok_or("has no modulus in `n`")?;
                let e = member(&self.e).ok_or("has no exponent in `e`")?;
                rsa_components(&n, &e).map(Material::Rsa)
            }
            Algorithm::Es256 => {
                let coordinate = |text| member(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
                let x = coordinate(&self.x).ok_or("has no 32-byte coordinate in `x`")?;
                let y = coordinate(&self.y).ok_or("has no 32-byte coordinate in `y`")?;
                let mut point = [4; 65];
                point[1..33].copy_from_slice(&x);
                point[33..].copy_from_slice(&y);
                Ok(Material::P256(point))
            }
            Algorithm::EdDsa => {
                let point = member(&self.x).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
                point.map(Material::Ed25519).ok_or("has no 32-byte public key in `x`")
            }
        }
    }

    fn is_weak_secret(&self) -> bool {
        member(&self.k).is_some_and(|secret| self.kty == "oct" && secret.len() < HS256_SECRET_MIN)
    }
}

fn member(base64url: &Option<String>) -> Option<Vec<u8>> {
    decoded(base64url.as_deref()?)
}

/// Checked here what ring would check at every token: a key that can verify nothing is a mistake
/// to be told at load.
fn rsa_components(n: &[u8], e: &[u8]) -> Result<signature::RsaPublicKeyComponents<Box<[u8]>>, &'static str> {
    let (n, e) = (without_leading_zeros(n), without_leading_zeros(e));
    let top_bits = n.first().map_or(0, |top| 8 - top.leading_zeros() as usize);
    let bits = n.len().saturating_sub(1) * 8 + top_bits;
    if !(2048..=8192).contains(&bits) {
        return Err("is not between 2048 and 8192 bits long");
    }
    let odd = e.last().is_some_and(|last| last % 2 == 1);
    if !odd || e == [1] || e.len() > 4 {
        return Err("has an exponent in `e` that is not an odd number from 3 to 2^32");
    }
    Ok(signature::RsaPublicKeyComponents { n: n.into(), e: e.into() })
}

fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    &bytes[zeros..]
}

/// Place and kind of a JSON mistake. Its full text may quote what it found: key material.
fn without_values(error: &serde_json::Error) -> String {
    let kind = match error.classify() {
        serde_json::error::Category::Data => "a member is missing, repeated or of the wrong type",
        serde_json::error::Category::Eof => "the file ends too early",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "not JSON",
    };
    format!("{kind}, line {} column {}", error.line(), error.column())
}
