//! Values of cookies (RFC 6265) and headers.

use std::borrow::Cow;

use http::header::{COOKIE, HeaderMap, HeaderName};

use super::escape::{Plus, decode_lenient};
use super::field::{FieldFault, FieldName, Place, Spelling, Wanted};

/// The value of a cookie, unquoted and with its escapes decoded, since some backends decode them
/// and two spellings of one value must not count as two; `None` if it is not there.
pub fn cookie_value<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<Cow<'a, str>>, FieldFault> {
    let field = || FieldName { place: Place::Cookie, name: name.into() };
    let wanted = Wanted::new([name].into_iter());
    let mut found: Option<Cow<'a, str>> = None;
    for piece in headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|&byte| byte == b';')) {
        let equals = piece.iter().position(|&byte| byte == b'=').unwrap_or(piece.len());
        let value = piece.get(equals + 1..).unwrap_or_default().trim_ascii();
        // A quote left open lets some parsers read on past the semicolon.
        if is_quote_open(value) {
            return Err(FieldFault::Quoting(field()));
        }
        let Some(spelled) = piece.get(..equals).and_then(|name| str::from_utf8(name).ok()) else { continue };
        if spelled.trim().eq_ignore_ascii_case("$version") {
            return Err(FieldFault::CookieVersion);
        }
        match wanted.spelled_by(spelled.trim()) {
            Spelling::Other => continue,
            Spelling::Conflict => return Err(FieldFault::NotOneValue(field())),
            Spelling::Wanted => {}
        }
        let value = str::from_utf8(value).map_err(|_| FieldFault::NotUtf8(field()))?;
        let value = unquote(value).ok_or_else(|| FieldFault::Quoting(field()))?;
        let value = decode_lenient(value, Plus::Itself);
        match &found {
            Some(known) if *known != value => return Err(FieldFault::Repeated(field())),
            Some(_) | None => found = Some(value),
        }
    }
    Ok(found)
}

fn is_quote_open(value: &[u8]) -> bool {
    value.starts_with(b"\"") && (value.len() == 1 || !value.ends_with(b"\"") || value.ends_with(b"\\\""))
}

fn unquote(value: &str) -> Option<&str> {
    match value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) if inner.contains(['"', '\\']) => None,
        Some(inner) => Some(inner),
        None => Some(value),
    }
}

/// The value of a header; several lines must agree.
pub fn header_value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, FieldFault> {
    let field = || FieldName { place: Place::Header, name: name.as_str().into() };
    let mut found = None;
    for line in headers.get_all(name) {
        let value = str::from_utf8(line.as_bytes()).map_err(|_| FieldFault::NotUtf8(field()))?.trim();
        match found {
            Some(known) if known != value => return Err(FieldFault::Repeated(field())),
            Some(_) | None => found = Some(value),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(name: &'static str, lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_bytes(line).unwrap());
        }
        headers
    }

    fn read(lines: &[&[u8]]) -> Result<Option<String>, FieldFault> {
        Ok(cookie_value(&headers("cookie", lines), "sid")?.map(Cow::into_owned))
    }

    #[test]
    fn a_cookie_is_read_as_the_backend_reads_it() {
        for (lines, expected) in [
            (&[][..], None),
            (&["a=b"][..], None),
            (&["sid=1"], Some("1")),
            (&["a=b; sid=1; c=d"], Some("1")),
            (&["a=b;sid=1"], Some("1")),
            (&["a=b", "sid=1"], Some("1")),
            (&["sid = 1 "], Some("1")),
            (&["sid="], Some("")),
            (&["sid"], Some("")),
            (&["sid=a=b"], Some("a=b")),
            (&["sid=\"a b\""], Some("a b")),
            (&["sid=\"\""], Some("")),
            (&["SID=1"], Some("1")),
            (&["sid=1; sid=1"], Some("1")),
            (&["sid=1; sid=\"1\""], Some("1")),
            (&["sid=%61b%"], Some("ab%")),
            (&["sid=%61; sid=a"], Some("a")),
            (&["x=a\"b; sid=1"], Some("1")),
            (&["sidd=2; sid=1; xsid=3"], Some("1")),
        ] {
            let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
            assert_eq!(read(&lines).unwrap().as_deref(), expected, "{lines:?}");
        }
        assert_eq!(read(&[b"x=\xff; \xff=1; sid=1"]).unwrap().as_deref(), Some("1"));
    }

    #[test]
    fn cookies_that_parsers_read_differently_are_refused() {
        let field = || FieldName { place: Place::Cookie, name: "sid".into() };
        for (lines, expected) in [
            (&[&b"sid=1; sid=2"[..]][..], FieldFault::Repeated(field())),
            (&[b"sid=1", b"sid=2"], FieldFault::Repeated(field())),
            (&[b"sid=1; SID=2"], FieldFault::Repeated(field())),
            (&[b"sid; sid=2"], FieldFault::Repeated(field())),
            (&[b"sid[]=1"], FieldFault::NotOneValue(field())),
            (&[b"sid=1; sid[x]=1"], FieldFault::NotOneValue(field())),
            (&[b"a=\"x; sid=1; b=y\""], FieldFault::Quoting(field())),
            (&[b"sid=\""], FieldFault::Quoting(field())),
            (&[b"sid=\"a\\\"b\""], FieldFault::Quoting(field())),
            (&[b"sid=\"a\\163\""], FieldFault::Quoting(field())),
            (&[b"$Version=1; sid=1"], FieldFault::CookieVersion),
            (&[b"sid=1; $version=\"1\""], FieldFault::CookieVersion),
            (&[b"sid=\xff"], FieldFault::NotUtf8(field())),
        ] {
            assert_eq!(read(lines), Err(expected), "{lines:?}");
        }
    }

    #[test]
    fn the_lines_of_a_header_must_agree() {
        let name = HeaderName::from_static("x-api-key");
        for (lines, expected) in [
            (&[][..], Ok(None)),
            (&[&b"k"[..]][..], Ok(Some("k"))),
            (&[b" k\t"], Ok(Some("k"))),
            (&[b"k", b"k"], Ok(Some("k"))),
            (&[b"k, l"], Ok(Some("k, l"))),
            (&[b""], Ok(Some(""))),
        ] {
            assert_eq!(header_value(&headers("x-api-key", lines), &name), expected, "{lines:?}");
        }
        let field = || FieldName { place: Place::Header, name: "x-api-key".into() };
        let repeated = headers("x-api-key", &[b"k", b"l"]);
        assert_eq!(header_value(&repeated, &name), Err(FieldFault::Repeated(field())));
        let binary = headers("x-api-key", &[b"\xff"]);
        assert_eq!(header_value(&binary, &name), Err(FieldFault::NotUtf8(field())));
    }

    proptest! {
        #[test]
        fn any_cookie_header_is_read_or_refused(line in prop::collection::vec(0x20u8..=0x7e, 0..64)) {
            let _ = read(&[&line]);
        }
    }
}
