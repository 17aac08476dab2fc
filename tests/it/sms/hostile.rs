//! What providers do on their worst days, to every adapter: none waits longer than it was told to, holds more than an
//! answer may have, follows anywhere, or takes silence for a yes.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::net::TcpListener;
use tollgate::http_client::HttpUrl;
use tollgate::sms::spec::{
    AwsCredentials, AwsSnsSpec, HttpBody, HttpSpec, HttpSuccess, Kind, MailApiSpec, Mailbox, MailgunSpec,
    MessageBirdSpec, PlivoSpec, SesSpec, SinchSpec, TwilioSender, TwilioSpec, TwilioWhatsapp, VonageSpec,
};
use tollgate::sms::{Channel, Fault, Outcome, Refused};

use super::common::{Message, at, sender_of};
use crate::harness::PATIENCE;
use crate::harness::backend::{Backend, Reply};

/// One adapter on one channel.
struct Adapter {
    name: &'static str,
    channel: Channel,
    kind: fn(HttpUrl) -> Kind,
    /// What a 200 without a body is; none where that is how the provider says yes.
    empty: Option<Fault>,
    /// How many requests a message takes.
    requests: usize,
}

const ADAPTERS: [Adapter; 15] = [
    one("twilio", Channel::Sms, twilio),
    one("twilio, a call", Channel::Voice, twilio),
    one("twilio, whatsapp", Channel::Whatsapp, twilio),
    one("vonage", Channel::Sms, vonage),
    one("messagebird", Channel::Sms, messagebird),
    // It is asked first whether the recipient wants any.
    Adapter { requests: 2, ..one("aws_sns", Channel::Sms, aws_sns) },
    one("plivo", Channel::Sms, plivo),
    one("sinch", Channel::Sms, sinch),
    one("http", Channel::Sms, http_by_id),
    Adapter { empty: None, ..one("http, by status", Channel::Sms, http_by_status) },
    // Its yes is 202; a 200 is that of an account that sends nothing.
    Adapter { empty: Some(Fault::Ambiguous), ..one("sendgrid", Channel::Email, sendgrid) },
    one("mailgun", Channel::Email, mailgun),
    one("postmark", Channel::Email, postmark),
    one("ses", Channel::Email, ses),
    one("resend", Channel::Email, resend),
];

/// As most are.
const fn one(name: &'static str, channel: Channel, kind: fn(HttpUrl) -> Kind) -> Adapter {
    Adapter { name, channel, kind, empty: Some(Fault::Ambiguous), requests: 1 }
}

/// Stands for all that is nobody's business.
const SECRET: &str = "kept-secret";

fn twilio(base_url: HttpUrl) -> Kind {
    Kind::Twilio(TwilioSpec {
        base_url,
        account_sid: "AC1".into(),
        auth_token: SECRET.into(),
        api_key: None,
        sender: TwilioSender::From("+15005550006".into()),
        voice_from: Some("+15005550006".into()),
        whatsapp: Some(TwilioWhatsapp {
            from: "+15005550006".into(),
            content_sids: [("default".into(), "HX0".into())].into(),
        }),
    })
}

fn vonage(base_url: HttpUrl) -> Kind {
    Kind::Vonage(VonageSpec {
        base_url,
        api_key: "k".into(),
        api_secret: SECRET.into(),
        signature_secret: Some(SECRET.into()),
        from: "Acme".into(),
    })
}

fn messagebird(base_url: HttpUrl) -> Kind {
    let (api_key, signing_key) = (SECRET.into(), Some(SECRET.into()));
    Kind::MessageBird(MessageBirdSpec { base_url, api_key, signing_key, from: "Acme".into() })
}

fn amazon() -> AwsCredentials {
    AwsCredentials {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: SECRET.into(),
        session_token: None,
    }
}

fn aws_sns(base_url: HttpUrl) -> Kind {
    Kind::AwsSns(AwsSnsSpec {
        base_url,
        region: "us-east-1".into(),
        credentials: amazon(),
        sender_id: None,
        origination_number: None,
    })
}

fn plivo(base_url: HttpUrl) -> Kind {
    let (auth_id, auth_token) = ("MA1".into(), SECRET.into());
    Kind::Plivo(PlivoSpec { base_url, auth_id, auth_token, from: "15005550006".into() })
}

fn sinch(base_url: HttpUrl) -> Kind {
    Kind::Sinch(SinchSpec {
        base_url,
        service_plan_id: "p1".into(),
        api_token: SECRET.into(),
        webhook_secret: Some(SECRET.into()),
        from: "15005550006".into(),
    })
}

fn http_by_status(url: HttpUrl) -> Kind {
    Kind::Http(Box::new(HttpSpec {
        channel: Channel::Sms,
        method: http::Method::POST,
        url,
        headers: vec![(http::header::AUTHORIZATION, format!("Bearer {SECRET}").into())],
        body: HttpBody::Json(serde_json::json!({ "to": "{{ to }}", "text": "{{ text }}" })),
        success: HttpSuccess {
            statuses: vec![http::StatusCode::OK],
            members: Vec::new(),
            id: None,
            errors: [].into(),
            error: None,
        },
        signing_secret: None,
        receipt: None,
    }))
}

fn http_by_id(url: HttpUrl) -> Kind {
    match http_by_status(url) {
        Kind::Http(mut spec) => {
            spec.success.members = vec![("/status".into(), "ok".into())];
            spec.success.id = Some("/id".into());
            Kind::Http(spec)
        }
        other => other,
    }
}

fn mailer(base_url: HttpUrl) -> MailApiSpec {
    MailApiSpec { base_url, api_key: SECRET.into(), from: mailbox(), webhook_secret: None }
}

