use std::time::Duration;

use tollgate::http_client::HttpUrl;
use tollgate::sms::spec::{Kind, TwilioSender, TwilioSpec, TwilioWhatsapp};
use tollgate::sms::{
    Accepted, Channel, DeliveryState, Fault, LookUpFault, Outcome, Price, ReceiptFault, Refused, Report,
    SmsSender,
};

use super::common::{Message, NOW_S, Receipt, at, flipped, golden, refused, sender_of};
use crate::harness::PATIENCE;
use crate::harness::backend::Reply;
use crate::harness::providers::twilio::{ACCOUNT, FakeTwilio, TOKEN, signature};

const FORM: &str = "application/x-www-form-urlencoded";
const CALLBACK: &str = "https://gw.example.com/otp/receipts/it/T0k3nT0k3nT0k3nT0k3nT0";
const SIGNED: &str = "x-twilio-signature";

fn spec(base_url: HttpUrl) -> TwilioSpec {
    TwilioSpec {
        base_url,
        account_sid: ACCOUNT.into(),
        auth_token: TOKEN.into(),
        api_key: None,
        sender: TwilioSender::From("+15005550006".into()),
        voice_from: Some("+15005550007".into()),
        whatsapp: Some(TwilioWhatsapp {
            from: "+15005550008".into(),
            content_sids: [("default", "HX0"), ("pt", "HX1"), ("pt-BR", "HX2")]
                .into_iter()
                .map(|(locale, sid)| (locale.into(), sid.into()))
                .collect(),
        }),
    }
}

fn sender(fake: &FakeTwilio) -> Box<dyn SmsSender> {
    sender_of(Kind::Twilio(spec(at(fake.addr()))))
}

/// One that nobody is behind, for receipts.
fn deaf(token: &str) -> Box<dyn SmsSender> {
    let spec = spec(HttpUrl::parse("https://api.twilio.com").unwrap());
    sender_of(Kind::Twilio(TwilioSpec { auth_token: token.into(), ..spec }))
}

#[tokio::test]
async fn a_text_is_this_request_to_the_byte() {
    let fake = FakeTwilio::start().await;
    let outcome = Message::by(Channel::Sms).sent_by(&*sender(&fake)).await;
    let id = "SM0123456789abcdef0123456789abcdef";
    assert_eq!(outcome, Outcome::Accepted(Accepted { message_id: id.into(), parts: Some(1), price: None }));
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        golden(&fake.backend.received()[0]),
        format!(
            "POST /2010-04-01/Accounts/{ACCOUNT}/Messages.json HTTP/1.1\n\
            authorization: Basic QUNhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYTp0b2tlbiBvZiB0aGUgYWNjb3VudA==\n\
            accept: application/json\n\
            content-type: application/x-www-form-urlencoded\n\
            user-agent: tollgate/{version}\n\
            content-length: 281\n\
            \n\
            To=%2B14155550123&From=%2B15005550006\
            &Body=123456%20is%20your%20Acme%20code.%0A%0A%40acme.example%20%23123456\
            &ValidityPeriod=300&Attempt=2&ContentRetention=discard&AddressRetention=obfuscate\
            &StatusCallback=https%3A%2F%2Fgw.example.com%2Fotp%2Freceipts%2Fit%2FT0k3nT0k3nT0k3nT0k3nT0"
        )
    );
}

#[tokio::test]
async fn a_messaging_service_and_an_api_key_take_the_place_of_number_and_token() {
    let fake = FakeTwilio::start_with("SK1", "secret of the key").await;
    let by_key = TwilioSpec {
        api_key: Some(("SK1".into(), "secret of the key".into())),
        sender: TwilioSender::MessagingService("MG1".into()),
        ..spec(at(fake.addr()))
    };
    let mut message = Message::by(Channel::Sms);
    (message.receipt_url, message.expires_in) = (None, Duration::from_secs(100_000));
    let outcome = message.sent_by(&*sender_of(Kind::Twilio(by_key))).await;
    assert!(matches!(outcome, Outcome::Accepted(_)), "{outcome:?}");
    assert_eq!(
        String::from_utf8(fake.backend.received()[0].body.clone()).unwrap(),
        "To=%2B14155550123&MessagingServiceSid=MG1\
        &Body=123456%20is%20your%20Acme%20code.%0A%0A%40acme.example%20%23123456\
        &ValidityPeriod=36000&Attempt=2&ContentRetention=discard&AddressRetention=obfuscate"
    );
    // The token of the account signs receipts, and sends nothing here.
    assert_eq!(message.sent_by(&*sender(&fake)).await, refused(Fault::Provider, "20003"));
}

