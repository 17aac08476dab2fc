use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use tollgate::decision::time::Timestamp;
use tollgate::http_client::HttpUrl;
use tollgate::sms::spec::{Kind, PlivoSpec};
use tollgate::sms::{
    Accepted, Channel, DeliveryState, Fault, LookUpFault, Outcome, Price, ReceiptFault, Refused, Report,
    SmsSender,
};

use super::common::{Message, Receipt, flipped, golden, refused, sender_of};
use crate::harness::PATIENCE;
use crate::harness::backend::Reply;
use crate::harness::providers::plivo::{AUTH_ID, FakePlivo, TOKEN, UUID, error};

const FORM: &str = "application/x-www-form-urlencoded";
const BODY: &str = "MessageUUID=5b40a428&Status=delivered&To=14155550123";
const WITH_QUERY: &str = "https://gw.example.com/dlr/plivo?a=1&b=2";
const V3_WITH_QUERY: &str = "VGRfM4FFxvb6KtCt6uNyKiyzcH/ue87BIujmDwQrudc=";
const WITHOUT_QUERY: &str = "https://gw.example.com/dlr/plivo";
const V3_WITHOUT_QUERY: &str = "DLkbgLzsi8f0BiVb0LisSdNgSp3GTplqOvs/bI6aay0=";
const V3: &str = "x-plivo-signature-v3";
const V3_NONCE: &str = "x-plivo-signature-v3-nonce";
const V2: &str = "x-plivo-signature-v2";
const V2_NONCE: &str = "x-plivo-signature-v2-nonce";

fn sender(fake: &FakePlivo) -> Box<dyn SmsSender> {
    sender_of(Kind::Plivo(fake.spec()))
}

/// One that nobody is behind, for receipts.
fn deaf(token: &str) -> Box<dyn SmsSender> {
    sender_of(Kind::Plivo(PlivoSpec {
        base_url: HttpUrl::parse("https://api.plivo.com").unwrap(),
        auth_id: AUTH_ID.into(),
        auth_token: token.into(),
        from: "+15005550006".into(),
    }))
}

fn accepted() -> Outcome {
    Outcome::Accepted(Accepted { message_id: UUID.into(), ..Accepted::default() })
}

