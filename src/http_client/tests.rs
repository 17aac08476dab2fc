use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);
const BOUNDS: Bounds = Bounds { within: PATIENCE, reply_bytes_max: 1000 };
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// A server on this machine: `serve` gets every connection, each on a thread of its own.
fn server(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

/// Reads a request with a `content-length`; nothing where the other side closed.
fn request(stream: &mut impl Read) -> Option<String> {
    let mut bytes = Vec::new();
    let mut next = [0];
    loop {
        if stream.read(&mut next).unwrap_or(0) == 0 {
            return None;
        }
        bytes.push(next[0]);
        if let Some(head) = bytes.strip_suffix(b"\r\n\r\n") {
            let head = String::from_utf8_lossy(head).to_lowercase();
            let length =
                head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            stream.read_exact(&mut body).ok()?;
            return Some(format!("{head}\n\n{}", String::from_utf8_lossy(&body)));
        }
    }
}

/// A server that answers every request with the same bytes and ends the connection then.
fn answering(bytes: impl Into<Vec<u8>>) -> SocketAddr {
    let bytes = bytes.into();
    server(move |mut stream| {
        request(&mut stream);
        // Who reads too little closes first.
        let _closed = stream.write_all(&bytes);
    })
}

fn loopback(address: SocketAddr) -> HttpUrl {
    HttpUrl::parse(&format!("http://{address}/x")).unwrap()
}

async fn post(url: &HttpUrl) -> Result<Response, HttpError> {
    HttpClient::new(PATIENCE).post(url, HeaderMap::new(), Bytes::from_static(b"body"), BOUNDS).await
}

#[tokio::test]
async fn one_connection_carries_many_calls() {
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    let address = server(|mut stream| {
        CONNECTIONS.fetch_add(1, Ordering::SeqCst);
        while let Some(request) = request(&mut stream) {
            let reply =
                format!("HTTP/1.1 201 X\r\nX-Y: z\r\ncontent-length: {}\r\n\r\n{request}", request.len());
            stream.write_all(reply.as_bytes()).unwrap();
        }
    });
    let client = HttpClient::new(PATIENCE);
    let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, bearer(&"t".into()).unwrap())]);
    for _ in 0..3 {
        let body = Bytes::from_static(b"body");
        let response = client.post(&loopback(address), headers.clone(), body, BOUNDS).await.unwrap();
        assert_eq!((response.status.as_u16(), response.headers["x-y"].as_bytes()), (201, b"z".as_slice()));
        let seen = String::from_utf8(response.body.to_vec()).unwrap();
        assert!(seen.starts_with("post /x http/1.1\r\n") && seen.ends_with("\n\nbody"), "{seen}");
        assert!(
            seen.contains("authorization: bearer t\r\n") && seen.contains("user-agent: tollgate/"),
            "{seen}"
        );
    }
    assert_eq!(CONNECTIONS.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_redirect_is_an_answer_like_any_other() {
    let elsewhere = "HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(post(&loopback(answering(elsewhere))).await.unwrap().status.as_u16(), 307);
}

#[tokio::test]
async fn an_answer_is_as_large_as_allowed_and_no_larger() {
    let sized = |size: usize| format!("HTTP/1.1 200 X\r\ncontent-length: {size}\r\n\r\n{}", "x".repeat(size));
    let chunked = |size: usize| {
        let head = "HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n";
        format!("{head}{}0\r\n\r\n", "1\r\nx\r\n".repeat(size))
    };
    for whole in [sized(1000), chunked(1000)] {
        assert_eq!(post(&loopback(answering(whole))).await.unwrap().body.len(), 1000);
    }
    for more in [sized(1001), chunked(1001)] {
        assert_eq!(post(&loopback(answering(more))).await.unwrap_err(), HttpError::TooLarge(1000));
    }
}

#[tokio::test]
async fn what_breaks_off_is_told() {
    for broken in ["", "HTTP/1.1 200 X\r\ncontent-length: 9\r\n\r\nhalf", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 200"]
    {
        let error = post(&loopback(answering(broken))).await.unwrap_err();
        assert!(matches!(error, HttpError::Broken(_)), "{broken:?}: {error}");
    }
    let long_head = format!("HTTP/1.1 200 X\r\nx: {}\r\n\r\n", "y".repeat(2 * REPLY_HEAD_BYTES_MAX));
    assert!(matches!(post(&loopback(answering(long_head))).await, Err(HttpError::Broken(_))));
}

#[tokio::test]
async fn nobody_who_listens_is_a_failed_connection() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    assert!(matches!(post(&loopback(free)).await, Err(HttpError::Connect(_))));
}

#[tokio::test]
async fn a_silent_server_is_waited_for_no_longer_than_allowed() {
    let soon = Duration::from_millis(50);
    let silent = server(|mut stream| while stream.read(&mut [0; 64]).unwrap_or(0) > 0 {});
    let client = HttpClient::new(soon);
    let call = |url: HttpUrl, within: Duration| {
        let client = &client;
        async move {
            let bounds = Bounds { within, ..BOUNDS };
            client.post(&url, HeaderMap::new(), Bytes::new(), bounds).await.unwrap_err()
        }
    };
    assert_eq!(call(loopback(silent), soon).await, HttpError::Timeout, "the request was sent");
    // No handshake, no request.
    let encrypted = HttpUrl::parse(&format!("https://{silent}/")).unwrap();
    let unsent = HttpError::Connect("no connection in time".into());
    assert_eq!(call(encrypted.clone(), PATIENCE).await, unsent, "by the time for connecting");
    assert_eq!(call(encrypted, soon / 2).await, unsent, "by the time for all");
}

#[test]
fn a_token_is_hidden_and_cannot_add_headers() {
    let value = bearer(&"secret".into()).unwrap();
    assert_eq!(
        (value.as_bytes(), format!("{value:?}")),
        (b"Bearer secret".as_slice(), "Sensitive".to_owned())
    );
    assert_eq!(bearer(&"a\r\nx: y".into()), None);
}

fn der(base64: &str) -> Vec<u8> {
    BASE64.decode(base64.trim()).unwrap()
}

/// For 127.0.0.1, signed by itself.
fn certificate() -> CertificateDer<'static> {
    der(include_str!("tests/certificate_throwaway.b64")).into()
}

