use serde_json::{Value, json};
use tollgate::http_client::HttpUrl;
use tollgate::sms::spec::{Kind, MessageBirdSpec};
use tollgate::sms::{
    Accepted, Channel, DeliveryState, Fault, LookUpFault, Outcome, Price, ReceiptFault, Refused, Report,
    SmsSender,
};

use super::common::{Message, NOW_S, Receipt, at, flipped, golden, refused, sender_of};
use crate::harness::PATIENCE;
use crate::harness::backend::Reply;
use crate::harness::providers::messagebird::{FakeMessageBird, ID, KEY, sha256, signed, token};

const CALLBACK: &str = "https://gw.example.com/otp/receipts/it/T0k3nT0k3nT0k3nT0k3nT0";
const SIGNED: &str = "messagebird-signature-jwt";
const SIGNS: &str = "36efdd1aace2e26cd490f0d951138253bef2f7c6d34d18981da781555cc4cebb";

fn spec(base_url: HttpUrl) -> MessageBirdSpec {
    MessageBirdSpec { base_url, api_key: KEY.into(), signing_key: None, from: "Acme".into() }
}

fn sender(fake: &FakeMessageBird) -> Box<dyn SmsSender> {
    sender_of(Kind::MessageBird(spec(at(fake.addr()))))
}

/// One that nobody is behind, for receipts.
fn deaf(signing_key: Option<&str>) -> Box<dyn SmsSender> {
    let spec = spec(HttpUrl::parse("https://rest.messagebird.com").unwrap());
    sender_of(Kind::MessageBird(MessageBirdSpec { signing_key: signing_key.map(Into::into), ..spec }))
}

fn euros(micros: u64) -> Option<Price> {
    Some(Price { micros, currency: "EUR".into() })
}

#[tokio::test]
async fn a_text_is_this_request_to_the_byte() {
    let fake = FakeMessageBird::start().await;
    let outcome = Message::by(Channel::Sms).sent_by(&*sender(&fake)).await;
    let accepted = Accepted { message_id: ID.into(), parts: Some(1), price: euros(70_000) };
    assert_eq!(outcome, Outcome::Accepted(accepted));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        golden(&fake.backend.received()[0]),
        format!(
            "POST /messages HTTP/1.1\n\
            authorization: AccessKey test_gshuPaZoeEG6ovbc8M79w0QyM\n\
            accept: application/json\n\
            content-type: application/json\n\
            user-agent: tollgate/{version}\n\
            content-length: 247\n\
            \n\
            {{\"originator\":\"Acme\",\"recipients\":[\"14155550123\"],\
            \"body\":\"123456 is your Acme code.\\n\\n@acme.example #123456\",\"datacoding\":\"plain\",\
            \"reference\":\"a1B2-c3_D4\",\"validity\":300,\
            \"reportUrl\":\"https://gw.example.com/otp/receipts/it/T0k3nT0k3nT0k3nT0k3nT0\"}}"
        )
    );
    let mut bare = Message::by(Channel::Sms);
    (bare.text, bare.receipt_url) = ("Ваш код 123456".into(), None);
    assert!(matches!(bare.sent_by(&*sender(&fake)).await, Outcome::Accepted(_)));
    assert_eq!(
        String::from_utf8(fake.backend.received()[1].body.clone()).unwrap(),
        "{\"originator\":\"Acme\",\"recipients\":[\"14155550123\"],\"body\":\"Ваш код 123456\",\
        \"datacoding\":\"unicode\",\"reference\":\"a1B2-c3_D4\",\"validity\":300}"
    );
}

