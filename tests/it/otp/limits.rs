//! Limits by destination, whoever asks; and waits that grow with each code.

use serde_json::json;

use super::{PHONE, Stage, id_of, wrong};
use crate::harness::client::Client;
use crate::harness::gateway::seconds;

#[tokio::test]
async fn each_resend_waits_longer_and_brings_the_same_code() {
    let stage = Stage::set("limits: [{ key: phone, windows: { daily: 100/day } }]").await;
    let first = stage.send(PHONE).await;
    let code = stage.code(1).await;
    for (nth, wait) in [(2, 60), (3, 120), (4, 240)] {
        stage.clock.advance(seconds(wait - 1));
        let early = stage.send(PHONE).await;
        assert_eq!((early.status, early.number("retry-after")), (429, 1), "a second too early, number {nth}");
        stage.clock.advance(seconds(1));
        let sent = stage.send(PHONE).await;
        assert_eq!(sent.status, 202);
        assert_eq!(id_of(&sent), id_of(&first));
        assert_eq!(sent.json()["resend_in"].as_u64(), Some(wait * 2));
        let left = 600 - [60, 180, 420][nth - 2];
        assert_eq!(sent.json()["expires_in"].as_u64(), Some(left), "not prolonged");
        assert_eq!(stage.code(nth).await, code);
    }
}

#[tokio::test]
async fn a_destination_has_its_limits_whoever_asks() {
    let stage = Stage::set("cooldown: 0s").await;
    let from = async |last: u8, phone: &str| {
        let mut client = Client::connect_from([127, 0, 0, last].into(), stage.gateway.address).await;
        let body = json!({ "phone": phone }).to_string();
        client.request("POST", "/otp/send").json(&body).send().await
    };
    for last in 1..=3 {
        assert_eq!(from(last, PHONE).await.status, 202);
    }
    let refused = from(4, "415 555 0123").await;
    assert_eq!((refused.status, refused.number("retry-after")), (429, 900), "blocked for 15 minutes");
    assert_eq!(refused.headers.get("x-ratelimit-limit"), None, "its quota is nobody else's business");
    assert_eq!(from(4, "+14155550124").await.status, 202, "other numbers are not concerned");
    stage.clock.advance(seconds(900));
    assert_eq!(from(5, PHONE).await.status, 202);
}

#[tokio::test]
async fn the_allow_list_does_not_open_a_destination() {
    let stage = Stage::set("cooldown: 1m").await;
    let rules = super::rules(&stage.provider, "cooldown: 1m");
    stage.gateway.edit(&format!("access: {{ allow: [127.0.0.0/8] }}\n{rules}"));
    stage.gateway.reloaded("ok", 2).await;
    assert_eq!(stage.send(PHONE).await.status, 202);
    assert_eq!(stage.send(PHONE).await.status, 429);
}

#[tokio::test]
async fn wrong_codes_count_against_a_destination_over_all_its_codes() {
    let settings = "cooldown: 0s, limits: [{ key: phone, windows: { daily: 100/day } }, \
                    { key: phone, count: failures, windows: { verify: 4/hour } }]";
    let stage = Stage::set(settings).await;
    let id = id_of(&stage.send(PHONE).await);
    let code = stage.code(1).await;
    for _ in 0..3 {
        assert_eq!(stage.verify(&id, &wrong(&code)).await.status, 401);
    }
    let id = id_of(&stage.send(PHONE).await);
    let code = stage.code(2).await;
    assert_eq!(stage.verify(&id, &wrong(&code)).await.status, 401, "the fourth in all");
    let refused = stage.verify(&id, &code).await;
    assert_eq!(refused.status, 429, "a new code buys no tries");
    assert_eq!(refused.json()["code"], "rate_limited");
    let by_phone = stage.post("/otp/verify", &json!({ "phone": PHONE, "code": code })).await;
    assert_eq!(by_phone.status, 429);
    stage.clock.advance(seconds(3600));
    assert_eq!(stage.verify(&id, &code).await.status, 410, "it is over by then");
}

#[tokio::test]
async fn a_refused_code_costs_nothing() {
    let stage = Stage::set("cooldown: 0s, limits: [{ key: phone, windows: { few: 1/min } }]").await;
    let rules =
        super::rules(&stage.provider, "cooldown: 0s, limits: [{ key: phone, windows: { few: 1/min } }]");
    let rules = rules.replace("otp: send }", "otp: send, limits: [{ key: ip, windows: { w: 2/hour } }] }");
    stage.gateway.edit(&rules);
    stage.gateway.reloaded("ok", 2).await;
    assert_eq!(stage.send(PHONE).await.status, 202);
    for _ in 0..5 {
        assert_eq!(stage.send(PHONE).await.status, 429);
    }
    assert_eq!(stage.send("+14155550124").await.status, 202, "the address was charged once alone");
    assert_eq!(stage.send("+14155550125").await.status, 429);
}