fn encrypted_server() -> SocketAddr {
    let key = PrivatePkcs8KeyDer::from(der(include_str!("tests/key_throwaway.b64")));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate()], key.into())
        .unwrap();
    let config = Arc::new(config);
    server(move |stream| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::StreamOwned::new(connection, stream);
        // The handshake may fail: that is what some tests are for.
        if request(&mut stream).is_some() {
            let _closed = stream.write_all(OK.as_bytes());
        }
    })
}

fn client_that_trusts(certificates: &[CertificateDer<'static>]) -> HttpClient {
    let mut roots = rustls::RootCertStore::empty();
    certificates.iter().for_each(|certificate| roots.add(certificate.clone()).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = HttpClient::new(PATIENCE);
    client.tls.set(Ok(encrypted(config))).unwrap();
    client
}

#[tokio::test]
async fn a_server_is_believed_only_if_somebody_trusted_vouches_for_its_name() {
    let check = async |client: HttpClient, host: &str, is_trusted: bool| {
        let url = HttpUrl::parse(&format!("https://{host}:{}/", encrypted_server().port())).unwrap();
        let result = client.post(&url, HeaderMap::new(), Bytes::new(), BOUNDS).await;
        match is_trusted {
            true => assert_eq!(&result.unwrap().body[..], b"hi"),
            false => assert!(matches!(result, Err(HttpError::Tls(_))), "{result:?}"),
        }
    };
    check(client_that_trusts(&[certificate()]), "127.0.0.1", true).await;
    check(client_that_trusts(&[certificate()]), "localhost", false).await;
    check(client_that_trusts(&[]), "127.0.0.1", false).await;
}

#[tokio::test]
async fn a_server_without_tls_is_told_as_such() {
    let plain = server(|mut stream| {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        while stream.read(&mut [0; 64]).unwrap_or(0) > 0 {}
    });
    let url = HttpUrl::parse(&format!("https://{plain}/")).unwrap();
    let body = Bytes::new();
    let result = client_that_trusts(&[]).post(&url, HeaderMap::new(), body, BOUNDS).await;
    assert!(matches!(result, Err(HttpError::Tls(_))), "{result:?}");
}
