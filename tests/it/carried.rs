//! Requests that are carried past Pingora: the same comes of them as of those that Pingora proxies.

mod answers;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tollgate::clock::Clock;

use crate::harness::backend::{Backend, Received, Reply};
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::{Gateway, preamble};
use crate::harness::h2::in_time;

const RULES: &str = r#"
client_ip: { trusted_proxies: [127.0.0.1] }
user: { header: X-User }
responses: { cors: { origins: ["https://app.example.com"] } }
routes:
  - { name: limited, match: { path: /limited/* }, upstream: app, limits: [{ key: ip, windows: { each: 100/min } }] }
  - { name: free, match: { path: /free/* }, upstream: app, allow_override_headers: true }
  - { name: all, match: { path: /* }, upstream: app }
"#;
const STRANGER: [u8; 4] = [127, 0, 0, 66];
const PROXY: [u8; 4] = [127, 0, 0, 1];

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// The rest of a request: method, target, fields, body.
type Asked = (&'static str, &'static str, &'static str, &'static str);

const ASKED: [Asked; 16] = [
    ("GET", "/", "", ""),
    ("get", "/limited//a/../b?x=%61&y", "Accept: */*\r\nUSER-AGENT: Some Browser\r\n", ""),
    ("HEAD", "/limited/a", "cookie: a=b\r\nCookie: c=d\r\n", ""),
    ("POST", "/limited/a", "Content-Type: text/plain\r\nContent-Length: 5\r\n", "a b\r\n"),
    ("DELETE", "/", "Content-Length: 0\r\n", ""),
    (
        "GET",
        "/",
        "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nTE: trailers\r\n",
        "",
    ),
    ("GET", "/", "Proxy-Authorization: Basic x\r\nTrailer: x\r\nAuthorization: Bearer y\r\n", ""),
    ("GET", "/", "X-HTTP-Method-Override: DELETE\r\nX-Original-URL: /admin\r\nSCRIPT_NAME: /x\r\n", ""),
    ("GET", "/free/x", "X-HTTP-Method-Override: DELETE\r\nX_Custom: 1\r\n", ""),
    ("GET", "/", "X-Forwarded-For: 9.9.9.9\r\nx-forwarded-for: 8.8.8.8\r\nX_Forwarded_For: 7.7.7.7\r\n", ""),
    ("GET", "/", "X-Forwarded-Proto: https\r\nForwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\n", ""),
    ("GET", "/", "X-User: root\r\nX_User: root\r\nX-RateLimit-Limit: 1\r\nRateLimit_Policy: x\r\n", ""),
    ("GET", "/", "X-Request-Id: mine\r\nTraceparent: mine\r\nTracestate: v=mine\r\n", ""),
    (
        "GET",
        "/",
        "X-Request-Id: 0123456789abcdef\r\nTracestate: v=1\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n",
        "",
    ),
    (
        "GET",
        "/caf%C3%A9/%7euser",
        "Origin: https://app.example.com\r\nX-Empty:\r\nX-Latin: caf\u{e9}\r\n",
        "",
    ),
    (
        "OPTIONS",
        "/limited/a",
        "Origin: https://app.example.com\r\nAccess-Control-Request-Method: PUT\r\n",
        "",
    ),
];

/// All lines of a head, in any order, without what differs from request to request.
fn lines(raw_head: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(raw_head);
    let of_each = [
        "x-request-id: ",
        "traceparent: ",
        "date: ",
        "x-ratelimit-remaining: ",
        "x-ratelimit-reset: ",
        "ratelimit: ",
    ];
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| match of_each.iter().find(|name| line.to_ascii_lowercase().starts_with(*name)) {
            // A trusted proxy's own id is the same each time.
            Some(_) if line.ends_with("0123456789abcdef") => line.to_owned(),
            Some(name) => format!("{name}…"),
            // Pingora spells a name of its own otherwise.
            None if line.eq_ignore_ascii_case("connection: keep-alive") => line.to_ascii_lowercase(),
            None => line.trim_end().to_owned(),
        })
        .collect();
    lines.sort();
    lines
}

/// What the backend got and what the client was told.
fn outcome(got: &Received, answer: &Answer) -> (Vec<String>, Vec<u8>, Vec<String>, Vec<u8>, bool) {
    let (asked, told) = (lines(&got.raw_head), lines(&answer.raw_head));
    (asked, got.raw_body.clone(), told, answer.body.clone(), answer.connection_closed)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_roads_lead_to_the_same() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    let replies: [fn(&Received) -> Reply; 4] = [
        |_| {
            Reply::json(200, r#"{"ok":true}"#)
                .header("X-Request-ID", "theirs")
                .header("X-RateLimit-Limit", "7")
        },
        |_| Reply::new(200).body("in chunks, and more than one").header("Server", "x").chunked(7),
        |_| Reply::new(204).header("Date", "then"),
        |_| Reply::new(404).body("").header("Set-Cookie", "a=b").header("set-cookie", "c=d"),
    ];
    for local in [STRANGER, PROXY] {
        for reply in replies {
            backend.answer_by(reply);
            for (method, target, fields, body) in ASKED {
                let request = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}");
                let mut outcomes = Vec::new();
                // An empty line before a request is nothing to a backend, and takes Pingora.
                for before in ["", "\r\n"] {
                    let mut client = Client::connect_from(local.into(), gateway.address).await;
                    client.send_raw(format!("{before}{request}").as_bytes()).await;
                    let answer = client.answer_to(&method.to_uppercase()).await.unwrap();
                    outcomes.push(outcome(&backend.received().pop().unwrap(), &answer));
                }
                assert_eq!(outcomes[0], outcomes[1], "{request}");
            }
        }
    }
    let carried = backend.received().iter().filter(|got| got.target.starts_with("/limited")).count();
    assert_eq!(carried, 2 * 4 * 2 * 4, "all of them were asked");
}

