//! HTTP/2 from clients: what one connection may do, and what its requests lack until they are like others.

use std::time::Duration;

use http::header::{COOKIE, HOST};
use http::{HeaderName, HeaderValue, Version};
use parking_lot::Mutex;
use pingora::apps::HttpServerOptions;
use pingora::http::RequestHeader;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::{Error, ErrorType};
use tokio::sync::Notify;

use super::head::Fault;
use crate::decision::listener::ClientLimits;
use crate::decision::time::{Span, Timestamp};

/// Requests at a time on one connection.
const STREAMS_MAX: u32 = 100;
/// A request's fields, decoded, bytes, whatever a listener allows. What is larger is answered 431 by the library, which
/// also ends a connection whose CONTINUATION frames go on past it.
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
/// A connection without a request ends in an orderly way after so long. A listener that allows less cuts it off.
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
    options
}

/// Gives a request of HTTP/2 what one of HTTP/1.1 has, so that whoever reads it later finds one spelling.
///
/// The authority goes into `Host`, for a new target would lose it. Cookies, which may come one a field, become
/// one field (RFC 9113 §8.2.3). Then it is held to the sizes that the gate of HTTP/1.1 allows.
///
/// # Errors
/// 414 for a target that is too long, 431 for too many fields or too large ones.
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
    must_fit(request, limits)
        .map_err(|fault| Error::explain(ErrorType::HTTPStatus(fault.status().as_u16()), fault.detail()))
}

fn must_fit(request: &RequestHeader, limits: &ClientLimits) -> Result<(), Fault> {
    /// What a line of HTTP/1.1 has around name and value.
    const AROUND: usize = ": \r\n".len();
    let target = request.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.uri_bytes as usize {
        return Err(Fault::UriTooLong);
    }
    if request.headers.len() > limits.header_fields as usize {
        return Err(Fault::TooManyFields);
    }
    let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + AROUND;
    if request.headers.iter().map(size).sum::<usize>() > limits.header_bytes as usize {
        return Err(Fault::FieldsTooLarge);
    }
    Ok(())
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
        body_rate: 250,
        header_fields: 4,
        header_bytes: 100,
        uri_bytes: 8,
    };

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

    #[test]
    fn a_request_is_held_to_the_sizes_of_its_listener() {
        let outcome = |target: &str, fields: &[(&'static str, &'static str)]| {
            let mut request = request(fields);
            request.set_raw_path(target.as_bytes()).unwrap();
            settle(&mut request, &LIMITS).map_err(|error| error.etype().clone())
        };
        assert_eq!(outcome("/1234567", &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]), Ok(()));
        assert_eq!(outcome("/12345678", &[]), Err(ErrorType::HTTPStatus(414)));
        let five = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")];
        assert_eq!(outcome("/", &five), Err(ErrorType::HTTPStatus(431)));
        const LARGE: &str = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456";
        assert_eq!(outcome("/", &[("a", &LARGE[..95])]), Ok(()));
        assert_eq!(outcome("/", &[("a", &LARGE[..96])]), Err(ErrorType::HTTPStatus(431)));
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
