//! Limits through a real socket, with the clock in the test's hand.

use tollgate::clock::ManualClock;

use crate::harness::backend::Backend;
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::{Gateway, seconds};

const RULES: &str = r#"
policies:
  shared: [{ key: ip, windows: { shared: 3/min } }]
routes:
  - { name: by-ip, match: { path: /ip }, upstream: app, limits: [{ key: ip, windows: { burst: 2/min, hourly: 3/hour } }] }
  - { name: otp, match: { path: /otp }, upstream: app, limits: [{ key: ip, windows: { burst: 2/min, hourly: 3/hour, daily: 10/day } }] }
  - { name: wide, match: { path: /wide }, upstream: app, limits: [{ key: ip, windows: { wide: 100/min } }] }
  - { name: smooth, match: { path: /smooth }, upstream: app, limits: [{ key: ip, smooth: { rate: 2/min, burst: 3 } }] }
  - { name: mixed, match: { path: /mixed }, upstream: app, limits: [{ key: ip, windows: { few: 3/10s, many: 80/min } }] }
  - { name: two, match: { path: /two }, upstream: app, limits: [{ key: ip, windows: { all: 5/min } }, { key: header.x-key, windows: { each: 2/5m } }] }
  - { name: cost, match: { path: /cost }, upstream: app, limits: [{ key: ip, windows: { paid: 10/min }, cost: 3 }] }
  - { name: exempt, match: { path: /exempt }, upstream: app, limits: [{ key: ip, windows: { tight: 1/min }, exempt: [127.0.0.2] }, { key: global, windows: { all: 4/min } }] }
  - { name: shadow, match: { path: /shadow }, upstream: app, limits: [{ key: ip, windows: { trial: 1/min }, mode: shadow }, { key: ip, windows: { real: 4/min } }] }
  - { name: block, match: { path: /block }, upstream: app, limits: [{ key: ip, windows: { tries: 2/min }, block: 10m }] }
  - { name: ladder, match: { path: /ladder }, upstream: app, limits: [{ key: ip, windows: { tries: 1/10s }, block: { for: 1m, factor: 2, max: 3m, forget: 1h } }] }
  - { name: combo, match: { path: /combo }, upstream: app, limits: [{ key: ip, windows: { tries: 2/min }, block: 90s }, { key: ip, windows: { hourly: 3/hour } }, { key: ip, smooth: { rate: 1/min, burst: 4 } }] }
  - { name: pair, match: { path: /pair }, upstream: app, limits: [{ key: [header.x-user, ip], windows: { each: 1/min } }] }
  - { name: else-ip, match: { path: /else-ip }, upstream: app, limits: [{ key: header.x-user, missing: ip, windows: { each: 1/min } }] }
  - { name: else-skip, match: { path: /else-skip }, upstream: app, limits: [{ key: header.x-user, missing: skip, windows: { each: 1/min } }] }
  - { name: else-reject, match: { path: /else-reject }, upstream: app, limits: [{ key: header.x-user, missing: reject, windows: { each: 1/min } }] }
  - { name: global, match: { path: /global }, upstream: app, limits: [{ key: global, windows: { all: 2/min } }] }
  - { name: query, match: { path: /query }, upstream: app, limits: [{ key: query.email, as: email, windows: { each: 1/min } }] }
  - { name: param, match: { path: "/users/{id}" }, upstream: app, limits: [{ key: path.id, windows: { each: 1/min } }] }
  - { name: cookie, match: { path: /cookie }, upstream: app, limits: [{ key: cookie.sid, as: exact, windows: { each: 1/min } }] }
  - { name: shared-a, match: { path: /shared/a }, upstream: app, policies: [shared] }
  - { name: shared-b, match: { path: /shared/b }, upstream: app, policies: [shared] }
  - { name: own-a, match: { path: /own/a }, upstream: app, limits: [{ key: ip, windows: { own: 1/min } }] }
  - { name: own-b, match: { path: /own/b }, upstream: app, limits: [{ key: ip, windows: { own: 1/min } }] }
"#;

struct Stage {
    backend: Backend,
    gateway: Gateway,
    clock: ManualClock,
    client: Client,
}

impl Stage {
    async fn set() -> Stage {
        let backend = Backend::ok().await;
        let (gateway, clock) = Gateway::with_clock(&backend, RULES).await;
        let client = gateway.client().await;
        Stage { backend, gateway, clock, client }
    }

    async fn get(&mut self, target: &str) -> Answer {
        self.client.request("GET", target).send().await
    }

