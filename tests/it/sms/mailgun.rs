use tollgate::http_client::HttpUrl;
use tollgate::sms::spec::{Kind, Mailbox, MailgunSpec};
use tollgate::sms::{
    Accepted, Channel, DeliveryState, Fault, LookUpFault, Outcome, ReceiptFault, Refused, Report, SmsSender,
};

use super::common::{Message, NOW_S, Receipt, at, flipped, golden, refused, sender_of};
use crate::harness::PATIENCE;
use crate::harness::backend::Reply;
use crate::harness::providers::mailgun::{DOMAIN, KEY, MESSAGE_ID, error, start, webhook};

const HOOK: &str = "https://gw.example.com/otp/receipts/it/-";
const SIGNING_KEY: &str = "signing key of the test";
const TOKEN: &str = "a8ce0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0";

fn spec(base_url: HttpUrl) -> MailgunSpec {
    MailgunSpec {
        base_url,
        domain: DOMAIN.into(),
        api_key: KEY.into(),
        from: Mailbox { name: Some("Example, Inc.".into()), address: "no-reply@example.com".into() },
        webhook_secret: None,
    }
}

/// One that nobody is behind, for receipts.
fn deaf(key: &str) -> Box<dyn SmsSender> {
    let spec = spec(HttpUrl::parse("https://api.mailgun.net").unwrap());
    sender_of(Kind::Mailgun(MailgunSpec { webhook_secret: Some(key.into()), ..spec }))
}

fn report(state: DeliveryState, refused: Option<(Fault, &str)>) -> Report {
    let refused = refused.map(|(fault, code)| Refused::new(fault, code));
    Report { message_id: MESSAGE_ID.into(), state, refused, price: None }
}

#[tokio::test]
async fn a_letter_is_this_request_to_the_byte() {
    let fake = start().await;
    let sender = sender_of(Kind::Mailgun(spec(at(fake.addr()))));
    let outcome = Message::by(Channel::Email).sent_by(&*sender).await;
    let message_id = MESSAGE_ID.into();
    assert_eq!(outcome, Outcome::Accepted(Accepted { message_id, ..Accepted::default() }));
    let body = "from=%22Example%2C%20Inc.%22%20%3Cno-reply%40example.com%3E&to=ann%40example.com\
        &subject=Your%20Acme%20code&text=123456%20is%20your%20Acme%20code.%0A%0A%40acme.example%20%23123456\
        &h%3AAuto-Submitted=auto-generated&o%3Atracking=no&o%3Atracking-clicks=no&o%3Atracking-opens=no\
        &v%3Areference=a1B2-c3_D4";
    assert_eq!(
        golden(&fake.received()[0]),
        format!(
            "POST /v3/mg.example.com/messages HTTP/1.1\n\
            authorization: Basic YXBpOmtleS1vZi10aGUtdGVzdA==\n\
            accept: application/json\n\
            content-type: application/x-www-form-urlencoded\n\
            user-agent: tollgate/{}\n\
            content-length: {}\n\
            \n\
            {body}",
            env!("CARGO_PKG_VERSION"),
            body.len()
        )
    );
}

