use http::HeaderValue;
use proptest::prelude::*;

use super::*;

pub(super) fn field(path: &str) -> FieldPath {
    FieldPath::parse(path).unwrap()
}

pub(super) fn multipart() -> Media {
    Media::Multipart { boundary: "b1".into() }
}

pub(super) fn read(media: &Media, body: &[u8], path: &str) -> Result<Option<String>, BodyFault> {
    let wanted = field(path);
    Ok(read_fields(media, body, &[&wanted])?.get(&wanted).map(str::to_owned))
}

pub(super) fn check(media: &Media, body: &str, path: &str, expected: Option<&str>) {
    assert_eq!(read(media, body.as_bytes(), path).as_ref().map(Option::as_deref), Ok(expected), "{body}");
}

/// What a refusal is about, without its details.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum About {
    Syntax,
    Repeated,
    NotOneValue,
    NotNested,
    Charset,
}

pub(super) fn about(media: &Media, body: &[u8], path: &str) -> About {
    let fault = read(media, body, path).expect_err(&String::from_utf8_lossy(body));
    let told = fault.to_string();
    assert!(told.ends_with('.') && !told.contains("mallory"), "{told}");
    match fault {
        BodyFault::Repeated(_) => About::Repeated,
        BodyFault::NotOneValue(_) => About::NotOneValue,
        BodyFault::NotNested(_) => About::NotNested,
        BodyFault::Charset => About::Charset,
        other => {
            assert_eq!(other.kind(), BodyFaultKind::Malformed, "{other}");
            About::Syntax
        }
    }
}

#[test]
fn a_form_field_is_read_as_the_backend_reads_it() {
    for (body, expected) in [
        ("x=1", None),
        ("email=a%40b", Some("a@b")),
        ("x=1&email=a+b&y", Some("a b")),
        ("Email=a", Some("a")),
        ("%65mail=a", Some("a")),
        ("+email=a", Some("a")),
        ("email=", Some("")),
        ("email", Some("")),
        ("email=a=b", Some("a=b")),
        ("&&email=a&&", Some("a")),
        ("email=%C3%A9", Some("é")),
        ("email=é", Some("é")),
        ("emails=b&email=a", Some("a")),
        ("user%5Bemail%5D=b&email=a", Some("a")),
        ("_charset_=UTF-8&email=a", Some("a")),
        ("email=a%3Bb", Some("a;b")),
    ] {
        check(&Media::Form, body, "email", expected);
    }
    for body in ["e_mail=a", "e.mail=a", "e+mail=a", "E%20MAIL=a"] {
        check(&Media::Form, body, "e_mail", Some("a"));
    }
    for body in
        ["user[email]=a", "user%5Bemail%5D=a", "user.email=a", "User[Email]=a", "email=b&user[email]=a"]
    {
        check(&Media::Form, body, "user.email", Some("a"));
    }
}

#[test]
fn forms_that_backends_read_differently_are_refused() {
    for (body, expected) in [
        ("email=a&email=mallory", About::Repeated),
        ("email=a&email=a", About::Repeated),
        ("email=a&EMAIL=mallory", About::Repeated),
        ("email=a&%65mail=mallory", About::Repeated),
        ("email=a&+email=mallory", About::Repeated),
        ("email=a&email", About::Repeated),
        ("email=a&ema%C4%B1l=mallory", About::Repeated),
        ("email[]=mallory", About::NotOneValue),
        ("email%5B%5D=mallory", About::NotOneValue),
        ("email[x]=mallory", About::NotOneValue),
        ("email=a&email[0]=mallory", About::NotOneValue),
        ("[email]=mallory", About::NotOneValue),
        ("email]=mallory", About::NotOneValue),
        ("email.0=mallory", About::NotOneValue),
        ("email=a;email=mallory", About::Syntax),
        ("x=1;email=mallory", About::Syntax),
        ("x;&email=a", About::Syntax),
        ("email=%", About::Syntax),
        ("email=%4", About::Syntax),
        ("email=%zz", About::Syntax),
        ("%u0065mail=mallory", About::Syntax),
        ("email=a&x=%", About::Syntax),
        ("email=%00", About::Syntax),
        ("email=a\0", About::Syntax),
        ("email%00x=mallory", About::Syntax),
        ("email=%ff", About::Syntax),
        ("email=a&x=%c0%af", About::Syntax),
        ("email=%ed%a0%80", About::Syntax),
        ("_charset_=utf-16&email=a", About::Charset),
        ("email=a&_charset_=iso-8859-1", About::Charset),
    ] {
        assert_eq!(about(&Media::Form, body.as_bytes(), "email"), expected, "{body}");
    }
    assert_eq!(about(&Media::Form, b"email=\xe9", "email"), About::Syntax);
    assert_eq!(about(&Media::Form, b"e_mail=a&e.mail=mallory", "e_mail"), About::Repeated);
    for (body, expected) in [
        ("user[email]=a&user.email=mallory", About::Repeated),
        ("user[email]=a&user[email]=mallory", About::Repeated),
        ("user=mallory", About::NotOneValue),
        ("user[email]=a&user=mallory", About::NotOneValue),
        ("user[email][]=mallory", About::NotOneValue),
        ("user[][email]=mallory", About::NotOneValue),
        ("user[email=mallory", About::NotOneValue),
    ] {
        assert_eq!(about(&Media::Form, body.as_bytes(), "user.email"), expected, "{body}");
    }
}

