//! Providers that take over from each other, and what they report.

use serde_json::{Value, json};
use tollgate::clock::ManualClock;
use tollgate::decision::query::pairs;

use super::{PHONE, ROUTES, SECRET, id_of};
use crate::harness::backend::{Backend, Reply};
use crate::harness::client::{Answer, Client};
use crate::harness::gateway::{Gateway, START, seconds};
use crate::harness::providers::aws_sns::{self, FakeSns};
use crate::harness::providers::mailgun;
use crate::harness::providers::twilio::{self, FakeTwilio};
use crate::harness::{PATIENCE, eventually};

/// Of the account at Twilio: sends, and signs receipts.
const TOKEN: &str = "token-of-the-account";
const PUBLIC: &str = "https://auth.example.com";

/// Twilio first, SNS behind it.
struct Stage {
    twilio: FakeTwilio,
    sns: FakeSns,
    gateway: Gateway,
    clock: ManualClock,
    _backend: Backend,
}

impl Stage {
    async fn set() -> Stage {
        let (backend, twilio, sns) = (
            Backend::ok().await,
            FakeTwilio::start_with(twilio::ACCOUNT, TOKEN).await,
            FakeSns::start().await,
        );
        let rules = format!(
            "otp: {{ secret: \"{SECRET}\", public_url: \"{PUBLIC}\", token: {{ secret: \"{SECRET}\" }} }}\n\
             sms:\n  providers:\n\
             \x20   - {{ name: first, kind: twilio, priority: 1, base_url: \"http://{}\", account_sid: {}, \
                       auth_token: \"{}\", from: \"+15005550006\", cost: {{ default: 0.01, currency: USD }} }}\n\
             \x20   - {{ name: second, kind: aws_sns, priority: 2, base_url: \"http://{}\", region: {}, \
                       access_key_id: {}, secret_access_key: \"{}\" }}\n{ROUTES}",
            twilio.addr(),
            twilio::ACCOUNT,
            TOKEN,
            sns.addr(),
            aws_sns::REGION,
            aws_sns::KEY_ID,
            aws_sns::SECRET,
        );
        let (gateway, clock) = Gateway::with_clock(&backend, &rules).await;
        Stage { twilio, sns, gateway, clock, _backend: backend }
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        let mut client = self.gateway.client().await;
        client.request("POST", path).json(&body.to_string()).send().await
    }

    async fn send(&self) -> Answer {
        let sent = self.post("/otp/send", &json!({ "phone": PHONE })).await;
        assert_eq!(sent.status, 202, "{}", sent.text());
        sent
    }

    async fn status(&self, id: &str) -> String {
        let answer = self.gateway.client().await.request("GET", &format!("/otp/{id}")).send().await;
        answer.json()["status"].as_str().expect("a status").to_owned()
    }

    async fn comes_to(&self, id: &str, status: &str) {
        let reached = async || (self.status(id).await == status).then_some(());
        eventually(&format!("the status {status}"), PATIENCE, reached).await;
    }

    /// The code in SNS's message number `nth`, from 1.
    async fn code_by_sns(&self, nth: usize) -> String {
        let told = async || self.sns.published().get(nth - 1).cloned();
        let message = eventually("a message to SNS", PATIENCE, told).await;
        digits_after(&String::from_utf8_lossy(&message.body), "&Message=")
    }
}

fn digits_after(text: &str, mark: &str) -> String {
    let (_, rest) = text.split_once(mark).unwrap_or_else(|| panic!("no {mark} in {text}"));
    rest.chars().take_while(char::is_ascii_digit).collect()
}

