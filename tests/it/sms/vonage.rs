use std::time::Duration;

use ring::hmac;
use tollgate::http_client::HttpUrl;
use tollgate::sms::spec::{Kind, VonageSpec};
use tollgate::sms::{
    Accepted, Channel, DeliveryState, Fault, LookUpFault, Outcome, Price, ReceiptFault, Refused, Report,
    SmsSender,
};

use super::common::{Message, NOW_S, Receipt, at, flipped, golden, refused, sender_of};
use crate::harness::PATIENCE;
use crate::harness::backend::Reply;
use crate::harness::providers::vonage::{FakeVonage, KEY, SECRET, signature};

const CALLBACK: &str = "https://gw.example.com/otp/receipts/it/T0k3nT0k3nT0k3nT0k3nT0";
const FORM: &str = "application/x-www-form-urlencoded";
const SIGNS: &str = "signature secret";

fn spec(base_url: HttpUrl) -> VonageSpec {
    VonageSpec {
        base_url,
        api_key: KEY.into(),
        api_secret: SECRET.into(),
        signature_secret: None,
        from: "Acme".into(),
    }
}

fn sender(fake: &FakeVonage) -> Box<dyn SmsSender> {
    sender_of(Kind::Vonage(spec(at(fake.addr()))))
}

/// One that nobody is behind, for receipts.
fn deaf(signature_secret: Option<&str>) -> Box<dyn SmsSender> {
    let spec = spec(HttpUrl::parse("https://rest.nexmo.com").unwrap());
    sender_of(Kind::Vonage(VonageSpec { signature_secret: signature_secret.map(Into::into), ..spec }))
}

fn euros(micros: u64) -> Option<Price> {
    Some(Price { micros, currency: "EUR".into() })
}

#[tokio::test]
async fn a_text_is_this_request_to_the_byte() {
    let fake = FakeVonage::start().await;
    let outcome = Message::by(Channel::Sms).sent_by(&*sender(&fake)).await;
    assert_eq!(
        outcome,
        Outcome::Accepted(Accepted {
            message_id: "0A000000123450".into(),
            parts: Some(1),
            price: euros(33_300)
        })
    );
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        golden(&fake.backend.received()[0]),
        format!(
            "POST /sms/json HTTP/1.1\n\
            authorization: Basic YWJjZDEyMzQ6c2VjcmV0IG9mIHRoZSBhY2NvdW50\n\
            accept: application/json\n\
            content-type: application/x-www-form-urlencoded\n\
            user-agent: tollgate/{version}\n\
            content-length: 224\n\
            \n\
            from=Acme&to=14155550123\
            &text=123456%20is%20your%20Acme%20code.%0A%0A%40acme.example%20%23123456\
            &type=text&ttl=300999&client-ref=a1B2-c3_D4\
            &callback=https%3A%2F%2Fgw.example.com%2Fotp%2Freceipts%2Fit%2FT0k3nT0k3nT0k3nT0k3nT0"
        )
    );
}

#[tokio::test]
async fn what_is_too_long_for_a_field_is_left_out_and_what_is_too_short_stretched() {
    let fake = FakeVonage::start().await;
    let mut message = Message::by(Channel::Sms);
    message.text = "Ваш код 123456".into();
    message.expires_in = Duration::from_secs(5);
    let url: &'static str = format!("{CALLBACK}{}", "x".repeat(48)).leak();
    message.receipt_url = Some(url);
    let outcome = message.sent_by(&*sender(&fake)).await;
    assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
    assert_eq!(
        String::from_utf8(fake.backend.received()[0].body.clone()).unwrap(),
        "from=Acme&to=14155550123&text=%D0%92%D0%B0%D1%88%20%D0%BA%D0%BE%D0%B4%20123456\
        &type=unicode&ttl=20000&client-ref=a1B2-c3_D4"
    );
}

