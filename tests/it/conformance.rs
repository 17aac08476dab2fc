//! One suite that every store passes: the same requests at the same times, and the same answers.

mod attempts;
mod script;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tollgate::clock::Clock;
use tollgate::decision::key::{KeyHash, KeyHasher};
use tollgate::decision::limit::Mode;
use tollgate::decision::tally::{Aftermath, Charge, Held, Judgement, Settlement, Tallies, Tally};
use tollgate::decision::time::{Span, Timestamp};
use tollgate::store::redis::RedisUrl;
use tollgate::store::spec::{Place, RedisPlace, SharedSpec, StoreKind, StoreSpec};
use tollgate::store::upstash::UpstashUrl;
use tollgate::store::{Forgotten, ScriptTime, Store};
use tollgate::telemetry::Metrics;

use self::script::{API, Between, Dice, Shape, Step, limits};
use super::harness::redis::{RedisCluster, RedisServer};
use super::harness::upstash::Upstash;

/// Patient: a slow machine must not look like a store that disagrees.
const TIMEOUT: Duration = Duration::from_secs(5);
pub(crate) const UPSTASH_TOKEN: &str = "a token";
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

pub(crate) fn cluster(urls: &[String]) -> Place {
    let nodes = urls.iter().map(|url| RedisUrl::parse(&url.clone().into()).expect("a URL"));
    Place::Redis(RedisPlace::Cluster(nodes.collect()))
}

/// A database behind a REST interface.
pub(crate) fn rest(url: &str) -> Place {
    let url = UpstashUrl::parse(url).expect("a URL");
    Place::Upstash { url, token: UPSTASH_TOKEN.to_owned().into() }
}

/// The verdicts, what is left in each window, when it returns, when to try again, what is reserved.
fn answer(tallies: &Tallies) -> Vec<String> {
    let told = |tally: &Tally| format!("{:?} {:?} {:?}", tally.judgement, tally.windows, tally.held);
    tallies.list.iter().map(told).collect()
}

