//! What an answer says of its attempt, where the status alone does not tell.

use bytes::BytesMut;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use serde_json::Value as Json;

use crate::decision::failure::{BodySays, FailureRule, Member, Scalar};
use crate::decision::tally::Outcome;

/// The largest answer that is looked at, bytes: backends say in a few words that a password is wrong.
const BODY_MAX: usize = 16 * 1024;

/// Watches the body of an answer pass by.
#[derive(Debug)]
pub struct AnswerWatch {
    otherwise: Outcome,
    body: BytesMut,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    Whole,
    Unreadable,
}

impl AnswerWatch {
    /// `otherwise` is the outcome if the body does not say that the attempt failed.
    pub fn new(headers: &HeaderMap, otherwise: Outcome) -> AnswerWatch {
        let encoded = headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity");
        let state = if encoded { State::Unreadable } else { State::Reading };
        AnswerWatch { otherwise, body: BytesMut::new(), state }
    }

    /// A part of the body, in order.
    pub fn pass(&mut self, part: &[u8]) {
        if self.state != State::Reading {
            return;
        }
        if self.body.len() + part.len() > BODY_MAX {
            self.state = State::Unreadable;
            self.body = BytesMut::new();
            return;
        }
        self.body.extend_from_slice(part);
    }

    /// The body is over.
    pub fn end(&mut self) {
        if self.state == State::Reading {
            self.state = State::Whole;
        }
    }

    /// The outcome; none while the body is not over.
    pub fn outcome(&self, rule: &FailureRule) -> Option<Outcome> {
        let says = match self.state {
            State::Reading => return None,
            State::Unreadable => BodySays::Unreadable,
            State::Whole => says(&self.body, &rule.members),
        };
        Some(FailureRule::by_body(says, self.otherwise))
    }
}

fn says(body: &[u8], members: &[Member]) -> BodySays {
    // What is no JSON holds no member of it: an answer in HTML is the backend's other way to answer.
    let Ok(document) = serde_json::from_slice::<Json>(body) else { return BodySays::HoldsNot };
    let all = members
        .iter()
        .all(|member| document.pointer(&member.pointer).is_some_and(|found| is(&member.value, found)));
    if all { BodySays::Holds } else { BodySays::HoldsNot }
}

fn is(wanted: &Scalar, found: &Json) -> bool {
    match (wanted, found) {
        (Scalar::Null, Json::Null) => true,
        (Scalar::Bool(wanted), Json::Bool(found)) => wanted == found,
        (Scalar::Number(wanted), Json::Number(found)) => {
            **wanted == found.to_string() || wanted.parse().ok() == found.as_f64()
        }
        (Scalar::Text(wanted), Json::String(found)) => **wanted == **found,
        (Scalar::Null | Scalar::Bool(_) | Scalar::Number(_) | Scalar::Text(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::decision::failure::Statuses;

    fn rule(pointer: &str, value: Scalar) -> FailureRule {
        let members = Box::new([Member { pointer: pointer.into(), value }]);
        FailureRule { statuses: Statuses::Any, members }
    }

    fn outcome(rule: &FailureRule, parts: &[&str]) -> Option<Outcome> {
        let mut watch = AnswerWatch::new(&HeaderMap::new(), Outcome::Success);
        parts.iter().for_each(|part| watch.pass(part.as_bytes()));
        watch.end();
        watch.outcome(rule)
    }

    #[test]
    fn a_member_is_found_however_the_body_is_cut() {
        let grant = rule("/error", Scalar::Text("invalid_grant".into()));
        assert_eq!(outcome(&grant, &[r#"{"err"#, r#"or":"invalid_grant"}"#]), Some(Outcome::Failure));
        assert_eq!(outcome(&grant, &[r#"{"error":"invalid_client"}"#]), Some(Outcome::Success));
        assert_eq!(outcome(&grant, &["<html>"]), Some(Outcome::Success));
        let flag = rule("/data/ok", Scalar::Bool(false));
        assert_eq!(outcome(&flag, &[r#"{"data":{"ok":false}}"#]), Some(Outcome::Failure));
        assert_eq!(outcome(&flag, &[r#"{"data":{"ok":"false"}}"#]), Some(Outcome::Success));
        let code = rule("/code", Scalar::Number("7".into()));
        assert_eq!(outcome(&code, &[r#"{"code":7}"#]), Some(Outcome::Failure));
        assert_eq!(outcome(&code, &[r#"{"code":7.0}"#]), Some(Outcome::Failure));
        let null = rule("/session", Scalar::Null);
        assert_eq!(outcome(&null, &[r#"{"session":null}"#]), Some(Outcome::Failure));
        assert_eq!(outcome(&null, &["{}"]), Some(Outcome::Success));
    }

    #[test]
    fn what_cannot_be_read_is_a_failure() {
        let rule = rule("/error", Scalar::Text("x".into()));
        let long = format!("{{\"pad\":\"{}\"}}", "x".repeat(BODY_MAX));
        assert_eq!(outcome(&rule, &[&long]), Some(Outcome::Failure));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let watch = AnswerWatch::new(&headers, Outcome::Success);
        assert_eq!(watch.outcome(&rule), Some(Outcome::Failure));
    }

    #[test]
    fn nothing_is_told_before_the_end() {
        let rule = rule("/error", Scalar::Text("x".into()));
        let mut watch = AnswerWatch::new(&HeaderMap::new(), Outcome::Success);
        watch.pass(b"{}");
        assert_eq!(watch.outcome(&rule), None);
    }
}
