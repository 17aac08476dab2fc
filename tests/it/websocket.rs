//! WebSocket: the request that asks for it is limited like any other, and what follows passes untouched.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tollgate::clock::Clock;

use crate::harness::backend::{Backend, Nobody, Reply};
use crate::harness::browser::in_browser;
use crate::harness::gateway::{Gateway, START, preamble};
use crate::harness::h2::in_time;
use crate::harness::tls::{Authority, TlsFront};
use crate::harness::{PATIENCE, eventually};

const TWO: &str =
    "routes: [{ name: r, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 2/min } }] }]";
const ASK: &[u8] =
    b"GET /chat HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// When a server agrees.
#[derive(Clone, Copy)]
enum Manner {
    Asked,
    /// Before it is asked: sooner than any that is close by, however busy the machine.
    Eager,
}

const AGREED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A server that agrees to everything, tells what it was asked, and says each byte back.
async fn server(manner: Manner) -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                if matches!(manner, Manner::Eager) {
                    stream.write_all(AGREED).await.unwrap();
                }
                let head = head(&mut stream).await;
                tell.send(head).unwrap();
                if matches!(manner, Manner::Asked) {
                    stream.write_all(AGREED).await.unwrap();
                }
                let (mut read, mut write) = stream.split();
                // Ends when the gateway closes it.
                let _ended = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    (address, told)
}

/// The head of a message, byte by byte, so that nothing behind it is taken.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = in_time(stream.read_u8()).await.expect("a head");
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

async fn echoes(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(message).await.unwrap();
    let mut back = vec![0; message.len()];
    in_time(stream.read_exact(&mut back)).await.unwrap();
    assert_eq!(back, message);
}

#[tokio::test]
async fn it_is_limited_and_then_passed_through() {
    let (server, mut asked) = server(Manner::Asked).await;
    let gateway = Gateway::launch(&preamble(server), TWO, Clock::system()).await.unwrap();
    let mut open = Vec::new();
    for left in ["1", "0"] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(ASK).await.unwrap();
        let answer = head(&mut stream).await.to_ascii_lowercase();
        assert!(answer.starts_with("http/1.1 101"), "{answer}");
        assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{answer}");
        assert!(answer.contains(&format!("x-ratelimit-remaining: {left}\r\n")), "{answer}");
        let request = asked.recv().await.unwrap().to_ascii_lowercase();
        assert!(request.contains("upgrade: websocket\r\n") && request.contains("connection: upgrade\r\n"));
        assert!(request.contains("sec-websocket-version: 13\r\n"));
        // Whatever it looks like, it is no request and no framing.
        for message in
            [&b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"[..], b"0\r\n\r\n", ASK, &[0xff; 100_000]]
        {
            echoes(&mut stream, message).await;
        }
        open.push(stream);
    }
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(ASK).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 429"));
    // Those that are open are not limited any more, and end with either side.
    for stream in &mut open {
        echoes(stream, b"still there").await;
    }
    let mut rest = Vec::new();
    let mut last = open.remove(0);
    last.shutdown().await.unwrap();
    in_time(last.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stays_open_however_quick_the_backend_is() {
    let (server, _asked) = server(Manner::Eager).await;
    let open = "routes: [{ name: r, match: { path: /* }, upstream: app }]";
    let gateway = Gateway::launch(&preamble(server), open, Clock::system()).await.unwrap();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(ASK).await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 101"));
        echoes(&mut stream, b"hello").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_behind_tls_is_asked_by_tls_and_one_that_is_away_is_told() {
    let (server, _asked) = server(Manner::Eager).await;
    let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
    let front = TlsFront::start(server, &authority.issue(&["backend.test"], "backend"), &["http/1.1"]).await;
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let (front, nobody) = (front.addr(), Nobody::anywhere());
    let beginning = preamble(server).replace(
        &format!("[\"{server}\"]"),
        &format!("[{{ address: \"{front}\", tls: true, sni: backend.test, ca: {} }}]", ca.display()),
    );
    let beginning = format!("{beginning}  gone: {{ servers: [\"{}\"], connect_timeout: 1s }}\n", nobody.addr);
    let rules = "routes: [{ name: r, match: { path: /* }, upstream: app }, { name: g, match: { path: /gone }, upstream: gone }]";
    let gateway = Gateway::launch(&beginning, rules, Clock::system()).await.unwrap();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(ASK).await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 101"));
        echoes(&mut stream, &[7; 50_000]).await;
    }
    let mut client = gateway.client().await;
    let request =
        client.request("GET", "/gone").header("connection", "upgrade").header("upgrade", "websocket");
    assert_eq!(request.send().await.status, 502);
}

#[tokio::test]
async fn what_does_not_become_one_stays_http() {
    let backend = Backend::start(|_| Reply::json(426, "{}")).await;
    let gateway = Gateway::start(&backend, TWO).await;
    // The backend declines, and the connection goes on as it was.
    let mut client = gateway.client().await;
    client.send_raw(ASK).await;
    assert_eq!(client.answer_to("GET").await.unwrap().status, 426);
    // Other protocols are not asked for at all.
    let mut client = gateway.client().await;
    let request = client.request("GET", "/").header("connection", "upgrade, http2-settings");
    let request = request.header("upgrade", "h2c").header("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA");
    assert_eq!(request.send().await.status, 426);
    let received = backend.wait_for(2).await;
    assert_eq!(received[0].headers.get("upgrade"), Some("websocket"));
    for name in ["upgrade", "connection", "http2-settings"] {
        assert_eq!(received[1].headers.get(name), None, "{name}");
    }
}

/// Longer than the edge waits for a byte of anything else.
#[tokio::test]
#[ignore = "it is silent for 80 seconds"]
async fn a_silent_client_is_kept() {
    let (server, _asked) = server(Manner::Asked).await;
    let preamble = preamble(server) + "    read_timeout: 10m\n";
    let gateway = Gateway::launch(&preamble, TWO, Clock::system()).await.unwrap();
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(ASK).await.unwrap();
    assert!(head(&mut stream).await.starts_with("HTTP/1.1 101"));
    tokio::time::sleep(Duration::from_secs(80)).await;
    echoes(&mut stream, b"still there").await;
}

/// A server that speaks the protocol itself (RFC 6455): it says back what it hears. Whoever asks for anything else gets a page.
async fn speaker() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Either side may leave.
            tokio::spawn(async move { drop(speak(stream).await) });
        }
    });
    address
}

