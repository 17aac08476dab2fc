//! The request path in one normal form, so that no spelling of it slips past a limit.

use std::borrow::Cow;

use thiserror::Error;

use super::escape::{Escape, Plus, decode_lenient, escape_at, push_escaped};
use super::fold::fold_case;

/// Request path in one normal form: what routes match on and what the backend gets.
///
/// Starts with `/`; no `//`, no `.` or `..` segment, no `;params`; unreserved characters
/// (RFC 3986 §2.3) stand plain, every other escape is in upper case and decodes to UTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath {
    text: Box<str>,
    risky: RiskyBytes,
}

/// An encoded byte that some backends decode and then take for the end of a segment or of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RiskyByte {
    /// `%2F`
    Slash = 1,
    /// `%5C`
    Backslash = 2,
    /// `%00`
    Nul = 4,
    /// `%3B`
    Semicolon = 8,
}

impl RiskyByte {
    pub const ALL: [RiskyByte; 4] =
        [RiskyByte::Slash, RiskyByte::Backslash, RiskyByte::Nul, RiskyByte::Semicolon];

    /// As it stands in a normal path.
    pub const fn escape(self) -> &'static str {
        match self {
            RiskyByte::Slash => "%2F",
            RiskyByte::Backslash => "%5C",
            RiskyByte::Nul => "%00",
            RiskyByte::Semicolon => "%3B",
        }
    }
}

/// A set of [`RiskyByte`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RiskyBytes(u8);

impl RiskyBytes {
    pub const NONE: RiskyBytes = RiskyBytes(0);

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub const fn contains(self, byte: RiskyByte) -> bool {
        self.0 & byte as u8 != 0
    }

    pub const fn is_subset_of(self, other: RiskyBytes) -> bool {
        self.0 & !other.0 == 0
    }

    pub fn iter(self) -> impl Iterator<Item = RiskyByte> {
        RiskyByte::ALL.into_iter().filter(move |&byte| self.contains(byte))
    }
}

impl FromIterator<RiskyByte> for RiskyBytes {
    fn from_iter<I: IntoIterator<Item = RiskyByte>>(bytes: I) -> RiskyBytes {
        RiskyBytes(bytes.into_iter().fold(0, |set, byte| set | byte as u8))
    }
}

/// Why a path has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathFault {
    #[error("The path is longer than {} bytes.", NormalPath::LEN_MAX)]
    TooLong,
    #[error("The path does not start with a slash.")]
    NotAbsolute,
    #[error("The path contains a control character.")]
    Control,
    #[error("The path contains a raw {0:?}, which must be percent-encoded.")]
    Raw(char),
    #[error("The path contains a % that is not followed by two hexadecimal digits.")]
    Escape,
    #[error("The path does not decode to valid UTF-8.")]
    NotUtf8,
    #[error("The path contains . or .. beside an encoded slash, backslash, semicolon or NUL.")]
    HiddenDots,
}

impl NormalPath {
    /// The longest path, raw and in normal form, bytes.
    pub const LEN_MAX: usize = 8 * 1024;

    /// `raw_path` is the path alone, without a query.
    pub fn parse(raw_path: &str) -> Result<NormalPath, PathFault> {
        if raw_path.len() > NormalPath::LEN_MAX {
            return Err(PathFault::TooLong);
        }
        if !raw_path.starts_with('/') {
            return Err(PathFault::NotAbsolute);
        }
        if is_plainly_normal(raw_path.as_bytes()) {
            return Ok(NormalPath { text: raw_path.into(), risky: RiskyBytes::NONE });
        }
        validate(raw_path.as_bytes())?;
        let text = resolve(raw_path);
        if text.len() > NormalPath::LEN_MAX {
            return Err(PathFault::TooLong);
        }
        let risky: RiskyBytes =
            RiskyByte::ALL.into_iter().filter(|byte| text.contains(byte.escape())).collect();
        if !risky.is_empty() && text.split('/').any(hides_dots) {
            return Err(PathFault::HiddenDots);
        }
        Ok(NormalPath { text: text.into_boxed_str(), risky })
    }

    /// The form that is forwarded: starts with `/`, a trailing slash kept.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Which risky bytes it holds percent-encoded.
    pub fn risky(&self) -> RiskyBytes {
        self.risky
    }

