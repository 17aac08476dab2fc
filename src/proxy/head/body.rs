//! Where a body ends, told strictly: no parser behind may find another end.

use super::Fault;
use super::field::split_field;

/// Digits of a chunk's size: none overflows.
const DIGITS_MAX: u8 = 15;
/// A chunk's extension, which nobody reads, bytes.
const EXTENSION_MAX: u16 = 256;
/// All trailer fields, bytes.
const TRAILERS_MAX: usize = 8 * 1024;

/// How far a body has come.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Body {
    /// So many bytes are to come.
    Length(u64),
    Chunked(Chunk, Trailers),
}

/// What may stand behind a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Trailers {
    /// Of a request: no field that somebody could take for one of its head.
    Judged,
    /// Of an answer: what the backend says is the backend's to say.
    Trusted,
}

/// What comes next of a chunked body (RFC 9112 §7.1).
#[derive(Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Chunk {
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        length: u16,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// The trailers from the beginning of the line that is not whole yet, and how many bytes came before it.
    Trailers {
        line: Vec<u8>,
        before: usize,
    },
}

/// What became of some bytes of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Passed {
    /// The end is still to come.
    All,
    /// The last so many bytes are no part of it.
    ToTheEnd { behind: usize },
}

/// Whether a byte was the last.
enum Step {
    On,
    End,
}

const FIRST: Chunk = Chunk::Size { size: 0, digits: 0 };

impl Body {
    pub(in crate::proxy) fn of_length(length: u64) -> Body {
        Body::Length(length)
    }

    /// All that comes, until the connection is over.
    pub(super) fn endless() -> Body {
        Body::Length(u64::MAX)
    }

    pub(in crate::proxy) fn chunked(trailers: Trailers) -> Body {
        Body::Chunked(FIRST, trailers)
    }

    /// Takes the next bytes of the connection.
    pub(in crate::proxy) fn pass(&mut self, bytes: &[u8]) -> Result<Passed, Fault> {
        match self {
            Body::Length(left) => {
                let behind =
                    usize::try_from((bytes.len() as u64).saturating_sub(*left)).unwrap_or(usize::MAX);
                *left = left.saturating_sub(bytes.len() as u64);
                Ok(if *left == 0 { Passed::ToTheEnd { behind } } else { Passed::All })
            }
            Body::Chunked(chunk, trailers) => chunk.pass(bytes, *trailers),
        }
    }
}

impl Chunk {
    fn pass(&mut self, mut bytes: &[u8], trailers: Trailers) -> Result<Passed, Fault> {
        while let Some((first, rest)) = bytes.split_first() {
            if let Chunk::Data { left } = self {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                bytes = bytes.get(taken..).unwrap_or_default();
                if *left == 0 {
                    *self = Chunk::DataCr;
                }
                continue;
            }
            bytes = rest;
            match self.step(*first, trailers)? {
                Step::On => {}
                Step::End => return Ok(Passed::ToTheEnd { behind: rest.len() }),
            }
        }
        Ok(Passed::All)
    }

    fn step(&mut self, byte: u8, trailers: Trailers) -> Result<Step, Fault> {
        *self = match (&mut *self, byte) {
            (Chunk::Size { size, digits }, hex) if hex.is_ascii_hexdigit() && *digits < DIGITS_MAX => {
                let digit = (hex as char).to_digit(16).unwrap_or_default();
                Chunk::Size { size: (*size << 4) | u64::from(digit), digits: *digits + 1 }
            }
            (Chunk::Size { size, digits: 1.. }, b'\r') => Chunk::SizeLf { size: *size },
            (Chunk::Size { size, digits: 1.. }, b';') => Chunk::Extension { size: *size, length: 0 },
            (Chunk::Extension { size, .. }, b'\r') => Chunk::SizeLf { size: *size },
            (Chunk::Extension { size, length }, b'\t' | b' '..=b'~') if *length < EXTENSION_MAX => {
                Chunk::Extension { size: *size, length: *length + 1 }
            }
            (Chunk::SizeLf { size: 0 }, b'\n') => Chunk::Trailers { line: Vec::new(), before: 0 },
            (Chunk::SizeLf { size }, b'\n') => Chunk::Data { left: *size },
            (Chunk::DataCr, b'\r') => Chunk::DataLf,
            (Chunk::DataLf, b'\n') => FIRST,
            (Chunk::Trailers { line, before }, byte) => {
                line.push(byte);
                if *before + line.len() > TRAILERS_MAX {
                    return Err(Fault::FieldsTooLarge);
                }
                if byte != b'\n' {
                    return Ok(Step::On);
                }
                match (line.strip_suffix(b"\r\n").ok_or(Fault::LineEnd)?, trailers) {
                    ([], _) => return Ok(Step::End),
                    (field, Trailers::Judged) => refuse_telling(field)?,
                    (_, Trailers::Trusted) => {}
                }
                Chunk::Trailers { before: *before + line.len(), line: Vec::new() }
            }
            (
                Chunk::Size { .. }
                | Chunk::Extension { .. }
                | Chunk::SizeLf { .. }
                | Chunk::Data { .. }
                | Chunk::DataCr
                | Chunk::DataLf,
                _,
            ) => return Err(Fault::Chunk),
        };
        Ok(Step::On)
    }
}

/// Refuses a trailer field that somebody could take for one of the head that decides something: RFC 9110 §6.5.1
/// forbids those that frame, route, authenticate or describe the content.
fn refuse_telling(field: &[u8]) -> Result<(), Fault> {
    let (name, _) = split_field(field)?;
    let name = String::from_utf8_lossy(name).to_ascii_lowercase().replace('_', "-");
    let decides = matches!(
        &*name,
        "host"
            | "te"
            | "trailer"
            | "connection"
            | "upgrade"
            | "expect"
            | "transfer-encoding"
            | "authorization"
            | "proxy-authorization"
            | "cookie"
            | "set-cookie"
            | "forwarded"
            | "x-real-ip"
    );
    let begins = ["content-", "x-forwarded-", "x-ratelimit-", "ratelimit"];
    if decides || begins.iter().any(|prefix| name.starts_with(prefix)) {
        return Err(Fault::Trailer);
    }
    Ok(())
}
