//! Whom an event or a block is about.

use std::fmt;

use smallvec::SmallVec;

use super::text;

/// A raw phone number, e-mail, user, address, or several of them. `Debug` and `Display` show the
/// masked form alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Identifier {
    text: Box<str>,
    masked: Box<str>,
    /// Where in `text` each part ends.
    ends: SmallVec<[u16; 4]>,
}

/// So much of a part is kept, bytes: longer than any e-mail (RFC 5321) or phone number.
const PART_MAX: usize = 320;
const PARTS_MAX: usize = 16;
/// So many digits of nothing else make a phone number, and so many of them are shown.
const PHONE_DIGITS_MIN: usize = 7;
const PHONE_DIGITS_SHOWN: usize = 4;

impl Identifier {
    /// From pairs of a kind of key (`ip`, `user`, `body.email`) and its value, each kept to 320
    /// bytes and without control characters; at most 16 pairs.
    pub fn new(parts: &[(&str, &str)]) -> Identifier {
        let mut masked = String::new();
        let values: SmallVec<[Box<str>; 4]> =
            parts.iter().take(PARTS_MAX).map(|(_, value)| text::clean(value, PART_MAX)).collect();
        for (index, ((kind, _), value)) in parts.iter().zip(&values).enumerate() {
            if index > 0 {
                masked.push('+');
            }
            push_masked(&mut masked, kind, value);
        }
        Identifier::joined(values.iter().map(AsRef::as_ref), masked.into())
    }

    /// The whole of it, `a@b.c+192.0.2.1`. Not for logs, metrics or messages.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// `a***@example.com`, `***0123`, `b***`; addresses are shown as they are.
    pub fn masked(&self) -> &str {
        &self.masked
    }

    /// Whether it is several values.
    pub(super) fn is_composite(&self) -> bool {
        self.ends.len() > 1
    }

    /// The values it is made of.
    pub(super) fn parts(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|&end| usize::from(end) + 1));
        let ends = self.ends.iter().map(|&end| usize::from(end));
        ends.zip(starts).map(|(end, start)| self.text.get(start..end).unwrap_or_default())
    }

    /// What is sealed: the values, each after its length.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.text.len() + 2 * self.ends.len() + 16);
        for part in self.parts() {
            // A part has at most `PART_MAX` bytes.
            bytes.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_le_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }

    /// What [`Identifier::to_bytes`] made, beside its masked form. `None` of anything else.
    pub(super) fn from_bytes(mut bytes: &[u8], masked: Box<str>) -> Option<Identifier> {
        let mut parts: SmallVec<[&str; 4]> = SmallVec::new();
        while let Some((length, rest)) = bytes.split_first_chunk() {
            let (part, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
            parts.push(std::str::from_utf8(part).ok()?);
            bytes = rest;
        }
        bytes.is_empty().then(|| Identifier::joined(parts.into_iter(), masked))
    }

    /// Of values that another gateway names, beside its masked form.
    pub(super) fn of_parts<'a>(parts: impl Iterator<Item = &'a str>, masked: &str) -> Identifier {
        let parts: SmallVec<[Box<str>; 4]> =
            parts.take(PARTS_MAX).map(|part| text::clean(part, PART_MAX)).collect();
        let masked = text::clean(masked, PARTS_MAX * PART_MAX);
        Identifier::joined(parts.iter().map(AsRef::as_ref), masked)
    }

    /// One that cannot be unsealed any more: all that is known is how it was shown.
    pub(super) fn only_masked(masked: Box<str>) -> Identifier {
        Identifier::joined(std::iter::once(&*masked), masked.clone())
    }

    fn joined<'a>(parts: impl Iterator<Item = &'a str>, masked: Box<str>) -> Identifier {
        let mut text = String::new();
        let mut ends = SmallVec::new();
        for (index, part) in parts.enumerate() {
            if index > 0 {
                text.push('+');
            }
            text.push_str(part);
            ends.push(u16::try_from(text.len()).unwrap_or(u16::MAX));
        }
        Identifier { text: text.into(), masked, ends }
    }
}

