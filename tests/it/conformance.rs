//! One suite that every store passes: the same requests at the same times, and the same answers.

mod script;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
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

/// As [`agree`], but several requests are made at the same moment, as one after the other in memory. All begin
/// with one key, which keeps them in order on their way; each moment has a node of its own, which knows of nobody
/// who is refused. Returns how many requests there were.
async fn agree_at_once(place: &Place, shape: Shape, runs: u64, moments: usize) -> usize {
    const AT_ONCE: usize = 6;
    let limits = limits();
    let memory = memory();
    let mut made = 0;
    for run in 0..runs {
        let mut dice = Dice::new(run * 1_000 + 11);
        let mut now = START;
        for moment in 0..moments {
            let Step { gap_ms, charges } = dice.step(&limits, shape, run);
            now = now.plus(Span::from_millis(gap_ms));
            let first = charges[0].key;
            let mut requests = vec![charges];
            for _ in 0..4 * AT_ONCE {
                let Step { charges, .. } = dice.step(&limits, shape, run);
                if charges[0].key == first && requests.len() < AT_ONCE {
                    requests.push(charges);
                }
            }
            let store = shared(place.clone(), ScriptTime::Caller);
            let got = join_all(requests.iter().map(|charges| store.take(charges, now))).await;
            for (nth, (charges, got)) in requests.iter().zip(&got).enumerate() {
                let expected = memory.take(charges, now).await;
                assert_eq!(answer(got), answer(&expected), "run {run}, moment {moment}, request {nth}");
            }
            made += requests.len();
        }
    }
    made
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
async fn requests_that_share_a_call_are_answered_one_after_the_other() {
    let server = RedisServer::start().await;
    let made = agree_at_once(&node(&server.url()), Shape::Any, 45, 40).await;
    let calls = server.calls().await as usize;
    assert!(made > 5_000 && calls < made / 2, "{calls} calls for {made} requests");
}

/// One key is spoilt in some way; whoever asks for others at the same moment does not notice.
#[tokio::test]
async fn a_spoilt_key_is_the_trouble_of_its_own_requests() {
    let spoilt: [&[&str]; 5] = [
        &["RPUSH", "x"],
        &["SET", "rr"],
        // Of sub-buckets: cut off, and with a section that is not there.
        &["SET", "m"],
        &["SET", "m\x01\x00\x09"],
        // A block that is cut off.
        &["SET", "R..."],
    ];
    let limits = limits();
    for (number, how) in spoilt.into_iter().enumerate() {
        let server = RedisServer::start().await;
        let store = shared(node(&server.url()), ScriptTime::Server);
        let at = |limit: usize, value| script::charge(&limits[limit], value);
        store.take(&[at(6, 1)], Clock::system().now()).await;
        let keys = server.counters().await;
        server.must(&["DEL", &keys[0]]).await;
        server.must(&[&[how[0], keys[0].as_str()], &how[1..]].concat()).await;
        let requests = [
            vec![at(6, 1)],
            vec![at(0, 2)],
            vec![at(6, 3), at(6, 1)],
            vec![at(6, 1), at(6, 3)],
            vec![at(0, 2)],
            vec![at(6, 3)],
            vec![at(0, 2)],
        ];
        let taken = join_all(requests.iter().map(|charges| store.take(charges, Clock::system().now()))).await;
        let admitted: Vec<bool> = requests.iter().zip(&taken).map(|(of, got)| admits(of, got)).collect();
        assert_eq!(admitted, [false, true, false, false, true, true, false], "{how:?}");
        // What went wrong is told apart from what was refused, and charged nothing to the key that is well.
        let first = |nth: usize| &taken[nth].list[0];
        assert!(matches!(first(0).judgement, Judgement::Undecided { .. }), "{how:?}: {:?}", first(0));
        assert!(matches!(first(6).judgement, Judgement::Exceeded { .. }), "{how:?}: {:?}", first(6));
        assert_eq!(first(5).windows[0].used, 0, "{how:?}");
        assert_eq!(server.counters().await.len(), 3, "case {number}");
    }
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
