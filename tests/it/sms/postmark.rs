use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tollgate::http_client::HttpUrl;
use tollgate::sms::spec::{Kind, MailApiSpec, Mailbox};
use tollgate::sms::{
    Accepted, Channel, DeliveryState, Fault, LookUpFault, Outcome, ReceiptFault, Refused, Report, SmsSender,
};

use super::common::{Message, Receipt, at, flipped, golden, refused, sender_of};
use crate::harness::PATIENCE;
use crate::harness::backend::Reply;
use crate::harness::providers::postmark::{MESSAGE_ID, TOKEN, error, start};

const HOOK: &str = "https://gw.example.com/otp/receipts/it/-";

fn spec(base_url: HttpUrl) -> MailApiSpec {
    MailApiSpec {
        base_url,
        api_key: TOKEN.into(),
        from: Mailbox { name: Some("B\u{fc}cher".into()), address: "no-reply@example.com".into() },
        webhook_secret: None,
    }
}

/// One that nobody is behind, for receipts.
fn deaf(pair: Option<&str>) -> Box<dyn SmsSender> {
    let spec = spec(HttpUrl::parse("https://api.postmarkapp.com").unwrap());
    sender_of(Kind::Postmark(MailApiSpec { webhook_secret: pair.map(Into::into), ..spec }))
}

