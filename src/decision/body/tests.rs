use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn field(path: &str) -> FieldPath {
    FieldPath::parse(path).unwrap()
}

fn multipart() -> Media {
    Media::Multipart { boundary: "b1".into() }
}

fn read(media: &Media, body: &[u8], path: &str) -> Result<Option<String>, BodyFault> {
    let wanted = field(path);
    Ok(read_fields(media, body, &[&wanted])?.get(&wanted).map(str::to_owned))
}

fn check(media: &Media, body: &str, path: &str, expected: Option<&str>) {
    assert_eq!(read(media, body.as_bytes(), path).as_ref().map(Option::as_deref), Ok(expected), "{body}");
}

/// What a refusal is about, without its details.
#[derive(Debug, PartialEq, Eq)]
enum About {
    Syntax,
    Repeated,
    NotOneValue,
    NotNested,
    Charset,
}

fn about(media: &Media, body: &[u8], path: &str) -> About {
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
fn a_json_field_is_read_as_the_backend_reads_it() {
    for (body, expected) in [
        (r#"{}"#, None),
        (r#" { } "#, None),
        (r#"{"other":1}"#, None),
        (r#"{"email":"a@b"}"#, Some("a@b")),
        ("\t{\r\n \"email\" : \"a@b\" , \"x\" : [ ] }\n", Some("a@b")),
        (r#"{"Email":"a"}"#, Some("a")),
        (r#"{"\u0065mail":"a"}"#, Some("a")),
        (r#"{"email":"\u0061\n\"\\\/\b\f\r\t"}"#, Some("a\n\"\\/\u{8}\u{c}\r\t")),
        (r#"{"email":"\ud83d\ude00"}"#, Some("😀")),
        (r#"{"email":"é"}"#, Some("é")),
        (r#"{"email":""}"#, Some("")),
        (r#"{"email":null}"#, None),
        (r#"{"email":123}"#, Some("123")),
        (r#"{"email":-5}"#, Some("-5")),
        (r#"{"email":0}"#, Some("0")),
        (r#"{"email":9007199254740991}"#, Some("9007199254740991")),
        (r#"{"emails":"x","e_mail":"y","email":"a"}"#, Some("a")),
        (r#"{"x":{"email":"b"},"email":"a","y":[{"email":"c"}]}"#, Some("a")),
        (r#"{"x":{"a":1,"a":2},"email":"a"}"#, Some("a")),
        (r#"{"x":[1.5e+10,-0,true,false,null,"s",{}],"email":"a"}"#, Some("a")),
        (r#"{"x":"{\"email\":\"b\"}","email":"a"}"#, Some("a")),
    ] {
        check(&Media::Json, body, "email", expected);
    }
    for (body, expected) in [
        (r#"{"user":{"email":"a"}}"#, Some("a")),
        (r#"{"User":{"EMAIL":"a"}}"#, Some("a")),
        (r#"{"user":{}}"#, None),
        (r#"{"user":null}"#, None),
        (r#"{"email":"a"}"#, None),
        (r#"{"user":{"email":null}}"#, None),
        (r#"{"email":1,"user":{"name":{"email":2},"email":"a"}}"#, Some("a")),
    ] {
        check(&Media::Json, body, "user.email", expected);
    }
}

#[test]
fn json_that_backends_read_differently_is_refused() {
    for (body, expected) in [
        (r#"{"email":"a","email":"mallory"}"#, About::Repeated),
        (r#"{"email":"a","email":"a"}"#, About::Repeated),
        (r#"{"email":"a","Email":"mallory"}"#, About::Repeated),
        (r#"{"email":"a","\u0065mail":"mallory"}"#, About::Repeated),
        (r#"{"email":"a","ema\u0131l":"mallory"}"#, About::Repeated),
        (r#"{"email":"a","ｅmail":"mallory"}"#, About::Repeated),
        (r#"{"email":null,"email":"mallory"}"#, About::Repeated),
        (r#"{"email":true}"#, About::NotOneValue),
        (r#"{"email":false}"#, About::NotOneValue),
        (r#"{"email":1.0}"#, About::NotOneValue),
        (r#"{"email":1e3}"#, About::NotOneValue),
        (r#"{"email":-0}"#, About::NotOneValue),
        (r#"{"email":["mallory"]}"#, About::NotOneValue),
        (r#"{"email":{"x":"mallory"}}"#, About::NotOneValue),
        (r#"{"email":9007199254740992}"#, About::Syntax),
        (r#"{"email":-9007199254740993}"#, About::Syntax),
        (r#"{"email":99999999999999999999999}"#, About::Syntax),
        (r#"["email"]"#, About::Syntax),
        (r#""email""#, About::Syntax),
        (r#"null"#, About::Syntax),
        (r#" "#, About::Syntax),
        (r#"{"email":"a"} {"email":"mallory"}"#, About::Syntax),
        (r#"{"email":"a"}x"#, About::Syntax),
        (r#"{"email":"a""#, About::Syntax),
        (r#"{"email":"a"#, About::Syntax),
        (r#"{"email":"a",}"#, About::Syntax),
        (r#"{,"email":"a"}"#, About::Syntax),
        (r#"{"email":}"#, About::Syntax),
        (r#"{"email" "a"}"#, About::Syntax),
        (r#"{email:"a"}"#, About::Syntax),
        (r#"{'email':'a'}"#, About::Syntax),
        (r#"{"email":"a"/*,"email":"mallory"*/}"#, About::Syntax),
        ("{\"email\":\"a\"//\n}", About::Syntax),
        (r#"{"email":NaN}"#, About::Syntax),
        (r#"{"x":Infinity,"email":"a"}"#, About::Syntax),
        (r#"{"email":01}"#, About::Syntax),
        (r#"{"email":+1}"#, About::Syntax),
        (r#"{"email":.5}"#, About::Syntax),
        (r#"{"email":1.}"#, About::Syntax),
        (r#"{"email":1e}"#, About::Syntax),
        (r#"{"email":0x10}"#, About::Syntax),
        (r#"{"email":nul}"#, About::Syntax),
        (r#"{"email":nulll}"#, About::Syntax),
        (r#"{"email":"\ud83d"}"#, About::Syntax),
        (r#"{"email":"\ude00\ud83d"}"#, About::Syntax),
        (r#"{"email":"\ud83dx"}"#, About::Syntax),
        (r#"{"email":"\ud83d\u0041"}"#, About::Syntax),
        (r#"{"x":"\ud800","email":"a"}"#, About::Syntax),
        (r#"{"email":"\u00g0"}"#, About::Syntax),
        (r#"{"email":"\u00"}"#, About::Syntax),
        (r#"{"email":"\u+041"}"#, About::Syntax),
        (r#"{"email":"\x41"}"#, About::Syntax),
        (r#"{"email":"\a"}"#, About::Syntax),
        ("{\"email\":\"a\nb\"}", About::Syntax),
        ("{\"email\":\"a\0b\"}", About::Syntax),
        ("{\"email\u{0}\":\"a\"}", About::Syntax),
        (r#"{"email\u0000":"a"}"#, About::Syntax),
        ("\u{feff}{\"email\":\"a\"}", About::Syntax),
        ("{\u{a0}\"email\":\"a\"}", About::Syntax),
        ("{\u{c}\"email\":\"a\"}", About::Syntax),
    ] {
        assert_eq!(about(&Media::Json, body.as_bytes(), "email"), expected, "{body}");
    }
    for body in [&b"{\"email\":\"\xff\"}"[..], b"{\"email\":\"\xed\xa0\x80\"}", b"{\0\"\0e\0", b"\xff\xfe{\0"] {
        assert_eq!(about(&Media::Json, body, "email"), About::Syntax, "{body:?}");
    }
    for (body, expected) in [
        (r#"{"user":"mallory"}"#, About::NotNested),
        (r#"{"user":["mallory"]}"#, About::NotNested),
        (r#"{"user":[{"email":"mallory"}]}"#, About::NotNested),
        (r#"{"user":1}"#, About::NotNested),
        (r#"{"user.email":"mallory"}"#, About::NotNested),
        (r#"{"User.Email":"mallory","user":{"email":"a"}}"#, About::NotNested),
        (r#"{"user":{"email":"a"},"user":{}}"#, About::Repeated),
        (r#"{"user":{"email":"a"},"USER":{"email":"mallory"}}"#, About::Repeated),
        (r#"{"user":{"email":"a","Email":"mallory"}}"#, About::Repeated),
        (r#"{"user":{"email":["mallory"]}}"#, About::NotOneValue),
        (r#"{"user":{"email":{}}}"#, About::NotOneValue),
    ] {
        assert_eq!(about(&Media::Json, body.as_bytes(), "user.email"), expected, "{body}");
    }
}

#[test]
fn json_nests_only_so_deep() {
    let nested = |depth: usize| format!("{{\"x\":{}{},\"email\":\"a\"}}", "[".repeat(depth), "]".repeat(depth));
    check(&Media::Json, &nested(json::DEPTH_MAX - 1), "email", Some("a"));
    assert_eq!(about(&Media::Json, nested(json::DEPTH_MAX).as_bytes(), "email"), About::Syntax);
    assert_eq!(about(&Media::Json, "{\"x\":".repeat(20_000).as_bytes(), "email"), About::Syntax);
    assert_eq!(about(&Media::Json, format!("{{\"x\":{}", "[".repeat(48_000)).as_bytes(), "email"), About::Syntax);
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
    for body in ["user[email]=a", "user%5Bemail%5D=a", "user.email=a", "User[Email]=a", "email=b&user[email]=a"] {
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

/// A part with the given headers, between the usual ones.
fn part(headers: &str, content: &str) -> String {
    format!("--b1\r\n{headers}\r\n\r\n{content}\r\n--b1--\r\n")
}

#[test]
fn a_multipart_field_is_read_as_the_backend_reads_it() {
    let media = multipart();
    for (headers, expected) in [
        ("Content-Disposition: form-data; name=\"email\"", Some("a")),
        ("content-disposition:form-data;name=\"email\"", Some("a")),
        ("CONTENT-DISPOSITION: Form-Data; NAME=\"EMAIL\"", Some("a")),
        ("Content-Disposition: form-data; name=email", Some("a")),
        ("Content-Disposition: form-data; name=\"email\"\r\nContent-Type: text/plain", Some("a")),
        ("Content-Type: text/plain; charset=UTF-8\r\nContent-Disposition: form-data; name=\"email\"", Some("a")),
        ("Content-Disposition: form-data; name=\"email\"\r\nContent-Transfer-Encoding: 8bit", Some("a")),
        ("Content-Disposition: form-data; name=\"email\"\r\nContent-Length: 1", Some("a")),
        ("Content-Disposition: form-data; name=\"emails\"", None),
        ("Content-Disposition: form-data; name=\"file\"; filename=\"x;name=email\"", None),
        ("Content-Disposition: form-data; name=\"file\"; filename*=utf-8''x\r\nContent-Type: image/png", None),
        ("Content-Disposition: form-data; name=\"100%\"", None),
    ] {
        check(&media, &part(headers, "a"), "email", expected);
    }
    let disposition = "Content-Disposition: form-data; name";
    for (body, expected) in [
        ("--b1--", None),
        ("--b1--\r\n", None),
        (&*format!("--b1\r\n{disposition}=\"email\"\r\n\r\na\r\n--b1--"), Some("a")),
        (&format!("--b1\r\n{disposition}=\"email\"\r\n\r\n\r\n--b1--\r\n"), Some("")),
        (&format!("--b1\r\n{disposition}=\"email\"\r\n\r\na\r\n\r\nb\r\n--b1--\r\n"), Some("a\r\n\r\nb")),
        (
            &format!("--b1\r\n{disposition}=\"x\"\r\n\r\n1\r\n--b1\r\n{disposition}=\"email\"\r\n\r\na\r\n--b1--\r\n"),
            Some("a"),
        ),
    ] {
        check(&media, body, "email", expected);
    }
    check(&media, &part(&format!("{disposition}=\"user[email]\""), "a"), "user.email", Some("a"));
    let binary = [&b"--b1\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n\xff\0\n\r\r\n--b1--"[..]];
    assert_eq!(read(&media, &binary.concat(), "email"), Ok(None));
}

#[test]
fn multipart_headers_that_backends_read_differently_are_refused() {
    for headers in [
        "Content-Disposition: form-data",
        "Content-Disposition: form-data; x=\"email\"",
        "Content-Disposition: attachment; name=\"email\"",
        "Content-Disposition: form-data; name=\"x\"; name=\"email\"",
        "Content-Disposition: form-data; name=\"x\"; NAME=\"email\"",
        "Content-Disposition: form-data; name=\"x\"; name*=utf-8''email",
        "Content-Disposition: form-data; name*=utf-8''email",
        "Content-Disposition: form-data; name*0=\"em\"; name*1=\"ail\"",
        "Content-Disposition: form-data; name=\"e\\mail\"",
        "Content-Disposition: form-data; filename=\"\\\"; name=\"email\"",
        "Content-Disposition: form-data; name=\"x\"; filename=\"a\\\"; name=\"email\"",
        "Content-Disposition: form-data; name='email'",
        "Content-Disposition: form-data; x=a'b; name=\"other\"; q=\"'; name=email\"",
        "Content-Disposition: form-data; 'x=a; name=\"other\"",
        "Content-Disposition: form-data; name = \"email\"",
        "Content-Disposition: form-data; name=\"email",
        "Content-Disposition: form-data; name=\"email\"x",
        "Content-Disposition: form-data; name=e mail",
        "Content-Disposition: form-data, name=\"email\"",
        "Content-Disposition: form-data; name=\"%65mail\"",
        "Content-Disposition: form-data; name=\"x%22; name=%22email\"",
        "Content-Disposition: form-data; name=\"=?utf-8?q?email?=\"",
        "Content-Disposition: form-data; name=\"email\"; filename=\"a.txt\"",
        "Content-Disposition: form-data; name=\"email\"; filename=\"\"",
        "Content-Disposition: form-data; name=\"email\"; filename*=utf-8''a",
        "Content-Disposition: form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"email\"",
        "Content-Disposition: form-data; name=\"email\"\r\nContent-Type: application/json",
        "Content-Disposition: form-data; name=\"email\"\r\nContent-Type: text/plain; charset=utf-16",
        "Content-Disposition: form-data; name=\"email\"\r\nContent-Type: text/plain\r\nContent-Type: text/html",
        "Content-Disposition: form-data; name=\"email\"\r\nContent-Transfer-Encoding: base64",
        "Content-Disposition: form-data; name=\"email\"\r\nContent-Transfer-Encoding: quoted-printable",
        "Content-Disposition: form-data;\r\n name=\"email\"",
        "X: y\r\n Content-Disposition: form-data; name=\"email\"",
        "Content-Disposition : form-data; name=\"email\"",
        "Content-Disposition: form-data; name=\"x\"\nContent-Disposition: form-data; name=\"email\"",
        "Content-Disposition: form-data; name=\"x\"\rContent-Disposition: form-data; name=\"email\"",
        "Content-Disposition: form-data; name=\"email\0\"",
        "no header",
        ": x",
        "",
    ] {
        let body = part(headers, "mallory");
        assert_eq!(about(&multipart(), body.as_bytes(), "email"), About::Syntax, "{headers}");
    }
    let disposition = "Content-Disposition: form-data; name=\"email\"";
    let long = format!("X: {}\r\n{disposition}", "y".repeat(multipart::HEADERS_LEN_MAX));
    assert_eq!(about(&multipart(), part(&long, "a").as_bytes(), "email"), About::Syntax);
    let array = disposition.replace("email", "email[]");
    assert_eq!(about(&multipart(), part(&array, "a").as_bytes(), "email"), About::NotOneValue);
    let charset = part(&disposition.replace("email", "_charset_"), "utf-7");
    assert_eq!(about(&multipart(), charset.as_bytes(), "email"), About::Charset);
}

#[test]
fn multipart_bodies_that_backends_split_differently_are_refused() {
    let email = "Content-Disposition: form-data; name=\"email\"\r\n\r\nmallory";
    let other = "Content-Disposition: form-data; name=\"x\"\r\n\r\n1";
    for body in [
        "x".to_owned(),
        "--b1".to_owned(),
        "--b1\r\n".to_owned(),
        "--b2\r\n\r\n--b2--".to_owned(),
        format!("\r\n--b1\r\n{email}\r\n--b1--"),
        format!("preamble\r\n--b1\r\n{email}\r\n--b1--"),
        format!("--b1\r\n{email}\r\n--b1--epilogue"),
        format!("--b1\r\n{email}\r\n--b1--\r\nepilogue"),
        format!("--b1\r\n{other}\r\n--b1--\r\n--b1\r\n{email}\r\n--b1--"),
        format!("--b1\r\n{email}"),
        format!("--b1\r\n{email}\r\n"),
        format!("--b1\r\n{email}\r\n--b1"),
        format!("--b1\r\n{email}\r\n--b1-"),
        format!("--b1\r\n{email}\r\n--b1\r\n"),
        format!("--b1 \r\n{email}\r\n--b1--"),
        format!("--b1\n{email}\n--b1--"),
        format!("--b1\r\n{other}\n--b1\r\n{email}\r\n--b1--"),
        format!("--b1\r\n{other}\r--b1\r\n{email}\r\n--b1--"),
        format!("--b1\r\n{other}--b1\r\n{email}\r\n--b1--"),
        format!("--b1\r\n{other}\r\n--b1\n{email}\r\n--b1--"),
        format!("--b1\r\n{other}\r\n--b1 \r\n{email}\r\n--b1--"),
        format!("--b1\r\n{other}\r\n--b11\r\n{email}\r\n--b1--"),
        format!("--b1\r\n{}\r\n--b1--", email.replace("\r\n\r\n", "\n\n")),
        format!("--b1\r\n{}\r\n--b1--", email.replace("\r\n\r\n", "\r\n")),
        format!("--b1\r\n\r\n{email}\r\n--b1--"),
        format!("--b1\r\n{}\0\r\n--b1--", email),
    ] {
        assert_eq!(about(&multipart(), body.as_bytes(), "email"), About::Syntax, "{body}");
    }
    let twice = format!("--b1\r\n{email}\r\n--b1\r\n{email}\r\n--b1--");
    assert_eq!(about(&multipart(), twice.as_bytes(), "email"), About::Repeated);
    let not_utf8 = [b"--b1\r\n", &email.as_bytes()[..email.len() - 1], b"\xff\r\n--b1--"].concat();
    assert_eq!(about(&multipart(), &not_utf8, "email"), About::Syntax);
    let many = |count: usize| format!("--b1\r\n{other}\r\n").repeat(count) + "--b1--";
    check(&multipart(), &many(multipart::PARTS_MAX), "email", None);
    assert_eq!(about(&multipart(), many(multipart::PARTS_MAX + 1).as_bytes(), "email"), About::Syntax);
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
        ("Multipart/Form-Data; charset=utf-8; Boundary=----WebKitFormBoundaryAbC", boundary("----WebKitFormBoundaryAbC")),
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
    let twice = [json, ("content-encoding", "identity"), ("content-encoding", "deflate")];
    assert_eq!(media_of(&twice), Err(BodyFault::ContentEncoding));
}

/// Text made of the pieces that JSON tricks are made of.
fn tricky_json() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"email\"", "\"Email\"", "\"user\"", "\"user.email\"", "\"a\"", "\"\\u0061\"",
        "\"\\ud800\"", "null", "true", "1", "-0", "1.5", "12345678901234567890", " ", "\\", "\"", "{\"email\":",
        "{\"user\":{\"email\":",
    ]);
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

fn json_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (-1000i64..1000).prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    let name = || prop_oneof![Just("email".to_owned()), Just("user".to_owned()), Just("EMAIL".to_owned()), "\\PC{0,6}"];
    let value = leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::hash_map(name(), inner, 0..4)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    });
    let name = || prop_oneof![Just("email".to_owned()), Just("user".to_owned()), "\\PC{0,6}"];
    prop::collection::hash_map(name(), value, 0..5)
        .prop_map(|members| serde_json::Value::Object(members.into_iter().collect()))
}

/// What a reader that takes the last of several members finds.
fn last_wins(body: &str, path: &FieldPath) -> Option<String> {
    let root: serde_json::Value = serde_json::from_str(body).expect(body);
    let found = path.names().try_fold(&root, |value, name| match value {
        serde_json::Value::Object(members) => {
            members.iter().find(|(known, _)| known.to_lowercase() == name).map(|(_, value)| value)
        }
        _ => None,
    });
    match found? {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

proptest! {
    #[test]
    fn a_value_read_from_json_is_what_serde_json_reads(value in json_value(), nested in any::<bool>()) {
        let path = field(if nested { "user.email" } else { "email" });
        let body = value.to_string();
        if let Ok(fields) = read_fields(&Media::Json, body.as_bytes(), &[&path]) {
            prop_assert_eq!(fields.get(&path).map(str::to_owned), last_wins(&body, &path));
        }
    }

    #[test]
    fn json_that_is_accepted_is_json(body in tricky_json()) {
        for path in ["email", "user.email"].map(field) {
            if let Ok(fields) = read_fields(&Media::Json, body.as_bytes(), &[&path]) {
                if !body.is_empty() {
                    prop_assert_eq!(fields.get(&path).map(str::to_owned), last_wins(&body, &path), "{}", body);
                }
            }
        }
    }

    #[test]
    fn a_plain_object_is_always_read(email in any::<String>(), other in any::<String>()) {
        let body = serde_json::json!({ "email": email, "x": [other, 1.5], "user": { "email": other } });
        let [flat, nested] = ["email", "user.email"].map(field);
        let fields = read_fields(&Media::Json, body.to_string().as_bytes(), &[&flat, &nested]).unwrap();
        prop_assert_eq!(fields.get(&flat), Some(email.as_str()));
        prop_assert_eq!(fields.get(&nested), Some(other.as_str()));
    }

    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..256)) {
        for media in [Media::Json, Media::Form, multipart()] {
            let _ = read(&media, &body, "email");
        }
    }

    #[test]
    fn any_part_is_read_or_refused(head in "[Cc]ontent-Disposition: form-data; name=[\"a-c%;=\\\\ \\r\\n]{0,24}") {
        if let Ok(Some(value)) = read(&multipart(), part(&head, "content").as_bytes(), "a") {
            prop_assert_eq!(value, "content");
        }
    }

    #[test]
    fn any_content_type_is_told_or_refused(content_type in "[ -~]{0,48}") {
        if let Ok(Media::Multipart { boundary }) = media_of(&[("content-type", &content_type)]) {
            prop_assert!(is_boundary(&boundary));
        }
    }
}
