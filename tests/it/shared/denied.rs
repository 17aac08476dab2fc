//! An attack on one key stays in the node: it learns once a second whether anything changed.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::harness::client::Client;
use crate::harness::eventually;

use super::{PATIENT, Site};

const RULES: &str = "
routes:
  - { name: few, match: { path: /few }, upstream: app, limits: [{ key: ip, windows: { w: 2/hour } }] }
  - { name: block, match: { path: /block }, upstream: app, limits: [{ key: ip, windows: { w: 2/hour }, block: 2h }] }
";
const PATHS: [&str; 2] = ["/few", "/block"];
const GATEWAYS: usize = 2;
const ATTACK: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn an_attack_on_a_refused_key_costs_redis_one_call_a_second_and_node() {
    let site = Site::start(GATEWAYS, PATIENT, RULES).await;
    for path in PATHS {
        assert_eq!(site.statuses(0, path, 3).await, [200, 200, 429]);
        assert_eq!(site.statuses(1, path, 1).await, [429]);
    }
    let (start, before) = (Instant::now(), site.redis.decisions().await);
    let mut attack = JoinSet::new();
    for address in site.addresses() {
        for path in PATHS.repeat(2) {
            let mut client = Client::connect(address).await;
            attack.spawn(async move {
                let mut refused = 0_u64;
                while start.elapsed() < ATTACK {
                    assert_eq!(client.request("GET", path).send().await.status, 429, "{path}");
                    refused += 1;
                }
                refused
            });
        }
    }
    let refused: u64 = attack.join_all().await.into_iter().sum();
    let (calls, took) = (site.redis.decisions().await - before, start.elapsed());
    let keys = (GATEWAYS * PATHS.len()) as u64;
    // One at the beginning of each second begun.
    let calls_max = keys * (took.as_secs() + 1);
    println!("{refused} refusals in {took:?} cost {calls} calls");
    assert!(calls <= calls_max, "{calls} calls in {took:?} for {keys} keys and nodes");
    assert!(refused > 10 * calls_max, "{refused} requests are no attack");
    assert_eq!(site.backend.count(), 2 * PATHS.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_let_go_in_redis_is_let_go_in_every_node() {
    let site = Site::start(GATEWAYS, PATIENT, RULES).await;
    for path in PATHS {
        assert_eq!(site.statuses(0, path, 3).await, [200, 200, 429]);
        assert_eq!(site.statuses(1, path, 1).await, [429]);
    }
    site.redis.must(&["FLUSHALL"]).await;
    let start = Instant::now();
    for gateway in 0..GATEWAYS {
        eventually("an admission", Duration::from_secs(5), async || {
            (site.get(gateway, "/few").await.status == 200).then_some(())
        })
        .await;
    }
    println!("let go after {:?}", start.elapsed());
    // A block is no counter: whoever holds it tells the others again, and an operator ends it.
    for gateway in 0..GATEWAYS {
        assert_eq!(site.get(gateway, "/block").await.status, 429, "gateway {gateway}");
    }
}
