//! What backends answer to what is carried: they can do no harm by it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tollgate::clock::Clock;

use crate::harness::gateway::{Gateway, preamble};
use crate::harness::h2::in_time;

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
