//! One-time codes: what is sent is derived, what is stored reveals nothing, and what was used is used up.
//!
//! ```text
//! send    phone ─► destination ─► limits ─► Desk::open ─► answer
//!                                                └─► code ─► Dispatcher ─► providers, in the background
//! verify  id or destination ─► limits ─► Desk::guess ─► compare ─► Desk::consume ─► proof
//! ```
//!
//! The store holds a seed and never a code: `code = reject_sample(HMAC-SHA256(key, purpose, id, destination, seed))`. So a resend or
//! another provider sends the same code, and a copy of the store tells nobody any.
//!
//! **All answers to `send` are alike**, in words and in time, whether the number is known, unknown or wants no messages: the answer
//! leaves once the code is kept, and sending goes on behind it. What became of it is for the status route, receipts, events and
//! metrics.

mod answer;
pub mod card;
mod claims;
mod code;
mod delivery;
pub mod desk;
mod enquiry;
pub mod fraud;
mod keys;
mod letters;
mod phone;
mod proof;
mod receipt;
mod send;
pub mod spec;
mod spending;
mod verify;
mod wish;

use std::sync::Arc;

use secrecy::ExposeSecret as _;
use thiserror::Error;

pub use self::answer::Answer;
pub use self::claims::{ANSWER_MAX, Claim};
pub use self::delivery::Deliveries;
use self::desk::{Desk, DeskFault};
pub use self::enquiry::Enquiries;
pub use self::letters::Letters;
pub use self::proof::{KeyFault, check_private_key};
pub use self::send::Opened;
pub use self::verify::Verdict;
pub use self::wish::{ReceiptOrder, SendOrder, Task, VerifyOrder, Wish};

use self::fraud::Fraud;
use self::keys::Keys;
use self::proof::Prover;
use self::spec::{CodeRules, Countries, Exposure, FraudMode, OtpSpec};
use crate::clock::Clock;
use crate::http_client::{HttpClient, HttpUrl};
use crate::journal::Journal;
use crate::sms::dispatch::{Dispatcher, Provider, ProviderStates};
use crate::sms::template::Templates;
use crate::sms::{SenderFault, sender};
use crate::telemetry::SmsMetrics;

/// One configuration of codes, in force. What lasts longer than it stands in [`Lasting`].
pub struct Otp {
    keys: Keys,
    rules: CodeRules,
    region: phonenumber::country::Id,
    countries: Countries,
    fraud_mode: FraudMode,
    exposure: Exposure,
    templates: Templates,
    prover: Prover,
    /// Where receipts come in, `{provider}` and `{token}` in it.
    receipts: Option<Box<str>>,
    public_url: Option<HttpUrl>,
    dispatcher: Arc<Dispatcher>,
    lasting: Arc<Lasting>,
}

/// What goes on over reloads.
pub struct Lasting {
    pub desk: Desk,
    pub providers: ProviderStates,
    pub deliveries: Deliveries,
    pub enquiries: Enquiries,
    pub letters: Letters,
    pub fraud: Fraud,
    pub client: Arc<HttpClient>,
    pub journal: Journal,
    pub metrics: SmsMetrics,
    pub clock: Clock,
    /// What codes are derived from where the file names no secret.
    pub own_secret: [u8; 32],
}

/// Why a sound configuration cannot be put in force.
#[derive(Debug, Error)]
pub enum OtpError {
    #[error("provider {name}: {fault}")]
    Sender { name: Box<str>, fault: SenderFault },
    #[error("otp.token: {0}")]
    Key(#[from] KeyFault),
}

impl Otp {
    /// Puts a configuration in force beside what lasts. Does no I/O.
    pub fn new(spec: OtpSpec, lasting: Arc<Lasting>) -> Result<Otp, OtpError> {
        let secret: &[u8] = match &spec.secret {
            Some(secret) => secret.expose_secret().as_bytes(),
            None => &lasting.own_secret,
        };
        let keys = Keys::new(secret);
        let prover = Prover::new(&spec.proof, &keys)?;
        let mut providers = Vec::with_capacity(spec.providers.len() + spec.mailers.len());
        for provider in spec.providers.into_iter().chain(spec.mailers) {
            let sender = sender(&provider, &lasting.client)
                .map_err(|fault| OtpError::Sender { name: provider.name.clone(), fault })?;
            providers.push(Provider { spec: provider, sender });
        }
        let dispatcher =
            Dispatcher::new(providers, &lasting.providers, &lasting.metrics, lasting.clock.clone());
        Ok(Otp {
            keys,
            rules: spec.code,
            region: spec.default_region,
            countries: spec.countries,
            fraud_mode: spec.fraud,
            exposure: spec.exposure,
            templates: spec.templates,
            prover,
            receipts: spec.receipts_path,
            public_url: spec.public_url,
            dispatcher: Arc::new(dispatcher),
            lasting,
        })
    }

    /// The providers as they are now, for operators.
    pub fn dispatcher(&self) -> &Dispatcher {
        &self.dispatcher
    }
}
