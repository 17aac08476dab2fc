//! Every way in which the gateway itself answers no.

use std::sync::Arc;

use http::StatusCode;

use super::body::{BodyFault, BodyFaultKind};
use super::otp::OtpFault;
use super::path::{PathFault, RiskyByte};
use super::plan::PlanFault;
use super::time::Timestamp;
use super::verdict::{Limited, Refused};

/// Why a request is not proxied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It could be read in two ways, or not at all.
    Malformed {
        detail: Box<str>,
    },
    /// Its method is none that a backend is asked by.
    Method,
    /// Its path is longer than any that is looked at.
    UriTooLong,
    /// Its address is on the deny list.
    Denied,
    NoRoute,
    /// A key stands in the body and the body did not come in time.
    BodyTimedOut,
    /// A key stands in the body and the body is larger than what is looked at.
    BodyTooLarge,
    /// A key stands in the body and the body is of a kind that is not read.
    Unsupported {
        detail: Box<str>,
    },
    /// A rule of the route takes this value of the body from nobody.
    Rejected {
        status: StatusCode,
        detail: Arc<str>,
        /// Its number in the route.
        rule: usize,
    },
    Limited(Limited),
    /// It is blocked on every route: by suspicion or by an operator.
    Banned {
        until: Timestamp,
        /// What it is blocked by: `ip`, `body.email`.
        key: Arc<str>,
    },
    /// The shared store gave no answer, and a limit of the route lets nobody through then.
    StoreAway {
        /// When the store may be back.
        retry_at: Timestamp,
    },
    /// What it wants of a one-time code cannot be.
    Otp(OtpFault),
    /// The client went away before it said what it wants.
    ClientGone,
}

impl Refusal {
    /// The status of RFC 9110 and RFC 6585; a limit's may be worded otherwise by the operator.
    pub fn status(&self) -> StatusCode {
        match self {
            Refusal::Malformed { .. } | Refusal::ClientGone => StatusCode::BAD_REQUEST,
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::UriTooLong => StatusCode::URI_TOO_LONG,
            Refusal::Denied => StatusCode::FORBIDDEN,
            Refusal::NoRoute => StatusCode::NOT_FOUND,
            Refusal::BodyTimedOut => StatusCode::REQUEST_TIMEOUT,
            Refusal::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Unsupported { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Refusal::Rejected { status, .. } => *status,
            Refusal::Limited(_) | Refusal::Banned { .. } => StatusCode::TOO_MANY_REQUESTS,
            Refusal::StoreAway { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::Otp(fault) => fault.status(),
        }
    }

    /// One sentence for the client. A limit's answer is worded by its route.
    pub fn detail(&self) -> &str {
        match self {
            Refusal::Malformed { detail } | Refusal::Unsupported { detail } => detail,
            Refusal::Rejected { detail, .. } => detail,
            Refusal::Method => "This method is not allowed.",
            Refusal::UriTooLong => "The path is too long.",
            Refusal::Denied => "Access from this address is denied.",
            Refusal::NoRoute => "Not found.",
            Refusal::BodyTimedOut => "The request body did not arrive in time.",
            Refusal::BodyTooLarge => "The request body is too large.",
            Refusal::Limited(_) | Refusal::Banned { .. } => "Request was throttled.",
            Refusal::StoreAway { .. } => "The request cannot be checked at the moment.",
            Refusal::ClientGone => "The request ended early.",
            Refusal::Otp(fault) => fault.detail(),
        }
    }

    /// What clients of one-time codes tell it by: never changes, whatever the words beside it.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Malformed { .. } | Refusal::Method | Refusal::UriTooLong | Refusal::ClientGone => {
                "invalid_request"
            }
            Refusal::Denied => "denied",
            Refusal::NoRoute => "not_found",
            Refusal::BodyTimedOut => "timeout",
            Refusal::BodyTooLarge => "body_too_large",
            Refusal::Unsupported { .. } => "unsupported_media_type",
            Refusal::Rejected { .. } => "rejected",
            Refusal::Limited(_) | Refusal::Banned { .. } => "rate_limited",
            Refusal::StoreAway { .. } => "store_unavailable",
            Refusal::Otp(fault) => fault.code(),
        }
    }

    /// For a path that holds an encoded byte its route does not allow.
    pub fn risky_path(byte: RiskyByte) -> Refusal {
        Refusal::Malformed { detail: format!("The path must not contain {}.", byte.escape()).into() }
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Refusal {
        match refused {
            Refused::Limited(limited) => Refusal::Limited(limited),
            Refused::Undecided { retry_at, .. } => Refusal::StoreAway { retry_at },
        }
    }
}

impl From<PathFault> for Refusal {
    fn from(fault: PathFault) -> Refusal {
        match fault {
            PathFault::TooLong => Refusal::UriTooLong,
            PathFault::NotAbsolute
            | PathFault::Control
            | PathFault::Raw(_)
            | PathFault::Escape
            | PathFault::NotUtf8
            | PathFault::HiddenDots => Refusal::Malformed { detail: fault.to_string().into() },
        }
    }
}

impl From<PlanFault> for Refusal {
    fn from(fault: PlanFault) -> Refusal {
        Refusal::Malformed { detail: fault.to_string().into() }
    }
}

impl From<BodyFault> for Refusal {
    fn from(fault: BodyFault) -> Refusal {
        let detail = fault.to_string().into();
        match fault.kind() {
            BodyFaultKind::Malformed => Refusal::Malformed { detail },
            BodyFaultKind::Unsupported => Refusal::Unsupported { detail },
        }
    }
}