#[tokio::test]
async fn every_row_of_the_table_is_the_fault_that_it_says() {
    let fake = FakeMessageBird::start().await;
    let sender = sender(&fake);
    for (status, code, parameter, fault) in [
        (401, 2, Some("access_key"), Fault::Provider),
        (422, 9, Some("recipient"), Fault::Recipient),
        (422, 9, Some("originator"), Fault::Route),
        (422, 9, Some("body"), Fault::Request),
        (422, 10, Some("recipients"), Fault::Recipient),
        (422, 10, Some("originator"), Fault::Route),
        (422, 10, Some("type"), Fault::Request),
        (422, 10, None, Fault::Request),
        (404, 20, None, Fault::Provider),
        (400, 21, None, Fault::Request),
        (422, 25, None, Fault::Provider),
        (500, 98, None, Fault::Transient),
        (500, 99, None, Fault::Transient),
        (405, 1234, None, Fault::Request),
        (429, 1234, None, Fault::Throttled),
        (503, 1234, None, Fault::Transient),
    ] {
        fake.refuses(status, code, parameter);
        let outcome = Message::by(Channel::Sms).sent_by(&*sender).await;
        assert_eq!(outcome, refused(fault, &code.to_string()), "{status} {code} {parameter:?}");
    }
}

#[tokio::test]
async fn a_message_that_was_sent_to_nobody_was_not_sent() {
    let fake = FakeMessageBird::start().await;
    let sender = sender(&fake);
    for (error, expected) in [
        (Value::Null, refused(Fault::Transient, "not_sent")),
        (json!(0), refused(Fault::Transient, "not_sent")),
        (json!(1), refused(Fault::Recipient, "ec_1")),
        (json!(107), refused(Fault::Transient, "ec_107")),
    ] {
        fake.makes(move |message| {
            message["recipients"]["totalSentCount"] = 0.into();
            message["recipients"]["items"][0]["statusErrorCode"] = error.clone();
        });
        assert_eq!(Message::by(Channel::Sms).sent_by(&*sender).await, expected);
    }
    let unreadable = refused(Fault::Ambiguous, "unreadable_answer");
    fake.makes(|message| message["recipients"]["totalSentCount"] = Value::Null);
    assert_eq!(Message::by(Channel::Sms).sent_by(&*sender).await, unreadable);
    fake.makes(|message| message["id"] = "../x".into());
    assert_eq!(Message::by(Channel::Sms).sent_by(&*sender).await, unreadable);
}

#[tokio::test]
async fn an_answer_that_is_none_of_its_own_is_never_taken_for_a_yes() {
    let fake = FakeMessageBird::start().await;
    let sender = sender(&fake);
    for (reply, expected) in [
        (Reply::new(200), refused(Fault::Ambiguous, "unreadable_answer")),
        (Reply::json(201, "{\"id\":"), refused(Fault::Ambiguous, "unreadable_answer")),
        (Reply::json(201, "[]"), refused(Fault::Ambiguous, "unreadable_answer")),
        (Reply::new(502).body("<html>Bad gateway</html>"), refused(Fault::Transient, "http_502")),
        (Reply::json(422, "{\"errors\":[]}"), refused(Fault::Request, "http_422")),
    ] {
        fake.backend.answer_by(move |_| reply.clone());
        assert_eq!(Message::by(Channel::Sms).sent_by(&*sender).await, expected);
    }
    let count = fake.backend.count();
    assert_eq!(Message::by(Channel::Whatsapp).sent_by(&*sender).await, refused(Fault::Route, "channel"));
    assert_eq!(fake.backend.count(), count);
    let odd_key = MessageBirdSpec { api_key: "a\nb".into(), ..spec(at(fake.addr())) };
    let outcome = Message::by(Channel::Sms).sent_by(&*sender_of(Kind::MessageBird(odd_key))).await;
    assert_eq!(outcome, refused(Fault::Provider, "credentials"));
}

#[tokio::test]
async fn a_message_can_be_looked_up() {
    let fake = FakeMessageBird::start().await;
    let sender = sender(&fake);
    let now = Message::by(Channel::Sms).outbound().now;
    let report =
        Report { message_id: ID.into(), state: DeliveryState::Sent, refused: None, price: euros(70_000) };
    assert_eq!(sender.look_up(ID, PATIENCE, now).await, Ok(report.clone()));
    assert_eq!(sender.look_up("e8", PATIENCE, now).await, Err(LookUpFault::Unknown));
    assert_eq!(sender.look_up("../balance", PATIENCE, now).await, Err(LookUpFault::Unknown));
    assert_eq!(fake.backend.count(), 2);
    fake.makes(|message| {
        message["recipients"]["items"][0]["status"] = "delivery_failed".into();
        message["recipients"]["items"][0]["statusErrorCode"] = 1.into();
    });
    let failed = Report {
        state: DeliveryState::Failed,
        refused: Some(Refused::new(Fault::Recipient, "ec_1")),
        ..report
    };
    assert_eq!(sender.look_up(ID, PATIENCE, now).await, Ok(failed));
}

