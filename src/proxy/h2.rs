//! HTTP/2 from clients: what one connection may do, and what its requests lack until they are like others.

mod frames;
mod pipe;
mod serve;
mod streams;
mod watch;

use http::header::{COOKIE, HOST};
use http::{HeaderValue, StatusCode, Version};
use pingora::http::RequestHeader;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::{Error, ErrorType};

pub(super) use self::pipe::Pipe;
pub(super) use self::serve::{Host, serve};
pub(super) use self::watch::Fault;

use crate::decision::listener::{ClientLimits, Http2Limits};

/// What fields cost beyond their bytes: 32 each (RFC 9113 §6.5.2), cookies that come one a field and all.
const FIELDS_COST: u32 = 24 * 1024;

/// What a connection may do that comes in under these limits.
///
/// A request whose fields are larger, decoded, is answered 431 by the library, which also ends a connection whose
/// CONTINUATION frames go on past it.
fn options(limits: &ClientLimits, http2: &Http2Limits) -> H2Options {
    let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(http2.concurrent_streams)
        .max_header_list_size(
            limits.header_bytes.saturating_add(limits.uri_bytes).saturating_add(FIELDS_COST),
        )
        .initial_window_size(http2.stream_window)
        .initial_connection_window_size(http2.connection_window)
        .max_send_buffer_size(size(http2.send_buffer))
        .max_pending_accept_reset_streams(size(http2.unseen_resets))
        .max_local_error_reset_streams(Some(size(http2.error_resets)));
    options
}

/// Gives a request of HTTP/2 what one of HTTP/1.1 has, so that whoever reads it later finds one spelling.
///
/// The authority goes into `Host`, for a new target would lose it. Cookies, which may come one a field, become
/// one field (RFC 9113 §8.2.3).
///
/// # Errors
/// 431 for too many fields, or too many bytes of them, cookies counted as one; 414 for a target that is too long;
/// 400 for a value with white space at an end, which the library lets through (RFC 9113 §8.2.1).
pub(super) fn settle(request: &mut RequestHeader, limits: &ClientLimits) -> pingora::Result<()> {
    if request.version != Version::HTTP_2 {
        return Ok(());
    }
    if !request.headers.values().all(is_trimmed) {
        return Err(Error::explain(
            ErrorType::HTTPStatus(StatusCode::BAD_REQUEST.as_u16()),
            "it is malformed",
        ));
    }
    if let Some(authority) = request.uri.authority() {
        let host = field(authority.as_str().as_bytes())?;
        request.insert_header(HOST, host)?;
    }
    let crumbs: Vec<&[u8]> = request.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1 {
        let whole = field(&crumbs.join(&b"; "[..]))?;
        request.insert_header(COOKIE, whole)?;
    }
    match too_large(request, limits) {
        Some(status) => Err(Error::explain(ErrorType::HTTPStatus(status.as_u16()), "it is too large")),
        None => Ok(()),
    }
}

fn is_trimmed(value: &HeaderValue) -> bool {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !is_blank(value.as_bytes().first()) && !is_blank(value.as_bytes().last())
}

fn too_large(request: &RequestHeader, limits: &ClientLimits) -> Option<StatusCode> {
    let is_over = |length: usize, most: u32| u32::try_from(length).map_or(true, |length| length > most);
    let bytes = request.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if is_over(request.raw_path().len(), limits.uri_bytes) {
        return Some(StatusCode::URI_TOO_LONG);
    }
    let fields_are =
        is_over(request.headers.len(), limits.header_fields) || is_over(bytes, limits.header_bytes);
    fields_are.then_some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
}

fn field(bytes: &[u8]) -> pingora::Result<HeaderValue> {
    HeaderValue::from_bytes(bytes).map_err(|_| Error::new_down(ErrorType::InvalidHTTPHeader))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::time::Span;

    const LIMITS: ClientLimits = ClientLimits {
        connections: 1,
        connections_per_ip: 1,
        header_timeout: Span::from_secs(10),
        idle_timeout: Span::from_secs(60),
        body_rate: 100,
        header_fields: 3,
        header_bytes: 64,
        uri_bytes: 8,
    };

    #[test]
    fn what_is_too_large_is_refused() {
        let status = |fields: &[(&'static str, &'static str)]| too_large(&request(fields), &LIMITS);
        assert_eq!(status(&[("a", "1"), ("b", "2"), ("c", "3")]), None);
        let too_many = Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        assert_eq!(status(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]), too_many);
        assert_eq!(
            status(&[("a", "1234567890123456789012345678901234567890123456789012345678901234")]),
            too_many
        );
        let mut long = request(&[]);
        long.set_raw_path(b"/12345678").unwrap();
        assert_eq!(too_large(&long, &LIMITS), Some(StatusCode::URI_TOO_LONG));
    }

    fn request(fields: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut builder = http::Request::get("http://api.example/a?b").version(Version::HTTP_2);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        RequestHeader::from(builder.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn authority_and_cookies_are_spelled_as_in_http_1() {
        let mut settled = request(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        settle(&mut settled, &LIMITS).unwrap();
        assert_eq!(settled.headers.get(HOST).unwrap(), "api.example");
        let cookies: Vec<_> = settled.headers.get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2; c=3"]);
        settled.set_raw_path(b"/other").unwrap();
        assert_eq!(settled.headers.get(HOST).unwrap(), "api.example");
    }

    #[test]
    fn values_have_no_space_around_them() {
        for value in [" a", "a ", "\ta", "a\t", " "] {
            let fault = settle(&mut request(&[("x", value)]), &LIMITS).unwrap_err();
            assert_eq!(*fault.etype(), ErrorType::HTTPStatus(400), "{value:?}");
        }
        settle(&mut request(&[("x", ""), ("y", "a b")]), &LIMITS).unwrap();
    }

    #[test]
    fn a_request_of_http_1_is_left_alone() {
        let mut request = request(&[("cookie", "a=1"), ("cookie", "b=2")]);
        request.set_version(Version::HTTP_11);
        settle(&mut request, &LIMITS).unwrap();
        assert_eq!(request.headers.get_all(COOKIE).iter().count(), 2);
        assert!(request.headers.get(HOST).is_none());
    }
}
