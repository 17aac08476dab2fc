use std::time::Duration;

use tollgate::http_client::HttpUrl;
use tollgate::sms::spec::{Kind, MailApiSpec, Mailbox};
use tollgate::sms::{
    Accepted, Channel, DeliveryState, Fault, LookUpFault, Outcome, ReceiptFault, Refused, Report, SmsSender,
};

use super::common::{Message, NOW_S, Receipt, at, flipped, golden, refused, sender_of};
use crate::harness::PATIENCE;
use crate::harness::backend::Reply;
use crate::harness::providers::resend::{KEY, MESSAGE_ID, error, signature, start};

const HOOK: &str = "https://gw.example.com/otp/receipts/it/-";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ID: &str = "svix-id";
const TIMESTAMP: &str = "svix-timestamp";
const SIGNATURE: &str = "svix-signature";

fn spec(base_url: HttpUrl) -> MailApiSpec {
    MailApiSpec {
        base_url,
        api_key: KEY.into(),
        from: Mailbox { name: Some("Example".into()), address: "no-reply@example.com".into() },
        webhook_secret: None,
    }
}

/// One that nobody is behind, for receipts.
fn deaf(secret: Option<&str>) -> Box<dyn SmsSender> {
    let spec = spec(HttpUrl::parse("https://api.resend.com").unwrap());
    sender_of(Kind::Resend(MailApiSpec { webhook_secret: secret.map(Into::into), ..spec }))
}

