//! The lines of a head, and what must be true of all of them together.

use std::ops::Range;

use memchr::{memchr, memmem};

use super::body::Trailers;
use super::{Body, Fault, METHOD_MAX};
use crate::decision::listener::ClientLimits;

/// What the lines said so far that decides how the request is read.
#[derive(Debug, Default)]
pub(super) struct Facts {
    version: Version,
    /// Where the head names the authority, if its target does.
    authority: Option<Range<usize>>,
    is_connect: bool,
    fields: u32,
    has_host: bool,
    length: Option<u64>,
    is_chunked: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Version {
    Http10,
    #[default]
    Http11,
}

impl Facts {
    /// `METHOD SP target SP HTTP/1.x` and nothing else (RFC 9112 §3). The line begins at `start` of the head.
    pub(super) fn read_request_line(
        &mut self,
        line: &[u8],
        start: usize,
        limits: &ClientLimits,
    ) -> Result<(), Fault> {
        let method_end = memchr(b' ', line).ok_or(Fault::RequestLine)?;
        let (method, rest) = line.split_at(method_end);
        if !is_token(method) || method.len() > METHOD_MAX {
            return Err(Fault::RequestLine);
        }
        let (target, version) = match (rest.strip_suffix(b" HTTP/1.1"), rest.strip_suffix(b" HTTP/1.0")) {
            (Some(target), _) => (target, Version::Http11),
            (None, Some(target)) => (target, Version::Http10),
            (None, None) => return Err(Fault::Version),
        };
        self.version = version;
        let target = target.get(1..).unwrap_or_default();
        if target.len() > limits.uri_bytes as usize {
            return Err(Fault::UriTooLong);
        }
        let is_odd =
            target.iter().fold(target.is_empty(), |odd, byte| odd | (*byte <= b' ') | (*byte == 0x7f));
        // Letters that nobody escaped are told by one encoding alone.
        if is_odd || (!target.is_ascii() && std::str::from_utf8(target).is_err()) {
            return Err(Fault::Target);
        }
        // Refused later, with a status of its own.
        self.is_connect = method == b"CONNECT";
        let authority = if self.is_connect {
            is_authority(target).then_some(0..target.len())
        } else if target.starts_with(b"/") || target == b"*" {
            return Ok(());
        } else {
            authority_of(target)
        };
        let authority = authority.ok_or(Fault::Target)?;
        let offset = start + method_end + 1;
        self.authority = Some(offset + authority.start..offset + authority.end);
        Ok(())
    }

    /// One field line (RFC 9112 §5). `head` holds the authority that the target named.
    pub(super) fn read_field(
        &mut self,
        line: &[u8],
        head: &[u8],
        limits: &ClientLimits,
    ) -> Result<(), Fault> {
        self.fields += 1;
        if self.fields > limits.header_fields {
            return Err(Fault::TooManyFields);
        }
        let (name, value) = split_field(line)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.read_host(value, head),
            14 if is_spelling_of(name, b"content-length") => self.read_length(name, value),
            17 if is_spelling_of(name, b"transfer-encoding") => self.read_encoding(name, value),
            _ => Ok(()),
        }
    }

    fn read_host(&mut self, value: &[u8], head: &[u8]) -> Result<(), Fault> {
        let named = self.authority.clone().and_then(|range| head.get(range));
        // A CONNECT may leave out the port (RFC 9112 §3.2.3).
        let has_port = |named: &[u8]| named.strip_prefix(value).is_some_and(|rest| rest.starts_with(b":"));
        let is_same = |named: &[u8]| named == value || (self.is_connect && has_port(named));
        let is_sound = !self.has_host && is_authority(value) && named.is_none_or(is_same);
        self.has_host = true;
        if is_sound { Ok(()) } else { Err(Fault::Host) }
    }

    /// Plain digits, once: no list of equal ones, no sign, no leading zero that somebody may take for octal.
    fn read_length(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        let is_plain = value.iter().all(u8::is_ascii_digit) && (value == b"0" || !value.starts_with(b"0"));
        let length = std::str::from_utf8(value).ok().filter(|_| is_plain).and_then(|text| text.parse().ok());
        if self.length.is_some() || name.contains(&b'_') || length.is_none() {
            return Err(Fault::ContentLength);
        }
        self.length = length;
        Ok(())
    }

