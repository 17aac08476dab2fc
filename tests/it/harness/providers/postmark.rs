//! Postmark as its documents have it: checks what it is sent, and answers like it.

use serde_json::{Value, json};

use crate::harness::backend::{Backend, Received, Reply};

pub(crate) const TOKEN: &str = "11111111-2222-3333-4444-555555555555";
pub(crate) const MESSAGE_ID: &str = "0a129aee-e1cd-480d-b08d-4f48548ff48d";

/// A server of one account.
pub(crate) async fn start() -> Backend {
    Backend::start(answer).await
}

/// An error as Postmark words it.
pub(crate) fn error(status: u16, code: u32, message: &str) -> Reply {
    Reply::json(status, &json!({ "ErrorCode": code, "Message": message }).to_string())
}

fn answer(received: &Received) -> Reply {
    if received.headers.get_all("x-postmark-server-token") != [TOKEN] {
        return error(401, 10, "No Account or Server API tokens were supplied in the HTTP headers.");
    }
    let details = format!("/messages/outbound/{MESSAGE_ID}/details");
    match (received.method.as_str(), received.target.as_str()) {
        ("POST", "/email") => sent(received),
        ("GET", target) if target == details => Reply::json(
            200,
            r#"{"Status":"Sent","MessageEvents":[{"Type":"Delivered"},{"Type":"Transient"}]}"#,
        ),
        ("GET", _) => error(422, 701, "This message was not found."),
        (_, _) => error(404, 404, "not found"),
    }
}

fn sent(received: &Received) -> Reply {
    const KNOWN: [&str; 9] = [
        "From",
        "To",
        "Subject",
        "TextBody",
        "Headers",
        "Metadata",
        "MessageStream",
        "TrackOpens",
        "TrackLinks",
    ];
    let is_json = |name: &str| received.headers.get_all(name) == ["application/json"];
    let Ok(mail) = serde_json::from_slice::<Value>(&received.body) else {
        return error(422, 402, "Received invalid JSON input.");
    };
    let text = |name: &str| mail[name].as_str().unwrap_or_default();
    if !is_json("content-type") || !is_json("accept") {
        return error(422, 409, "The HTTP request does not have the Accept or Content-Type headers");
    }
    if mail.as_object().unwrap().keys().any(|name| !KNOWN.contains(&name.as_str())) {
        return error(422, 403, "The JSON input is incompatible");
    }
    if !text("To").contains('@') {
        return error(422, 300, "Error parsing 'To': Illegal email domain");
    }
    if !text("From").ends_with("<no-reply@example.com>") && text("From") != "no-reply@example.com" {
        return error(422, 400, "The 'From' address you supplied is not a Sender Signature on your account.");
    }
    if text("Subject").is_empty() || text("TextBody").is_empty() {
        return error(422, 300, "Provide either email TextBody or HtmlBody or both.");
    }
    if text("MessageStream") != "outbound" {
        return error(422, 1235, "The stream does not exist on this server.");
    }
    if mail["TrackOpens"] != json!(false) || text("TrackLinks") != "None" {
        return error(422, 403, "tracking");
    }
    Reply::json(
        200,
        &json!({
            "To": text("To"),
            "SubmittedAt": "2026-01-02T03:04:05.0000000+00:00",
            "MessageID": MESSAGE_ID,
            "ErrorCode": 0,
            "Message": "OK",
        })
        .to_string(),
    )
}
