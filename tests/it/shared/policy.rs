//! What each limit does without the store is its own, and a request is still charged by all of them or by none.

use std::time::Duration;

use crate::harness::client::Client;
use crate::harness::eventually;

use super::{PATIENT, Site};

const RULES: &str = "
policies:
  counted: [{ key: ip, windows: { w: 3/hour } }]
  guarded: [{ key: global, windows: { w: 100/hour }, on_store_error: closed }]
  lenient: [{ key: header.x-key, missing: ip, windows: { w: 1/hour }, on_store_error: open }]
routes:
  - { name: counted, match: { path: /counted }, upstream: app, policies: [counted] }
  - { name: guarded, match: { path: /guarded }, upstream: app, policies: [counted, guarded] }
  - { name: lenient, match: { path: /lenient }, upstream: app, policies: [lenient] }
  - { name: mixed, match: { path: /mixed }, upstream: app, policies: [lenient, counted] }
  - { name: watched, match: { path: /watched }, upstream: app, limits: [{ key: ip, windows: { w: 1/hour }, on_store_error: closed, mode: shadow }] }
";

#[tokio::test(flavor = "multi_thread")]
async fn each_limit_does_what_it_says_while_the_store_is_away() {
    let mut site = Site::start(1, PATIENT, RULES).await;
    assert_eq!(site.statuses(0, "/counted", 2).await, [200, 200]);
    assert_eq!(site.statuses(0, "/lenient", 2).await, [200, 429]);
    site.redis.kill_9();

    let mut client = Client::connect(site.gateways[0].address).await;
    for nth in 0..5 {
        let refused = client.request("GET", "/guarded").send().await;
        assert_eq!(refused.status, 503, "closed, {nth}");
        assert!((1..=5).contains(&refused.number("retry-after")), "{:?}", refused.headers);
        assert!(
            refused.headers.get("x-ratelimit-limit").is_none(),
            "nothing is known: {:?}",
            refused.headers
        );
    }
    for nth in 0..5 {
        let name = format!("new-{nth}");
        let passed = client.request("GET", "/lenient").header("x-key", name).send().await;
        assert_eq!(passed.status, 200, "open");
        let again = client.request("GET", "/lenient").header("x-key", "always the same").send().await;
        assert_eq!(again.status, 200, "open, and not counted");
    }
    assert_eq!(site.statuses(0, "/watched", 3).await, [200; 3], "what only watches never refuses");
    // Two of three were used before; the refusals by `closed` have charged nothing.
    let mixed = client.request("GET", "/mixed").header("x-key", "m").send().await;
    assert_eq!(mixed.status, 200, "the third");
    assert_eq!(site.statuses(0, "/counted", 2).await, [429, 429]);
    let mixed = client.request("GET", "/mixed").header("x-key", "n").send().await;
    assert_eq!(mixed.status, 429, "the node's own count refuses where the other limit is open");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_let_through_uncounted_is_not_counted_later() {
    let mut site = Site::start(1, PATIENT, RULES).await;
    assert_eq!(site.statuses(0, "/counted", 1).await, [200]);
    site.redis.kill_9();
    assert_eq!(site.statuses(0, "/lenient", 3).await, [200; 3]);
    site.redis.restart_empty().await;
    let gateway = &site.gateways[0];
    eventually("the node to go back to the store", Duration::from_secs(10), async || {
        (gateway.metric("tollgate_store_up").await > 0.0).then_some(())
    })
    .await;
    assert_eq!(site.statuses(0, "/lenient", 2).await, [200, 429]);
    assert_eq!(site.redis.counters().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_goes_on_from_what_the_others_used_as_far_as_it_knows() {
    let mut site = Site::start(2, PATIENT, RULES).await;
    assert_eq!(site.statuses(0, "/counted", 1).await, [200]);
    assert_eq!(site.statuses(1, "/counted", 1).await, [200], "here the node learns of both");
    site.redis.kill_9();
    assert_eq!(site.statuses(1, "/counted", 2).await, [200, 429]);
    // The other knows of its own alone: N a node, as `local` says.
    assert_eq!(site.statuses(0, "/counted", 3).await, [200, 200, 429]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_refused_before_stays_refused() {
    const BLOCKING: &str = "routes: [{ name: r, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 2/min }, block: 10m }] }]";
    let mut site = Site::start(2, PATIENT, BLOCKING).await;
    assert_eq!(site.statuses(0, "/", 3).await, [200, 200, 429]);
    assert_eq!(site.statuses(1, "/", 1).await, [429]);
    site.redis.kill_9();
    for gateway in [0, 1] {
        let answer = site.get(gateway, "/").await;
        assert_eq!(answer.status, 429);
        assert!((500..=600).contains(&answer.number("retry-after")), "{gateway}: {:?}", answer.headers);
    }
}
