//! What the gateway itself says on a connection of HTTP/1, past Pingora.
//!
//! A field that goes through Pingora is hashed into its map of headers, and found there again to be written: that
//! costs several times what its bytes do, and a refusal is nothing but such fields. So they leave as text: behind the
//! fields of the answer that Pingora writes next, or as an answer of their own. HTTP/2 has its own form for them, and
//! takes them through the map.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use memchr::memmem;
use pingora::protocols::http::date::get_cached_date;
use pingora::proxy::Session;

use super::wire;
use crate::decision::headers::LimitHeader;

pub(super) const LINE_END: &[u8] = b"\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";
/// As many bytes as nearly all fields of ours take together, and with an answer around them.
const FIELDS_BYTES: usize = 384;
const ANSWER_BYTES: usize = 256;

/// Fields of ours, in the form that the client's connection takes.
pub(super) enum Fields {
    Lines(Vec<u8>),
    Map(HeaderMap),
}

/// What the next write to the client has to hold as well.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Whole lines for the head of the answer that Pingora writes.
    Fields(Vec<u8>),
    /// All of an answer: Pingora writes none.
    Answer(Vec<u8>),
}

/// Whether the connection is used again behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Afterwards {
    KeepAlive,
    Close,
}

impl Afterwards {
    /// The field that tells it.
    pub(super) fn line(self) -> &'static [u8] {
        match self {
            Afterwards::KeepAlive => b"connection: keep-alive\r\n",
            Afterwards::Close => b"connection: close\r\n",
        }
    }
}

impl Fields {
    /// For the client of this request.
    pub(super) fn for_client(session: &Session) -> Fields {
        match wire::speaks_http1(session) {
            true => Fields::lines(),
            false => Fields::for_pingora(),
        }
    }

    pub(super) fn lines() -> Fields {
        Fields::Lines(Vec::with_capacity(FIELDS_BYTES))
    }

    /// Those that are lines.
    pub(super) fn text(&self) -> &[u8] {
        match self {
            Fields::Lines(lines) => lines,
            Fields::Map(_) => &[],
        }
    }

    /// For an answer that Pingora writes whatever the client speaks.
    pub(super) fn for_pingora() -> Fields {
        Fields::Map(HeaderMap::with_capacity(12))
    }

    /// Adds a field that is not there yet.
    pub(super) fn put(&mut self, name: &HeaderName, value: &HeaderValue) {
        match self {
            Fields::Lines(lines) => push_field(lines, name.as_str(), value.as_bytes()),
            Fields::Map(map) => drop(map.insert(name, value.clone())),
        }
    }

    pub(super) fn put_number(&mut self, name: &HeaderName, number: u64) {
        match self {
            Fields::Lines(lines) => {
                push_field(lines, name.as_str(), itoa::Buffer::new().format(number).as_bytes());
            }
            Fields::Map(map) => drop(map.insert(name, number.into())),
        }
    }

    /// Adds a limit header, whose text `decision` wrote: labels that were quoted, and digits.
    pub(super) fn put_quota(&mut self, header: LimitHeader, text: &[u8]) {
        match self {
            Fields::Lines(lines) => push_field(lines, header.name().as_str(), text),
            Fields::Map(map) => {
                if let Ok(value) = HeaderValue::from_bytes(text) {
                    map.insert(header.name(), value);
                }
            }
        }
    }
}

impl Said {
    /// What is to be written in place of these bytes of Pingora's, if they are the head that the fields belong to.
    pub(super) fn joined_to(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let Said::Fields(fields) = self else { return None };
        let is_final = bytes.starts_with(b"HTTP/1.1 101") || !bytes.starts_with(b"HTTP/1.1 1");
        if !is_final || !bytes.starts_with(b"HTTP/1.") {
            return None;
        }
        let head_end = match bytes.strip_suffix(HEAD_END) {
            Some(head) => head.len(),
            None => memmem::find(bytes, HEAD_END)?,
        };
        let (head, rest) = bytes.split_at(head_end + LINE_END.len());
        Some([head, fields, rest].concat())
    }
}

/// An answer in the form of HTTP/1.1 (RFC 9112 §4), with a date (RFC 9110 §6.6.1). `fields` are whole lines.
pub(super) fn answer(status: StatusCode, fields: &[u8], body: &[u8], afterwards: Afterwards) -> Vec<u8> {
    let mut text = Vec::with_capacity(ANSWER_BYTES + fields.len() + body.len());
    text.extend_from_slice(b"HTTP/1.1 ");
    text.extend_from_slice(status.as_str().as_bytes());
    text.push(b' ');
    text.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    text.extend_from_slice(LINE_END);
    text.extend_from_slice(fields);
    push_field(&mut text, "date", get_cached_date().as_bytes());
    text.extend_from_slice(afterwards.line());
    text.extend_from_slice(LINE_END);
    text.extend_from_slice(body);
    text
}

/// Writes a whole line.
pub(super) fn push_field(text: &mut Vec<u8>, name: &str, value: &[u8]) {
    text.reserve(name.len() + value.len() + 4);
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b": ");
    text.extend_from_slice(value);
    text.extend_from_slice(LINE_END);
}

#[cfg(test)]
mod tests {
    use http::header::RETRY_AFTER;

    use bytes::Bytes;

    use super::*;

    fn fields() -> Vec<u8> {
        let mut fields = Fields::Lines(Vec::new());
        fields.put_number(&RETRY_AFTER, 7);
        let Fields::Lines(lines) = fields else { unreachable!() };
        lines
    }

    #[test]
    fn fields_join_the_head_of_the_final_answer_alone() {
        let said = Said::Fields(fields());
        let joined =
            |head: &str| said.joined_to(head.as_bytes()).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(
            joined("HTTP/1.1 200 OK\r\nA: b\r\n\r\n").as_deref(),
            Some("HTTP/1.1 200 OK\r\nA: b\r\nretry-after: 7\r\n\r\n")
        );
        assert_eq!(
            joined("HTTP/1.1 200 OK\r\n\r\nbody\r\n\r\n.").as_deref(),
            Some("HTTP/1.1 200 OK\r\nretry-after: 7\r\n\r\nbody\r\n\r\n.")
        );
        assert!(joined("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n").is_some());
        for other in [
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n",
            "{\"a\": 1}\r\n\r\n",
        ] {
            assert_eq!(joined(other), None, "{other}");
        }
        assert_eq!(Said::Answer(fields()).joined_to(b"HTTP/1.1 200 OK\r\n\r\n"), None);
    }

    #[test]
    fn an_answer_is_whole() {
        let body = Bytes::from_static(b"no");
        let text = answer(StatusCode::TOO_MANY_REQUESTS, &fields(), &body, Afterwards::Close);
        let text = String::from_utf8(text).unwrap();
        let (start, rest) = text.split_once("date: ").unwrap();
        assert_eq!(start, "HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\n");
        assert!(rest.ends_with(" GMT\r\nconnection: close\r\n\r\nno"), "{rest}");
    }
}