async fn speak(mut stream: TcpStream) -> std::io::Result<()> {
    let head = head(&mut stream).await;
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    let key =
        fields.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key")).map(|(_, key)| key).next();
    let Some(key) = key else {
        let page =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
        return stream.write_all(page).await;
    };
    let agreed = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let agreed = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, agreed.as_bytes());
    let agreed = BASE64_STANDARD.encode(agreed);
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {agreed}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    loop {
        let (first, second) = (stream.read_u8().await?, stream.read_u8().await?);
        assert_eq!(second & 0x80, 0x80, "a client masks what it says");
        let length = match second & 0x7f {
            126 => u64::from(stream.read_u16().await?),
            127 => stream.read_u64().await?,
            short => u64::from(short),
        };
        let (mut mask, mut payload) = ([0; 4], vec![0; usize::try_from(length).unwrap()]);
        stream.read_exact(&mut mask).await?;
        stream.read_exact(&mut payload).await?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        let mut frame = vec![first];
        match payload.len() {
            short @ ..126 => frame.push(short as u8),
            middle @ 126..=0xffff => {
                frame.push(126);
                frame.extend_from_slice(&(middle as u16).to_be_bytes());
            }
            _ => {
                frame.push(127);
                frame.extend_from_slice(&length.to_be_bytes());
            }
        }
        frame.extend_from_slice(&payload);
        stream.write_all(&frame).await?;
        if first & 0x0f == 8 {
            return Ok(());
        }
    }
}

/// Another implementation than our own tests stand on: it frames, masks and closes by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_talks_through_the_gateway() {
    const RULES: &str = "routes:\n  - { name: chat, match: { path: /chat }, upstream: app, limits: [{ key: ip, windows: { w: 1/hour } }] }\n  - { name: page, match: { path: /* }, upstream: app }\n";
    const TALK: &str = r#"
        window.told = [];
        const chat = new WebSocket(arguments[0]);
        chat.onopen = () => { chat.send("hello"); chat.send("x".repeat(200000)); };
        chat.onmessage = (event) => {
            told.push(event.data.length > 9 ? event.data.length : event.data);
            if (told.length == 2) chat.close(4001, "enough");
        };
        chat.onclose = (event) => told.push(event.code, event.wasClean);
    "#;
    in_browser(async |browser| {
        let server = speaker().await;
        let (clock, _hand) = Clock::manual(START);
        let gateway = Gateway::launch(&preamble(server), RULES, clock).await.unwrap();
        browser.goto(&format!("http://{}/", gateway.address)).await;
        let talk = async |count: u64| {
            let url = serde_json::json!(format!("ws://{}/chat", gateway.address));
            browser.script(TALK, vec![url]).await;
            eventually("the end of the talk", PATIENCE, async || {
                let told = browser.script("return told", Vec::new()).await;
                (told.as_array()?.len() as u64 == count).then_some(told)
            })
            .await
        };
        assert_eq!(talk(4).await, serde_json::json!(["hello", 200_000, 4001, true]));
        // The second is refused: it never opens.
        assert_eq!(talk(2).await, serde_json::json!([1006, false]));
        assert_eq!(gateway.metric("tollgate_requests_total{route=\"chat\",verdict=\"limited\"}").await, 1.0);
    })
    .await;
}
