use tollgate::sms::spec::{AwsSnsSpec, Kind};
use tollgate::sms::{Accepted, Channel, Fault, LookUpFault, Outcome, ReceiptFault, SmsSender};

use super::common::{Message, NOW_S, Receipt, golden, refused, sender_of};
use crate::harness::PATIENCE;
use crate::harness::backend::Reply;
use crate::harness::providers::aws_sns::{FakeSns, MESSAGE_ID, error};

const TO: &str = "+14155550123";

fn sender(fake: &FakeSns) -> Box<dyn SmsSender> {
    sender_of(Kind::AwsSns(fake.spec()))
}

fn accepted() -> Outcome {
    Outcome::Accepted(Accepted { message_id: MESSAGE_ID.into(), ..Accepted::default() })
}

/// The signature covers the port of the fake, which checks it.
fn without_signature(request: &str) -> String {
    let lines: Vec<&str> = request.lines().filter(|line| !line.starts_with("authorization:")).collect();
    lines.join("\n")
}

#[tokio::test]
async fn a_text_is_these_requests_to_the_byte() {
    let fake = FakeSns::start().await;
    assert_eq!(Message::by(Channel::Sms).sent_by(&*sender(&fake)).await, accepted());
    let requests: Vec<String> = fake.received().iter().map(|each| without_signature(&golden(each))).collect();
    let head = |length: usize| {
        format!(
            "POST / HTTP/1.1\n\
             content-type: application/x-www-form-urlencoded; charset=utf-8\n\
             x-amz-date: 20260102T030405Z\n\
             user-agent: tollgate/{}\n\
             content-length: {length}\n\n",
            env!("CARGO_PKG_VERSION")
        )
    };
    let check = "Action=CheckIfPhoneNumberIsOptedOut&Version=2010-03-31&phoneNumber=%2B14155550123";
    let publish = "Action=Publish&Version=2010-03-31&PhoneNumber=%2B14155550123\
        &Message=123456%20is%20your%20Acme%20code.%0A%0A%40acme.example%20%23123456\
        &MessageAttributes.entry.1.Name=AWS.SNS.SMS.SMSType\
        &MessageAttributes.entry.1.Value.DataType=String\
        &MessageAttributes.entry.1.Value.StringValue=Transactional";
    assert_eq!(requests, [check, publish].map(|body| head(body.len()) + body));
}

#[tokio::test]
async fn a_sender_and_a_session_go_with_it() {
    let fake = FakeSns::start().await;
    let mut spec = AwsSnsSpec {
        sender_id: Some("Acme".into()),
        origination_number: Some("+15005550006".into()),
        ..fake.spec()
    };
    spec.credentials.session_token = Some("SESSIONTOKEN".into());
    let outcome = Message::by(Channel::Sms).sent_by(&*sender_of(Kind::AwsSns(spec))).await;
    assert_eq!(outcome, accepted());
    let published = &fake.published()[0];
    assert_eq!(published.headers.get("x-amz-security-token"), Some("SESSIONTOKEN"));
    assert!(published.headers.get("authorization").unwrap().contains("x-amz-date;x-amz-security-token"));
    let body = String::from_utf8(published.body.clone()).unwrap();
    assert!(body.ends_with(
        "&MessageAttributes.entry.2.Name=AWS.SNS.SMS.SenderID&MessageAttributes.entry.2.Value.DataType=String\
         &MessageAttributes.entry.2.Value.StringValue=Acme\
         &MessageAttributes.entry.3.Name=AWS.MM.SMS.OriginationNumber\
         &MessageAttributes.entry.3.Value.DataType=String\
         &MessageAttributes.entry.3.Value.StringValue=%2B15005550006"
    ));
}

#[tokio::test]
async fn another_secret_is_refused_as_the_account_is() {
    let fake = FakeSns::start().await;
    let mut spec = fake.spec();
    spec.credentials.secret_access_key = "another".into();
    let outcome = Message::by(Channel::Sms).sent_by(&*sender_of(Kind::AwsSns(spec))).await;
    assert_eq!(outcome, refused(Fault::Provider, "SignatureDoesNotMatch"));
    let mut spec = fake.spec();
    spec.credentials.access_key_id = "two\nlines".into();
    let outcome = Message::by(Channel::Sms).sent_by(&*sender_of(Kind::AwsSns(spec))).await;
    assert_eq!(outcome, refused(Fault::Provider, "credentials"));
}

