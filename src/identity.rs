//! Who `key: user` is: a verified JWT, a header set by a trusted proxy, or a cookie.
//!
//! Pure apart from the cryptography: keys come in as bytes, the time as an argument. A request
//! whose identity is missing, ambiguous or unproven has none; what counts it then is the caller's
//! business.

mod cookie;
mod jwt;

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::decision::time::Timestamp;

pub use jwt::{Algorithm, JwtKeys, JwtRules, JwtRulesError};

/// A user id longer than this is none, bytes.
const HEADER_VALUE_MAX: usize = 1024;

/// How a request shows who its user is.
#[derive(Debug, Default)]
pub struct UserRules {
    source: Option<UserSource>,
}

/// Where the identity of a user is read from.
#[derive(Debug)]
pub enum UserSource {
    /// A claim of a signed token.
    Jwt(JwtRules),
    /// A header that trusted proxies set, believed from them alone.
    Header(HeaderName),
    /// The cookie of this name. Nothing proves it: whoever sends another value is another user.
    Cookie(Box<str>),
}

impl UserRules {
    /// No request has a user.
    pub fn none() -> UserRules {
        UserRules { source: None }
    }

    pub fn new(source: UserSource) -> UserRules {
        UserRules { source: Some(source) }
    }

    /// The user of a request, if it shows exactly one.
    ///
    /// `peer_is_trusted`: whether the connection comes from a trusted proxy.
    pub fn identify(&self, headers: &HeaderMap, peer_is_trusted: bool, now: Timestamp) -> Option<UserId> {
        match self.source.as_ref()? {
            UserSource::Jwt(rules) => rules.identify(headers, now),
            UserSource::Header(name) if peer_is_trusted => header_identity(headers, name),
            UserSource::Header(_) => None,
            UserSource::Cookie(name) => cookie::identity(headers, name),
        }
    }

    /// The header that trusted proxies alone may set: to be stripped from what others send.
    pub fn trusted_header(&self) -> Option<&HeaderName> {
        match self.source.as_ref()? {
            UserSource::Header(name) => Some(name),
            UserSource::Jwt(_) | UserSource::Cookie(_) => None,
        }
    }
}

/// What a user is counted by. Prints nothing of itself.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UserId(Box<[u8]>);

impl UserId {
    fn new(bytes: &[u8]) -> UserId {
        UserId(bytes.into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for UserId {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserId(hidden)")
    }
}

fn header_identity(headers: &HeaderMap, name: &HeaderName) -> Option<UserId> {
    let value = only_line(headers, name)?.as_bytes().trim_ascii();
    let sound = !value.is_empty() && value.len() <= HEADER_VALUE_MAX;
    sound.then(|| UserId::new(value))
}

/// The value of a header that is there once. Of several lines the backend may read another one.
fn only_line<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => Some(line),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: HeaderName = HeaderName::from_static("x-user-id");

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(USER, HeaderValue::from_str(line).unwrap());
        }
        map
    }

    fn by_header(lines: &[&str], peer_is_trusted: bool) -> Option<Vec<u8>> {
        let rules = UserRules::new(UserSource::Header(USER));
        let user = rules.identify(&headers(lines), peer_is_trusted, Timestamp::default());
        user.map(|user| user.as_bytes().to_vec())
    }

    #[test]
    fn a_header_is_believed_from_trusted_proxies_alone() {
        assert_eq!(by_header(&["alice"], true), Some(b"alice".to_vec()));
        assert_eq!(by_header(&["alice"], false), None);
    }

    #[test]
    fn a_header_that_is_empty_repeated_or_oversized_names_nobody() {
        assert_eq!(by_header(&[], true), None);
        assert_eq!(by_header(&[" "], true), None);
        assert_eq!(by_header(&["alice", "bob"], true), None);
        assert_eq!(by_header(&["alice", "alice"], true), None);
        assert_eq!(by_header(&["a".repeat(HEADER_VALUE_MAX + 1).as_str()], true), None);
        assert!(by_header(&["a".repeat(HEADER_VALUE_MAX).as_str()], true).is_some());
    }

    #[test]
    fn without_a_source_nobody_is_anybody() {
        let rules = UserRules::none();
        assert_eq!(rules.identify(&headers(&["alice"]), true, Timestamp::default()), None);
        assert_eq!(rules.trusted_header(), None);
    }

    #[test]
    fn only_the_header_form_names_a_header_to_strip() {
        assert_eq!(UserRules::new(UserSource::Header(USER)).trusted_header(), Some(&USER));
        assert_eq!(UserRules::new(UserSource::Cookie("sid".into())).trusted_header(), None);
    }

    #[test]
    fn an_identity_does_not_print_itself() {
        assert_eq!(format!("{:?}", UserId::new(b"alice")), "UserId(hidden)");
    }
}
