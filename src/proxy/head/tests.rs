use proptest::prelude::*;

use super::*;
use crate::decision::time::Span;

const LIMITS: ClientLimits = ClientLimits {
    connections: 1,
    connections_per_ip: 1,
    header_timeout: Span::from_secs(10),
    idle_timeout: Span::from_secs(60),
    body_rate: 250,
    header_fields: 8,
    header_bytes: 256,
    uri_bytes: 64,
};

type Verdict = Result<Option<Whole>, Fault>;

/// Shows the head in parts that end at `cuts`, until the verdict is there.
fn in_parts(head: &[u8], cuts: &[usize]) -> Verdict {
    let mut check = HeadCheck::default();
    for end in cuts.iter().copied().chain([head.len()]) {
        let verdict = check.look(&head[..end], &LIMITS);
        if verdict != Ok(None) {
            return verdict;
        }
    }
    Ok(None)
}

fn judged(head: &[u8]) -> Verdict {
    in_parts(head, &[])
}

/// The faults of all these heads are the one told.
fn all(fault: Fault, heads: &[&str]) {
    for head in heads {
        let whole = format!("{head}\r\n\r\n");
        assert_eq!(judged(whole.as_bytes()), Err(fault), "{whole:?}");
    }
}

const HOST: &str = "GET / HTTP/1.1\r\nHost: h\r\n";

fn all_with(fault: Fault, fields: &[&str]) {
    for field in fields {
        all(fault, &[&format!("{HOST}{field}")]);
    }
}

