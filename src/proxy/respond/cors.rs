//! What a browser is told, so that a page of another origin may read an answer (Fetch, §3.3).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, VARY,
};
use http::{HeaderName, HeaderValue};

use crate::decision::answer::Cors;

/// What a page of another origin may read of a refusal, beside the id of its request.
const EXPOSED: &str =
    "Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, RateLimit, RateLimit-Policy";

/// The headers by which a browser lets a page of another origin read the refusal.
pub(super) fn cors_headers(
    cors: &Cors,
    origin: Option<&HeaderValue>,
    request_id: Option<&HeaderName>,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let allowed = match (cors, origin) {
        (Cors::Nobody, _) | (_, None) => None,
        (Cors::Anybody, Some(_)) => Some((HeaderValue::from_static("*"), None)),
        (Cors::Origins(origins), Some(origin)) => {
            let credentials = (ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            origins.contains(origin).then(|| (origin.clone(), Some(credentials)))
        }
    };
    let varies = match cors {
        Cors::Origins(_) => Some((VARY, HeaderValue::from_static("Origin"))),
        Cors::Nobody | Cors::Anybody => None,
    };
    let (origin, credentials) = match allowed {
        Some((origin, credentials)) => (Some(origin), credentials),
        None => (None, None),
    };
    let exposed = origin.is_some().then(|| (ACCESS_CONTROL_EXPOSE_HEADERS, exposed(request_id)));
    let origin = origin.map(|origin| (ACCESS_CONTROL_ALLOW_ORIGIN, origin));
    origin.into_iter().chain(credentials).chain(exposed).chain(varies)
}

/// The id is shown to whom a page's error is told: it leads to the lines about the request.
fn exposed(request_id: Option<&HeaderName>) -> HeaderValue {
    let plain = HeaderValue::from_static(EXPOSED);
    let Some(name) = request_id else { return plain };
    HeaderValue::try_from([EXPOSED, ", ", name.as_str()].concat()).unwrap_or(plain)
}
