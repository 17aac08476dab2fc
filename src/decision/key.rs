//! What a limit counts by, and the keyed hash that stands for one such value.
//!
//! No counter holds a raw phone number, e-mail or address: from here on there is only the hash.

use std::fmt;
use std::hash::Hasher as _;

use http::HeaderName;
use siphasher::sip128::{Hasher128, SipHasher13};
use smallvec::SmallVec;

/// What a limit counts by: one part, or several that make one composite key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpec {
    pub parts: SmallVec<[KeyPart; 2]>,
    pub form: Form,
    pub missing: Missing,
}

/// One value of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// The client's address; for IPv6 its prefix.
    Ip,
    /// The client's network: what one party may well have many addresses of.
    Network,
    /// The verified user; a request without one counts by its address.
    User,
    /// One counter for everybody.
    Global,
    /// Whom the client's verified certificate names.
    ClientCert,
    Header(HeaderName),
    Cookie(Box<str>),
    Query(Box<str>),
    /// A `{name}` of the route's path.
    Path(Box<str>),
    /// A field of the body.
    Body(FieldPath),
    /// Where a one-time code goes: a phone number in E.164, or an e-mail address.
    Phone,
}

/// A body field: `email`, or `user.email` for nested objects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldPath(Box<str>);

impl FieldPath {
    /// `None` unless the path is dot-separated, non-empty names, at most eight deep.
    pub fn parse(text: &str) -> Option<FieldPath> {
        let depth = text.split('.').count();
        let sound = depth <= 8 && text.split('.').all(|name| !name.is_empty() && name.trim() == name);
        sound.then(|| FieldPath(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }
}

/// How a value is brought to one spelling before it is counted: `as:` in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// NFKC, trimmed, lower case.
    Text,
    /// Byte for byte.
    Exact,
    /// As text, without plus-tags, and without dots where the mail host ignores them.
    Email,
    /// E.164.
    Phone,
}

impl Form {
    /// The form that the file calls so.
    pub fn named(name: &str) -> Option<Form> {
        [Form::Text, Form::Exact, Form::Email, Form::Phone].into_iter().find(|form| form.name() == name)
    }

    /// As the file writes it: part of what keys are derived from.
    pub fn name(self) -> &'static str {
        match self {
            Form::Text => "text",
            Form::Exact => "exact",
            Form::Email => "email",
            Form::Phone => "phone",
        }
    }
}

/// What a request is counted by that lacks the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    Ip,
    /// The limit does not apply.
    Skip,
    /// 400.
    Reject,
}

impl KeySpec {
    pub fn needs_body(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, KeyPart::Body(_) | KeyPart::Phone))
    }

    pub fn needs_user(&self) -> bool {
        self.parts.contains(&KeyPart::User)
    }

    /// Whether the quota of this key belongs to whoever sends the request. A value that the
    /// sender merely names (a body field, a query parameter, a path segment) may be somebody
    /// else's, and its quota would tell a stranger what that person is doing.
    pub fn is_the_senders_own(&self) -> bool {
        self.parts.iter().all(|part| match part {
            KeyPart::Ip
            | KeyPart::Network
            | KeyPart::User
            | KeyPart::Global
            | KeyPart::ClientCert
            | KeyPart::Header(_)
            | KeyPart::Cookie(_) => true,
            KeyPart::Query(_) | KeyPart::Path(_) | KeyPart::Body(_) | KeyPart::Phone => false,
        })
    }

    /// Whether it tells apart what somebody signs in to. A success says nothing of other keys: who knows one
    /// password may be guessing all the others from the same address.
    pub fn names_an_account(&self) -> bool {
        self.parts.iter().any(|part| match part {
            KeyPart::Ip | KeyPart::Network | KeyPart::Global => false,
            KeyPart::User
            | KeyPart::ClientCert
            | KeyPart::Header(_)
            | KeyPart::Cookie(_)
            | KeyPart::Query(_)
            | KeyPart::Path(_)
            | KeyPart::Body(_)
            | KeyPart::Phone => true,
        })
    }
}

/// As the file writes it: `ip`, `body.email`, `body.username+ip`.
impl fmt::Display for KeySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            if index > 0 {
                f.write_str("+")?;
            }
            write!(f, "{part}")?;
        }
        Ok(())
    }
}

impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyPart::Ip => f.write_str("ip"),
            KeyPart::Network => f.write_str("network"),
            KeyPart::User => f.write_str("user"),
            KeyPart::Global => f.write_str("global"),
            KeyPart::ClientCert => f.write_str("client_cert"),
            KeyPart::Header(name) => write!(f, "header.{name}"),
            KeyPart::Cookie(name) => write!(f, "cookie.{name}"),
            KeyPart::Query(name) => write!(f, "query.{name}"),
            KeyPart::Path(name) => write!(f, "path.{name}"),
            KeyPart::Body(field) => write!(f, "body.{}", field.as_str()),
            KeyPart::Phone => f.write_str("phone"),
        }
    }
}

/// Which limit a counter belongs to: stable over reloads as long as the limit stays in its
/// policy with the same key, whatever becomes of its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LimitId(u128);

impl LimitId {
    /// From the parts of a limit's identity: scope, key, form, kind, ordinal.
    pub fn derive(parts: &[&str]) -> LimitId {
        let mut hasher = SipHasher13::new_with_keys(0, 0);
        for part in parts {
            write_framed(&mut hasher, part.as_bytes());
        }
        LimitId(hasher.finish128().as_u128())
    }

    pub const fn from_u128(bits: u128) -> LimitId {
        LimitId(bits)
    }

    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

/// The keyed hash of one (limit, value): what stores know a counter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(u128);

impl KeyHash {
    pub const fn from_u128(bits: u128) -> KeyHash {
        KeyHash(bits)
    }

    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

/// Derives [`KeyHash`]es under a secret, so that nobody outside can aim at a bucket or
/// recognise a value (SipHash-1-3, 128 bits).
#[derive(Clone)]
pub struct KeyHasher {
    secret: (u64, u64),
}

impl KeyHasher {
    pub fn new(secret: [u8; 16]) -> KeyHasher {
        let bits = u128::from_le_bytes(secret);
        KeyHasher { secret: ((bits >> 64) as u64, bits as u64) }
    }

    /// The hash of a hash, for a table of one's own.
    pub fn rekey(&self, key: KeyHash) -> KeyHash {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write(&key.0.to_le_bytes());
        KeyHash(hasher.finish128().as_u128())
    }

    /// Starts the key of one limit; push its parts, then finish.
    pub fn key(&self, limit: LimitId) -> KeyWriter {
        let mut hasher = SipHasher13::new_with_keys(self.secret.0, self.secret.1);
        hasher.write(&limit.0.to_le_bytes());
        KeyWriter(hasher)
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher(secret)")
    }
}

/// The key of one limit in the making.
pub struct KeyWriter(SipHasher13);

impl KeyWriter {
    /// Adds one part. Tag and length keep parts apart: no two lists of parts write the same bytes.
    pub fn push(&mut self, tag: PartTag, value: &[u8]) {
        self.0.write_u8(tag as u8);
        write_framed(&mut self.0, value);
    }

    pub fn finish(self) -> KeyHash {
        KeyHash(self.0.finish128().as_u128())
    }
}

/// Where a part of a key came from: an address can never collide with an e-mail that spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PartTag {
    Ip = 1,
    User = 2,
    Global = 3,
    Value = 4,
    Network = 5,
}

fn write_framed(hasher: &mut SipHasher13, bytes: &[u8]) {
    hasher.write_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    hasher.write(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cannot_be_shifted_into_one_another() {
        let hasher = KeyHasher::new([7; 16]);
        let limit = LimitId::derive(&["login", "ip"]);
        let key = |parts: &[&str]| {
            let mut writer = hasher.key(limit);
            parts.iter().for_each(|part| writer.push(PartTag::Value, part.as_bytes()));
            writer.finish()
        };
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["abc"]), key(&["abc", ""]));
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
    }

    #[test]
    fn an_address_and_a_text_that_spells_it_differ() {
        let hasher = KeyHasher::new([7; 16]);
        let limit = LimitId::derive(&["login", "ip"]);
        let key = |tag| {
            let mut writer = hasher.key(limit);
            writer.push(tag, b"192.0.2.1");
            writer.finish()
        };
        assert_ne!(key(PartTag::Ip), key(PartTag::Value));
    }

    #[test]
    fn another_secret_gives_another_key() {
        let limit = LimitId::derive(&["login", "ip"]);
        let key = |secret| KeyHasher::new([secret; 16]).key(limit).finish();
        assert_ne!(key(1), key(2));
    }
}