#[tokio::test]
async fn errors_are_told_apart() {
    let fake = FakeSns::start().await;
    let sender = sender(&fake);
    let number = "Invalid parameter: PhoneNumber Reason: +1 is not valid to publish to";
    let rows = [
        (403, "AuthorizationError", "", Fault::Provider),
        (403, "InvalidSecurity", "", Fault::Provider),
        (403, "InvalidClientTokenId", "", Fault::Provider),
        (403, "SignatureDoesNotMatch", "", Fault::Provider),
        (403, "ExpiredToken", "", Fault::Provider),
        (403, "UnrecognizedClient", "", Fault::Provider),
        (403, "OptInRequired", "", Fault::Provider),
        (400, "RequestExpired", "", Fault::Provider),
        (400, "InvalidParameter", number, Fault::Recipient),
        (400, "ParameterValueInvalid", number, Fault::Recipient),
        (400, "ValidationException", number, Fault::Recipient),
        (400, "InvalidParameter", "Invalid parameter: Message too long", Fault::Request),
        (400, "ParameterValueInvalid", "", Fault::Request),
        (400, "ValidationException", "", Fault::Request),
        (400, "InvalidParameter", "Invalid parameter: AWS.MM.SMS.OriginationNumber", Fault::Route),
        (400, "InvalidParameter", "Invalid parameter: AWS.SNS.SMS.SenderID", Fault::Route),
        (400, "EndpointDisabled", "", Fault::Provider),
        (400, "PlatformApplicationDisabled", "", Fault::Provider),
        (404, "NotFound", "", Fault::Provider),
        (400, "KMSDisabled", "", Fault::Provider),
        (403, "KMSOptInRequired", "", Fault::Provider),
        (400, "Throttling", "Rate exceeded", Fault::Throttled),
        (400, "ThrottlingException", "Rate exceeded", Fault::Throttled),
        (429, "Throttled", "Rate exceeded", Fault::Throttled),
        (500, "InternalError", "", Fault::Transient),
        (503, "ServiceUnavailable", "", Fault::Transient),
        (400, "OptedOut", "", Fault::OptedOut),
        (400, "NewWithUs", "", Fault::Request),
        (502, "NewWithUs", "", Fault::Transient),
    ];
    for (status, code, message, fault) in rows {
        fake.answer_publish(error(status, code, message));
        let outcome = Message::by(Channel::Sms).sent_by(&*sender).await;
        assert_eq!(outcome, refused(fault, code), "{status} {code} {message}");
    }
}

#[tokio::test]
async fn what_is_no_answer_of_theirs_is_told_by_its_status() {
    let fake = FakeSns::start().await;
    let sender = sender(&fake);
    let html = "<html><body>Bad Gateway</body></html>";
    let number = "<ErrorResponse><Error><Code>14155550123</Code></Error></ErrorResponse>";
    let rows = [
        (Reply::new(502).body(html), Fault::Transient, "http_502"),
        (Reply::new(429), Fault::Throttled, "http_429"),
        (Reply::new(403).body("no"), Fault::Provider, "http_403"),
        (Reply::new(302).header("location", "/elsewhere"), Fault::Provider, "http_302"),
        (Reply::new(400).body(number), Fault::Request, "http_400"),
        (Reply::new(200), Fault::Ambiguous, "unreadable_answer"),
        (Reply::new(200).body(html), Fault::Ambiguous, "unreadable_answer"),
        (Reply::new(200).body("<MessageId></MessageId>"), Fault::Ambiguous, "unreadable_answer"),
        (Reply::new(200).body("<MessageId>a b</MessageId>"), Fault::Ambiguous, "unreadable_answer"),
        (Reply::new(200).body("<MessageId>a"), Fault::Ambiguous, "unreadable_answer"),
        (Reply::new(202).body("<MessageId>a</MessageId>"), Fault::Ambiguous, "http_202"),
    ];
    for (reply, fault, code) in rows {
        fake.answer_publish(reply.clone());
        let outcome = Message::by(Channel::Sms).sent_by(&*sender).await;
        assert_eq!(outcome, refused(fault, code), "{reply:?}");
    }
}

#[tokio::test]
async fn who_opted_out_is_sent_nothing() {
    let fake = FakeSns::start().await;
    fake.opt_out(TO);
    let sender = sender(&fake);
    let outcome = Message::by(Channel::Sms).sent_by(&*sender).await;
    assert_eq!(outcome, refused(Fault::OptedOut, "opted_out"));
    assert_eq!(fake.published().len(), 0);
    let other = Message { to: "+14155550124", ..Message::by(Channel::Sms) };
    assert_eq!(other.sent_by(&*sender).await, accepted());
}

#[tokio::test]
async fn an_account_that_may_not_ask_sends_all_the_same_and_asks_no_more() {
    let fake = FakeSns::start().await;
    let sender = sender(&fake);
    fake.answer_check(error(403, "AuthorizationError", "not authorized to perform"));
    for _ in 0..3 {
        assert_eq!(Message::by(Channel::Sms).sent_by(&*sender).await, accepted());
    }
    assert_eq!((fake.received().len(), fake.published().len()), (4, 3));
}

#[tokio::test]
async fn a_question_without_an_answer_holds_nothing_up() {
    for reply in [
        Reply::hang_up(),
        Reply::new(200).body("<html>"),
        Reply::new(500),
        error(429, "Throttled", "Rate exceeded"),
    ] {
        let fake = FakeSns::start().await;
        fake.answer_check(reply.clone());
        let sender = sender(&fake);
        for asked in 1..=2 {
            assert_eq!(Message::by(Channel::Sms).sent_by(&*sender).await, accepted(), "{reply:?}");
            assert_eq!(fake.received().len(), 2 * asked, "it is asked again: {reply:?}");
        }
    }
}

#[tokio::test]
async fn nothing_is_heard_of_a_message_again() {
    let fake = FakeSns::start().await;
    let sender = sender(&fake);
    let now = tollgate::decision::time::Timestamp::from_millis(NOW_S * 1000);
    assert_eq!(sender.look_up(MESSAGE_ID, PATIENCE, now).await, Err(LookUpFault::None));
    let receipt = Receipt::post("https://gw.example.com/x", "application/json", "{}");
    assert_eq!(receipt.read_by(&*sender), Err(ReceiptFault::None));
    assert_eq!(sender.channels(), [Channel::Sms]);
    assert_eq!(format!("{sender:?}"), "AwsSns(it)");
}