#[tokio::test]
async fn what_it_refuses_is_somebodys_fault() {
    let fake = start().await;
    let sender = sender_of(Kind::Mailgun(spec(at(fake.addr()))));
    for (reply, expected) in [
        (error(400, "to parameter is not a valid address"), refused(Fault::Recipient, "to")),
        (error(400, "Sandbox: add to your authorized recipients"), refused(Fault::Provider, "not_allowed")),
        (error(400, "text parameter is missing"), refused(Fault::Request, "http_400")),
        (Reply::new(401).body("Forbidden"), refused(Fault::Provider, "http_401")),
        (error(402, "payment"), refused(Fault::Provider, "http_402")),
        (error(403, "not allowed to send"), refused(Fault::Provider, "http_403")),
        (error(404, "Domain not found"), refused(Fault::Provider, "http_404")),
        (error(413, "too large"), refused(Fault::Request, "http_413")),
        (error(429, "too many"), refused(Fault::Throttled, "http_429")),
        (error(500, "oh"), refused(Fault::Transient, "http_500")),
        (Reply::new(502).body("<html>Bad gateway</html>"), refused(Fault::Transient, "http_502")),
        (Reply::new(200), refused(Fault::Ambiguous, "unreadable_answer")),
        (Reply::json(200, "{\"id\":"), refused(Fault::Ambiguous, "unreadable_answer")),
        (Reply::json(200, r#"{"message":"Queued."}"#), refused(Fault::Ambiguous, "unreadable_answer")),
        (Reply::json(200, r#"{"id":"<a b>"}"#), refused(Fault::Ambiguous, "unreadable_answer")),
    ] {
        fake.answer_by(move |_| reply.clone());
        assert_eq!(Message::by(Channel::Email).sent_by(&*sender).await, expected);
    }
}

#[tokio::test]
async fn its_events_tell_what_became_of_a_letter() {
    let fake = start().await;
    let sender = sender_of(Kind::Mailgun(spec(at(fake.addr()))));
    let now = Message::by(Channel::Email).outbound().now;
    assert_eq!(sender.look_up(MESSAGE_ID, PATIENCE, now).await, Err(LookUpFault::Unknown));
    let asked = fake.received().remove(0).target;
    assert_eq!(
        asked,
        "/v3/mg.example.com/events?message-id=20260102030405.1.0123456789ABCDEF%40mg.example.com&limit=25"
    );
    let item = |event: &str, id: &str| {
        format!(r#"{{"event":"{event}","message":{{"headers":{{"message-id":"{id}"}}}}}}"#)
    };
    let items = format!(
        r#"{{"items":[{},{},{},{}]}}"#,
        item("clicked", "somebody@else.example"),
        item("delivered", MESSAGE_ID),
        item("complained", MESSAGE_ID),
        item("accepted", MESSAGE_ID)
    );
    fake.answer_by(move |_| Reply::json(200, &items));
    let delivered = Ok(report(DeliveryState::Delivered, None));
    assert_eq!(sender.look_up(MESSAGE_ID, PATIENCE, now).await, delivered);
    let count = fake.count();
    for nobody in ["", "a b", "a&b=c", "a/b"] {
        assert_eq!(sender.look_up(nobody, PATIENCE, now).await, Err(LookUpFault::Unknown), "{nobody}");
    }
    assert_eq!(fake.count(), count);
    for (reply, expected) in [
        (error(401, "no"), LookUpFault::Refused("http_401".into())),
        (error(503, "no"), LookUpFault::Away("http_503".into())),
        (Reply::json(200, "{}"), LookUpFault::Away("an answer without items".into())),
        (Reply::json(200, "<"), LookUpFault::Away("an answer that is no JSON".into())),
    ] {
        fake.answer_by(move |_| reply.clone());
        assert_eq!(sender.look_up(MESSAGE_ID, PATIENCE, now).await, Err(expected));
    }
}

fn delivered() -> String {
    format!(r#"{{"event":"delivered","message":{{"headers":{{"message-id":"{MESSAGE_ID}"}}}}}}"#)
}

fn receipt(body: &str) -> Receipt {
    Receipt::post(HOOK, "application/json", body)
}

#[test]
fn only_what_is_signed_is_believed() {
    let body = webhook(SIGNING_KEY, NOW_S, TOKEN, &delivered());
    let signature = body.split("\"signature\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    // printf '1767323045a8ce0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0' | openssl dgst -sha256 -hmac 'signing key of the test'
    assert_eq!(signature.len(), 64);
    assert_eq!(receipt(&body).read_by(&*deaf(SIGNING_KEY)), Ok(vec![report(DeliveryState::Delivered, None)]));
    let sender = deaf(SIGNING_KEY);
    for flipped in flipped(&signature) {
        let forged = receipt(&body.replace(&signature, &flipped)).read_by(&*sender);
        assert_eq!(forged, Err(ReceiptFault::Forged), "{flipped}");
    }
    assert_eq!(receipt(&body).read_by(&*deaf("another key")), Err(ReceiptFault::Forged));
    assert_eq!(receipt(&body.replace(TOKEN, "other")).read_by(&*sender), Err(ReceiptFault::Forged));
    for part in ["timestamp", "token", "signature\":\""] {
        let without = receipt(&body.replace(&format!("\"{part}"), "\"x"));
        assert!(without.read_by(&*sender).is_err(), "{part}");
    }
    assert_eq!(receipt("{}").read_by(&*sender), Err(ReceiptFault::Unsigned));
    assert_eq!(receipt("<").read_by(&*sender), Err(ReceiptFault::Malformed("no JSON")));
    let mut late = receipt(&body);
    late.now_s += 301;
    assert_eq!(late.read_by(&*sender), Err(ReceiptFault::Stale));
    let unkeyed = sender_of(Kind::Mailgun(spec(HttpUrl::parse("https://api.mailgun.net").unwrap())));
    assert_eq!(receipt(&body).read_by(&*unkeyed), Err(ReceiptFault::None));
}

#[test]
fn a_signature_reports_once() {
    let sender = deaf(SIGNING_KEY);
    let body = webhook(SIGNING_KEY, NOW_S, TOKEN, &delivered());
    assert_eq!(receipt(&body).read_by(&*sender).unwrap().len(), 1);
    // The event is not signed: the same signature could come with any.
    let altered = body.replace("\"delivered\"", "\"failed\"");
    assert_eq!(receipt(&altered).read_by(&*sender), Ok(Vec::new()));
    let next = webhook(SIGNING_KEY, NOW_S, "another", &delivered());
    assert_eq!(receipt(&next).read_by(&*sender).unwrap().len(), 1);
}

#[test]
fn webhooks_tell_what_became_of_a_letter() {
    let sender = deaf(SIGNING_KEY);
    for (at, (fields, expected)) in [
        (r#""event":"accepted""#, Some((DeliveryState::Queued, None))),
        (r#""event":"opened""#, Some((DeliveryState::Read, None))),
        (r#""event":"failed","severity":"temporary""#, Some((DeliveryState::Queued, None))),
        (
            r#""event":"failed","severity":"permanent","reason":"bounce","delivery-status":{"code":550,"message":"5.1.1 no such user"}"#,
            Some((DeliveryState::Undelivered, Some((Fault::Recipient, "550")))),
        ),
        (
            r#""event":"failed","severity":"permanent","reason":"generic","delivery-status":{"code":550,"enhanced-code":"5.7.1"}"#,
            Some((DeliveryState::Undelivered, Some((Fault::Route, "550")))),
        ),
        (
            r#""event":"failed","severity":"permanent","reason":"suppress-bounce","delivery-status":{"code":605}"#,
            Some((DeliveryState::Undelivered, Some((Fault::Recipient, "605")))),
        ),
        (
            r#""event":"failed","severity":"permanent","reason":"suppress-unsubscribe""#,
            Some((DeliveryState::Undelivered, Some((Fault::OptedOut, "suppress-unsubscribe")))),
        ),
        (r#""event":"rejected""#, Some((DeliveryState::Rejected, Some((Fault::Route, "rejected"))))),
        (r#""event":"complained""#, None),
        (r#""event":"new""#, None),
    ]
    .into_iter()
    .enumerate()
    {
        let event = format!(r#"{{{fields},"message":{{"headers":{{"message-id":"{MESSAGE_ID}"}}}}}}"#);
        let body = webhook(SIGNING_KEY, NOW_S, &format!("token{at}"), &event);
        let expected = expected.map(|(state, refused)| report(state, refused));
        assert_eq!(receipt(&body).read_by(&*sender), Ok(expected.into_iter().collect()), "{fields}");
    }
}
