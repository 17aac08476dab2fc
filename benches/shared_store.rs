//! What a decision costs where gateways share Redis, beside the two usual ways to count there.
//!
//! `cargo bench --bench shared_store [-- ROUNDS]`. Starts a redis-server of its own and lets three decide by the same
//! limit of three windows, each in turn, in every round:
//!
//! ```text
//! tollgate        its store as a gateway uses it: client, script, deny cache
//! sorted sets     the usual script: a log a window, shared_store/sorted_sets.lua
//! fixed windows   INCR and EXPIRE NX a window, six commands in one pipeline; up to twice too many, and not all or none
//! ```
//!
//! All use one thread, the same client library, as many connections and as many requests under way.
//! Printed are medians over the rounds with the least and the most, and the median of each round's
//! ratio to the sorted sets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench that cannot be set up has nothing to measure"
)]

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use tollgate::clock::Clock;
use tollgate::decision::ipset::IpSet;
use tollgate::decision::key::{Form, KeyHash, KeyHasher, KeyPart, KeySpec, LimitId, Missing};
use tollgate::decision::limit::{Limit, Mode, OnStoreError, Rule, Shown, Window, Windows};
use tollgate::decision::tally::{Charge, Judgement};
use tollgate::decision::time::Span;
use tollgate::store::redis::RedisUrl;
use tollgate::store::spec::{Place, RedisPlace, SharedSpec, StoreKind, StoreSpec};
use tollgate::store::{ScriptTime, Store};
use tollgate::telemetry::Metrics;

/// How many in how many seconds. No run takes as long as the shortest.
const WINDOWS: [(u32, u64); 3] = [(10, 600), (30, 3600), (60, 86_400)];
/// As many as the shortest window admits: then a client is refused.
const EVENTS: u64 = WINDOWS[0].0 as u64;
const CLIENTS: u64 = 5_000;
/// How many gateways meet the refused clients, each for the first time.
const NODES: u64 = 5;
/// How many clients an attack uses.
const ATTACKERS: u64 = 100;
const UNDER_WAY: usize = 64;
const CONNECTIONS: usize = 2;
const SORTED_SETS: &str = include_str!("shared_store/sorted_sets.lua");

type Error = Box<dyn std::error::Error + Send + Sync>;

/// One of the three, as one node has it.
enum Contender {
    Tollgate { store: Box<Store>, limit: Limit, clock: Clock },
    SortedSets { connections: Vec<MultiplexedConnection>, sha1: String, unique: AtomicU64, clock: Clock },
    FixedWindows { connections: Vec<MultiplexedConnection> },
}

const NAMES: [&str; 3] = ["tollgate", "sorted sets", "fixed windows"];
const BASELINE: &str = "sorted sets";

impl Contender {
    async fn open(name: &str, server: &Server) -> Result<Contender, Error> {
        Ok(match name {
            "tollgate" => Contender::Tollgate {
                store: Box::new(open_store(&server.url())?),
                limit: limit(),
                clock: Clock::system(),
            },
            "sorted sets" => {
                let mut connections = server.connections().await?;
                let mut load = redis::cmd("SCRIPT");
                let sha1 = load.arg("LOAD").arg(SORTED_SETS).query_async(&mut connections[0]).await?;
                let unique = AtomicU64::new(0);
                Contender::SortedSets { connections, sha1, unique, clock: Clock::system() }
            }
            _ => Contender::FixedWindows { connections: server.connections().await? },
        })
    }

    /// Whether the client is admitted.
    async fn decide(&self, client: u64) -> Result<bool, Error> {
        let of_client =
            |connections: &[MultiplexedConnection]| connections[client as usize % CONNECTIONS].clone();
        match self {
            Contender::Tollgate { store, limit, clock } => {
                let tallies = store.take(&[Charge { key: key(client), limit }], clock.now()).await;
                Ok(tallies.list.iter().all(|tally| tally.judgement == Judgement::Admits))
            }
            Contender::SortedSets { connections, sha1, unique, clock } => {
                let mut command = redis::cmd("EVALSHA");
                command.arg(sha1).arg(WINDOWS.len());
                for (_, span_s) in WINDOWS {
                    command.arg(name(client, span_s));
                }
                let now_ms = clock.now().ceil_millis();
                command.arg(now_ms).arg(format!("{now_ms}-{}", unique.fetch_add(1, Ordering::Relaxed)));
                for (max, span_s) in WINDOWS {
                    command.arg(max).arg(span_s * 1000);
                }
                let admitted: i64 = command.query_async(&mut of_client(connections)).await?;
                Ok(admitted == 1)
            }
            Contender::FixedWindows { connections } => {
                let mut pipeline = redis::Pipeline::with_capacity(2 * WINDOWS.len());
                for (_, span_s) in WINDOWS {
                    let name = name(client, span_s);
                    pipeline.cmd("INCR").arg(&name);
                    pipeline.cmd("EXPIRE").arg(&name).arg(span_s).arg("NX").ignore();
                }
                let counts: Vec<u64> = pipeline.query_async(&mut of_client(connections)).await?;
                Ok(counts.iter().zip(WINDOWS).all(|(&count, (max, _))| count <= u64::from(max)))
            }
        }
    }
}

