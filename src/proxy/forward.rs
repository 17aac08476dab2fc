//! What the backend gets to see: the path in its one normal form, and headers it can believe.

use std::net::IpAddr;

use http::header::{FORWARDED, HOST};
use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use smallvec::SmallVec;

use crate::decision::policy::OverrideHeaders;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Who asks, and what may be believed of what they say.
pub(super) struct Origin<'a> {
    pub(super) client: IpAddr,
    pub(super) peer: IpAddr,
    pub(super) peer_is_trusted: bool,
    /// A header that trusted proxies alone may set.
    pub(super) user_header: Option<&'a HeaderName>,
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

/// Removes what a client must not say and adds what the gateway knows.
pub(super) fn set_headers(
    request: &mut RequestHeader,
    origin: &Origin<'_>,
    overrides: OverrideHeaders,
) -> pingora::Result<()> {
    remove_disguises(request, overrides);
    let peer = header(origin.peer)?;
    let chain = request.headers.get_all(X_FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok());
    let chain = if origin.peer_is_trusted { chain.collect::<Vec<_>>().join(", ") } else { String::new() };
    let forwarded_for = match chain.is_empty() {
        true => peer,
        false => HeaderValue::try_from(format!("{chain}, {}", origin.peer)).unwrap_or(peer),
    };
    request.insert_header(X_FORWARDED_FOR, forwarded_for)?;
    request.insert_header(X_REAL_IP, header(origin.client)?)?;
    if !origin.peer_is_trusted {
        request.remove_header(&FORWARDED);
        if let Some(user_header) = origin.user_header {
            request.remove_header(user_header);
        }
        request.insert_header(X_FORWARDED_PROTO, HeaderValue::from_static("http"))?;
        match request.headers.get(HOST).cloned() {
            Some(host) => request.insert_header(X_FORWARDED_HOST, host)?,
            None => drop(request.remove_header(&X_FORWARDED_HOST)),
        }
    }
    Ok(())
}

fn header(address: IpAddr) -> pingora::Result<HeaderValue> {
    HeaderValue::try_from(address.to_string())
        .map_err(|_| pingora::Error::new(pingora::ErrorType::InternalError))
}

/// Names with an underscore are other names to some backends (CGI turns `X-A` into `X_A`).
fn remove_disguises(request: &mut RequestHeader, overrides: OverrideHeaders) {
    let is_unwelcome = |name: &HeaderName| {
        let name = name.as_str();
        overrides == OverrideHeaders::Stripped && (name.contains('_') || is_override(name))
    };
    let unwelcome: SmallVec<[HeaderName; 4]> =
        request.headers.keys().filter(|name| is_unwelcome(name)).cloned().collect();
    for name in unwelcome {
        request.remove_header(&name);
    }
}
