use std::time::Duration;

use tollgate::http_client::HttpUrl;
use tollgate::sms::spec::{Kind, MailApiSpec, Mailbox};
use tollgate::sms::{
    Accepted, Channel, DeliveryState, Fault, LookUpFault, Outcome, ReceiptFault, Refused, Report, SmsSender,
};

use super::common::{Message, NOW_S, Receipt, at, flipped, golden, refused, sender_of};
use crate::harness::PATIENCE;
use crate::harness::backend::Reply;
use crate::harness::providers::sendgrid::{FROM, KEY, MESSAGE_ID, Signer, error, start};

const SIGNATURE: &str = "x-twilio-email-event-webhook-signature";
const TIMESTAMP: &str = "x-twilio-email-event-webhook-timestamp";
const HOOK: &str = "https://gw.example.com/otp/receipts/it/-";

fn spec(base_url: HttpUrl) -> MailApiSpec {
    MailApiSpec {
        base_url,
        api_key: KEY.into(),
        from: Mailbox { name: Some("Example, Inc.".into()), address: FROM.into() },
        webhook_secret: None,
    }
}

fn sender(base_url: HttpUrl) -> Box<dyn SmsSender> {
    sender_of(Kind::SendGrid(spec(base_url)))
}

/// One that nobody is behind, for receipts.
fn deaf(key: &str) -> Box<dyn SmsSender> {
    let spec = spec(HttpUrl::parse("https://api.sendgrid.com").unwrap());
    sender_of(Kind::SendGrid(MailApiSpec { webhook_secret: Some(key.into()), ..spec }))
}

#[tokio::test]
async fn a_letter_is_this_request_to_the_byte() {
    let fake = start().await;
    let sender = sender(at(fake.addr()));
    assert_eq!(sender.channels(), [Channel::Email]);
    assert_eq!(format!("{sender:?}"), "SendGrid(it)");
    let outcome = Message::by(Channel::Email).sent_by(&*sender).await;
    let message_id = MESSAGE_ID.into();
    assert_eq!(outcome, Outcome::Accepted(Accepted { message_id, ..Accepted::default() }));
    let body = r#"{"content":[{"type":"text/plain","value":"123456 is your Acme code.\n\n@acme.example #123456"}],"custom_args":{"reference":"a1B2-c3_D4"},"from":{"email":"no-reply@example.com","name":"Example, Inc."},"headers":{"Auto-Submitted":"auto-generated"},"personalizations":[{"to":[{"email":"ann@example.com"}]}],"subject":"Your Acme code","tracking_settings":{"click_tracking":{"enable":false,"enable_text":false},"ganalytics":{"enable":false},"open_tracking":{"enable":false},"subscription_tracking":{"enable":false}}}"#;
    assert_eq!(
        golden(&fake.received()[0]),
        format!(
            "POST /v3/mail/send HTTP/1.1\n\
            authorization: Bearer SG.key.of-the-test\n\
            accept: application/json\n\
            content-type: application/json\n\
            user-agent: tollgate/{}\n\
            content-length: {}\n\
            \n\
            {body}",
            env!("CARGO_PKG_VERSION"),
            body.len()
        )
    );
    let look_up = sender.look_up(MESSAGE_ID, PATIENCE, Message::by(Channel::Email).outbound().now).await;
    assert_eq!(look_up, Err(LookUpFault::None));
}

#[tokio::test]
async fn what_it_refuses_is_somebodys_fault() {
    let fake = start().await;
    let sender = sender(at(fake.addr()));
    let slow = |seconds: u64| {
        let refused = Refused::new(Fault::Throttled, "http_429");
        Outcome::Refused(Refused { retry_after: Some(Duration::from_secs(seconds)), ..refused })
    };
    let until = (NOW_S + 7).to_string();
    for (reply, expected) in [
        (error(400, Some("personalizations.0.to.0.email"), "bad"), refused(Fault::Recipient, "to")),
        (error(400, Some("from.email"), "bad"), refused(Fault::Provider, "from")),
        (error(400, Some("content"), "bad"), refused(Fault::Request, "http_400")),
        (error(401, None, "Maximum credits exceeded"), refused(Fault::Provider, "http_401")),
        (error(403, Some("from"), "no verified sender"), refused(Fault::Provider, "http_403")),
        (error(413, None, "too large"), refused(Fault::Request, "http_413")),
        (error(429, None, "too many"), refused(Fault::Throttled, "http_429")),
        (error(429, None, "too many").header("retry-after", "3"), slow(3)),
        (error(429, None, "too many").header("x-ratelimit-reset", &until), slow(7)),
        (error(500, None, "oh"), refused(Fault::Transient, "http_500")),
        (Reply::new(502).body("<html>Bad gateway</html>"), refused(Fault::Transient, "http_502")),
        // In sandbox mode it says yes and sends nothing.
        (Reply::new(200), refused(Fault::Ambiguous, "sandbox")),
        (Reply::json(400, "{\"errors\":"), refused(Fault::Request, "http_400")),
        (Reply::new(204), refused(Fault::Ambiguous, "http_204")),
    ] {
        fake.answer_by(move |_| reply.clone());
        assert_eq!(Message::by(Channel::Email).sent_by(&*sender).await, expected);
    }
    // Without a name it was taken all the same.
    fake.answer_by(|_| Reply::new(202));
    let outcome = Message::by(Channel::Email).sent_by(&*sender).await;
    assert_eq!(outcome, Outcome::Accepted(Accepted::default()));
}

