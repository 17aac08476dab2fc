//! One-time codes in numbers, and how those are who carry them.

use serde_json::{Value, json};

use super::schema::breaches;
use super::{ADMIN, RULES, Room, VIEWER, ask, tokens};
use crate::harness::backend::{Backend, Reply};
use crate::harness::client::Answer;
use crate::harness::gateway::seconds;
use crate::harness::{PATIENCE, eventually};

const PHONE: &str = "+14155550123";
const STATS: &str = "/api/v1/otp-stats";

const ROUTES: &str = "
routes:
  - { name: send, match: { method: POST, path: /otp/send }, otp: send }
  - { name: verify, match: { method: POST, path: /otp/verify }, otp: verify }
";

/// Codes go to nobody's phone, and whoever asks for one is told it.
const CONSOLE: &str = "
sms: { providers: [{ name: desk, kind: console, cost: { default: 0.0075, currency: USD, daily_max: 5 } }] }
otp: { secret: a-secret-of-the-tests-of-the-room, expose_code: true }
";

async fn open(rules: &str) -> Room {
    let room = Room::with(&format!("identifiers: masked, {}", tokens()), rules).await;
    // An hour that has not begun is not told of.
    room.hand.advance(seconds(60));
    room
}

async fn post(room: &Room, path: &str, body: &Value) -> Answer {
    let mut client = room.gateway.client().await;
    client.request("POST", path).json(&body.to_string()).send().await
}

async fn send(room: &Room) -> Value {
    let sent = post(room, "/otp/send", &json!({"phone": PHONE})).await;
    assert_eq!(sent.status, 202, "{}", sent.text());
    sent.json()
}

/// What a viewer is told, once it fits: it is counted a moment later. It is as the API's description says.
async fn told(room: &Room, fits: impl Fn(&Value) -> bool) -> Value {
    let stats = eventually("numbers of codes", PATIENCE, async || {
        let answer = room.view(STATS).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        Some(answer.json()).filter(&fits)
    })
    .await;
    let document = ask(room.admin(), "GET", "/api/openapi.json", None, None).await.json();
    let described = &document["components"]["schemas"]["OtpStats"];
    assert_eq!(breaches(&document, described, &stats, STATS), [""; 0]);
    stats
}

#[tokio::test]
async fn codes_are_counted_as_they_are_sent_and_given_back() {
    let room = open(&format!("{CONSOLE}{ROUTES}")).await;
    let none = told(&room, |stats| stats["journal"]["up"] == true).await;
    assert_eq!((&none["configured"], &none["conversion_percent"]), (&json!(true), &Value::Null));
    assert_eq!(none["hours"].as_array().unwrap().len(), 25);

    let sent = send(&room).await;
    let stats = told(&room, |stats| stats["totals"]["code_sent"] == 1).await;
    assert_eq!(stats["conversion_percent"], json!(0));
    let verify = json!({"id": sent["id"], "code": sent["code"]});
    assert_eq!(post(&room, "/otp/verify", &verify).await.status, 200);
    let stats = told(&room, |stats| stats["totals"]["code_verified"] == 1).await;
    assert_eq!(
        (&stats["totals"], &stats["conversion_percent"]),
        (&json!({"code_sent": 1, "code_undelivered": 0, "code_verified": 1, "fraud": 0}), &json!(100))
    );
    let counted = json!({"sent": 1, "delivered": 0, "failed": 0, "verified": 1});
    assert_eq!(
        stats["providers"],
        json!([{
            "name": "desk", "kind": "console", "priority": 10, "channels": ["sms"],
            "state": "up", "until": null, "doubt": null,
            "last_hour": counted, "last_day": counted,
            "spent_last_day": {"micros": 7500, "currency": "USD", "daily_max_micros": 5_000_000},
            "last_fault": null,
        }])
    );
    let whole = stats.to_string();
    assert!(!whole.contains("0123"), "nobody is named: {whole}");

    let hour = stats["hours"].as_array().unwrap().iter().find(|hour| hour["code_sent"] == 1).unwrap();
    assert_eq!((&hour["at"], &hour["code_verified"]), (&json!("2027-01-15T08:00:00.000Z"), &json!(1)));
    let before = room.view(&format!("{STATS}?until=2027-01-15T08:00:00Z")).await.json();
    assert_eq!((&before["totals"]["code_sent"], &before["conversion_percent"]), (&json!(0), &Value::Null));
    assert_eq!(room.view(&format!("{STATS}?since=2027-01-16T08:00:00Z")).await.status, 400);
}

#[tokio::test]
async fn a_provider_that_refuses_us_is_told_and_so_is_who_took_over() {
    let (first, second) = (
        Backend::start(|_| Reply::json(401, r#"{"error":"who are you"}"#)).await,
        Backend::start(|_| Reply::json(200, r#"{"id":"m-1"}"#)).await,
    );
    let provider = |name: &str, priority: u8, backend: &Backend| {
        format!(
            "{{ name: {name}, kind: http, priority: {priority}, request: {{ method: POST, url: \"http://{}/\", \
             json: {{ to: \"{{{{ to }}}}\", text: \"{{{{ text }}}}\" }} }}, success: {{ status: [200], id: /id }} }}",
            backend.addr()
        )
    };
    let providers = [provider("first", 1, &first), provider("second", 2, &second)].join(", ");
    let secret = "otp: { secret: a-secret-of-the-tests-of-the-room }";
    let room = open(&format!("{secret}\nsms: {{ providers: [{providers}] }}\n{ROUTES}")).await;
    send(&room).await;
    let stats = told(&room, |stats| stats["totals"]["code_sent"] == 1).await;
    let [refusing, up] = stats["providers"].as_array().unwrap().as_slice() else { panic!("{stats}") };
    assert_eq!(
        (&refusing["name"], &refusing["state"], &refusing["until"]),
        (&json!("first"), &json!("refusing"), &json!("2027-01-15T08:06:00.000Z"))
    );
    assert_eq!(refusing["last_fault"]["fault"], json!("provider"));
    assert_eq!((&refusing["last_day"]["sent"], &refusing["spent_last_day"]), (&json!(0), &Value::Null));
    assert_eq!((&up["state"], &up["last_hour"]["sent"]), (&json!("up"), &json!(1)));
    room.logged("kind=provider_down", 1).await;

    room.hand.advance(seconds(301));
    let later = room.view(STATS).await.json();
    assert_eq!(
        (&later["providers"][0]["state"], &later["providers"][0]["until"]),
        (&json!("trying"), &Value::Null)
    );
}

#[tokio::test]
async fn where_no_route_sends_codes_that_is_what_is_told() {
    let room = open(RULES).await;
    let stats = told(&room, |stats| stats["journal"]["up"] == true).await;
    assert_eq!((&stats["configured"], &stats["providers"]), (&json!(false), &json!([])));
    for token in [None, Some("no-token-of-anybody")] {
        assert_eq!(ask(room.admin(), "GET", STATS, token, None).await.status, 401);
    }
    assert_eq!(ask(room.admin(), "POST", STATS, Some(ADMIN), Some("{}")).await.status, 405);
    assert_eq!(ask(room.admin(), "GET", STATS, Some(VIEWER), None).await.status, 200);
}