/// A server that answers nothing, and tells when its client is gone.
async fn silent() -> (SocketAddr, mpsc::Receiver<&'static str>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut seen = [0; 4096];
                while matches!(stream.read(&mut seen).await, Ok(1..)) {
                    let _ = tell.send("asked").await;
                }
                let _ = tell.send("gone").await;
            });
        }
    });
    (address, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_before_the_answer_takes_the_request_along() {
    let (address, mut told) = silent().await;
    let rules = "routes: [{ name: r, match: { path: /* }, upstream: app, limits: [{ key: ip, count: failures, windows: { w: 2/hour } }] }]";
    let gateway = Gateway::launch(&preamble(address), rules, Clock::system()).await.unwrap();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(GET).await.unwrap();
        assert_eq!(in_time(told.recv()).await, Some("asked"));
        drop(stream);
        assert_eq!(in_time(told.recv()).await, Some("gone"));
    }
    // To leave without looking is no way to guess for nothing.
    let failed = r#"tollgate_attempts_total{outcome="failure",route="r"}"#;
    gateway.reaches(failed, 2.0).await;
    assert_eq!(gateway.client().await.request("GET", "/").send().await.status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_so_gets_one_answer_and_the_end() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    for target in ["/", "/nowhere%2f", "/limited/x"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: Keep-Alive, Close\r\n\r\n");
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut all = String::new();
        in_time(stream.read_to_string(&mut all)).await.unwrap();
        assert_eq!(all.matches("connection: close\r\n").count(), 1, "{all}");
        assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_servers_are_few_and_closed_with_their_server() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = gateway.client().await;
        assert_eq!(client.request("GET", "/").send().await.status, 200);
        clients.push(client);
    }
    assert_eq!(backend.connections(), 1, "one after the other needs one");
    let address = backend.addr();
    backend.stop().await;
    let open = async || {
        let table = tokio::fs::read_to_string("/proc/self/net/tcp").await.unwrap();
        let port = format!(":{:04X} ", address.port());
        // CLOSE_WAIT: the server has closed it and we have not.
        table.lines().filter(|line| line.contains(&port) && line.contains(" 08 ")).count()
    };
    let give_up = tokio::time::Instant::now() + Duration::from_secs(20);
    while open().await > 0 {
        assert!(tokio::time::Instant::now() < give_up, "a connection that nobody serves is kept open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_behind_its_head_is_the_same_request() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    let mut client = gateway.client().await;
    for (pause_ms, body) in [(0, "one"), (5, "two"), (5, "three"), (120, "four"), (5, "five")] {
        let length = body.len();
        client
            .send_raw(
                format!("POST /limited/x HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n").as_bytes(),
            )
            .await;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        client.send_raw(body.as_bytes()).await;
        let answer = client.answer_to("POST").await.unwrap();
        assert_eq!((answer.status, answer.connection_closed), (200, false), "{body}");
        assert_eq!(backend.received().pop().unwrap().body, body.as_bytes());
    }
    assert_eq!(backend.count(), 5);
}

/// Who is refused by what his head says need not send his body.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_comes_keeps_nobody_from_being_refused() {
    let backend = Backend::ok().await;
    let rules = "routes: [{ name: r, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 1/hour } }] }]";
    let (gateway, _clock) = Gateway::with_clock(&backend, rules).await;
    let mut client = gateway.client().await;
    assert_eq!(client.request("GET", "/").send().await.status, 200);
    client.send_raw(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n").await;
    // The body is taken in before the connection would be used again, for as long as that lasts.
    client.send_raw(b"x").await;
    assert_eq!(client.answer_to("POST").await.unwrap().status, 429);
    assert_eq!(backend.count(), 1);
}

/// Many clients send head and body one by one and leave it to the system when: it waits with the second until the first is
/// acknowledged, which a receiver that has nothing to say puts off for 40 ms.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_an_acknowledgement() {
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, RULES).await;
    for length in [9, 5000] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.set_nodelay(false).unwrap();
        let mut took = Vec::new();
        for _ in 0..20 {
            let begin = std::time::Instant::now();
            let head = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&vec![b'x'; length]).await.unwrap();
            heard_whole(&mut stream).await;
            took.push(begin.elapsed());
        }
        // The quickest of them: however busy the machine is, one is not put off.
        assert!(took.iter().min().unwrap() < &Duration::from_millis(35), "{length}: {took:?}");
    }
}

async fn heard_whole(stream: &mut TcpStream) {
    let mut all = Vec::new();
    while !all.ends_with(br#"{"ok":true}"#) {
        assert!(in_time(stream.read_buf(&mut all)).await.unwrap() > 0, "{}", String::from_utf8_lossy(&all));
    }
}
