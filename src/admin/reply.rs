//! How the API says no.

use std::borrow::Cow;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::journal::JournalError;

/// Why a request is not answered as it wishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Something of it is wrong: 400.
    Bad(Cow<'static, str>),
    /// Nobody is known by what it brings: 401.
    Unknown(&'static str),
    /// Whoever it is may not do that: 403.
    Forbidden(&'static str),
    /// 404.
    NotFound(Cow<'static, str>),
    /// 413.
    TooLarge,
    /// 415.
    NotJson,
    /// Too many of it: 429.
    TooMany { retry_after_s: u64, detail: &'static str },
    /// Not ours to mend: 503.
    Unavailable(Cow<'static, str>),
    /// A mistake of our own: 500.
    Broken,
}

impl Fault {
    pub(super) fn bad(detail: impl Into<Cow<'static, str>>) -> Fault {
        Fault::Bad(detail.into())
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let (status, detail): (StatusCode, Cow<'static, str>) = match self {
            Fault::Bad(detail) => (StatusCode::BAD_REQUEST, detail),
            Fault::Unknown(detail) => {
                let body = Json(json!({"detail": detail, "needs_login": true}));
                return (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], body).into_response();
            }
            Fault::Forbidden(detail) => (StatusCode::FORBIDDEN, detail.into()),
            Fault::NotFound(detail) => (StatusCode::NOT_FOUND, detail),
            Fault::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "The body is too large.".into()),
            Fault::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "Send it as application/json.".into()),
            Fault::TooMany { retry_after_s, detail } => {
                let head = [(RETRY_AFTER, retry_after_s.to_string())];
                let body = Json(json!({"detail": detail}));
                return (StatusCode::TOO_MANY_REQUESTS, head, body).into_response();
            }
            Fault::Unavailable(detail) => (StatusCode::SERVICE_UNAVAILABLE, detail),
            Fault::Broken => (StatusCode::INTERNAL_SERVER_ERROR, "Something broke.".into()),
        };
        (status, Json(json!({"detail": detail}))).into_response()
    }
}

impl From<JournalError> for Fault {
    fn from(error: JournalError) -> Fault {
        match error {
            JournalError::Unreadable(_) => Fault::Unavailable("The journal cannot be read now.".into()),
        }
    }
}
