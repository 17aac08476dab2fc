//! A request of HTTP/1.1 that is there to its end.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue};
use memchr::memmem;
use pingora::http::RequestHeader;
use smallvec::SmallVec;

use crate::gateway::{BodyUnread, Exchange, Head};
use crate::proxy::BODY_MAX;
use crate::proxy::forward::Sent;
use crate::proxy::head::split_field;
use crate::proxy::own::Afterwards;
use crate::proxy::request::spell_method;
use crate::proxy::trace::Traced;
use crate::proxy::wire::Wire;

const HEAD_END: &[u8] = b"\r\n\r\n";

pub(super) struct Caller<'a> {
    pub(super) header: RequestHeader,
    /// As they came, without their ends.
    lines: SmallVec<[(HeaderName, &'a [u8]); 12]>,
    pub(super) body: &'a [u8],
    pub(super) peer: IpAddr,
    /// Whether the client goes on behind the answer.
    pub(super) afterwards: Afterwards,
    client_cert: Option<Arc<str>>,
    pub(super) traced: Traced,
}

impl<'a> Caller<'a> {
    /// `enter` gives it its ids. None: something about it is Pingora's to know.
    pub(super) fn of(
        wire: &Wire,
        came: &'a [u8],
        enter: impl FnOnce(&mut RequestHeader) -> pingora::Result<Traced>,
    ) -> Option<Caller<'a>> {
        let (head, body) = came.split_at(memmem::find(came, HEAD_END)? + HEAD_END.len());
        let mut rest = head.strip_suffix(HEAD_END)?.split(|byte| *byte == b'\n');
        let mut header = header_of(rest.next()?)?;
        let mut lines = SmallVec::new();
        for line in rest {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let (name, value) = split_field(line).ok()?;
            let name = HeaderName::from_bytes(name).ok()?;
            header.append_header(name.clone(), HeaderValue::from_bytes(value).ok()?).ok()?;
            lines.push((name, line));
        }
        let says_more = [EXPECT, TRANSFER_ENCODING, UPGRADE];
        if says_more.iter().any(|name| header.headers.contains_key(name)) {
            return None;
        }
        let length = match header.headers.get(CONTENT_LENGTH) {
            Some(length) => length.to_str().ok()?.parse().ok()?,
            None => 0,
        };
        if body.len() != length || length > BODY_MAX {
            return None;
        }
        let afterwards = afterwards(&header)?;
        let client_cert = wire.connection().client_cert.clone();
        spell_method(&mut header);
        let traced = enter(&mut header).ok()?;
        Some(Caller { header, lines, body, peer: wire.peer(), afterwards, client_cert, traced })
    }

    /// As its server gets it.
    pub(super) fn sent(&self) -> Sent<'_> {
        Sent {
            method: &self.header.method,
            query: self.header.uri.query(),
            headers: &self.header.headers,
            lines: &self.lines,
        }
    }

    /// Whether asking twice is the same as asking once, and nothing is lost with what was sent.
    pub(super) fn is_repeatable(&self) -> bool {
        self.header.method.is_idempotent() && self.body.is_empty()
    }
}

/// The head of this request line, which was found sound.
fn header_of(line: &[u8]) -> Option<RequestHeader> {
    let mut parts = line.strip_suffix(b"\r").unwrap_or(line).split(|byte| *byte == b' ');
    let (method, target, version) = (parts.next()?, parts.next()?, parts.next()?);
    if version != b"HTTP/1.1" || !target.starts_with(b"/") || target.contains(&b'#') || parts.next().is_some()
    {
        return None;
    }
    RequestHeader::build_no_case(method, target, Some(12)).ok()
}

/// What the client says of its connection; none where that is more than whether it stays.
fn afterwards(header: &RequestHeader) -> Option<Afterwards> {
    let mut afterwards = Afterwards::KeepAlive;
    for line in header.headers.get_all(CONNECTION) {
        for option in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                afterwards = Afterwards::Close;
            } else if !option.is_empty() && !option.eq_ignore_ascii_case(b"keep-alive") {
                return None;
            }
        }
    }
    Some(afterwards)
}

impl Exchange for Caller<'_> {
    fn head(&self) -> Head<'_> {
        Head {
            method: &self.header.method,
            path: self.header.uri.path(),
            query: self.header.uri.query().unwrap_or_default(),
            authority: None,
            headers: &self.header.headers,
            peer: self.peer,
            client_cert: self.client_cert.as_deref(),
            request_id: self.traced.request_id(),
            trace: self.traced.known(),
        }
    }

    fn has_body(&mut self) -> bool {
        !self.body.is_empty()
    }

    async fn read_body(&mut self) -> Result<Bytes, BodyUnread> {
        Ok(Bytes::copy_from_slice(self.body))
    }
}
