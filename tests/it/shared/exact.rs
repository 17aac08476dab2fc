//! However many gateways there are, a limit of N is N in all of them together.

use crate::adversary;
use crate::harness::backend::Backend;
use crate::harness::binary::Running;
use crate::harness::redis::RedisServer;

use super::{PATIENT, Site, store_at};

/// Who must have N whatever happens writes `closed`; a machine that stalls then breaks no promise.
const STRICT: &str = "timeout: 5s, on_error: closed";

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_together_and_the_rest_is_told_alike() {
    const RULES: &str = "routes: [{ name: r, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 3/hour } }] }]";
    let site = Site::start(3, PATIENT, RULES).await;
    for (gateway, remaining) in [(0, 2), (1, 1), (2, 0)] {
        let answer = site.get(gateway, "/").await;
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (200, remaining));
    }
    for gateway in 0..3 {
        let answer = site.get(gateway, "/").await;
        assert_eq!(answer.status, 429);
        assert!((3_590..=3_601).contains(&answer.number("retry-after")), "{:?}", answer.headers);
    }
    assert_eq!(site.backend.count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_one_call_whatever_it_charges_and_a_refusal_writes_nothing() {
    const RULES: &str = "
routes:
  - name: r
    match: { path: /* }
    upstream: app
    limits:
      - { key: ip, windows: { a: 9/min, b: 90/hour } }
      - { key: global, windows: { w: 7/hour } }
      - { key: header.x-key, missing: ip, smooth: { rate: 1/hour, burst: 6 } }
";
    let site = Site::start(2, PATIENT, RULES).await;
    // Each server learns the script once.
    assert_eq!(site.statuses(0, "/", 1).await, [200]);
    let before = site.redis.decisions().await;
    assert_eq!(site.statuses(0, "/", 5).await, [200; 5]);
    assert_eq!(site.redis.decisions().await - before, 5);
    let stored = stored(&site.redis).await;
    assert_eq!(site.statuses(1, "/", 1).await, [429], "the third limit of a gateway that knew nothing");
    assert_eq!(self::stored(&site.redis).await, stored, "nothing is charged by a refusal");
}

/// All that is stored under keys of ours, the one for probes aside.
async fn stored(redis: &RedisServer) -> Vec<(String, Vec<u8>)> {
    let mut stored = redis.values().await;
    stored.retain(|(key, _)| !key.contains("probe"));
    assert!(!stored.is_empty());
    stored
}

#[tokio::test(flavor = "multi_thread")]
async fn no_timing_gets_one_more_than_the_limit_through_three_gateways() {
    let site = Site::start(3, STRICT, adversary::RULES).await;
    adversary::attack(&site.addresses(), 6, &[429, 503]).await;
}

/// One Redis, and three gateways whose clocks are ten seconds apart each.
async fn at_odds(settings: &str, rules: &str) -> (RedisServer, Backend, Vec<Running>) {
    let (redis, backend) = (RedisServer::start().await, Backend::ok().await);
    let rules = format!("{}{rules}", store_at(&redis.url(), settings));
    let mut gateways = Vec::new();
    for shift_s in [-10, 0, 10] {
        gateways.push(Running::start_shifted(&backend, &rules, shift_s).await);
    }
    (redis, backend, gateways)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_timing_gets_more_through_gateways_whose_clocks_disagree() {
    let (_redis, _backend, gateways) = at_odds(STRICT, adversary::RULES).await;
    let addresses: Vec<_> = gateways.iter().map(|gateway| gateway.address).collect();
    adversary::attack(&addresses, 6, &[429, 503]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_as_one_gateway_says_succeeds_at_another_whose_clock_disagrees() {
    let (_redis, _backend, gateways) = at_odds(PATIENT, adversary::PATIENT_RULES).await;
    let addresses: Vec<_> = gateways.iter().map(|gateway| gateway.address).collect();
    adversary::wait_as_told(&addresses).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_blocked_at_one_gateway_is_blocked_at_the_other() {
    const RULES: &str = "routes: [{ name: r, match: { path: /* }, upstream: app, limits: [{ key: ip, windows: { w: 2/min }, block: 10m }] }]";
    let site = Site::start(2, PATIENT, RULES).await;
    assert_eq!(site.statuses(0, "/", 3).await, [200, 200, 429]);
    for gateway in [0, 1] {
        let answer = site.get(gateway, "/").await;
        assert_eq!(answer.status, 429);
        assert!((500..=600).contains(&answer.number("retry-after")), "{gateway}: {:?}", answer.headers);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_with_the_old_and_the_new_numbers_of_a_limit_count_together() {
    let rules = |few: &str, many: &str| {
        format!(
            "routes:\n  - {{ name: few, match: {{ path: /few }}, upstream: app, limits: [{{ key: ip, windows: {{ {few} }} }}] }}\n\
             \x20 - {{ name: many, match: {{ path: /many }}, upstream: app, limits: [{{ key: ip, windows: {{ {many} }} }}] }}\n"
        )
    };
    let mut site = Site::start(1, PATIENT, &rules("hourly: 3/hour", "hourly: 70/hour")).await;
    site.add(PATIENT, &rules("burst: 4/30m, hourly: 5/hour", "hourly: 80/hour")).await;
    let admitted = async |gateway, path| {
        let statuses = site.statuses(gateway, path, 100).await;
        assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
        statuses.iter().filter(|status| **status == 200).count()
    };
    assert_eq!(admitted(0, "/few").await, 3);
    assert_eq!(admitted(1, "/few").await, 1, "the fourth within the added window");
    assert_eq!(admitted(0, "/few").await, 0);
    assert_eq!(admitted(0, "/many").await, 70);
    assert_eq!(admitted(1, "/many").await, 10, "up to the raised number");
    assert_eq!(admitted(0, "/many").await, 0);
}
