//! A gateway such as people write themselves: a bearer token, JSON, and requests signed in the way of Standard Webhooks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderName, Method, StatusCode};
use ring::hmac;
use serde_json::{Value, json};
use tollgate::http_client::HttpUrl;
use tollgate::sms::spec::{HttpBody, HttpReceipt, HttpSpec, HttpSuccess};
use tollgate::sms::{Channel, DeliveryState, Fault};

use crate::harness::backend::{Backend, Received, Reply};

/// Standard Webhooks' own example.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const TOKEN: &str = "token-of-the-gateway";

pub(crate) struct FakeGateway {
    pub(crate) backend: Backend,
    told: Arc<Mutex<Option<Reply>>>,
}

impl FakeGateway {
    pub(crate) async fn start() -> FakeGateway {
        let told = Arc::new(Mutex::new(None));
        let read = Arc::clone(&told);
        let backend = Backend::start(move |received| answer(received, read.lock().unwrap().clone())).await;
        FakeGateway { backend, told }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.backend.addr()
    }

    /// What the file would say of it.
    pub(crate) fn spec(&self) -> HttpSpec {
        spec(HttpUrl::parse(&format!("http://{}/v1/send", self.addr())).unwrap())
    }

    /// Answers whatever is sound with this.
    pub(crate) fn answers(&self, reply: Reply) {
        *self.told.lock().unwrap() = Some(reply);
    }
}

pub(crate) fn spec(url: HttpUrl) -> HttpSpec {
    let states =
        [("sent", DeliveryState::Sent), ("ok", DeliveryState::Delivered), ("no", DeliveryState::Failed)];
    HttpSpec {
        channel: Channel::Sms,
        method: Method::POST,
        url,
        headers: vec![(HeaderName::from_static("authorization"), format!("Bearer {TOKEN}").into())],
        body: HttpBody::Json(json!({
            "to": "{{ to }}",
            "message": { "body": "{{ text }}", "parts_max": 1, "tags": ["otp", "{{ locale }}", null, true] },
            "ref": "{{ reference }}/{{ attempt }}",
            "ttl": "{{ expires_in }}",
            "callback": "{{ receipt_url }}",
        })),
        success: HttpSuccess {
            statuses: vec![StatusCode::OK, StatusCode::ACCEPTED],
            members: vec![("/result/queued".into(), "true".into())],
            id: Some("/result/id".into()),
            errors: [("bad_number", Fault::Recipient), ("7", Fault::OptedOut), ("402", Fault::Throttled)]
                .into_iter()
                .map(|(code, fault)| (code.into(), fault))
                .collect(),
            error: Some("/error".into()),
        },
        signing_secret: Some(SECRET.into()),
        receipt: Some(HttpReceipt {
            secret: SECRET.into(),
            id: "/data/id".into(),
            status: "/data/status".into(),
            states: states.into_iter().map(|(text, state)| (text.into(), state)).collect(),
        }),
    }
}

/// `v1,…` of Standard Webhooks.
pub(crate) fn signature(id: &str, timestamp: &str, body: &[u8]) -> String {
    let key = BASE64.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let signed = [format!("{id}.{timestamp}.").as_bytes(), body].concat();
    format!("v1,{}", BASE64.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &signed)))
}

fn answer(received: &Received, told: Option<Reply>) -> Reply {
    let error = |status: u16, code: &str| Reply::json(status, &json!({ "error": code }).to_string());
    if received.headers.get_all("authorization") != [format!("Bearer {TOKEN}")] {
        return error(401, "unauthorized");
    }
    let once = |name: &str| match received.headers.get_all(name)[..] {
        [value] => value.to_owned(),
        _ => String::new(),
    };
    let expected = signature(&once("webhook-id"), &once("webhook-timestamp"), &received.body);
    if once("webhook-signature") != expected {
        return error(401, "unsigned");
    }
    let body: Option<Value> = serde_json::from_slice(&received.body).ok();
    let to = body.as_ref().and_then(|body| body.get("to")?.as_str());
    if !to.is_some_and(|to| to.starts_with('+')) {
        return error(400, "bad_number");
    }
    told.unwrap_or_else(|| Reply::json(202, r#"{"result":{"queued":true,"id":4711}}"#))
}