fn admits(charges: &[Charge<'_>], tallies: &Tallies) -> bool {
    charges
        .iter()
        .zip(&tallies.list)
        .all(|(charge, tally)| charge.limit.mode == Mode::Shadow || tally.judgement == Judgement::Admits)
}

/// How often each limit said what.
type Seen = BTreeMap<(String, &'static str), usize>;

fn word(judgement: &Judgement) -> &'static str {
    match judgement {
        Judgement::Admits => "admits",
        Judgement::Exceeded { .. } => "exceeded",
        Judgement::Blocked { began: Some(_), .. } => "blocks",
        Judgement::Blocked { began: None, .. } => "blocked",
        Judgement::Waits { .. } => "waits",
        Judgement::Pending { .. } => "pending",
        Judgement::Undecided { .. } => "undecided",
    }
}

/// Plays the same random requests to both; `runs` of them, each with keys of its own.
async fn agree(store: &Store, shape: Shape, runs: u64, steps: usize) -> Seen {
    let limits = limits();
    let mut seen = Seen::new();
    for run in 0..runs {
        let (memory, history, held) = (memory(), Vec::new(), Vec::new());
        let mut pair = Pair { store, memory, now: START, history, held, seen };
        let mut dice = Dice::new(run * 1_000 + 7);
        for number in 0..steps {
            let place = format!("run {run}, step {number}");
            let Step { gap_ms, charges, times } = dice.step(&limits, shape, run);
            pair.now = pair.now.plus(Span::from_millis(gap_ms));
            for _ in 0..times {
                pair.take(&charges, &place).await;
            }
            match dice.between() {
                Some(Between::Settle(count)) => pair.settle(&mut dice, count, &place).await,
                Some(Between::Forget) => pair.forget(charges[dice.one_of(charges.len())].key).await,
                None => {}
            }
        }
        seen = pair.seen;
    }
    seen
}

/// A store beside memory, to which the same happens.
struct Pair<'s> {
    store: &'s Store,
    memory: Store,
    now: Timestamp,
    /// What happened to which keys, in memory.
    history: Vec<(Vec<KeyHash>, String)>,
    /// The attempts that are under way.
    held: Vec<(Charge<'s>, Held)>,
    seen: Seen,
}

impl<'s> Pair<'s> {
    async fn take(&mut self, charges: &[Charge<'s>], place: &str) {
        let now = self.now;
        let expected = self.memory.take(charges, now).await;
        let got = self.store.take(charges, now).await;
        self.compare(charges, &answer(&expected), &answer(&got), place);
        assert_eq!(admits(charges, &got), admits(charges, &expected));
        for (charge, tally) in charges.iter().zip(&expected.list) {
            self.held.extend(tally.held.map(|held| (*charge, held)));
            *self.seen.entry((charge.limit.policy.to_string(), word(&tally.judgement))).or_default() += 1;
        }
    }

    async fn settle(&mut self, dice: &mut Dice, count: usize, place: &str) {
        let mut settlements: Vec<Settlement<'_>> = Vec::new();
        for _ in 0..count.min(self.held.len()) {
            let (charge, held) = self.held.swap_remove(dice.one_of(self.held.len()));
            settlements.push(Settlement { charge, held, outcome: dice.outcome() });
        }
        let expected = self.memory.settle(&settlements, self.now).await;
        let got = self.store.settle(&settlements, self.now).await;
        let charges: Vec<Charge<'_>> = settlements.iter().map(|settlement| settlement.charge).collect();
        let told = |all: &[Aftermath]| -> Vec<String> {
            let told = settlements.iter().zip(all);
            told.map(|(settlement, after)| {
                format!("{:?} {:?}: {after:?}", settlement.held, settlement.outcome)
            })
            .collect()
        };
        self.compare(&charges, &told(&expected), &told(&got), place);
        for (charge, after) in charges.iter().zip(&expected) {
            let settled = format!("{}, settled", charge.limit.policy);
            *self.seen.entry((settled, word(&after.judgement))).or_default() += 1;
        }
    }

    async fn forget(&mut self, key: KeyHash) {
        assert_eq!(self.memory.forget(key).await, Forgotten::Everywhere);
        assert_eq!(self.store.forget(key).await, Forgotten::Everywhere);
        self.history.push((vec![key], "forgotten".into()));
    }

    fn compare(&mut self, charges: &[Charge<'_>], expected: &[String], got: &[String], place: &str) {
        let keys: Vec<KeyHash> = charges.iter().map(|charge| charge.key).collect();
        let names: Vec<&str> = charges.iter().map(|charge| &*charge.limit.policy).collect();
        let told = format!("{} ms {names:?}: {expected:?}", START.until(self.now).as_millis());
        self.history.push((keys.clone(), told));
        let of_these =
            self.history.iter().filter(|(touched, _)| touched.iter().any(|key| keys.contains(key)));
        assert!(
            got == expected,
            "{place}: got {got:?}\nafter and instead of\n{}",
            of_these.map(|(_, told)| told.as_str()).collect::<Vec<_>>().join("\n")
        );
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
            let Step { gap_ms, charges, .. } = dice.step(&limits, shape, run);
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
    let seen = agree(&store, Shape::Any, 270, 200).await;
    let to_meet = [
        ("insistent", "blocked"),
        ("many-guesses", "exceeded"),
        ("very-many-guesses", "exceeded"),
        ("very-many-guesses", "pending"),
        ("locked", "blocks"),
        ("locked", "blocked"),
        ("locked, settled", "blocks"),
        ("locked-longer", "blocked"),
        ("backoff", "waits"),
        ("backoff", "pending"),
        ("backoff-ip, settled", "waits"),
        ("backoff-locked, settled", "blocks"),
        ("shadow-guesses", "exceeded"),
    ];
    for (limit, word) in to_meet {
        assert!(
            seen.get(&(limit.to_owned(), word)).is_some_and(|&count| count >= 5),
            "{limit} {word}: {seen:?}"
        );
    }
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
        store.take(&[at(API, 1)], Clock::system().now()).await;
        let keys = server.counters().await;
        server.must(&["DEL", &keys[0]]).await;
        server.must(&[&[how[0], keys[0].as_str()], &how[1..]].concat()).await;
        let requests = [
            vec![at(API, 1)],
            vec![at(0, 2)],
            vec![at(API, 3), at(API, 1)],
            vec![at(API, 1), at(API, 3)],
            vec![at(0, 2)],
            vec![at(API, 3)],
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
    let upstash = Upstash::start(server.address(), UPSTASH_TOKEN).await;
    let store = shared(rest(&upstash.url()), ScriptTime::Caller);
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
