//! Limits through a real socket, with the clock in the test's hand.

use crate::harness::backend::{Backend, Reply};
use crate::harness::client::Answer;
use crate::harness::gateway::{Gateway, seconds};

const MATRIX: &str = r#"
policies:
  otp:
    - { key: ip, windows: { burst: 2/min, hourly: 3/hour, daily: 10/day } }
    - { key: body.email, as: email, windows: { hourly: 2/hour } }
routes:
  - { name: otp, match: { method: POST, path: /otp }, upstream: app, policies: [otp] }
  - { name: by-ip, match: { path: /ip }, upstream: app, limits: [{ key: ip, windows: { burst: 2/min, hourly: 3/hour } }] }
"#;

fn number(answer: &Answer, name: &str) -> u64 {
    answer.headers.get(name).unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_admits_its_number_then_refuses_with_honest_headers() {
    let backend = Backend::ok().await;
    let (gateway, clock) = Gateway::with_clock(&backend, MATRIX).await;
    let mut client = gateway.client().await;

    let first = client.request("GET", "/ip").send().await.unwrap();
    assert_eq!(first.status, 200);
    assert_eq!(number(&first, "x-ratelimit-limit"), 2);
    assert_eq!(number(&first, "x-ratelimit-remaining"), 1);
    assert_eq!(number(&first, "x-ratelimit-reset"), 1_800_000_060);
    assert_eq!(first.headers.get("ratelimit").unwrap(), "\"burst\";r=1;t=60");
    let policy = "\"burst\";q=2;w=60, \"hourly\";q=3;w=3600";
    assert_eq!(first.headers.get("ratelimit-policy").unwrap(), policy);

    clock.advance(seconds(10));
    assert_eq!(client.request("GET", "/ip").send().await.unwrap().status, 200);
    let refused = client.request("GET", "/ip").send().await.unwrap();
    assert_eq!(refused.status, 429);
    assert_eq!(number(&refused, "retry-after"), 50);
    assert_eq!(number(&refused, "x-ratelimit-remaining"), 0);
    assert_eq!(number(&refused, "x-ratelimit-reset"), 1_800_000_060);
    assert_eq!(refused.headers.get("content-type").unwrap(), "application/json");
    assert_eq!(refused.headers.get("cache-control").unwrap(), "no-store");
    let detail = "Request was throttled. Expected available in 50 seconds.";
    assert_eq!(refused.json(), serde_json::json!({ "detail": detail }));
    assert_eq!(backend.count(), 2, "the refusal never reached the backend");

    // One second less does not help; the announced time does.
    clock.advance(seconds(49));
    assert_eq!(client.request("GET", "/ip").send().await.unwrap().status, 429);
    clock.advance(seconds(1));
    assert_eq!(client.request("GET", "/ip").send().await.unwrap().status, 200);
    let hourly = client.request("GET", "/ip").send().await.unwrap();
    assert_eq!((hourly.status, number(&hourly, "retry-after")), (429, 3540));
    assert_eq!(client.connections_opened(), 1, "refusals keep the connection");
}
