//! One suite that every store passes: the same requests at the same times, and the same answers.

mod attempts;
mod script;

use std::sync::Arc;
use std::time::Duration;

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

use self::script::{Between, Dice, Shape, Step, limits};
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
    let spec = StoreSpec { max_keys: 100_000, kind };
    Store::open(&spec, KeyHasher::new([9; 16]), metrics.store(), Clock::system(), time)
}

pub(crate) fn node(url: &str) -> Place {
    Place::Redis(RedisPlace::Single(RedisUrl::parse(&url.to_owned().into()).expect("a URL")))
}

fn cluster(urls: &[String]) -> Place {
    let nodes = urls.iter().map(|url| RedisUrl::parse(&url.clone().into()).expect("a URL"));
    Place::Redis(RedisPlace::Cluster(nodes.collect()))
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

/// Plays the same random requests to both; `runs` of them, each with keys of its own.
async fn agree(store: &Store, shape: Shape, runs: u64, steps: usize) {
    let limits = limits();
    for run in 0..runs {
        let mut pair = Pair { store, memory: memory(), now: START, history: Vec::new(), held: Vec::new() };
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
    }
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
