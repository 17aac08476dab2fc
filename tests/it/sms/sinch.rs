use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use tollgate::decision::time::Timestamp;
use tollgate::http_client::HttpUrl;
use tollgate::sms::spec::{Kind, SinchSpec};
use tollgate::sms::{
    Accepted, Channel, DeliveryState, Fault, LookUpFault, Outcome, ReceiptFault, Refused, Report, SmsSender,
};

use super::common::{Message, Receipt, flipped, golden, refused, sender_of};
use crate::harness::PATIENCE;
use crate::harness::backend::Reply;
use crate::harness::providers::sinch::{BATCH, FakeSinch, PLAN, error};

const SECRET: &str = "KayakingTheSwell";
const URL: &str = "https://gw.example.com/otp/receipts/it/T0k3nT0k3nT0k3nT0k3nT0";
const JSON: &str = "application/json";
const TOLD: &str = r#"{"type":"recipient_delivery_report_sms","batch_id":"01FC66621VHDBN119Z8PMV1QPU","recipient":"15551231234","code":0,"status":"Delivered","at":"2026-01-01T00:00:00Z"}"#;
const SIGNED: &str = "peOeBumxgERHq6+dRQXA66rdH/trgLy+oBkJUvWF5zU=";
const SIGNED_AT_S: u64 = 1_700_000_000;
const SIGNATURE: &str = "x-sinch-webhook-signature";
const TIMESTAMP: &str = "x-sinch-webhook-signature-timestamp";
const NONCE: &str = "x-sinch-webhook-signature-nonce";
const ALGORITHM: &str = "x-sinch-webhook-signature-algorithm";

fn sender(fake: &FakeSinch) -> Box<dyn SmsSender> {
    sender_of(Kind::Sinch(fake.spec()))
}

/// One that nobody is behind, for receipts.
fn deaf(secret: Option<&str>) -> Box<dyn SmsSender> {
    sender_of(Kind::Sinch(SinchSpec {
        base_url: HttpUrl::parse("https://eu.sms.api.sinch.com").unwrap(),
        service_plan_id: PLAN.into(),
        api_token: "token".into(),
        webhook_secret: secret.map(Into::into),
        from: "Acme".into(),
    }))
}

fn accepted() -> Outcome {
    Outcome::Accepted(Accepted { message_id: BATCH.into(), ..Accepted::default() })
}

