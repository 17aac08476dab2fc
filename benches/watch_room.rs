//! How long operators wait with a million blocks and ten million events: the admin API over a socket.
//!
//! `cargo bench --bench watch_room`. Takes about 1 GiB of memory and 4 GiB of disk, and some minutes to fill.
//! `TOLLGATE_BENCH_EVENTS` and `TOLLGATE_BENCH_BLOCKS` make it smaller.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a bench that cannot be set up has nothing to measure"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tollgate::admin::{Access, Admin, Readiness, RouteText, StoreState, WatchRoom};
use tollgate::clock::Clock;
use tollgate::config::{self, Environment};
use tollgate::decision::block::Block;
use tollgate::decision::key::{KeyHash, KeyHasher};
use tollgate::decision::time::{Span, Timestamp};
use tollgate::gateway::{Gateway, Policies};
use tollgate::journal::{
    BlockId, BlockRecord, Event, EventKind, Identifier, Journal, JournalSpec, Reason, Sight,
};
use tollgate::store::spec::{StoreKind, StoreSpec};
use tollgate::store::{ScriptTime, Store};
use tollgate::telemetry::Metrics;

const ROUNDS: usize = 60;
const DAY: Span = Span::from_secs(86_400);

const CONFIG: &str = "version: 1
listen: [{ address: 127.0.0.1:0 }]
upstreams: { app: { servers: [127.0.0.1:9] } }
routes: [{ name: login, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 5/min } }] }]
";

fn main() {
    // `cargo test` runs benches as well, to see that they start.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run());
}

