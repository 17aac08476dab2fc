//! One suite that every store passes: the same requests at the same times, and the same answers.

mod script;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tollgate::clock::Clock;
use tollgate::decision::key::{KeyHash, KeyHasher};
use tollgate::decision::limit::Mode;
use tollgate::decision::tally::{Charge, Judgement, Tallies};
use tollgate::decision::time::{Span, Timestamp};
use tollgate::store::redis::RedisUrl;
use tollgate::store::spec::{Place, RedisPlace, SharedSpec, StoreKind, StoreSpec};
use tollgate::store::upstash::UpstashUrl;
use tollgate::store::{ScriptTime, Store};
use tollgate::telemetry::Metrics;

use self::script::{Dice, Shape, Step, limits};
use super::harness::redis::{RedisCluster, RedisServer};
use super::harness::upstash::Upstash;

/// Patient: a slow machine must not look like a store that disagrees.
const TIMEOUT: Duration = Duration::from_secs(5);
const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

pub(crate) fn memory() -> Store {
    open(StoreKind::Memory, ScriptTime::Server)
}

pub(crate) fn shared(place: Place, time: ScriptTime) -> Store {
    let spec = SharedSpec { place, prefix: "tg:".into(), timeout: TIMEOUT, secret: None };
    open(StoreKind::Shared(spec), time)
}

fn open(kind: StoreKind, time: ScriptTime) -> Store {
    let metrics = Metrics::new().expect("metrics");
    let spec = StoreSpec { max_keys: 100_000, data_dir: PathBuf::new(), kind };
    Store::open(&spec, KeyHasher::new([9; 16]), metrics.store(), Clock::system(), time)
}

pub(crate) fn node(url: &str) -> Place {
    Place::Redis(RedisPlace::Single(RedisUrl::parse(&url.to_owned().into()).expect("a URL")))
}

fn cluster(urls: &[String]) -> Place {
    let nodes = urls.iter().map(|url| RedisUrl::parse(&url.clone().into()).expect("a URL"));
    Place::Redis(RedisPlace::Cluster(nodes.collect()))
}

/// The verdicts, what is left in each window, when it returns, when to try again.
fn answer(tallies: &Tallies) -> Vec<String> {
    tallies.list.iter().map(|tally| format!("{:?} {:?}", tally.judgement, tally.windows)).collect()
}

fn admits(charges: &[Charge<'_>], tallies: &Tallies) -> bool {
    charges
        .iter()
        .zip(&tallies.list)
        .all(|(charge, tally)| charge.limit.mode == Mode::Shadow || tally.judgement == Judgement::Admits)
}

/// Plays the same random requests to both; `runs` of them, each with keys of its own.
async fn agree(store: &Store, shape: Shape, runs: u64, steps: usize) {
    let limits = limits();
    let memory = memory();
    for run in 0..runs {
        let mut dice = Dice::new(run * 1_000 + 7);
        let mut now = START;
        let mut history: Vec<(Vec<KeyHash>, String)> = Vec::new();
        for number in 0..steps {
            let Step { gap_ms, charges } = dice.step(&limits, shape, run);
            now = now.plus(Span::from_millis(gap_ms));
            let (expected, got) = (memory.take(&charges, now).await, store.take(&charges, now).await);
            let keys: Vec<KeyHash> = charges.iter().map(|charge| charge.key).collect();
            let names: Vec<&str> = charges.iter().map(|charge| &*charge.limit.policy).collect();
            let told = format!("{} ms {names:?}: {:?}", START.until(now).as_millis(), answer(&expected));
            history.push((keys.clone(), told));
            let of_these = history.iter().filter(|(touched, _)| touched.iter().any(|key| keys.contains(key)));
            assert!(
                answer(&got) == answer(&expected),
                "run {run}, step {number}: got {:?}\nafter and instead of\n{}",
                answer(&got),
                of_these.map(|(_, told)| told.as_str()).collect::<Vec<_>>().join("\n")
            );
            assert_eq!(admits(&charges, &got), admits(&charges, &expected));
        }
    }
}

#[tokio::test]
async fn redis_answers_as_memory_does() {
    let server = RedisServer::start().await;
    let store = shared(node(&server.url()), ScriptTime::Caller);
    agree(&store, Shape::Any, 270, 200).await;
    // Nothing was decided in the node but what is known to be refused.
    assert!(server.calls().await > 1_000);
}

#[tokio::test]
async fn a_cluster_answers_as_memory_does() {
    let servers = RedisCluster::start().await;
    let store = shared(cluster(&servers.urls()), ScriptTime::Caller);
    agree(&store, Shape::LargeAlone, 60, 100).await;
}

#[tokio::test]
async fn upstash_answers_as_memory_does() {
    let server = RedisServer::start().await;
    let upstash = Upstash::start(server.address(), "a token").await;
    let url = UpstashUrl::parse(&upstash.url()).expect("a URL");
    let store = shared(Place::Upstash { url, token: "a token".to_owned().into() }, ScriptTime::Caller);
    agree(&store, Shape::Any, 40, 100).await;
}

/// Counted by the server's clock, tasks of two nodes on one key: N and no more.
#[tokio::test]
async fn two_nodes_admit_together_what_one_may() {
    let server = RedisServer::start().await;
    let open = || Arc::new(shared(node(&server.url()), ScriptTime::Server));
    let (one, other) = (open(), open());
    let limits = Arc::new(limits());
    for round in 0..50 {
        let tasks = (0..16).map(|number| {
            let store = Arc::clone(if number % 2 == 0 { &one } else { &other });
            let limits = Arc::clone(&limits);
            tokio::spawn(async move {
                let charges = [script::charge(&limits[0], 50_000 + round)];
                let tallies = store.take(&charges, Clock::system().now()).await;
                u32::from(admits(&charges, &tallies))
            })
        });
        let mut admitted = 0;
        for task in tasks.collect::<Vec<_>>() {
            admitted += task.await.expect("a task ends");
        }
        assert_eq!(admitted, 2, "round {round}");
    }
}
