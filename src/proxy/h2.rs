//! HTTP/2 from clients: what one connection may do, and what its requests lack until they are like others.

use std::time::Duration;

use http::header::{COOKIE, HOST};
use http::{HeaderValue, StatusCode, Version};
use parking_lot::Mutex;
use pingora::apps::HttpServerOptions;
use pingora::http::RequestHeader;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::{Error, ErrorType};
use tokio::sync::Notify;

use crate::decision::listener::ClientLimits;
use crate::decision::time::{Span, Timestamp};

/// Requests at a time on one connection.
const STREAMS_MAX: u32 = 100;
/// A request's fields, decoded, bytes. What is larger is answered 431 by the library, which also ends a connection
/// whose CONTINUATION frames go on past it.
const HEADER_LIST_MAX: u32 = 64 * 1024;
/// What clients may send ahead of what we took in: a stream, and a connection, bytes.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What waits for one slow reader, bytes.
const SEND_BUFFER_MAX: usize = 64 * 1024;
/// Requests that were taken back before we looked at them (CVE-2023-44487), and those that we took back for an
/// error of the client's: past so many the connection ends.
const UNSEEN_RESETS_MAX: usize = 20;
const ERROR_RESETS_MAX: usize = 64;
/// Requests that were taken back while we worked on them, and the time in which there may be so many.
const RESETS_MAX: u32 = 200;
const RESETS_PER: Span = Span::from_secs(10);
/// A connection without a request ends after so long.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How long a client may refuse to take more of an answer.
pub(super) const WRITE_DEADLINE: Duration = Duration::from_secs(60);

/// What each connection may do.
pub(super) fn options() -> H2Options {
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER_MAX)
        .max_pending_accept_reset_streams(UNSEEN_RESETS_MAX)
        .max_local_error_reset_streams(Some(ERROR_RESETS_MAX));
    options
}

pub(super) fn server_options() -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(IDLE_MAX);
    // It is the gateway that refuses them, in words of its own, and tells of it.
    options.allow_connect_method_proxying = true;
    options
}

/// Gives a request of HTTP/2 what one of HTTP/1.1 has, so that whoever reads it later finds one spelling.
///
/// The authority goes into `Host`, for a new target would lose it. Cookies, which may come one a field, become
/// one field (RFC 9113 §8.2.3).
///
/// # Errors
/// 431 for too many fields, or too many bytes of them, cookies counted as one; 414 for a target that is too long.
pub(super) fn settle(request: &mut RequestHeader, limits: &ClientLimits) -> pingora::Result<()> {
    if request.version != Version::HTTP_2 {
        return Ok(());
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

/// Counts the requests that a client takes back: each cost us more than it cost the client.
#[derive(Debug, Default)]
pub(super) struct Resets {
    counted: Mutex<(Timestamp, u32)>,
    too_many: Notify,
}

impl Resets {
    /// One more. Past the bound the connection is ended.
    pub(super) fn note(&self, now: Timestamp) {
        let mut counted = self.counted.lock();
        let (since, count) = &mut *counted;
        if since.until(now) > RESETS_PER {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        if *count > RESETS_MAX {
            self.too_many.notify_one();
        }
    }

    /// Returns once there were too many in a short time.
    pub(super) async fn too_many(&self) {
        self.too_many.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_request_of_http_1_is_left_alone() {
        let mut request = request(&[("cookie", "a=1"), ("cookie", "b=2")]);
        request.set_version(Version::HTTP_11);
        settle(&mut request, &LIMITS).unwrap();
        assert_eq!(request.headers.get_all(COOKIE).iter().count(), 2);
        assert!(request.headers.get(HOST).is_none());
    }

    #[tokio::test]
    async fn many_resets_at_once_end_a_connection_and_few_over_time_do_not() {
        let resets = Resets::default();
        let start = Timestamp::from_millis(1_800_000_000_000);
        let ended = || async { tokio::time::timeout(Duration::ZERO, resets.too_many()).await.is_ok() };
        for second in 0..10_000 {
            resets.note(start.plus(Span::from_secs(second)));
        }
        assert!(!ended().await);
        let later = start.plus(Span::from_secs(20_000));
        for _ in 0..RESETS_MAX {
            resets.note(later);
        }
        assert!(!ended().await);
        resets.note(later);
        assert!(ended().await);
    }
}
