//! Upstash behind its REST interface: what is promised of Redis holds there as well.

use std::time::Duration;

use crate::harness::backend::Backend;
use crate::harness::binary::Running;
use crate::harness::client::Client;
use crate::harness::eventually;
use crate::harness::redis::RedisServer;
use crate::harness::upstash::{Manner, Upstash};

const TOKEN: &str = "a-token-of-the-test";

const RULES: &str = "
routes:
  - { name: local, match: { path: /local }, upstream: app, limits: [{ key: header.x-key, windows: { w: 3/hour } }] }
  - { name: closed, match: { path: /closed }, upstream: app, limits: [{ key: ip, windows: { w: 100/hour }, on_store_error: closed }] }
";

async fn gateway(backend: &Backend, upstash: &Upstash, timeout: &str) -> Running {
    let url = upstash.url();
    let store =
        format!("store: {{ kind: upstash, url: \"{url}\", token: \"{TOKEN}\", timeout: {timeout} }}\n");
    Running::start(backend, &format!("{store}{RULES}")).await
}

async fn status(gateway: &Running, path: &str, key: &str) -> u16 {
    Client::connect(gateway.address).await.request("GET", path).header("x-key", key).send().await.status
}

async fn up(gateway: &Running, value: f64) {
    eventually("the gateway to notice", Duration::from_secs(10), async || {
        (gateway.metric("tollgate_store_up").await == value).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_share_a_limit_and_calls_share_a_request() {
    let (redis, backend) = (RedisServer::start().await, Backend::ok().await);
    let upstash = Upstash::start(redis.address(), TOKEN).await;
    let gateways = [gateway(&backend, &upstash, "5s").await, gateway(&backend, &upstash, "5s").await];
    for round in 0..20 {
        let key = format!("key {round}");
        let asked = (0..8).map(|nth| status(&gateways[nth % 2], "/local", &key));
        let statuses = futures_util::future::join_all(asked).await;
        assert_eq!(
            statuses.iter().filter(|&&status| status == 200).count(),
            3,
            "round {round}: {statuses:?}"
        );
    }

    // An answer that takes its time gathers what comes meanwhile.
    upstash.behave(Manner::ServeLate(Duration::from_millis(100)));
    let (calls, commands) = (upstash.calls(), upstash.commands());
    let keys: Vec<String> = (0..64).map(|nth| format!("late {nth}")).collect();
    let statuses =
        futures_util::future::join_all(keys.iter().map(|key| status(&gateways[0], "/local", key))).await;
    assert_eq!(statuses, [200; 64]);
    let (calls, commands) = (upstash.calls() - calls, upstash.commands() - commands);
    assert!(commands >= 64, "{commands}");
    assert!(calls * 2 < commands, "{commands} commands in {calls} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_does_what_it_says_while_upstash_is_away() {
    let (redis, backend) = (RedisServer::start().await, Backend::ok().await);
    let upstash = Upstash::start(redis.address(), TOKEN).await;
    let gateway = gateway(&backend, &upstash, "1s").await;
    assert_eq!(status(&gateway, "/local", "a").await, 200);
    assert_eq!(status(&gateway, "/local", "a").await, 200);
    for manner in
        [Manner::HangUp, Manner::Fail(500), Manner::Fail(401), Manner::Say("nonsense"), Manner::Hang]
    {
        let told = format!("{manner:?}");
        upstash.behave(manner);
        up(&gateway, 0.0).await;
        assert_eq!(status(&gateway, "/closed", "x").await, 503, "{told}");
        assert_eq!(status(&gateway, "/local", &told).await, 200, "{told}");
        upstash.behave(Manner::Serve);
        up(&gateway, 1.0).await;
    }
    let address = upstash.address();
    upstash.stop().await;
    up(&gateway, 0.0).await;
    // Two of three were used before.
    assert_eq!(status(&gateway, "/local", "a").await, 200);
    assert_eq!(status(&gateway, "/local", "a").await, 429);
    let _upstash = Upstash::start_at(address, redis.address(), TOKEN).await;
    up(&gateway, 1.0).await;
    assert_eq!(status(&gateway, "/closed", "x").await, 200);
}