#[tokio::test]
async fn whatsapp_has_the_code_alone_in_a_template_of_the_language() {
    let fake = FakeTwilio::start().await;
    let sender = sender(&fake);
    let mut message = Message::by(Channel::Whatsapp);
    for (locale, sid) in [("pt-BR", "HX2"), ("pt-PT", "HX1"), ("pt", "HX1"), ("de", "HX0")] {
        message.locale = locale;
        let outcome = message.sent_by(&*sender).await;
        assert!(matches!(outcome, Outcome::Accepted(_)), "{locale}: {outcome:?}");
        let body = String::from_utf8(fake.backend.received().pop().unwrap().body).unwrap();
        assert_eq!(
            body,
            format!(
                "To=whatsapp%3A%2B14155550123&From=whatsapp%3A%2B15005550008&ContentSid={sid}\
                &ContentVariables=%7B%221%22%3A%22123456%22%7D\
                &ValidityPeriod=300&Attempt=2&ContentRetention=discard&AddressRetention=obfuscate\
                &StatusCallback=https%3A%2F%2Fgw.example.com%2Fotp%2Freceipts%2Fit%2FT0k3nT0k3nT0k3nT0k3nT0"
            )
        );
    }
    let mut bare = spec(at(fake.addr()));
    bare.whatsapp.as_mut().unwrap().content_sids.remove("default");
    let outcome = message.sent_by(&*sender_of(Kind::Twilio(bare))).await;
    assert_eq!(outcome, refused(Fault::Route, "no_template"));
}

#[tokio::test]
async fn a_call_says_the_digits_twice() {
    let fake = FakeTwilio::start().await;
    let outcome = Message::by(Channel::Voice).sent_by(&*sender(&fake)).await;
    let id = "CA0123456789abcdef0123456789abcdef";
    assert_eq!(outcome, Outcome::Accepted(Accepted { message_id: id.into(), parts: None, price: None }));
    let request = fake.backend.received().remove(0);
    assert_eq!(request.target, format!("/2010-04-01/Accounts/{ACCOUNT}/Calls.json"));
    let digit = |digit: u8| {
        format!("%3CSay%20language%3D%22en-US%22%3E{digit}%3C%2FSay%3E%3CPause%20length%3D%221%22%2F%3E")
    };
    let once: String = (1..=6).map(digit).collect::<String>()
        + "%3CSay%20language%3D%22en-US%22%3Eis%20your%20Acme%20code%3C%2FSay%3E";
    assert_eq!(
        String::from_utf8(request.body).unwrap(),
        format!(
            "To=%2B14155550123&From=%2B15005550007\
            &Twiml=%3CResponse%3E{once}%3CPause%20length%3D%222%22%2F%3E{once}%3C%2FResponse%3E\
            &Timeout=60\
            &StatusCallback=https%3A%2F%2Fgw.example.com%2Fotp%2Freceipts%2Fit%2FT0k3nT0k3nT0k3nT0k3nT0"
        )
    );
    let mut long = Message::by(Channel::Voice);
    long.text = "a".repeat(4000).into();
    assert_eq!(long.sent_by(&*sender(&fake)).await, refused(Fault::Request, "too_long_to_say"));
}

