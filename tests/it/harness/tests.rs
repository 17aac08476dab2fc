//! The harness must not lie about bytes, framing or the end of a connection, or no test on top of it means anything.

use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use super::backend::{Backend, Gate, Received, Reply};
use super::binary::Running;
use super::client::{Client, get};
use super::wire::Framing;

#[tokio::test]
async fn a_request_is_recorded_byte_for_byte() {
    let backend = Backend::ok().await;
    let mut client = Client::connect(backend.addr()).await;
    let head = "POST /a//b?c=%2F HTTP/1.1\r\nHost: h\r\nX-Twice: 1\r\nx-twice: 2\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = "3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\nx-trailer: t\r\n\r\n";
    client.send_raw(head.as_bytes()).await;
    client.send_raw(body.as_bytes()).await;
    assert_eq!(client.answer_to("POST").await.unwrap().json()["ok"], true);

    let Received { connection, method, target, headers, framing, body: content, raw_body, raw_head } =
        backend.received().remove(0);
    assert_eq!((connection, method.as_str(), target.as_str()), (0, "POST", "/a//b?c=%2F"));
    assert_eq!(headers.get_all("X-TWICE"), ["1", "2"]);
    assert_eq!(headers.fields[2].0, "x-twice");
    assert_eq!((framing, content.as_slice()), (Framing::Chunked, b"abcde".as_slice()));
    assert_eq!((raw_head, raw_body), (head.into(), body.into()));
}

#[tokio::test]
async fn one_connection_carries_many_requests_and_bodies() {
    let backend = Backend::start(|r| Reply::new(200).body(&r.body).chunked(2)).await;
    let mut client = Client::connect(backend.addr()).await;
    assert_eq!(client.request("POST", "/").body("sized").send().await.text(), "sized");
    assert_eq!(client.request("POST", "/").chunked("in chunks", 4).send().await.text(), "in chunks");
    assert_eq!(client.request("HEAD", "/").send().await.text(), "");
    let waited = client.request("POST", "/").header("expect", "100-continue").json("{}").send().await;
    assert_eq!((waited.text(), waited.interim.as_slice()), ("{}", [100].as_slice()));
    assert_eq!((backend.count(), backend.connections()), (4, 1));
    assert_eq!(backend.received()[0].framing, Framing::Length(5));
    assert_eq!(backend.received()[1].raw_body, b"4\r\nin c\r\n4\r\nhunk\r\n1\r\ns\r\n0\r\n\r\n");
}

#[tokio::test]
async fn an_announced_end_of_the_connection_is_seen() {
    let backend = Backend::start(|_| Reply::new(401).header("Connection", "close").header("A", "1")).await;
    let answer = get(backend.addr(), "/").await;
    assert!(answer.connection_closed);
    assert_eq!(
        answer.raw_head,
        b"HTTP/1.1 401 Scripted\r\nConnection: close\r\nA: 1\r\ncontent-length: 0\r\n\r\n"
    );
    assert_eq!((answer.status, answer.headers.get("a")), (401, Some("1")));
}

#[tokio::test]
async fn a_shut_gate_holds_the_reply_but_not_the_record() {
    let gate = Gate::shut();
    let held = gate.clone();
    let backend = Backend::start(move |_| Reply::new(204).after(&held)).await;
    let addr = backend.addr();
    let answer = tokio::spawn(async move { get(addr, "/held").await });
    assert_eq!(backend.wait_for(1).await[0].target, "/held");
    assert!(!answer.is_finished());
    gate.open();
    assert_eq!(answer.await.unwrap().status, 204);
}

#[tokio::test]
async fn broken_answers_are_errors_and_broken_requests_are_counted() {
    let backend = Backend::start(|_| Reply::json(200, "a body of some length").half()).await;
    let mut client = Client::connect(backend.addr()).await;
    assert!(client.request("GET", "/half").try_send().await.is_err());
    backend.answer_by(|_| Reply::hang_up());
    let mut client = Client::connect(backend.addr()).await;
    assert!(client.request("GET", "/hang-up").try_send().await.is_err());
    assert_eq!(backend.broken(), 0);

    let mut client = Client::connect_from(Ipv4Addr::new(127, 0, 0, 2).into(), backend.addr()).await;
    client.send_raw(b"no HTTP at all\r\n\r\n").await;
    client.closed().await;
    assert_eq!((backend.count(), backend.broken()), (2, 1));
}

#[tokio::test]
async fn a_drip_never_ends_garbage_is_none_and_nobody_holds_what_is_huge() {
    let backend = Backend::start(|_| Reply::json(200, "").drip()).await;
    let mut client = Client::connect(backend.addr()).await;
    client.send_raw(b"GET /drip HTTP/1.1\r\nhost: h\r\n\r\n").await;
    let whole = tokio::time::timeout(std::time::Duration::from_millis(300), client.answer_to("GET")).await;
    assert!(whole.is_err(), "a drip came to an end: {whole:?}");

    backend.answer_by(|_| Reply::garbage());
    let mut client = Client::connect(backend.addr()).await;
    assert!(client.request("GET", "/garbage").try_send().await.is_err());

    backend.answer_by(|_| Reply::json(200, "").huge(3_000_001));
    let mut client = Client::connect(backend.addr()).await;
    assert_eq!(client.request("GET", "/huge").send().await.text().len(), 3_000_001);
    assert_eq!(backend.huge_bytes(), 3_000_001);
    drop(client);
    backend.answer_by(|_| Reply::json(200, "").huge(200 << 20));
    let mut client = Client::connect(backend.addr()).await;
    client.send_raw(b"GET /huge HTTP/1.1\r\nhost: h\r\n\r\n").await;
    backend.wait_for(4).await;
    drop(client);
    assert!(backend.huge_bytes() < 100 << 20, "nobody read it, and it was sent: {}", backend.huge_bytes());
}

#[tokio::test]
async fn a_stopped_backend_comes_back_on_its_address() {
    let backend = Backend::start(|_| Reply::stall()).await;
    let addr = backend.addr();
    let mut client = Client::connect(addr).await;
    client.send_raw(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    backend.wait_for(1).await;
    backend.stop().await;
    client.closed().await;
    let backend = Backend::start_at(addr, |_| Reply::new(200)).await;
    assert_eq!(get(backend.addr(), "/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shifted_gateway_lives_at_another_time() {
    const RULES: &str = "routes: [{ name: r, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 9/hour } }] }]";
    let backend = Backend::ok().await;
    for shift_s in [-100_000, 100_000] {
        let running = Running::start_shifted(&backend, RULES, shift_s).await;
        let reset = get(running.address, "/").await.number("x-ratelimit-reset");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let ahead = i64::try_from(reset).unwrap() - i64::try_from(now).unwrap() - shift_s;
        assert!((3_500..=3_601).contains(&ahead), "{ahead} s ahead of a clock that is {shift_s} s off");
    }
}
