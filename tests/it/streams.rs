//! Answers that go on: server-sent events, long downloads, silence.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tollgate::clock::Clock;

use crate::harness::backend::{Backend, Reply};
use crate::harness::gateway::{Gateway, preamble};
use crate::harness::h2::{H2Client, in_time, whole};

const OPEN: &str = "routes: [{ name: r, match: { path: /* }, upstream: app }]";
const ASK: &[u8] = b"GET /events HTTP/1.1\r\nhost: h\r\naccept: text/event-stream\r\n\r\n";

/// A server whose one answer says, chunk by chunk, what the test says to it, and ends with the test's end.
async fn server() -> (SocketAddr, mpsc::Sender<&'static str>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (say, mut said) = mpsc::channel::<&'static str>(8);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        let _read = stream.read(&mut head).await.unwrap();
        let head =
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head).await.unwrap();
        while let Some(event) = said.recv().await {
            stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
        }
        stream.write_all(b"0\r\n\r\n").await.unwrap();
    });
    (address, say)
}

/// Reads until this text came.
async fn heard(stream: &mut TcpStream, text: &str) {
    let mut all = Vec::new();
    while !all.ends_with(text.as_bytes()) {
        let byte = in_time(stream.read_u8()).await.expect("more of the answer");
        all.push(byte);
    }
}

#[tokio::test]
async fn each_event_is_there_before_the_next_is_made() {
    let (server, say) = server().await;
    let gateway = Gateway::launch(&preamble(server), OPEN, Clock::system()).await.unwrap();
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(ASK).await.unwrap();
    for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        say.send(event).await.unwrap();
        heard(&mut stream, &format!("{event}\r\n")).await;
    }
    drop(say);
    heard(&mut stream, "0\r\n\r\n").await;
}

#[tokio::test]
async fn the_same_over_http_2() {
    let (server, say) = server().await;
    let gateway = Gateway::launch(&preamble(server), OPEN, Clock::system()).await.unwrap();
    let mut client = H2Client::connect(gateway.address).await;
    let request = client.request(Method::GET, "/events");
    let (answer, _) = client.open(request, true).await.unwrap();
    say.send("data: 0\n\n").await.unwrap();
    let mut body = in_time(answer).await.unwrap().into_body();
    assert_eq!(in_time(body.data()).await.unwrap().unwrap(), "data: 0\n\n");
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        say.send(event).await.unwrap();
        assert_eq!(in_time(body.data()).await.unwrap().unwrap(), event);
    }
    drop(say);
    assert!(in_time(body.data()).await.is_none_or(|end| end.is_ok_and(|end| end.is_empty())));
}

#[tokio::test]
async fn a_backend_that_is_silent_for_too_long_ends_the_answer() {
    let (address, say) = server().await;
    let hasty = |server| preamble(server) + "    read_timeout: 200ms\n";
    let gateway = Gateway::launch(&hasty(address), OPEN, Clock::system()).await.unwrap();
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(ASK).await.unwrap();
    say.send("data: 1\n\n").await.unwrap();
    let mut all = Vec::new();
    // However it ends, it does not end as if it were whole.
    let _end = in_time(stream.read_to_end(&mut all)).await;
    assert!(all.ends_with(b"data: 1\n\n\r\n"), "{}", String::from_utf8_lossy(&all));
    drop(say);

    let (address, say) = server().await;
    let gateway = Gateway::launch(&hasty(address), OPEN, Clock::system()).await.unwrap();
    let mut client = H2Client::connect(gateway.address).await;
    let request = client.request(Method::GET, "/events");
    let (answer, _) = client.open(request, true).await.unwrap();
    say.send("data: 1\n\n").await.unwrap();
    assert!(whole(in_time(answer).await.unwrap()).await.is_err());
}

#[tokio::test]
async fn downloads_arrive_whole_however_slowly_they_are_read() {
    const SIZE: usize = 20 << 20;
    let body: Vec<u8> = (0..SIZE).map(|at| (at % 251) as u8).collect();
    let sent = body.clone();
    let backend = Backend::start(move |_| Reply::new(200).body(&sent)).await;
    let gateway = Gateway::start(&backend, OPEN).await;
    assert_eq!(gateway.client().await.request("GET", "/").send().await.body.len(), SIZE);

    let mut client = H2Client::connect(gateway.address).await;
    let request = client.request(Method::GET, "/");
    let (answer, _) = client.open(request, true).await.unwrap();
    let mut stream = in_time(answer).await.unwrap().into_body();
    // Others on the same connection are served, though this one does not take what it asked for.
    let request = client.request(Method::HEAD, "/");
    assert_eq!(client.send(request, b"").await.unwrap().status, 200);
    let mut got = 0;
    while let Some(data) = in_time(stream.data()).await {
        let data = data.unwrap();
        assert_eq!(data, body[got..got + data.len()], "at {got}");
        got += data.len();
        stream.flow_control().release_capacity(data.len()).unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(got, SIZE);
}

/// Longer than the edge waits for a request, over both protocols.
#[tokio::test]
#[ignore = "it is silent for 80 seconds"]
async fn a_silent_answer_is_kept() {
    let (server, say) = server().await;
    let patient = |server| preamble(server) + "    read_timeout: 10m\n";
    let gateway = Gateway::launch(&patient(server), OPEN, Clock::system()).await.unwrap();
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(ASK).await.unwrap();
    heard(&mut stream, "\r\n\r\n").await;

    let (second, say_second) = self::server().await;
    let other = Gateway::launch(&patient(second), OPEN, Clock::system()).await.unwrap();
    let mut client = H2Client::connect(other.address).await;
    let request = client.request(Method::GET, "/events");
    let (answer, _) = client.open(request, true).await.unwrap();
    let mut body = in_time(answer).await.unwrap().into_body();

    tokio::time::sleep(Duration::from_secs(80)).await;
    say.send("data: 1\n\n").await.unwrap();
    heard(&mut stream, "data: 1\n\n\r\n").await;
    say_second.send("data: 1\n\n").await.unwrap();
    assert_eq!(in_time(body.data()).await.unwrap().unwrap(), "data: 1\n\n");
}