fn name(client: u64, span_s: u64) -> String {
    format!("rl:{client:016x}:{span_s}")
}

/// Spreads consecutive numbers as a keyed hash does, without its cost.
fn key(value: u64) -> KeyHash {
    let high = value.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let low = (high ^ (high >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    KeyHash::from_u128((u128::from(high) << 64) | u128::from(low))
}

fn limit() -> Limit {
    let list = WINDOWS.iter().map(|&(max, span_s)| Window {
        label: format!("{span_s}").into(),
        max: NonZeroU32::new(max).expect("not zero"),
        span: Span::from_secs(span_s),
    });
    Limit {
        id: LimitId::derive(&["bench"]),
        policy: "bench".into(),
        key: KeySpec { parts: [KeyPart::Ip].into_iter().collect(), form: Form::Text, missing: Missing::Ip },
        rule: Rule::Windows(Windows::new(list.collect(), NonZeroU32::MIN).expect("sound windows")),
        cost: NonZeroU32::MIN,
        mode: Mode::Enforce,
        exempt: IpSet::default(),
        shown: Shown::Quota,
        block: None,
        on_store_error: OnStoreError::Local,
    }
}

fn open_store(url: &str) -> Result<Store, Error> {
    let url = RedisUrl::parse(&url.to_owned().into())?;
    let place = Place::Redis(RedisPlace::Single(url));
    // Patient: what waits for a busy machine must not be decided in the node.
    let timeout = Duration::from_secs(10);
    let kind = StoreKind::Shared(SharedSpec { place, prefix: "tg:".into(), timeout, secret: None });
    let spec = StoreSpec { max_keys: 1_000_000, data_dir: std::path::PathBuf::new(), kind };
    Ok(Store::open(
        &spec,
        KeyHasher::new([9; 16]),
        Metrics::new()?.store(),
        Clock::system(),
        ScriptTime::Server,
    ))
}

/// A redis-server of this bench, gone when dropped.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    async fn start() -> Result<Server, Error> {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port"])
            .arg(port.to_string())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("redis-server: {error}"))?;
        let server = Server { process, port };
        for _ in 0..200 {
            if server.connection().await.is_ok() {
                return Ok(server);
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Err("redis-server does not answer".into())
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    async fn connection(&self) -> Result<MultiplexedConnection, Error> {
        Ok(redis::Client::open(self.url())?.get_multiplexed_async_connection().await?)
    }

    async fn connections(&self) -> Result<Vec<MultiplexedConnection>, Error> {
        let mut connections = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            connections.push(self.connection().await?);
        }
        Ok(connections)
    }

    async fn flush(&self) -> Result<(), Error> {
        Ok(redis::cmd("FLUSHALL").arg("SYNC").exec_async(&mut self.connection().await?).await?)
    }

    /// CPU time that the server has used, microseconds.
    async fn cpu_us(&self) -> Result<f64, Error> {
        let info: String = redis::cmd("INFO").arg("cpu").query_async(&mut self.connection().await?).await?;
        let of = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|seconds| seconds.trim().parse::<f64>().ok()).unwrap_or(f64::NAN)
        };
        Ok((of("used_cpu_user") + of("used_cpu_sys")) * 1e6)
    }

    /// What `MEMORY USAGE` says of all keys of one client, by a sample.
    async fn bytes_a_client(&self, clients: u64) -> Result<f64, Error> {
        const SAMPLE: u32 = 300;
        let mut connection = self.connection().await?;
        let mut sum = 0_u64;
        for _ in 0..SAMPLE {
            let key: String = redis::cmd("RANDOMKEY").query_async(&mut connection).await?;
            let bytes: u64 = redis::cmd("MEMORY").arg("USAGE").arg(key).query_async(&mut connection).await?;
            sum += bytes;
        }
        let keys: u64 = redis::cmd("DBSIZE").query_async(&mut connection).await?;
        Ok(sum as f64 / f64::from(SAMPLE) * keys as f64 / clients as f64)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What one kind of work took of one contender in one round.
#[derive(Clone, Copy, Default)]
struct Spent {
    decisions: u64,
    seconds: f64,
    server_us: f64,
    client_us: f64,
}

impl Spent {
    fn per_second(&self) -> f64 {
        self.decisions as f64 / self.seconds
    }
}

/// Who asks in the n-th decision, and whether it is to be admitted.
type Plan = fn(u64) -> (u64, bool);

/// Makes the decisions, many at once; each must come out as planned.
async fn drive(
    contender: Contender,
    plan: Plan,
    range: Range<u64>,
    server: &Server,
) -> Result<(Contender, Spent), Error> {
    // What is done once for a node is not measured.
    contender.decide(u64::MAX).await?;
    let contender = Arc::new(contender);
    let next = Arc::new(AtomicU64::new(range.start));
    let decisions = range.end - range.start;
    let (server_us, client_us, start) = (server.cpu_us().await?, own_cpu_us()?, Instant::now());
    let tasks: Vec<_> = (0..UNDER_WAY)
        .map(|_| {
            let (contender, next) = (Arc::clone(&contender), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= range.end {
                        return Ok::<(), Error>(());
                    }
                    let (client, wanted) = plan(number);
                    if contender.decide(client).await? != wanted {
                        return Err(format!("decision {number} should be {wanted}").into());
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let spent = Spent {
        decisions,
        seconds: start.elapsed().as_secs_f64(),
        server_us: server.cpu_us().await? - server_us,
        client_us: own_cpu_us()? - client_us,
    };
    Ok((Arc::into_inner(contender).ok_or("a task is left")?, spent))
}

/// CPU time of this thread, which does all that is measured, microseconds.
fn own_cpu_us() -> Result<f64, Error> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let ns = stat.split(' ').next().ok_or("no time in schedstat")?;
    Ok(ns.parse::<f64>()? / 1e3)
}

const KINDS: [&str; 4] = ["admitted", "refused, new to the node", "refused, an attack", "half of each"];

type Samples = BTreeMap<(usize, &'static str), Vec<Spent>>;

/// All kinds of work by one contender, on an empty server. Returns the bytes a client.
async fn measure(name: &'static str, server: &Server, samples: &mut Samples) -> Result<f64, Error> {
    server.flush().await?;
    let mut note = |kind: usize, spent: Spent| samples.entry((kind, name)).or_default().push(spent);
    let contender = Contender::open(name, server).await?;
    let (_, spent) = drive(contender, |n| (n % CLIENTS, true), 0..CLIENTS * EVENTS, server).await?;
    note(0, spent);
    let bytes = server.bytes_a_client(CLIENTS).await?;
    let mut sum = Spent::default();
    let mut last = None;
    for _ in 0..NODES {
        let contender = Contender::open(name, server).await?;
        let (contender, spent) = drive(contender, |n| (n, false), 0..CLIENTS, server).await?;
        sum.decisions += spent.decisions;
        sum.seconds += spent.seconds;
        sum.server_us += spent.server_us;
        sum.client_us += spent.client_us;
        last = Some(contender);
    }
    note(1, sum);
    let contender = last.ok_or("no node")?;
    let (contender, spent) =
        drive(contender, |n| (n % ATTACKERS, false), 0..CLIENTS * EVENTS, server).await?;
    note(2, spent);
    let half: Plan = |n| if n % 2 == 0 { (CLIENTS + n, true) } else { (n % ATTACKERS, false) };
    let (_, spent) = drive(contender, half, 0..CLIENTS * EVENTS, server).await?;
    note(3, spent);
    Ok(bytes)
}

/// The median, the least and the most.
fn middle(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let median = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
    (median, values[0], values[values.len() - 1])
}

fn report(samples: &Samples, bytes: &BTreeMap<&'static str, f64>, rounds: usize) {
    println!("\nMedians of {rounds} rounds; times are CPU time a decision.");
    for (kind, title) in KINDS.iter().enumerate() {
        println!(
            "\n{title:26} {:>9} {:>11} {:>12}   times the decisions/s of {BASELINE}",
            "Redis µs", "client µs", "decisions/s"
        );
        for name in NAMES {
            let (own, base) = (&samples[&(kind, name)], &samples[&(kind, BASELINE)]);
            let of = |value: fn(&Spent) -> f64| middle(own.iter().map(value)).0;
            let (ratio, least, most) =
                middle(own.iter().zip(base).map(|(own, base)| own.per_second() / base.per_second()));
            println!(
                "  {name:24} {:9.2} {:11.2} {:12.0}   {ratio:.2} ({least:.2} to {most:.2})",
                of(|spent| spent.server_us / spent.decisions as f64),
                of(|spent| spent.client_us / spent.decisions as f64),
                of(Spent::per_second),
            );
        }
    }
    println!("\nmemory of a client of {EVENTS} events, bytes by MEMORY USAGE");
    for name in NAMES {
        println!("  {name:24} {:9.0}   {:.3} times {BASELINE}", bytes[name], bytes[name] / bytes[BASELINE]);
    }
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let rounds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(7);
    let server = Server::start().await?;
    let (mut samples, mut bytes) = (Samples::new(), BTreeMap::new());
    for round in 0..rounds {
        // Each is the first as often as it is the last.
        for turn in 0..NAMES.len() {
            let name = NAMES[(round + turn) % NAMES.len()];
            bytes.insert(name, measure(name, &server, &mut samples).await?);
        }
        println!("round {} of {rounds} done", round + 1);
    }
    report(&samples, &bytes, rounds);
    Ok(())
}
