//! Attempts through several gateways at once, and while the store is away.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Barrier;
use tollgate::clock::Clock;
use tollgate::decision::key::KeyHasher;
use tollgate::decision::limit::{Limit, OnStoreError};
use tollgate::decision::tally::{Charge, Held, Judgement, Outcome, Settlement};
use tollgate::store::spec::{SharedSpec, StoreKind, StoreSpec};
use tollgate::store::{Forgotten, ScriptTime, Store};
use tollgate::telemetry::Metrics;

use super::script::{charge, limits};
use super::{TIMEOUT, node, shared};
use crate::harness::redis::RedisServer;

fn named(name: &str) -> Limit {
    limits().into_iter().find(|limit| &*limit.policy == name).expect("a limit of that name")
}

/// One attempt, and what its key says then; none if it did not get through.
async fn attempt(store: &Store, charge: Charge<'_>, outcome: Outcome) -> Option<Judgement> {
    let clock = Clock::system();
    let tallies = store.take(&[charge], clock.now()).await;
    let held = tallies.list[0].held?;
    tokio::task::yield_now().await;
    let settled = store.settle(&[Settlement { charge, held, outcome }], clock.now()).await;
    Some(settled[0].judgement)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_at_once_through_three_gateways_fail_no_more_often_than_in_a_row() {
    const FAILURES_MAX: u32 = 5;
    let server = RedisServer::start().await;
    let stores: Vec<Arc<Store>> =
        (0..3).map(|_| Arc::new(shared(node(&server.url()), ScriptTime::Server))).collect();
    let limit = Arc::new(named("hourly-guesses"));
    // Every n-th gives the right password.
    for (round, right) in [(0, usize::MAX), (1, 7), (2, 2)] {
        let start = Arc::new(Barrier::new(1_000));
        let tasks = (0..1_000).map(|number| {
            let (store, limit) = (Arc::clone(&stores[number % 3]), Arc::clone(&limit));
            let start = Arc::clone(&start);
            let outcome = if number % right == 1 { Outcome::Success } else { Outcome::Failure };
            tokio::spawn(async move {
                start.wait().await;
                let through = attempt(&store, charge(&limit, 90_000 + round), outcome).await;
                u32::from(through.is_some() && outcome == Outcome::Failure)
            })
        });
        let mut failed = 0;
        for task in tasks.collect::<Vec<_>>() {
            failed += task.await.expect("a task ends");
        }
        assert!(failed <= FAILURES_MAX, "{failed} failed in round {round}");
        // Those that are left in a row.
        while attempt(&stores[0], charge(&limit, 90_000 + round), Outcome::Failure).await.is_some() {
            failed += 1;
        }
        assert_eq!(failed, FAILURES_MAX, "round {round}");
    }
}

#[tokio::test]
async fn a_failure_that_the_store_is_not_told_counts_in_the_node() {
    let mut server = RedisServer::start().await;
    let metrics = Metrics::new().expect("metrics");
    let spec =
        SharedSpec { place: node(&server.url()), prefix: "tg:".into(), timeout: TIMEOUT, secret: None };
    let spec = StoreSpec { max_keys: 1_000, kind: StoreKind::Shared(spec), data_dir: PathBuf::new() };
    let clock = Clock::system();
    let hasher = KeyHasher::new([9; 16]);
    let store = Store::open(&spec, hasher, metrics.store(), clock.clone(), ScriptTime::Server);
    let limit = Limit { on_store_error: OnStoreError::Local, ..named("hourly-guesses") };
    let charge = charge(&limit, 1);
    let held = store.take(&[charge], clock.now()).await.list[0].held.expect("an attempt is reserved");
    assert!(matches!(held, Held::Store(_)));
    server.kill_9();
    let settlement = Settlement { charge, held, outcome: Outcome::Failure };
    let settled = store.settle(&[settlement], clock.now()).await;
    assert_eq!((settled[0].judgement, settled[0].failures), (Judgement::Admits, 1));
    let told = metrics.render();
    assert!(told.lines().any(|line| line == "tollgate_store_unsettled_total 1"), "{told}");
    // And the node goes on from it.
    let mut more = 0;
    while let Some(held) = store.take(&[charge], clock.now()).await.list[0].held {
        assert!(matches!(held, Held::Node(_)));
        store.settle(&[Settlement { charge, held, outcome: Outcome::Failure }], clock.now()).await;
        more += 1;
    }
    assert_eq!(more, 4);
    assert_eq!(store.forget(charge.key).await, Forgotten::Here);
    let judgement = store.take(&[charge], clock.now()).await.list[0].judgement;
    assert_eq!(judgement, Judgement::Admits);
}

#[tokio::test]
async fn nothing_is_kept_of_one_who_knows_the_password() {
    let server = RedisServer::start().await;
    let store = shared(node(&server.url()), ScriptTime::Server);
    for name in ["guesses", "backoff"] {
        let limit = named(name);
        let after = attempt(&store, charge(&limit, 2), Outcome::Success).await;
        assert_eq!(after, Some(Judgement::Admits), "{name}");
        assert_eq!(server.counters().await, Vec::<String>::new(), "{name}");
    }
}
