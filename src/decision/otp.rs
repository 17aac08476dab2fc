//! Routes that the gateway answers itself: one-time codes.

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
