//! Addresses that a code may be sent to, and be sent from.

use std::fmt;

use thiserror::Error;

/// RFC 5321 §4.5.3.1: a path of 256 bytes with its angle brackets.
const BYTES_MAX: usize = 254;
const LOCAL_BYTES_MAX: usize = 64;

/// `local@domain` in ASCII: a dot-atom (RFC 5322 §3.2.3) and the A-labels of a domain with at least two of them, in
/// lower case. The local part stays as it was written: only its host knows what case means in it. Holds nothing that a
/// header, a command or a URL could misread. Hidden in Debug.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Address {
    text: Box<str>,
    /// Where the `@` is.
    at: usize,
}

/// What is wrong with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AddressFault {
    #[error("it is longer than {BYTES_MAX} bytes")]
    Long,
    #[error("it has no two sides of one @")]
    At,
    #[error("what is before the @ is not made of letters, digits and single dots")]
    Local,
    #[error("what is behind the @ is no domain")]
    Domain,
}

impl Address {
    pub fn parse(text: &str) -> Result<Address, AddressFault> {
        if text.len() > BYTES_MAX {
            return Err(AddressFault::Long);
        }
        let (local, domain) = text.split_once('@').ok_or(AddressFault::At)?;
        if domain.contains('@') {
            return Err(AddressFault::At);
        }
        if !is_dot_atom(local) || local.len() > LOCAL_BYTES_MAX {
            return Err(AddressFault::Local);
        }
        let domain = registrable(domain).ok_or(AddressFault::Domain)?;
        let text = format!("{local}@{domain}");
        if text.len() > BYTES_MAX {
            return Err(AddressFault::Long);
        }
        Ok(Address { text: text.into(), at: local.len() })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn local(&self) -> &str {
        self.text.get(..self.at).unwrap_or_default()
    }

    pub fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or_default()
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address(…)")
    }
}

fn is_dot_atom(local: &str) -> bool {
    let is_atext = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte);
    local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atext))
}

/// The A-labels of a domain that somebody could have registered: neither an address nor a single label.
pub(super) fn registrable(domain: &str) -> Option<String> {
    let ascii = idna::domain_to_ascii_strict(domain).ok()?;
    let (_, top) = ascii.rsplit_once('.')?;
    let is_top = !top.is_empty() && !top.bytes().all(|byte| byte.is_ascii_digit());
    is_top.then_some(ascii)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Result<&str, AddressFault>) {
        let found = Address::parse(text);
        assert_eq!(found.as_ref().map(Address::as_str).map_err(|fault| *fault), expected, "{text:?}");
    }

    #[test]
    fn an_address_has_one_spelling_of_its_domain() {
        check("ada@example.com", Ok("ada@example.com"));
        check("Ada.Lovelace+otp@EXAMPLE.Com", Ok("Ada.Lovelace+otp@example.com"));
        check("o'neil_1%2@mail.sub.example.io", Ok("o'neil_1%2@mail.sub.example.io"));
        check("ada@b\u{fc}cher.example", Ok("ada@xn--bcher-kva.example"));
        check("ada@BU\u{308}CHER\u{3002}example", Ok("ada@xn--bcher-kva.example"));
        check("ada@xn--bcher-kva.example", Ok("ada@xn--bcher-kva.example"));
        let address = Address::parse("Ada@Example.com").unwrap();
        assert_eq!((address.local(), address.domain()), ("Ada", "example.com"));
        assert_eq!(format!("{address:?}"), "Address(…)");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_none() {
        for text in ["", "ada", "ada@b@example.com", "ada@@example.com"] {
            check(text, Err(AddressFault::At));
        }
        for text in [
            "@example.com",
            ".ada@example.com",
            "ada.@example.com",
            "a..b@example.com",
            "\"a b\"@example.com",
            "a b@example.com",
            " ada@example.com",
            "Ada <ada@example.com",
            "ada,b@example.com",
            "ada\r\nBcc: b@example.com",
            "ada\0@example.com",
            "(x)ada@example.com",
            "ad\u{e4}@example.com",
            "a\\b@example.com",
        ] {
            check(text, Err(AddressFault::Local));
        }
        for text in [
            "ada@",
            "ada@example",
            "ada@localhost",
            "ada@example.com.",
            "ada@.example.com",
            "ada@exa mple.com",
            "ada@example..com",
            "ada@-example.com",
            "ada@exa_mple.com",
            "ada@127.0.0.1",
            "ada@[127.0.0.1]",
            "ada@[IPv6:::1]",
            "ada@example.com>",
            "ada@example.com\r\nX: y",
            "ada@example.com\n",
            "ada@example.com ",
            "ada@xn--.com",
        ] {
            check(text, Err(AddressFault::Domain));
        }
    }

    #[test]
    fn lengths_are_those_of_the_standard() {
        let local = "a".repeat(64);
        assert!(Address::parse(&format!("{local}@example.com")).is_ok());
        check(&format!("a{local}@example.com"), Err(AddressFault::Local));
        let label = "b".repeat(60);
        let domain = format!("{label}.{label}.{label}");
        assert!(Address::parse(&format!("{local}@{domain}.io")).is_ok());
        check(&format!("{local}@{domain}.{label}.io"), Err(AddressFault::Long));
        check(&format!("ada@{}.com", "b".repeat(64)), Err(AddressFault::Domain));
        // Short as it was written, long as it is sent.
        let wide = format!("{local}@{}", ["\u{fc}b\u{e4}c\u{f6}d"; 12].join("."));
        assert!(wide.len() <= BYTES_MAX);
        check(&wide, Err(AddressFault::Long));
    }

    proptest! {
        #[test]
        fn what_is_taken_is_plain_and_stays_as_it_is(text in "[a-zA-Z0-9.+@\u{e4}\u{3002}\r\n\" -]{0,40}") {
            if let Ok(address) = Address::parse(&text) {
                let written = address.as_str();
                prop_assert!(written.bytes().all(|byte| byte.is_ascii_graphic()), "{}", written);
                prop_assert_eq!(written.matches('@').count(), 1);
                prop_assert_eq!(Address::parse(written), Ok(address.clone()));
            }
        }
    }
}