fn report_url(status: &str) -> String {
    format!(
        "{CALLBACK}?id={ID}&reference=a1B2-c3_D4&recipient=14155550123&status={status}\
        &statusDatetime=2026-01-02T03%3A04%3A05%2B00%3A00&statusErrorCode=1&price%5Bamount%5D=0.070000\
        &price%5Bcurrency%5D=EUR&mccmnc=310260"
    )
}

#[test]
fn a_report_tells_what_became_of_a_message() {
    let sender = deaf(None);
    for (status, state, fault) in [
        ("scheduled", DeliveryState::Queued, None),
        ("sent", DeliveryState::Sent, None),
        ("buffered", DeliveryState::Queued, None),
        ("delivered", DeliveryState::Delivered, None),
        ("expired", DeliveryState::Expired, Some(Fault::Recipient)),
        ("delivery_failed", DeliveryState::Failed, Some(Fault::Recipient)),
    ] {
        let refused = fault.map(|fault| Refused::new(fault, "ec_1"));
        let report = Report { message_id: ID.into(), state, refused, price: euros(70_000) };
        assert_eq!(Receipt::get(&report_url(status)).read_by(&*sender), Ok(vec![report]), "{status}");
    }
    assert_eq!(Receipt::get(&report_url("another")).read_by(&*sender), Ok(Vec::new()));
    for query in ["", "id=1", "status=sent", "id=1&id=2&status=sent", "id=a%2Fb&status=sent", "id=%z"] {
        let read = Receipt::get(&format!("{CALLBACK}?{query}")).read_by(&*sender);
        assert!(matches!(read, Err(ReceiptFault::Malformed(_))), "{query}: {read:?}");
    }
    let post = Receipt::post(&report_url("sent"), "text/plain", "").read_by(&*sender);
    assert!(matches!(post, Err(ReceiptFault::Malformed(_))), "{post:?}");
}