    /// The segments, still encoded, without the empty one after a trailing slash.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.text.split('/').filter(|segment| !segment.is_empty())
    }

    /// Whether it ends in a slash that is not the whole path.
    pub fn has_trailing_slash(&self) -> bool {
        self.text.len() > 1 && self.text.ends_with('/')
    }
}

/// A segment for matching: percent-decoded; borrowed when nothing is encoded.
pub fn decode_segment(segment: &str) -> Cow<'_, str> {
    decode_lenient(segment, Plus::Itself)
}

/// A segment for matching whatever its letter case: decoded and case-folded; borrowed when it is so already.
pub fn fold_segment(segment: &str) -> Cow<'_, str> {
    match decode_segment(segment) {
        Cow::Borrowed(text) => fold_case(text),
        Cow::Owned(text) => match fold_case(&text) {
            Cow::Borrowed(_) => Cow::Owned(text),
            Cow::Owned(folded) => Cow::Owned(folded),
        },
    }
}

/// The common case, told in one pass: nothing to decode, to strip or to resolve.
fn is_plainly_normal(path: &[u8]) -> bool {
    let mut previous = 0;
    path.iter().all(|&byte| {
        let starts_oddly = previous == b'/' && matches!(byte, b'/' | b'.');
        previous = byte;
        !starts_oddly && byte != b';' && (byte == b'/' || stands_plain(byte))
    })
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` of RFC 3986 §3.3, but for escapes.
fn stands_plain(byte: u8) -> bool {
    const SUB_DELIMITERS: &[u8] = b"!$&'()*+,;=:@";
    is_unreserved(byte) || SUB_DELIMITERS.contains(&byte)
}

fn validate(path: &[u8]) -> Result<(), PathFault> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        at += 1;
        decoded.push(match byte {
            b'%' => match escape_at(path, at - 1) {
                Escape::Byte(1..=0x1f | 0x7f) => return Err(PathFault::Control),
                Escape::Byte(byte) => {
                    at += 2;
                    byte
                }
                Escape::Invalid => return Err(PathFault::Escape),
            },
            b' ' | b'\\' | b'#' | b'?' => return Err(PathFault::Raw(char::from(byte))),
            _ if byte.is_ascii_control() => return Err(PathFault::Control),
            _ => byte,
        });
    }
    std::str::from_utf8(&decoded).map(|_| ()).map_err(|_| PathFault::NotUtf8)
}

/// Strips parameters, merges slashes and resolves dots (RFC 3986 §5.2.4), never above the root.
fn resolve(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 16);
    let mut segment = String::new();
    let mut ends_open = true;
    for raw in path.split('/').skip(1) {
        segment.clear();
        // Parameters go first: `/..;x/` is `/../` to the servlet containers that know them.
        push_normal(&mut segment, raw.split(';').next().unwrap_or_default().as_bytes());
        ends_open = matches!(segment.as_str(), "" | "." | "..");
        if segment == ".." {
            out.truncate(out.rfind('/').unwrap_or(0));
        }
        if !ends_open {
            out.push('/');
            out.push_str(&segment);
        }
    }
    if ends_open {
        out.push('/');
    }
    out
}

fn push_normal(out: &mut String, segment: &[u8]) {
    let mut at = 0;
    while let Some(&byte) = segment.get(at) {
        let escaped = if byte == b'%' { escape_at(segment, at) } else { Escape::Invalid };
        let (byte, is_plain) = match escaped {
            Escape::Byte(decoded) => {
                at += 3;
                (decoded, is_unreserved(decoded))
            }
            Escape::Invalid => {
                at += 1;
                (byte, stands_plain(byte))
            }
        };
        if is_plain {
            out.push(char::from(byte));
        } else {
            push_escaped(out, byte);
        }
    }
}

/// Whether a backend that decodes and only then splits the path would find dots to resolve here.
fn hides_dots(segment: &str) -> bool {
    let decoded = decode_segment(segment);
    decoded.contains(['/', '\\', '\0', ';'])
        && decoded
            .split(['/', '\\'])
            .map(|piece| piece.split([';', '\0']).next().unwrap_or_default())
            .any(|name| matches!(name, "." | ".."))
}

#[cfg(test)]
mod tests;
