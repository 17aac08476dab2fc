//! What the backend gets to see: the path in its one normal form, and headers it can believe.

use std::net::IpAddr;

use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType};
use smallvec::SmallVec;

use super::own::{LINE_END, push_field};
use super::respond::is_quota;
use super::trace::Traced;
use crate::decision::policy::OverrideHeaders;
use crate::decision::trace::TraceRules;

/// As backends are told it.
const X_FORWARDED_FOR_SPELT: &str = "X-Forwarded-For";
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HTTPS: HeaderValue = HeaderValue::from_static("https");
/// As many bytes as nearly all fields of ours take together, and the request line around its target.
const OURS_BYTES: usize = 256;

/// Who asks, and what may be believed of what they say.
pub(super) struct Origin<'a> {
    pub(super) peer: IpAddr,
    pub(super) peer_is_trusted: bool,
    /// A header that trusted proxies alone may set.
    pub(super) user_header: Option<&'a HeaderName>,
    pub(super) overrides: OverrideHeaders,
    pub(super) scheme: Scheme,
    /// The answer is read, and what is compressed would not be.
    pub(super) reads_answer: bool,
}

/// How the client came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
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

/// Turns the client's request into the one that backends get, whichever of them and however often.
pub(super) fn rewrite(request: &mut RequestHeader, path: &str, origin: &Origin<'_>) -> pingora::Result<()> {
    set_path(request, path)?;
    set_headers(request, origin)
}

/// The lines of a head as the client sent them.
pub(super) struct Sent<'a> {
    pub(super) method: &'a Method,
    pub(super) query: Option<&'a str>,
    /// What they say; without those that are not to be believed.
    pub(super) headers: &'a HeaderMap,
    /// Each with its name, and without its end.
    pub(super) lines: &'a [(HeaderName, &'a [u8])],
}

/// The head of the same request as text: one that [`rewrite`] would make, in the client's own spelling. It is not made
/// of the map, for a map knows nothing of spelling, and costs more to write than lines do to copy.
pub(super) fn head_text(
    sent: &Sent<'_>,
    path: &str,
    origin: &Origin<'_>,
    traced: &Traced,
    rules: &TraceRules,
) -> Vec<u8> {
    let lines: usize = sent.lines.iter().map(|(_, line)| line.len() + LINE_END.len()).sum();
    let mut text = Vec::with_capacity(lines + path.len() + sent.query.map_or(0, str::len) + OURS_BYTES);
    text.extend_from_slice(sent.method.as_str().as_bytes());
    text.push(b' ');
    text.extend_from_slice(path.as_bytes());
    if let Some(query) = sent.query {
        text.push(b'?');
        text.extend_from_slice(query.as_bytes());
    }
    text.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, line) in sent.lines {
        let is_replaced = *name == X_FORWARDED_FOR || traced.stands_for(name, rules, sent.headers);
        if is_replaced || is_hop_by_hop(name) || origin.forbids(name) || origin.hides(name) {
            continue;
        }
        text.extend_from_slice(line);
        text.extend_from_slice(LINE_END);
    }
    push_field(&mut text, X_FORWARDED_FOR_SPELT, &origin.chain(sent.headers));
    traced.push_lines(rules, &mut text);
    if origin.tells_scheme(sent.headers) {
        push_field(&mut text, X_FORWARDED_PROTO.as_str(), HTTPS.as_bytes());
    }
    text.extend_from_slice(LINE_END);
    text
}

/// Whether a field is there that concerns this connection alone (RFC 9110 §7.6.1), or names one that
/// does: exactly those that Pingora's standard policy removes or is led by.
pub(super) fn has_hop_by_hop(headers: &HeaderMap) -> bool {
    headers.keys().any(is_hop_by_hop)
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    match *name {
        CONNECTION | PROXY_AUTHENTICATE | PROXY_AUTHORIZATION | TE | TRAILER | TRANSFER_ENCODING
        | UPGRADE => true,
        _ => matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings"),
    }
}