    fn read_encoding(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        if self.is_chunked || name.contains(&b'_') || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Fault::TransferEncoding);
        }
        self.is_chunked = true;
        Ok(())
    }

    /// What the lines say together.
    pub(super) fn conclude(&self) -> Result<Body, Fault> {
        let body = match (self.length, self.is_chunked, self.version) {
            (_, _, Version::Http11) if !self.has_host => Err(Fault::Host),
            (Some(_), true, _) => Err(Fault::TwoFramings),
            // RFC 9112 §6.1: its framing is faulty.
            (None, true, Version::Http10) => Err(Fault::TransferEncoding),
            (None, true, Version::Http11) => Ok(Body::chunked(Trailers::Judged)),
            (length, false, _) => Ok(Body::of_length(length.unwrap_or_default())),
        };
        // What comes behind it is no HTTP (RFC 9110 §9.3.6), and nobody's to read.
        if self.is_connect { body.map(|_| Body::endless()) } else { body }
    }
}

/// Name and value of a field line, the space around the value taken off.
pub(in crate::proxy) fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err(Fault::Folded);
    }
    // A space before the colon is in no token, and a name without a colon has no end.
    let end = line.iter().position(|byte| !TOKEN[usize::from(*byte)]);
    let (name, value) = line.split_at(end.unwrap_or(line.len()));
    let value = value.strip_prefix(b":").ok_or(Fault::FieldName)?;
    if name.is_empty() {
        return Err(Fault::FieldName);
    }
    if holds_control(value) {
        return Err(Fault::FieldValue);
    }
    Ok((name, trimmed(value)))
}

/// Whether a request may begin with this byte: a method does, or the empty line before it.
pub(super) fn may_begin_request(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n') || is_token(&[byte])
}

/// RFC 9110 §5.6.2.
fn is_token(text: &[u8]) -> bool {
    text.iter().fold(!text.is_empty(), |good, byte| good & TOKEN[usize::from(*byte)])
}

const TOKEN: [bool; 256] = letters_and(b"!#$%&'*+-.^_`|~");
/// Of the name of a host.
const HOST: [bool; 256] = letters_and(b"-._~%!$&'()*+;=");

/// Letters, digits and these.
const fn letters_and(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

/// Whether there is what no value holds: RFC 9110 §5.5 allows the tab among the control characters alone.
fn holds_control(value: &[u8]) -> bool {
    // Eight bytes at a time find those that may be one; next to no value has any.
    let (eights, rest) = value.as_chunks::<8>();
    let mut last = [b' '; 8];
    last.iter_mut().zip(rest).for_each(|(last, byte)| *last = *byte);
    let suspicious = eights.iter().fold(suspicion(last), |so_far, eight| so_far | suspicion(*eight));
    suspicious != 0 && value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
}

/// Not zero if one of the bytes is below a space or 0x7f: in such a byte a difference borrows from its highest bit.
fn suspicion(bytes: [u8; 8]) -> u64 {
    const EACH: u64 = u64::MAX / 255;
    let bytes = u64::from_ne_bytes(bytes);
    let below = bytes.wrapping_sub(EACH * 0x20) & !bytes;
    let deletes = bytes ^ (EACH * 0x7f);
    let deletes = deletes.wrapping_sub(EACH) & !deletes;
    (below | deletes) & (EACH * 0x80)
}

/// Without the spaces and tabs around it.
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// To some backends a name with an underscore is the one with a hyphen (CGI).
fn is_spelling_of(name: &[u8], hyphenated: &[u8]) -> bool {
    let alike = |(a, b): (&u8, &u8)| a.eq_ignore_ascii_case(b) || (*a == b'_' && *b == b'-');
    name.len() == hyphenated.len() && name.iter().zip(hyphenated).all(alike)
}

/// Where a target in absolute form names its authority.
fn authority_of(target: &[u8]) -> Option<Range<usize>> {
    let scheme_end = memmem::find(target, b"://")?;
    let scheme = target.get(..scheme_end)?;
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let start = scheme_end + 3;
    let rest = target.get(start..)?;
    let length = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    is_authority(rest.get(..length)?).then_some(start..start + length)
}

/// `host` or `host:port` (RFC 3986 §3.2) without user information, and no list of them.
fn is_authority(text: &[u8]) -> bool {
    let (host, port) = match (text.iter().rposition(|byte| *byte == b':'), text.ends_with(b"]")) {
        (Some(colon), false) => (text.get(..colon), text.get(colon + 1..)),
        (Some(_), true) | (None, _) => (Some(text), None),
    };
    let host = host.unwrap_or_default();
    let is_host = match host {
        [b'[', address @ .., b']'] => {
            address.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
        }
        name => name.iter().all(|byte| HOST[usize::from(*byte)]),
    };
    !host.is_empty() && is_host && port.unwrap_or_default().iter().all(u8::is_ascii_digit)
}
