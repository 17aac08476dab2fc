//! What is learnt from the backend's answers, and what adds up against a client, as it is written.

use http::StatusCode;
use serde_json::{Value as Json, json};

use super::limit::BlockForm;
use crate::config::place::{Located, shortened};
use crate::config::problem::Wrong;
use crate::config::reader::{Definitions, Named, Notation, OneOrMany, Reader, Scalar, Value};
use crate::config::section::{section, words};
use crate::config::tree::{Node, NodeKind, Style};
use crate::config::value::text::{Text, Whole};
use crate::config::value::time::Rate;
use crate::decision::failure;
use crate::decision::ipset::IpSet;
use crate::decision::key::{Form, KeyPart};
use crate::decision::limit::Mode;

section! {
    /// Which answers of the backend are a failed attempt.
    Failure "failure" {
        /// Their status, or a list. Unset: 401 and 403, or every status where `json` is there.
        optional "status" status: OneOrMany<Located<AnswerStatus>>;
        /// Values in the JSON of the answer that must all be there: { /error: invalid_grant }.
        optional "json" json: Located<Named<Pointer, JsonValue>>;
    }
}

section! {
    /// Events that add up against a key over all routes; past the threshold the key is blocked.
    Suspicion "a rule of suspicion" {
        /// What is suspected: ip, network, user, header.NAME, cookie.NAME, body.FIELD, or a list.
        required "key" key: Located<OneOrMany<Located<KeyPart>>>;
        /// How the value is brought to one spelling: text, exact, email or phone.
        default("text") "as" form: Located<Form>;
        /// How much each event weighs.
        default("{}") "weights" weights: Weights;
        /// How much is let pass in any rolling window.
        default("20/hour") "threshold" threshold: Located<Rate>;
        /// For how long the key is blocked on every route.
        default("24h") "block" block: Located<BlockForm>;
        /// shadow: found, counted and logged, never blocked.
        default("enforce") "mode" mode: Mode;
        /// Addresses that are never suspected.
        default("[]") "exempt" exempt: IpSet;
    }
}

section! {
    /// How much each event weighs; 0 leaves it out.
    Weights "weights" {
        /// A request of a route with `suspect: otp_request`.
        default("1") "otp_request" otp_request: Located<Weight>;
        /// A failed attempt on a route that counts failures.
        default("1") "failure" failure: Located<Weight>;
        /// A refusal by a limit.
        default("1") "limited" limited: Located<Weight>;
    }
}

pub(crate) type Weight = Whole<0, 1000>;

/// What each request of a route counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteSuspect {
    OtpRequest,
    Nothing,
}

words! { RouteSuspect, "what a request can count as", {
    RouteSuspect::OtpRequest => "otp_request",
    RouteSuspect::Nothing => "none",
} }

/// A status that a backend answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AnswerStatus(pub(crate) StatusCode);

impl std::fmt::Display for AnswerStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_u16().fmt(f)
    }
}

impl Scalar for AnswerStatus {
    const EXPECTED: &'static str = "a status of an answer, from 200 to 499";
    const NOTATION: Notation = Notation::Bare;

    fn parse(text: &str) -> Result<AnswerStatus, Wrong> {
        let code = text.parse::<u16>().ok().filter(|code| (200..600).contains(code));
        let wrong = || Wrong::new(format!("`{}` is not {}", shortened(text), AnswerStatus::EXPECTED));
        match code.and_then(|code| StatusCode::from_u16(code).ok()) {
            Some(status) if status.is_server_error() => {
                Err(wrong().write("an error of the backend is nobody's failed attempt"))
            }
            Some(status) => Ok(AnswerStatus(status)),
            None => Err(wrong().write("write 401, or [401, 403]")),
        }
    }

    fn own_schema() -> Json {
        json!({ "type": "integer", "minimum": 200, "maximum": 499 })
    }
}

/// A place in a JSON document (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer(pub(crate) Box<str>);

impl Scalar for Pointer {
    const EXPECTED: &'static str = "a JSON Pointer such as /error or /data/status";

    fn parse(text: &str) -> Result<Pointer, Wrong> {
        const BYTES_MAX: usize = 256;
        let escapes_end = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if text.starts_with('/') && text.len() <= BYTES_MAX && escapes_end {
            return Ok(Pointer(text.into()));
        }
        let wrong = Wrong::new(format!("`{}` is not {}", shortened(text), Pointer::EXPECTED));
        Err(if text.starts_with('/') {
            wrong
        } else {
            wrong.write(format!("write /{}", shortened(&text.replace('.', "/"))))
        })
    }

    fn own_schema() -> Json {
        json!({ "type": "string", "pattern": "^/([^~]|~[01])*$" })
    }
}

/// A value that an answer may hold: `invalid_grant`, `false`, `42`, `null`. Quotes make it a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonValue(pub(crate) failure::Scalar);

impl Value for JsonValue {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<JsonValue> {
        if let NodeKind::Scalar { text, style: Style::Plain } = &node.kind {
            let bare = match serde_json::from_str::<Json>(text) {
                Ok(Json::Null) => Some(failure::Scalar::Null),
                Ok(Json::Bool(value)) => Some(failure::Scalar::Bool(value)),
                Ok(Json::Number(number)) => Some(failure::Scalar::Number(number.to_string().into())),
                Ok(Json::String(_) | Json::Array(_) | Json::Object(_)) | Err(_) => None,
            };
            if let Some(bare) = bare {
                return Some(JsonValue(bare));
            }
        }
        Text::read(node, reader).map(|text| JsonValue(failure::Scalar::Text(text.0)))
    }

    fn schema(_: &mut Definitions) -> Json {
        json!({ "type": ["string", "number", "boolean", "null"] })
    }
}
