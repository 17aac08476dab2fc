//! Percent-encoding (RFC 3986 §2.1): read strictly, or as the most lenient backend would.

use std::borrow::Cow;

/// What one `%` introduces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    Byte(u8),
    Invalid,
}

/// The escape that starts at `bytes[at]`, which is a `%`.
pub(super) fn escape_at(bytes: &[u8], at: usize) -> Escape {
    match bytes.get(at + 1..at + 3) {
        Some(&[high, low]) => match (hex_digit(high), hex_digit(low)) {
            (Some(high), Some(low)) => Escape::Byte(high << 4 | low),
            (None, _) | (_, None) => Escape::Invalid,
        },
        Some(_) | None => Escape::Invalid,
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Appends `byte` percent-encoded, in upper case.
pub(super) fn push_escaped(out: &mut String, byte: u8) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    out.push('%');
    out.push(DIGITS[usize::from(byte >> 4)]);
    out.push(DIGITS[usize::from(byte & 15)]);
}

/// What a `+` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plus {
    Itself,
    /// application/x-www-form-urlencoded.
    Space,
}

/// Why a text could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DecodeFault {
    /// A `%` without two hexadecimal digits.
    Escape,
    NotUtf8,
    Nul,
}

/// Decodes every escape; borrowed where there is none.
pub(super) fn decode_strict(text: &str, plus: Plus) -> Result<Cow<'_, str>, DecodeFault> {
    if text.contains('\0') {
        return Err(DecodeFault::Nul);
    }
    let decoded = match decode(text.as_bytes(), plus, OnInvalid::Refuse) {
        Decoded::Same => return Ok(Cow::Borrowed(text)),
        Decoded::Bytes(bytes) => bytes,
        Decoded::Refused => return Err(DecodeFault::Escape),
    };
    if decoded.contains(&0) {
        return Err(DecodeFault::Nul);
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| DecodeFault::NotUtf8)
}

/// Decodes what can be decoded, `%uXXXX` too, and leaves the rest as it stands.
pub(super) fn decode_lenient(text: &str, plus: Plus) -> Cow<'_, str> {
    match decode(text.as_bytes(), plus, OnInvalid::Keep) {
        Decoded::Same | Decoded::Refused => Cow::Borrowed(text),
        Decoded::Bytes(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum OnInvalid {
    Refuse,
    Keep,
}

enum Decoded {
    Same,
    Bytes(Vec<u8>),
    Refused,
}

fn decode(bytes: &[u8], plus: Plus, on_invalid: OnInvalid) -> Decoded {
    let encoded = |&byte: &u8| byte == b'%' || (byte == b'+' && plus == Plus::Space);
    let Some(first) = bytes.iter().position(encoded) else { return Decoded::Same };
    let mut out = Vec::with_capacity(bytes.len());
    out.extend_from_slice(&bytes[..first]);
    let mut at = first;
    while let Some(&byte) = bytes.get(at) {
        at += match (byte, plus) {
            (b'%', Plus::Itself | Plus::Space) => match (escape_at(bytes, at), on_invalid) {
                (Escape::Byte(decoded), OnInvalid::Refuse | OnInvalid::Keep) => {
                    out.push(decoded);
                    3
                }
                (Escape::Invalid, OnInvalid::Refuse) => return Decoded::Refused,
                (Escape::Invalid, OnInvalid::Keep) => push_lenient(&mut out, bytes, at),
            },
            (b'+', Plus::Space) => {
                out.push(b' ');
                1
            }
            (_, Plus::Itself | Plus::Space) => {
                out.push(byte);
                1
            }
        };
    }
    Decoded::Bytes(out)
}

/// `%uXXXX` (IIS, classic ASP) or a `%` that means itself; returns how many bytes were read.
fn push_lenient(out: &mut Vec<u8>, bytes: &[u8], at: usize) -> usize {
    let unit = match bytes.get(at + 1..at + 6) {
        Some([b'u' | b'U', digits @ ..]) => digits
            .iter()
            .try_fold(0u32, |unit, &digit| Some(unit << 4 | u32::from(hex_digit(digit)?)))
            .and_then(char::from_u32),
        Some(_) | None => None,
    };
    match unit {
        Some(unit) => {
            out.extend_from_slice(unit.encode_utf8(&mut [0; 4]).as_bytes());
            6
        }
        None => {
            out.push(b'%');
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_reading_refuses_what_backends_disagree_on() {
        let check = |text, expected: Result<&str, DecodeFault>| {
            assert_eq!(decode_strict(text, Plus::Space).as_deref(), expected.as_ref().copied(), "{text}");
        };
        check("plain", Ok("plain"));
        check("a%40b+c", Ok("a@b c"));
        check("%C3%A9", Ok("é"));
        for bad in ["%", "%4", "%4g", "%u0041", "100%", "%%41"] {
            check(bad, Err(DecodeFault::Escape));
        }
        for bad in ["%ff", "%c0%af", "%ed%a0%80", "%c3"] {
            check(bad, Err(DecodeFault::NotUtf8));
        }
        check("a%00", Err(DecodeFault::Nul));
        check("a\0", Err(DecodeFault::Nul));
        assert_eq!(decode_strict("a+b", Plus::Itself), Ok(Cow::Borrowed("a+b")));
    }

    #[test]
    fn lenient_reading_takes_whatever_it_can() {
        for (text, expected) in
            [("%u0041b", "Ab"), ("100%", "100%"), ("%4g", "%4g"), ("%uD800", "%uD800"), ("a%20b", "a b")]
        {
            assert_eq!(decode_lenient(text, Plus::Itself), expected, "{text}");
        }
    }
}
