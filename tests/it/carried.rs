//! Requests that are carried past Pingora: the same comes of them as of those that Pingora proxies, and a backend can do
//! no harm by what it answers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
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

/// A backend that says the same bytes to each request, and then keeps its connection or closes it.
struct Parrot {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    says: Arc<Mutex<(Vec<u8>, After)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Keep,
    Close,
    /// Keeps it, and says one byte at a time.
    Drop1,
}

impl Parrot {
    async fn start() -> Parrot {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let says = Arc::new(Mutex::new((Vec::new(), After::Close)));
        let (count, words) = (Arc::clone(&connections), Arc::clone(&says));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::AcqRel);
                tokio::spawn(repeat(stream, Arc::clone(&words)));
            }
        });
        Parrot { address, connections, says }
    }

    fn says(&self, text: &str, after: After) {
        *self.says.lock().unwrap() = (text.as_bytes().to_vec(), after);
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }
}

async fn repeat(mut stream: TcpStream, says: Arc<Mutex<(Vec<u8>, After)>>) -> io::Result<()> {
    let mut seen = Vec::new();
    loop {
        while !seen.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut seen).await? == 0 {
                return Ok(());
            }
        }
        seen.clear();
        let (text, after) = says.lock().unwrap().clone();
        match after {
            After::Drop1 => {
                for byte in text {
                    stream.write_u8(byte).await?;
                    tokio::task::yield_now().await;
                }
            }
            After::Keep | After::Close => stream.write_all(&text).await?,
        }
        if after == After::Close {
            return Ok(());
        }
    }
}

async fn before(parrot: &Parrot, more: &str) -> Gateway {
    let own = format!("{}{more}", preamble(parrot.address));
    let rules = "routes: [{ name: r, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 1000/hour } }] }]";
    Gateway::launch(&own, rules, Clock::system()).await.unwrap()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_backend_answers_is_read_in_one_way_and_ends_where_it_says() {
    let parrot = Parrot::start().await;
    let gateway = before(&parrot, "").await;
    // What it says; what comes of it; whether its connection is used again, and whether the client's is.
    for (says, after, status, body, is_used_again, goes_on) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", After::Keep, 200, "ok", true, true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", After::Drop1, 200, "ok", true, true),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nContent-MD5: x\r\n\r\n",
            After::Keep,
            200,
            "ok",
            true,
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
            After::Drop1,
            200,
            "ok",
            true,
            true,
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", After::Keep, 204, "", true, true),
        ("HTTP/1.1 200 OK\r\n\r\nok", After::Close, 200, "ok", false, false),
        ("HTTP/1.0 200 OK\r\n\r\nok", After::Close, 200, "ok", false, false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", After::Keep, 200, "ok", false, true),
        (
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            After::Keep,
            200,
            "ok",
            false,
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            After::Keep,
            200,
            "ok",
            false,
            true,
        ),
        // What stands behind an answer is nobody's.
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 201 No\r\nContent-Length: 0\r\n\r\n",
            After::Keep,
            200,
            "ok",
            false,
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 201 No\r\n\r\n",
            After::Keep,
            200,
            "ok",
            false,
            true,
        ),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nno", After::Keep, 204, "", false, true),
        ("HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 201 No\r\n\r\n", After::Keep, 304, "", false, true),
        // What cannot be passed on.
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
            After::Keep,
            502,
            "",
            false,
            true,
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", After::Keep, 502, "", false, true),
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
            After::Keep,
            502,
            "",
            false,
            true,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Le", After::Close, 502, "", false, true),
        ("", After::Close, 502, "", false, true),
        ("SSH-2.0-x\r\n", After::Keep, 502, "", false, true),
    ] {
        parrot.says(says, after);
        let mut client = gateway.client().await;
        // The one that is used for the next may have been kept from the last row: it is not asked to say how old it is.
        for round in 0..3 {
            if round == 1 {
                let used = parrot.connections();
                let answer = client.request("GET", "/").send().await;
                assert_eq!(answer.status, status, "{says:?}");
                assert_eq!(parrot.connections() == used, is_used_again, "{says:?}");
            } else {
                let answer = client.request("GET", "/").send().await;
                let content = if status == 502 { "" } else { answer.text() };
                assert_eq!((answer.status, content), (status, body), "{says:?}");
                assert_eq!(answer.connection_closed, !goes_on, "{says:?}");
                assert_eq!(answer.headers.get_all("x-ratelimit-limit"), ["1000"], "{says:?}");
            }
            if !goes_on {
                client = gateway.client().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_not_made_whole() {
    let parrot = Parrot::start().await;
    let gateway = before(&parrot, "").await;
    for (says, after) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", After::Close),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", After::Close),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nrest\r\n", After::Keep),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX", After::Close),
    ] {
        parrot.says(says, after);
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut all = Vec::new();
        let _ended = in_time(stream.read_to_end(&mut all)).await;
        let text = String::from_utf8(all).unwrap();
        // Where the mistake is there with the head, nothing was said yet.
        let is_known = after == After::Keep && text.starts_with("HTTP/1.1 502 ");
        assert!(is_known || text.starts_with("HTTP/1.1 200 OK\r\n"), "{says:?}: {text:?}");
        assert!(!text.ends_with("\r\n0\r\n\r\n"), "{says:?}: {text:?}");
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "{says:?}: {text:?}");
    }
    let failed = r#"tollgate_upstream_failures_total{kind="closed",upstream="app"}"#;
    assert_eq!(gateway.metric(failed).await, 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_are_passed_on_up_to_a_number() {
    let parrot = Parrot::start().await;
    let gateway = before(&parrot, "").await;
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for (count, status) in [(1, 200), (3, 200), (40, 502)] {
        for after in [After::Keep, After::Drop1] {
            // Whether to go on is a question that nobody asked.
            parrot.says(&format!("HTTP/1.1 100 Continue\r\n\r\n{}{last}", early.repeat(count)), after);
            let answer = gateway.client().await.request("GET", "/").send().await;
            assert_eq!(answer.status, status);
            if status == 200 {
                assert_eq!((answer.interim, answer.body), (vec![103; count], b"ok".to_vec()));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_an_end_is_given_up() {
    let parrot = Parrot::start().await;
    let gateway = before(&parrot, "").await;
    parrot.says(&format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 20)), After::Keep);
    assert_eq!(gateway.client().await.request("GET", "/").send().await.status, 502);
    parrot.says(&format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(1000)), After::Keep);
    assert_eq!(gateway.client().await.request("GET", "/").send().await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_a_504_and_the_client_stays() {
    let parrot = Parrot::start().await;
    let gateway = before(&parrot, "    read_timeout: 150ms\n").await;
    let mut client = gateway.client().await;
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    // Nothing at all, and half a head.
    for silent in ["", "HTTP/1.1 200 O"] {
        parrot.says(ok, After::Keep);
        assert_eq!(client.request("GET", "/").send().await.status, 200);
        parrot.says(silent, After::Keep);
        let answer = client.request("POST", "/").send().await;
        assert_eq!((answer.status, answer.connection_closed), (504, false), "{silent:?}");
        assert_eq!(answer.json()["detail"], "The backend did not answer in time.");
    }
    parrot.says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", After::Keep);
    assert!(client.request("GET", "/").try_send().await.is_err(), "it breaks off");
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