#[tokio::test]
async fn the_status_of_each_part_decides_and_never_that_of_http() {
    let fake = FakeVonage::start().await;
    let sender = sender(&fake);
    for (status, fault) in [
        (1, Fault::Throttled),
        (2, Fault::Request),
        (3, Fault::Request),
        (4, Fault::Provider),
        (5, Fault::Transient),
        (6, Fault::Route),
        (7, Fault::Recipient),
        (8, Fault::Provider),
        (9, Fault::Provider),
        (10, Fault::Throttled),
        (11, Fault::Provider),
        (12, Fault::Request),
        (14, Fault::Provider),
        (15, Fault::Route),
        (22, Fault::Request),
        (23, Fault::Request),
        (29, Fault::Provider),
        (32, Fault::Provider),
        (33, Fault::Recipient),
    ] {
        fake.parts(&[(status, "")]);
        let outcome = Message::by(Channel::Sms).sent_by(&*sender).await;
        assert_eq!(outcome, refused(fault, &format!("status_{status}")), "{status}");
    }
    let outcome = async |parts: &[(u32, &str)]| {
        fake.parts(parts);
        Message::by(Channel::Sms).sent_by(&*sender).await
    };
    assert_eq!(outcome(&[(3, "to address is not numeric")]).await, refused(Fault::Recipient, "status_3"));
    let wait = Refused {
        retry_after: Some(Duration::from_millis(978)),
        ..Refused::new(Fault::Throttled, "status_1")
    };
    let text = "Throughput Rate Exceeded - please wait [ 978 ] and retry";
    assert_eq!(outcome(&[(1, text)]).await, Outcome::Refused(wait));
    assert_eq!(outcome(&[(0, ""), (9, "")]).await, refused(Fault::Ambiguous, "partly_sent"));
    assert_eq!(outcome(&[(9, ""), (0, "")]).await, refused(Fault::Ambiguous, "partly_sent"));
    assert_eq!(
        outcome(&[(0, ""), (0, "")]).await,
        Outcome::Accepted(Accepted {
            message_id: "0A000000123450".into(),
            parts: Some(2),
            price: euros(66_600)
        })
    );
}