    async fn get_with(&mut self, target: &str, name: &str, value: &str) -> u16 {
        self.client.request("GET", target).header(name, value).send().await.status
    }

    async fn get_from(&self, local: [u8; 4], target: &str) -> u16 {
        let mut client = Client::connect_from(local.into(), self.gateway.address).await;
        client.request("GET", target).send().await.status
    }

    async fn admitted(&mut self, target: &str, times: u32) {
        for nth in 1..=times {
            assert_eq!(self.get(target).await.status, 200, "request {nth} to {target}");
        }
    }

    /// The next request is refused, a second less than announced does not help, the announced time does.
    async fn refused_honestly(&mut self, target: &str, retry_after_s: u64) {
        let refused = self.get(target).await;
        assert_eq!((refused.status, refused.number("retry-after")), (429, retry_after_s), "{target}");
        self.clock.advance(seconds(retry_after_s - 1));
        let early = self.get(target).await;
        assert_eq!((early.status, early.number("retry-after")), (429, 1), "{target} a second early");
        self.clock.advance(seconds(1));
        assert_eq!(self.get(target).await.status, 200, "{target} on time");
    }

    async fn refusals(&self, route: &str, key: &str, mode: &str, window: &str) -> f64 {
        let series = format!(
            "tollgate_refusals_total{{key=\"{key}\",mode=\"{mode}\",policy=\"{route}\",route=\"{route}\",window=\"{window}\"}}"
        );
        self.gateway.metric(&series).await
    }