/// Sets the target to the path in its normal form and the query as the gateway read it.
///
/// The raw target is what the backend gets, and it may hold more than the URI was made of: a scheme,
/// an authority, bytes that are not UTF-8, or no path at all.
fn set_path(request: &mut RequestHeader, path: &str) -> pingora::Result<()> {
    let query = request.uri.query();
    let is_so_already = request.raw_path().strip_prefix(path.as_bytes()).is_some_and(|rest| match query {
        Some(query) => rest.strip_prefix(b"?") == Some(query.as_bytes()),
        None => rest.is_empty(),
    });
    if is_so_already {
        return Ok(());
    }
    let target = match query {
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
fn set_headers(request: &mut RequestHeader, origin: &Origin<'_>) -> pingora::Result<()> {
    settle_length(request)?;
    let unwelcome: SmallVec<[HeaderName; 4]> =
        request.headers.keys().filter(|name| origin.forbids(name)).cloned().collect();
    for name in unwelcome {
        request.remove_header(&name);
    }
    let chain = HeaderValue::from_bytes(&origin.chain(&request.headers));
    let chain = chain.map_err(|_| Error::new(ErrorType::InvalidHTTPHeader))?;
    request.insert_header(X_FORWARDED_FOR_SPELT, chain)?;
    if origin.reads_answer {
        request.remove_header(&ACCEPT_ENCODING);
    }
    if origin.tells_scheme(&request.headers) {
        request.insert_header(X_FORWARDED_PROTO, HTTPS)?;
    }
    Ok(())
}

/// Writes an address. Nearly all are IPv4, and the formatter takes ten times as long for them.
fn push_address(text: &mut SmallVec<[u8; 64]>, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            let [first, rest @ ..] = v4.octets();
            let mut digits = itoa::Buffer::new();
            text.extend_from_slice(digits.format(first).as_bytes());
            for octet in rest {
                text.push(b'.');
                text.extend_from_slice(digits.format(octet).as_bytes());
            }
        }
        IpAddr::V6(v6) => text.extend_from_slice(v6.to_string().as_bytes()),
    }
}

/// One length in plain digits in place of a list of equal ones (RFC 9110 §8.6) or one with leading zeros:
/// Pingora lets them through and backends read them in several ways.
fn settle_length(request: &mut RequestHeader) -> pingora::Result<()> {
    let mut lines = request.headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lines.next() else { return Ok(()) };
    let is_plain = first.as_bytes().iter().all(u8::is_ascii_digit) && !first.as_bytes().starts_with(b"0");
    if (is_plain || first == "0") && lines.next().is_none() {
        return Ok(());
    }
    let length = first.to_str().ok().and_then(|list| list.split(',').next()?.trim().parse::<u64>().ok());
    let length = length.ok_or_else(|| Error::new(ErrorType::InvalidHTTPHeader))?;
    request.insert_header(CONTENT_LENGTH, HeaderValue::from(length))
}

impl Origin<'_> {
    /// `X-Forwarded-For`: what a trusted proxy says, and who came.
    fn chain(&self, headers: &HeaderMap) -> SmallVec<[u8; 64]> {
        let mut chain: SmallVec<[u8; 64]> = SmallVec::new();
        if self.peer_is_trusted {
            let lines = headers.get_all(X_FORWARDED_FOR).iter();
            for line in lines.filter(|line| line.to_str().is_ok()) {
                chain.extend_from_slice(line.as_bytes());
                chain.extend_from_slice(b", ");
            }
        }
        push_address(&mut chain, self.peer);
        chain
    }

    /// Whether the backend is told that the client came by TLS: unless a trusted proxy told what came to it.
    fn tells_scheme(&self, headers: &HeaderMap) -> bool {
        match self.scheme {
            Scheme::Http => false,
            Scheme::Https => !(self.peer_is_trusted && headers.contains_key(X_FORWARDED_PROTO)),
        }
    }

    /// What the backend is better not told.
    fn hides(&self, name: &HeaderName) -> bool {
        self.reads_answer && *name == ACCEPT_ENCODING
    }

    fn forbids(&self, name: &HeaderName) -> bool {
        let text = name.as_str();
        // To some backends a name with an underscore is the one with a hyphen (CGI).
        let hyphenated = if text.contains('_') { Some(text.replace('_', "-")) } else { None };
        let overrides = || hyphenated.is_some() || is_override(text);
        let poses = || match &hyphenated {
            // A proxy writes the name itself, and passes on what it does not know: not even its word goes.
            Some(as_cgi) => {
                is_disguise(as_cgi)
                    || X_FORWARDED_FOR == as_cgi.as_str()
                    || self.user_header.is_some_and(|user_header| user_header == as_cgi.as_str())
            }
            None => !self.peer_is_trusted && (is_disguise(text) || self.user_header == Some(name)),
        };
        // Fields that the gateway writes into answers: of a request, nobody but a client who pretends has any.
        is_quota(hyphenated.as_deref().unwrap_or(text))
            || (self.overrides == OverrideHeaders::Stripped && overrides())
            || poses()
    }
}
