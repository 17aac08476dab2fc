use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::proxy::tests::Ready;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(300);
const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 80\r\n";
const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n";

/// A listener that takes PROXY headers and may be spoken to in HTTP/2: two things to wait for before HTTP begins.
async fn listening() -> (Listeners, SocketAddr) {
    let Ready { edge, limits, http2, .. } = Ready::made().await;
    let entrance = Entrance {
        tls: None,
        h2c: true,
        speakers: ["127.0.0.1/32".parse().unwrap()].into_iter().collect(),
        redirect_port: None,
        hsts: None,
        limits,
        http2,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let entrances = Arc::new(Entrances::new([(address, entrance)]));
    let listeners = Listeners::start(edge, &Arc::new(ServerConf::default()), vec![listener], &entrances);
    (listeners, address)
}

/// Two connections that were accepted: one of which nothing is known, one of which HTTP is awaited.
async fn underway(address: SocketAddr) -> [TcpStream; 2] {
    let unknown = TcpStream::connect(address).await.unwrap();
    let mut known = TcpStream::connect(address).await.unwrap();
    known.write_all(HEADER).await.unwrap();
    // Who comes later is accepted later.
    let mut last = TcpStream::connect(address).await.unwrap();
    last.write_all(&[HEADER, b"GET /x HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"].concat())
        .await
        .unwrap();
    assert!(all_of(last).await.starts_with("HTTP/1.1 200"));
    [unknown, known]
}

async fn all_of(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_accepted_before_the_end_is_served() {
    let (mut listeners, address) = listening().await;
    let [mut unknown, mut known] = underway(address).await;
    let clients = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        unknown.write_all(HEADER).await.unwrap();
        for stream in [&mut unknown, &mut known] {
            stream.write_all(REQUEST).await.unwrap();
        }
        for stream in [unknown, known] {
            let answer = all_of(stream).await.to_ascii_lowercase();
            assert!(answer.starts_with("http/1.1 200") && answer.contains("connection: close"), "{answer}");
        }
    };
    tokio::join!(listeners.close(LONG), clients);
    assert!(listeners.finish(Duration::ZERO).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_said_nothing_by_the_end_is_closed() {
    let (mut listeners, address) = listening().await;
    let silent = underway(address).await;
    listeners.close(Duration::ZERO).await;
    for stream in silent {
        assert_eq!(all_of(stream).await, "");
    }
    assert!(listeners.finish(LONG).await);
}
