//! The domain of an e-mail address, compared as the mail system would (RFC 5321, UTS #46).

use std::borrow::Cow;

use idna::{AsciiDenyList, domain_to_ascii_cow};

use super::lists::TextLists;

/// The longest domain, bytes (RFC 1035 §2.3.4).
const LEN_MAX: usize = 253;
const LABEL_LEN_MAX: usize = 63;

/// A domain in its one form: ASCII, international labels as `xn--`, lower case, without the last dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain(Box<str>);

impl Domain {
    /// `None` unless the text is a domain and nothing else.
    pub fn parse(text: &str) -> Option<Domain> {
        let ascii = domain_to_ascii_cow(text.as_bytes(), AsciiDenyList::EMPTY).ok()?;
        let domain = ascii.strip_suffix('.').unwrap_or(&ascii);
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_label =
            |label: &str| (1..=LABEL_LEN_MAX).contains(&label.len()) && label.bytes().all(is_known);
        (domain.len() <= LEN_MAX && domain.split('.').all(is_label)).then(|| Domain(domain.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether an address is one at a listed domain or below it: `value` as it was sent, and as text.
///
/// Both are looked at. What brings letters to one spelling makes `strasse` of `straße`, which are two
/// domains; without it invisible letters would make another domain of a listed one.
pub(super) fn is_listed(domains: &TextLists, value: &str, text: &str) -> bool {
    let as_sent = (!value.is_ascii()).then_some(value);
    [Some(text), as_sent].into_iter().flatten().filter_map(domain_of).any(|domain| covers(domains, domain))
}

/// What follows the last `@`: a quoted local part may hold others.
fn domain_of(address: &str) -> Option<&str> {
    /// The sign, full width and small.
    const AT: [char; 3] = ['@', '\u{ff20}', '\u{fe6b}'];
    let (_, domain) = address.rsplit_once(AT)?;
    let domain = domain.trim_matches(is_edge);
    (!domain.is_empty()).then_some(domain)
}

fn covers(domains: &TextLists, domain: &str) -> bool {
    let ascii = to_ascii(domain);
    let ascii = ascii.trim_end_matches(is_edge);
    let after_dots = ascii.match_indices('.').map(|(at, _)| at + 1);
    let mut ends = std::iter::once(0).chain(after_dots).filter_map(|start| ascii.get(start..));
    ends.any(|end| end.len() <= LEN_MAX && domains.contains(end))
}

/// What backends drop around a domain: spaces, the dot of the root, and the bracket of `Ada <ada@example.com>`.
fn is_edge(letter: char) -> bool {
    letter.is_whitespace() || letter == '>' || is_stop(letter)
}

/// The dots of IDNA (UTS #46 §2.3).
fn is_stop(letter: char) -> bool {
    matches!(letter, '.' | '\u{3002}' | '\u{ff0e}' | '\u{ff61}')
}

/// A label that is none stands for itself: a listed domain also covers what nobody could look up below it.
fn to_ascii(domain: &str) -> Cow<'_, str> {
    let mapped = |text: &str| -> Option<String> {
        domain_to_ascii_cow(text.as_bytes(), AsciiDenyList::EMPTY).ok().map(Cow::into_owned)
    };
    match domain_to_ascii_cow(domain.as_bytes(), AsciiDenyList::EMPTY) {
        Ok(ascii) => ascii,
        Err(_) => {
            let labels =
                domain.split(is_stop).map(|label| mapped(label).unwrap_or_else(|| label.to_lowercase()));
            Cow::Owned(labels.collect::<Vec<_>>().join("."))
        }
    }
}