#[tokio::test]
async fn what_an_account_is_not_set_up_for_is_no_channel_of_it() {
    let fake = FakeTwilio::start().await;
    assert_eq!(sender(&fake).channels(), [Channel::Sms, Channel::Voice, Channel::Whatsapp]);
    let texts = TwilioSpec { voice_from: None, whatsapp: None, ..spec(at(fake.addr())) };
    let texts = sender_of(Kind::Twilio(texts));
    assert_eq!(texts.channels(), [Channel::Sms]);
    for channel in [Channel::Voice, Channel::Whatsapp, Channel::Email] {
        assert_eq!(Message::by(channel).sent_by(&*texts).await, refused(Fault::Route, "channel"));
    }
    assert_eq!(fake.backend.count(), 0);
}

#[tokio::test]
async fn every_row_of_the_table_is_the_fault_that_it_says() {
    let rows: [(u16, u32, Fault); 42] = [
        (401, 20003, Fault::Provider),
        (404, 20404, Fault::Provider),
        (429, 20429, Fault::Throttled),
        (500, 20500, Fault::Transient),
        (503, 20503, Fault::Transient),
        (400, 21211, Fault::Recipient),
        (400, 21614, Fault::Recipient),
        (400, 21217, Fault::Recipient),
        (400, 21635, Fault::Recipient),
        (400, 21408, Fault::Route),
        (400, 21612, Fault::Route),
        (400, 21610, Fault::OptedOut),
        (400, 21608, Fault::Provider),
        (400, 21606, Fault::Provider),
        (400, 21659, Fault::Provider),
        (400, 21603, Fault::Provider),
        (400, 21212, Fault::Provider),
        (400, 21703, Fault::Provider),
        (400, 21705, Fault::Provider),
        (400, 21602, Fault::Request),
        (400, 21617, Fault::Request),
        (429, 21611, Fault::Throttled),
        (400, 21611, Fault::Throttled),
        (400, 14107, Fault::Route),
        (429, 10004, Fault::Throttled),
        (400, 30450, Fault::Fraud),
        (400, 63003, Fault::Recipient),
        (400, 63024, Fault::Recipient),
        (400, 63014, Fault::OptedOut),
        (400, 63016, Fault::Request),
        (429, 63017, Fault::Throttled),
        (429, 63018, Fault::Throttled),
        (400, 60200, Fault::Request),
        (429, 60202, Fault::Throttled),
        (429, 60203, Fault::Throttled),
        (403, 60205, Fault::Recipient),
        (429, 60207, Fault::Throttled),
        (429, 60212, Fault::Throttled),
        (403, 60238, Fault::Fraud),
        (403, 60410, Fault::Fraud),
        (403, 60605, Fault::Route),
        // Not in the table: by the class of its status.
        (400, 29999, Fault::Request),
    ];
    let fake = FakeTwilio::start().await;
    let sender = sender(&fake);
    for (status, code, fault) in rows {
        fake.refuses(status, code);
        let outcome = Message::by(Channel::Sms).sent_by(&*sender).await;
        assert_eq!(outcome, refused(fault, &code.to_string()), "{status} {code}");
    }
}

