//! What two parsers could read differently never gets past the gateway: a table of raw bytes with the fate of each,
//! and a storm of random ones.

mod storm;
mod table;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use self::table::Fate::{Passed, Refused};
use self::table::TABLE;
use crate::harness::backend::{Backend, Received};
use crate::harness::client::Client;
use crate::harness::gateway::Gateway;
use crate::harness::h2::{H2Client, in_time, whole};
use crate::harness::{PATIENCE, eventually};

const RULES: &str = r#"
routes:
  - { name: peeked, match: { path: /peeked }, upstream: app, limits: [{ key: body.email, windows: { each: 1000000/min } }] }
  - { name: frank, match: { path: /frank }, upstream: app, allow_override_headers: true }
  - { name: all, match: { path: /* }, upstream: app }
"#;

/// A request that a backend must never see.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";

/// All that came back until the other side closed; `None` if it did not while nothing more was sent.
async fn all_that_comes(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    match timeout(PATIENCE, stream.read_to_end(&mut all)).await {
        Ok(Ok(_)) => Some(all),
        // A reset is an end as well.
        Ok(Err(_)) => Some(all),
        Err(_) => None,
    }
}

fn statuses(answers: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answers);
    let lines = text.match_indices("HTTP/1.1 ").filter_map(|(at, start)| {
        let digits = text.get(at + start.len()..at + start.len() + 3)?;
        digits.parse().ok()
    });
    lines.collect()
}

/// What the backend got since, each whole.
fn since(backend: &Backend, before: usize) -> Vec<Received> {
    backend.received().split_off(before)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_the_table_has_its_fate() {
    let refused = TABLE.iter().filter(|(_, fate)| matches!(fate, Refused(_))).count();
    assert!(refused >= 100, "{refused}");
    let backend = Backend::ok().await;
    let gateway = Gateway::start(&backend, RULES).await;
    for (raw, fate) in TABLE {
        let told = raw.escape_ascii().to_string();
        let before = backend.count();
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(raw).await.unwrap();
        match fate {
            Refused(status) => {
                let answers = all_that_comes(&mut stream).await;
                let answers = answers.unwrap_or_else(|| panic!("{told} is left open"));
                assert_eq!(statuses(&answers), [*status], "{told}: {}", answers.escape_ascii());
                let head = String::from_utf8_lossy(&answers).to_ascii_lowercase();
                assert!(head.contains("connection: close"), "{told}: {head}");
                assert_eq!(since(&backend, before).len(), 0, "{told}");
            }
            Passed(fields) => {
                let got = eventually("the backend", PATIENCE, async || since(&backend, before).pop()).await;
                for (name, value) in *fields {
                    let got = match *name {
                        ":target" => Some(&*got.target),
                        ":body" => std::str::from_utf8(&got.body).ok(),
                        name => got.headers.get(name),
                    };
                    assert_eq!(got, *value, "{name} of {told}");
                }
                assert_eq!(since(&backend, before).len(), 1, "{told}");
                // The connection is good for another request.
                let mut answer = vec![0; 4096];
                let read = timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
                assert_eq!(statuses(&answer[..read]), [200], "{told}");
                stream.write_all(b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
                let next = eventually("the next", PATIENCE, async || since(&backend, before + 1).pop()).await;
                assert_eq!(next.target, "/next", "{told}");
            }
        }
    }
    assert!(backend.received().iter().all(|received| received.target != "/smuggled"));
}

/// Each is refused as soon as it is too much, whether it ends or not.
#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_refused_before_its_end() {
    const START: &str = "GET / HTTP/1.1\r\nHost: h\r\n";
    const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    let backend = Backend::ok().await;
    let gateway = Gateway::start(&backend, RULES).await;
    let long = "a".repeat(40_000);
    for (raw, status) in [
        (format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", &long[..8192]), 414),
        (format!("GET /?{} HTTP/1.1\r\nHost: h\r\n\r\n", &long[..9000]), 414),
        (format!("GET /{long}"), 414),
        (format!("{START}X: {}\r\n\r\n", &long[..33_000]), 431),
        (format!("{START}X: {long}"), 431),
        (format!("{START}{}\r\n", "X: 1\r\n".repeat(100)), 431),
        (format!("{START}{}", "X: 1\r\n".repeat(100)), 431),
        (format!("{CHUNKED}{}", "X: 1\r\n".repeat(2000)), 431),
    ] {
        let told = format!("{}… of {} bytes", &raw[..60], raw.len());
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(raw.as_bytes()).await.unwrap();
        let answers = all_that_comes(&mut stream).await.unwrap_or_else(|| panic!("{told} is left open"));
        assert_eq!(statuses(&answers), [status], "{told}: {}", answers.escape_ascii());
        assert_eq!(backend.count(), 0, "{told}");
    }
    // As much as may be.
    let mut client = gateway.client().await;
    let target = format!("/{}", &long[..8191]);
    let answer = client.request("GET", &target).header("X-Large", &long[..32_000]).send().await;
    assert_eq!(answer.status, 200);
    assert_eq!(backend.received()[0].target, target);
}

/// The same in single bytes, and with a request behind it that must not be one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_so_however_it_comes_and_whatever_follows() {
    let backend = Backend::ok().await;
    let gateway = Gateway::start(&backend, RULES).await;
    for (raw, fate) in TABLE {
        let Refused(status) = fate else { continue };
        for drips in [false, true] {
            let told = format!("{} {drips}", raw.escape_ascii());
            let mut stream = TcpStream::connect(gateway.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let all = [raw, SMUGGLED].concat();
            let part = if drips { 1 } else { all.len() };
            for bytes in all.chunks(part) {
                // The gateway may have closed before the end.
                if stream.write_all(bytes).await.is_err() {
                    break;
                }
            }
            let answers = all_that_comes(&mut stream).await;
            let answers = answers.unwrap_or_else(|| panic!("{told} is left open"));
            assert_eq!(statuses(&answers), [*status], "{told}: {}", answers.escape_ascii());
        }
    }
    assert_eq!(backend.count(), 0);
}

/// A way to elsewhere, and an answer that says back what the backend was told.
#[tokio::test(flavor = "multi_thread")]
async fn methods_that_no_backend_is_asked_by_are_refused_in_words_of_our_own() {
    let told = serde_json::json!({ "detail": "This method is not allowed." });
    let backend = Backend::ok().await;
    let rules = format!("{RULES}access: {{ deny: [127.0.0.9] }}\n");
    let gateway = Gateway::start(&backend, &rules).await;
    for (method, target, ends) in [
        ("CONNECT", "h:443", true),
        ("TRACE", "/", false),
        ("trace", "/frank", false),
        ("connect", "/frank", false),
    ] {
        let mut client = gateway.client().await;
        let answer = client.request(method, target).header("host", "h").send().await;
        assert_eq!((answer.status, answer.json()), (405, told.clone()), "{method}");
        assert!(answer.headers.get("allow").is_some_and(|allow| allow.contains("POST")), "{method}");
        assert!(answer.headers.get("x-request-id").is_some(), "{method}");
        assert_eq!(answer.connection_closed, ends, "{method}");
    }
    let mut h2 = H2Client::connect(gateway.address).await;
    let way = http::Request::builder().method(http::Method::CONNECT).uri("h:443");
    let (answer, mut tunnel) = h2.open(way, false).await.unwrap();
    let answer = whole(in_time(answer).await.unwrap()).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.text()), (405, told.to_string().as_str()));
    assert!(answer.header("allow").is_some_and(|allow| allow.contains("POST")));
    // Nobody takes it any more.
    let _refused = tunnel.send_data(SMUGGLED.into(), true);
    let trace = h2.request(http::Method::TRACE, "/");
    assert_eq!(h2.send(trace, b"").await.unwrap().status, 405);
    // The connection is good for requests, and those of other methods are nobody's business but the backend's.
    let other = h2.request(http::Method::from_bytes(b"PROPFIND").unwrap(), "/frank");
    assert_eq!(h2.send(other, b"").await.unwrap().status, 200);
    assert_eq!(backend.count(), 1);
    assert_eq!(gateway.metric("tollgate_requests_total{route=\"-\",verdict=\"malformed\"}").await, 6.0);
    // Who is denied everything is told so.
    let mut denied = Client::connect_from([127, 0, 0, 9].into(), gateway.address).await;
    let answer = denied.request("CONNECT", "h:443").header("host", "h").send().await;
    assert_eq!((answer.status, answer.connection_closed), (403, true));
}