#[tokio::test]
async fn a_text_is_this_request_to_the_byte() {
    let fake = FakePlivo::start().await;
    assert_eq!(Message::by(Channel::Sms).sent_by(&*sender(&fake)).await, accepted());
    let body = r#"{"src":"+15005550006","dst":"+14155550123","text":"123456 is your Acme code.\n\n@acme.example #123456","type":"sms","url":"https://gw.example.com/otp/receipts/it/T0k3nT0k3nT0k3nT0k3nT0","method":"POST","log":false,"message_expiry":300}"#;
    let expected = format!(
        "POST /v1/Account/{AUTH_ID}/Message/ HTTP/1.1\n\
         authorization: Basic TUFYWFhYWFhYWFhYWFhYWFhYWFg6bXlfYXV0aF90b2tlbg==\n\
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
    assert!(!body.contains("url") && !body.contains("method"), "{body}");
}

#[tokio::test]
async fn errors_are_told_apart() {
    let fake = FakePlivo::start().await;
    let sender = sender(&fake);
    let rows = [
        (400, "dst number is not valid", Fault::Recipient),
        (400, "invalid destination", Fault::Recipient),
        (400, "src parameter is not valid", Fault::Route),
        (400, "Sender ID is not registered", Fault::Route),
        (400, "text parameter not present", Fault::Request),
        (422, "invalid phone number", Fault::Recipient),
        (422, "unprocessable", Fault::Request),
        (401, "authentication failed", Fault::Provider),
        (402, "insufficient credit", Fault::Provider),
        (403, "not enabled for this country", Fault::Route),
        (403, "blocked by Fraud Shield", Fault::Fraud),
        (404, "not found", Fault::Provider),
        (405, "method not allowed", Fault::Provider),
        (429, "too many requests", Fault::Throttled),
        (500, "internal error", Fault::Transient),
        (503, "src number", Fault::Transient),
    ];
    for (status, text, fault) in rows {
        fake.answers(error(status, text));
        let outcome = Message::by(Channel::Sms).sent_by(&*sender).await;
        assert_eq!(outcome, refused(fault, &format!("http_{status}")), "{text}");
    }
}

#[tokio::test]
async fn a_yes_without_a_message_is_none() {
    let fake = FakePlivo::start().await;
    let sender = sender(&fake);
    let unclear = refused(Fault::Ambiguous, "unreadable_answer");
    let rows = [
        (
            Reply::json(202, r#"{"message":"message(s) queued","message_uuid":[],"invalid_number":["1"]}"#),
            refused(Fault::Recipient, "invalid_number"),
        ),
        (Reply::json(202, r#"{"message":"message(s) queued","message_uuid":[]}"#), unclear.clone()),
        (Reply::json(202, r#"{"message_uuid":["a/../b"]}"#), unclear.clone()),
        (Reply::json(202, r#"{"message_uuid":"#), unclear.clone()),
        (Reply::new(200), unclear.clone()),
        (Reply::new(200).body("<html>"), unclear),
        (Reply::new(502).body("<html>Bad Gateway"), refused(Fault::Transient, "http_502")),
        (Reply::new(301).header("location", "/"), refused(Fault::Provider, "http_301")),
    ];
    for (reply, expected) in rows {
        fake.answers(reply.clone());
        assert_eq!(Message::by(Channel::Sms).sent_by(&*sender).await, expected, "{reply:?}");
    }
    let other = sender_of(Kind::Plivo(PlivoSpec { auth_token: "another".into(), ..fake.spec() }));
    let outcome = Message::by(Channel::Sms).sent_by(&*other).await;
    assert_eq!(outcome, refused(Fault::Provider, "http_401"));
}

#[tokio::test]
async fn a_look_up_tells_what_became_of_it() {
    let fake = FakePlivo::start().await;
    let sender = sender(&fake);
    let look_up = async |id| sender.look_up(id, PATIENCE, Timestamp::default()).await;
    assert_eq!(look_up(UUID).await, Err(LookUpFault::Unknown));
    assert_eq!(look_up("../Message").await, Err(LookUpFault::Unknown));
    fake.answers(Reply::json(
        200,
        r#"{"message_state":"delivered","error_code":"000","total_amount":"0.00350","units":1}"#,
    ));
    let price = Some(Price { micros: 3500, currency: "USD".into() });
    let delivered = Report { message_id: UUID.into(), state: DeliveryState::Delivered, refused: None, price };
    assert_eq!(look_up(UUID).await, Ok(delivered));
    let request = &fake.backend.received()[1];
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("GET", format!("/v1/Account/{AUTH_ID}/Message/{UUID}/").as_str())
    );
    fake.answers(Reply::json(200, r#"{"message_state":"failed","error_code":450,"total_amount":"0.00000"}"#));
    let failed = Report {
        message_id: UUID.into(),
        state: DeliveryState::Failed,
        refused: Some(Refused::new(Fault::Route, "450")),
        price: None,
    };
    assert_eq!(look_up(UUID).await, Ok(failed));
    for (reply, expected) in [
        (Reply::new(200).body("<html>"), LookUpFault::Away("unreadable_answer".into())),
        (Reply::json(200, r#"{"message_state":"new"}"#), LookUpFault::Away("unreadable_answer".into())),
        (Reply::new(503), LookUpFault::Away("http_503".into())),
        (error(400, "no"), LookUpFault::Refused("http_400".into())),
    ] {
        fake.answers(reply);
        assert_eq!(look_up(UUID).await, Err(expected));
    }
}

fn delivered() -> Report {
    Report { message_id: "5b40a428".into(), state: DeliveryState::Delivered, refused: None, price: None }
}

fn third(url: &str, signature: &str) -> Receipt {
    Receipt::post(url, FORM, BODY).header(V3, signature).header(V3_NONCE, "05429567804466091622")
}

fn second(url: &str, signature: &str) -> Receipt {
    Receipt::post(url, FORM, BODY).header(V2, signature).header(V2_NONCE, "12345")
}

#[test]
fn receipts_are_believed_by_either_signature() {
    let sender = deaf(TOKEN);
    let v2 = "ehV3IKhLysWBxC1sy8INm0qGoQYdYsHwuoKjsX7FsXc=";
    let both = format!("AAAA, {V3_WITH_QUERY}");
    for receipt in [
        third(WITH_QUERY, V3_WITH_QUERY),
        third(WITHOUT_QUERY, V3_WITHOUT_QUERY),
        third(WITH_QUERY, &both),
        third(WITH_QUERY, "AAAA").header("x-plivo-signature-ma-v3", V3_WITH_QUERY),
        second("https://answer.url", v2),
        second("https://answer.url?not=signed", v2),
        second("https://answer.url", "AAAA").header("x-plivo-signature-ma-v2", v2),
    ] {
        assert_eq!(receipt.read_by(&*sender), Ok(vec![delivered()]), "{:?}", receipt.headers);
    }
}

#[test]
fn whatever_is_altered_is_not_believed() {
    let sender = deaf(TOKEN);
    let forged = Err(ReceiptFault::Forged);
    for signature in flipped(V3_WITH_QUERY) {
        assert_eq!(third(WITH_QUERY, &signature).read_by(&*sender), forged, "{signature}");
    }
    let v2 = "ehV3IKhLysWBxC1sy8INm0qGoQYdYsHwuoKjsX7FsXc=";
    for signature in flipped(v2) {
        assert_eq!(second("https://answer.url", &signature).read_by(&*sender), forged, "{signature}");
    }
    let good = third(WITH_QUERY, V3_WITH_QUERY);
    assert_eq!(good.read_by(&*deaf("another token")), forged);
    assert_eq!(second("https://answer.url", v2).read_by(&*deaf("another token")), forged);
    assert_eq!(third(&WITH_QUERY.replace("b=2", "b=3"), V3_WITH_QUERY).read_by(&*sender), forged);
    assert_eq!(third(&WITH_QUERY.replace("gw.", "gx."), V3_WITH_QUERY).read_by(&*sender), forged);
    assert_eq!(second("https://answer.url/x", v2).read_by(&*sender), forged);
    let body = BODY.replace("delivered", "failed");
    let altered = Receipt { body: body.into(), ..good.clone() };
    assert_eq!(altered.read_by(&*sender), forged);
    let other_nonce = good.clone().without(V3_NONCE).header(V3_NONCE, "1");
    assert_eq!(other_nonce.read_by(&*sender), forged);
    // A signature that covers less does not stand in for one that fails.
    let both = third("https://answer.url", V3_WITH_QUERY).header(V2, v2).header(V2_NONCE, "12345");
    assert_eq!(both.read_by(&*sender), forged);
}

#[test]
fn a_signature_is_there_once_or_not_at_all() {
    let sender = deaf(TOKEN);
    let good = third(WITH_QUERY, V3_WITH_QUERY);
    let unsigned = Err(ReceiptFault::Unsigned);
    assert_eq!(good.clone().without(V3).read_by(&*sender), unsigned);
    assert_eq!(good.clone().without(V3_NONCE).read_by(&*sender), unsigned);
    for name in [V3, V3_NONCE] {
        let twice = good.clone().header(name, "another").read_by(&*sender);
        assert!(matches!(twice, Err(ReceiptFault::Malformed(_))), "{name}");
    }
    let mut by_get = good;
    by_get.method = http::Method::GET;
    assert!(matches!(by_get.read_by(&*sender), Err(ReceiptFault::Malformed(_))));
}

/// A receipt that says this, signed.
fn told(body: &str) -> Result<Vec<Report>, ReceiptFault> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, TOKEN.as_bytes());
    let signature = BASE64.encode(hmac::sign(&key, format!("{WITHOUT_QUERY}n").as_bytes()));
    let receipt = Receipt::post(WITHOUT_QUERY, FORM, body).header(V2, &signature).header(V2_NONCE, "n");
    receipt.read_by(&*deaf(TOKEN))
}

#[test]
fn states_and_codes_are_told_apart() {
    let told = |status: &str, code: &str| {
        let body = format!("MessageUUID=u-1&Status={status}&ErrorCode={code}&TotalAmount=0.0035&Units=1");
        let report = told(&body).unwrap().remove(0);
        assert_eq!(report.price, Some(Price { micros: 3500, currency: "USD".into() }));
        (report.state, report.refused.map(|refused| (refused.fault, refused.code)))
    };
    for (status, state) in [
        ("queued", DeliveryState::Queued),
        ("sent", DeliveryState::Sent),
        ("delivered", DeliveryState::Delivered),
        ("read", DeliveryState::Read),
    ] {
        assert_eq!(told(status, "000"), (state, None));
    }
    let rows = [
        ("10", Fault::Request),
        ("20", Fault::Transient),
        ("30", Fault::Route),
        ("40", Fault::Provider),
        ("50", Fault::Recipient),
        ("60", Fault::Route),
        ("70", Fault::Recipient),
        ("80", Fault::Transient),
        ("90", Fault::Route),
        ("100", Fault::Route),
        ("110", Fault::Request),
        ("200", Fault::OptedOut),
        ("201", Fault::Route),
        ("450", Fault::Route),
        ("900", Fault::Provider),
        ("910", Fault::Provider),
        ("1000", Fault::Transient),
        ("31337", Fault::Transient),
    ];
    for (code, fault) in rows {
        let why = Some((fault, code.into()));
        assert_eq!(told("failed", code), (DeliveryState::Failed, why.clone()), "{code}");
        assert_eq!(told("undelivered", code), (DeliveryState::Undelivered, why.clone()), "{code}");
        assert_eq!(told("rejected", code), (DeliveryState::Rejected, why), "{code}");
    }
    assert_eq!(told("failed", "420"), (DeliveryState::Expired, Some((Fault::Transient, "420".into()))));
}

#[test]
fn what_is_no_report_is_none() {
    assert_eq!(told("MessageUUID=u-1&Status=new"), Ok(Vec::new()));
    for body in
        ["", "Status=sent", "MessageUUID=a%2Fb&Status=sent", "MessageUUID=a&MessageUUID=b&Status=sent", "a=%"]
    {
        assert!(matches!(told(body), Err(ReceiptFault::Malformed(_))), "{body}");
    }
}
