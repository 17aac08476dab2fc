//! The PROXY protocol: whom a believed peer speaks for is who is counted, and nobody else is believed.

use std::net::{IpAddr, Ipv4Addr};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tollgate::clock::Clock;
use tollgate::config::Environment;

use crate::harness::backend::Backend;
use crate::harness::client::Client;
use crate::harness::gateway::{Gateway, preamble};
use crate::harness::h2::{H2Client, in_time};
use crate::harness::tls::{Authority, TlsClient, ask};

const TWO: &str =
    "routes: [{ name: r, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 2/min } }] }]";
const OPEN: &str = "routes: [{ name: r, match: { path: /* }, upstream: app }]";
const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n";
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

async fn gateway(backend: &Backend) -> Gateway {
    let listen = "127.0.0.1:0, proxy_protocol: [127.0.0.1/32] }]";
    let preamble = preamble(backend.addr()).replacen("127.0.0.1:0 }]", listen, 1);
    Gateway::launch(&preamble, TWO, Clock::system()).await.unwrap()
}

fn line(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 10.0.0.1 12345 80\r\n").into_bytes()
}

fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, rest].concat()
}

/// The status of a request behind this header; none where the connection ends without an answer.
async fn status(gateway: &Gateway, header: &[u8]) -> Option<u16> {
    let mut client = gateway.client().await;
    client.send_raw(&[header, ASK].concat()).await;
    client.answer_to("GET").await.ok().map(|answer| answer.status)
}

