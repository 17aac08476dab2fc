//! Nobody who reads Redis, or listens in on it, learns who was counted.

use crate::harness::client::Client;
use crate::harness::{PATIENCE, eventually};

use super::{PATIENT, Site};

const RULES: &str = r#"
routes:
  - { name: otp, match: { method: POST, path: /otp }, upstream: app, limits: [{ key: body.email, as: email, windows: { w: 2/hour }, block: 1h }] }
  - { name: sms, match: { method: POST, path: "/sms/{phone}" }, upstream: app, limits: [{ key: path.phone, as: phone, windows: { w: 99/hour } }, { key: [header.x-key, ip], smooth: { rate: 1/s, burst: 5 } }] }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_told_neither_phones_nor_addresses() {
    let site = Site::start(1, PATIENT, RULES).await;
    let mut monitor = site.redis.monitor().await;
    let mut client = Client::connect(site.gateways[0].address).await;
    for _ in 0..3 {
        client.request("POST", "/otp").json(r#"{"email":"Ada.Lovelace@example.com"}"#).send().await;
        let sms = client.request("POST", "/sms/+12025550123").header("x-key", "key-of-ada").send().await;
        assert_eq!(sms.status, 200);
    }
    let heard = monitor.until_now(&site.redis).await;
    assert!(heard.iter().any(|line| line.contains("EVALSHA")), "the calls are heard: {heard:#?}");
    let stored = site.redis.values().await;
    assert!(stored.len() >= 3, "an e-mail, a phone and a key: {stored:?}");
    let stored: Vec<String> = stored
        .into_iter()
        .map(|(key, value)| {
            let name = key.strip_prefix("tg:1:").unwrap_or_else(|| panic!("no key of ours: {key}"));
            let is_hash = name.len() == 22;
            assert!(is_hash || name.starts_with("probe"), "{key}");
            format!("{key} {}", String::from_utf8_lossy(&value))
        })
        .collect();
    let told = eventually("the block of the e-mail to be told, and its event", PATIENCE, async || {
        Some(site.redis.mirrored().await).filter(|told| told.len() > 2)
    })
    .await;
    for line in heard.iter().chain(&stored).chain(&told) {
        let line = line.to_lowercase();
        for told in ["lovelace", "example.com", "2025550123", "key-of-ada", "127.0.0.1\""] {
            assert!(!line.contains(told), "{told} is in {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_goes_away_by_itself() {
    let site = Site::start(1, PATIENT, RULES).await;
    let mut client = Client::connect(site.gateways[0].address).await;
    for _ in 0..3 {
        client.request("POST", "/otp").json(r#"{"email":"ada@example.com"}"#).send().await;
        client.request("POST", "/sms/+12025550123").header("x-key", "a").send().await;
    }
    let keys = site.redis.keys().await;
    assert!(keys.len() >= 3, "{keys:?}");
    for key in keys {
        let ttl_s = site.redis.must(&["TTL", &key]).await.int();
        let most_s = if key.contains("{mirror}") { 8 * 86_400 } else { 3 * 3600 };
        assert!((1..=most_s).contains(&ttl_s), "{key} stays {ttl_s} s");
    }
}
