//! Routes that the gateway answers itself: one-time codes.

use http::StatusCode;

/// What a route of one-time codes does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Sends a code, or the same one again.
    Send,
    /// Compares a code.
    Verify,
    /// Tells whether a code is on its way.
    Status,
    /// Takes the providers' word on what became of their messages.
    Receipts,
    /// Publishes the key by which proofs are checked.
    Jwks,
}

impl Operation {
    pub const ALL: [Operation; 5] =
        [Operation::Send, Operation::Verify, Operation::Status, Operation::Receipts, Operation::Jwks];

    /// As the file writes it.
    pub fn word(self) -> &'static str {
        match self {
            Operation::Send => "send",
            Operation::Verify => "verify",
            Operation::Status => "status",
            Operation::Receipts => "receipts",
            Operation::Jwks => "jwks",
        }
    }

    /// The fields of the body that it reads.
    pub fn fields(self) -> &'static [&'static str] {
        match self {
            Operation::Send => &["phone", "email", "purpose", "locale", "channel"],
            Operation::Verify => &["id", "phone", "email", "purpose", "code"],
            Operation::Status | Operation::Receipts | Operation::Jwks => &[],
        }
    }
}

/// A route of one-time codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtpRoute {
    pub operation: Operation,
    /// Which of the route's limits is the wait between two codes for one destination: each code that is sent counts in it
    /// as a failure does in other limits of its kind.
    pub cooldown: Option<usize>,
}

/// Why a request of a route of one-time codes is not done. Clients tell them apart by their codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OtpFault {
    /// A field is missing, or says nothing that could be meant.
    Request { detail: Box<str> },
    /// It is no phone number.
    Phone,
    /// It is no e-mail address.
    Email,
    /// No provider is set up for this channel.
    Channel,
    /// Codes are not sent to this country.
    Country,
    /// Premium, shared-cost, toll-free and short numbers get no codes.
    NumberKind,
    /// It is another code.
    WrongCode { attempts_left: u8 },
    /// The code is no good any more, or there never was one.
    Expired,
    /// The code was used.
    Used,
    /// Too many wrong codes.
    Exhausted,
    /// There is no such verification, or no such link.
    NotFound,
    /// The `Idempotency-Key` belongs to another request.
    KeyReused,
    /// The first request with this `Idempotency-Key` is under way.
    KeyPending,
    /// A receipt that its provider did not sign.
    Forged,
    /// Signs of fraud, and they are enforced.
    Suspicious,
    /// No provider can be asked now.
    NoProvider,
    /// Codes cannot be kept now, so none is sent or compared.
    NoStore,
}

impl OtpFault {
    pub fn status(&self) -> StatusCode {
        match self {
            OtpFault::Request { .. } | OtpFault::Phone | OtpFault::Email | OtpFault::Channel => {
                StatusCode::BAD_REQUEST
            }
            OtpFault::WrongCode { .. } => StatusCode::UNAUTHORIZED,
            OtpFault::Forged | OtpFault::Suspicious => StatusCode::FORBIDDEN,
            OtpFault::NotFound => StatusCode::NOT_FOUND,
            OtpFault::KeyPending => StatusCode::CONFLICT,
            OtpFault::Expired | OtpFault::Used | OtpFault::Exhausted => StatusCode::GONE,
            OtpFault::Country | OtpFault::NumberKind | OtpFault::KeyReused => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            OtpFault::NoProvider | OtpFault::NoStore => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Never changes, whatever the words beside it.
    pub fn code(&self) -> &'static str {
        match self {
            OtpFault::Request { .. } => "invalid_request",
            OtpFault::Phone => "invalid_phone",
            OtpFault::Email => "invalid_email",
            OtpFault::Channel => "channel_unavailable",
            OtpFault::Country => "country_not_allowed",
            OtpFault::NumberKind => "number_not_allowed",
            OtpFault::WrongCode { .. } => "invalid_code",
            OtpFault::Expired => "expired",
            OtpFault::Used => "used",
            OtpFault::Exhausted => "attempts_exhausted",
            OtpFault::NotFound => "not_found",
            OtpFault::KeyReused => "idempotency_key_reused",
            OtpFault::KeyPending => "idempotency_key_pending",
            OtpFault::Forged => "forged",
            OtpFault::Suspicious => "refused",
            OtpFault::NoProvider => "provider_unavailable",
            OtpFault::NoStore => "store_unavailable",
        }
    }

    /// One sentence for people.
    pub fn detail(&self) -> &str {
        match self {
            OtpFault::Request { detail } => detail,
            OtpFault::Phone => "This is not a valid phone number.",
            OtpFault::Email => "This is not a valid e-mail address.",
            OtpFault::Channel => "Codes are not sent this way.",
            OtpFault::Country => "Codes are not sent to this country.",
            OtpFault::NumberKind => "Codes are not sent to numbers of this kind.",
            OtpFault::WrongCode { .. } => "The code is wrong.",
            OtpFault::Expired => "The code has expired. Request a new one.",
            OtpFault::Used => "The code was used already. Request a new one.",
            OtpFault::Exhausted => "There were too many wrong codes. Request a new one.",
            OtpFault::NotFound => "Not found.",
            OtpFault::KeyReused => "This Idempotency-Key was used for another request.",
            OtpFault::KeyPending => "The first request with this Idempotency-Key is not answered yet.",
            OtpFault::Forged => "The signature is not that of the provider.",
            OtpFault::Suspicious => "No code is sent.",
            OtpFault::NoProvider => "Codes cannot be sent at the moment.",
            OtpFault::NoStore => "Codes cannot be kept at the moment.",
        }
    }
}
