//! What the file says of one-time codes.

use phonenumber::country::Id as Region;
use secrecy::SecretString;

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
