//! Clients that take what they can: slow ones, many at once, and those that leave no file descriptor.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tollgate::clock::Clock;

use crate::harness::backend::{Backend, Gate, Reply};
use crate::harness::binary::Running;
use crate::harness::client::{Client, get};
use crate::harness::gateway::{Gateway, replace};
use crate::harness::h2::H2Client;
use crate::harness::{PATIENCE, eventually};

const RULES: &str = "routes: [{ name: all, match: { path: /* }, upstream: app }]\n";

/// A gateway with these keys of its listener, and these before the routes.
async fn gateway(backend: &Backend, listener: &str, before: &str) -> Gateway {
    let preamble = format!(
        "version: 1\nlisten: [{{ address: 127.0.0.1:0, {listener} }}]\nadmin: {{ address: 127.0.0.1:0 }}\n\
         upstreams: {{ app: {{ servers: [\"{}\"] }} }}\n{before}",
        backend.addr()
    );
    Gateway::launch(&preamble, RULES, Clock::system()).await.unwrap()
}

async fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

/// All that comes until the other side closes.
async fn rest_of(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("it is closed");
    read.map(|_| ()).unwrap_or_else(|error| assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset));
    String::from_utf8(all).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_drips_in_has_its_time_and_no_more() {
    let backend = Backend::ok().await;
    let gateway = gateway(&backend, "header_timeout: 400ms", "").await;
    // On a new connection, and on one that has served a request.
    for requests in [0, 1] {
        // The gateway counts from when it accepts, which a slow day puts before what follows here.
        let start = Instant::now();
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        for _ in 0..requests {
            writer.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
            let mut answer = [0; 1024];
            let count = reader.read(&mut answer).await.unwrap();
            assert!(answer[..count].starts_with(b"HTTP/1.1 200"));
        }
        let drip = async {
            let line = b"GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'x'));
            for byte in line {
                if writer.write_all(&[*byte]).await.is_err() {
                    break;
                }
                sleep(Duration::from_millis(20)).await;
            }
            std::future::pending::<()>().await;
        };
        let mut answer = Vec::new();
        tokio::select! {
            read = timeout(PATIENCE, reader.read_to_end(&mut answer)) => drop(read.expect("it is ended")),
            () = drip => {}
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
    }
    assert_eq!(gateway.metric("tollgate_connections_timed_out_total{awaited=\"head\"}").await, 2.0);
    assert_eq!(gateway.metric("tollgate_malformed_requests_total{fault=\"too_slow\"}").await, 2.0);
    assert_eq!(backend.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_nothing_is_closed_without_a_word() {
    let backend = Backend::ok().await;
    let gateway = gateway(&backend, "header_timeout: 300ms, idle_timeout: 400ms", "").await;
    let mut silent = TcpStream::connect(gateway.address).await.unwrap();
    assert_eq!(rest_of(&mut silent).await, "");
    let mut client = gateway.client().await;
    assert_eq!(client.request("GET", "/").send().await.status, 200);
    client.closed().await;
    assert_eq!(gateway.metric("tollgate_connections_timed_out_total{awaited=\"request\"}").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_outlives_every_timeout_of_its_client() {
    let gate = Gate::shut();
    let held = gate.clone();
    let backend = Backend::start(move |_| Reply::json(200, "{}").after(&held)).await;
    let gateway = gateway(&backend, "header_timeout: 100ms, idle_timeout: 100ms", "").await;
    let mut client = gateway.client().await;
    let opens = async {
        backend.wait_for(1).await;
        sleep(Duration::from_millis(600)).await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(client.request("GET", "/").send(), opens);
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_more_connections_than_the_listener_allows() {
    let backend = Backend::ok().await;
    let gateway = gateway(&backend, "max_connections: 3", "").await;
    let mut kept = Vec::new();
    for last in 1..=3 {
        let mut client = Client::connect_from(IpAddr::from([127, 0, 0, last]), gateway.address).await;
        assert_eq!(client.request("GET", "/").send().await.status, 200);
        kept.push(client);
    }
    let mut one_more = connect_from(4, gateway.address).await;
    let told = rest_of(&mut one_more).await;
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("Connection: close"), "{told}");
    let refused = "tollgate_connections_refused_total{limit=\"max_connections\"}";
    assert_eq!(gateway.metric(refused).await, 1.0);
    assert_eq!(gateway.metric("tollgate_connections").await, 3.0);
    // Those that were in stay, and there is room once one leaves.
    assert_eq!(kept[0].request("GET", "/").send().await.status, 200);
    drop(kept.pop());
    let room = async || (gateway.metric("tollgate_connections").await == 2.0).then_some(());
    eventually("room", PATIENCE, room).await;
    assert_eq!(get(gateway.address, "/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_its_share_and_a_trusted_proxy_the_whole() {
    let backend = Backend::ok().await;
    let trusted = "client_ip: { trusted_proxies: [127.0.0.9] }\n";
    let gateway = gateway(&backend, "max_connections_per_ip: 2", trusted).await;
    let mut kept = Vec::new();
    for last in [1, 2, 9, 1, 2, 9, 9, 9] {
        let mut client = Client::connect_from(IpAddr::from([127, 0, 0, last]), gateway.address).await;
        assert_eq!(client.request("GET", "/").send().await.status, 200, "127.0.0.{last}");
        kept.push(client);
    }
    for last in [1, 2] {
        let mut one_more = connect_from(last, gateway.address).await;
        assert!(rest_of(&mut one_more).await.starts_with("HTTP/1.1 503 "));
    }
    assert_eq!(
        gateway.metric("tollgate_connections_refused_total{limit=\"max_connections_per_ip\"}").await,
        2.0
    );
    assert_eq!(gateway.metric("tollgate_connections").await, 8.0);
    drop(kept);
    let gone = async || (gateway.metric("tollgate_connections").await == 0.0).then_some(());
    eventually("the end of all", PATIENCE, gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_http_has_the_time_of_a_head() {
    let backend = Backend::ok().await;
    let gateway = gateway(&backend, "proxy_protocol: [127.0.0.1/32], header_timeout: 300ms", "").await;
    let mut silent = TcpStream::connect(gateway.address).await.unwrap();
    silent.write_all(b"PROXY TCP4 203.0.113.1 ").await.unwrap();
    assert_eq!(rest_of(&mut silent).await, "");
    assert_eq!(gateway.metric("tollgate_malformed_requests_total{fault=\"opening_too_slow\"}").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_what_the_next_connection_may_take() {
    let backend = Backend::ok().await;
    let gateway = gateway(&backend, "max_connections: 2, max_uri_bytes: 64", "").await;
    let long = format!("/{}", "x".repeat(70));
    let mut early = gateway.client().await;
    assert_eq!(early.request("GET", "/").send().await.status, 200);
    assert_eq!(get(gateway.address, &long).await.status, 414);
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    replace(gateway.config(), &text.replace("max_connections: 2, max_uri_bytes: 64", "max_connections: 3"));
    gateway.reloaded("ok", 2).await;
    assert_eq!(early.request("GET", "/").send().await.status, 200, "what is open stays");
    let mut others = Vec::new();
    for _ in 0..2 {
        let mut client = gateway.client().await;
        assert_eq!(client.request("GET", &long).send().await.status, 200);
        others.push(client);
    }
    let mut one_more = TcpStream::connect(gateway.address).await.unwrap();
    assert!(rest_of(&mut one_more).await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_held_to_the_same_sizes() {
    let backend = Backend::ok().await;
    let gateway = gateway(&backend, "max_uri_bytes: 64, max_headers: 4", "").await;
    let mut client = H2Client::connect(gateway.address).await;
    assert_eq!(client.get(&format!("/{}", "x".repeat(63))).await.status, 200);
    assert_eq!(client.get(&format!("/{}", "x".repeat(64))).await.status, 414);
    let request = (0..5).fold(client.request(http::Method::GET, "/"), |request, _| request.header("a", "b"));
    assert_eq!(client.send(request, b"").await.unwrap().status, 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn http_2_is_no_request_where_the_file_says_so() {
    let backend = Backend::ok().await;
    let gateway = gateway(&backend, "h2c: false", "").await;
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    assert!(rest_of(&mut stream).await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_of_a_head_is_what_the_file_says() {
    let backend = Backend::ok().await;
    let gateway = gateway(&backend, "max_uri_bytes: 64, max_headers: 4, max_header_bytes: 1024", "").await;
    let long = "x".repeat(2000);
    for (target, fields, status) in [
        (format!("/{}", &long[..63]), vec![("X", "1"), ("Y", "1")], 200),
        (format!("/{}", &long[..64]), vec![], 414),
        ("/".to_owned(), vec![("X", &long[..900])], 200),
        ("/".to_owned(), vec![("X", &long[..1020])], 431),
        ("/".to_owned(), vec![("A", "1"), ("B", "1"), ("C", "1")], 200),
        ("/".to_owned(), vec![("A", "1"), ("B", "1"), ("C", "1"), ("D", "1")], 431),
    ] {
        let mut client = gateway.client().await;
        let mut request = client.request("GET", &target);
        for (name, value) in &fields {
            request = request.header(name, value);
        }
        let answer = request.send().await;
        assert_eq!(answer.status, status, "{target} {fields:?}");
        assert_eq!(answer.connection_closed, status != 200, "{target} {fields:?}");
    }
    assert_eq!(backend.count(), 3);
}

/// The answer to a refused upload arrives, however much of it is still on its way.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_not_lost_to_what_is_still_sent() {
    let backend = Backend::ok().await;
    let gateway = gateway(&backend, "header_timeout: 10s", "").await;
    let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    for _ in 0..20 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(head).await.unwrap();
        for _ in 0..12 {
            let _sent = stream.write_all(&[b'x'; 16 * 1024]).await;
        }
        let mut answer = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 400");
    }
}

/// Neither is one of the gateway's rules.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_uploads_is_told_that_it_was_too_fast() {
    const LIMITED: &str = "routes: [{ name: all, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 1/day } }] }]\n";
    let backend = Backend::ok().await;
    let (gateway, _clock) = Gateway::with_clock(&backend, LIMITED).await;
    assert_eq!(gateway.client().await.request("GET", "/").send().await.status, 200);
    for _ in 0..20 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n").await.unwrap();
        for _ in 0..12 {
            let _sent = stream.write_all(&[b'x'; 16 * 1024]).await;
            tokio::task::yield_now().await;
        }
        let mut answer = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 429");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_file_descriptors_it_waits_and_recovers() {
    const DESCRIPTORS: usize = 80;
    let backend = Backend::ok().await;
    let mut running = Running::start_with_descriptors(&backend, RULES, DESCRIPTORS).await;
    assert_eq!(get(running.address, "/").await.status, 200);
    let mut taken = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        taken.push(TcpStream::connect(running.address).await.unwrap());
    }
    running.binary.stdout.line_with("cannot accept connections").await;
    // Time for more lines, if there were any.
    sleep(Duration::from_millis(300)).await;
    drop(taken);
    let served = async || (get(running.address, "/").await.status == 200).then_some(());
    eventually("an answer", PATIENCE, served).await;
    let told = async || {
        get(running.address, "/").await;
        running.binary.stdout.text().contains("connections are accepted again").then_some(())
    };
    eventually("the end of it in the log", PATIENCE, told).await;
    let said = running.binary.stdout.text();
    assert_eq!(said.matches("cannot accept connections").count(), 1, "{said}");
    assert!(running.metric("tollgate_accept_errors_total").await >= 1.0);
}