fn field(body: &[u8], name: &str) -> Option<String> {
    let text = std::str::from_utf8(body).expect("a form");
    let mut pairs = pairs(text).map(|pair| pair.expect("a form"));
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[tokio::test]
async fn the_next_provider_sends_the_same_code() {
    let stage = Stage::set().await;
    stage.twilio.refuses(503, 20500);
    let id = id_of(&stage.send().await);
    let code = stage.code_by_sns(1).await;
    let asked = stage.twilio.backend.received();
    assert_eq!(asked.len(), 1, "never twice at the same one");
    let body = field(&asked[0].body, "Body").expect("a text");
    assert!(body.starts_with(&code), "{body} holds {code}");
    assert_eq!(field(&asked[0].body, "To").as_deref(), Some(PHONE));
    let verified = stage.post("/otp/verify", &json!({ "id": id, "code": code })).await;
    assert_eq!(verified.status, 200, "{}", verified.text());
    let failover = r#"tollgate_sms_failovers_total{from="first",to="second"}"#;
    assert_eq!(stage.gateway.metric(failover).await, 1.0);
    let sent = r#"tollgate_sms_sends_total{channel="sms",outcome="accepted",provider="second"}"#;
    assert_eq!(stage.gateway.metric(sent).await, 1.0, "{}", stage.gateway.metrics().await);
}

#[tokio::test]
async fn whoever_cannot_be_reached_by_one_is_not_asked_for_by_another() {
    for (status, code, shown) in [(400, 21211, "sent"), (400, 21610, "sent"), (403, 60410, "failed")] {
        let stage = Stage::set().await;
        stage.twilio.refuses(status, code);
        let id = id_of(&stage.send().await);
        stage.comes_to(&id, shown).await;
        let undelivered = r#"tollgate_journal_events_total{kind="code_undelivered"}"#;
        let told = async || (stage.gateway.metric(undelivered).await == 1.0).then_some(());
        eventually("the end of the delivery", PATIENCE, told).await;
        assert!(stage.sns.published().is_empty(), "{code}");
    }
}

#[tokio::test]
async fn a_receipt_is_believed_only_with_its_signature() {
    let stage = Stage::set().await;
    let id = id_of(&stage.send().await);
    let message = stage.twilio.backend.wait_for(1).await[0].clone();
    let callback = field(&message.body, "StatusCallback").expect("a callback");
    let path = callback.strip_prefix(PUBLIC).expect("the public URL").to_owned();
    stage.comes_to(&id, "sent").await;
    let report = async |signature: Option<&str>, path: &str| {
        let mut client = Client::connect(stage.gateway.address).await;
        let mut request = client
            .request("POST", path)
            .header("content-type", "application/x-www-form-urlencoded")
            .body("MessageSid=SM1&MessageStatus=delivered");
        if let Some(signature) = signature {
            request = request.header("x-twilio-signature", signature);
        }
        request.send().await.status
    };
    let params = [("MessageSid", "SM1"), ("MessageStatus", "delivered")];
    let signature = twilio::signature(TOKEN, &callback, &params);
    assert_eq!(report(None, &path).await, 403);
    let forged = twilio::signature("another token", &callback, &params);
    assert_eq!(report(Some(&forged), &path).await, 403);
    assert_eq!(stage.status(&id).await, "sent");
    let strange = format!("/otp/receipts/first/{}", "A".repeat(55));
    assert_eq!(report(Some(&signature), &strange).await, 404);
    assert_eq!(report(Some(&signature), &path.replace("/first/", "/nobody/")).await, 404);
    assert_eq!(report(Some(&signature), &path).await, 200);
    stage.comes_to(&id, "delivered").await;
    assert_eq!(report(Some(&signature), &path).await, 200, "told again, and nothing changes");
    let delivered = r#"tollgate_sms_receipts_total{provider="first",state="delivered"}"#;
    assert_eq!(stage.gateway.metric(delivered).await, 1.0);
}

#[tokio::test]
async fn where_nobody_can_be_asked_it_is_said_at_once() {
    let stage = Stage::set().await;
    stage.twilio.refuses(401, 20003);
    stage.sns.answer_publish(
        Reply::new(403)
            .body("<ErrorResponse><Error><Code>InvalidClientTokenId</Code></Error></ErrorResponse>"),
    );
    let id = id_of(&stage.send().await);
    stage.comes_to(&id, "failed").await;
    let answer = stage.post("/otp/send", &json!({ "phone": "+14155550124" })).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("provider_unavailable")));
    let events = r#"tollgate_journal_events_total{kind="provider_down"}"#;
    let told = async || (stage.gateway.metric(events).await == 2.0).then_some(());
    eventually("the events of both", PATIENCE, told).await;
}

