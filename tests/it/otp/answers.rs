//! What the routes answer, and by which codes clients tell it.

use serde_json::json;

use super::{PHONE, Stage, id_of, wrong};
use crate::harness::gateway::seconds;

#[tokio::test]
async fn a_code_is_sent_given_back_and_proven() {
    let stage = Stage::set("token: { secret: 'shared with the backend' }").await;
    let sent = stage.send("(415) 555-0123").await;
    assert_eq!(sent.status, 202, "{}", sent.text());
    let id = id_of(&sent);
    assert_eq!(
        sent.json(),
        json!({ "id": id, "to": "+1******0123", "channel": "sms", "expires_in": 600, "resend_in": 60,
                "attempts_left": 3 })
    );
    let code = stage.code(1).await;
    let message = stage.provider.received()[0].clone();
    let message: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
    assert_eq!(message["to"], PHONE);
    let text = format!("{code} is your Acme code. It expires in 10 minutes. Do not share it.");
    assert_eq!(message["text"], text);

    let guess = stage.verify(&id, &wrong(&code)).await;
    assert_eq!(guess.status, 401);
    assert_eq!(
        guess.json(),
        json!({ "code": "invalid_code", "detail": "The code is wrong.", "attempts_left": 2 })
    );
    let verified = stage.verify(&id, &code).await;
    assert_eq!(verified.status, 200, "{}", verified.text());
    assert_eq!(verified.json()["verified"], true);
    let claims = claims(verified.json()["token"].as_str().unwrap());
    let now_s = crate::harness::gateway::START.as_micros() / 1_000_000;
    assert_eq!(
        claims,
        json!({ "sub": PHONE, "purpose": "default", "channel": "sms", "jti": id, "iat": now_s, "exp": now_s + 300 })
    );
    let again = stage.verify(&id, &code).await;
    assert_eq!((again.status, again.json()["code"].as_str()), (410, Some("used")));
    assert_eq!(stage.backend.count(), 0);
}

