use proptest::prelude::*;

use super::*;

fn check(raw: &str, expected: Result<&str, PathFault>) {
    let parsed = NormalPath::parse(raw);
    assert_eq!(parsed.as_ref().map(NormalPath::as_str).map_err(|fault| *fault), expected, "{raw:?}");
    if let Ok(path) = parsed {
        assert_eq!(NormalPath::parse(path.as_str()), Ok(path.clone()), "{raw:?} is not settled");
    }
}

#[test]
fn every_spelling_of_a_path_has_one_normal_form() {
    for raw in [
        "/api/auth/login",
        "//api/auth/login",
        "/api//auth///login",
        "/api/./auth/login",
        "/./api/auth/login",
        "/api/x/../auth/login",
        "/../api/auth/login",
        "/../../../api/auth/login",
        "/api/%2e/auth/login",
        "/api/%2E/auth/login",
        "/api/x/%2e%2e/auth/login",
        "/api/x/.%2e/auth/login",
        "/api/x/%2E./auth/login",
        "/api/x//..//auth/login",
        "/api/x/..;/auth/login",
        "/api/x/..;a=b/auth/login",
        "/api/x/%2e%2e;a=b/auth/login",
        "/api/.;/auth/login",
        "/api;/auth/login",
        "/api;v=1/auth;x/login",
        "/api/auth/login;jsessionid=12",
        "/api/auth/login;",
        "/api/auth/login;;a;b",
        "/api/;/auth/login",
        "/;/api/auth/login",
        "/;x=y/api/auth/login",
        "/%61pi/auth/login",
        "/api/auth/logi%6e",
        "/api/auth/logi%6E",
        "/%61%70%69/%61%75%74%68/%6c%6F%67%69%6E",
        "/api/x/y/../../auth/login",
        "/api/auth/logout/x/..;/../login",
        "/api/auth/login;a=%2F..%2f",
        "/api/auth/login;a=%00",
    ] {
        check(raw, Ok("/api/auth/login"));
        assert!(NormalPath::parse(raw).unwrap().risky().is_empty(), "{raw:?}");
    }
}

#[test]
fn what_means_something_is_kept() {
    for (raw, expected) in [
        ("/", "/"),
        ("//", "/"),
        ("/.", "/"),
        ("/..", "/"),
        ("/../", "/"),
        ("/;", "/"),
        ("/;a/..;b/", "/"),
        ("/a/..", "/"),
        ("/a/../", "/"),
        ("/a", "/a"),
        ("/a/", "/a/"),
        ("/a//", "/a/"),
        ("/a/.", "/a/"),
        ("/a/;x", "/a/"),
        ("/a/b/..", "/a/"),
        ("/a/b/../", "/a/"),
        ("/a/b/%2e%2e", "/a/"),
        ("/A/b", "/A/b"),
        ("/...", "/..."),
        ("/a/...", "/a/..."),
        ("/.well-known/x", "/.well-known/x"),
        ("/a/..b/c", "/a/..b/c"),
        ("/a/b../c", "/a/b../c"),
        ("/~user/a_b-c.d", "/~user/a_b-c.d"),
        ("/%7Euser", "/~user"),
        ("/a%40b", "/a%40b"),
        ("/a@b", "/a@b"),
        ("/a:b!$&'()*+,=", "/a:b!$&'()*+,="),
        ("/a%20b", "/a%20b"),
        ("/a+b", "/a+b"),
        ("/%c3%a9", "/%C3%A9"),
        ("/é", "/%C3%A9"),
        ("/日本/x", "/%E6%97%A5%E6%9C%AC/x"),
        ("/%25", "/%25"),
        ("/%252e%252e/x", "/%252e%252e/x"),
        ("/%252Fx", "/%252Fx"),
        ("/%3b", "/%3B"),
        ("/%3fx", "/%3Fx"),
        ("/%23x", "/%23x"),
        ("/a\"b", "/a%22b"),
        ("/a%22b", "/a%22b"),
        ("/<{|}>^`", "/%3C%7B%7C%7D%3E%5E%60"),
        ("/[v]", "/%5Bv%5D"),
    ] {
        check(raw, Ok(expected));
    }
}

