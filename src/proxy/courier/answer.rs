//! The head of a backend's answer, as it goes on to a client of HTTP/1.1.

use std::mem::MaybeUninit;

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING};
use http::{HeaderName, StatusCode};
use httparse::ParserConfig;
use memchr::memchr2;
use pingora::protocols::http::date::get_cached_date;
use smallvec::SmallVec;
use thiserror::Error;

use crate::proxy::head::{Body, Trailers};
use crate::proxy::own::{Afterwards, LINE_END, push_field};
use crate::proxy::respond::is_quota;

/// Fields of one answer, as many as Pingora takes.
const FIELDS_MAX: usize = 256;
/// The size of its head, bytes.
pub(super) const HEAD_BYTES_MAX: usize = 256 * 1024;

/// What was asked for decides how an answer is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected<'a> {
    pub(super) is_head: bool,
    /// The client is told by us, and not by the backend, under which id it asked.
    pub(super) id: Option<&'a HeaderName>,
    /// We tell the client to come by TLS.
    pub(super) tells_hsts: bool,
}

/// An answer whose head is there.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    /// Of the head with its empty line, bytes.
    pub(super) length: usize,
    pub(super) extent: Extent,
    /// The connection may be used again behind it.
    pub(super) is_kept: bool,
    /// Headers of limits that the backend wrote itself.
    pub(super) quota_said: SmallVec<[HeaderName; 2]>,
    /// Status line and fields, without those that concern the connection to the backend.
    lines: Vec<u8>,
    has_date: bool,
}

/// How far an answer goes (RFC 9112 §6.3).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// It has no content.
    Head,
    Body(Body),
    /// To the end of the connection.
    Close,
}

/// Why an answer cannot be passed on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum Fault {
    #[error("the head is no HTTP")]
    Malformed,
    #[error("the head is larger than {HEAD_BYTES_MAX} bytes")]
    TooLarge,
    #[error("its lengths contradict each other")]
    ContentLength,
    #[error("its transfer coding is not known")]
    TransferEncoding,
    #[error("it changes to a protocol that nobody asked for")]
    Upgrade,
}

/// What fields say together of the connection and of what follows the head.
#[derive(Default)]
struct Framing<'a> {
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    keeps: bool,
    /// Other names in `Connection`: fields that go no further. One that frames the answer is none of them.
    named: SmallVec<[&'a [u8]; 2]>,
}

