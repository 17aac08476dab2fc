use http::HeaderName;

use super::*;

const ASKED: Expected<'static> = Expected { is_head: false, id: None, tells_hsts: false };

fn read(text: &str) -> Head {
    Head::read(text.as_bytes(), &ASKED).unwrap().expect("a whole head")
}

fn fault(text: &str) -> Fault {
    Head::read(text.as_bytes(), &ASKED).expect_err(text)
}

/// The fields that go on.
fn lines(head: &Head) -> String {
    String::from_utf8(head.lines.clone()).unwrap()
}

fn length(of: u64) -> Extent {
    Extent::Body(Body::of_length(of))
}

fn chunked() -> Extent {
    Extent::Body(Body::chunked(Trailers::Trusted))
}

#[test]
fn an_answer_goes_as_far_as_it_says() {
    for (text, extent, is_kept) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", length(5), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Extent::Head, true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\nContent-Length: 5\r\n\r\n", length(5), true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", chunked(), true),
        ("HTTP/1.1 200 OK\r\n\r\n", Extent::Close, false),
        ("HTTP/1.1 204 No Content\r\n\r\n", Extent::Head, true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", Extent::Head, true),
        ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", Extent::Head, true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Close\r\n\r\n", length(5), false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", length(5), false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", length(5), true),
        // Which of the two the backend means it may not know itself.
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", chunked(), false),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n", chunked(), false),
    ] {
        let head = read(text);
        assert_eq!((head.extent, head.is_kept, head.length), (extent, is_kept, text.len()), "{text}");
    }
    let to_head = Expected { is_head: true, ..ASKED };
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let head = Head::read(text.as_bytes(), &to_head).unwrap().unwrap();
    assert_eq!((head.extent, head.is_kept), (Extent::Head, true));
    let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let head = Head::read(text.as_bytes(), &to_head).unwrap().unwrap();
    assert_eq!((&head.extent, head.is_kept), (&Extent::Head, true));
    assert!(lines(&head).contains("chunked"));
    assert!(
        !lines(&read("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n")).contains("chunked")
    );
}

#[test]
fn what_cannot_be_read_in_one_way_is_refused() {
    for (text, told) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", Fault::ContentLength),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n", Fault::ContentLength),
        ("HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", Fault::ContentLength),
        ("HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", Fault::ContentLength),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", Fault::ContentLength),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Fault::TransferEncoding),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            Fault::TransferEncoding,
        ),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Fault::Upgrade),
        ("HTTP/1.1 99 No\r\n\r\n", Fault::Malformed),
        ("SSH-2.0-OpenSSH\r\n\r\n", Fault::Malformed),
        ("HTTP/1.1 200 OK\r\nA\0: b\r\n\r\n", Fault::Malformed),
        ("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", Fault::Malformed),
    ] {
        assert_eq!(fault(text), told, "{text}");
    }
    let many = "A: b\r\n".repeat(FIELDS_MAX + 1);
    assert_eq!(fault(&format!("HTTP/1.1 200 OK\r\n{many}\r\n")), Fault::Malformed);
    let large = format!("HTTP/1.1 200 OK\r\nA: {}", "x".repeat(HEAD_BYTES_MAX));
    assert_eq!(fault(&large), Fault::TooLarge);
}

#[test]
fn a_head_is_waited_for_to_its_end() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    for end in 1..text.len() {
        assert!(Head::read(&text.as_bytes()[..end], &ASKED).unwrap().is_none(), "{end}");
    }
    assert_eq!(read(&format!("{text}12345")).length, text.len());
}

#[test]
fn what_is_of_the_connection_alone_goes_no_further() {
    let head = read(
        "HTTP/1.1 200 Fine\r\nServer: x\r\nConnection: keep-alive, X-Hop, Content-Length\r\nX-HOP: 1\r\n\
         Keep-Alive: timeout=5\r\nProxy-Connection: y\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 2\r\n\r\n",
    );
    assert_eq!(
        lines(&head),
        "HTTP/1.1 200 Fine\r\nServer: x\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 2\r\n"
    );
    let head =
        read("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 7\r\nDate: then\r\n\r\n");
    assert_eq!(lines(&head), "HTTP/1.1 200 OK\r\nDate: then\r\ntransfer-encoding: chunked\r\n");
}

#[test]
fn what_only_lenient_readers_would_read_is_written_for_strict_ones() {
    let head = read("HTTP/1.1 200\r\nX-Folded : one\r\n two\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(lines(&head), "HTTP/1.1 200 \r\nX-Folded: one   two\r\nContent-Length: 0\r\n");
}

#[test]
fn what_we_say_ourselves_the_backend_does_not() {
    let id = HeaderName::from_static("x-request-id");
    let expected = Expected { id: Some(&id), tells_hsts: true, ..ASKED };
    let text = "HTTP/1.1 204 No Content\r\nX-Request-ID: theirs\r\nStrict-Transport-Security: max-age=1\r\n\
                X-RateLimit-Limit: 7\r\nRateLimit: x\r\nX-Rate: 1\r\nRatio: 2\r\n\r\n";
    let head = Head::read(text.as_bytes(), &expected).unwrap().unwrap();
    assert_eq!(
        lines(&head),
        "HTTP/1.1 204 No Content\r\nX-RateLimit-Limit: 7\r\nRateLimit: x\r\nX-Rate: 1\r\nRatio: 2\r\n"
    );
    assert_eq!(*head.quota_said, ["x-ratelimit-limit", "ratelimit"].map(HeaderName::from_static));
    let all = Head::read(text.as_bytes(), &ASKED).unwrap().unwrap();
    assert!(lines(&all).contains("theirs") && lines(&all).contains("max-age"));
}

#[test]
fn a_date_is_added_where_there_is_none() {
    let text = |head: &Head| String::from_utf8(head.text(b"a: b\r\n", Afterwards::Close, 0)).unwrap();
    let dated = read("HTTP/1.1 200 OK\r\ndate: then\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(
        text(&dated),
        "HTTP/1.1 200 OK\r\ndate: then\r\nContent-Length: 0\r\nconnection: close\r\na: b\r\n\r\n"
    );
    let undated = read("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(text(&undated).matches("date: ").count(), 1);
}