#[tokio::test]
async fn a_provider_that_does_not_report_is_asked() {
    let stage = Stage::set().await;
    let id = id_of(&stage.send().await);
    stage.comes_to(&id, "sent").await;
    stage.twilio.knows(
        "Messages/SM0123456789abcdef0123456789abcdef",
        r#"{"sid":"SM0123456789abcdef0123456789abcdef","status":"delivered","error_code":null,"price":null}"#,
    );
    let before = stage.twilio.backend.count();
    stage.clock.advance(seconds(15));
    stage.comes_to(&id, "delivered").await;
    assert_eq!(stage.twilio.backend.count(), before + 1, "once, however often somebody looks");
}

#[tokio::test]
async fn a_code_goes_by_mail_and_its_receipt_finds_it() {
    let (backend, provider) = (Backend::ok().await, mailgun::start().await);
    let rules = format!(
        "otp: {{ secret: \"{SECRET}\", brand: Acme, public_url: \"{PUBLIC}\" }}\n\
         email:\n  providers:\n\
         \x20   - {{ name: mg, kind: mailgun, base_url: \"http://{}\", domain: {}, api_key: {}, \
                   from: \"Acme <no-reply@example.com>\", webhook_secret: signing-key-of-the-test }}\n{ROUTES}",
        provider.addr(),
        mailgun::DOMAIN,
        mailgun::KEY,
    );
    let (gateway, _clock) = Gateway::with_clock(&backend, &rules).await;
    let post = async |path: &str, body: &str| {
        let mut client = gateway.client().await;
        client.request("POST", path).json(body).send().await
    };
    let phone = post("/otp/send", &json!({ "phone": PHONE }).to_string()).await;
    assert_eq!(phone.json()["code"], "channel_unavailable");
    let both = json!({ "channel": "email", "email": "Ada@Example.com", "phone": PHONE }).to_string();
    assert_eq!(post("/otp/send", &both).await.json()["code"], "invalid_request", "it would prove the phone");
    let sent = post("/otp/send", r#"{"channel":"email","email":"Ada@Example.com"}"#).await;
    assert_eq!(sent.status, 202, "{}", sent.text());
    assert_eq!((&sent.json()["to"], &sent.json()["channel"]), (&json!("a***@example.com"), &json!("email")));
    let letter = provider.wait_for(1).await[0].clone();
    let text = field(&letter.body, "text").expect("a text");
    let code: String = text.chars().take_while(char::is_ascii_digit).collect();
    assert!(!field(&letter.body, "subject").expect("a subject").contains(&code));

    let id = id_of(&sent);
    let status = async |wanted: &str| {
        let reached = async || {
            let answer = gateway.client().await.request("GET", &format!("/otp/{id}")).send().await;
            (answer.json()["status"] == wanted).then_some(())
        };
        eventually(wanted, PATIENCE, reached).await;
    };
    status("sent").await;
    let now_s = START.as_micros() / 1_000_000;
    let of = |id: &str| format!(r#"{{"event":"delivered","message":{{"headers":{{"message-id":"{id}"}}}}}}"#);
    let (ours, other) = (of(mailgun::MESSAGE_ID), of("a letter of somebody else"));
    let forged = mailgun::webhook("another key", now_s, &"a".repeat(50), &ours);
    assert_eq!(post("/otp/receipts/mg/-", &forged).await.status, 403);
    let strange = mailgun::webhook("signing-key-of-the-test", now_s, &"b".repeat(50), &other);
    assert_eq!(post("/otp/receipts/mg/-", &strange).await.status, 200, "not ours, and not to be told again");
    status("sent").await;
    let event = mailgun::webhook("signing-key-of-the-test", now_s, &"c".repeat(50), &ours);
    assert_eq!(post("/otp/receipts/mg/-", &event).await.status, 200);
    status("delivered").await;
    let tagged = post("/otp/send", r#"{"channel":"email","email":"ada+2@example.com"}"#).await;
    assert_eq!(tagged.status, 429, "the same mailbox");
    let by_mail = json!({ "email": "ada@example.com", "code": code }).to_string();
    let verified = post("/otp/verify", &by_mail).await;
    assert_eq!(verified.status, 200, "{}", verified.text());
}
