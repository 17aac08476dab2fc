use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::clock::Clock;
use crate::decision::key::{KeyHash, KeyHasher};
use crate::decision::time::Span;
use crate::journal::{Journal, JournalSpec, Sight};
use crate::store::spec::{StoreKind, StoreSpec};
use crate::store::{ScriptTime, Store};
use crate::telemetry::metrics::StoreGauges;

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    readiness: Readiness,
    stop: oneshot::Sender<()>,
    served: JoinHandle<io::Result<()>>,
}

/// A gateway that nobody sends anything.
fn room(tokens: Vec<Token>) -> WatchRoom {
    let (clock, metrics) = (Clock::system(), Metrics::new().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let spec = JournalSpec {
        folder: Some(folder.path().to_owned()),
        retention: Span::from_secs(86_400),
        seal_key: [7; 32],
        hash_check: KeyHash::from_u128(7),
    };
    let journal = Journal::open(spec, metrics.journal(), clock.clone());
    let hasher = KeyHasher::new([7; 16]);
    let spec = StoreSpec { max_keys: 1000, kind: StoreKind::Memory, data_dir: folder.path().to_owned() };
    let store = Store::open(&spec, hasher.clone(), metrics.store(), clock.clone(), ScriptTime::Server);
    WatchRoom {
        gateway: Arc::new(Gateway::new(store, clock, hasher, metrics, journal)),
        policies: Arc::new(|| panic!("no test here asks for policies")),
        routes: Arc::new(move || {
            let _kept = &folder;
            Arc::default()
        }),
        reload: mpsc::channel(1).0,
        access: Access { tokens, viewers_see: Sight::Masked },
        store_kind: "memory".into(),
    }
}

fn admin() -> Admin {
    Admin {
        room: room(Vec::new()),
        metrics: Metrics::new().unwrap(),
        readiness: Readiness::new(),
        metrics_public: true,
        gauges: Arc::new(|_| ()),
        store_state: Arc::new(|| StoreState::Up),
    }
}

async fn start(admin: Admin, bounds: Bounds) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = admin.readiness.clone();
    let (stop, stopped) = oneshot::channel();
    let shutdown = async {
        let _ = stopped.await;
    };
    let served = tokio::spawn(admin.serve_within(bounds, listener, shutdown));
    Running { address, readiness, stop, served }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Answer {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn json(&self) -> serde_json::Value {
        assert!(self.has("content-type: application/json"), "{}", self.head);
        serde_json::from_str(&self.body).unwrap()
    }

    fn has(&self, header: &str) -> bool {
        self.head.lines().any(|line| line == header)
    }
}

async fn send(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    Answer::parse(&rest(&mut stream).await)
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut text)).await.expect("the connection stays open").unwrap();
    String::from_utf8(text).unwrap()
}