#[test]
fn what_has_no_one_reading_is_refused() {
    for (raw, expected) in [
        ("", PathFault::NotAbsolute),
        ("a", PathFault::NotAbsolute),
        ("*", PathFault::NotAbsolute),
        ("http://host/a", PathFault::NotAbsolute),
        ("%2Fa", PathFault::NotAbsolute),
        ("\\a", PathFault::NotAbsolute),
        ("/a b", PathFault::Raw(' ')),
        ("/a ", PathFault::Raw(' ')),
        ("/a\\b", PathFault::Raw('\\')),
        ("/a\\..\\b", PathFault::Raw('\\')),
        ("/a#b", PathFault::Raw('#')),
        ("/a?b", PathFault::Raw('?')),
        ("/a;\\", PathFault::Raw('\\')),
        ("/a\tb", PathFault::Control),
        ("/a\nb", PathFault::Control),
        ("/a\rb", PathFault::Control),
        ("/a\0b", PathFault::Control),
        ("/a\u{7f}", PathFault::Control),
        ("/a%0ab", PathFault::Control),
        ("/a%0D%0Ab", PathFault::Control),
        ("/a%09", PathFault::Control),
        ("/a%01", PathFault::Control),
        ("/a%1F", PathFault::Control),
        ("/a%7f", PathFault::Control),
        ("/a;x=%0a", PathFault::Control),
        ("/%", PathFault::Escape),
        ("/%4", PathFault::Escape),
        ("/%4g", PathFault::Escape),
        ("/%u0041", PathFault::Escape),
        ("/%%41", PathFault::Escape),
        ("/a%/b", PathFault::Escape),
        ("/a;%zz", PathFault::Escape),
        ("/100%", PathFault::Escape),
        ("/%ff", PathFault::NotUtf8),
        ("/%c0%af", PathFault::NotUtf8),
        ("/%c0%ae%c0%ae/x", PathFault::NotUtf8),
        ("/%e0%80%af", PathFault::NotUtf8),
        ("/%ed%a0%80", PathFault::NotUtf8),
        ("/%c3", PathFault::NotUtf8),
        ("/%c3é", PathFault::NotUtf8),
        ("/a;%fe", PathFault::NotUtf8),
        ("/a/..%2Fb", PathFault::HiddenDots),
        ("/a/%2e%2e%2fb", PathFault::HiddenDots),
        ("/a/..%5cb", PathFault::HiddenDots),
        ("/a/x%2F..", PathFault::HiddenDots),
        ("/a/x%2F.%2Fb", PathFault::HiddenDots),
        ("/a/x%2F..%3Bp%2Fb", PathFault::HiddenDots),
        ("/a/..%00/b", PathFault::HiddenDots),
    ] {
        check(raw, Err(expected));
    }
    let long = format!("/{}", "a".repeat(NormalPath::LEN_MAX));
    check(&long, Err(PathFault::TooLong));
    check(&long[..NormalPath::LEN_MAX], Ok(&long[..NormalPath::LEN_MAX]));
    // Grows past the bound by being encoded.
    check(&format!("/{}", "é".repeat(3000)), Err(PathFault::TooLong));
}

#[test]
fn risky_bytes_stay_encoded_and_are_reported() {
    use RiskyByte::{Backslash, Nul, Semicolon, Slash};
    for (raw, expected, risky) in [
        ("/a%2fb", "/a%2Fb", &[Slash][..]),
        ("/a%2Fb/%5c", "/a%2Fb/%5C", &[Slash, Backslash]),
        ("/a%00", "/a%00", &[Nul]),
        ("/a%3bx=%3B", "/a%3Bx=%3B", &[Semicolon]),
        ("/%2F%2f", "/%2F%2F", &[Slash]),
        ("/%00%5C%2F", "/%00%5C%2F", &[Slash, Backslash, Nul]),
        ("/a%252F", "/a%252F", &[]),
        ("/a%2Fb/../c", "/c", &[]),
        ("/a;%2F", "/a", &[]),
        ("/plain", "/plain", &[]),
    ] {
        check(raw, Ok(expected));
        let path = NormalPath::parse(raw).unwrap();
        assert_eq!(path.risky().iter().collect::<Vec<_>>(), risky, "{raw}");
    }
    let slash = RiskyBytes::from_iter([Slash]);
    let both = RiskyBytes::from_iter([Slash, Nul]);
    assert!(slash.is_subset_of(both) && RiskyBytes::NONE.is_subset_of(slash) && slash.is_subset_of(slash));
    assert!(!both.is_subset_of(slash) && !RiskyBytes::from_iter([Backslash]).is_subset_of(both));
}

#[test]
fn segments_come_without_the_empty_one_at_the_end() {
    for (raw, segments, trailing) in [
        ("/", &[][..], false),
        ("/a", &["a"], false),
        ("/a/", &["a"], true),
        ("/a/b%2Fc/", &["a", "b%2Fc"], true),
        ("//a//b", &["a", "b"], false),
    ] {
        let path = NormalPath::parse(raw).unwrap();
        assert_eq!(path.segments().collect::<Vec<_>>(), segments, "{raw}");
        assert_eq!(path.has_trailing_slash(), trailing, "{raw}");
    }
}

#[test]
fn segments_are_decoded_and_folded_for_matching() {
    for (segment, decoded, folded) in [
        ("login", "login", "login"),
        ("LogIn", "LogIn", "login"),
        ("a%40b", "a@b", "a@b"),
        ("%C3%89t%C3%A9", "Été", "été"),
        ("a%2Fb", "a/b", "a/b"),
        ("a+b", "a+b", "a+b"),
    ] {
        assert_eq!(decode_segment(segment), decoded);
        assert_eq!(fold_segment(segment), folded);
    }
    assert!(matches!(decode_segment("login"), Cow::Borrowed(_)));
    assert!(matches!(fold_segment("login"), Cow::Borrowed(_)));
}

/// Text made of the pieces that path tricks are made of.
fn tricky_path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "/", "/", ".", "..", "%2e", "%2E", "%2f", "%5C", "%00", ";", ";a=b", "a", "B", "%61", "é",
        "%C3%A9", "%25", "%", "//", "@", "\"", "%3b",
    ]);
    prop::collection::vec(piece, 0..16).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn assert_normal(raw: &str) -> Result<(), TestCaseError> {
    if let Ok(path) = NormalPath::parse(raw) {
        let text = path.as_str();
        prop_assert!(text.starts_with('/') && !text.contains("//") && !text.contains(';'), "{text}");
        prop_assert!(!path.segments().any(|segment| matches!(segment, "." | "..")), "{text}");
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
        prop_assert!(path.segments().all(|segment| !hides_dots(segment)), "{text}");
        prop_assert_eq!(NormalPath::parse(text), Ok(path.clone()));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_text_is_refused_or_brought_to_normal_form(raw in "\\PC{0,64}") {
        assert_normal(&raw)?;
    }

    #[test]
    fn any_trick_is_refused_or_brought_to_normal_form(raw in tricky_path()) {
        assert_normal(&raw)?;
    }
}
