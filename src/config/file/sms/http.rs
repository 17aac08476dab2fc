//! Any gateway with an HTTP API, as it is written.

use ::http::{HeaderName, Method, StatusCode};
use serde_json::{Value as Json, json};

use super::{Common, Cost, provider};
use crate::config::file::guard::Pointer;
use crate::config::file::limit::Label;
use crate::config::place::{Located, shortened};
use crate::config::problem::Wrong;
use crate::config::reader::{Definitions, Named, NonEmpty, Notation, Reader, Scalar, Value};
use crate::config::section::{section, words};
use crate::config::tree::{Node, NodeKind, Style};
use crate::config::value::otp::{CallUrl, Setting};
use crate::config::value::text::{Name, Secret, Text, Whole};
use crate::config::value::time::Rate;
use crate::decision::time::Span;
use crate::sms::{Channel, DeliveryState, Fault};

provider! {
    /// Any gateway with an HTTP API. Texts are templates over to, to_digits, text, code, from, locale, reference, receipt_url and expires_in (seconds).
    Http "a provider of kind http", HttpKind "http" {
        /// What it sends: sms, voice or whatsapp. In `email`, always email.
        optional "channel" channel: Located<Channel>;
        /// The request that sends one message.
        required "request" request: Located<Request>;
        /// Which answers say that the message was taken.
        default("{}") "success" success: Success;
        /// What errors mean, by status or by the code that `success.error` finds: { "402": provider }.
        default("{}") "errors" errors: Named<Text, Fault>;
        /// Signs each request in the way of Standard Webhooks: whsec_….
        optional "signing_secret" signing_secret: Located<Secret>;
        /// How its receipts look. Unset: it sends none.
        optional "receipt" receipt: Located<Receipt>;
    }
}

section! {
    /// The request that sends one message. One of json and form, or none.
    Request "request" {
        /// The method.
        default("POST") "method" method: Located<Method>;
        /// https://host/path, or http:// on this machine.
        required "url" url: Located<CallUrl>;
        /// Values are templates.
        default("{}") "headers" headers: Located<Named<HeaderName, Located<Secret>>>;
        /// The body as JSON: each string in it is a template.
        optional "json" json: Located<JsonTemplate>;
        /// The body as a form, or with GET the query: values are templates.
        optional "form" form: Located<Named<Text, Setting>>;
    }
}

section! {
    /// Which answers say that the message was taken.
    Success "success" {
        /// Their status.
        default("[200, 201, 202]") "status" status: NonEmpty<SuccessStatus>;
        /// What their JSON must hold as well: { /status: queued }.
        default("{}") "json" json: Named<Pointer, Text>;
        /// Where their JSON has the id of the message.
        optional "id" id: Pointer;
        /// Where the JSON of other answers has the code of an error.
        optional "error" error: Pointer;
    }
}

section! {
    /// How receipts look: signed in the way of Standard Webhooks, with JSON in them.
    Receipt "receipt" {
        /// whsec_…: what they are signed with.
        required "secret" secret: Located<Secret>;
        /// Where they have the id of the message.
        required "id" id: Pointer;
        /// Where they say what became of it.
        required "status" status: Pointer;
        /// What their words mean: { DELIVRD: delivered }.
        required "states" states: Named<Text, DeliveryState>;
    }
}

words! { Channel, "a way to send a code", {
    Channel::Sms => "sms",
    Channel::Voice => "voice",
    Channel::Whatsapp => "whatsapp",
    Channel::Email => "email",
} }

words! { Fault, "whose fault an error can be", {
    Fault::Recipient => "recipient",
    Fault::OptedOut => "opted_out",
    Fault::Route => "route",
    Fault::Provider => "provider",
    Fault::Throttled => "throttled",
    Fault::Transient => "transient",
    Fault::Ambiguous => "ambiguous",
    Fault::Request => "request",
    Fault::Fraud => "fraud",
} }

words! { DeliveryState, "what can become of a message", {
    DeliveryState::Accepted => "accepted",
    DeliveryState::Queued => "queued",
    DeliveryState::Sent => "sent",
    DeliveryState::Undelivered => "undelivered",
    DeliveryState::Failed => "failed",
    DeliveryState::Expired => "expired",
    DeliveryState::Rejected => "rejected",
    DeliveryState::Delivered => "delivered",
    DeliveryState::Read => "read",
} }

/// The status of an answer that is no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SuccessStatus(pub(crate) StatusCode);

impl Scalar for SuccessStatus {
    const EXPECTED: &'static str = "a status of success, from 200 to 299";
    const NOTATION: Notation = Notation::Bare;

    fn parse(text: &str) -> Result<SuccessStatus, Wrong> {
        let code = text.parse::<u16>().ok().filter(|code| (200..300).contains(code));
        code.and_then(|code| StatusCode::from_u16(code).ok()).map(SuccessStatus).ok_or_else(|| {
            Wrong::new(format!("`{}` is not {}", shortened(text), SuccessStatus::EXPECTED))
                .write("write 200, or 201 or 202")
        })
    }

    fn own_schema() -> Json {
        json!({ "type": "integer", "minimum": 200, "maximum": 299 })
    }
}

/// A JSON document of some depth whose strings are templates.
#[derive(Clone, Debug)]
pub(crate) struct JsonTemplate(pub(crate) Json);

impl Value for JsonTemplate {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<JsonTemplate> {
        const DEPTH_MAX: usize = 8;
        document(node, DEPTH_MAX, reader).map(JsonTemplate)
    }

    fn schema(_: &mut Definitions) -> Json {
        json!({ "type": ["object", "array"] })
    }
}

fn document(node: &Node, depth: usize, reader: &mut Reader<'_>) -> Option<Json> {
    let Some(depth) = depth.checked_sub(1) else {
        reader.problem(node, Wrong::new("the document is nested too deep").write("eight levels are enough"));
        return None;
    };
    match &node.kind {
        NodeKind::Scalar { text, style: Style::Plain } if is_bare(text) => serde_json::from_str(text).ok(),
        NodeKind::Scalar { .. } => Setting::read(node, reader).map(|text| Json::from(&*text.0)),
        NodeKind::Seq(items) => {
            let items: Vec<Option<Json>> = items.iter().map(|item| document(item, depth, reader)).collect();
            items.into_iter().collect::<Option<Vec<Json>>>().map(Json::Array)
        }
        NodeKind::Map(entries) => {
            let members: Vec<Option<(String, Json)>> = entries
                .iter()
                .map(|entry| {
                    let value = reader.entry(&entry.key, |reader| document(&entry.value, depth, reader))?;
                    Some((entry.key.to_string(), value))
                })
                .collect();
            members.into_iter().collect::<Option<serde_json::Map<String, Json>>>().map(Json::Object)
        }
    }
}

/// Whether YAML and JSON alike take it for a number, a truth value or null.
fn is_bare(text: &str) -> bool {
    matches!(serde_json::from_str::<Json>(text), Ok(Json::Null | Json::Bool(_) | Json::Number(_)))
}