#[tokio::test]
async fn an_answer_that_is_none_of_its_own_is_never_taken_for_a_yes() {
    let fake = FakeVonage::start().await;
    let sender = sender(&fake);
    let unreadable = || refused(Fault::Ambiguous, "unreadable_answer");
    for (reply, expected) in [
        (Reply::new(200), unreadable()),
        (Reply::json(200, "{\"messages\":"), unreadable()),
        (Reply::json(200, "{}"), unreadable()),
        (Reply::json(200, r#"{"message-count":"0","messages":[]}"#), unreadable()),
        (Reply::json(200, r#"{"messages":[{"status":"sent"}]}"#), unreadable()),
        (Reply::json(200, r#"{"messages":[{"status":"0"},{}]}"#), unreadable()),
        (Reply::new(502).body("<html>Bad gateway</html>"), refused(Fault::Transient, "http_502")),
        (Reply::new(401), refused(Fault::Provider, "http_401")),
        (Reply::new(429), refused(Fault::Throttled, "http_429")),
    ] {
        fake.backend.answer_by(move |_| reply.clone());
        assert_eq!(Message::by(Channel::Sms).sent_by(&*sender).await, expected);
    }
    let count = fake.backend.count();
    assert_eq!(Message::by(Channel::Voice).sent_by(&*sender).await, refused(Fault::Route, "channel"));
    assert_eq!(fake.backend.count(), count);
}

#[tokio::test]
async fn a_message_can_be_looked_up() {
    let fake = FakeVonage::start().await;
    let sender = sender(&fake);
    let now = Message::by(Channel::Sms).outbound().now;
    let report = Report {
        message_id: "0A1".into(),
        state: DeliveryState::Delivered,
        refused: None,
        price: euros(33_300),
    };
    assert_eq!(sender.look_up("0A1", PATIENCE, now).await, Ok(report));
    assert_eq!(sender.look_up("0A2", PATIENCE, now).await, Err(LookUpFault::Unknown));
    assert_eq!(sender.look_up("0A2&x=y", PATIENCE, now).await, Err(LookUpFault::Unknown));
    assert_eq!(fake.backend.count(), 2);
    fake.backend.answer_by(|_| Reply::new(401));
    assert_eq!(sender.look_up("0A1", PATIENCE, now).await, Err(LookUpFault::Refused("http_401".into())));
}

const DELIVERED: [(&str, &str); 10] = [
    ("msisdn", "14155550123"),
    ("to", "Acme"),
    ("network-code", "310260"),
    ("messageId", "0A0000001234567B"),
    ("price", "0.03330000"),
    ("status", "delivered"),
    ("scts", "2601020304"),
    ("err-code", "0"),
    ("api-key", KEY),
    ("message-timestamp", "2026-01-02 03:04:05"),
];

fn encoded(params: &[(&str, &str)]) -> String {
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                byte => format!("%{byte:02x}"),
            })
            .collect()
    };
    let pairs: Vec<String> =
        params.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

fn with<'a>(params: &[(&'a str, &'a str)], changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut changed = params.to_vec();
    changed.retain(|(name, _)| changes.iter().all(|(other, _)| other != name));
    changed.extend_from_slice(changes);
    changed
}

fn as_query(params: &[(&str, &str)]) -> Receipt {
    Receipt::get(&format!("{CALLBACK}?{}", encoded(params)))
}

fn as_json(params: &[(&str, &str)]) -> Receipt {
    let object: serde_json::Map<_, _> =
        params.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    Receipt::post(CALLBACK, "application/json; charset=utf-8", &serde_json::to_string(&object).unwrap())
}

#[test]
fn receipts_come_in_three_ways() {
    let sender = deaf(None);
    let delivered = Report {
        message_id: "0A0000001234567B".into(),
        state: DeliveryState::Delivered,
        refused: None,
        price: euros(33_300),
    };
    let form = Receipt::post(CALLBACK, FORM, &encoded(&DELIVERED));
    for receipt in [as_query(&DELIVERED), form, as_json(&DELIVERED)] {
        assert_eq!(receipt.read_by(&*sender), Ok(vec![delivered.clone()]));
    }
    for (status, code, state, fault) in [
        ("accepted", "0", Some(DeliveryState::Sent), None),
        ("buffered", "7", Some(DeliveryState::Queued), None),
        ("expired", "2", Some(DeliveryState::Expired), Some(Fault::Transient)),
        ("failed", "1", Some(DeliveryState::Failed), Some(Fault::Transient)),
        ("failed", "3", Some(DeliveryState::Failed), Some(Fault::Recipient)),
        ("failed", "4", Some(DeliveryState::Failed), Some(Fault::Recipient)),
        ("failed", "5", Some(DeliveryState::Failed), Some(Fault::Route)),
        ("failed", "6", Some(DeliveryState::Failed), Some(Fault::Route)),
        ("failed", "7", Some(DeliveryState::Failed), Some(Fault::Transient)),
        ("failed", "8", Some(DeliveryState::Failed), Some(Fault::Transient)),
        ("rejected", "9", Some(DeliveryState::Rejected), Some(Fault::OptedOut)),
        ("rejected", "10", Some(DeliveryState::Rejected), Some(Fault::Request)),
        ("rejected", "11", Some(DeliveryState::Rejected), Some(Fault::Route)),
        ("rejected", "12", Some(DeliveryState::Rejected), Some(Fault::Route)),
        ("rejected", "13", Some(DeliveryState::Rejected), Some(Fault::Recipient)),
        ("rejected", "14", Some(DeliveryState::Rejected), Some(Fault::Route)),
        ("rejected", "15", Some(DeliveryState::Rejected), Some(Fault::Recipient)),
        ("rejected", "50", Some(DeliveryState::Rejected), Some(Fault::Provider)),
        ("rejected", "54", Some(DeliveryState::Rejected), Some(Fault::Provider)),
        ("rejected", "99", Some(DeliveryState::Rejected), Some(Fault::Transient)),
        ("unknown", "1", None, None),
    ] {
        let params = with(&DELIVERED, &[("status", status), ("err-code", code)]);
        let reports = as_query(&params).read_by(&*sender).unwrap();
        let found: Vec<_> = reports.iter().map(|report| report.state).collect();
        assert_eq!(found, state.into_iter().collect::<Vec<_>>(), "{status} {code}");
        let refused = reports.into_iter().find_map(|report| report.refused);
        assert_eq!(refused, fault.map(|fault| Refused::new(fault, &format!("err_{code}"))));
    }
}

#[test]
fn what_is_no_receipt_is_told() {
    let sender = deaf(None);
    let mut put = as_query(&DELIVERED);
    put.method = http::Method::PUT;
    let twice = [("messageId", "1"), ("messageId", "2"), ("status", "delivered")];
    for receipt in [
        as_query(&[]),
        as_query(&[("messageId", "1")]),
        as_query(&[("status", "delivered")]),
        as_query(&twice),
        as_query(&with(&DELIVERED, &[("messageId", "a/b")])),
        as_query(&with(&DELIVERED, &[("api-key", "another")])),
        Receipt::get(&format!("{CALLBACK}?messageId=%zz")),
        Receipt::post(CALLBACK, "application/json", "[]"),
        Receipt::post(CALLBACK, "application/json", r#"{"messageId":{}}"#),
        put,
    ] {
        let read = receipt.read_by(&*sender);
        assert!(matches!(read, Err(ReceiptFault::Malformed(_))), "{}: {read:?}", receipt.url);
    }
}

/// A vector that was computed by others.
#[test]
fn a_known_signature_is_believed() {
    const SIG: &str = "d7b62535546ac3e6f7ffbf5102895f6d939172702f77e7464e09f8759ad61c9f";
    let params = [
        ("messageId", "0A0000001234567B"),
        ("msisdn", "447700900000"),
        ("status", "delivered"),
        ("text", "a=b&c"),
        ("timestamp", "1582650446"),
    ];
    let at_the_time = |params: &[(&str, &str)]| {
        let mut receipt = as_query(params);
        receipt.now_s = 1_582_650_446;
        receipt.read_by(&*deaf(Some("secret")))
    };
    let signed = with(&params, &[("sig", SIG)]);
    assert_eq!(at_the_time(&signed).unwrap()[0].state, DeliveryState::Delivered);
    assert!(at_the_time(&with(&params, &[("sig", &SIG.to_uppercase())])).is_ok());
    for flipped in flipped(SIG) {
        assert_eq!(at_the_time(&with(&params, &[("sig", &flipped)])), Err(ReceiptFault::Forged), "{flipped}");
    }
    assert_eq!(at_the_time(&params), Err(ReceiptFault::Unsigned));
    for change in [("status", "failed"), ("text", "a=b&d"), ("msisdn", "447700900001"), ("new", "x")] {
        assert_eq!(at_the_time(&with(&signed, &[change])), Err(ReceiptFault::Forged), "{change:?}");
    }
    let mut twice = signed.clone();
    twice.push(("sig", SIG));
    assert!(matches!(at_the_time(&twice), Err(ReceiptFault::Malformed(_))));
    let mut other_key = as_query(&signed);
    other_key.now_s = 1_582_650_446;
    assert_eq!(other_key.read_by(&*deaf(Some("secreT"))), Err(ReceiptFault::Forged));
    // Five minutes, and not one second more.
    for (now_s, expected) in [(1_582_650_746, true), (1_582_650_747, false), (1_582_650_145, false)] {
        let mut receipt = as_query(&signed);
        receipt.now_s = now_s;
        let read = receipt.read_by(&*deaf(Some("secret")));
        assert_eq!(read.is_ok(), expected, "{now_s}");
        assert!(expected || read == Err(ReceiptFault::Stale));
    }
}

#[test]
fn each_digest_that_an_account_may_choose_is_checked_and_md5_refused() {
    let sender = deaf(Some(SIGNS));
    let now = NOW_S.to_string();
    let params = with(&DELIVERED, &[("timestamp", &now), ("nonce", "n1")]);
    for algorithm in [hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA256, hmac::HMAC_SHA512] {
        let sig = signature(algorithm, SIGNS, &params);
        let signed = with(&params, &[("sig", &sig)]);
        for receipt in [as_query(&signed), as_json(&signed), Receipt::post(CALLBACK, FORM, &encoded(&signed))]
        {
            assert!(receipt.read_by(&*sender).is_ok(), "{algorithm:?}");
            assert_eq!(receipt.read_by(&*deaf(Some("another"))), Err(ReceiptFault::Forged));
        }
        for cut in [2, sig.len() - 2, sig.len() - 1] {
            let short = with(&params, &[("sig", &sig[..cut])]);
            assert_eq!(as_query(&short).read_by(&*sender), Err(ReceiptFault::Forged), "{cut}");
        }
    }
    let md5 = with(&params, &[("sig", "0123456789abcdef0123456789abcdef")]);
    assert!(matches!(as_query(&md5).read_by(&*sender), Err(ReceiptFault::Malformed(_))));
    let timeless = with(&DELIVERED, &[]);
    let sig = signature(hmac::HMAC_SHA256, SIGNS, &timeless);
    let timeless = as_query(&with(&timeless, &[("sig", &sig)])).read_by(&*sender);
    assert!(matches!(timeless, Err(ReceiptFault::Malformed(_))), "{timeless:?}");
}
