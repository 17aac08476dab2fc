//! What adds up against a key over all routes, and what a key is banned by.

use super::key::{KeySpec, LimitId};
use super::limit::{Limit, Mode};

/// Something that makes its key suspicious.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspect {
    /// It asked for a one-time code.
    OtpRequest,
    /// It failed to sign in.
    Failure,
    /// A limit refused it.
    Limited,
}

impl Suspect {
    pub const ALL: [Suspect; 3] = [Suspect::OtpRequest, Suspect::Failure, Suspect::Limited];

    /// As the file writes it.
    pub fn word(self) -> &'static str {
        match self {
            Suspect::OtpRequest => "otp_request",
            Suspect::Failure => "failure",
            Suspect::Limited => "limited",
        }
    }
}

/// One rule of suspicion: a window of weighted events, and a ban once it is exceeded.
#[derive(Clone, Debug)]
pub struct Suspicion {
    /// One limit an event, alike but for the cost, which is its weight; none where that is zero.
    by_suspect: [Option<Limit>; Suspect::ALL.len()],
    pub ban: BanSpec,
    pub mode: Mode,
}

impl Suspicion {
    /// The limits share one identity, so that they count together.
    pub fn new(by_suspect: [Option<Limit>; Suspect::ALL.len()], key: KeySpec, mode: Mode) -> Suspicion {
        Suspicion { by_suspect, ban: BanSpec::new(key), mode }
    }

    /// One of its limits: key, counter and exemptions are the same in all of them.
    pub fn any_limit(&self) -> Option<&Limit> {
        self.by_suspect.iter().flatten().next()
    }

    /// What an event is charged to, if it weighs anything.
    pub fn limit(&self, suspect: Suspect) -> Option<&Limit> {
        self.by_suspect[suspect as usize].as_ref()
    }
}

/// What keys are banned by over all routes: an address, a user, a field of the body. Whoever bans, and
/// whichever route is asked, the same value gives the same key.
#[derive(Clone, Debug)]
pub struct BanSpec {
    pub key: KeySpec,
    pub id: LimitId,
}

impl BanSpec {
    pub fn new(key: KeySpec) -> BanSpec {
        let id = LimitId::derive(&["ban", &key.to_string(), key.form.name()]);
        BanSpec { key, id }
    }
}
