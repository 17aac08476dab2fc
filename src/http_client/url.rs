//! Where a call goes.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use http::Uri;
use http::uri::Scheme;
use thiserror::Error;

/// `https://host[:port][/path]`, or the same with `http` where the host is this machine. Carries
/// no credentials, query or fragment; the path does not end with a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl {
    uri: Uri,
    security: Security,
}

/// As it was written.
impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

/// What a connection is wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    Tls,
    /// Nobody but this machine sees the bytes.
    Loopback,
}

/// What is wrong with a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HttpUrlFault {
    #[error("this is no URL; write https://host, with :port and /path behind it if need be")]
    Malformed,
    #[error("a URL begins with https:// here; http:// is for 127.0.0.1, [::1] and localhost alone")]
    Scheme,
    #[error("credentials do not belong into the URL")]
    Credentials,
    #[error("the URL ends with its path; leave out what begins with ? or #")]
    Query,
}

impl HttpUrl {
    pub fn parse(text: &str) -> Result<HttpUrl, HttpUrlFault> {
        // The parser would drop a fragment and say nothing.
        if text.contains(['?', '#']) {
            return Err(HttpUrlFault::Query);
        }
        let uri: Uri = text.trim_end_matches('/').parse().map_err(|_| HttpUrlFault::Malformed)?;
        let authority = uri.authority().ok_or(HttpUrlFault::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(HttpUrlFault::Credentials);
        }
        let beside_host = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
        let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
        if authority.host().is_empty()
            || !(beside_host.is_empty() || beside_host.strip_prefix(':').is_some_and(is_port))
        {
            return Err(HttpUrlFault::Malformed);
        }
        let security = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => Security::Tls,
            Some(scheme) if *scheme == Scheme::HTTP && is_loopback(authority.host()) => Security::Loopback,
            Some(_) => return Err(HttpUrlFault::Scheme),
            None => return Err(HttpUrlFault::Malformed),
        };
        Ok(HttpUrl { uri, security })
    }

    /// The URL of something below this one; `path` begins with a slash.
    pub fn below(&self, path: &str) -> Result<HttpUrl, HttpUrlFault> {
        HttpUrl::parse(&format!("{}{path}", self.uri.to_string().trim_end_matches('/')))
    }

    /// The same with query parameters behind it; nothing if there are none.
    pub fn with_query(&self, query: &[(&str, String)]) -> Result<HttpUrl, HttpUrlFault> {
        let mut text = self.uri.to_string();
        for (index, (name, value)) in query.iter().enumerate() {
            text.push(if index == 0 { '?' } else { '&' });
            push_encoded(&mut text, name);
            text.push('=');
            push_encoded(&mut text, value);
        }
        let uri = text.parse().map_err(|_| HttpUrlFault::Malformed)?;
        Ok(HttpUrl { uri, security: self.security })
    }

    /// The same with a slash at its end, for servers to which that is another place.
    pub fn as_folder(&self) -> Result<HttpUrl, HttpUrlFault> {
        let text = format!("{}/", self.uri.to_string().trim_end_matches('/'));
        let uri = text.parse().map_err(|_| HttpUrlFault::Malformed)?;
        Ok(HttpUrl { uri, security: self.security })
    }

    /// `host[:port]`, as a `Host` header has it.
    pub fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Begins with a slash; escapes as they were written.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// What [`HttpUrl::with_query`] put there, encoded; empty without any.
    pub fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(super) fn security(&self) -> Security {
        self.security
    }
}

/// All but the unreserved characters of RFC 3986 §2.3 as escapes.
pub fn push_encoded(text: &mut String, raw: &str) {
    for byte in raw.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte))
            }
            // Writing to a string cannot fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, HttpUrlFault>) {
        let found = HttpUrl::parse(text).map(|url| url.uri.to_string());
        assert_eq!(found, expected.map(str::to_owned), "{text}");
    }

    #[test]
    fn a_query_is_encoded() {
        let url = HttpUrl::parse("http://[::1]:9180/x").unwrap();
        let query = [("a", "1 & 2=é/?#".to_owned()), ("b.c", String::new())];
        let with = url.with_query(&query).unwrap();
        assert_eq!(with.to_string(), "http://[::1]:9180/x?a=1%20%26%202%3D%C3%A9%2F%3F%23&b.c=");
        assert_eq!(url.with_query(&[]).unwrap(), url);
        assert_eq!((with.authority(), with.path()), ("[::1]:9180", "/x"));
        assert_eq!(with.query(), "a=1%20%26%202%3D%C3%A9%2F%3F%23&b.c=");
        assert_eq!(url.query(), "");
    }

    #[test]
    fn a_folder_ends_with_a_slash() {
        let folder = |text: &str| HttpUrl::parse(text).unwrap().as_folder().unwrap().to_string();
        assert_eq!(folder("https://example.io/a/b"), "https://example.io/a/b/");
        assert_eq!(folder("https://example.io"), "https://example.io/");
    }

    #[test]
    fn a_url_names_a_place_that_can_be_trusted_with_a_secret() {
        check("https://eu1.example.io", Ok("https://eu1.example.io/"));
        check("https://eu1.example.io/", Ok("https://eu1.example.io/"));
        check("HTTPS://example.io:8443/a/b//", Ok("https://example.io:8443/a/b"));
        check("http://127.0.0.1:8079", Ok("http://127.0.0.1:8079/"));
        check("http://127.9.9.9", Ok("http://127.9.9.9/"));
        check("http://[::1]:8079/x", Ok("http://[::1]:8079/x"));
        check("http://localhost:8079", Ok("http://localhost:8079/"));
        check("https://[2001:db8::1]:443", Ok("https://[2001:db8::1]:443/"));
    }

    #[test]
    fn anything_else_is_told_by_its_kind() {
        for text in ["http://example.io", "http://10.0.0.1", "http://127.0.0.1.example.io", "redis://x:1"] {
            check(text, Err(HttpUrlFault::Scheme));
        }
        for text in
            ["", "/", "example.io", "https://", "https:///x", "https://a b", "https://h:", "not a url"]
        {
            check(text, Err(HttpUrlFault::Malformed));
        }
        for text in
            ["https://h:0", "https://h:65536", "https://h:x", "https://:443", "https://ex\u{e4}mple.io"]
        {
            check(text, Err(HttpUrlFault::Malformed));
        }
        check("https://user:pw@example.io", Err(HttpUrlFault::Credentials));
        check("http://127.0.0.1@example.io", Err(HttpUrlFault::Credentials));
        check("https://example.io?_token=x", Err(HttpUrlFault::Query));
        check("https://example.io/#x", Err(HttpUrlFault::Query));
    }

    #[test]
    fn a_path_is_added_below_what_is_there() {
        let below = |base: &str| HttpUrl::parse(base).and_then(|url| url.below("/pipeline"));
        assert_eq!(below("https://h/"), HttpUrl::parse("https://h/pipeline"));
        assert_eq!(below("https://h:1/a/"), HttpUrl::parse("https://h:1/a/pipeline"));
    }
}
