//! Requests that are malformed, of which the backend must see nothing: RFC 9113 §8.

use super::{GoAway, Outcome, PROTOCOL, Reset, Row, Status, row};
use crate::harness::h2::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, begun, fields, frame};

/// What the RFC asks for: an error of the stream, of the connection, or an answer that says so (§8.1.1).
const MALFORMED: &[Outcome] = &[Reset(PROTOCOL), GoAway(PROTOCOL), Status(400)];

type Field = (&'static str, &'static str);
const METHOD: Field = (":method", "GET");
const SCHEME: Field = (":scheme", "http");
const AUTHORITY: Field = (":authority", "h");
const PATH: Field = (":path", "/unseen");

pub(super) fn rows() -> Vec<Row> {
    [sequence(), names_and_values(), of_connections(), pseudo(), targets(), lengths()]
        .into_iter()
        .flatten()
        .collect()
}

fn whole(list: &[Field]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(list))
}

fn malformed(rule: &'static str, list: &[Field]) -> Row {
    row(rule, whole(list), MALFORMED)
}

/// A sound request and these fields, which make it malformed.
fn with(rule: &'static str, extra: &[Field]) -> Row {
    malformed(rule, &[&[METHOD, SCHEME, AUTHORITY, PATH], extra].concat())
}

/// A sound request, which these fields leave so.
fn sound(rule: &'static str, extra: &[Field]) -> Row {
    row(rule, whole(&[&[METHOD, SCHEME, AUTHORITY, (":path", "/")], extra].concat()), &[Status(200)])
}

fn sequence() -> Vec<Row> {
    let behind = |flags: u8, field: Field| {
        let trailers = frame(HEADERS, END_HEADERS | flags, 1, &fields(&[field]));
        [begun(1, "/trailers"), frame(DATA, 0, 1, b"x"), trailers].concat()
    };
    vec![
        row("8.1: trailers", behind(END_STREAM, ("x-sum", "1")), &[Status(200)]),
        row("8.1: trailers without an end", behind(0, ("x-sum", "1")), MALFORMED),
        row("8.1: a pseudo field among trailers", behind(END_STREAM, PATH), MALFORMED).departs(
            Status(200),
            "the h2 crate drops it, and hands out the other trailers: nobody else ever sees it",
        ),
        row("8.1: a name in capitals among trailers", behind(END_STREAM, ("X-Sum", "1")), MALFORMED),
    ]
}

fn names_and_values() -> Vec<Row> {
    vec![
        with("8.2.1: a name in capitals", &[("X-Name", "1")]),
        with("8.2.1: a name with a space", &[("x name", "1")]),
        with("8.2.1: a name with a colon", &[("x:name", "1")]),
        with("8.2.1: a name with a control character", &[("x\x07", "1")]),
        with("8.2.1: a name beyond ASCII", &[("x\u{e9}", "1")]),
        with("8.2.1: no name", &[("", "1")]),
        with("8.2.1: a value with a line feed", &[("x", "a\nb: c")]),
        with("8.2.1: a value with a carriage return", &[("x", "a\rb")]),
        with("8.2.1: a value with a zero byte", &[("x", "a\0b")]),
        with("8.2.1: a value that begins with a space", &[("x", " a")]),
        with("8.2.1: a value that ends with a tab", &[("x", "a\t")]),
        sound("8.2.1: a value with a space inside", &[("x", "a b")]),
        sound("8.2.1: no value", &[("x", "")]),
    ]
}

fn of_connections() -> Vec<Row> {
    vec![
        with("8.2.2: connection", &[("connection", "keep-alive")]),
        with("8.2.2: keep-alive", &[("keep-alive", "timeout=5")]),
        with("8.2.2: proxy-connection", &[("proxy-connection", "keep-alive")]),
        with("8.2.2: transfer-encoding", &[("transfer-encoding", "chunked")]),
        with("8.2.2: upgrade", &[("upgrade", "websocket")]),
        with("8.2.2: te", &[("te", "gzip")]),
        with("8.2.2: te with trailers and more", &[("te", "trailers, deflate")]),
        sound("8.2.2: te with trailers", &[("te", "trailers")]),
        sound("8.2.3: cookies one a field", &[("cookie", "a=1"), ("cookie", "b=2")]),
    ]
}