#[tokio::test]
async fn a_letter_is_this_request_to_the_byte() {
    let fake = start().await;
    let sender = sender_of(Kind::Resend(spec(at(fake.addr()))));
    let outcome = Message::by(Channel::Email).sent_by(&*sender).await;
    let message_id = MESSAGE_ID.into();
    assert_eq!(outcome, Outcome::Accepted(Accepted { message_id, ..Accepted::default() }));
    let body = "{\"from\":\"Example <no-reply@example.com>\",\"headers\":{\"Auto-Submitted\":\"auto-generated\"},\
        \"subject\":\"Your Acme code\",\"text\":\"123456 is your Acme code.\\n\\n@acme.example #123456\",\
        \"to\":[\"ann@example.com\"]}";
    assert_eq!(
        golden(&fake.received()[0]),
        format!(
            "POST /emails HTTP/1.1\n\
            authorization: Bearer {KEY}\n\
            accept: application/json\n\
            content-type: application/json\n\
            idempotency-key: a1B2-c3_D4\n\
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
    let sender = sender_of(Kind::Resend(spec(at(fake.addr()))));
    let row = |status: u16, name: &str, fault: Fault| (error(status, name, "told to"), refused(fault, name));
    let limited = Refused::new(Fault::Throttled, "rate_limit_exceeded");
    let limited = Outcome::Refused(Refused { retry_after: Some(Duration::from_secs(1)), ..limited });
    for (reply, expected) in [
        row(400, "invalid_idempotency_key", Fault::Request),
        row(400, "validation_error", Fault::Request),
        (error(400, "validation_error", "API key is invalid"), refused(Fault::Provider, "validation_error")),
        (error(422, "validation_error", "Invalid `to` field"), refused(Fault::Recipient, "validation_error")),
        (
            error(422, "validation_error", "Invalid `from` field"),
            refused(Fault::Provider, "validation_error"),
        ),
        row(422, "missing_required_field", Fault::Request),
        row(422, "invalid_from_address", Fault::Provider),
        row(401, "missing_api_key", Fault::Provider),
        row(401, "restricted_api_key", Fault::Provider),
        row(403, "invalid_api_key", Fault::Provider),
        row(403, "validation_error", Fault::Provider),
        row(404, "not_found", Fault::Provider),
        row(405, "method_not_allowed", Fault::Request),
        row(409, "invalid_idempotent_request", Fault::Request),
        row(409, "concurrent_idempotent_requests", Fault::Ambiguous),
        row(429, "rate_limit_exceeded", Fault::Throttled),
        (error(429, "rate_limit_exceeded", "slow").header("retry-after", "1"), limited),
        row(429, "daily_quota_exceeded", Fault::Provider),
        row(429, "monthly_quota_exceeded", Fault::Provider),
        row(451, "security_error", Fault::Route),
        row(500, "application_error", Fault::Transient),
        row(500, "internal_server_error", Fault::Transient),
        // Whom it was for is nobody's business.
        (error(400, "ann@example.com", "?"), refused(Fault::Request, "http_400")),
        (Reply::new(502).body("<html>Bad gateway</html>"), refused(Fault::Transient, "http_502")),
        (Reply::new(200), refused(Fault::Ambiguous, "unreadable_answer")),
        (Reply::json(200, "{\"id\":"), refused(Fault::Ambiguous, "unreadable_answer")),
        (Reply::json(200, "{\"object\":\"email\"}"), refused(Fault::Ambiguous, "unreadable_answer")),
    ] {
        fake.answer_by(move |_| reply.clone());
        assert_eq!(Message::by(Channel::Email).sent_by(&*sender).await, expected);
    }
}

#[tokio::test]
async fn another_letter_under_the_same_reference_is_refused() {
    let fake = start().await;
    let sender = sender_of(Kind::Resend(spec(at(fake.addr()))));
    let mut message = Message::by(Channel::Email);
    for _ in 0..2 {
        assert!(matches!(message.sent_by(&*sender).await, Outcome::Accepted(_)));
    }
    message.text = "654321 is your Acme code.".into();
    let outcome = message.sent_by(&*sender).await;
    assert_eq!(outcome, refused(Fault::Request, "invalid_idempotent_request"));
}

#[tokio::test]
async fn a_letter_can_be_looked_up() {
    let fake = start().await;
    let sender = sender_of(Kind::Resend(spec(at(fake.addr()))));
    let now = Message::by(Channel::Email).outbound().now;
    let found = |state| Ok(Report { message_id: MESSAGE_ID.into(), state, refused: None, price: None });
    assert_eq!(sender.look_up(MESSAGE_ID, PATIENCE, now).await, found(DeliveryState::Delivered));
    for nobody in ["other", "", "../emails", "a?b"] {
        assert_eq!(sender.look_up(nobody, PATIENCE, now).await, Err(LookUpFault::Unknown), "{nobody}");
    }
    assert_eq!(fake.count(), 2);
    fake.answer_by(|_| Reply::json(200, r#"{"last_event":"something_new"}"#));
    assert_eq!(sender.look_up(MESSAGE_ID, PATIENCE, now).await, found(DeliveryState::Accepted));
}

fn signed(secret: &str, body: &str) -> Receipt {
    let time = NOW_S.to_string();
    Receipt::post(HOOK, "application/json", body)
        .header(ID, "msg_1")
        .header(TIMESTAMP, &time)
        .header(SIGNATURE, &signature(secret, "msg_1", &time, body))
}

/// The vector that Svix's own libraries are held to.
#[test]
fn a_known_signature_is_believed() {
    let mut receipt = Receipt::post(HOOK, "application/json", r#"{"test": 2432232314}"#)
        .header(ID, "msg_p5jXN8AQM9LWM0D4loKWxJek")
        .header(TIMESTAMP, "1614265330")
        .header(SIGNATURE, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    receipt.now_s = 1_614_265_400;
    assert_eq!(receipt.read_by(&*deaf(Some(SECRET))), Ok(Vec::new()));
    receipt.now_s += 1000;
    assert_eq!(receipt.read_by(&*deaf(Some(SECRET))), Err(ReceiptFault::Stale));
}

#[test]
fn only_what_is_signed_by_the_secret_is_believed() {
    let sender = deaf(Some(SECRET));
    let body = format!(r#"{{"type":"email.delivered","data":{{"email_id":"{MESSAGE_ID}"}}}}"#);
    let receipt = signed(SECRET, &body);
    let good = receipt.headers[SIGNATURE].to_str().unwrap().to_owned();
    assert_eq!(receipt.read_by(&*sender).unwrap().len(), 1);
    for flipped in flipped(&good) {
        let forged = receipt.clone().without(SIGNATURE).header(SIGNATURE, &flipped);
        assert_eq!(forged.read_by(&*sender), Err(ReceiptFault::Forged), "{flipped}");
    }
    // Two secrets while one is being changed, and a version that is not ours.
    let several = format!("v1,aW52YWxpZA== v2,x {good}");
    assert_eq!(
        receipt.clone().without(SIGNATURE).header(SIGNATURE, &several).read_by(&*sender).unwrap().len(),
        1
    );
    for header in [ID, TIMESTAMP, SIGNATURE] {
        assert_eq!(receipt.clone().without(header).read_by(&*sender), Err(ReceiptFault::Unsigned));
        let value = receipt.headers[header].to_str().unwrap().to_owned();
        let twice = receipt.clone().header(header, &value).read_by(&*sender);
        assert!(matches!(twice, Err(ReceiptFault::Malformed(_))), "{twice:?}");
    }
    for (header, value) in [(ID, "msg_2"), (TIMESTAMP, "1767323046")] {
        let altered = receipt.clone().without(header).header(header, value);
        assert_eq!(altered.read_by(&*sender), Err(ReceiptFault::Forged), "{header}");
    }
    let mut altered = receipt.clone();
    altered.body = body.replace("delivered", "bounced").into();
    assert_eq!(altered.read_by(&*sender), Err(ReceiptFault::Forged));
    assert_eq!(receipt.read_by(&*deaf(Some("whsec_b3RoZXI="))), Err(ReceiptFault::Forged));
    assert_eq!(receipt.read_by(&*deaf(None)), Err(ReceiptFault::None));
}

#[test]
fn webhooks_tell_what_became_of_a_letter() {
    let sender = deaf(Some(SECRET));
    let no = |fault: Fault, code: &str| Some(Refused::new(fault, code));
    for (kind, more, expected) in [
        ("sent", "", Some((DeliveryState::Sent, None))),
        ("delivery_delayed", "", Some((DeliveryState::Queued, None))),
        ("delivered", "", Some((DeliveryState::Delivered, None))),
        ("opened", "", Some((DeliveryState::Read, None))),
        (
            "bounced",
            r#","bounce":{"type":"Permanent","subType":"General","message":"no such user"}"#,
            Some((DeliveryState::Undelivered, no(Fault::Recipient, "General"))),
        ),
        (
            "bounced",
            r#","bounce":{"type":"Transient","subType":"MailboxFull"}"#,
            Some((DeliveryState::Undelivered, no(Fault::Transient, "MailboxFull"))),
        ),
        ("bounced", "", Some((DeliveryState::Undelivered, no(Fault::Route, "bounced")))),
        ("suppressed", "", Some((DeliveryState::Rejected, no(Fault::Recipient, "suppressed")))),
        (
            "failed",
            r#","failed":{"reason":"reached_daily_quota"}"#,
            Some((DeliveryState::Failed, no(Fault::Provider, "reached_daily_quota"))),
        ),
        ("complained", "", None),
        ("new", "", None),
    ] {
        let body = format!(r#"{{"type":"email.{kind}","data":{{"email_id":"{MESSAGE_ID}"{more}}}}}"#);
        let expected = expected.map(|(state, refused)| Report {
            message_id: MESSAGE_ID.into(),
            state,
            refused,
            price: None,
        });
        assert_eq!(signed(SECRET, &body).read_by(&*sender), Ok(expected.into_iter().collect()), "{kind}");
    }
    for body in [r#"{"type":"contact.created","data":{}}"#, r#"{"type":"email.sent"}"#, "7"] {
        assert_eq!(signed(SECRET, body).read_by(&*sender), Ok(Vec::new()), "{body}");
    }
}
