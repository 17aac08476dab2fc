//! A user known by a session cookie.

use http::HeaderMap;
use http::header::COOKIE;
use ring::digest;

use super::UserId;

/// A cookie value longer than this names nobody, bytes: browsers keep no longer ones.
const VALUE_MAX: usize = 4096;

/// The user of the cookie `name`: the SHA-256 of its value, so that a session id that is still
/// good lies nowhere in the gateway. `None` unless the cookie is there exactly once.
pub(super) fn identity(headers: &HeaderMap, name: &str) -> Option<UserId> {
    let mut found = None;
    for line in headers.get_all(COOKIE) {
        for pair in line.as_bytes().split(|&byte| byte == b';') {
            let Some(equals) = pair.iter().position(|&byte| byte == b'=') else {
                continue;
            };
            let (key, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
            if key != name.as_bytes() {
                continue;
            }
            if found.is_some() {
                return None;
            }
            found = Some(value);
        }
    }
    let value = canonical(found?)?;
    Some(UserId::new(digest::digest(&digest::SHA256, &value).as_ref()))
}

/// One spelling for all that backends read as the same value: some drop the quotes, some decode
/// percent signs. Without it one session could pass for as many users as it has spellings.
/// Anything but a cookie-value (RFC 6265 §4.1.1) is `None`.
fn canonical(value: &[u8]) -> Option<Vec<u8>> {
    let bare = match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    };
    let sound = !bare.is_empty() && bare.len() <= VALUE_MAX && bare.iter().all(|&byte| is_cookie_octet(byte));
    sound.then(|| percent_decoded(bare))
}

fn is_cookie_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escaped = match (first, tail) {
            (b'%', [high, low, after @ ..]) => {
                hex(*high).zip(hex(*low)).map(|(high, low)| (high << 4 | low, after))
            }
            _ => None,
        };
        match escaped {
            Some((byte, after)) => {
                decoded.push(byte);
                rest = after;
            }
            None => decoded.push(*first),
        }
    }
    decoded
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn user(lines: &[&str]) -> Option<UserId> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        identity(&headers, "sid")
    }

    #[test]
    fn the_cookie_is_found_among_others_and_over_several_lines() {
        let plain = user(&["sid=abc"]);
        assert!(plain.is_some());
        assert_eq!(user(&["a=1; sid=abc; b=2"]), plain);
        assert_eq!(user(&["a=1;sid=abc"]), plain);
        assert_eq!(user(&["a=1", "sid=abc"]), plain);
    }

    #[test]
    fn only_the_digest_of_the_value_is_kept() {
        let user = user(&["sid=abc"]).unwrap();
        assert_eq!(user.as_bytes(), digest::digest(&digest::SHA256, b"abc").as_ref());
    }

    #[test]
    fn spellings_of_one_value_are_one_user() {
        let plain = user(&["sid=s:abc"]);
        for spelling in ["sid=\"s:abc\"", "sid=s%3Aabc", "sid=s%3aabc", "sid=%73%3A%61bc", " sid = s:abc "] {
            assert_eq!(user(&[spelling]), plain, "{spelling}");
        }
        assert_ne!(user(&["sid=s:abd"]), plain);
        assert_ne!(user(&["sid=S:abc"]), plain);
    }

    #[test]
    fn an_incomplete_percent_sign_stands_for_itself() {
        for odd in ["sid=a%", "sid=a%4", "sid=a%zz"] {
            assert!(user(&[odd]).is_some(), "{odd}");
        }
        assert_ne!(user(&["sid=a%4"]), user(&["sid=a%"]));
    }

    #[test]
    fn what_backends_may_read_in_two_ways_names_nobody() {
        for odd in [
            "sid=abc; sid=abc",
            "sid=abc; sid=def",
            "sid=",
            "sid=\"\"",
            "sid=abc,sid",
            "sid=a\\142c",
            "sid=a\"b",
            "sid=a b",
            "sid=\u{e9}",
            "SID=abc",
            "xsid=abc",
            "sid",
            "",
        ] {
            assert_eq!(user(&[odd]), None, "{odd}");
        }
        assert_eq!(user(&["sid=abc", "sid=abc"]), None);
        assert_eq!(user(&[&format!("sid={}", "a".repeat(VALUE_MAX + 1))]), None);
    }
}
