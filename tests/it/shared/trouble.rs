//! Stores that are there and no use: each is found out, none hangs a request, and none means "unlimited".

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::harness::backend::Backend;
use crate::harness::binary::Running;
use crate::harness::client::Client;
use crate::harness::redis::{RedisServer, Reply};

use super::{PATIENT, Site, store_at};

const RULES: &str = "
routes:
  - { name: local, match: { path: /local }, upstream: app, limits: [{ key: ip, windows: { w: 3/hour } }] }
  - { name: closed, match: { path: /closed }, upstream: app, limits: [{ key: ip, windows: { w: 3/hour }, on_store_error: closed }] }
";

/// No request may take as long, however slow the day; one that waits for a store without a deadline takes longer.
const HUNG: Duration = Duration::from_secs(5);

/// A gateway on this store still counts, and says so; `closed` lets nobody through.
async fn is_survived(what: &str, url: &str) {
    let backend = Backend::ok().await;
    let gateway = Running::start(&backend, &format!("{}{RULES}", store_at(url, "timeout: 50ms"))).await;
    let mut client = Client::connect(gateway.address).await;
    for (path, expected) in [
        ("/local", [200, 200, 200, 429, 429, 429, 429, 429]),
        ("/closed", [503, 503, 503, 503, 503, 503, 503, 503]),
    ] {
        for (nth, expected) in expected.into_iter().enumerate() {
            let sent = Instant::now();
            let status = client.request("GET", path).send().await.status;
            assert_eq!(status, expected, "{what}: request {nth} to {path}");
            assert!(sent.elapsed() < HUNG, "{what}: request {nth} took {:?}", sent.elapsed());
        }
    }
    let page = gateway.metrics().await;
    let errors = page.lines().filter(|line| line.starts_with("tollgate_store_errors_total"));
    assert!(errors.into_iter().any(|line| !line.ends_with(" 0")), "{what}: it is counted\n{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_us_is_survived() {
    let guarded = RedisServer::with(&["--requirepass", "open sesame"]).await;
    let address = guarded.address();
    is_survived("no password", &format!("redis://{address}")).await;
    is_survived("a wrong password", &format!("redis://:wrong@{address}")).await;
    is_survived("a database that is not there", &format!("redis://:open%20sesame@{address}/99")).await;

    let replica = RedisServer::start().await;
    let port = address.port().to_string();
    replica.must(&["REPLICAOF", "127.0.0.1", &port]).await;
    is_survived("a replica", &replica.url()).await;

    let full = RedisServer::with(&["--maxmemory", "1"]).await;
    is_survived("a server without memory", &full.url()).await;
}

/// What a server does that is none.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Closes each connection as soon as it is made.
    HangsUp,
    /// Takes connections and never says a word.
    Silent,
    /// Says the same to everything.
    Says(&'static [u8]),
    /// Says the beginning of an answer, and no more.
    Begins(&'static [u8]),
}

/// Serves until it is dropped.
struct Impostor {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Impostor {
    async fn start(manner: Manner) -> Impostor {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, manner));
            }
        });
        Impostor { address, _serving: serving }
    }
}

async fn serve(mut stream: TcpStream, manner: Manner) {
    let mut asked = [0; 16 << 10];
    let mut spoken = false;
    while !matches!(manner, Manner::HangsUp) && matches!(stream.read(&mut asked).await, Ok(1..)) {
        let said = match manner {
            Manner::Says(answer) => answer,
            Manner::Begins(answer) if !spoken => answer,
            Manner::HangsUp | Manner::Silent | Manner::Begins(_) => b"",
        };
        spoken = true;
        // A peer that is gone shows in the next read.
        let _written = stream.write_all(said).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_redis_is_survived() {
    let manners = [
        Manner::HangsUp,
        Manner::Silent,
        Manner::Says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
        Manner::Says(b"\0\xff\x80 no protocol at all\r\n"),
        Manner::Says(b"+OK\r\n"),
        Manner::Says(b":1\r\n"),
        Manner::Says(b"$-1\r\n"),
        Manner::Says(b"*0\r\n"),
        Manner::Says(b"*2\r\n:1\r\n$3\r\nabc\r\n"),
        Manner::Says(b"-LOADING Redis is loading the dataset in memory\r\n"),
        Manner::Says(b"-NOSCRIPT No matching script.\r\n"),
        Manner::Says(b"-MOVED 1 127.0.0.1:1\r\n"),
        Manner::Says(b"-\r\n"),
        Manner::Says(b"*1000000000\r\n"),
        Manner::Says(b"$1000000000\r\nx"),
        Manner::Begins(b"*3\r\n:1\r\n"),
    ];
    for at_once in manners.chunks(4) {
        let mut surviving = JoinSet::new();
        for &manner in at_once {
            surviving.spawn(async move {
                let impostor = Impostor::start(manner).await;
                is_survived(&format!("{manner:?}"), &format!("redis://{}", impostor.address)).await;
            });
        }
        surviving.join_all().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_ours_that_holds_something_else_is_counted_in_the_node() {
    for planting in [["RPUSH", "x"], ["SET", "not what we write"], ["SET", ""]] {
        let site = Site::start(1, PATIENT, RULES).await;
        assert_eq!(site.statuses(0, "/local", 1).await, [200]);
        let keys = site.redis.counters().await;
        let [key] = keys.as_slice() else { panic!("one key is charged: {keys:?}") };
        site.redis.must(&["DEL", key]).await;
        let planted = site.redis.command(&[planting[0], key, planting[1]]).await;
        assert!(!matches!(planted, Reply::Error(_)), "{planted:?}");
        assert_eq!(site.statuses(0, "/local", 4).await, [200, 200, 429, 429], "{planting:?}");
        // The server is well: other keys are counted there as before.
        assert_eq!(site.statuses(0, "/closed", 4).await, [200, 200, 200, 429], "{planting:?}");
        assert_eq!(site.gateways[0].metric("tollgate_store_up").await, 1.0);
    }
}