/// The vectors that MessageBird's own libraries are held to. They report nothing: what is believed is found to be no report.
#[test]
fn known_tokens_are_believed() {
    const PLAIN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJNZXNzYWdlQmlyZCIsIm5iZiI6MTYyNTQ3OTIwMCwiZXhwIjoxNjI1NDc5MjYwLCJqdGkiOiI1OWEyNDRkYy1lOWFkLTRlMjMtOTc3OC0zNzFmYWEyMzhmNzIiLCJ1cmxfaGFzaCI6IjBmMTE1ZGIwNjJiN2MwZGQwMzBiMTY4NzhjOTlkZWE1YzM1NGI0OWRjMzdiMzhlYjg4NDYxNzljNzc4M2U5ZDcifQ.6Fp0rVOsRr1fj9S2GidXAfkmPVofKr8_RTffC6G6r2E";
    const QUERY: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJNZXNzYWdlQmlyZCIsIm5iZiI6MTYyNTQ3OTIwMCwiZXhwIjoxNjI1NDc5MjYwLCJqdGkiOiJjOTQ2YWY3Ny1lMTgyLTRlYWEtYjJmZi0xYTU0NWI1ZTk5MWEiLCJ1cmxfaGFzaCI6IjQxZjA1ZjBkZGQwYTIyYWIyMDlhYzQ2ZjQ3YzQ1NzJkOWNlZmEyNTdlZDc0YjI0MDA0YmFlNzUzZWNlNmMyNjAifQ.huo2ou6JDoDc7sV25d75UMWeYhBeavQlLsqIibSZuac";
    const PAYLOAD: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJNZXNzYWdlQmlyZCIsIm5iZiI6MTYyNTQ3OTIwMCwiZXhwIjoxNjI1NDc5MjYwLCJqdGkiOiI5M2U1NTAwNi1hMGU4LTQ1MjYtYTE5MC1mYTVmZjAwZWExMTYiLCJ1cmxfaGFzaCI6IjQxZjA1ZjBkZGQwYTIyYWIyMDlhYzQ2ZjQ3YzQ1NzJkOWNlZmEyNTdlZDc0YjI0MDA0YmFlNzUzZWNlNmMyNjAiLCJwYXlsb2FkX2hhc2giOiJkZmZkNjAyMWJiMmJkNWIwYWY2NzYyOTA4MDllYzNhNTMxOTFkZDgxYzdmNzBhNGIyODY4OGEzNjIxODI5ODZmIn0._H--TOuYFLpeEH39-rg5E3IHVkjHozBcaKVWPRC5m9I";
    const EARLY: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJNZXNzYWdlQmlyZCIsIm5iZiI6MTYyNTQ4MjgwMCwiZXhwIjoxNjI1NDgyODYwLCJqdGkiOiJmOWY4YzM4Mi0yNDQ5LTQzMTEtYjcyYi0xZGY3MTY4NzkzMWUiLCJ1cmxfaGFzaCI6IjBmMTE1ZGIwNjJiN2MwZGQwMzBiMTY4NzhjOTlkZWE1YzM1NGI0OWRjMzdiMzhlYjg4NDYxNzljNzc4M2U5ZDcifQ.ZELgDFNGhjZH9CffQKcq3sytBe2I0KciLxpBhcfstHQ";
    const LATE: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJNZXNzYWdlQmlyZCIsIm5iZiI6MTYyNTQ3NTYwMCwiZXhwIjoxNjI1NDc1NjYwLCJqdGkiOiI1ZjAyZjUyMi02MDMwLTQ2YzgtYjVhMy0wMTI0NjQ3OGQ4YmMiLCJ1cmxfaGFzaCI6IjBmMTE1ZGIwNjJiN2MwZGQwMzBiMTY4NzhjOTlkZWE1YzM1NGI0OWRjMzdiMzhlYjg4NDYxNzljNzc4M2U5ZDcifQ.45MSST3B_2PsjNUeiuW54_vUQgVw4rBXrdWrOUEz3lM";
    const SORTED: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJNZXNzYWdlQmlyZCIsIm5iZiI6MTYyNTQ3OTIwMCwiZXhwIjoxNjI1NDc5MjYwLCJqdGkiOiJhNzVjOTA5Ni1lODIzLTQ0MmItODVmMi03ZDNjOWQ5YjcyNmIiLCJ1cmxfaGFzaCI6IjZhMDIyZDgzNGMxODMzMGJhYWQ4YTJiZDYxMzUxNzNlZDIxNjEwYTQ1NDUxNmJlMGRmM2YxY2MwMTUxNjEwZWEifQ.z6Sw1XQIM0wuEQGBhXBdawDIIrtMg2XnmA_bpDq53pE";
    let read = |key: &str, url: &str, body: &str, token: &str| {
        let mut receipt = Receipt::get(url).header(SIGNED, token);
        (receipt.body, receipt.now_s) = (bytes::Bytes::copy_from_slice(body.as_bytes()), 1_625_479_200);
        receipt.read_by(&*deaf(Some(key)))
    };
    let believed = Err(ReceiptFault::Malformed("without id or status"));
    let (plain, query) = ("https://example.com/", "https://example.com/path?bar=1&foo=2");
    for (url, body, token) in [(plain, "", PLAIN), (query, "", QUERY), (query, "Hello, World!", PAYLOAD)] {
        assert_eq!(read(SIGNS, url, body, token), believed, "{url} {body}");
        for token in flipped(token) {
            let forged = read(SIGNS, url, body, &token);
            assert!(forged != believed && forged.is_err(), "{token}");
        }
        let other_key = SIGNS.replace("36ef", "36ee");
        assert_eq!(read(&other_key, url, body, token), Err(ReceiptFault::Forged));
    }
    assert_eq!(read(SIGNS, plain, "", EARLY), Err(ReceiptFault::Stale));
    assert_eq!(read(SIGNS, plain, "", LATE), Err(ReceiptFault::Stale));
    assert_eq!(read(SIGNS, "https://example.com/path?foo=1&bar=2", "", SORTED), Err(ReceiptFault::Forged));
    assert_eq!(read(SIGNS, query, "", PAYLOAD), Err(ReceiptFault::Forged), "the body is gone");
    assert_eq!(read(SIGNS, plain, "x", PLAIN), Err(ReceiptFault::Forged), "a body from elsewhere");
    assert_eq!(read(SIGNS, query, "Hello, World?", PAYLOAD), Err(ReceiptFault::Forged));
}