fn mailbox() -> Mailbox {
    Mailbox { name: Some("Acme".into()), address: "no-reply@acme.example".into() }
}

fn sendgrid(base_url: HttpUrl) -> Kind {
    Kind::SendGrid(mailer(base_url))
}

fn mailgun(base_url: HttpUrl) -> Kind {
    Kind::Mailgun(MailgunSpec {
        base_url,
        domain: "acme.example".into(),
        api_key: SECRET.into(),
        from: mailbox(),
        webhook_secret: None,
    })
}

fn postmark(base_url: HttpUrl) -> Kind {
    Kind::Postmark(mailer(base_url))
}

fn ses(base_url: HttpUrl) -> Kind {
    let (region, credentials) = ("us-east-1".into(), amazon());
    Kind::Ses(SesSpec { base_url, region, credentials, from: mailbox() })
}

fn resend(base_url: HttpUrl) -> Kind {
    Kind::Resend(mailer(base_url))
}

/// Long enough to connect to this machine on its slowest day.
const SHORT: Duration = Duration::from_secs(2);
/// What sockets on both sides may hold of an answer that nobody reads.
const IN_SOCKETS_MAX: usize = 32 << 20;

/// One message by an adapter to a provider that always answers so.
async fn sent(adapter: &Adapter, within: Duration, reply: Reply) -> (Outcome, Backend) {
    let backend = Backend::start(move |_| reply.clone()).await;
    let sender = sender_of((adapter.kind)(at(backend.addr())));
    let message = Message::by(adapter.channel);
    (sender.send(&message.outbound(), within).await, backend)
}

fn fault(adapter: &Adapter, outcome: Outcome) -> Fault {
    match outcome {
        Outcome::Refused(Refused { fault, .. }) => fault,
        Outcome::Accepted(accepted) => panic!("{} took it for a yes: {accepted:?}", adapter.name),
    }
}

/// The same to every adapter at once; none tries again.
async fn all(within: Duration, reply: Reply, expected: Fault) {
    join_all(ADAPTERS.iter().map(async |adapter| {
        let (outcome, backend) = sent(adapter, within, reply.clone()).await;
        assert_eq!(fault(adapter, outcome), expected, "{}", adapter.name);
        assert_eq!(backend.count(), adapter.requests, "requests of {}", adapter.name);
    }))
    .await;
}

#[tokio::test]
async fn silence_ends_when_the_time_is_over() {
    let begun = Instant::now();
    all(SHORT, Reply::stall(), Fault::Ambiguous).await;
    assert!((SHORT..SHORT + PATIENCE).contains(&begun.elapsed()));
}

#[tokio::test]
async fn an_answer_that_drips_ends_when_the_time_is_over() {
    all(SHORT, Reply::json(200, "").drip(), Fault::Ambiguous).await;
    all(SHORT, Reply::json(500, "").drip(), Fault::Ambiguous).await;
}

#[tokio::test]
async fn what_broke_off_may_have_been_sent() {
    all(PATIENCE, Reply::hang_up(), Fault::Ambiguous).await;
    all(PATIENCE, Reply::json(201, r#"{"sid":"SM1","id":"1"}"#).half(), Fault::Ambiguous).await;
    all(PATIENCE, Reply::garbage(), Fault::Ambiguous).await;
}

#[tokio::test]
async fn an_answer_without_measure_is_not_read() {
    join_all(ADAPTERS.iter().map(async |adapter| {
        let (outcome, backend) = sent(adapter, PATIENCE, Reply::json(200, "").huge(200 << 20)).await;
        assert_eq!(fault(adapter, outcome), Fault::Ambiguous, "{}", adapter.name);
        let taken = backend.huge_bytes();
        assert!(taken < IN_SOCKETS_MAX, "{} took {taken} bytes", adapter.name);
    }))
    .await;
}

#[tokio::test]
async fn a_page_of_a_gateway_in_between_is_no_answer() {
    let page = Reply::new(502).header("content-type", "text/html").body("<html>Bad gateway</html>");
    all(PATIENCE, page, Fault::Transient).await;
}

#[tokio::test]
async fn an_empty_yes_is_none() {
    for adapter in &ADAPTERS {
        let (outcome, _) = sent(adapter, PATIENCE, Reply::new(200)).await;
        match adapter.empty {
            Some(expected) => assert_eq!(fault(adapter, outcome), expected, "{}", adapter.name),
            None => assert!(matches!(outcome, Outcome::Accepted(_)), "{}: {outcome:?}", adapter.name),
        }
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for status in [301, 302, 307, 308] {
        all(PATIENCE, Reply::new(status).header("location", "/elsewhere"), Fault::Provider).await;
    }
}

#[tokio::test]
async fn where_nobody_listens_nothing_was_sent() {
    for adapter in &ADAPTERS {
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let sender = sender_of((adapter.kind)(at(nobody)));
        let outcome = sender.send(&Message::by(adapter.channel).outbound(), PATIENCE).await;
        assert_eq!(fault(adapter, outcome), Fault::Transient, "{}", adapter.name);
    }
}

/// Adapters and messages are logged where something goes wrong with them.
#[test]
fn nobody_reads_a_secret_or_a_number_in_what_is_written_of_them() {
    for adapter in &ADAPTERS {
        let sender = sender_of((adapter.kind)(HttpUrl::parse("https://sms.example").unwrap()));
        let written = format!("{sender:?} {:?}", Message::by(adapter.channel).outbound());
        for secret in [SECRET, "Basic", "4155550123", "ann@", "123456"] {
            assert!(!written.contains(secret), "{}: {written}", adapter.name);
        }
    }
}
