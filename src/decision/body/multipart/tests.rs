use proptest::prelude::*;

use super::*;
use crate::decision::body::tests::{About, about, check, multipart, read};

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
        (
            "Content-Type: text/plain; charset=UTF-8\r\nContent-Disposition: form-data; name=\"email\"",
            Some("a"),
        ),
        ("Content-Disposition: form-data; name=\"email\"\r\nContent-Transfer-Encoding: 8bit", Some("a")),
        ("Content-Disposition: form-data; name=\"email\"\r\nContent-Length: 1", Some("a")),
        ("Content-Disposition: form-data; name=\"emails\"", None),
        ("Content-Disposition: form-data; name=\"file\"; filename=\"x;name=email\"", None),
        (
            "Content-Disposition: form-data; name=\"file\"; filename*=utf-8''x\r\nContent-Type: image/png",
            None,
        ),
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
            &format!(
                "--b1\r\n{disposition}=\"x\"\r\n\r\n1\r\n--b1\r\n{disposition}=\"email\"\r\n\r\na\r\n--b1--\r\n"
            ),
            Some("a"),
        ),
    ] {
        check(&media, body, "email", expected);
    }
    check(&media, &part(&format!("{disposition}=\"user[email]\""), "a"), "user.email", Some("a"));
    let binary =
        [&b"--b1\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n\xff\0\n\r\r\n--b1--"
            [..]];
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
    let long = format!("X: {}\r\n{disposition}", "y".repeat(HEADERS_LEN_MAX));
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
    check(&multipart(), &many(PARTS_MAX), "email", None);
    assert_eq!(about(&multipart(), many(PARTS_MAX + 1).as_bytes(), "email"), About::Syntax);
}

proptest! {
    #[test]
    fn any_part_is_read_or_refused(head in "[Cc]ontent-Disposition: form-data; name=[\"a-c%;=\\\\ \\r\\n]{0,24}") {
        if let Ok(Some(value)) = read(&multipart(), part(&head, "content").as_bytes(), "a") {
            prop_assert!(value.ends_with("content"), "{}", value);
        }
    }
}