fn pseudo() -> Vec<Row> {
    let host = whole(&[METHOD, SCHEME, (":path", "/"), ("host", "h")]);
    vec![
        malformed("8.3: an unknown one", &[METHOD, SCHEME, AUTHORITY, PATH, (":unknown", "1")]),
        malformed("8.3: one of answers", &[METHOD, SCHEME, AUTHORITY, PATH, (":status", "200")]),
        malformed("8.3: one behind others", &[METHOD, SCHEME, AUTHORITY, ("x", "1"), PATH]),
        with("8.3: two methods", &[METHOD]),
        with("8.3: two schemes", &[SCHEME]),
        with("8.3: two paths", &[PATH]),
        with("8.3: two authorities", &[AUTHORITY]),
        malformed("8.3.1: two methods at the begin", &[METHOD, METHOD, SCHEME, AUTHORITY, PATH]),
        malformed("8.3.1: no method", &[SCHEME, AUTHORITY, PATH]),
        malformed("8.3.1: no scheme", &[METHOD, AUTHORITY, PATH]),
        malformed("8.3.1: no path", &[METHOD, SCHEME, AUTHORITY]),
        malformed("8.3.1: no authority", &[METHOD, SCHEME, PATH]),
        row("8.3.1: a host in its place", host, &[Status(200)]),
        malformed("8.3.1: a path that is empty", &[METHOD, SCHEME, AUTHORITY, (":path", "")]),
        malformed("8.3.1: a method that is none", &[(":method", "GE T"), SCHEME, AUTHORITY, PATH]),
        malformed("8.3.1: a method that is empty", &[(":method", ""), SCHEME, AUTHORITY, PATH]),
        malformed("8.3.1: a scheme that is none", &[METHOD, (":scheme", "h ttp"), AUTHORITY, PATH]),
        with("8.3.1: a host that says otherwise", &[("host", "other")]),
        malformed("8.3.1: userinfo", &[METHOD, SCHEME, (":authority", "user@h"), PATH]),
        malformed("8.3.1: an authority with a space", &[METHOD, SCHEME, (":authority", "h h"), PATH]),
    ]
}

fn targets() -> Vec<Row> {
    const NOT_SERVED: &[Outcome] = &[Status(400), Status(405), Status(501)];
    let path = |rule, path| malformed(rule, &[METHOD, SCHEME, AUTHORITY, (":path", path)]);
    let connect = whole(&[(":method", "CONNECT"), (":authority", "h:443")]);
    vec![
        path("8.3.1: a path without a slash", "unseen"),
        path("8.3.1: a whole URI for a path", "http://h/unseen"),
        path("8.3.1: an asterisk for another method than OPTIONS", "*"),
        path("8.3.1: a path with a line feed", "/unseen\nx: y"),
        path("8.3.1: a path with a space", "/unseen b"),
        path("8.3.1: a path with a fragment", "/cut#b").departs(
            Status(200),
            "the http crate drops it: what is counted by is what the backend reads, and holds none",
        ),
        malformed("8.5: CONNECT with a path", &[(":method", "CONNECT"), SCHEME, AUTHORITY, PATH]),
        malformed(
            "8441 3: a protocol that nobody offered",
            &[(":method", "CONNECT"), (":protocol", "websocket"), SCHEME, AUTHORITY, PATH],
        ),
        row("8.5: CONNECT, which is not for a gateway", connect, NOT_SERVED),
    ]
}

fn lengths() -> Vec<Row> {
    let post = |path: &'static str, length: &'static str, bodies: &[&[u8]]| {
        let list = [(":method", "POST"), SCHEME, AUTHORITY, (":path", path), ("content-length", length)];
        let mut bytes = frame(HEADERS, END_HEADERS, 1, &fields(&list));
        for (number, body) in bodies.iter().enumerate() {
            let flags = if number + 1 == bodies.len() { END_STREAM } else { 0 };
            bytes.extend(frame(DATA, flags, 1, body));
        }
        bytes
    };
    vec![
        row("8.1.1: a length that is kept", post("/", "4", &[b"ab", b"cd"]), &[Status(200)]),
        row("8.1.1: less than that", post("/cut-off", "5", &[b"abcd"]), MALFORMED),
        row("8.1.1: more than that", post("/cut-off", "3", &[b"abcd"]), MALFORMED),
        row("8.1.1: more in several", post("/cut-off", "3", &[b"ab", b"cd"]), MALFORMED),
        with("8.1.1: a length and nothing", &[("content-length", "5")]),
        with("8.1.1: a length that is none", &[("content-length", "five")]),
        with("8.1.1: a length with a sign", &[("content-length", "+0")]),
        with("8.1.1: two lengths", &[("content-length", "0"), ("content-length", "1")]),
    ]
}
