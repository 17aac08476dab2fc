use std::time::Duration;

use http::{HeaderName, Method, StatusCode};
use serde_json::{Value, json};
use tollgate::decision::time::{Span, Timestamp};
use tollgate::http_client::{HttpClient, HttpUrl};
use tollgate::sms::spec::{HttpBody, HttpSpec, Kind, Pace, ProviderSpec};
use tollgate::sms::{
    Accepted, Channel, DeliveryState, Fault, LookUpFault, Outcome, ReceiptFault, Refused, Report, SmsSender,
    sender,
};

use super::common::{Message, NOW_S, Receipt, flipped, golden, refused, sender_of};
use crate::harness::PATIENCE;
use crate::harness::backend::{Backend, Reply};
use crate::harness::providers::http::{FakeGateway, SECRET, signature, spec};

const URL: &str = "https://gw.example.com/otp/receipts/it/T0k3nT0k3nT0k3nT0k3nT0";
const JSON: &str = "application/json";

fn of(spec: HttpSpec) -> Box<dyn SmsSender> {
    sender_of(Kind::Http(Box::new(spec)))
}

/// One that nobody is behind, for receipts.
fn deaf() -> HttpSpec {
    spec(HttpUrl::parse("https://sms.example.com/send").unwrap())
}

/// What is said of a spec that is no good.
fn fault(spec: HttpSpec) -> String {
    let spec = ProviderSpec {
        name: "it".into(),
        priority: 1,
        timeout: Span::from_secs(6),
        limits: Pace { windows: Vec::new() },
        cost: None,
        kind: Kind::Http(Box::new(spec)),
    };
    sender(&spec, &std::sync::Arc::new(HttpClient::new(PATIENCE))).unwrap_err().to_string()
}

fn accepted(id: &str) -> Outcome {
    Outcome::Accepted(Accepted { message_id: id.into(), ..Accepted::default() })
}

fn header(name: &'static str, template: &str) -> (HeaderName, secrecy::SecretString) {
    (HeaderName::from_static(name), template.into())
}

#[tokio::test]
async fn a_text_is_this_request_to_the_byte() {
    let fake = FakeGateway::start().await;
    assert_eq!(Message::by(Channel::Sms).sent_by(&*of(fake.spec())).await, accepted("4711"));
    let body = r#"{"callback":"https://gw.example.com/otp/receipts/it/T0k3nT0k3nT0k3nT0k3nT0","message":{"body":"123456 is your Acme code.\n\n@acme.example #123456","parts_max":1,"tags":["otp","en",null,true]},"ref":"a1B2-c3_D4/2","to":"+14155550123","ttl":"300"}"#;
    let expected = format!(
        "POST /v1/send HTTP/1.1\n\
         content-type: application/json\n\
         authorization: Bearer token-of-the-gateway\n\
         webhook-id: a1B2-c3_D4\n\
         webhook-timestamp: {NOW_S}\n\
         webhook-signature: {}\n\
         user-agent: tollgate/{}\n\
         content-length: {}\n\n{body}",
        signature("a1B2-c3_D4", &NOW_S.to_string(), body.as_bytes()),
        env!("CARGO_PKG_VERSION"),
        body.len()
    );
    assert_eq!(golden(&fake.backend.received()[0]), expected);
}