#[test]
fn a_signed_report_is_believed_from_one_header_for_one_url() {
    let sender = deaf(Some(SIGNS));
    let url = report_url("delivered");
    for alg in ["HS256", "HS384", "HS512"] {
        let token = token(alg, SIGNS, &url, b"", NOW_S);
        let receipt = Receipt::get(&url).header(SIGNED, &token);
        assert_eq!(receipt.read_by(&*sender).unwrap()[0].state, DeliveryState::Delivered, "{alg}");
        assert!(matches!(
            receipt.clone().header(SIGNED, &token).read_by(&*sender),
            Err(ReceiptFault::Malformed(_))
        ));
        let mut altered = receipt.clone();
        altered.url = report_url("sent");
        assert_eq!(altered.read_by(&*sender), Err(ReceiptFault::Forged));
        // A minute from its beginning, and a second for clocks that differ.
        for (now_s, is_good) in
            [(NOW_S - 2, false), (NOW_S - 1, true), (NOW_S + 61, true), (NOW_S + 62, false)]
        {
            let mut receipt = receipt.clone();
            receipt.now_s = now_s;
            let read = receipt.read_by(&*sender);
            assert_eq!(read.is_ok(), is_good, "{now_s}");
            assert!(is_good || read == Err(ReceiptFault::Stale));
        }
    }
    assert_eq!(Receipt::get(&url).read_by(&*sender), Err(ReceiptFault::Unsigned));
}

#[test]
fn a_token_of_another_make_is_not_believed() {
    let url = report_url("delivered");
    let header = r#"{"alg":"HS256"}"#;
    let claims = |change: fn(&mut Value)| {
        let mut claims = json!({
            "iss": "MessageBird", "nbf": NOW_S, "exp": NOW_S + 60, "url_hash": sha256(report_url("delivered").as_bytes()),
        });
        change(&mut claims);
        claims.to_string()
    };
    let read = |header: &str, claims: &str| {
        let token = signed(header, claims, "HS256", SIGNS);
        Receipt::get(&url).header(SIGNED, &token).read_by(&*deaf(Some(SIGNS)))
    };
    assert!(read(header, &claims(|_| {})).is_ok());
    for header in
        [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, r#"{"alg":"RS256"}"#, r#"{"alg":"HS256","crit":[]}"#]
    {
        assert_eq!(read(header, &claims(|_| {})), Err(ReceiptFault::Forged), "{header}");
    }
    assert_eq!(read(header, &claims(|claims| claims["iss"] = "Bird".into())), Err(ReceiptFault::Forged));
    assert_eq!(
        read(header, &claims(|claims| claims["payload_hash"] = "00".into())),
        Err(ReceiptFault::Forged)
    );
    for missing in ["iss", "nbf", "exp", "url_hash"] {
        let mut object: serde_json::Map<_, _> = serde_json::from_str(&claims(|_| {})).unwrap();
        object.remove(missing);
        let read = read(header, &Value::from(object).to_string());
        assert!(matches!(read, Err(ReceiptFault::Malformed(_))), "{missing}: {read:?}");
    }
    let twice = claims(|_| {}).replacen('{', "{\"exp\":9999999999,", 1);
    assert!(matches!(read(header, &twice), Err(ReceiptFault::Malformed(_))));
    let long = claims(|claims| claims["x"] = "x".repeat(5000).into());
    assert!(matches!(read(header, &long), Err(ReceiptFault::Malformed(_))));
    for token in ["", ".", "..", "a.b", "a.b.c", "é"] {
        let mut receipt = Receipt::get(&url);
        receipt.headers.insert(SIGNED, http::HeaderValue::from_bytes(token.as_bytes()).unwrap());
        let read = receipt.read_by(&*deaf(Some(SIGNS)));
        assert!(matches!(read, Err(ReceiptFault::Malformed(_))), "{token:?}: {read:?}");
    }
}
