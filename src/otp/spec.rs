//! What the file says of one-time codes.

use std::fmt;

use phonenumber::country::Id as Region;
use secrecy::SecretString;

use super::keys::LINK_TOKEN_LEN;
use crate::decision::time::Span;
use crate::http_client::HttpUrl;
use crate::sms::spec::ProviderSpec;
use crate::sms::template::Templates;

/// All about codes but their limits, which are limits like all others.
#[derive(Clone, Debug)]
pub struct OtpSpec {
    /// Keys the stored codes. None: one that is kept in `store.data_dir`; a shared store needs one.
    pub secret: Option<SecretString>,
    pub code: CodeRules,
    /// How a number without `+` is read.
    pub default_region: Region,
    pub countries: Countries,
    pub fraud: FraudMode,
    pub proof: Proof,
    /// What receipts are verified against, and where providers are told to send them. None: they are not asked for any.
    pub public_url: Option<HttpUrl>,
    /// The path of the receipts route with `{provider}` and `{token}` in it.
    pub receipts_path: Option<Box<str>>,
    pub templates: Templates,
    pub exposure: Exposure,
    /// Those that are enabled, lowest priority number first.
    pub providers: Vec<ProviderSpec>,
    /// Of `channel: email`, likewise.
    pub mailers: Vec<ProviderSpec>,
}

impl OtpSpec {
    /// Of all channels.
    pub fn provider_names(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().chain(&self.mailers).map(|provider| &*provider.name)
    }
}

/// Where a provider is told to report. `path` is that of the receipts route.
pub(super) fn receipt_url(public_url: &HttpUrl, path: &str, provider: &str, token: &str) -> String {
    let path = path.replace("{provider}", provider).replace("{token}", token);
    format!("{}{path}", public_url.to_string().trim_end_matches('/'))
}

/// How long it is, characters, whatever the message: no provider takes any length.
pub fn receipt_url_len(public_url: &HttpUrl, path: &str, provider: &str) -> usize {
    receipt_url(public_url, path, provider, &"x".repeat(LINK_TOKEN_LEN)).len()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeRules {
    /// Digits, 4 to 10.
    pub length: u8,
    pub ttl: Span,
    /// How many codes are compared, at least 1.
    pub attempts: u8,
    /// Between two codes for one destination; what [`OtpRoute::cooldown`](crate::decision::otp::OtpRoute) begins with.
    pub cooldown: Span,
}

/// Which countries codes are sent to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Countries {
    /// Empty: all.
    pub allow: Box<[Region]>,
    pub deny: Box<[Region]>,
}

/// `6 digits, good for 10m, 3 tries; to US and CA alone; fraud is told and not refused; proofs by a shared secret`
impl fmt::Display for OtpSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CodeRules { length, ttl, attempts, cooldown: _ } = self.code;
        let plural = if attempts == 1 { "y" } else { "ies" };
        write!(f, "{length} digits, good for {ttl}, {attempts} tr{plural}")?;
        let Countries { allow, deny } = &self.countries;
        if !allow.is_empty() {
            write!(f, "; to {} alone", listed(allow))?;
        }
        if !deny.is_empty() {
            write!(f, "; not to {}", listed(deny))?;
        }
        f.write_str(match self.fraud {
            FraudMode::Off => "",
            FraudMode::Monitor => "; signs of fraud are told",
            FraudMode::Enforce => "; signs of fraud are refused",
        })?;
        f.write_str(match &self.proof.key {
            ProofKey::Shared(Some(_)) => "; proofs by a shared secret (HS256)",
            ProofKey::Shared(None) => "; proofs that no backend can check",
            ProofKey::Ed25519(_) => "; proofs by a private key (EdDSA)",
        })?;
        match self.exposure {
            Exposure::Nobody => Ok(()),
            Exposure::Sender => f.write_str("; told to whoever asks for one"),
        }
    }
}

fn listed(regions: &[Region]) -> String {
    regions.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(", ")
}

/// What is done about signs of fraud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FraudMode {
    Off,
    /// Told and counted, never refused.
    Monitor,
    Enforce,
}

/// How a backend learns that a code was right.
#[derive(Clone, Debug)]
pub struct Proof {
    pub key: ProofKey,
    pub ttl: Span,
    /// `iss` and `aud` of the token, where they are set.
    pub issuer: Option<Box<str>>,
    pub audience: Option<Box<str>>,
}

#[derive(Clone, Debug)]
pub enum ProofKey {
    /// HS256. None: derived from the secret of codes, which no backend knows; there is a warning.
    Shared(Option<SecretString>),
    /// EdDSA: the PKCS#8 private key, PEM; its public half is served by `otp: jwks`.
    Ed25519(SecretString),
}

/// Who sees codes besides their owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    Nobody,
    /// The answer to `send` holds the code. With the console provider alone.
    Sender,
}
