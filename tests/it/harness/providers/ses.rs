//! Amazon SES as its documents have it: checks signature and letter, and answers like it.

use serde_json::{Value, json};

use super::aws_sns::{KEY_ID, REGION, SECRET, signature_fault};
use crate::harness::backend::{Backend, Received, Reply};

pub(crate) const MESSAGE_ID: &str = "0100019bb0a1b2c3-d4e5f6a7-0000-4000-8000-000000000000-000000";

/// An account with one verified identity.
pub(crate) async fn start() -> Backend {
    Backend::start(answer).await
}

/// The credentials of the account, and where it is.
pub(crate) fn account() -> (tollgate::sms::spec::AwsCredentials, &'static str) {
    let credentials = tollgate::sms::spec::AwsCredentials {
        access_key_id: KEY_ID.into(),
        secret_access_key: SECRET.into(),
        session_token: None,
    };
    (credentials, REGION)
}

/// An error as SES words it.
pub(crate) fn error(status: u16, kind: &str, message: &str) -> Reply {
    Reply::json(status, &json!({ "message": message }).to_string()).header("x-amzn-errortype", kind)
}

fn answer(received: &Received) -> Reply {
    if let Some(fault) = signature_fault(received, REGION, "ses", SECRET) {
        return error(403, "InvalidSignatureException", fault);
    }
    match (received.method.as_str(), received.target.as_str()) {
        ("POST", "/v2/email/outbound-emails") => sent(received),
        ("GET", target) if target == format!("/v2/email/insights/{MESSAGE_ID}/") => {
            let events = json!([{ "Type": "SEND" }, { "Type": "DELIVERY" }]);
            let insights = json!([{ "Destination": "ann@example.com", "Events": events }]);
            Reply::json(200, &json!({ "MessageId": MESSAGE_ID, "Insights": insights }).to_string())
        }
        ("GET", _) => error(404, "NotFoundException", "no such message"),
        (_, _) => error(404, "UnknownOperationException", "no such operation"),
    }
}

fn sent(received: &Received) -> Reply {
    const KNOWN: [&str; 4] = ["FromEmailAddress", "Destination", "Content", "EmailTags"];
    let Ok(mail) = serde_json::from_slice::<Value>(&received.body) else {
        return error(400, "SerializationException", "no JSON");
    };
    let text = |pointer: &str| mail.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if mail.as_object().unwrap().keys().any(|name| !KNOWN.contains(&name.as_str())) {
        return error(400, "BadRequestException", "unknown member");
    }
    if !text("/FromEmailAddress").is_ascii() || !text("/FromEmailAddress").contains("no-reply@example.com") {
        return error(400, "MessageRejected", "Email address is not verified.");
    }
    if !text("/Destination/ToAddresses/0").contains('@') {
        return error(400, "BadRequestException", "Missing final '@domain'");
    }
    let simple = "/Content/Simple";
    for needed in ["Subject/Data", "Body/Text/Data", "Headers/0/Name", "Headers/0/Value"] {
        if text(&format!("{simple}/{needed}")).is_empty() {
            return error(400, "BadRequestException", needed);
        }
    }
    Reply::json(200, &json!({ "MessageId": MESSAGE_ID }).to_string())
}