#[tokio::test]
async fn a_letter_is_this_request_to_the_byte() {
    let fake = start().await;
    let sender = sender_of(Kind::Postmark(spec(at(fake.addr()))));
    let outcome = Message::by(Channel::Email).sent_by(&*sender).await;
    let message_id = MESSAGE_ID.into();
    assert_eq!(outcome, Outcome::Accepted(Accepted { message_id, ..Accepted::default() }));
    let body = "{\"From\":\"B\u{fc}cher <no-reply@example.com>\",\
        \"Headers\":[{\"Name\":\"Auto-Submitted\",\"Value\":\"auto-generated\"}],\
        \"MessageStream\":\"outbound\",\"Metadata\":{\"reference\":\"a1B2-c3_D4\"},\"Subject\":\"Your Acme code\",\
        \"TextBody\":\"123456 is your Acme code.\\n\\n@acme.example #123456\",\"To\":\"ann@example.com\",\
        \"TrackLinks\":\"None\",\"TrackOpens\":false}";
    assert_eq!(
        golden(&fake.received()[0]),
        format!(
            "POST /email HTTP/1.1\n\
            x-postmark-server-token: {TOKEN}\n\
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
}

#[tokio::test]
async fn what_it_refuses_is_somebodys_fault() {
    let fake = start().await;
    let sender = sender_of(Kind::Postmark(spec(at(fake.addr()))));
    let row = |status: u16, code: u32, fault: Fault| {
        (error(status, code, "told to"), refused(fault, &code.to_string()))
    };
    for (reply, expected) in [
        row(401, 10, Fault::Provider),
        row(422, 10, Fault::Provider),
        row(422, 100, Fault::Transient),
        row(422, 300, Fault::Request),
        (error(422, 300, "Error parsing 'To': Illegal email"), refused(Fault::Recipient, "300")),
        row(422, 400, Fault::Provider),
        row(422, 401, Fault::Provider),
        row(422, 402, Fault::Request),
        row(422, 403, Fault::Request),
        row(422, 405, Fault::Provider),
        row(422, 406, Fault::Recipient),
        row(422, 409, Fault::Request),
        row(422, 411, Fault::Request),
        row(422, 412, Fault::Provider),
        row(422, 413, Fault::Provider),
        row(422, 429, Fault::Throttled),
        row(422, 1235, Fault::Provider),
        row(422, 9999, Fault::Request),
        // It says 200 and means no.
        row(200, 406, Fault::Recipient),
        (error(429, 429, "too many"), refused(Fault::Throttled, "http_429")),
        (error(500, 500, "oh"), refused(Fault::Transient, "http_500")),
        (error(503, 100, "oh"), refused(Fault::Transient, "http_503")),
        (Reply::new(502).body("<html>Bad gateway</html>"), refused(Fault::Transient, "http_502")),
        (Reply::new(422), refused(Fault::Request, "http_422")),
        (Reply::new(200), refused(Fault::Ambiguous, "unreadable_answer")),
        (Reply::json(200, "{\"ErrorCode\":"), refused(Fault::Ambiguous, "unreadable_answer")),
        (Reply::json(200, "{\"ErrorCode\":0}"), refused(Fault::Ambiguous, "unreadable_answer")),
    ] {
        fake.answer_by(move |_| reply.clone());
        assert_eq!(Message::by(Channel::Email).sent_by(&*sender).await, expected);
    }
}

#[tokio::test]
async fn a_wrong_token_is_ours() {
    let fake = start().await;
    let other = MailApiSpec { api_key: "other".into(), ..spec(at(fake.addr())) };
    let outcome = Message::by(Channel::Email).sent_by(&*sender_of(Kind::Postmark(other))).await;
    assert_eq!(outcome, refused(Fault::Provider, "10"));
}

#[tokio::test]
async fn a_letter_can_be_looked_up() {
    let fake = start().await;
    let sender = sender_of(Kind::Postmark(spec(at(fake.addr()))));
    let now = Message::by(Channel::Email).outbound().now;
    let found = |state| Ok(Report { message_id: MESSAGE_ID.into(), state, refused: None, price: None });
    assert_eq!(sender.look_up(MESSAGE_ID, PATIENCE, now).await, found(DeliveryState::Delivered));
    for nobody in ["other", "", "../email", "a?b"] {
        assert_eq!(sender.look_up(nobody, PATIENCE, now).await, Err(LookUpFault::Unknown), "{nobody}");
    }
    assert_eq!(fake.count(), 2);
    for (events, state) in [
        ("[]", DeliveryState::Queued),
        (r#"[{"Type":"Bounced"}]"#, DeliveryState::Undelivered),
        (r#"[{"Type":"Opened"},{"Type":"Delivered"}]"#, DeliveryState::Read),
    ] {
        let body = format!(r#"{{"MessageEvents":{events}}}"#);
        fake.answer_by(move |_| Reply::json(200, &body));
        assert_eq!(sender.look_up(MESSAGE_ID, PATIENCE, now).await, found(state), "{events}");
    }
}

fn receipt(body: &str, pair: &str) -> Receipt {
    let value = format!("Basic {}", BASE64.encode(pair));
    Receipt::post(HOOK, "application/json", body).header("authorization", &value)
}

#[test]
fn only_who_knows_user_and_password_is_believed() {
    let sender = deaf(Some("hook:s3cret"));
    let body = format!(r#"{{"RecordType":"Delivery","MessageID":"{MESSAGE_ID}"}}"#);
    assert_eq!(receipt(&body, "hook:s3cret").read_by(&*sender).unwrap().len(), 1);
    for pair in flipped("hook:s3cret") {
        assert_eq!(receipt(&body, &pair).read_by(&*sender), Err(ReceiptFault::Forged), "{pair}");
    }
    for pair in ["", "hook:", "hook:s3cre", "hook:s3cret "] {
        assert_eq!(receipt(&body, pair).read_by(&*sender), Err(ReceiptFault::Forged), "{pair}");
    }
    let bare = Receipt::post(HOOK, "application/json", &body);
    assert_eq!(bare.read_by(&*sender), Err(ReceiptFault::Unsigned));
    for value in ["Basic", "Basic !", "Bearer aG9vazpzM2NyZXQ="] {
        let forged = bare.clone().header("authorization", value);
        assert_eq!(forged.read_by(&*sender), Err(ReceiptFault::Forged), "{value}");
    }
    let twice = receipt(&body, "hook:s3cret").header("authorization", "Basic aG9vazpzM2NyZXQ=");
    assert!(matches!(twice.read_by(&*sender), Err(ReceiptFault::Malformed(_))));
    assert_eq!(receipt(&body, "hook:s3cret").read_by(&*deaf(None)), Err(ReceiptFault::None));
    assert!(matches!(receipt("<", "hook:s3cret").read_by(&*sender), Err(ReceiptFault::Malformed(_))));
}

#[test]
fn webhooks_tell_what_became_of_a_letter() {
    let sender = deaf(Some("hook:s3cret"));
    let bounced = |kind: &str, fault: Fault| {
        let fields = format!(r#""RecordType":"Bounce","Type":"{kind}""#);
        (fields, Some((DeliveryState::Undelivered, Some(Refused::new(fault, kind)))))
    };
    let other = |kind: &str, state: Option<DeliveryState>| {
        (format!(r#""RecordType":"{kind}""#), state.map(|state| (state, None)))
    };
    for (fields, expected) in [
        other("Delivery", Some(DeliveryState::Delivered)),
        other("Open", Some(DeliveryState::Read)),
        other("SpamComplaint", None),
        other("New", None),
        bounced("HardBounce", Fault::Recipient),
        bounced("BadEmailAddress", Fault::Recipient),
        bounced("ManuallyDeactivated", Fault::OptedOut),
        bounced("Blocked", Fault::Route),
        bounced("DMARCPolicy", Fault::Route),
        bounced("SoftBounce", Fault::Transient),
        bounced("Transient", Fault::Transient),
        bounced("SMTPApiError", Fault::Provider),
        (r#""RecordType":"Bounce","Type":"AutoResponder""#.to_owned(), None),
    ] {
        let body = format!(r#"{{{fields},"MessageID":"{MESSAGE_ID}"}}"#);
        let expected = expected.map(|(state, refused)| Report {
            message_id: MESSAGE_ID.into(),
            state,
            refused,
            price: None,
        });
        let read = receipt(&body, "hook:s3cret").read_by(&*sender);
        assert_eq!(read, Ok(expected.into_iter().collect()), "{fields}");
    }
}