/// As operators see one value of this kind. Who attacks must be seen to be fought: addresses are
/// shown in full.
fn push_masked(masked: &mut String, kind: &str, value: &str) {
    if matches!(kind, "ip" | "network") {
        masked.push_str(value);
        return;
    }
    if let Some((local, domain)) = value.rsplit_once('@') {
        masked.extend(local.chars().next());
        masked.push_str("***@");
        masked.push_str(domain);
        return;
    }
    let is_phone =
        value.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | '(' | ')' | ' '));
    let digits: SmallVec<[char; 16]> = value.chars().filter(char::is_ascii_digit).collect();
    if is_phone && digits.len() >= PHONE_DIGITS_MIN {
        masked.push_str("***");
        masked.extend(&digits[digits.len() - PHONE_DIGITS_SHOWN..]);
    } else {
        masked.extend(value.chars().next());
        masked.push_str("***");
    }
}

impl fmt::Debug for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identifier({})", self.masked)
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_value_is_masked_in_its_way() {
        let check = |kind: &str, value: &str, expected: &str| {
            assert_eq!(Identifier::new(&[(kind, value)]).masked(), expected, "{kind} {value}");
        };
        check("body.email", "alice@example.com", "a***@example.com");
        check("user", "élan@example.com", "é***@example.com");
        check("body.email", "@example.com", "***@example.com");
        check("body.email", "a@b@example.com", "a***@example.com");
        check("phone", "+15555550123", "***0123");
        check("body.phone", "(555) 555-0123", "***0123");
        check("user", "12345", "1***");
        check("user", "bob", "b***");
        check("user", "", "***");
        check("ip", "192.0.2.1", "192.0.2.1");
        check("ip", "2001:db8::/64", "2001:db8::/64");
        check("network", "192.0.2.0/24", "192.0.2.0/24");
        check("header.x-client", "192.0.2.1", "1***");
    }

    #[test]
    fn a_composite_is_one_text_masked_by_part() {
        let both = Identifier::new(&[("body.email", "a+b@b.example"), ("ip", "192.0.2.1")]);
        assert_eq!(both.expose(), "a+b@b.example+192.0.2.1");
        assert_eq!(both.masked(), "a***@b.example+192.0.2.1");
        assert_eq!(both.parts().collect::<Vec<_>>(), ["a+b@b.example", "192.0.2.1"]);
    }

    #[test]
    fn nothing_but_expose_shows_it() {
        let secret = Identifier::new(&[("body.email", "alice@example.com"), ("phone", "+15555550123")]);
        for shown in [format!("{secret}"), format!("{secret:?}"), format!("{secret:#?}")] {
            assert!(!shown.contains("alice") && !shown.contains("555555"), "{shown}");
        }
    }

    #[test]
    fn it_is_bounded_and_without_control_characters() {
        let long = Identifier::new(&[("user", &"é".repeat(1000)), ("user", "a\n\u{1b}b")]);
        assert_eq!(long.expose(), format!("{}+ab", "é".repeat(160)));
        let parts = vec![("user", "x"); 100];
        assert_eq!(Identifier::new(&parts).parts().count(), 16);
    }

    #[test]
    fn bytes_come_back_as_they_went_and_broken_ones_do_not() {
        for parts in [&[("user", "a+b"), ("ip", "::1")][..], &[("user", "")], &[]] {
            let identifier = Identifier::new(parts);
            let bytes = identifier.to_bytes();
            assert_eq!(Identifier::from_bytes(&bytes, identifier.masked().into()), Some(identifier));
            if !bytes.is_empty() {
                assert_eq!(Identifier::from_bytes(&bytes[..bytes.len() - 1], "x".into()), None);
            }
        }
        assert_eq!(Identifier::from_bytes(&[1, 0, 0xff], "x".into()), None);
    }
}