#[tokio::test]
async fn a_wrong_key_or_sender_is_ours() {
    let fake = start().await;
    let other = MailApiSpec { api_key: "SG.other".into(), ..spec(at(fake.addr())) };
    let outcome = Message::by(Channel::Email).sent_by(&*sender_of(Kind::SendGrid(other))).await;
    assert_eq!(outcome, refused(Fault::Provider, "http_401"));
    let from = Mailbox { name: None, address: "other@example.com".into() };
    let other = MailApiSpec { from, ..spec(at(fake.addr())) };
    let outcome = Message::by(Channel::Email).sent_by(&*sender_of(Kind::SendGrid(other))).await;
    assert_eq!(outcome, refused(Fault::Provider, "http_403"));
}

/// The vectors that SendGrid's own libraries are, and were, held to.
#[test]
fn known_signatures_are_believed() {
    const KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";
    const SIGNED: &str =
        "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=";
    const BODY: &str = concat!(
        r#"[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address","#,
        r#""sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA","#,
        r#""sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0","#,
        r#""smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]"#,
        "\r\n"
    );
    let mut receipt = Receipt::post(HOOK, "application/json", BODY)
        .header(SIGNATURE, SIGNED)
        .header(TIMESTAMP, "1600112502");
    receipt.now_s = 1_600_112_502;
    let dropped = Report {
        message_id: "LRzXl_NHStOGhQ4kofSm_A".into(),
        state: DeliveryState::Rejected,
        refused: Some(Refused::new(Fault::Recipient, "dropped_address")),
        price: None,
    };
    assert_eq!(receipt.read_by(&*deaf(KEY)), Ok(vec![dropped.clone()]));
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{KEY}\n-----END PUBLIC KEY-----\n");
    assert_eq!(receipt.read_by(&*deaf(&pem)), Ok(vec![dropped]));
    for flipped in flipped(SIGNED) {
        let forged = receipt.clone().without(SIGNATURE).header(SIGNATURE, &flipped);
        assert_eq!(forged.read_by(&*deaf(KEY)), Err(ReceiptFault::Forged), "{flipped}");
    }
    let mut trimmed = receipt.clone();
    trimmed.body = BODY.trim_end().into();
    assert_eq!(trimmed.read_by(&*deaf(KEY)), Err(ReceiptFault::Forged));
    receipt.now_s += 301;
    assert_eq!(receipt.read_by(&*deaf(KEY)), Err(ReceiptFault::Stale));

    const OLD_KEY: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEDr2LjtURuePQzplybdC+u4CwrqDqBaWjcMMsTbhdbcwHBcepxo7yAQGhHPTnlvFYPAZFceEu/1FwCM/QmGUhA==";
    const OLD_SIGNED: &str =
        "MEUCIQCtIHJeH93Y+qpYeWrySphQgpNGNr/U+UyUlBkU6n7RAwIgJTz2C+8a8xonZGi6BpSzoQsbVRamr2nlxFDWYNH2j/0=";
    let body = r#"{"category":"example_payload","event":"test_event","message_id":"message_id"}"#;
    let mut old = Receipt::post(HOOK, "application/json", body)
        .header(SIGNATURE, OLD_SIGNED)
        .header(TIMESTAMP, "1588788367");
    old.now_s = 1_588_788_367;
    // Believed, and then found to be no list.
    assert_eq!(old.read_by(&*deaf(OLD_KEY)), Err(ReceiptFault::Malformed("no list of events")));
    assert_eq!(old.read_by(&*deaf(KEY)), Err(ReceiptFault::Forged));
}