#[tokio::test]
async fn forms_go_as_a_body_or_as_a_query() {
    let backend = Backend::ok().await;
    let url = HttpUrl::parse(&format!("http://{}/send", backend.addr())).unwrap();
    let fields = [("phone", "{{ to_digits }}"), ("text", "{{ code }} & {{ text }}"), ("key", "k=1")];
    let mut post = HttpSpec {
        headers: vec![header("x-for", "{{ channel }} {{ subject }}"), header("x-for", "2")],
        body: HttpBody::Form(fields.map(|(name, value)| (name.into(), value.into())).to_vec()),
        signing_secret: None,
        ..spec(url)
    };
    (post.success.members, post.success.id) = (Vec::new(), None);
    let get = HttpSpec { method: Method::GET, ..post.clone() };
    let empty = HttpSpec { method: Method::PUT, body: HttpBody::None, ..post.clone() };
    for spec in [post, get, empty] {
        assert_eq!(Message::by(Channel::Sms).sent_by(&*of(spec)).await, accepted(""));
    }
    let form = "phone=14155550123&text=123456%20%26%20123456%20is%20your%20Acme%20code.%0A%0A%40acme.example\
        %20%23123456&key=k%3D1";
    let [post, get, empty] = &backend.received()[..] else { panic!("three requests") };
    assert_eq!((post.method.as_str(), post.target.as_str()), ("POST", "/send"));
    assert_eq!(post.headers.get("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(String::from_utf8_lossy(&post.body), form);
    assert_eq!(post.headers.get_all("x-for"), ["sms Your Acme code", "2"]);
    assert_eq!((get.method.as_str(), get.target.as_str()), ("GET", format!("/send?{form}").as_str()));
    assert_eq!((get.headers.get("content-type"), get.body.len()), (None, 0));
    assert_eq!((empty.method.as_str(), empty.body.len()), ("PUT", 0));
}

#[tokio::test]
async fn nothing_breaks_out_of_its_place() {
    let fake = FakeGateway::start().await;
    let text = "\"},\"to\":\"+19005550199\",\"x\":\"{{ code }}\r\n\u{0}ж";
    let message = Message { text: text.into(), ..Message::by(Channel::Sms) };
    assert_eq!(message.sent_by(&*of(fake.spec())).await, accepted("4711"));
    let body: Value = serde_json::from_slice(&fake.backend.received()[0].body).unwrap();
    assert_eq!((&body["to"], &body["message"]["body"]), (&json!("+14155550123"), &json!(text)));
    // A header has no way to carry a line break; what is no ASCII goes as it is.
    let mut spec = fake.spec();
    spec.headers.push(header("x-text", "{{ text }}"));
    assert_eq!(message.sent_by(&*of(spec.clone())).await, refused(Fault::Request, "header"));
    let plain = Message { text: "код".into(), ..Message::by(Channel::Sms) };
    assert_eq!(plain.sent_by(&*of(spec)).await, accepted("4711"));
    let received = &fake.backend.received()[1];
    assert!(received.headers.fields.contains(&("x-text".to_owned(), "код".as_bytes().to_vec())));
    assert_eq!(fake.backend.count(), 2, "what cannot be sent is not sent in part");
}

#[tokio::test]
async fn a_template_that_fails_on_this_message_sends_nothing() {
    let fake = FakeGateway::start().await;
    let looping = "{% for a in range(text|length * 100) %}{{ a }}{% endfor %}";
    for template in [looping, "{% if text|length > 100 %}{{ nothing }}{% endif %}"] {
        let spec = HttpSpec { body: HttpBody::Json(json!([template])), ..fake.spec() };
        let long = Message { text: "a".repeat(300).into(), ..Message::by(Channel::Sms) };
        assert_eq!(long.sent_by(&*of(spec)).await, refused(Fault::Request, "template"), "{template}");
    }
    assert_eq!(fake.backend.count(), 0);
}

#[test]
fn what_cannot_work_is_told_before_anything_is_sent() {
    let json = |json: Value| HttpSpec { body: HttpBody::Json(json), ..deaf() };
    let told = fault(json(json!({ "a": ["x", "{{ nobody }}"] })));
    assert_eq!(told, "provider it: the template of /a/1 is of no use: undefined value, line 1");
    let told = fault(json(json!("{{ to")));
    assert!(told.starts_with("provider it: the template of  is of no use: syntax error"), "{told}");
    let form = HttpBody::Form(vec![("key".into(), "{{ secret_of_mine }}".into())]);
    let told = fault(HttpSpec { body: form, ..deaf() });
    assert!(told.contains("key") && !told.contains("secret_of_mine"), "{told}");
    let told = fault(HttpSpec { headers: vec![header("x-key", "topsecret {% x %}")], ..deaf() });
    assert!(told.contains("x-key") && !told.contains("topsecret"), "{told}");
    for name in ["host", "content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade"] {
        let told = fault(HttpSpec { headers: vec![header(name, "1")], ..deaf() });
        assert_eq!(told, format!("provider it: the header {name} is not for the file to say"));
    }
    let mut spec = deaf();
    spec.success.id = Some("id".into());
    assert_eq!(fault(spec), "provider it: id is no JSON Pointer: it begins with a slash");
    let told = fault(HttpSpec { signing_secret: Some("whsec_no!".into()), ..deaf() });
    assert_eq!(told, "provider it: what follows whsec_ in a secret is base64");
    // Templates reach no files.
    assert!(fault(json(json!("{% include '/etc/passwd' %}"))).contains("is of no use"));
    assert_eq!(format!("{:?}", of(deaf())), "HttpGateway(it)");
}

#[tokio::test]
async fn answers_are_read_as_the_file_says() {
    let fake = FakeGateway::start().await;
    let sender = of(fake.spec());
    let unclear = refused(Fault::Ambiguous, "unreadable_answer");
    let rows = [
        (Reply::json(200, r#"{"result":{"queued":"true","id":"m-1"}}"#), accepted("m-1")),
        (Reply::json(200, r#"{"error":"bad_number"}"#), refused(Fault::Recipient, "bad_number")),
        (Reply::json(400, r#"{"error":7}"#), refused(Fault::OptedOut, "7")),
        // What the file does not name may be anything: it is not repeated.
        (Reply::json(400, r#"{"error":"14155550123"}"#), refused(Fault::Request, "http_400")),
        (Reply::json(402, "{}"), refused(Fault::Throttled, "http_402")),
        (Reply::json(403, "{}"), refused(Fault::Provider, "http_403")),
        (
            Reply::json(200, r#"{"result":{"queued":false,"id":1}}"#),
            refused(Fault::Transient, "not_confirmed"),
        ),
        (Reply::json(200, r#"{"result":{"id":1}}"#), unclear.clone()),
        (Reply::json(200, r#"{"result":{"queued":true}}"#), unclear.clone()),
        (Reply::json(200, r#"{"result":{"queued":true,"id":""}}"#), unclear.clone()),
        (Reply::json(200, r#"{"result":{"queued":true,"id":"a b"}}"#), unclear.clone()),
        (Reply::json(200, r#"{"result":"#), unclear.clone()),
        (Reply::new(200), unclear.clone()),
        (Reply::new(200).body("<html>"), unclear),
        (Reply::json(201, r#"{"result":{"queued":true,"id":1}}"#), refused(Fault::Ambiguous, "http_201")),
        (Reply::new(502).body("<html>Bad Gateway"), refused(Fault::Transient, "http_502")),
    ];
    for (reply, expected) in rows {
        fake.answers(reply.clone());
        assert_eq!(Message::by(Channel::Sms).sent_by(&*sender).await, expected, "{reply:?}");
    }
    fake.answers(Reply::new(429).header("retry-after", "3"));
    let Outcome::Refused(slow) = Message::by(Channel::Sms).sent_by(&*sender).await else {
        panic!("a refusal")
    };
    assert_eq!((slow.fault, slow.retry_after), (Fault::Throttled, Some(Duration::from_secs(3))));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let fake = FakeGateway::start().await;
    let elsewhere = Backend::ok().await;
    for status in [301, 302, 303, 307, 308] {
        fake.answers(Reply::new(status).header("location", &format!("http://{}/", elsewhere.addr())));
        let outcome = Message::by(Channel::Sms).sent_by(&*of(fake.spec())).await;
        assert_eq!(outcome, refused(Fault::Provider, &format!("http_{status}")));
    }
    assert_eq!(elsewhere.count(), 0);
    let mut spec = fake.spec();
    spec.success.statuses = vec![StatusCode::FOUND];
    (spec.success.members, spec.success.id) = (Vec::new(), None);
    fake.answers(Reply::new(302).header("location", &format!("http://{}/", elsewhere.addr())));
    assert_eq!(Message::by(Channel::Sms).sent_by(&*of(spec)).await, accepted(""));
    assert_eq!(elsewhere.count(), 0);
}

/// By Standard Webhooks' own example: its secret, id, time, body and signature.
fn example() -> (Receipt, &'static str) {
    let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let receipt = Receipt::post(URL, JSON, r#"{"test": 2432232314}"#)
        .header("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
        .header("webhook-timestamp", "1614265330");
    (Receipt { now_s: 1_614_265_330, ..receipt }, signature)
}

#[test]
fn signatures_are_those_of_standard_webhooks() {
    let (receipt, signature) = example();
    let mut spec = deaf();
    let rules = spec.receipt.as_mut().unwrap();
    (rules.id, rules.status) = ("/test".into(), "/test".into());
    let sender = of(spec);
    for list in [signature.to_owned(), format!("v1,AAAA v1a,xyz {signature}")] {
        let receipt = receipt.clone().header("webhook-signature", &list);
        assert_eq!(receipt.read_by(&*sender), Ok(Vec::new()), "{list}");
    }
    for altered in flipped(signature) {
        let receipt = receipt.clone().header("webhook-signature", &altered);
        assert_eq!(receipt.read_by(&*sender), Err(ReceiptFault::Forged), "{altered}");
    }
}

/// A receipt that says this, signed.
fn told(body: &str) -> Receipt {
    Receipt::post(URL, JSON, body)
        .header("webhook-id", "msg_1")
        .header("webhook-timestamp", &NOW_S.to_string())
        .header("webhook-signature", &signature("msg_1", &NOW_S.to_string(), body.as_bytes()))
}

#[test]
fn receipts_are_read_as_the_file_says() {
    let sender = of(deaf());
    let read = |status: &str| {
        told(&json!({ "data": { "id": 4711, "status": status } }).to_string()).read_by(&*sender)
    };
    let report = |state: DeliveryState, refused: Option<Refused>| {
        Ok(vec![Report { message_id: "4711".into(), state, refused, price: None }])
    };
    assert_eq!(read("sent"), report(DeliveryState::Sent, None));
    assert_eq!(read("ok"), report(DeliveryState::Delivered, None));
    assert_eq!(read("no"), report(DeliveryState::Failed, Some(Refused::new(Fault::Transient, "no"))));
    assert_eq!(read("new"), Ok(Vec::new()));
    for body in ["", "<html>", "{}", r#"{"data":{"id":"a b","status":"ok"}}"#, r#"{"data":{"id":"1"}}"#] {
        assert!(matches!(told(body).read_by(&*sender), Err(ReceiptFault::Malformed(_))), "{body}");
    }
    let silent = of(HttpSpec { receipt: None, ..deaf() });
    assert_eq!(told("{}").read_by(&*silent), Err(ReceiptFault::None));
}

#[test]
fn whatever_is_altered_is_not_believed() {
    let sender = of(deaf());
    let body = r#"{"data":{"id":"1","status":"ok"}}"#;
    let good = told(body);
    assert!(good.read_by(&*sender).is_ok());
    let forged = Err(ReceiptFault::Forged);
    let other_body = Receipt { body: body.replace("ok", "no").into(), ..good.clone() };
    assert_eq!(other_body.read_by(&*sender), forged);
    for (name, value) in [("webhook-id", "msg_2"), ("webhook-timestamp", "1767323046")] {
        assert_eq!(good.clone().without(name).header(name, value).read_by(&*sender), forged, "{name}");
    }
    let mut another = deaf();
    another.receipt.as_mut().unwrap().secret = SECRET.replace("MfK", "MfL").into();
    assert_eq!(good.read_by(&*of(another)), forged);
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        assert_eq!(good.clone().without(name).read_by(&*sender), Err(ReceiptFault::Unsigned), "{name}");
        let twice = good.clone().header(name, "x").read_by(&*sender);
        assert!(matches!(twice, Err(ReceiptFault::Malformed(_))), "{name}");
    }
    for far_s in [NOW_S - 301, NOW_S + 301] {
        assert_eq!(Receipt { now_s: far_s, ..good.clone() }.read_by(&*sender), Err(ReceiptFault::Stale));
    }
}

#[tokio::test]
async fn it_cannot_be_asked_and_has_the_channel_of_the_file() {
    let sender = of(HttpSpec { channel: Channel::Voice, ..deaf() });
    assert_eq!(sender.channels(), [Channel::Voice]);
    let asked = sender.look_up("1", PATIENCE, Timestamp::default()).await;
    assert_eq!(asked, Err(LookUpFault::None));
}
