//! Where one-time codes are kept: the same rules in the journal, in Redis, in a cluster and behind a REST interface.

mod lasting;
mod model;
mod remote;

use std::path::Path;
use std::sync::Arc;

use futures_util::future::join_all;
use tempfile::TempDir;
use tollgate::clock::Clock;
use tollgate::decision::key::KeyHash;
use tollgate::decision::time::{Span, Timestamp};
use tollgate::journal::{Journal, JournalSpec};
use tollgate::otp::card::{Card, Consumed, Draft, Guess, Nonce, Opened, Slot};
use tollgate::otp::desk::Desk;
use tollgate::store::{ScriptTime, Store};
use tollgate::telemetry::Metrics;

use self::model::Dice;
use super::conformance::{UPSTASH_TOKEN, cluster, memory, node, rest, shared};
use super::harness::redis::{RedisCluster, RedisServer};
use super::harness::upstash::Upstash;

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const TTL: Span = Span::from_secs(600);

/// A journal in a folder, or one that keeps nothing.
fn journal(folder: Option<&Path>, metrics: &Metrics) -> Journal {
    let spec = JournalSpec {
        folder: folder.map(Path::to_path_buf),
        retention: Span::from_secs(86_400),
        seal_key: [3; 32],
        hash_check: KeyHash::from_u128(1),
    };
    let (clock, _) = Clock::manual(START);
    Journal::open(spec, metrics.journal(), clock)
}

/// A desk in memory alone.
fn forgetful() -> Desk {
    Desk::new(Arc::new(memory()), journal(None, &Metrics::new().unwrap()))
}

/// A desk on a journal in a folder.
fn lasting() -> (Desk, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let journal = journal(Some(folder.path()), &Metrics::new().unwrap());
    (Desk::new(Arc::new(memory()), journal), folder)
}

fn on(store: Store) -> Desk {
    Desk::new(Arc::new(store), journal(None, &Metrics::new().unwrap()))
}

fn slot(number: u128) -> Slot {
    Slot::new(KeyHash::from_u128(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)))
}

/// A draft that shares nothing with one of another number.
fn draft(number: u64) -> Draft {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    Draft {
        nonce: Nonce::new(number.to_le_bytes()),
        seed,
        // Whatever bytes there are.
        sealed: (0..=255).chain(number.to_be_bytes()).collect(),
        ttl: TTL,
        attempts_max: 3,
    }
}

/// 100 opens, 1000 guesses and 100 uses, all at once; `desks` take turns.
async fn stampede(desks: &[Desk], slot: Slot, now: Timestamp) {
    let at_once = |count: usize| (0..count).map(|nth| desks[nth % desks.len()].clone());
    let opens = at_once(100).zip(1..).map(|(desk, number)| {
        tokio::spawn(async move { desk.open(slot, draft(number), now).await.unwrap() })
    });
    let opened: Vec<(Card, Opened)> = all(opens).await;
    let fresh: Vec<_> = opened.iter().filter(|(_, opened)| *opened == Opened::Fresh).collect();
    assert_eq!(fresh.len(), 1, "one of them made the code");
    let nonce = fresh[0].0.nonce;
    assert!(opened.iter().all(|(card, _)| card.nonce == nonce && card.seed == fresh[0].0.seed));
    let mut sends: Vec<u16> = opened.iter().map(|(card, _)| card.sends).collect();
    sends.sort_unstable();
    assert_eq!(sends, (1..=100).collect::<Vec<u16>>());

    let guesses =
        at_once(1000).map(|desk| tokio::spawn(async move { desk.guess(slot, None, now).await.unwrap() }));
    let mut counted = Vec::new();
    for guess in all(guesses).await {
        match guess {
            Guess::Counted(card) => counted.push(card.attempts),
            other => assert_eq!(other, Guess::Exhausted),
        }
    }
    counted.sort_unstable();
    assert_eq!(counted, [1, 2, 3]);

    let uses =
        at_once(100).map(|desk| tokio::spawn(async move { desk.consume(slot, nonce, now).await.unwrap() }));
    let used = all(uses).await;
    assert_eq!(used.iter().filter(|used| matches!(used, Consumed::First(_))).count(), 1);
    assert_eq!(desks[0].guess(slot, Some(nonce), now).await, Ok(Guess::Used));
}

async fn all<T>(tasks: impl Iterator<Item = tokio::task::JoinHandle<T>>) -> Vec<T> {
    // All of them are under way before the first is waited for.
    let tasks: Vec<_> = tasks.collect();
    join_all(tasks).await.into_iter().map(|done| done.expect("a task ends")).collect()
}

#[tokio::test]
async fn in_memory_the_rules_hold() {
    for run in 0..200 {
        model::agree(&forgetful(), run, 200).await;
    }
}

#[tokio::test]
async fn in_the_journal_the_rules_hold() {
    let (desk, _folder) = lasting();
    for run in 0..4 {
        model::agree(&desk, run, 100).await;
    }
}

#[tokio::test]
async fn in_redis_the_rules_hold() {
    let server = RedisServer::start().await;
    let desk = on(shared(node(&server.url()), ScriptTime::Caller));
    for run in 0..40 {
        model::agree(&desk, run, 200).await;
    }
}

#[tokio::test]
async fn in_a_cluster_the_rules_hold() {
    let servers = RedisCluster::start().await;
    let desk = on(shared(cluster(&servers.urls()), ScriptTime::Caller));
    for run in 0..10 {
        model::agree(&desk, run, 200).await;
    }
}

#[tokio::test]
async fn behind_a_rest_interface_the_rules_hold() {
    let server = RedisServer::start().await;
    let upstash = Upstash::start(server.address(), UPSTASH_TOKEN).await;
    let desk = on(shared(rest(&upstash.url()), ScriptTime::Caller));
    for run in 0..10 {
        model::agree(&desk, run, 200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_journal_a_stampede_gets_no_more_than_one_guesser() {
    let (desk, _folder) = lasting();
    for round in 0..5 {
        stampede(std::slice::from_ref(&desk), slot(round), START).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_redis_a_stampede_over_two_gateways_gets_no_more_than_one_guesser() {
    let server = RedisServer::start().await;
    let desks = [(); 2].map(|()| on(shared(node(&server.url()), ScriptTime::Server)));
    for round in 0..5 {
        stampede(&desks, slot(round), Clock::system().now()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_rest_interface_a_stampede_gets_no_more_than_one_guesser() {
    let server = RedisServer::start().await;
    let upstash = Upstash::start(server.address(), UPSTASH_TOKEN).await;
    let desk = on(shared(rest(&upstash.url()), ScriptTime::Server));
    stampede(&[desk], slot(1), Clock::system().now()).await;
}