fn claims(token: &str) -> serde_json::Value {
    use base64::Engine as _;
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn a_code_is_found_by_its_phone_and_purpose_alone() {
    let stage = Stage::set("").await;
    let sent = stage.post("/otp/send", &json!({ "phone": PHONE, "purpose": "login" })).await;
    assert_eq!(sent.status, 202);
    let code = stage.code(1).await;
    let verify = async |purpose: &str| {
        let body = json!({ "phone": "415-555-0123", "purpose": purpose, "code": code });
        stage.post("/otp/verify", &body).await
    };
    let other = verify("reset").await;
    assert_eq!((other.status, other.json()["code"].as_str()), (410, Some("expired")), "bound to its purpose");
    assert_eq!(verify("login").await.status, 200);
}

#[tokio::test]
async fn codes_end_by_time_and_by_attempts() {
    let stage = Stage::set("").await;
    let id = id_of(&stage.send(PHONE).await);
    let code = stage.code(1).await;
    for left in [2, 1, 0] {
        let guess = stage.verify(&id, &wrong(&code)).await;
        assert_eq!((guess.status, guess.json()["attempts_left"].as_u64()), (401, Some(left)));
    }
    let late = stage.verify(&id, &code).await;
    assert_eq!((late.status, late.json()["code"].as_str()), (410, Some("attempts_exhausted")));

    let id = id_of(&stage.send("+14155550124").await);
    let code = stage.code(2).await;
    stage.clock.advance(seconds(600));
    let late = stage.verify(&id, &code).await;
    assert_eq!((late.status, late.json()["code"].as_str()), (410, Some("expired")));
}

#[tokio::test]
async fn what_cannot_be_is_told_by_its_code() {
    let stage = Stage::set("countries: { deny: [GB] }").await;
    let check = async |path: &str, body: serde_json::Value, status: u16, code: &str| {
        let answer = stage.post(path, &body).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{body}");
        assert!(answer.json()["detail"].is_string(), "{body}");
    };
    check("/otp/send", json!({}), 400, "invalid_request").await;
    check("/otp/send", json!({ "phone": "12" }), 400, "invalid_phone").await;
    check("/otp/send", json!({ "phone": "+447400123456" }), 422, "country_not_allowed").await;
    check("/otp/send", json!({ "phone": "+19005550123" }), 422, "number_not_allowed").await;
    check("/otp/send", json!({ "phone": PHONE, "channel": "pigeon" }), 400, "invalid_request").await;
    check("/otp/send", json!({ "phone": PHONE, "channel": "voice" }), 400, "channel_unavailable").await;
    check("/otp/send", json!({ "phone": PHONE, "purpose": "a b" }), 400, "invalid_request").await;
    check("/otp/send", json!({ "phone": PHONE, "locale": "!" }), 400, "invalid_request").await;
    check("/otp/send", json!({ "email": "a@example.com" }), 400, "invalid_request").await;
    check("/otp/verify", json!({ "id": "x" }), 400, "invalid_request").await;
    check("/otp/verify", json!({ "id": "x", "code": "12345" }), 400, "invalid_request").await;
    check("/otp/verify", json!({ "id": "x", "code": "123456" }), 410, "expired").await;
    check("/otp/verify", json!({ "id": "x", "phone": PHONE, "code": "123456" }), 400, "invalid_request")
        .await;
    check("/otp/verify", json!({ "phone": PHONE, "code": "123456" }), 410, "expired").await;
    let status = stage.gateway.client().await.request("GET", "/otp/nobody").send().await;
    assert_eq!((status.status, status.json()["code"].as_str()), (404, Some("not_found")));
    let mut client = stage.gateway.client().await;
    let torn = client.request("POST", "/otp/send").json("{\"phone\":").send().await;
    assert_eq!((torn.status, torn.json()["code"].as_str()), (400, Some("invalid_request")));
    let query = stage.post("/otp/send?phone=1", &json!({ "phone": PHONE })).await;
    assert_eq!(query.status, 400, "a code or phone in a URL would be in everybody's logs");
    assert_eq!(stage.provider.count(), 0);
}

#[tokio::test]
async fn the_status_tells_how_far_a_code_has_come() {
    let stage = Stage::set("").await;
    let id = id_of(&stage.send(PHONE).await);
    let code = stage.code(1).await;
    let status = async || {
        let answer = stage.gateway.client().await.request("GET", &format!("/otp/{id}")).send().await;
        assert_eq!(answer.json()["to"], "+1******0123");
        answer.json()["status"].as_str().unwrap().to_owned()
    };
    let sent = async || (status().await == "sent").then_some(());
    crate::harness::eventually("the provider's word", crate::harness::PATIENCE, sent).await;
    assert_eq!(stage.verify(&id, &code).await.status, 200);
    assert_eq!(status().await, "verified");
}

#[tokio::test]
async fn the_same_key_gets_the_same_answer_and_sends_nothing_twice() {
    let stage = Stage::set("").await;
    let send = async |key: &str, phone: &str| {
        let mut client = stage.gateway.client().await;
        let body = json!({ "phone": phone }).to_string();
        client.request("POST", "/otp/send").header("idempotency-key", key).json(&body).send().await
    };
    let first = send("k-1", PHONE).await;
    assert_eq!(first.status, 202);
    stage.code(1).await;
    stage.clock.advance(seconds(5));
    let again = send("k-1", PHONE).await;
    assert_eq!((again.status, again.text()), (202, first.text()), "neither limited nor sent anew");
    let other = send("k-1", "+14155550124").await;
    assert_eq!((other.status, other.json()["code"].as_str()), (422, Some("idempotency_key_reused")));
    let limited = send("k-2", PHONE).await;
    assert_eq!((limited.status, limited.json()["code"].as_str()), (429, Some("rate_limited")));
    stage.clock.advance(seconds(60));
    assert_eq!(send("k-2", PHONE).await.status, 202, "a refused request gives its key back");
    stage.code(2).await;
    assert_eq!(stage.provider.count(), 2);
}