impl Head {
    /// The head that these bytes begin with; none while its end is missing.
    ///
    /// Read as leniently as Pingora does, and written strictly: a folded value becomes one line.
    pub(super) fn read(bytes: &[u8], expected: &Expected<'_>) -> Result<Option<Head>, Fault> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let mut config = ParserConfig::default();
        config.allow_spaces_after_header_name_in_responses(true);
        config.allow_obsolete_multiline_headers_in_responses(true);
        let read = config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields);
        let length = match read {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) if bytes.len() > HEAD_BYTES_MAX => return Err(Fault::TooLarge),
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Fault::Malformed),
        };
        let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
        let (Some(status), Some(version)) = (status, parsed.version) else { return Err(Fault::Malformed) };
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Fault::Upgrade);
        }
        let mut framing = Framing::default();
        for field in &*parsed.headers {
            framing.read(field)?;
        }
        let has_content = !(expected.is_head
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED));
        let extent = framing.extent(has_content);
        let is_kept = framing.is_kept(version) && extent != Extent::Close;
        let mut head = Head {
            status,
            length,
            extent,
            is_kept,
            quota_said: SmallVec::new(),
            lines: Vec::with_capacity(length),
            has_date: false,
        };
        head.write_status(parsed.reason.unwrap_or_default());
        for field in &*parsed.headers {
            head.write(field, &framing, expected);
        }
        // Such answers never say so (RFC 9112 §6.1); one to HEAD says what it would be to GET.
        if framing.is_chunked && !(status.is_informational() || status == StatusCode::NO_CONTENT) {
            push_field(&mut head.lines, TRANSFER_ENCODING.as_str(), b"chunked");
        }
        Ok(Some(head))
    }

    /// The whole head for the client, with these lines added.
    pub(super) fn text(&self, ours: &[u8], afterwards: Afterwards, behind: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(self.lines.len() + ours.len() + 80 + behind);
        text.extend_from_slice(&self.lines);
        if !self.has_date {
            // RFC 9110 §6.6.1.
            push_field(&mut text, DATE.as_str(), get_cached_date().as_bytes());
        }
        text.extend_from_slice(afterwards.line());
        text.extend_from_slice(ours);
        text.extend_from_slice(LINE_END);
        text
    }

    /// An interim answer, which is passed on as it is.
    pub(super) fn interim_text(mut self) -> Vec<u8> {
        self.lines.extend_from_slice(LINE_END);
        self.lines
    }

    fn write_status(&mut self, reason: &str) {
        self.lines.extend_from_slice(b"HTTP/1.1 ");
        self.lines.extend_from_slice(self.status.as_str().as_bytes());
        self.lines.push(b' ');
        self.lines.extend_from_slice(reason.as_bytes());
        self.lines.extend_from_slice(LINE_END);
    }

    fn write(&mut self, field: &httparse::Header<'_>, framing: &Framing<'_>, expected: &Expected<'_>) {
        let name = field.name;
        let is = |other: &HeaderName| name.eq_ignore_ascii_case(other.as_str());
        let goes_no_further = match name.len() {
            4 => {
                self.has_date |= is(&DATE);
                false
            }
            10 => is(&CONNECTION) || name.eq_ignore_ascii_case("keep-alive"),
            // Beside a transfer coding it means nothing (RFC 9112 §6.3).
            14 => framing.is_chunked && is(&CONTENT_LENGTH),
            16 => name.eq_ignore_ascii_case("proxy-connection"),
            17 => is(&TRANSFER_ENCODING),
            25 => expected.tells_hsts && is(&STRICT_TRANSPORT_SECURITY),
            _ => false,
        };
        let is_named = || framing.named.iter().any(|named| named.eq_ignore_ascii_case(name.as_bytes()));
        if goes_no_further || expected.id.is_some_and(is) || is_named() {
            return;
        }
        if matches!(name.as_bytes().first(), Some(b'r' | b'R' | b'x' | b'X'))
            && is_quota(&name.to_ascii_lowercase())
        {
            self.quota_said.extend(HeaderName::from_bytes(name.as_bytes()));
        }
        push_field(&mut self.lines, name, field.value);
        if memchr2(b'\r', b'\n', field.value).is_some() {
            self.unfold(field.value.len());
        }
    }

    /// Makes one line of the value that was written last (RFC 9112 §5.2).
    fn unfold(&mut self, value: usize) {
        let end = self.lines.len().saturating_sub(LINE_END.len());
        let start = end.saturating_sub(value);
        for byte in self.lines.get_mut(start..end).unwrap_or_default() {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
    }
}

impl<'a> Framing<'a> {
    fn read(&mut self, field: &httparse::Header<'a>) -> Result<(), Fault> {
        let name = field.name;
        match name.len() {
            10 if name.eq_ignore_ascii_case("connection") => self.read_connection(field.value),
            14 if name.eq_ignore_ascii_case("content-length") => self.read_length(field.value)?,
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if self.is_chunked || !field.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(Fault::TransferEncoding);
                }
                self.is_chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn read_connection(&mut self, value: &'a [u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.closes = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keeps = true;
            } else if !option.is_empty() && !option.eq_ignore_ascii_case(b"content-length") {
                self.named.push(option);
            }
        }
    }

    /// One number, or the same several times (RFC 9110 §8.6).
    fn read_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        for one in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let is_number = !one.is_empty() && one.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(one).ok().filter(|_| is_number).and_then(|one| one.parse().ok());
            let Some(length) = length else { return Err(Fault::ContentLength) };
            if self.length.is_some_and(|before| before != length) {
                return Err(Fault::ContentLength);
            }
            self.length = Some(length);
        }
        Ok(())
    }

    fn extent(&self, has_content: bool) -> Extent {
        match (has_content, self.is_chunked, self.length) {
            (false, _, _) | (true, false, Some(0)) => Extent::Head,
            (true, true, _) => Extent::Body(Body::chunked(Trailers::Trusted)),
            (true, false, Some(length)) => Extent::Body(Body::of_length(length)),
            (true, false, None) => Extent::Close,
        }
    }

    /// Whether the backend goes on behind the answer (RFC 9112 §9.3). One that says two lengths may mean the other.
    fn is_kept(&self, version: u8) -> bool {
        let is_clear = !(self.is_chunked && (self.length.is_some() || version == 0));
        is_clear && !self.closes && (version == 1 || self.keeps)
    }
}

#[cfg(test)]
mod tests;
