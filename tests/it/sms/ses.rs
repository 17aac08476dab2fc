use tollgate::http_client::HttpUrl;
use tollgate::sms::spec::{AwsCredentials, Kind, Mailbox, SesSpec};
use tollgate::sms::{
    Accepted, Channel, DeliveryState, Fault, LookUpFault, Outcome, ReceiptFault, Refused, Report,
};

use super::common::{Message, Receipt, at, refused, sender_of};
use crate::harness::PATIENCE;
use crate::harness::backend::Reply;
use crate::harness::providers::ses::{MESSAGE_ID, account, error, start};

fn spec(base_url: HttpUrl) -> SesSpec {
    let (credentials, region) = account();
    SesSpec {
        base_url,
        region: region.into(),
        credentials,
        from: Mailbox { name: Some("B\u{fc}cher".into()), address: "no-reply@example.com".into() },
    }
}

#[tokio::test]
async fn a_letter_is_this_request_to_the_byte() {
    let fake = start().await;
    let sender = sender_of(Kind::Ses(spec(at(fake.addr()))));
    let outcome = Message::by(Channel::Email).sent_by(&*sender).await;
    let message_id = MESSAGE_ID.into();
    assert_eq!(outcome, Outcome::Accepted(Accepted { message_id, ..Accepted::default() }));
    let request = fake.received().remove(0);
    assert_eq!((&*request.method, &*request.target), ("POST", "/v2/email/outbound-emails"));
    assert_eq!(request.headers.get_all("content-type"), ["application/json"]);
    assert_eq!(request.headers.get_all("x-amz-date"), ["20260102T030405Z"]);
    assert_eq!(
        String::from_utf8(request.body).unwrap(),
        "{\"Content\":{\"Simple\":{\
        \"Body\":{\"Text\":{\"Charset\":\"UTF-8\",\"Data\":\"123456 is your Acme code.\\n\\n@acme.example #123456\"}},\
        \"Headers\":[{\"Name\":\"Auto-Submitted\",\"Value\":\"auto-generated\"}],\
        \"Subject\":{\"Charset\":\"UTF-8\",\"Data\":\"Your Acme code\"}}},\
        \"Destination\":{\"ToAddresses\":[\"ann@example.com\"]},\
        \"EmailTags\":[{\"Name\":\"reference\",\"Value\":\"a1B2-c3_D4\"}],\
        \"FromEmailAddress\":\"=?UTF-8?B?QsO8Y2hlcg==?= <no-reply@example.com>\"}"
    );
}

#[tokio::test]
async fn what_it_refuses_is_somebodys_fault() {
    let fake = start().await;
    let sender = sender_of(Kind::Ses(spec(at(fake.addr()))));
    let row = |status: u16, kind: &str, fault: Fault| (error(status, kind, "told to"), refused(fault, kind));
    for (reply, expected) in [
        row(429, "TooManyRequestsException", Fault::Throttled),
        row(400, "ThrottlingException", Fault::Throttled),
        row(400, "AccountSuspendedException", Fault::Provider),
        row(400, "SendingPausedException", Fault::Provider),
        row(400, "MailFromDomainNotVerifiedException", Fault::Provider),
        row(400, "LimitExceededException", Fault::Provider),
        row(404, "NotFoundException", Fault::Provider),
        row(400, "MessageRejected", Fault::Provider),
        row(400, "BadRequestException", Fault::Request),
        row(403, "InvalidSignatureException", Fault::Provider),
        row(500, "InternalFailure", Fault::Transient),
        (
            error(400, "BadRequestException:http://internal.amazon.com/coral/", "?"),
            refused(Fault::Request, "BadRequestException"),
        ),
        (
            Reply::json(400, r#"{"__type":"com.amazonaws.sesv2#SendingPausedException"}"#),
            refused(Fault::Provider, "SendingPausedException"),
        ),
        (Reply::new(502).body("<html>Bad gateway</html>"), refused(Fault::Transient, "http_502")),
        (Reply::new(200), refused(Fault::Ambiguous, "unreadable_answer")),
        (Reply::json(200, "{\"MessageId\":"), refused(Fault::Ambiguous, "unreadable_answer")),
        (Reply::json(200, "{}"), refused(Fault::Ambiguous, "unreadable_answer")),
    ] {
        fake.answer_by(move |_| reply.clone());
        assert_eq!(Message::by(Channel::Email).sent_by(&*sender).await, expected);
    }
}

#[tokio::test]
async fn a_wrong_secret_is_ours() {
    let fake = start().await;
    let (credentials, _) = account();
    let credentials = AwsCredentials { secret_access_key: "another".into(), ..credentials };
    let other = SesSpec { credentials, ..spec(at(fake.addr())) };
    let outcome = Message::by(Channel::Email).sent_by(&*sender_of(Kind::Ses(other))).await;
    assert_eq!(outcome, refused(Fault::Provider, "InvalidSignatureException"));
}

#[tokio::test]
async fn a_letter_can_be_looked_up_and_nothing_is_reported() {
    let fake = start().await;
    let sender = sender_of(Kind::Ses(spec(at(fake.addr()))));
    let now = Message::by(Channel::Email).outbound().now;
    let found = |state, refused| Ok(Report { message_id: MESSAGE_ID.into(), state, refused, price: None });
    assert_eq!(sender.look_up(MESSAGE_ID, PATIENCE, now).await, found(DeliveryState::Delivered, None));
    for nobody in ["other", "", "../x"] {
        assert_eq!(sender.look_up(nobody, PATIENCE, now).await, Err(LookUpFault::Unknown), "{nobody}");
    }
    assert_eq!(fake.count(), 2);
    for (event, state, fault) in [
        (r#""Type":"REJECT""#, DeliveryState::Rejected, Some((Fault::Route, "reject"))),
        (
            r#""Type":"BOUNCE","Details":{"Bounce":{"BounceType":"PERMANENT"}}"#,
            DeliveryState::Undelivered,
            Some((Fault::Recipient, "bounce_permanent")),
        ),
        (
            r#""Type":"BOUNCE","Details":{"Bounce":{"BounceType":"TRANSIENT"}}"#,
            DeliveryState::Undelivered,
            Some((Fault::Transient, "bounce_transient")),
        ),
        (r#""Type":"OPEN""#, DeliveryState::Read, None),
    ] {
        let body = format!(r#"{{"Insights":[{{"Events":[{{"Type":"SEND"}},{{{event}}}]}}]}}"#);
        fake.answer_by(move |_| Reply::json(200, &body));
        let refused = fault.map(|(fault, code)| Refused::new(fault, code));
        assert_eq!(sender.look_up(MESSAGE_ID, PATIENCE, now).await, found(state, refused), "{event}");
    }
    let receipt = Receipt::post("https://gw.example.com/otp/receipts/it/-", "text/plain", "{}");
    assert_eq!(receipt.read_by(&*sender), Err(ReceiptFault::None));
}