#[tokio::test]
async fn a_text_is_this_request_to_the_byte() {
    let fake = FakeSinch::start().await;
    assert_eq!(Message::by(Channel::Sms).sent_by(&*sender(&fake)).await, accepted());
    let body = r#"{"from":"15005550006","to":["14155550123"],"body":"123456 is your Acme code.\n\n@acme.example #123456","type":"mt_text","delivery_report":"per_recipient","callback_url":"https://gw.example.com/otp/receipts/it/T0k3nT0k3nT0k3nT0k3nT0","client_reference":"a1B2-c3_D4","expire_at":"2026-01-02T03:09:05.999Z"}"#;
    let expected = format!(
        "POST /xms/v1/{PLAN}/batches HTTP/1.1\n\
         authorization: Bearer token-of-the-plan\n\
         content-type: application/json\n\
         user-agent: tollgate/{}\n\
         content-length: {}\n\n{body}",
        env!("CARGO_PKG_VERSION"),
        body.len()
    );
    assert_eq!(golden(&fake.backend.received()[0]), expected);
    let silent = Message { receipt_url: None, ..Message::by(Channel::Sms) };
    assert_eq!(silent.sent_by(&*sender(&fake)).await, accepted());
    let body = String::from_utf8(fake.backend.received()[1].body.clone()).unwrap();
    assert!(body.contains(r#""delivery_report":"none","client_reference""#), "{body}");
}

#[tokio::test]
async fn errors_are_told_apart() {
    let fake = FakeSinch::start().await;
    let sender = sender(&fake);
    let rows = [
        (400, "syntax_invalid_json", "failed to parse", Fault::Request),
        (400, "syntax_invalid_parameter_format", "Invalid MSISDN", Fault::Recipient),
        (400, "syntax_invalid_parameter_format", "to[0]: must be a number", Fault::Recipient),
        (400, "syntax_constraint_violation", "the field 'to' is wrong", Fault::Recipient),
        (400, "syntax_constraint_violation", "Invalid recipient", Fault::Recipient),
        (400, "syntax_constraint_violation", "[from] is not allowed", Fault::Route),
        (400, "syntax_constraint_violation", "body has to be there", Fault::Request),
        (403, "blocked_account", "", Fault::Provider),
        (403, "illegal_number_type", "", Fault::Route),
        (403, "missing_callback_url", "", Fault::Request),
        (403, "unknown_group", "", Fault::Request),
        (403, "new_with_us", "", Fault::Provider),
        (404, "not_found", "", Fault::Provider),
        (429, "too_many_requests", "", Fault::Throttled),
        (500, "internal_error", "to[0]", Fault::Transient),
    ];
    for (status, code, text, fault) in rows {
        fake.answers(error(status, code, text));
        let outcome = Message::by(Channel::Sms).sent_by(&*sender).await;
        assert_eq!(outcome, refused(fault, code), "{code} {text}");
    }
    fake.answers(error(400, "14155550123", ""));
    let outcome = Message::by(Channel::Sms).sent_by(&*sender).await;
    assert_eq!(outcome, refused(Fault::Request, "http_400"), "a number is no code");
    let other = sender_of(Kind::Sinch(SinchSpec { api_token: "another".into(), ..fake.spec() }));
    let outcome = Message::by(Channel::Sms).sent_by(&*other).await;
    assert_eq!(outcome, refused(Fault::Provider, "http_401"));
}

#[tokio::test]
async fn a_yes_without_a_batch_is_none() {
    let fake = FakeSinch::start().await;
    let sender = sender(&fake);
    let unclear = refused(Fault::Ambiguous, "unreadable_answer");
    let canceled = refused(Fault::Provider, "canceled");
    let rows = [
        (Reply::json(201, r#"{"id":"A1","canceled":true}"#), canceled.clone()),
        (Reply::json(201, r#"{"id":"A1","canceled":"True"}"#), canceled),
        (Reply::json(201, r#"{"canceled":false}"#), unclear.clone()),
        (Reply::json(201, r#"{"id":""}"#), unclear.clone()),
        (Reply::json(201, r#"{"id":"A1""#), unclear.clone()),
        (Reply::new(200), unclear.clone()),
        (Reply::new(200).body("<html>"), unclear),
        (Reply::new(502).body("<html>Bad Gateway"), refused(Fault::Transient, "http_502")),
        (Reply::new(307).header("location", "/"), refused(Fault::Provider, "http_307")),
    ];
    for (reply, expected) in rows {
        fake.answers(reply.clone());
        assert_eq!(Message::by(Channel::Sms).sent_by(&*sender).await, expected, "{reply:?}");
    }
    fake.answers(Reply::json(201, r#"{"id":"A1","canceled":"False"}"#));
    let outcome = Message::by(Channel::Sms).sent_by(&*sender).await;
    assert_eq!(outcome, Outcome::Accepted(Accepted { message_id: "A1".into(), ..Accepted::default() }));
}

fn report(state: DeliveryState, refused: Option<(Fault, &str)>) -> Report {
    let refused = refused.map(|(fault, code)| Refused::new(fault, code));
    Report { message_id: BATCH.into(), state, refused, price: None }
}

#[tokio::test]
async fn a_look_up_tells_what_became_of_it() {
    let fake = FakeSinch::start().await;
    let sender = sender(&fake);
    let look_up = async |id| sender.look_up(id, PATIENCE, Timestamp::default()).await;
    assert_eq!(look_up(BATCH).await, Err(LookUpFault::Unknown));
    assert_eq!(look_up("a/b").await, Err(LookUpFault::Unknown));
    let told = |statuses: &str| {
        let body = format!(
            r#"{{"type":"delivery_report_sms","batch_id":"{BATCH}","total_message_count":1,"statuses":[{statuses}]}}"#
        );
        Reply::json(200, &body)
    };
    fake.answers(told(r#"{"code":401,"status":"Dispatched","count":1}"#));
    assert_eq!(look_up(BATCH).await, Ok(report(DeliveryState::Sent, None)));
    fake.answers(told(
        r#"{"code":0,"status":"DELIVERED","count":1},{"code":400,"status":"Queued","count":1}"#,
    ));
    assert_eq!(look_up(BATCH).await, Ok(report(DeliveryState::Delivered, None)));
    fake.answers(told(r#"{"code":402,"status":"Failed","count":1}"#));
    assert_eq!(look_up(BATCH).await, Ok(report(DeliveryState::Failed, Some((Fault::Route, "402")))));
    for (reply, expected) in [
        (told(""), LookUpFault::Away("unreadable_answer".into())),
        (Reply::new(200).body("<html>"), LookUpFault::Away("unreadable_answer".into())),
        (Reply::new(429), LookUpFault::Away("http_429".into())),
        (Reply::new(403), LookUpFault::Refused("http_403".into())),
    ] {
        fake.answers(reply);
        assert_eq!(look_up(BATCH).await, Err(expected));
    }
}

fn signed() -> Receipt {
    let receipt = Receipt::post(URL, JSON, TOLD)
        .header(SIGNATURE, SIGNED)
        .header(TIMESTAMP, "1700000000")
        .header(NONCE, "01F")
        .header(ALGORITHM, "HmacSHA256");
    Receipt { now_s: SIGNED_AT_S, ..receipt }
}

#[test]
fn a_signed_receipt_is_believed() {
    let delivered = Ok(vec![report(DeliveryState::Delivered, None)]);
    let sender = deaf(Some(SECRET));
    assert_eq!(signed().read_by(&*sender), delivered);
    for near_s in [SIGNED_AT_S - 300, SIGNED_AT_S + 300] {
        assert_eq!(Receipt { now_s: near_s, ..signed() }.read_by(&*sender), delivered);
    }
    // Without a secret its path is all that speaks for it.
    let unsigned = Receipt::post(URL, JSON, TOLD);
    assert_eq!(unsigned.read_by(&*deaf(None)), delivered);
    assert_eq!(unsigned.read_by(&*sender), Err(ReceiptFault::Unsigned));
}

#[test]
fn whatever_is_altered_is_not_believed() {
    let sender = deaf(Some(SECRET));
    let forged = Err(ReceiptFault::Forged);
    let with = |name: &str, value: &str| signed().without(name).header(name, value);
    for signature in flipped(SIGNED) {
        assert_eq!(with(SIGNATURE, &signature).read_by(&*sender), forged, "{signature}");
    }
    assert_eq!(signed().read_by(&*deaf(Some("another"))), forged);
    assert_eq!(with(NONCE, "02F").read_by(&*sender), forged);
    assert_eq!(with(TIMESTAMP, "1700000001").read_by(&*sender), forged);
    let body = TOLD.replace("Delivered", "Failed");
    assert_eq!(Receipt { body: body.into(), ..signed() }.read_by(&*sender), forged);
    for far_s in [SIGNED_AT_S - 301, SIGNED_AT_S + 301] {
        assert_eq!(Receipt { now_s: far_s, ..signed() }.read_by(&*sender), Err(ReceiptFault::Stale));
    }
    for name in [SIGNATURE, TIMESTAMP, NONCE, ALGORITHM] {
        assert_eq!(signed().without(name).read_by(&*sender), Err(ReceiptFault::Unsigned), "{name}");
        let twice = signed().header(name, "x").read_by(&*sender);
        assert!(matches!(twice, Err(ReceiptFault::Malformed(_))), "{name}");
    }
    assert!(matches!(with(ALGORITHM, "none").read_by(&*sender), Err(ReceiptFault::Malformed(_))));
}

#[test]
fn the_signature_covers_a_time_that_is_none_as_well() {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let signature = BASE64.encode(hmac::sign(&key, format!("{TOLD}.01F.soon").as_bytes()));
    let receipt = signed().without(SIGNATURE).without(TIMESTAMP);
    let receipt = receipt.header(SIGNATURE, &signature).header(TIMESTAMP, "soon");
    assert!(matches!(receipt.read_by(&*deaf(Some(SECRET))), Err(ReceiptFault::Malformed(_))));
}

#[test]
fn states_and_codes_are_told_apart() {
    let sender = deaf(None);
    let told = |code: u16, status: &str| {
        let body = format!(
            r#"{{"type":"recipient_delivery_report_sms","batch_id":"{BATCH}","code":{code},"status":"{status}","recipient":"1","operator":"35000"}}"#
        );
        Receipt::post(URL, JSON, &body).read_by(&*sender).unwrap()
    };
    assert_eq!(told(400, "Queued"), [report(DeliveryState::Queued, None)]);
    assert_eq!(told(401, "Dispatched"), [report(DeliveryState::Sent, None)]);
    assert_eq!(told(0, "Delivered"), [report(DeliveryState::Delivered, None)]);
    for unknown in ["Unknown", "New"] {
        assert_eq!(told(0, unknown), []);
    }
    for status in ["Aborted", "Cancelled", "Rejected", "Deleted", "REJECTED"] {
        assert_eq!(told(407, status), [report(DeliveryState::Rejected, Some((Fault::Transient, "407")))]);
    }
    assert_eq!(told(406, "Expired"), [report(DeliveryState::Expired, Some((Fault::Transient, "406")))]);
    let rows = [
        (402, Fault::Route),
        (403, Fault::Transient),
        (404, Fault::Transient),
        (405, Fault::Request),
        (408, Fault::Transient),
        (410, Fault::Provider),
        (411, Fault::Request),
        (412, Fault::Route),
        (413, Fault::Provider),
        (414, Fault::Request),
        (418, Fault::Request),
        (999, Fault::Transient),
    ];
    for (code, fault) in rows {
        let failed = report(DeliveryState::Failed, Some((fault, &code.to_string())));
        assert_eq!(told(code, "Failed"), [failed], "{code}");
    }
}

#[test]
fn what_is_no_report_is_none() {
    let sender = deaf(None);
    let read = |body: &str| Receipt::post(URL, JSON, body).read_by(&*sender);
    assert_eq!(read(r#"{"type":"mo_text","batch_id":"A1"}"#), Ok(Vec::new()));
    for body in ["", "<html>", "[]", r#"{"type":"delivery_report_sms"}"#, r#"{"type":"x","batch_id":"a/b"}"#]
    {
        assert!(matches!(read(body), Err(ReceiptFault::Malformed(_))), "{body}");
    }
    assert!(matches!(Receipt::get(URL).read_by(&*sender), Err(ReceiptFault::Malformed(_))));
}