#[test]
fn a_form_that_looks_like_json_is_refused() {
    for body in [r#"{"email":"mallory"}"#, " \r\n{}", "\u{feff}{", "{\"email\":[&email=a"] {
        let fault = read(&Media::Form, body.as_bytes(), "email").unwrap_err();
        assert_eq!((&fault, fault.kind()), (&BodyFault::JsonAsForm, BodyFaultKind::Unsupported), "{body}");
    }
    check(&Media::Form, "x={}&email=a", "email", Some("a"));
}

#[test]
fn several_fields_are_read_at_once() {
    let [email, phone, nested] = ["email", "phone", "user.name"].map(field);
    let wanted = [&email, &phone, &nested];
    let json = br#"{"phone":1,"user":{"name":"n"},"email":"e"}"#;
    let form = b"phone=1&user[name]=n&email=e";
    for (media, body) in [(Media::Json, &json[..]), (Media::Form, form)] {
        let fields = read_fields(&media, body, &wanted).unwrap();
        assert_eq!(fields.get(&email), Some("e"));
        assert_eq!(fields.get(&phone), Some("1"));
        assert_eq!(fields.get(&nested), Some("n"));
        assert_eq!(fields.get(&field("user")), None);
        assert_eq!(format!("{fields:?}").matches("\"n\"").count(), 0);
    }
    for media in [Media::Json, Media::Form, multipart()] {
        assert_eq!(read_fields(&media, b"", &wanted).unwrap().get(&email), None);
    }
    // The same parent, and the same field twice, are no repetition.
    let [first, last] = ["user.first", "user.last"].map(field);
    let fields = read_fields(&Media::Json, br#"{"user":{"first":"a","last":"b"}}"#, &[&first, &last, &first]);
    let fields = fields.unwrap();
    assert_eq!((fields.get(&first), fields.get(&last)), (Some("a"), Some("b")));
}

fn media_of(lines: &[(&'static str, &str)]) -> Result<Media, BodyFault> {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    Media::of(&headers)
}

#[test]
fn the_media_type_is_told_from_the_headers() {
    let boundary = |boundary: &str| Media::Multipart { boundary: boundary.into() };
    for (content_type, expected) in [
        ("application/json", Media::Json),
        ("Application/JSON", Media::Json),
        ("application/json; charset=utf-8", Media::Json),
        ("application/json;charset=\"UTF-8\"", Media::Json),
        ("application/json ; charset=utf8", Media::Json),
        ("application/json;", Media::Json),
        ("application/vnd.api+json", Media::Json),
        ("application/problem+json; profile=\"a b\"", Media::Json),
        ("application/x-www-form-urlencoded", Media::Form),
        ("application/x-www-form-urlencoded; charset=UTF-8", Media::Form),
        ("multipart/form-data; boundary=b1", boundary("b1")),
        ("multipart/form-data; boundary=\"b:1\"", boundary("b:1")),
        (
            "Multipart/Form-Data; charset=utf-8; Boundary=----WebKitFormBoundaryAbC",
            boundary("----WebKitFormBoundaryAbC"),
        ),
    ] {
        assert_eq!(media_of(&[("content-type", content_type)]), Ok(expected), "{content_type}");
    }
    let json = ("content-type", "application/json");
    assert_eq!(media_of(&[json, ("content-encoding", "identity")]), Ok(Media::Json));
    assert_eq!(media_of(&[json, ("content-encoding", "")]), Ok(Media::Json));
}

#[test]
fn a_media_type_that_is_not_read_is_unsupported() {
    let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
    for (content_type, expected) in [
        ("", BodyFault::ContentType),
        ("json", BodyFault::ContentType),
        ("text/plain", BodyFault::ContentType),
        ("text/json", BodyFault::ContentType),
        ("application/xml", BodyFault::ContentType),
        ("application/jsonp", BodyFault::ContentType),
        ("application/+json", BodyFault::ContentType),
        ("application/x y+json", BodyFault::ContentType),
        ("application/json, text/plain", BodyFault::ContentType),
        ("application/json, application/json", BodyFault::ContentType),
        ("text/plain; x=application/json", BodyFault::ContentType),
        ("application/json; boundary=b1", BodyFault::ContentType),
        ("application/x-www-form-urlencoded; boundary=b1", BodyFault::ContentType),
        ("application/json; charset=utf-8; charset=utf-16", BodyFault::ContentType),
        ("application/json; charset=utf-8; CHARSET=utf-8", BodyFault::ContentType),
        ("application/json; charset", BodyFault::ContentType),
        ("application/json; charset =utf-8", BodyFault::ContentType),
        ("application/json; charset=utf-8 x", BodyFault::ContentType),
        ("application/json; charset=\"utf-8", BodyFault::ContentType),
        ("application/json; charset='utf-8'", BodyFault::ContentType),
        ("application/json; charset=\"utf\\-8\"", BodyFault::ContentType),
        ("application/json; charset=utf-16", BodyFault::Charset),
        ("application/json; charset=utf-8x", BodyFault::Charset),
        ("application/x-www-form-urlencoded; charset=iso-8859-1", BodyFault::Charset),
        ("multipart/form-data; charset=utf-7; boundary=b1", BodyFault::Charset),
        ("multipart/form-data", BodyFault::Boundary),
        ("multipart/form-data; boundary=\"\"", BodyFault::Boundary),
        ("multipart/form-data; boundary=\"b \"", BodyFault::Boundary),
        ("multipart/form-data; boundary=\"b;1\"", BodyFault::Boundary),
        (&long, BodyFault::Boundary),
        ("multipart/form-data; boundary=", BodyFault::ContentType),
        ("multipart/form-data; boundary=b1; boundary=b2", BodyFault::ContentType),
        ("multipart/form-data; boundary=b1,b2", BodyFault::ContentType),
        ("multipart/mixed; boundary=b1", BodyFault::ContentType),
    ] {
        let fault = media_of(&[("content-type", content_type)]).expect_err(content_type);
        assert_eq!(fault, expected, "{content_type}");
        assert_eq!(fault.kind(), BodyFaultKind::Unsupported);
    }
    let json = ("content-type", "application/json");
    assert_eq!(media_of(&[]), Err(BodyFault::NoContentType));
    assert_eq!(media_of(&[json, json]), Err(BodyFault::SeveralContentTypes));
    for encoding in ["gzip", "identity, gzip", "br", "GZIP", "x"] {
        assert_eq!(media_of(&[json, ("content-encoding", encoding)]), Err(BodyFault::ContentEncoding));
    }
    for coding in ["gzip, chunked", "gzip", "identity", "chunked, chunked"] {
        assert_eq!(media_of(&[json, ("transfer-encoding", coding)]), Err(BodyFault::TransferCoding));
    }
    assert_eq!(media_of(&[json, ("transfer-encoding", "Chunked")]), Ok(Media::Json));
    let twice = [json, ("content-encoding", "identity"), ("content-encoding", "deflate")];
    assert_eq!(media_of(&twice), Err(BodyFault::ContentEncoding));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..256)) {
        for media in [Media::Json, Media::Form, multipart()] {
            let _ = read(&media, &body, "email");
        }
    }

    #[test]
    fn any_content_type_is_told_or_refused(content_type in "[ -~]{0,48}") {
        if let Ok(Media::Multipart { boundary }) = media_of(&[("content-type", &content_type)]) {
            prop_assert!(is_boundary(&boundary));
        }
    }
}