#[test]
fn a_sound_head_is_told_with_what_follows_it() {
    let whole = |head: &str, body: Body| {
        let verdict = judged(format!("{head}\r\n\r\nrest").as_bytes());
        assert_eq!(verdict, Ok(Some(Whole { length: head.len() + 4, body })), "{head:?}");
    };
    whole("GET / HTTP/1.1\r\nHost: h", Body::of_length(0));
    whole("\r\nGET / HTTP/1.1\r\nHost: h", Body::of_length(0));
    whole("GET / HTTP/1.0", Body::of_length(0));
    whole("OPTIONS * HTTP/1.1\r\nhost:[::1]:80", Body::of_length(0));
    whole("GET HTTP://a.b:80/x?y HTTP/1.1\r\nX: 1\r\nHOST:\ta.b:80 ", Body::of_length(0));
    whole("POST /caf\u{e9} HTTP/1.1\r\nHost: h\r\nContent-Length: 120", Body::of_length(120));
    whole("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\t", Body::chunked(Trailers::Judged));
    whole("GET / HTTP/1.1\r\nHost: h\r\nX: \r\nY: a\tb\u{e9}", Body::of_length(0));
    for behind in ["", "\r\nContent-Length: 2", "\r\nTransfer-Encoding: chunked"] {
        whole(&format!("CONNECT h:443 HTTP/1.1\r\nHost: h{behind}"), Body::endless());
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    all(
        Fault::RequestLine,
        &["GET", "\x16\x03\x01", " GET / HTTP/1.1", "G\u{e9}T / HTTP/1.1", "G(T / HTTP/1.1"],
    );
    all(Fault::Version, &["GET /", "GET / HTTP/2.0", "GET / HTTP/1.2", "GET / http/1.1", "GET / HTTP/1.1 "]);
    all(
        Fault::Target,
        &["GET  HTTP/1.1", "GET /a b HTTP/1.1", "GET /\t HTTP/1.1", "GET  / HTTP/1.1", "GET x HTTP/1.1"],
    );
    all(
        Fault::Target,
        &[
            "GET http://a@h/ HTTP/1.1",
            "GET ftp://h/ HTTP/1.1",
            "GET http:///x HTTP/1.1",
            "GET /\x7f HTTP/1.1",
        ],
    );
    all(Fault::Host, &["GET / HTTP/1.1", "GET / HTTP/1.1\r\nHost:", "GET http://h/ HTTP/1.1\r\nHost: g"]);
    all(
        Fault::Host,
        &["GET / HTTP/1.1\r\nHost: a, b", "GET / HTTP/1.1\r\nHost: a@b", "GET / HTTP/1.1\r\nHost: a:b"],
    );
    all_with(Fault::Host, &["Host: h", "host: h"]);
    all_with(Fault::Folded, &[" folded", "X: a\r\n b", "\tX: a"]);
    all_with(Fault::FieldName, &["X", "X : 1", ": 1", "X\0: 1", "X\u{e9}: 1", "X Y: 1"]);
    all_with(Fault::FieldValue, &["X: a\0b", "X: a\rb", "X: \x1b", "X: \x7f"]);
    all_with(Fault::ContentLength, &["Content-Length: 1\r\nContent-Length: 1", "Content-Length: 1, 1"]);
    all_with(Fault::ContentLength, &["Content-Length: +1", "Content-Length: 0x1", "Content-Length: 01"]);
    all_with(
        Fault::ContentLength,
        &["Content-Length:", "Content-Length: 1 1", "content_length: 1", "Content-Length: -1"],
    );
    all_with(Fault::ContentLength, &["Content-Length: 18446744073709551616"]);
    all_with(Fault::TransferEncoding, &["Transfer-Encoding: identity", "Transfer-Encoding: gzip, chunked"]);
    all_with(
        Fault::TransferEncoding,
        &["Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer_Encoding: chunked"],
    );
    all_with(Fault::TwoFramings, &["Content-Length: 1\r\nTransfer-Encoding: chunked"]);
    all(Fault::TransferEncoding, &["GET / HTTP/1.0\r\nTransfer-Encoding: chunked"]);
}

#[test]
fn no_control_character_hides_among_others() {
    for length in 0..40 {
        for byte in 0..=255u8 {
            let value: Vec<u8> =
                (0..length).map(|at| if at == length / 2 { byte } else { b"a\xe9 \x80~"[at % 5] }).collect();
            let head = [HOST.as_bytes(), b"X:", &value, b"\r\n\r\n"].concat();
            let is_control = length > 0 && (byte < 0x20 && byte != b'\t' || byte == 0x7f);
            assert_eq!(judged(&head).is_err(), is_control, "{}", head.escape_ascii());
        }
    }
}

#[test]
fn a_line_ends_in_both_of_its_bytes() {
    for head in [
        "GET / HTTP/1.1\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
        "\n",
    ] {
        assert_eq!(judged(head.as_bytes()), Err(Fault::LineEnd), "{head:?}");
    }
}

#[test]
fn limits_hold_before_the_end_is_there() {
    let long = "a".repeat(200);
    assert_eq!(judged(format!("GET /{long}").as_bytes()), Err(Fault::UriTooLong));
    assert_eq!(
        judged(format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", &long[..64]).as_bytes()),
        Err(Fault::UriTooLong)
    );
    assert!(judged(format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", &long[..63]).as_bytes()).is_ok());
    assert_eq!(judged(format!("{HOST}X: {long}{long}").as_bytes()), Err(Fault::FieldsTooLarge));
    let many = "X: 1\r\n".repeat(7);
    assert_eq!(judged(format!("{HOST}{many}").as_bytes()), Ok(None));
    assert_eq!(judged(format!("{HOST}{many}X: 1\r\n").as_bytes()), Err(Fault::TooManyFields));
}

/// Passes a body in parts of this size; what became of it, and how many bytes were taken with the last part.
fn body_in_parts(mut body: Body, bytes: &[u8], part: usize) -> Result<Passed, Fault> {
    for bytes in bytes.chunks(part) {
        let passed = body.pass(bytes)?;
        if passed != Passed::All {
            return Ok(passed);
        }
    }
    Ok(Passed::All)
}

const END: Passed = Passed::ToTheEnd { behind: 0 };

#[test]
fn what_stands_behind_a_body_is_counted() {
    let chunked = || Body::chunked(Trailers::Judged);
    assert_eq!(Body::of_length(3).pass(b"abcde"), Ok(Passed::ToTheEnd { behind: 2 }));
    assert_eq!(Body::of_length(5).pass(b"abcde"), Ok(END));
    assert_eq!(Body::of_length(6).pass(b"abcde"), Ok(Passed::All));
    assert_eq!(Body::endless().pass(b"abcde"), Ok(Passed::All));
    assert_eq!(chunked().pass(b"1\r\na\r\n0\r\nX: y\r\n\r\nHTTP"), Ok(Passed::ToTheEnd { behind: 4 }));
}

#[test]
fn what_a_backend_says_behind_its_answer_is_its_own() {
    let trailers = b"0\r\nContent-MD5: x\r\n\r\n";
    assert_eq!(Body::chunked(Trailers::Trusted).pass(trailers), Ok(END));
    assert_eq!(Body::chunked(Trailers::Judged).pass(trailers), Err(Fault::Trailer));
    let endless = format!("0\r\n{}", "X: 1\r\n".repeat(2000));
    assert_eq!(Body::chunked(Trailers::Trusted).pass(endless.as_bytes()), Err(Fault::FieldsTooLarge));
}

#[test]
fn chunks_are_read_strictly_however_they_come() {
    for (body, fate) in [
        ("0\r\n\r\n", Ok(END)),
        ("3\r\nabc\r\n00\r\n\r\n", Ok(END)),
        ("A;x=\"y\"; z\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n", Ok(END)),
        ("3\r\nabc\r\n", Ok(Passed::All)),
        ("3\r\nabcd\r\n", Err(Fault::Chunk)),
        ("3\nabc\r\n", Err(Fault::Chunk)),
        ("3\r\nabc\n", Err(Fault::Chunk)),
        ("3;x\nabc\r\n", Err(Fault::Chunk)),
        ("3;\0\r\n", Err(Fault::Chunk)),
        ("3 \r\nabc\r\n", Err(Fault::Chunk)),
        (" 3\r\nabc\r\n", Err(Fault::Chunk)),
        ("\r\n3\r\nabc\r\n", Err(Fault::Chunk)),
        ("0x3\r\nabc\r\n", Err(Fault::Chunk)),
        ("-3\r\n", Err(Fault::Chunk)),
        ("+3\r\n", Err(Fault::Chunk)),
        (";x\r\n", Err(Fault::Chunk)),
        ("1000000000000000\r\n", Err(Fault::Chunk)),
        ("0\r\n\n", Err(Fault::LineEnd)),
        ("0\r\nX : 1\r\n\r\n", Err(Fault::FieldName)),
        ("0\r\nX: 1\r\n 2\r\n\r\n", Err(Fault::Folded)),
        ("0\r\nContent-Length: 3\r\n\r\n", Err(Fault::Trailer)),
        ("0\r\nTransfer_Encoding: x\r\n\r\n", Err(Fault::Trailer)),
        ("0\r\nX-Forwarded-For: 1\r\n\r\n", Err(Fault::Trailer)),
        ("0\r\nauthorization: 1\r\n\r\n", Err(Fault::Trailer)),
    ] {
        for part in 1..=body.len() {
            assert_eq!(
                body_in_parts(Body::chunked(Trailers::Judged), body.as_bytes(), part),
                fate,
                "{body:?} by {part}"
            );
        }
    }
    let endless = format!("3;{}", "x".repeat(300));
    assert_eq!(body_in_parts(Body::chunked(Trailers::Judged), endless.as_bytes(), 7), Err(Fault::Chunk));
    let trailers = format!("0\r\n{}", "X: 1\r\n".repeat(2000));
    assert_eq!(
        body_in_parts(Body::chunked(Trailers::Judged), trailers.as_bytes(), 7),
        Err(Fault::FieldsTooLarge)
    );
}

#[test]
fn every_answer_is_a_whole_message() {
    for fault in Fault::ALL {
        let answer = fault.answer();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{answer}");
        assert!(head.contains("Connection: close"), "{answer}");
        assert!(serde_json::from_str::<serde_json::Value>(body).unwrap()["detail"].is_string(), "{answer}");
    }
}

/// Lines that are sound, strange and broken, in any order.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("Host: h"),
        Just("Content-Length: 5"),
        Just("Transfer-Encoding: chunked"),
        Just("X: 1"),
        Just("X : 1"),
        Just(" X: 1"),
        Just("A-Long-Name-Of-A-Field: with a value that takes some room, again and again and again"),
        Just("X: a\0"),
        Just(""),
    ];
    let start = prop_oneof![
        Just("GET / HTTP/1.1"),
        Just("POST http://h/x HTTP/1.1"),
        Just("\r\nGET / HTTP/1.0"),
        Just("\x16\x03"),
        Just(
            "GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa HTTP/1.1"
        ),
    ];
    let end = prop_oneof![9 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\r\r\n")];
    (start, prop::collection::vec((line, end), 0..12)).prop_map(|(start, lines)| {
        let lines: String = lines.into_iter().map(|(line, end)| format!("{line}{end}")).collect();
        format!("{start}\r\n{lines}\r\n").into_bytes()
    })
}

proptest! {
    #[test]
    fn a_verdict_does_not_depend_on_where_the_bytes_are_cut(
        head in heads(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(head.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(in_parts(&head, &cuts), judged(&head));
        let each: Vec<usize> = (0..head.len()).collect();
        prop_assert_eq!(in_parts(&head, &each), judged(&head));
    }

    /// Whatever is let in, a strict and independent parser reads alike.
    #[test]
    fn what_is_let_in_another_parser_reads_alike(head in prop::collection::vec(any::<u8>(), 0..120), sound in heads(), at in any::<prop::sample::Index>()) {
        let mut spoiled = sound;
        let at = at.index(spoiled.len());
        spoiled.splice(at..at, head.into_iter().take(2));
        if let Ok(Some(whole)) = judged(&spoiled) {
            let mut fields = [httparse::EMPTY_HEADER; 16];
            let mut request = httparse::Request::new(&mut fields);
            prop_assert_eq!(request.parse(&spoiled).unwrap(), httparse::Status::Complete(whole.length));
        }
    }
}