    async fn requests(&self, route: &str, verdict: &str) -> f64 {
        let series = format!("tollgate_requests_total{{route=\"{route}\",verdict=\"{verdict}\"}}");
        self.gateway.metric(&series).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_admits_its_number_then_refuses_with_honest_headers() {
    let mut stage = Stage::set().await;
    let first = stage.get("/ip").await;
    assert_eq!(first.status, 200);
    assert_eq!(first.number("x-ratelimit-limit"), 2);
    assert_eq!(first.number("x-ratelimit-remaining"), 1);
    assert_eq!(first.number("x-ratelimit-reset"), 1_800_000_060);
    assert_eq!(first.headers.get("ratelimit"), Some("\"burst\";r=1;t=60"));
    let policy = "\"burst\";q=2;w=60, \"hourly\";q=3;w=3600";
    assert_eq!(first.headers.get("ratelimit-policy"), Some(policy));

    stage.clock.advance(seconds(10));
    assert_eq!(stage.get("/ip").await.status, 200);
    let refused = stage.get("/ip").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.number("retry-after"), 50);
    assert_eq!(refused.number("x-ratelimit-remaining"), 0);
    assert_eq!(refused.number("x-ratelimit-reset"), 1_800_000_060);
    assert_eq!(refused.headers.get("content-type"), Some("application/json"));
    assert_eq!(refused.headers.get("cache-control"), Some("no-store"));
    let detail = "Request was throttled. Expected available in 50 seconds.";
    assert_eq!(refused.json(), serde_json::json!({ "detail": detail }));
    assert_eq!(stage.backend.count(), 2, "the refusal never reached the backend");

    stage.clock.advance(seconds(49));
    assert_eq!(stage.get("/ip").await.status, 429);
    stage.clock.advance(seconds(1));
    assert_eq!(stage.get("/ip").await.status, 200);
    let hourly = stage.get("/ip").await;
    assert_eq!((hourly.status, hourly.number("retry-after")), (429, 3540));
    assert_eq!(stage.requests("by-ip", "admitted").await, 3.0);
    assert_eq!(stage.requests("by-ip", "limited").await, 3.0);
}

/// Against an exact log: what the three windows admit over two days of impatient trying.
#[tokio::test(flavor = "multi_thread")]
async fn every_rolling_window_of_a_key_holds() {
    const WINDOWS: [(usize, u64); 3] = [(2, 60), (3, 3600), (10, 86_400)];
    let mut stage = Stage::set().await;
    let mut log: Vec<u64> = Vec::new();
    let mut now = 0;
    // Steps that are no divisor of any window, so that edges are met from both sides.
    for step in [1, 7, 53, 59, 60, 61, 601, 1193, 1801, 2399].into_iter().cycle().take(300) {
        let within = |span: u64| log.iter().filter(|&&at| now - at < span).count();
        let expected = WINDOWS.iter().all(|&(max, span)| within(span) < max);
        let status = stage.get("/otp").await.status;
        assert_eq!(status == 200, expected, "at {now} s: {status}");
        if expected {
            log.push(now);
        }
        stage.clock.advance(seconds(step));
        now += step;
    }
    assert!(log.len() > 15 && now > 2 * 86_400, "{} admitted in {now} s", log.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_honest_for_every_kind_of_limit() {
    let mut stage = Stage::set().await;

    stage.admitted("/ip", 2).await;
    stage.refused_honestly("/ip", 60).await;
    stage.refused_honestly("/ip", 3540).await;

    // Sub-buckets of 60 s / 64, rounded up: an event is counted until all of its bucket is out.
    stage.admitted("/wide", 100).await;
    let wide = stage.get("/wide").await;
    assert_eq!(wide.number("x-ratelimit-limit"), 100);
    stage.refused_honestly("/wide", wide.number("retry-after")).await;
    assert!((60..=61).contains(&wide.number("retry-after")), "{}", wide.number("retry-after"));

    stage.admitted("/smooth", 3).await;
    stage.refused_honestly("/smooth", 30).await;
    stage.refused_honestly("/smooth", 30).await;
    stage.clock.advance(seconds(90));
    stage.admitted("/smooth", 3).await;

    // 3 in 10 s by the ring, 80 in a minute by the buckets of the same key.
    for _ in 0..26 {
        stage.admitted("/mixed", 3).await;
        assert_eq!(stage.get("/mixed").await.number("retry-after"), 10);
        stage.clock.advance(seconds(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_windows_stop_at_their_number_and_tell_what_is_left() {
    let mut stage = Stage::set().await;
    for left in (0..100).rev() {
        let answer = stage.get("/wide").await;
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (200, left));
    }
    for _ in 0..5 {
        let refused = stage.get("/wide").await;
        assert_eq!((refused.status, refused.number("x-ratelimit-remaining")), (429, 0));
    }
    assert_eq!(stage.backend.count(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_limits_are_charged_or_none() {
    let mut stage = Stage::set().await;
    for (key, expected) in [
        ("a", 200),
        ("a", 200),
        ("a", 429),
        ("a", 429),
        ("a", 429),
        ("b", 200),
        ("b", 200),
        ("b", 429),
        // Had the refusals cost the address anything, its five would be used up.
        ("c", 200),
        ("c", 429),
        ("d", 429),
    ] {
        assert_eq!(stage.get_with("/two", "x-key", key).await, expected, "{key}");
    }
    assert_eq!(stage.refusals("two", "header.x-key", "enforce", "each").await, 4.0);
    assert_eq!(stage.refusals("two", "ip", "enforce", "all").await, 2.0);

    // `c` and `d` were refused by the address alone: both still have what they had.
    stage.clock.advance(seconds(60));
    for (key, expected) in [("c", 200), ("c", 429), ("d", 200), ("d", 200), ("d", 429), ("a", 429)] {
        assert_eq!(stage.get_with("/two", "x-key", key).await, expected, "{key} a minute later");
    }
    assert_eq!(stage.backend.count(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_longest_wait_of_several_limits_is_announced() {
    let mut stage = Stage::set().await;
    stage.admitted("/combo", 2).await;
    stage.refused_honestly("/combo", 90).await;
    // Three an hour are used up now, and the block of the first limit is over.
    stage.refused_honestly("/combo", 3600 - 90).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_costs_what_the_limit_says() {
    let mut stage = Stage::set().await;
    for left in [7, 4, 1] {
        let answer = stage.get("/cost").await;
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (200, left));
        stage.clock.advance(seconds(5));
    }
    let refused = stage.get("/cost").await;
    assert_eq!((refused.status, refused.number("x-ratelimit-remaining")), (429, 1));
    stage.refused_honestly("/cost", 45).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exempt_addresses_are_not_counted_by_that_limit_alone() {
    let stage = Stage::set().await;
    assert_eq!(stage.get_from([127, 0, 0, 1], "/exempt").await, 200);
    assert_eq!(stage.get_from([127, 0, 0, 1], "/exempt").await, 429);
    for expected in [200, 200, 200, 429] {
        assert_eq!(stage.get_from([127, 0, 0, 2], "/exempt").await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_in_shadow_mode_is_counted_and_never_refuses() {
    let mut stage = Stage::set().await;
    for left in [3, 2, 1, 0] {
        let answer = stage.get("/shadow").await;
        assert_eq!((answer.status, answer.number("x-ratelimit-remaining")), (200, left));
        assert_eq!(answer.headers.get("ratelimit-policy"), Some("\"real\";q=4;w=60"));
    }
    assert_eq!(stage.get("/shadow").await.status, 429);
    assert!(stage.refusals("shadow", "ip", "shadow", "trial").await >= 3.0);
    assert_eq!(stage.refusals("shadow", "ip", "enforce", "trial").await, 0.0);
    assert_eq!(stage.refusals("shadow", "ip", "enforce", "real").await, 1.0);
    assert_eq!(stage.requests("shadow", "admitted").await, 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_lasts_as_announced_and_trying_does_not_prolong_it() {
    let mut stage = Stage::set().await;
    stage.admitted("/block", 2).await;
    for left_s in (1..=600).rev().step_by(100) {
        let refused = stage.get("/block").await;
        assert_eq!((refused.status, refused.number("retry-after")), (429, left_s));
        stage.clock.advance(seconds(100));
    }
    stage.admitted("/block", 2).await;
    stage.refused_honestly("/block", 600).await;
    assert_eq!(stage.refusals("block", "ip", "enforce", "block").await, 8.0);
    assert_eq!(stage.requests("block", "blocked").await, 8.0);
    assert_eq!(stage.get_from([127, 0, 0, 9], "/block").await, 200, "nobody else is blocked");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_further_block_is_longer_until_it_is_forgotten() {
    let mut stage = Stage::set().await;
    stage.admitted("/ladder", 1).await;
    for block_s in [60, 120, 180, 180] {
        stage.refused_honestly("/ladder", block_s).await;
    }
    stage.clock.advance(seconds(3600 + 180));
    stage.admitted("/ladder", 1).await;
    stage.refused_honestly("/ladder", 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_composite_key_counts_each_pair() {
    let stage = Stage::set().await;
    for (local, user, expected) in [
        (1, "ann", 200),
        (1, "ann", 429),
        (1, "bob", 200),
        (2, "ann", 200),
        (2, "bob", 200),
        (2, "bob", 429),
        // Text is trimmed and lower-cased.
        (3, "ann", 200),
        (3, "ANN ", 429),
    ] {
        let mut client = Client::connect_from([127, 0, 0, local].into(), stage.gateway.address).await;
        let answer = client.request("GET", "/pair").header("x-user", user).send().await;
        assert_eq!(answer.status, expected, "{user} from 127.0.0.{local}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_value_is_counted_by_address_or_skipped_or_refused() {
    let mut stage = Stage::set().await;
    for expected in [200, 429] {
        assert_eq!(stage.get("/else-ip").await.status, expected);
    }
    assert_eq!(stage.get_with("/else-ip", "x-user", "  ").await, 429, "nothing left is missing");
    assert_eq!(stage.get_with("/else-ip", "x-user", "127.0.0.1").await, 200, "a value is no address");
    stage.admitted("/else-skip", 5).await;
    for expected in [200, 429] {
        assert_eq!(stage.get_with("/else-skip", "x-user", "ann").await, expected);
    }
    let refused = stage.get("/else-reject").await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.json()["detail"], "\"header.x-user\" is required.");
    assert_eq!(stage.get_with("/else-reject", "x-user", "ann").await, 200);
    assert_eq!(stage.requests("else-reject", "malformed").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_of_two_routes_has_one_counter_and_limits_of_their_own_have_two() {
    let mut stage = Stage::set().await;
    for (target, expected) in [
        ("/shared/a", 200),
        ("/shared/b", 200),
        ("/shared/a", 200),
        ("/shared/b", 429),
        ("/shared/a", 429),
        ("/own/a", 200),
        ("/own/b", 200),
        ("/own/a", 429),
        ("/own/b", 429),
    ] {
        assert_eq!(stage.get(target).await.status, expected, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_key_tells_its_values_apart() {
    let mut stage = Stage::set().await;
    for (local, expected) in [(1, 200), (2, 200), (3, 429), (1, 429)] {
        assert_eq!(stage.get_from([127, 0, 0, local], "/global").await, expected);
    }
    for (target, expected) in [
        ("/query?email=a@example.com", 200),
        ("/query?x=1&email=A%40Example.com", 429),
        ("/query?email=b@example.com", 200),
        ("/query?email=a@example.com&email=b@example.com", 400),
        ("/users/7", 200),
        ("/users/7/", 429),
        ("/users/%37", 429),
        ("/users/8", 200),
    ] {
        assert_eq!(stage.get(target).await.status, expected, "{target}");
    }
    for (cookie, expected) in
        [("sid=a", 200), ("x=1; sid=a", 429), ("sid=\"a\"", 429), ("sid=A", 200), ("sid=a; sid=b", 400)]
    {
        assert_eq!(stage.get_with("/cookie", "cookie", cookie).await, expected, "{cookie}");
    }
}