fn asked(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

async fn run() {
    let (blocks, events) =
        (asked("TOLLGATE_BENCH_BLOCKS", 1_000_000), asked("TOLLGATE_BENCH_EVENTS", 10_000_000));
    let folder = tempfile::tempdir().expect("a folder");
    let (clock, metrics) = (Clock::system(), Metrics::new().expect("metrics"));
    let spec = JournalSpec {
        folder: Some(folder.path().to_owned()),
        retention: Span::from_secs(60 * 86_400),
        seal_key: [7; 32],
        hash_check: KeyHash::from_u128(7),
    };
    let journal = Journal::open(spec, metrics.journal(), clock.clone());
    let empty = resident_mib();
    let began = Instant::now();
    fill_blocks(&journal, blocks, clock.now());
    println!(
        "{blocks} blocks in the book after {:.1?}, {} MiB more",
        began.elapsed(),
        resident_mib() - empty
    );
    let began = Instant::now();
    fill_events(&journal, events, clock.now()).await;
    println!("{events} events on disk after {:.1?}", began.elapsed());
    let file = std::fs::metadata(folder.path().join("journal.db")).map_or(0, |metadata| metadata.len());
    println!("journal.db: {} MiB", file >> 20);

    let address = serve(&metrics, clock, journal, folder.path().join("gateway.yaml")).await;
    let measured = tokio::task::spawn_blocking(move || measure(address));
    measured.await.expect("measured");
    println!("resident: {} MiB", resident_mib());
}

fn key(number: u64) -> KeyHash {
    KeyHash::from_u128(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// Somebody: a name and an address.
fn person(number: u64) -> Identifier {
    let address = format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255);
    Identifier::new(&[
        ("body.email", &format!("person{number}@example{}.com", number % 1000)),
        ("ip", &address),
    ])
}

fn fill_blocks(journal: &Journal, count: u64, now: Timestamp) {
    let kind: Arc<str> = "body.email+ip".into();
    let (route, policy): (Arc<str>, Arc<str>) = ("login".into(), "login".into());
    for number in 0..count {
        let mut random = [0; 10];
        random[2..].copy_from_slice(&number.to_be_bytes());
        // Not in the order of anything.
        let mixed = number.wrapping_mul(0x9e37_79b9) % 86_400;
        let created_at = Timestamp::from_micros(now.as_micros() - mixed * 1_000_000);
        let until = now.plus(Span::from_secs(86_400 + number % 100_000));
        let record = BlockRecord {
            id: BlockId::new(created_at, random),
            key: key(number),
            key_kind: Arc::clone(&kind),
            identifier: person(number),
            reason: Reason::ALL[(number % 4) as usize],
            route: Some(Arc::clone(&route)),
            policy: Some(Arc::clone(&policy)),
            attempts: (number % 50) as u32,
            created_at,
            block: Block { until, level: 0, forget_at: until },
            by: None,
            spec: None,
        };
        // In force at once; the disk follows.
        drop(journal.block(Arc::new(record)));
    }
}

async fn fill_events(journal: &Journal, count: u64, now: Timestamp) {
    let routes: Vec<Arc<str>> = (0..20).map(|number| format!("route{number}").into()).collect();
    let policies: Vec<Arc<str>> = (0..40).map(|number| format!("policy{number}").into()).collect();
    let kind: Arc<str> = "body.email+ip".into();
    let kinds =
        [EventKind::Limited, EventKind::Failure, EventKind::Failure, EventKind::Backoff, EventKind::Blocked];
    let month = 30 * DAY.as_millis() * 1000;
    for number in 0..count {
        while journal.waiting() > 6000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let at = now.as_micros() - month + month / count * number;
        let who = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
        journal.note(Event {
            route: Some(Arc::clone(&routes[(who % 20) as usize])),
            policy: Some(Arc::clone(&policies[(who % 40) as usize])),
            key: Some(Arc::clone(&kind)),
            identifier: Some(person(who)),
            client: Some(std::net::Ipv4Addr::from(0x0a00_0000 + (who as u32 & 0xff_ffff)).into()),
            user_agent: Some("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36".into()),
            ..Event::new(kinds[(number % 5) as usize], Timestamp::from_micros(at))
        });
    }
    while journal.waiting() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn serve(metrics: &Metrics, clock: Clock, journal: Journal, file: PathBuf) -> SocketAddr {
    std::fs::write(&file, CONFIG).expect("a file");
    let config = config::load(&file, &Environment::empty()).expect("a sound file").config;
    let policies = Arc::new(Policies::new(config.rules, config.user, metrics));
    let hasher = KeyHasher::new([7; 16]);
    let folder = file.parent().expect("a folder").to_owned();
    let spec = StoreSpec { max_keys: 1000, kind: StoreKind::Memory, data_dir: folder };
    let store = Store::open(&spec, hasher.clone(), metrics.store(), clock.clone(), ScriptTime::Server);
    let gateway = Arc::new(Gateway::new(store, clock, hasher, metrics.clone(), journal));
    let routes: Arc<ArcSwap<Box<[RouteText]>>> = Arc::default();
    let room = WatchRoom {
        gateway,
        policies: Arc::new(move || Arc::clone(&policies)),
        routes: Arc::new(move || routes.load_full()),
        reload: mpsc::channel(1).0,
        access: Access { tokens: Vec::new(), viewers_see: Sight::Full },
        store_kind: "memory".into(),
    };
    let admin = Admin {
        metrics: metrics.clone(),
        readiness: Readiness::new(),
        metrics_public: true,
        gauges: Arc::new(|_| ()),
        store_state: Arc::new(|| StoreState::Up),
        room,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(admin.serve(listener, std::future::pending()));
    address
}

const BLOCKS: &str = "/api/v1/blocked-identifiers";
const LOGS: &str = "/api/v1/rate-limit-logs";

fn measure(address: SocketAddr) {
    let questions = [
        format!("{BLOCKS}?"),
        format!("{BLOCKS}?sort=expires_at"),
        format!("{BLOCKS}?sort=-attempts"),
        format!("{BLOCKS}?sort=identifier"),
        format!("{BLOCKS}?limit=500"),
        format!("{BLOCKS}?reason=operator&route=login"),
        format!("{BLOCKS}?search=person77"),
        format!("{BLOCKS}?search=nobody"),
        "/api/v1/rate-limit-stats?".to_owned(),
        format!("{LOGS}?"),
        format!("{LOGS}?kind=blocked"),
        format!("{LOGS}?severity=warning&limit=500"),
        format!("{LOGS}?route=route7&kind=failure"),
        format!("{LOGS}?policy=policy7"),
        format!("{LOGS}?identifier=person4711%40example711.com"),
        format!("{LOGS}?client=10.0.18.103"),
        format!("{LOGS}?client=192.0.2.1"),
    ];
    println!("{:<72} {:>8} {:>8} {:>8}", "GET", "p50", "p95", "max");
    for question in questions {
        let mut took: Vec<Duration> = Vec::new();
        let mut items = 0;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            let answer = get(address, &question);
            took.push(began.elapsed());
            assert!(answer.starts_with("HTTP/1.1 200"), "{question}: {answer}");
            items = answer.matches("\"id\":").count();
        }
        took.sort_unstable();
        let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)];
        println!("{question:<72} {:>8.1?} {:>8.1?} {:>8.1?}  {items} items", at(50), at(95), at(100));
    }
    let (first, next) = (format!("{BLOCKS}?limit=500"), "\"next\":\"");
    let cursor = get(address, &first);
    let cursor =
        cursor.rsplit_once(next).map(|(_, rest)| rest.split('"').next().unwrap_or_default().to_owned());
    let began = Instant::now();
    get(address, &format!("{first}&cursor={}", cursor.expect("there are more")));
    println!("the page after the first: {:.1?}", began.elapsed());
}

fn get(address: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// What the process holds in memory.
fn resident_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    (pages * 4096) >> 20
}