#[tokio::test]
async fn clients_are_counted_by_what_a_believed_peer_says() {
    let backend = Backend::ok().await;
    let gateway = gateway(&backend).await;
    for (client, expected) in [("203.0.113.1", [200, 200, 429]), ("203.0.113.2", [200, 200, 429])] {
        for status_expected in expected {
            assert_eq!(status(&gateway, &line(client)).await, Some(status_expected), "{client}");
        }
    }
    let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[9], &[0; 16], &[1, 2, 3, 4]].concat();
    let v2 = [
        binary(0x21, 0x11, &[203, 0, 113, 3, 0, 0, 0, 0, 1, 2, 3, 4, 0xee, 0, 1, 7]),
        binary(0x21, 0x21, &v6),
    ];
    for header in &v2 {
        assert_eq!(status(&gateway, header).await, Some(200));
    }
    // A check by the peer itself is the peer's.
    for header in [binary(0x20, 0, b""), b"PROXY UNKNOWN\r\n".to_vec()] {
        assert_eq!(status(&gateway, &header).await, Some(200));
    }
    assert_eq!(status(&gateway, &binary(0x20, 0, b"")).await, Some(429));
    let told: Vec<String> = backend
        .received()
        .iter()
        .map(|received| received.headers.get_all("x-forwarded-for").concat())
        .collect();
    let expected = [
        "203.0.113.1",
        "203.0.113.1",
        "203.0.113.2",
        "203.0.113.2",
        "203.0.113.3",
        "2001:db8::9",
        "127.0.0.1",
        "127.0.0.1",
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_header_holds_for_the_whole_connection_however_it_comes() {
    let backend = Backend::ok().await;
    let gateway = gateway(&backend).await;
    let mut client = gateway.client().await;
    for byte in line("203.0.113.4") {
        client.send_raw(&[byte]).await;
        tokio::task::yield_now().await;
    }
    for expected in [200, 200, 429] {
        assert_eq!(client.request("GET", "/").send().await.status, expected);
    }
    // Another header in its middle is no header, and no request.
    client.send_raw(&[&line("203.0.113.5"), ASK].concat()).await;
    assert!(
        client.answer_to("GET").await.is_ok_and(|answer| answer.status == 400 && answer.connection_closed)
    );
    assert_eq!(backend.count(), 2);

    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(&line("203.0.113.6")).await.unwrap();
    let mut client = H2Client::over(stream, "http", "h").await.unwrap();
    assert_eq!(client.get("/").await.status, 200);
    assert_eq!(backend.received()[2].headers.get("x-forwarded-for"), Some("203.0.113.6"));
}

#[tokio::test]
async fn a_believed_peer_must_say_whom_it_speaks_for() {
    let backend = Backend::ok().await;
    let gateway = gateway(&backend).await;
    for header in [
        &b""[..],
        b"PROXY TCP4 203.0.113.300 10.0.0.1 1 2\r\n",
        b"PROXY TCP4 203.0.113.3 10.0.0.1 1 2\n",
        &line(&"9".repeat(200)),
        &binary(0x21, 0x11, &[1, 2, 3]),
        &binary(0x21, 0x31, &[0; 216]),
        &binary(0x21, 0x11, &[0; 60_000]),
        &[0; 5000],
    ] {
        assert_eq!(status(&gateway, header).await, None, "{:?}", String::from_utf8_lossy(header));
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let backend = Backend::ok().await;
    let gateway = gateway(&backend).await;
    let v2 = binary(0x21, 0x11, &[203, 0, 113, 3, 0, 0, 0, 0, 1, 2, 3, 4]);
    for header in [line("203.0.113.7"), v2, b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut client = Client::connect_from(STRANGER, gateway.address).await;
        client.send_raw(&[&header, ASK].concat()).await;
        // Who is told anything at all is told that this was no request.
        if let Ok(answer) = client.answer_to("GET").await {
            assert_eq!((answer.status, answer.connection_closed), (400, true));
        }
    }
    assert_eq!(backend.count(), 0);
    let mut client = Client::connect_from(STRANGER, gateway.address).await;
    assert_eq!(client.request("GET", "/").send().await.status, 200);
    assert_eq!(backend.received()[0].headers.get("x-forwarded-for"), Some("127.0.0.2"));
}

/// With TLS behind the header, and these keys of the listener.
async fn https(backend: &Backend, more: &str, rules: &str) -> (Gateway, Authority, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.issue(&["a.example"], "a").write(folder.path(), "a");
    let config = folder.path().join("gateway.yaml");
    let listen =
        format!("127.0.0.1:0, proxy_protocol: [127.0.0.1/32], {more} tls: {{ cert: a.pem, key: a.key }} }}]");
    let text = format!("{}{rules}", preamble(backend.addr()).replacen("127.0.0.1:0 }]", &listen, 1));
    std::fs::write(&config, text).unwrap();
    let gateway = Gateway::from_file(&config, Environment::empty(), Clock::system()).await.unwrap();
    (gateway, authority, folder)
}

#[tokio::test]
async fn it_comes_before_tls() {
    let backend = Backend::ok().await;
    let (gateway, authority, _folder) = https(&backend, "", TWO).await;
    let client = TlsClient::of(&authority);
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(&line("203.0.113.8")).await.unwrap();
    let mut stream = client.over(stream, "a.example").await.unwrap();
    assert!(ask(&mut stream, "/").await.unwrap().starts_with("HTTP/1.1 200 "));
    assert_eq!(backend.received()[0].headers.get("x-forwarded-for"), Some("203.0.113.8"));
    assert!(client.connect(gateway.address, "a.example").await.is_err());

    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((STRANGER, 0).into()).unwrap();
    let mut stream = socket.connect(gateway.address).await.unwrap();
    stream.write_all(&line("203.0.113.8")).await.unwrap();
    let mut rest = Vec::new();
    // An alert of TLS, and the end.
    let _ended = in_time(stream.read_to_end(&mut rest)).await;
    assert_eq!(backend.count(), 1);
}

#[tokio::test]
async fn connections_are_capped_by_whom_a_peer_speaks_for() {
    let backend = Backend::ok().await;
    let listen = "127.0.0.1:0, proxy_protocol: [127.0.0.1/32], max_connections_per_ip: 2 }]";
    let preamble = preamble(backend.addr()).replacen("127.0.0.1:0 }]", listen, 1);
    let gateway = Gateway::launch(&preamble, OPEN, Clock::system()).await.unwrap();
    let mut open = Vec::new();
    for client in ["203.0.113.1", "203.0.113.1", "203.0.113.2", "203.0.113.2"] {
        let mut connection = gateway.client().await;
        connection.send_raw(&[&line(client), ASK].concat()).await;
        assert_eq!(connection.answer_to("GET").await.unwrap().status, 200);
        open.push(connection);
    }
    assert_eq!(status(&gateway, &line("203.0.113.1")).await, None);
    let capped = "tollgate_connections_refused_total{limit=\"max_connections_per_ip\"}";
    assert_eq!(gateway.metric(capped).await, 1.0);
    assert_eq!(status(&gateway, &line("203.0.113.3")).await, Some(200));
    assert_eq!(status(&gateway, b"").await, None);
    assert_eq!(gateway.metric("tollgate_malformed_requests_total{fault=\"proxy_header\"}").await, 1.0);
}

#[tokio::test]
async fn who_has_its_connections_is_told_apart_before_tls() {
    let backend = Backend::ok().await;
    let (gateway, authority, _folder) = https(&backend, "max_connections_per_ip: 1,", OPEN).await;
    let connections = "tollgate_connections";
    let said = async |client: &str, more: &[u8]| {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(&[&line(client), more].concat()).await.unwrap();
        stream
    };
    let ask_of = async |client: &str| {
        let stream = said(client, b"").await;
        let stream = TlsClient::of(&authority).asking_for(&["h2"]).over(stream, "a.example").await.unwrap();
        let mut client = H2Client::over(stream, "https", "a.example").await.unwrap();
        assert_eq!(client.get("/").await.status, 200);
        client
    };
    // A handshake that fails gives the place back.
    for _ in 0..3 {
        let _ended = in_time(said("203.0.113.1", b"no handshake").await.read_to_end(&mut Vec::new())).await;
        gateway.reaches(connections, 0.0).await;
    }
    let mut first = ask_of("203.0.113.1").await;
    let _other = ask_of("203.0.113.2").await;
    // Nothing of a handshake was sent, and nothing is waited for.
    let mut rest = Vec::new();
    in_time(said("203.0.113.1", b"").await.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(rest, b"");
    gateway.reaches(connections, 2.0).await;
    let refused = "tollgate_connections_refused_total{limit=\"max_connections_per_ip\"}";
    assert_eq!(gateway.metric(refused).await, 1.0);
    for (fault, count) in [("tls", 3.0), ("opening_too_slow", 0.0), ("gone", 0.0)] {
        let faults = format!("tollgate_malformed_requests_total{{fault=\"{fault}\"}}");
        assert_eq!(gateway.metric(&faults).await, count, "{fault}");
    }
    assert_eq!(first.get("/").await.status, 200);
    drop(first);
    gateway.reaches(connections, 1.0).await;
    ask_of("203.0.113.1").await;
}