#[test]
fn only_what_is_signed_by_the_key_is_believed() {
    let signer = Signer::new();
    let sender = deaf(&signer.public_key());
    let (body, time) = (r#"[{"event":"delivered","sg_message_id":"a.b.c.filter1.2"}]"#, NOW_S.to_string());
    let signature = signer.sign(&time, body);
    let receipt =
        Receipt::post(HOOK, "application/json", body).header(SIGNATURE, &signature).header(TIMESTAMP, &time);
    let delivered =
        Report { message_id: "a.b.c".into(), state: DeliveryState::Delivered, refused: None, price: None };
    assert_eq!(receipt.read_by(&*sender), Ok(vec![delivered]));
    for flipped in flipped(&signature) {
        // The last bits before the padding of base64 say nothing, and are refused for being there.
        let forged = receipt.clone().without(SIGNATURE).header(SIGNATURE, &flipped);
        assert_eq!(forged.read_by(&*sender), Err(ReceiptFault::Forged), "{flipped}");
    }
    for header in [SIGNATURE, TIMESTAMP] {
        assert_eq!(receipt.clone().without(header).read_by(&*sender), Err(ReceiptFault::Unsigned));
        let value = receipt.headers[header].to_str().unwrap().to_owned();
        let twice = receipt.clone().header(header, &value).read_by(&*sender);
        assert!(matches!(twice, Err(ReceiptFault::Malformed(_))), "{twice:?}");
    }
    let mut other = receipt.clone();
    other.body = body.replace("delivered", "processed").into();
    assert_eq!(other.read_by(&*sender), Err(ReceiptFault::Forged));
    let later = receipt.clone().without(TIMESTAMP).header(TIMESTAMP, &(NOW_S + 1).to_string());
    assert_eq!(later.read_by(&*sender), Err(ReceiptFault::Forged));
    assert_eq!(receipt.read_by(&*deaf(&Signer::new().public_key())), Err(ReceiptFault::Forged));
    let unkeyed = sender_of(Kind::SendGrid(spec(HttpUrl::parse("https://api.sendgrid.com").unwrap())));
    assert_eq!(receipt.read_by(&*unkeyed), Err(ReceiptFault::None));
}

#[test]
fn events_tell_what_became_of_a_letter() {
    let signer = Signer::new();
    let sender = deaf(&signer.public_key());
    let read = |event: &str| {
        let (body, time) = (format!("[{event}]"), NOW_S.to_string());
        let receipt = Receipt::post(HOOK, "application/json", &body)
            .header(SIGNATURE, &signer.sign(&time, &body))
            .header(TIMESTAMP, &time);
        receipt.read_by(&*sender).unwrap().pop().map(|report| {
            assert_eq!(&*report.message_id, MESSAGE_ID);
            (report.state, report.refused.map(|refused| (refused.fault, refused.code)))
        })
    };
    let no = |fault: Fault, code: &str| Some((fault, code.into()));
    for (fields, expected) in [
        (r#""event":"processed""#, Some((DeliveryState::Queued, None))),
        (r#""event":"deferred","response":"400 later""#, Some((DeliveryState::Queued, None))),
        (r#""event":"delivered""#, Some((DeliveryState::Delivered, None))),
        (r#""event":"open""#, Some((DeliveryState::Read, None))),
        (
            r#""event":"bounce","status":"5.1.1","reason":"no such user""#,
            Some((DeliveryState::Undelivered, no(Fault::Recipient, "5.1.1"))),
        ),
        (
            r#""event":"bounce","status":"5.7.1""#,
            Some((DeliveryState::Undelivered, no(Fault::Route, "5.7.1"))),
        ),
        (r#""event":"bounce""#, Some((DeliveryState::Undelivered, no(Fault::Recipient, "bounce")))),
        (
            r#""event":"bounce","type":"blocked","status":"5.0.0""#,
            Some((DeliveryState::Undelivered, no(Fault::Route, "blocked"))),
        ),
        (
            r#""event":"dropped","reason":"Bounced Address""#,
            Some((DeliveryState::Rejected, no(Fault::Recipient, "dropped_address"))),
        ),
        (
            r#""event":"dropped","reason":"Unsubscribed Address""#,
            Some((DeliveryState::Rejected, no(Fault::OptedOut, "dropped_opt_out"))),
        ),
        (
            r#""event":"dropped","reason":"ann@example.com""#,
            Some((DeliveryState::Rejected, no(Fault::Route, "dropped"))),
        ),
        (r#""event":"spamreport""#, None),
        (r#""event":"new""#, None),
    ] {
        let event = format!(r#"{{"sg_message_id":"{MESSAGE_ID}.filter0001.16648.5515E0B88.0",{fields}}}"#);
        assert_eq!(read(&event), expected, "{fields}");
    }
    assert_eq!(read(r#"{"event":"delivered"}"#), None);
    assert_eq!(read(r#"{"event":"delivered","sg_message_id":"a <b>"}"#), None);
    assert_eq!(read("7"), None);
}
