//! What the backend gets to see: the path in its one normal form, and headers it can believe.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};
use smallvec::SmallVec;

use crate::decision::policy::OverrideHeaders;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Who asks, and what may be believed of what they say.
pub(super) struct Origin<'a> {
    pub(super) peer: IpAddr,
    pub(super) peer_is_trusted: bool,
    /// A header that trusted proxies alone may set.
    pub(super) user_header: Option<&'a HeaderName>,
    pub(super) overrides: OverrideHeaders,
}

/// Headers by which a client could change the method or path that a backend sees.
fn is_override(name: &str) -> bool {
    matches!(
        name,
        "x-http-method-override"
            | "x-http-method"
            | "x-method-override"
            | "x-original-url"
            | "x-original-uri"
            | "x-rewrite-url"
            | "x-override-url"
            | "x-forwarded-prefix"
            | "x-forwarded-path"
            | "x-forwarded-uri"
            | "x-script-name"
    )
}

/// Sets the path of a request in its normal form, keeping the query as it came.
pub(super) fn set_path(request: &mut RequestHeader, path: &str) -> pingora::Result<()> {
    if request.uri.path() == path && request.uri.scheme().is_none() {
        return Ok(());
    }
    let target = match request.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    request.set_raw_path(target.as_bytes())
}

/// Headers by which a client could pose as another, or as one that came by another way. A backend
/// may believe them from a trusted proxy alone; `X-Forwarded-For` is the one the gateway sets.
fn is_disguise(name: &str) -> bool {
    matches!(
        name,
        "forwarded"
            | "x-forwarded-host"
            | "x-forwarded-port"
            | "x-forwarded-proto"
            | "x-forwarded-scheme"
            | "x-forwarded-server"
            | "x-forwarded-ssl"
            | "x-real-ip"
            | "x-client-ip"
            | "x-cluster-client-ip"
            | "true-client-ip"
            | "cf-connecting-ip"
            | "fastly-client-ip"
    )
}

/// Removes what a client must not say and adds what the gateway knows.
pub(super) fn set_headers(request: &mut RequestHeader, origin: &Origin<'_>) -> pingora::Result<()> {
    let unwelcome: SmallVec<[HeaderName; 4]> =
        request.headers.keys().filter(|name| origin.forbids(name)).cloned().collect();
    for name in unwelcome {
        request.remove_header(&name);
    }
    let mut chain = String::with_capacity(64);
    if origin.peer_is_trusted {
        let lines = request.headers.get_all(X_FORWARDED_FOR).iter();
        for line in lines.filter_map(|line| line.to_str().ok()) {
            chain.push_str(line);
            chain.push_str(", ");
        }
    }
    // Writing to a String cannot fail.
    let _ = write!(chain, "{}", origin.peer);
    let chain = HeaderValue::try_from(chain).map_err(|_| Error::new(ErrorType::InvalidHTTPHeader))?;
    request.insert_header("X-Forwarded-For", chain)
}

impl Origin<'_> {
    fn forbids(&self, name: &HeaderName) -> bool {
        let text = name.as_str();
        // To some backends a name with an underscore is the one with a hyphen (CGI).
        let overrides = || text.contains('_') || is_override(text);
        let poses = || is_disguise(text) || self.user_header == Some(name);
        (self.overrides == OverrideHeaders::Stripped && overrides()) || (!self.peer_is_trusted && poses())
    }
}
