//! One Redis that dies, freezes, comes back empty or forgets its scripts, with two gateways under load.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::harness::redis::RedisServer;

use super::load::{Effect, Stress};
use super::{PATIENT, store_at};

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_dies_and_comes_back_empty() {
    let mut redis = RedisServer::start().await;
    let stress = Stress::on(|settings| store_at(&redis.url(), settings)).await;
    redis.kill_9();
    let from = Instant::now();
    stress.is_noticed().await;
    stress.asks_nothing_for(Duration::from_secs(1)).await;
    let until = Instant::now();
    redis.restart_empty().await;
    stress.is_back(async || Some(redis.decisions().await)).await;
    assert!(!redis.counters().await.is_empty());
    stress.stop("kill -9", &Effect::Outage { from, until }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_freezes_for_five_seconds() {
    let redis = RedisServer::start().await;
    let stress = Stress::on(|settings| store_at(&redis.url(), settings)).await;
    redis.pause();
    let from = Instant::now();
    stress.is_noticed().await;
    stress.asks_nothing_for(Duration::from_secs(5).saturating_sub(from.elapsed())).await;
    let until = Instant::now();
    redis.resume();
    stress.is_back(async || Some(redis.decisions().await)).await;
    stress.stop("SIGSTOP", &Effect::Outage { from, until }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_forgets_its_scripts_is_noticed_by_nobody() {
    let redis = RedisServer::start().await;
    // Patient: that a busy machine is late is no part of this.
    let stress = Stress::on(|_| store_at(&redis.url(), PATIENT)).await;
    for _ in 0..20 {
        redis.script_flush().await;
        let before = redis.decisions().await;
        // Each time the gateways teach it the script anew.
        stress.is_back(async || Some(redis.decisions().await)).await;
        assert!(redis.decisions().await > before);
        sleep(Duration::from_millis(20)).await;
    }
    stress.stop("SCRIPT FLUSH", &Effect::None).await;
}