#[tokio::test]
async fn an_answer_that_is_none_of_its_own_is_never_taken_for_a_yes() {
    let fake = FakeTwilio::start().await;
    let sender = sender(&fake);
    let sent = |status: &str, error: &str| {
        Reply::json(201, &format!(r#"{{"sid":"SM1","status":"{status}","error_code":{error}}}"#))
    };
    let limited =
        Refused { retry_after: Some(Duration::from_secs(3)), ..Refused::new(Fault::Throttled, "20429") };
    for (reply, expected) in [
        (Reply::json(201, "{\"sid\":"), refused(Fault::Ambiguous, "unreadable_answer")),
        (Reply::json(201, "{\"status\":\"queued\"}"), refused(Fault::Ambiguous, "unreadable_answer")),
        (Reply::json(201, "{\"sid\":\"../x\"}"), refused(Fault::Ambiguous, "unreadable_answer")),
        (Reply::new(200), refused(Fault::Ambiguous, "unreadable_answer")),
        (Reply::new(502).body("<html>Bad gateway</html>"), refused(Fault::Transient, "http_502")),
        (Reply::json(400, "[]"), refused(Fault::Request, "http_400")),
        (Reply::json(429, r#"{"code":20429}"#).header("retry-after", "3"), Outcome::Refused(limited)),
        (sent("failed", "30007"), refused(Fault::Route, "30007")),
        (sent("undelivered", "\"30005\""), refused(Fault::Recipient, "30005")),
        (sent("failed", "null"), refused(Fault::Transient, "failed")),
    ] {
        fake.backend.answer_by(move |_| reply.clone());
        assert_eq!(Message::by(Channel::Sms).sent_by(&*sender).await, expected);
    }
    fake.backend.answer_by(|_| {
        Reply::json(
            201,
            r#"{"sid":"SM1","status":"queued","num_segments":"2","price":"-0.00750","price_unit":"usd"}"#,
        )
    });
    let price = Some(Price { micros: 7500, currency: "USD".into() });
    assert_eq!(
        Message::by(Channel::Sms).sent_by(&*sender).await,
        Outcome::Accepted(Accepted { message_id: "SM1".into(), parts: Some(2), price })
    );
}

#[tokio::test]
async fn messages_and_calls_can_be_looked_up() {
    let fake = FakeTwilio::start().await;
    let sender = sender(&fake);
    let now = Message::by(Channel::Sms).outbound().now;
    let found = |id: &str, state: DeliveryState| {
        Ok(Report { message_id: id.into(), state, refused: None, price: None })
    };
    for (status, state) in [
        ("accepted", DeliveryState::Accepted),
        ("scheduled", DeliveryState::Queued),
        ("queued", DeliveryState::Queued),
        ("sending", DeliveryState::Queued),
        ("sent", DeliveryState::Sent),
        ("partially_delivered", DeliveryState::Sent),
        ("delivered", DeliveryState::Delivered),
        ("undelivered", DeliveryState::Undelivered),
        ("failed", DeliveryState::Failed),
        ("canceled", DeliveryState::Failed),
        ("read", DeliveryState::Read),
    ] {
        fake.knows("Messages/SM1", &format!(r#"{{"sid":"SM1","status":"{status}","error_code":null}}"#));
        assert_eq!(sender.look_up("SM1", PATIENCE, now).await, found("SM1", state), "{status}");
    }
    for (status, state) in [
        ("ringing", DeliveryState::Sent),
        ("in-progress", DeliveryState::Sent),
        ("completed", DeliveryState::Delivered),
        ("busy", DeliveryState::Undelivered),
        ("no-answer", DeliveryState::Undelivered),
    ] {
        fake.knows("Calls/CA1", &format!(r#"{{"sid":"CA1","status":"{status}"}}"#));
        assert_eq!(sender.look_up("CA1", PATIENCE, now).await, found("CA1", state), "{status}");
    }
    fake.knows(
        "Messages/SM2",
        r#"{"status":"undelivered","error_code":30036,"price":"-0.0079","price_unit":"USD"}"#,
    );
    let expired = Report {
        message_id: "SM2".into(),
        state: DeliveryState::Expired,
        refused: Some(Refused::new(Fault::Transient, "30036")),
        price: Some(Price { micros: 7900, currency: "USD".into() }),
    };
    assert_eq!(sender.look_up("SM2", PATIENCE, now).await, Ok(expired));
    let get = fake.backend.received().pop().unwrap();
    assert_eq!((get.method.as_str(), get.body.len()), ("GET", 0));

    let asked = fake.backend.count();
    for nobody in ["", "../Calls", "SM1/Media", "SM1.json"] {
        assert_eq!(sender.look_up(nobody, PATIENCE, now).await, Err(LookUpFault::Unknown), "{nobody}");
    }
    assert_eq!(fake.backend.count(), asked);
    assert_eq!(sender.look_up("SM3", PATIENCE, now).await, Err(LookUpFault::Unknown));
    fake.refuses(401, 20003);
    assert_eq!(sender.look_up("SM1", PATIENCE, now).await, Err(LookUpFault::Refused("http_401".into())));
    fake.refuses(503, 20503);
    assert_eq!(sender.look_up("SM1", PATIENCE, now).await, Err(LookUpFault::Away("http_503".into())));
}

/// The vectors that Twilio's own libraries are held to.
#[test]
fn known_signatures_are_believed() {
    const FIVE: &str =
        "CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212";
    let sender = deaf("12345");
    let base = "mycompany.com/myapp.php?foo=1&bar=2";
    let with_port =
        |scheme: &str, port: u16| format!("{scheme}://mycompany.com:{port}/myapp.php?foo=1&bar=2");
    for (url, body, signature) in [
        (format!("https://{base}"), FIVE, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (with_port("http", 1234), FIVE, "Zmvh+3yNM1Phv2jhDCwEM3q5ebU="),
        (with_port("https", 1234), FIVE, "CYn1h0gLBdNxDGkKJg6hYohgeD8="),
        (with_port("https", 443), FIVE, "kvajT1Ptam85bY51eRf/AJRuM3w="),
        (with_port("http", 80), FIVE, "0ZXoZLH/DfblKGATFgpif+LLRf4="),
        // The port of the scheme was left out, or written out, by whoever stands between.
        (with_port("https", 443), FIVE, "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        (format!("https://{base}"), FIVE, "kvajT1Ptam85bY51eRf/AJRuM3w="),
        (format!("http://{base}"), FIVE, "0ZXoZLH/DfblKGATFgpif+LLRf4="),
        (
            format!("https://{base}"),
            "Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234",
            "IK+Dwps556ElfBT0I3Rgjkr1wJU=",
        ),
    ] {
        let receipt = Receipt::post(&url, FORM, body).header(SIGNED, signature);
        assert_eq!(receipt.read_by(&*sender), Ok(Vec::new()), "{url}");
        for flipped in flipped(signature) {
            let forged = receipt.clone().without(SIGNED).header(SIGNED, &flipped);
            assert_eq!(forged.read_by(&*sender), Err(ReceiptFault::Forged), "{flipped}");
        }
        assert_eq!(receipt.read_by(&*deaf("12346")), Err(ReceiptFault::Forged));
        assert_eq!(receipt.clone().without(SIGNED).read_by(&*sender), Err(ReceiptFault::Unsigned));
        let twice = receipt.clone().header(SIGNED, signature).read_by(&*sender);
        assert!(matches!(twice, Err(ReceiptFault::Malformed(_))), "{twice:?}");
        let mut elsewhere = receipt.clone();
        elsewhere.url = url.replace("foo=1", "foo=2");
        assert_eq!(elsewhere.read_by(&*sender), Err(ReceiptFault::Forged));
        let mut other = receipt;
        other.body = body.replace("123", "124").into();
        assert_eq!(other.read_by(&*sender), Err(ReceiptFault::Forged));
    }
}

#[test]
fn a_body_that_is_no_form_is_signed_by_its_digest() {
    const BODY: &str = r#"{"property": "value", "boolean": true}"#;
    const DIGEST: &str = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620";
    let sender = deaf("12345");
    let url = format!("https://mycompany.com/myapp.php?foo=1&bar=2&bodySHA256={DIGEST}");
    let receipt =
        Receipt::post(&url, "application/json", BODY).header(SIGNED, "a9nBmqA0ju/hNViExpshrM61xv4=");
    assert_eq!(receipt.read_by(&*sender), Ok(Vec::new()));
    let mut altered = receipt.clone();
    altered.body = BODY.replace("true", "fals").into();
    assert_eq!(altered.read_by(&*sender), Err(ReceiptFault::Forged));
    for digest in flipped(DIGEST) {
        let mut altered = receipt.clone();
        altered.url = url.replace(DIGEST, &digest);
        assert_eq!(altered.read_by(&*sender), Err(ReceiptFault::Forged));
    }
    let mut bare = receipt;
    bare.url = "https://mycompany.com/myapp.php?foo=1&bar=2".to_owned();
    assert!(matches!(bare.read_by(&*sender), Err(ReceiptFault::Malformed(_))));
}

fn told(params: &[(&str, &str)]) -> Result<Vec<Report>, ReceiptFault> {
    let encoded: Vec<String> =
        params.iter().map(|(name, value)| format!("{name}={}", value.replace('+', "%2B"))).collect();
    let receipt = Receipt::post(CALLBACK, FORM, &encoded.join("&"));
    receipt.header(SIGNED, &signature(TOKEN, CALLBACK, params)).read_by(&*deaf(TOKEN))
}

#[test]
fn callbacks_tell_what_became_of_a_message() {
    let report = |id: &str, state, fault: Option<(Fault, &str)>| {
        let refused = fault.map(|(fault, code)| Refused::new(fault, code));
        Ok(vec![Report { message_id: id.into(), state, refused, price: None }])
    };
    let of_message = |status, error: Option<&'static str>| {
        let mut params = vec![
            ("MessageSid", "SM1"),
            ("SmsSid", "SM1"),
            ("MessageStatus", status),
            ("SmsStatus", status),
            ("To", "+14155550123"),
            ("AccountSid", ACCOUNT),
            ("RawDlrDoneDate", "2601020304"),
        ];
        params.extend(error.map(|code| ("ErrorCode", code)));
        told(&params)
    };
    assert_eq!(of_message("queued", None), report("SM1", DeliveryState::Queued, None));
    assert_eq!(of_message("sent", None), report("SM1", DeliveryState::Sent, None));
    assert_eq!(of_message("delivered", None), report("SM1", DeliveryState::Delivered, None));
    assert_eq!(of_message("read", None), report("SM1", DeliveryState::Read, None));
    assert_eq!(of_message("received", None), Ok(Vec::new()));
    for (code, fault) in [
        ("30001", Fault::Throttled),
        ("30002", Fault::Provider),
        ("30003", Fault::Transient),
        ("30004", Fault::Route),
        ("30005", Fault::Recipient),
        ("30006", Fault::Recipient),
        ("30007", Fault::Route),
        ("30008", Fault::Transient),
        ("30022", Fault::Throttled),
        ("30023", Fault::Throttled),
        ("30034", Fault::Provider),
        ("30410", Fault::Transient),
        ("30450", Fault::Fraud),
        ("39999", Fault::Transient),
    ] {
        let expected = report("SM1", DeliveryState::Undelivered, Some((fault, code)));
        assert_eq!(of_message("undelivered", Some(code)), expected, "{code}");
    }
    let expired = report("SM1", DeliveryState::Expired, Some((Fault::Transient, "30036")));
    assert_eq!(of_message("failed", Some("30036")), expired);
    let called = |status| told(&[("CallSid", "CA1"), ("CallStatus", status), ("CallDuration", "12")]);
    assert_eq!(called("completed"), report("CA1", DeliveryState::Delivered, None));
    assert_eq!(called("no-answer"), report("CA1", DeliveryState::Undelivered, None));
}

#[test]
fn a_callback_that_says_two_things_says_nothing() {
    for params in [
        &[("MessageSid", "SM1"), ("MessageSid", "SM2"), ("MessageStatus", "sent")][..],
        &[("MessageSid", "SM1"), ("MessageStatus", "sent"), ("MessageStatus", "delivered")],
        &[("MessageSid", "../x"), ("MessageStatus", "sent")],
    ] {
        assert!(matches!(told(params), Err(ReceiptFault::Malformed(_))), "{params:?}");
    }
    let get = Receipt::get(CALLBACK).header(SIGNED, &signature(TOKEN, CALLBACK, &[]));
    assert!(matches!(get.read_by(&*deaf(TOKEN)), Err(ReceiptFault::Malformed(_))));
    let mut late = Receipt::post(CALLBACK, FORM, "").header(SIGNED, &signature(TOKEN, CALLBACK, &[]));
    late.now_s = NOW_S + 1_000_000;
    assert_eq!(late.read_by(&*deaf(TOKEN)), Ok(Vec::new()), "no time is signed");
}