fn request(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

async fn get(running: &Running, path: &str) -> Answer {
    send(running.address, &request("GET", path)).await
}

#[tokio::test]
async fn metrics_are_rendered_with_gauges_brought_up_to_date() {
    let gauges = StoreGauges { keys: 42, ..StoreGauges::default() };
    let admin = Admin { gauges: Arc::new(move |metrics| metrics.set_store(gauges)), ..admin() };
    let running = start(admin, Bounds::DEFAULT).await;
    let answer = get(&running, "/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.has("content-type: text/plain; version=0.0.4; charset=utf-8"), "{}", answer.head);
    assert!(answer.body.contains("tollgate_store_keys 42\n"), "{}", answer.body);
}

#[tokio::test]
async fn readiness_follows_the_phase_and_health_does_not() {
    let running = start(admin(), Bounds::DEFAULT).await;
    for (phase, status, name) in
        [(Phase::Starting, 503, "starting"), (Phase::Ready, 200, "ready"), (Phase::Draining, 503, "draining")]
    {
        running.readiness.set(phase);
        let answer = get(&running, "/readyz").await;
        assert_eq!((answer.status, &answer.json()["phase"]), (status, &name.into()));
        assert_eq!(get(&running, "/healthz").await.status, 200);
    }
}

#[tokio::test]
async fn readiness_tells_of_the_store_and_fails_only_where_it_is_missed() {
    let check = async |state: StoreState, phase: Phase, status: u16, store: &str| {
        let running = start(Admin { store_state: Arc::new(move || state), ..admin() }, Bounds::DEFAULT).await;
        running.readiness.set(phase);
        let answer = get(&running, "/readyz").await;
        assert_eq!((answer.status, &answer.json()["store"]), (status, &store.into()), "{state:?} {phase:?}");
        assert_eq!(get(&running, "/healthz").await.status, 200);
    };
    check(StoreState::Up, Phase::Ready, 200, "up").await;
    check(StoreState::Down, Phase::Ready, 200, "down").await;
    check(StoreState::Missed, Phase::Ready, 503, "down").await;
    check(StoreState::Up, Phase::Starting, 503, "up").await;
    check(StoreState::Down, Phase::Draining, 503, "down").await;
}

#[test]
fn a_phase_that_has_passed_does_not_come_back() {
    let readiness = Readiness::new();
    readiness.set(Phase::Draining);
    readiness.set(Phase::Ready);
    assert_eq!(readiness.phase(), Phase::Draining);
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_allowed_is_said_in_json() {
    let running = start(admin(), Bounds::DEFAULT).await;
    for path in ["/metrics/", "/metricsx", "/%6detrics", "/index.html", "/api/v1/nothing", "/api"] {
        let answer = get(&running, path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.json()["detail"].is_string());
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        let answer = send(running.address, &request("POST", path)).await;
        assert_eq!(answer.status, 405, "{path}");
        assert!(answer.json()["detail"].is_string());
        assert!(answer.has("allow: get,head"), "{}", answer.head);
        assert_eq!(send(running.address, &request("HEAD", "/healthz")).await.body, "");
    }
}

#[tokio::test]
async fn without_public_metrics_all_three_want_a_token() {
    let running = start(Admin { metrics_public: false, ..admin() }, Bounds::DEFAULT).await;
    for path in ["/metrics", "/healthz", "/readyz"] {
        let answer = get(&running, path).await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.json()["detail"].is_string());
        assert!(answer.has("www-authenticate: bearer"), "{}", answer.head);
    }
}

#[tokio::test]
async fn a_name_that_was_rebound_to_loopback_is_not_answered() {
    let running = start(admin(), Bounds::DEFAULT).await;
    for path in ["/metrics", "/nowhere"] {
        let rebound = request("GET", path).replace("localhost", "evil.example");
        let answer = send(running.address, &rebound).await;
        assert_eq!(answer.status, 421, "{path}");
        assert!(answer.json()["detail"].is_string());
    }
    let by_address = request("GET", "/healthz").replace("localhost", &running.address.to_string());
    assert_eq!(send(running.address, &by_address).await.status, 200);
    let nameless = "GET /healthz HTTP/1.0\r\n\r\n";
    assert_eq!(send(running.address, nameless).await.status, 200);
}

#[tokio::test]
async fn every_answer_forbids_sniffing_and_storing() {
    let running = start(admin(), Bounds::DEFAULT).await;
    let requests = [
        request("GET", "/metrics"),
        request("GET", "/nowhere"),
        request("POST", "/healthz"),
        request("GET", "/healthz").replace("localhost", "evil.example"),
    ];
    for request in requests {
        let answer = send(running.address, &request).await;
        assert!(answer.has("x-content-type-options: nosniff"), "{}", answer.head);
        assert!(answer.has("cache-control: no-store"), "{}", answer.head);
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_and_a_connection_that_idles_are_closed() {
    let bounds = Bounds { head: Duration::from_millis(50), ..Bounds::DEFAULT };
    let running = start(admin(), bounds).await;
    for sent in
        ["", "GET /healthz HTTP/1.1\r\nHost: local", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        rest(&mut stream).await;
    }
}

#[tokio::test]
async fn an_oversized_head_is_refused() {
    let running = start(admin(), Bounds::DEFAULT).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(40_000));
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("no answer").unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
}

#[tokio::test]
async fn past_the_cap_a_connection_waits_until_another_ends() {
    let bounds = Bounds { connections: 1, ..Bounds::DEFAULT };
    let running = start(admin(), bounds).await;
    let mut first = TcpStream::connect(running.address).await.unwrap();
    ask_and_stay(&mut first).await;
    let mut second = TcpStream::connect(running.address).await.unwrap();
    second.write_all(request("GET", "/healthz").as_bytes()).await.unwrap();
    for _ in 0..20 {
        ask_and_stay(&mut first).await;
    }
    let early = second.try_read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(early, Err(io::ErrorKind::WouldBlock));
    drop(first);
    assert_eq!(Answer::parse(&rest(&mut second).await).status, 200);
}

/// One request and its answer on a connection that stays open.
async fn ask_and_stay(stream: &mut TcpStream) {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        answer.push(timeout(PATIENCE, stream.read_u8()).await.expect("no answer").unwrap());
    }
}

#[tokio::test]
async fn idle_connections_up_to_the_cap_do_not_shut_others_out() {
    let bounds = Bounds { connections: 2, head: Duration::from_millis(100), ..Bounds::DEFAULT };
    let running = start(admin(), bounds).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(TcpStream::connect(running.address).await.unwrap());
    }
    assert_eq!(get(&running, "/healthz").await.status, 200);
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_given_up() {
    let bounds = Bounds { connections: 1, stall: Duration::from_millis(50), ..Bounds::DEFAULT };
    let running = start(admin(), bounds).await;
    let mut greedy = TcpStream::connect(running.address).await.unwrap();
    let scrape = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    // Asks on and on and reads nothing, until it is cut off.
    let cut_off = async { while greedy.write_all(scrape.as_bytes()).await.is_ok() {} };
    timeout(PATIENCE, cut_off).await.expect("the connection stays open");
    assert_eq!(get(&running, "/healthz").await.status, 200);
}

#[tokio::test]
async fn on_shutdown_idle_connections_end_and_so_does_serving() {
    let running = start(admin(), Bounds::DEFAULT).await;
    let mut idle = TcpStream::connect(running.address).await.unwrap();
    ask_and_stay(&mut idle).await;
    running.stop.send(()).unwrap();
    rest(&mut idle).await;
    timeout(PATIENCE, running.served).await.expect("serving goes on").unwrap().unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn a_connection_that_says_nothing_cannot_hold_up_the_shutdown() {
    let bounds = Bounds { drain: Duration::from_millis(50), ..Bounds::DEFAULT };
    let running = start(admin(), bounds).await;
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    silent.write_all(b"GET /healthz HTTP/1.1\r\nHo").await.unwrap();
    assert_eq!(get(&running, "/healthz").await.status, 200);
    running.stop.send(()).unwrap();
    timeout(PATIENCE, running.served).await.expect("serving goes on").unwrap().unwrap();
}
